//! Two models' samples to evidence, exactly; and the search for moved hidden dimensions.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use super::align::{self, Aligned, CommonTokens};
use super::columns::{degrees_of_freedom, dot};
use super::delta;
use super::evidence::{Correspondence, Effect, Evidence, Open, Realigned, Shape, Signal, Tests};
use super::layer_map;
use super::matched::{Cell, Matched};
use super::matching;
use super::neurons;
use super::products;
use super::reuse;
use super::roles::{Layout, Position, Role};
use super::samples::{Block, Samples};
use super::units::{Basis, UnitBlock, Units};

/// Deviation stated for a share of matches. Chance alone would give far less ([`matching`] expects a
/// thousandth of one match), but a few privileged dimensions or rows that every model has must not count.
const SHARE_DEVIATION: f64 = 0.02;
/// Part of the common tokens with other ids from which on the vocabulary was rebuilt; a few added tokens may
/// have changed places in any fine-tune.
const MOVED_TOKENS: f64 = 0.05;
/// Casting to bf16 leaves a correlation of 1 - 3e-6, rounding to 8 bits a row 1 - 4e-5.
const RESOLUTION: f64 = 1e-5;
/// Rows of a block that enter its cell: more would cost without telling more.
const ROWS_IN_CELL: usize = 16;
/// Correlation of down projections from which on neurons need not be looked for.
const NEURONS_IN_PLACE: f64 = 0.9;
/// Fewest rows of a matrix from which a reordering can be told.
const LEAST_ROWS: usize = 8;
/// Most rows of one matrix that are searched for reordering.
const MOST_ROWS: usize = 2048;

/// Holds two models against each other, every tensor where it is.
pub fn compare(a: &Samples, b: &Samples) -> Evidence {
    rayon::join(|| a.units(), || b.units());
    let mut in_place = if a.hidden_size == b.hidden_size {
        let same_depth = a.layers == b.layers;
        let tests = Comparison { a: a.units(), b: b.units(), same_depth }.tests(&rows_of_tokens(a, b));
        with_neurons(a, b, same_depth, tests)
    } else {
        Tests::absent(&format!("hidden sizes differ: {} and {}", a.hidden_size, b.hidden_size))
    };
    in_place.row_products = products::sampled(a.products(), b.products());
    let compared = in_place.signals().iter().any(|(_, signal)| signal.effect().is_some());
    let mut open = Vec::new();
    if a.hidden_size == b.hidden_size && !compared {
        open.push(Open::InPlace);
    }
    open.extend([Open::Permuted, Open::Rotated]);
    // The rank of a difference says something only where there is less difference than likeness.
    let related = in_place.weight_blocks.effect().is_some_and(|e| e.value > 0.5);
    let moved = rows_of_tokens(a, b);
    let known = a.tokens.is_some() && b.tokens.is_some() && !moved.is_empty();
    let tokens_moved = known.then(|| {
        let elsewhere = moved.iter().filter(|(of_a, of_b)| of_a != of_b).count();
        elsewhere as f64 > MOVED_TOKENS * moved.len() as f64
    });
    Evidence {
        a: shape(a),
        b: shape(b),
        in_place,
        realigned: Vec::new(),
        open,
        reuse: reuse::reuse(a, b),
        tokens_moved,
        delta: related.then(|| delta::delta(a, b)).flatten(),
        resolution: RESOLUTION,
    }
}

/// Looks for the MLP neurons, unless they are where they were. Their codes are over hidden dimensions, which must
/// be in place.
fn with_neurons(a: &Samples, b: &Samples, same_depth: bool, tests: Tests) -> Tests {
    if tests.roles.get(Role::Down.name()).is_some_and(|r| *r >= NEURONS_IN_PLACE) {
        return Tests { neurons: Signal::Absent("the neurons are where they were".into()), ..tests };
    }
    let map: BTreeMap<u16, u16> = tests.matched_layers.iter().map(|m| (m.0, m.1)).collect();
    let wanted = |block: &&Block| {
        let place = block.position;
        place.is_main() && place.role == Role::Down && !place.row_is_residual()
    };
    let blocks: BTreeMap<Position, &Block> =
        b.blocks.iter().filter(wanted).map(|block| (block.position, block)).collect();
    let counterpart = |place: Position| {
        let layer = if same_depth { place.layer } else { *map.get(&place.layer)? };
        at_place(&blocks, Position { layer, ..place }).copied()
    };
    match neurons::find(a.blocks.iter().filter(wanted), counterpart) {
        None => Tests {
            neurons: Signal::Absent("too few rows of the same down projections were read".into()),
            ..tests
        },
        Some(found) => {
            let value = found.matched as f64 / found.possible.max(1) as f64;
            let effect = Effect { value, sd: SHARE_DEVIATION, cells: found.matched, ln_choices: 0.0 };
            let moved = found.moved as f64 / found.matched.max(1) as f64;
            Tests { neurons: Signal::Present(effect), neurons_moved: moved, ..tests }
        }
    }
}

