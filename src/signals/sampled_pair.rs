//! Two models' samples in corresponding bases: what the exact tests measure.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use super::columns::degrees_of_freedom;
use super::dot::dot;
use super::layer_map::{self, LayerMap};
use super::matched::{Matched, RowPairs};
use super::roles::{Position, Role};
use super::samples::Samples;
use super::signal::Signal;
use super::units::{UnitBlock, Units};

/// Rows of a block that enter its cell: more would cost without telling more.
const ROWS_IN_CELL: usize = 16;

/// Two models, their hidden dimensions as they are stored or brought into correspondence.
pub(super) struct SampledPair<'a> {
    pub(super) a: &'a Samples,
    pub(super) b: &'a Samples,
    pub(super) units_a: &'a Units,
    pub(super) units_b: &'a Units,
    /// Whether hidden dimensions are as they are stored.
    pub(super) in_place: bool,
    /// Rows of the same tokens.
    tokens: &'a [(u64, u64)],
    layer_map: OnceCell<Option<LayerMap>>,
    roles: OnceCell<BTreeMap<Role, f64>>,
}

impl<'a> SampledPair<'a> {
    /// Dimensions as they are stored; `tokens` are (row of a, row of b) of the same token.
    pub(super) fn in_place(a: &'a Samples, b: &'a Samples, tokens: &'a [(u64, u64)]) -> Self {
        Self { in_place: true, tokens, ..Self::realigned(a, b, a.units(), b.units()) }
    }

    /// Dimensions brought into correspondence by these units.
    pub(super) fn realigned(a: &'a Samples, b: &'a Samples, units_a: &'a Units, units_b: &'a Units) -> Self {
        Self {
            a,
            b,
            units_a,
            units_b,
            in_place: false,
            tokens: &[],
            layer_map: OnceCell::new(),
            roles: OnceCell::new(),
        }
    }

    /// Whether a dimension of one is a dimension of the other.
    pub(super) fn has_one_width(&self) -> bool {
        !self.in_place || self.a.hidden_size == self.b.hidden_size
    }

    fn has_one_depth(&self) -> bool {
        self.a.layers == self.b.layers
    }

    /// The test of blocks in the same layer.
    pub(super) fn in_same_layer(&self, wanted: fn(Role) -> bool) -> Signal {
        if !self.has_one_depth() {
            return Signal::absent("layer counts differ; see layer_map");
        }
        let nothing = "no block was sampled at the same place in both models";
        Signal::or_absent(self.matched(wanted).effect(), nothing)
    }

    /// The test of embedding rows of the same tokens.
    pub(super) fn embedding(&self) -> Signal {
        let mut matched = Matched::default();
        for (of_a, of_b) in self.tokens {
            if let (Some(x), Some(y)) = (self.units_a.embedding.get(of_a), self.units_b.embedding.get(of_b)) {
                let freedom = degrees_of_freedom(x.len());
                matched.add(RowPairs { pairs: vec![(&x[..], &y[..])], freedom, residual: true });
            }
        }
        Signal::or_absent(matched.effect(), "no token's row was read in both models")
    }

    /// The test of layers along the best layer map.
    pub(super) fn mapped_layers(&self) -> Signal {
        Signal::or_absent(self.layer_map().map(|map| map.effect), "no layer can be held against another")
    }

    /// The layer map.
    pub(super) fn layer_map(&self) -> Option<&LayerMap> {
        self.layer_map.get_or_init(|| self.has_one_width().then(|| self.map_layers()).flatten()).as_ref()
    }

    /// Mean correlation of each matrix role in the same layer.
    pub(super) fn roles(&self) -> &BTreeMap<Role, f64> {
        self.roles.get_or_init(|| {
            if !self.has_one_width() || !self.has_one_depth() {
                return BTreeMap::new();
            }
            let all = self.units_a.blocks.keys().map(|p| p.role);
            let roles: BTreeSet<Role> = all.filter(|role| role.is_matrix_or_head()).collect();
            roles
                .into_iter()
                .filter_map(|role| Some((role, self.matched(|r| r == role).effect()?.value)))
                .collect()
        })
    }

    /// For a place in a, the place in b that stands against it: in the same layer, or along the layer map.
    pub(super) fn counterpart(&self) -> impl Fn(Position) -> Option<Position> {
        let mut map: BTreeMap<u16, u16> = BTreeMap::new();
        for (of_a, of_b, _) in self.layer_map().map_or(&[][..], |map| &map.layers) {
            map.entry(*of_a).or_insert(*of_b);
        }
        let same_depth = self.has_one_depth();
        move |place| {
            let layer = if same_depth { place.layer } else { *map.get(&place.layer)? };
            Some(Position { layer, ..place })
        }
    }

