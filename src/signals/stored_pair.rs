//! Two fingerprints of the database, cell by cell: what the tests of a scan measure.
//!
//! The common test. `n` cells are matched by role, layer and position; each gives a cosine that estimates
//! the mean correlation of its matched rows. The effect is their mean. Under the null hypothesis (the
//! hidden dimensions of one model are exchangeable) its expectation is 0 and its variance
//!
//! ```text
//! Var = 1/(n D)                                     error of the sketches of D buckets
//!     + ( 1/(sum of rows) + sqrt(r_a r_b) ) / df     permutation variance, bounded by Cauchy-Schwarz
//! ```
//!
//! with `r` the mean squared correlation of a model's columns ([`super::columns::Columns::mean_squared_correlation`])
//! and df the degrees of freedom of the hidden size. Rows over inner dimensions (down and output projections of linear
//! layers) have a permutation of their own in every cell, so their second term is averaged over cells.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::columns::degrees_of_freedom;
use super::fingerprint::{CELL_DIMENSIONS, Cell, Fingerprint};
use super::layer_map::{self, LayerMap};
use super::roles::{Role, Stack};
use super::signal::{Effect, Signal};
use super::sketch::{cosine, dot, norm};

/// Two fingerprints with the cells that both have.
pub(super) struct StoredPair<'a> {
    pub(super) a: &'a Fingerprint,
    pub(super) b: &'a Fingerprint,
    /// Cells at the same place.
    pub(super) cells: Vec<CellPair>,
    layer_map: OnceCell<Option<LayerMap>>,
}

/// Two cells: their cosine and what its null variance needs.
pub(super) struct CellPair {
    pub(super) cosine: f64,
    /// Whether the values behind them are equal.
    pub(super) equal: bool,
    pub(super) role: Role,
    rows: f64,
    dimension: f64,
    residual: bool,
}

impl CellPair {
    fn new(cell: &Cell, other: &Cell, cosine: f64) -> Self {
        Self {
            cosine,
            equal: cell.hash == other.hash,
            role: cell.role,
            rows: f64::from(cell.rows),
            dimension: f64::from(cell.dimension),
            residual: cell.residual && other.residual,
        }
    }
}

impl<'a> StoredPair<'a> {
    pub(super) fn new(a: &'a Fingerprint, b: &'a Fingerprint) -> Self {
        Self { a, b, cells: at_same_place(a, b), layer_map: OnceCell::new() }
    }

    fn has_one_width(&self) -> bool {
        self.a.hidden_size == self.b.hidden_size
    }

    fn has_one_depth(&self) -> bool {
        self.a.layers == self.b.layers
    }

    /// The test of cells in the same layer.
    pub(super) fn in_same_layer(&self, wanted: fn(Role) -> bool) -> Signal {
        if self.has_one_width() && !self.has_one_depth() {
            let (a, b) = (self.a.layers, self.b.layers);
            return Signal::absent(format!("layer counts differ: {a} and {b}; see layer_map"));
        }
        self.at_same_place(wanted)
    }

    /// The test of cells at the same place, which those outside the layers have whatever the depth.
    pub(super) fn at_same_place(&self, wanted: fn(Role) -> bool) -> Signal {
        if !self.has_one_width() {
            return self.widths_differ();
        }
        // Chosen once: the effect goes through them several times.
        let chosen: Vec<&CellPair> = self.cells.iter().filter(|m| wanted(m.role)).collect();
        Signal::or_absent(
            self.effect(&chosen.iter().copied()),
            "no block was sampled at the same place in both models",
        )
    }

    fn widths_differ(&self) -> Signal {
        Signal::absent(format!("hidden sizes differ: {} and {}", self.a.hidden_size, self.b.hidden_size))
    }

    /// The test of layers along the best layer map. Where depths are equal it would say what cells in the same layer
    /// say, and would be most of the cost of a comparison.
    pub(super) fn mapped_layers(&self) -> Signal {
        if !self.has_one_width() {
            return self.widths_differ();
        }
        if self.has_one_depth() {
            return Signal::absent("layer counts are equal; layers are compared in place");
        }
        let nothing = "no matrix block can be held against another layer";
        Signal::or_absent(self.layer_map().map(|map| map.effect), nothing)
    }

    /// The layer map, where it is made.
    pub(super) fn layer_map(&self) -> Option<&LayerMap> {
        let is_made = self.has_one_width() && !self.has_one_depth();
        self.layer_map.get_or_init(|| is_made.then(|| self.map_layers()).flatten()).as_ref()
    }

    /// Mean correlation of each matrix role in the same layer.
    pub(super) fn roles(&self) -> BTreeMap<Role, f64> {
        if !self.has_one_width() || !self.has_one_depth() {
            return BTreeMap::new();
        }
        let mut sums: BTreeMap<Role, (f64, f64)> = BTreeMap::new();
        for m in self.cells.iter().filter(|m| m.role.is_matrix_or_head()) {
            let entry = sums.entry(m.role).or_default();
            *entry = (entry.0 + m.cosine, entry.1 + 1.0);
        }
        sums.into_iter().map(|(role, (sum, n))| (role, sum / n)).collect()
    }