/// What b has at this position. Where only one of the models has experts, the first of them stands against the
/// MLP of the other, of which it may be a copy.
fn at_place<T>(of_b: &BTreeMap<Position, T>, place: Position) -> Option<&T> {
    let other = match place.expert {
        None => Some(Some(0)),
        Some(0) => Some(None),
        Some(_) => None,
    };
    let dense = other.map(|expert| Position { expert, ..place });
    of_b.get(&place).or_else(|| of_b.get(&dense?))
}

fn shape(samples: &Samples) -> Shape {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let role = |role: Role| move |b: &&Block| b.position.role == role && b.position.layout == Layout::Linear;
    let inner = samples.blocks.iter().find(role(Role::Up)).map(|b| number(b.tensor_rows));
    Shape {
        hidden_size: number(samples.hidden_size as u64),
        layers: samples.layers,
        vocabulary: samples.vocabulary,
        inner_size: inner,
        experts: samples.blocks.iter().any(|b| b.position.expert.is_some()),
        quantised: samples.quantised,
    }
}

/// Looks for moved hidden dimensions: permuted, pruned to a subset, rotated. Dearer than [`compare`], and
/// needed only where that leaves the question open.
pub fn realign(a: &Samples, b: &Samples, evidence: &mut Evidence) {
    let same_depth = a.layers == b.layers;
    let tests = |basis_a: &Basis, basis_b: &Basis| {
        let (a, b) = rayon::join(|| Units::new(a, basis_a), || Units::new(b, basis_b));
        Comparison { a: &a, b: &b, same_depth }.tests(&[])
    };
    let found = |by: Correspondence, aligned: &Aligned| {
        let dimensions =
            Effect { value: aligned.share, sd: SHARE_DEVIATION, cells: aligned.matched, ln_choices: 0.0 };
        let mut tests = if aligned.is_usable() {
            tests(&aligned.a, &aligned.b)
        } else {
            Tests::absent(&format!("only {} of {} dimensions correspond", aligned.matched, aligned.possible))
        };
        let used = Signal::Absent("the dimensions were matched by it".into());
        match by {
            Correspondence::Gains => tests.norm_gains = used,
            _ => tests.embedding = used,
        }
        Realigned { by, dimensions: Signal::Present(dimensions), tests }
    };
    let rules_out = |evidence: &mut Evidence, what: Open| evidence.open.retain(|open| *open != what);

    let tokens = CommonTokens::find(a, b);
    let mut unclear = false;
    if let Ok(common) = tokens {
        let conclusive = common.is_conclusive();
        let (aligned, rotations) = common.align();
        // Enough that a copy under more noise than the match bears is not taken for a stranger.
        unclear = aligned.matched >= align::NOTABLE_MATCHES && !aligned.is_usable();
        if !aligned.in_place {
            evidence.realigned.push(found(Correspondence::Tokens, &aligned));
        }
        let rotations = if aligned.excludes_rotation() { Vec::new() } else { rotations };
        for (basis_a, basis_b) in &rotations {
            evidence.realigned.push(Realigned {
                by: Correspondence::Rotation,
                dimensions: Signal::Absent(
                    "a rotation maps no single dimension to a single dimension".into(),
                ),
                tests: Tests {
                    embedding: Signal::Absent("the spaces were aligned by it".into()),
                    ..tests(basis_a, basis_b)
                },
            });
        }
        if conclusive && !unclear {
            rules_out(evidence, Open::Permuted);
            rules_out(evidence, Open::Rotated);
        }
    }
    if let Some(aligned) = align::gain_cloud(a, b) {
        if !aligned.in_place {
            evidence.realigned.push(found(Correspondence::Gains, &aligned));
        }
        if !unclear {
            rules_out(evidence, Open::Permuted);
        }
    }
    // A rotation does not commute with gains: whoever rotates a model has to fold them away first.
    if align::has_gains(a) && align::has_gains(b) {
        rules_out(evidence, Open::Rotated);
    }
}

/// (row of a, row of b) of the same token: by string where both tokenizers are known, else by id.
fn rows_of_tokens(a: &Samples, b: &Samples) -> Vec<(u64, u64)> {
    let ids = a.units().embedding.keys().copied();
    match (&a.tokens, &b.tokens) {
        (Some(of_a), Some(of_b)) => {
            let of = |id: u64| Some(u64::from(of_b.id(of_a.key(u32::try_from(id).ok()?)?)?));
            ids.filter_map(|id| Some((id, of(id)?))).collect()
        }
        _ => ids.map(|id| (id, id)).collect(),
    }
}