    /// Rows of `x` and `y` with the same number.
    fn rows(x: &'a UnitBlock, y: &'a UnitBlock) -> RowPairs<'a> {
        let comparable = x.dimension == y.dimension && x.residual == y.residual;
        let row = |number: &u64| y.rows.get(number).filter(|_| comparable);
        RowPairs {
            pairs: x
                .rows
                .iter()
                .filter_map(|(number, own)| Some((&own[..], &row(number)?[..])))
                .take(ROWS_IN_CELL)
                .collect(),
            freedom: x.freedom.min(y.freedom),
            residual: x.residual,
        }
    }

    fn matched(&self, wanted: impl Fn(Role) -> bool) -> Matched<'a> {
        let mut matched = Matched::default();
        for (place, x) in self.units_a.blocks.iter().filter(|(place, _)| wanted(place.role)) {
            if let Some(y) = at_place(&self.units_b.blocks, *place) {
                matched.add(Self::rows(x, y));
            }
        }
        matched
    }

    /// Layers of the main stack whose matrices were sampled.
    fn layers(units: &Units) -> Vec<u16> {
        let found: BTreeSet<u16> =
            units.blocks.keys().filter(|p| p.is_main() && p.role.is_matrix()).map(|p| p.layer).collect();
        found.into_iter().collect()
    }

    /// Matrices and gains of these layers against each other.
    fn layer_pair(&self, layer_a: u16, layer_b: u16, into: &mut Matched<'a>) {
        let in_layer = |p: &Position| p.is_main() && p.layer == layer_a && p.role.is_in_layer();
        for (place, x) in self.units_a.blocks.iter().filter(|(place, _)| in_layer(place)) {
            if let Some(y) = at_place(&self.units_b.blocks, Position { layer: layer_b, ..*place }) {
                into.add(Self::rows(x, y));
            }
        }
    }

    fn map_layers(&self) -> Option<LayerMap> {
        let (in_a, in_b) = (Self::layers(self.units_a), Self::layers(self.units_b));
        let columns = |units: &'a Units, layers: &[u16]| -> Vec<LayerColumns<'a>> {
            layers.iter().map(|layer| LayerColumns::of(units, *layer)).collect()
        };
        let (of_a, of_b) = (columns(self.units_a, &in_a), columns(self.units_b, &in_b));
        let z: Vec<Vec<f64>> = of_a.iter().map(|x| of_b.iter().map(|y| x.z(y)).collect()).collect();
        let path = layer_map::align(&z);
        let mut matched = Matched::default();
        for step in &path {
            self.layer_pair(in_a[step.a], in_b[step.b], &mut matched);
        }
        let mut effect = matched.effect()?;
        effect.ln_choices = layer_map::ln_matchings(in_a.len(), in_b.len(), path.len());
        let layers = layer_map::with_repeats(&z, &path, (self.a.layers, self.b.layers));
        Some(LayerMap { effect, layers: layers.iter().map(|m| (in_a[m.a], in_b[m.b], m.z)).collect() })
    }
}

/// What b has at this position. Where only one of the models has experts, the first of them stands against the
/// MLP of the other, of which it may be a copy.
pub(super) fn at_place<T>(of_b: &BTreeMap<Position, T>, place: Position) -> Option<&T> {
    let other = match place.expert {
        None => Some(Some(0)),
        Some(0) => Some(None),
        Some(_) => None,
    };
    let dense = other.map(|expert| Position { expert, ..place });
    of_b.get(&place).or_else(|| of_b.get(&dense?))
}

/// The columns of one layer over the hidden dimension, with their Gram matrix, so that each of many pairs of
/// layers costs one pass.
struct LayerColumns<'a> {
    rows: BTreeMap<(Role, u64), &'a [f32]>,
    freedom: f64,
    gram: Array2<f32>,
}

impl<'a> LayerColumns<'a> {
    fn of(units: &'a Units, layer: u16) -> Self {
        let mut rows = BTreeMap::new();
        let mut freedom = f64::INFINITY;
        let blocks = units.blocks.iter().filter(|(p, u)| {
            p.is_main()
                && p.layer == layer
                && p.role.is_in_layer()
                && matches!(p.expert, None | Some(0))
                && u.residual
        });
        for (place, block) in blocks {
            freedom = freedom.min(block.freedom);
            let first = block.canonical.iter().filter_map(|number| Some((*number, block.rows.get(number)?)));
            rows.extend(first.take(ROWS_IN_CELL).map(|(number, row)| ((place.role, number), &row[..])));
        }
        let d = rows.values().next().map_or(0, |row| row.len());
        let flat: Vec<f32> = rows.values().flat_map(|row| row.iter().copied()).collect();
        let table = Array2::from_shape_vec((rows.len(), d), flat).unwrap_or_default();
        Self { rows, freedom, gram: table.dot(&table.t()) }
    }

    /// z of the matched columns; 0 where none match.
    fn z(&self, other: &Self) -> f64 {
        let indices = |columns: &Self, with: &Self| -> Vec<usize> {
            let common = columns.rows.keys().enumerate().filter(|(_, key)| with.rows.contains_key(key));
            common.map(|(i, _)| i).collect()
        };
        let (i_a, i_b) = (indices(self, other), indices(other, self));
        let pairs = self.rows.iter().filter_map(|(key, x)| Some((*x, *other.rows.get(key)?)));
        let s: f64 = pairs.filter(|(x, y)| x.len() == y.len()).map(|(x, y)| f64::from(dot(x, y))).sum();
        let mut trace = 0.0;
        for (k_a, k_b) in i_a.iter().zip(&i_b) {
            for (l_a, l_b) in i_a.iter().zip(&i_b) {
                trace += f64::from(self.gram[(*k_a, *l_a)] * other.gram[(*k_b, *l_b)]);
            }
        }
        let variance = trace / self.freedom.min(other.freedom);
        if variance > 0.0 { s / variance.sqrt() } else { 0.0 }
    }
}