    /// Mean cosine and its null variance; see the module's head.
    fn effect<'m>(&self, matched: &(impl Iterator<Item = &'m CellPair> + Clone)) -> Option<Effect> {
        let cells = matched.clone().count();
        if cells == 0 {
            return None;
        }
        let n = cells as f64;
        let value = matched.clone().map(|m| m.cosine).sum::<f64>() / n;
        let sketch_error = 1.0 / (n * CELL_DIMENSIONS as f64);
        let degrees = |dimension: f64| degrees_of_freedom(dimension as usize);
        let (of_a, of_b) = (self.a.column_correlation, self.b.column_correlation);
        let between = |a: f32, b: f32| (f64::from(a) * f64::from(b)).max(0.0).sqrt();
        let of_inner = between(of_a.inner, of_b.inner);
        let inner = matched
            .clone()
            .filter(|m| !m.residual)
            .map(|m| (1.0 / m.rows + of_inner) / degrees(m.dimension))
            .sum::<f64>()
            / (n * n);
        let residual = || matched.clone().filter(|m| m.residual);
        let shared = residual().next().map_or(0.0, |first| {
            let r = match first.role {
                role if role.is_norm() => between(of_a.gains, of_b.gains),
                Role::Embedding => between(of_a.embedding, of_b.embedding),
                _ => between(of_a.residual, of_b.residual),
            };
            let (own, k) = residual().fold((0.0, 0.0), |(own, k), m| (own + 1.0 / m.rows, k + 1.0));
            (own + k * k * r) / (n * n) / degrees(first.dimension)
        });
        Some(Effect::correlation(value, (sketch_error + inner + shared).sqrt(), cells))
    }

    fn map_layers(&self) -> Option<LayerMap> {
        let in_stack = |cell: &Cell| cell.stack == Stack::Main && cell.role.is_matrix();
        // Cells by layer, each layer in the order of the others.
        let layers = |f: &'_ Fingerprint| {
            let mut found: BTreeMap<u16, Vec<(Cell, f64)>> = BTreeMap::new();
            for cell in f.cells.iter().filter(|c| in_stack(c)) {
                found.entry(cell.layer).or_default().push((*cell, norm(&cell.sketch)));
            }
            found
        };
        let (of_a, of_b) = (layers(self.a), layers(self.b));
        let (in_a, in_b): (Vec<u16>, Vec<u16>) =
            (of_a.keys().copied().collect(), of_b.keys().copied().collect());
        let mut matched = Vec::new();
        let z: Vec<Vec<f64>> = of_a
            .values()
            .map(|x| {
                of_b.values()
                    .map(|y| {
                        merge(x, y, &mut matched);
                        self.effect(&matched.iter()).map_or(0.0, |e| e.z())
                    })
                    .collect()
            })
            .collect();
        let path = layer_map::align(&z);
        let of_path: Vec<CellPair> = path
            .iter()
            .flat_map(|m| {
                merge(&of_a[&in_a[m.a]], &of_b[&in_b[m.b]], &mut matched);
                std::mem::take(&mut matched)
            })
            .collect();
        let mut effect = self.effect(&of_path.iter())?;
        effect.ln_choices = layer_map::ln_matchings(in_a.len(), in_b.len(), path.len());
        let layers = layer_map::with_repeats(&z, &path, (self.a.layers, self.b.layers));
        Some(LayerMap { effect, layers: layers.iter().map(|m| (in_a[m.a], in_b[m.b], m.z)).collect() })
    }
}

/// Cells of `a` with the cell of `b` in the same role, layer and rows. Both are in one order, so one pass finds them.
fn at_same_place(a: &Fingerprint, b: &Fingerprint) -> Vec<CellPair> {
    let mut rest = b.cells.iter().peekable();
    let mut found = Vec::with_capacity(a.cells.len());
    for cell in &a.cells {
        while rest.next_if(|other| other.key() < cell.key()).is_some() {}
        if let Some(other) = rest.peek()
            && other.key() == cell.key()
            && (other.dimension, other.rows) == (cell.dimension, cell.rows)
        {
            found.push(CellPair::new(cell, other, cosine(&cell.sketch, &other.sketch)));
        }
    }
    found
}

/// Cells of one layer with those of another that have the same role and rows, with the lengths of their sketches.
/// Both are ordered by them.
fn merge(a: &[(Cell, f64)], b: &[(Cell, f64)], found: &mut Vec<CellPair>) {
    let key = |cell: &Cell| (cell.role, cell.expert, cell.start);
    found.clear();
    let mut rest = b.iter().peekable();
    for (cell, length) in a {
        while rest.next_if(|(other, _)| key(other) < key(cell)).is_some() {}
        if let Some((other, of_other)) = rest.peek()
            && key(other) == key(cell)
            && (other.dimension, other.rows) == (cell.dimension, cell.rows)
        {
            let lengths = (length * of_other).max(f64::MIN_POSITIVE);
            let cosine = f64::from(dot(&cell.sketch, &other.sketch)) / lengths;
            found.push(CellPair::new(cell, other, cosine));
        }
    }
}