/// Two models in corresponding bases.
struct Comparison<'a> {
    a: &'a Units,
    b: &'a Units,
    same_depth: bool,
}

impl<'a> Comparison<'a> {
    fn tests(&self, tokens: &[(u64, u64)]) -> Tests {
        let depths = || Signal::Absent("layer counts differ; see layer_map".into());
        let nothing = "no block was sampled at the same place in both models";
        let at_same_place = |wanted: fn(Role) -> bool| {
            if self.same_depth {
                Signal::or_absent(self.at_same_place(wanted).effect(), nothing)
            } else {
                depths()
            }
        };
        let weight_blocks = at_same_place(Role::is_matrix);
        let (layer_map, matched_layers) = self.layer_map();
        let (rows, rows_moved) = self.rows(&matched_layers);
        Tests {
            norm_gains: at_same_place(Role::is_norm),
            layer_map,
            embedding: Signal::or_absent(
                self.embedding(tokens).effect(),
                "no token's row was read in both models",
            ),
            rows: Signal::or_absent(rows, "too few rows of the same matrices were read"),
            rows_moved,
            neurons: Signal::Absent("hidden dimensions were moved".into()),
            neurons_moved: 0.0,
            row_products: Signal::Absent("they are the same in any correspondence".into()),
            roles: if self.same_depth { self.role_means() } else { BTreeMap::new() },
            weight_blocks,
            matched_layers,
        }
    }

    /// Rows of `x` and `y` with the same number.
    fn cell(x: &'a UnitBlock, y: &'a UnitBlock) -> Cell<'a> {
        let comparable = x.dimension == y.dimension && x.residual == y.residual;
        let row = |number: &u64| y.rows.get(number).filter(|_| comparable);
        Cell {
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

    fn at_same_place(&self, wanted: impl Fn(Role) -> bool) -> Matched<'a> {
        let mut matched = Matched::default();
        for (place, x) in self.a.blocks.iter().filter(|(place, _)| wanted(place.role)) {
            if let Some(y) = at_place(&self.b.blocks, *place) {
                matched.add(Self::cell(x, y));
            }
        }
        matched
    }

    fn embedding(&self, tokens: &[(u64, u64)]) -> Matched<'a> {
        let mut matched = Matched::default();
        for (of_a, of_b) in tokens {
            if let (Some(x), Some(y)) = (self.a.embedding.get(of_a), self.b.embedding.get(of_b)) {
                let freedom = degrees_of_freedom(x.len());
                matched.add(Cell { pairs: vec![(&x[..], &y[..])], freedom, residual: true });
            }
        }
        matched
    }

    fn role_means(&self) -> BTreeMap<&'static str, f64> {
        let roles: BTreeSet<Role> = self.a.blocks.keys().map(|p| p.role).filter(|r| r.is_matrix()).collect();
        roles
            .into_iter()
            .filter_map(|role| Some((role.name(), self.at_same_place(|r| r == role).effect()?.value)))
            .collect()
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
        for (place, x) in self.a.blocks.iter().filter(|(place, _)| in_layer(place)) {
            if let Some(y) = at_place(&self.b.blocks, Position { layer: layer_b, ..*place }) {
                into.add(Self::cell(x, y));
            }
        }
    }

    fn layer_map(&self) -> (Signal, Vec<(u16, u16, f64)>) {
        let (in_a, in_b) = (Self::layers(self.a), Self::layers(self.b));
        let columns = |units: &'a Units, layers: &[u16]| -> Vec<LayerColumns<'a>> {
            layers.iter().map(|layer| LayerColumns::of(units, *layer)).collect()
        };
        let (of_a, of_b) = (columns(self.a, &in_a), columns(self.b, &in_b));
        let z: Vec<Vec<f64>> = of_a.iter().map(|x| of_b.iter().map(|y| x.z(y)).collect()).collect();
        let path = layer_map::align(&z);
        let mut matched = Matched::default();
        for step in &path {
            self.layer_pair(in_a[step.a], in_b[step.b], &mut matched);
        }
        let Some(mut effect) = matched.effect() else {
            return (Signal::Absent("no layer can be held against another".into()), Vec::new());
        };
        effect.ln_choices = layer_map::ln_matchings(in_a.len(), in_b.len(), path.len());
        (Signal::Present(effect), path.iter().map(|m| (in_a[m.a], in_b[m.b], m.z)).collect())
    }

    /// Rows that are rows of the other matrix, whatever their order: heads and neurons permuted or pruned.
    fn rows(&self, matched_layers: &[(u16, u16, f64)]) -> (Option<Effect>, f64) {
        let map: BTreeMap<u16, u16> = matched_layers.iter().map(|m| (m.0, m.1)).collect();
        let (mut matched, mut possible, mut moved) = (0usize, 0u32, 0u32);
        let wanted = |(p, x): &(&Position, &UnitBlock)| p.is_main() && p.role.is_matrix() && x.residual;
        for (place, x) in self.a.blocks.iter().filter(wanted) {
            let layer = if self.same_depth { Some(place.layer) } else { map.get(&place.layer).copied() };
            let Some(y) = layer.and_then(|layer| at_place(&self.b.blocks, Position { layer, ..*place }))
            else {
                continue;
            };
            let enough = |u: &UnitBlock| (LEAST_ROWS..=MOST_ROWS).contains(&u.rows.len());
            if x.dimension != y.dimension || !enough(x) || !enough(y) {
                continue;
            }
            let table = |u: &UnitBlock| {
                let values: Vec<f32> = u.rows.values().flatten().copied().collect();
                Array2::from_shape_vec((u.rows.len(), u.dimension), values).ok()
            };
            let Some((tx, ty)) = table(x).zip(table(y)) else { continue };
            let found = matching::mutual(&tx.view(), &ty.view(), x.freedom.min(y.freedom));
            let numbers: (Vec<u64>, Vec<u64>) =
                (x.rows.keys().copied().collect(), y.rows.keys().copied().collect());
            moved += found.pairs.iter().filter(|(i, j, _)| numbers.0[*i] != numbers.1[*j]).count() as u32;
            matched += found.pairs.len();
            possible += found.possible as u32;
        }
        let value = matched as f64 / f64::from(possible.max(1));
        let effect = Effect { value, sd: SHARE_DEVIATION, cells: matched, ln_choices: 0.0 };
        ((possible > 0).then_some(effect), f64::from(moved) / matched.max(1) as f64)
    }
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

#[cfg(test)]
mod tests {
    use super::super::testing::Model;
    use super::*;

    #[test]
    fn z_of_independent_models_is_standard_normal() {
        // 30 models of one shape with outlier dimensions and resembling gains: 435 pairs, and as many after
        // the dimensions of one were permuted.
        let models: Vec<Samples> = (0..30).map(|s| Model::random(s, 4, 96).permuted(s).samples()).collect();
        let mut by_signal: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (i, a) in models.iter().enumerate() {
            for b in &models[..i] {
                let evidence = compare(a, b);
                let tests = &evidence.in_place;
                for (name, signal) in
                    tests.signals().into_iter().take(4).filter(|(name, _)| *name != "layer_map")
                {
                    by_signal.entry(name).or_default().push(signal.effect().unwrap().z());
                }
            }
        }
        for (name, z) in by_signal {
            let n = z.len() as f64;
            let mean = z.iter().sum::<f64>() / n;
            let sd = (z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let largest = z.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(
                mean.abs() < 0.2 && (0.9..1.15).contains(&sd) && largest < 5.0,
                "{name}: {mean} {sd} {largest}"
            );
        }
    }

    #[test]
    fn samples_and_fingerprints_agree() {
        let base = Model::random(3, 6, 96);
        for r in [0.9, 0.5] {
            let tuned = base.tuned(r, 4);
            let exact = compare(&base.samples(), &tuned.samples()).in_place.weight_blocks.effect().unwrap();
            let sketched = super::super::stored::compare(&base.fingerprint(), &tuned.fingerprint());
            let sketched = sketched.in_place.weight_blocks.effect().unwrap();
            assert!((exact.value - f64::from(r)).abs() < 0.06, "{exact:?}");
            assert!(
                (exact.value - sketched.value).abs() < 4.0 * sketched.sd.max(0.02),
                "{exact:?} {sketched:?}"
            );
        }
    }

    #[test]
    fn reordered_rows_are_found() {
        let base = Model::random(3, 4, 96);
        let mut moved = base.clone();
        for block in moved.layers.iter_mut().flatten().filter(|b| b.position.role.is_matrix()) {
            let columns = block.columns;
            block.values.rotate_left(3 * columns);
        }
        let tests = compare(&base.samples(), &moved.samples()).in_place;
        assert!(tests.rows.effect().unwrap().value > 0.9 && tests.rows_moved > 0.9);
        assert!(tests.weight_blocks.effect().unwrap().value.abs() < 0.2);
        let other = compare(&base.samples(), &Model::random(4, 4, 96).samples()).in_place;
        assert!(other.rows.effect().unwrap().value < 0.02);
    }
}
