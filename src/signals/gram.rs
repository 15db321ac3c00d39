//! The row Gram matrix: pairwise cosines of a model's matrix rows, which stay as they are when hidden dimensions are
//! permuted or rotated, and nearly so when some of them are dropped.
//!
//! A row of a matrix that reads the residual stream is a vector of the hidden space; so is one that writes to it. Its
//! norm's gain is folded into it first, as whoever rotates a model has to do. The cosines of all pairs of sampled rows
//! are sketched ([`super::sketch`]), keyed by role, relative depth and row; so two models of any width can be held
//! against each other, and the cosine of their sketches estimates the correlation of their matrices. It is about the
//! square of the correlation of the weights, and about the root of the part of the dimensions that was kept.
//!
//! **Null.** The sign of most rows is a convention: turning over a row of the value or the gated up projection, or one
//! of query and key together, changes nothing that a model computes, and neither initialisation nor optimiser
//! prefers a sign. So cosines with such a row have independent random signs in independent models, the expected
//! correlation is 0, and its variance is
//!
//! ```text
//! Var = 1/D + sum (a b)^2 / (sum a^2 sum b^2)      at most 1/D + sqrt(k_a k_b), k = sum a^4 / (sum a^2)^2
//! ```
//!
//! where the first term is there for sketches of D buckets alone. Pairs whose cosine does not change its sign by any
//! convention are left out: two rows that go through an activation function, and a query with the key of its own layer.
//! No more can be improbable than that all rows chose the signs of the other model: of `n` rows, each of which also is
//! one of many that might have stood in its place, the p-value never counts as less than `2^-n`.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, Axis};

use super::blocks::{Block, Blocks};
use super::buckets::Buckets;
use super::hash;
use super::roles::{Position, Role, Stack};
use super::sample;
use super::signal::{Effect, Signal};
use super::sketch::{self, Sketch};

/// Bytes of the sketch: a correlation of .4 of the cosines, which is .63 of the weights, is nine deviations.
pub const GRAM_DIMENSIONS: usize = 512;
/// Most rows of one matrix, and of all together: what they cost grows with the square.
const MOST_OF_MATRIX: usize = 8;
const MOST_ROWS: usize = 320;
/// Fewest rows: below, no p-value that a search among many models needs can be reached.
const LEAST_ROWS: usize = 16;
/// Fewest pairs of them: the deviation of a correlation is then an eighth.
const LEAST_PAIRS: usize = 64;
/// Why there is no test.
const TOO_FEW: &str = "too few rows over the hidden dimension were read in both models";
/// Cosine from which on a row repeats another. Rows of trained models reach a few tenths.
const REPEATED: f32 = 0.5;
/// Cosines farther from 0 than so many deviations count as if they were there.
const CLIP: f32 = 3.0;
/// Standard deviation of normal values over the median of their magnitudes.
const DEVIATION: f32 = 1.4826;

/// The row Gram matrix of one model, as the database keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GramSketch {
    /// The sketch; only its direction means something.
    pub sketch: [i8; GRAM_DIMENSIONS],
    /// Sum of their fourth powers over the square of the sum of their squares, 0 to 1.
    pub concentration: f32,
    /// Rows whose sign, or whose place among many, is a matter of chance.
    pub rows: u16,
}

impl GramSketch {
    /// Correlation with the cosines of another model, estimated from the sketches.
    pub fn against(&self, other: &Self) -> Effect {
        let value = sketch::cosine(&self.sketch, &other.sketch);
        let concentrated = (f64::from(self.concentration) * f64::from(other.concentration)).max(0.0).sqrt();
        let variance = 1.0 / GRAM_DIMENSIONS as f64 + concentrated;
        effect(value, variance, self.rows.min(other.rows))
    }
}

/// The row Gram matrix of one model, cosine by cosine.
#[derive(Clone, Debug)]
pub(super) struct RowGram {
    rows: Vec<Row>,
    /// Of each with each, clipped.
    cosines: Array2<f32>,
}

impl RowGram {
    /// Of the canonical rows of one model; `None` where too few were read.
    pub(super) fn new(samples: &Blocks) -> Option<Self> {
        let (rows, units): (Vec<Row>, Vec<Vec<f32>>) = rows(samples).into_iter().unzip();
        let table = Array2::from_shape_vec((rows.len(), samples.hidden_size), units.concat()).ok()?;
        let mut found = Self { cosines: table.dot(&table.t()), rows }.without_repeated();
        let mut magnitudes: Vec<f32> = found.pairs().map(|(_, cosine)| cosine.abs()).collect();
        if found.rows.len() < LEAST_ROWS || magnitudes.len() < LEAST_PAIRS {
            return None;
        }
        let middle = magnitudes.len() / 2;
        let most = CLIP * DEVIATION * *magnitudes.select_nth_unstable_by(middle, f32::total_cmp).1;
        if !most.is_normal() {
            return None;
        }
        found.cosines.mapv_inplace(|cosine| cosine.clamp(-most, most));
        Some(found)
    }

    /// Leaves out rows that repeat an earlier one, as those of shared or duplicated layers do: they have its sign, and no
    /// chance of their own.
    fn without_repeated(self) -> Self {
        let Self { rows, cosines } = self;
        let mut kept: Vec<usize> = Vec::with_capacity(rows.len());
        for i in 0..rows.len() {
            if kept.iter().all(|j| cosines[(i, *j)].abs() < REPEATED) {
                kept.push(i);
            }
        }
        let rows = kept.iter().map(|i| rows[*i].clone()).collect();
        let cosines = cosines.select(Axis(0), &kept).select(Axis(1), &kept);
        Self { rows, cosines }
    }

    /// The cosines whose sign is a matter of chance, each with what tells which rows they are of, in whatever order.
    fn pairs(&self) -> impl Iterator<Item = (u64, f32)> {
        self.rows.iter().zip(self.cosines.rows()).enumerate().flat_map(|(i, (x, cosines))| {
            let earlier = self.rows[..i].iter().zip(cosines);
            earlier
                .filter(|(y, _)| x.is_by_chance_with(y))
                .map(|(y, cosine)| (x.key.wrapping_add(y.key), *cosine))
        })
    }

    /// Rows whose sign, or whose place among many, is a matter of chance; a key has that of its query.
    fn free_rows(&self) -> u16 {
        let free = self.rows.iter().filter(|row| !matches!(row.role, Role::Key | Role::CrossKey)).count();
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    /// What the database keeps.
    pub(super) fn sketched(&self) -> GramSketch {
        let (keys, cosines): (Vec<u64>, Vec<f32>) = self.pairs().unzip();
        let mut sketch = Sketch::<GRAM_DIMENSIONS>::default();
        sketch.add(&Buckets::of_entries(keys.into_iter()), &cosines);
        let (mut squares, mut fourths) = (0.0f64, 0.0f64);
        for cosine in cosines {
            let square = f64::from(cosine).powi(2);
            squares += square;
            fourths += square * square;
        }
        let concentration = (fourths / (squares * squares)) as f32;
        GramSketch { sketch: sketch.quantise(), concentration, rows: self.free_rows() }
    }

    /// Correlation with the cosines of the same rows in another model; `None` where there are too few.
    fn against(&self, other: &Self) -> Option<Effect> {
        let of_other: BTreeMap<u64, usize> = other.rows.iter().map(|row| row.key).zip(0..).collect();
        let keys = self.rows.iter().map(|row| row.key).enumerate();
        let common: Vec<(usize, usize)> =
            keys.filter_map(|(i, key)| Some((i, *of_other.get(&key)?))).collect();
        let (mut n, mut ab, mut aa, mut bb, mut squares) = (0, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (at, (i_a, i_b)) in common.iter().enumerate() {
            for (j_a, j_b) in &common[..at] {
                let by_chance = self.rows[*i_a].is_by_chance_with(&self.rows[*j_a])
                    && other.rows[*i_b].is_by_chance_with(&other.rows[*j_b]);
                if by_chance {
                    let (a, b) = (self.cosines[(*i_a, *j_a)], other.cosines[(*i_b, *j_b)]);
                    let (a, b) = (f64::from(a), f64::from(b));
                    n += 1;
                    ab += a * b;
                    aa += a * a;
                    bb += b * b;
                    squares += (a * b).powi(2);
                }
            }
        }
        let all = aa * bb;
        let usable = n >= LEAST_PAIRS && all > 0.0 && squares > 0.0;
        let rows = self.free_rows().min(other.free_rows());
        usable.then(|| effect(ab / all.sqrt(), squares / all, rows))
    }
}

/// No more significant than that so many rows have the signs of the other model's by chance.
fn effect(value: f64, variance: f64, rows: u16) -> Effect {
    // Where the tail of a normal distribution is 2^-rows.
    let most = (2.0 * std::f64::consts::LN_2 * f64::from(rows)).sqrt();
    Effect::correlation(value, variance.sqrt().max(value / most), usize::from(rows))
}

/// The test of two models' row Gram matrices, from sketches.
pub(super) fn stored(a: Option<&GramSketch>, b: Option<&GramSketch>) -> Signal {
    Signal::or_absent(a.zip(b).map(|(a, b)| a.against(b)), TOO_FEW)
}

/// The same exactly.
pub(super) fn sampled(a: Option<&RowGram>, b: Option<&RowGram>) -> Signal {
    Signal::or_absent(a.zip(b).and_then(|(a, b)| a.against(b)), TOO_FEW)
}

#[derive(Clone, Debug)]
struct Row {
    role: Role,
    stack: Stack,
    layer: u16,
    /// Whether its sign is a convention.
    is_free: bool,
    /// Role, relative depth and place in the matrix.
    key: u64,
}

impl Row {
    /// Whether the sign of the cosine is a matter of chance.
    fn is_by_chance_with(&self, other: &Self) -> bool {
        let of_one_head = |x: Role, y: Role| {
            matches!((x, y), (Role::Query, Role::Key) | (Role::CrossQuery, Role::CrossKey))
        };
        let same_layer = (self.stack, self.layer) == (other.stack, other.layer);
        let together =
            same_layer && (of_one_head(self.role, other.role) || of_one_head(other.role, self.role));
        (self.is_free || other.is_free) && !together
    }
}

/// The rows that enter, in canonical order, each as a unit vector.
fn rows(samples: &Blocks) -> Vec<(Row, Vec<f32>)> {
    let is_usable = |block: &&Block| {
        let Position { role, expert, .. } = block.position;
        role.is_matrix()
            && block.position.row_is_residual()
            && block.columns == samples.hidden_size
            && matches!(expert, None | Some(0))
    };
    let blocks: Vec<&Block> = samples.blocks.iter().filter(is_usable).collect();
    let most = (MOST_ROWS / blocks.len().max(1)).clamp(1, MOST_OF_MATRIX);
    let norms = Norms::new(samples);
    let mut rows = Vec::new();
    for block in blocks {
        let Position { stack, layer, role, .. } = block.position;
        let depth = block.position.relative_depth(samples.layers);
        let gain = norms.before(block.position);
        let is_free = match role {
            // What goes through an activation function has its sign for good.
            Role::Gate | Role::GateUp | Role::SsmIn | Role::Qkv => false,
            Role::Up | Role::Down => norms.gated.contains(&(stack, layer)),
            _ => true,
        };
        for (start, values) in block.canonical() {
            let count = (values.len() / block.columns) as u64;
            let from_end = sample::reads_tail(role);
            // Counted from the end that is read: so many rows as of a narrower model are the same ones.
            let place = |i: u64| if from_end { block.tensor_rows - 1 - (start + i) } else { start + i };
            let chosen = (0..count).filter(|i| place(*i) < most as u64);
            for i in chosen {
                let at = i as usize * block.columns;
                if let Some(unit) = unit(&values[at..at + block.columns], gain) {
                    let key = hash::key(&[role as u64, stack as u64, depth, place(i)]);
                    rows.push((Row { role, stack, layer, is_free, key }, unit));
                }
            }
        }
    }
    rows.truncate(MOST_ROWS);
    rows
}

/// A row with the gain of its norm, centred, of unit length; `None` where there is nothing in it.
fn unit(row: &[f32], gain: Option<&[f32]>) -> Option<Vec<f32>> {
    let mut unit: Vec<f32> = match gain {
        Some(gain) => row.iter().zip(gain).map(|(v, g)| v * g).collect(),
        None => row.to_vec(),
    };
    let mean = unit.iter().sum::<f32>() / unit.len() as f32;
    for v in &mut unit {
        *v -= mean;
    }
    let norm = unit.iter().map(|v| v * v).sum::<f32>().sqrt();
    if !norm.is_normal() {
        return None;
    }
    for v in &mut unit {
        *v /= norm;
    }
    Some(unit)
}

/// The norm gains of a model, and which of its layers have a gated MLP.
struct Norms<'a> {
    gains: BTreeMap<(Stack, u16, Role), &'a [f32]>,
    /// Norms that a stack has.
    of_stack: BTreeSet<(Stack, Role)>,
    gated: BTreeSet<(Stack, u16)>,
}

impl<'a> Norms<'a> {
    fn new(samples: &'a Blocks) -> Self {
        let mut all = Self { gains: BTreeMap::new(), of_stack: BTreeSet::new(), gated: BTreeSet::new() };
        for block in &samples.blocks {
            let Position { stack, layer, role, .. } = block.position;
            if role.is_norm() {
                all.of_stack.insert((stack, role));
                if block.columns == samples.hidden_size && block.values.len() == block.columns {
                    all.gains.insert((stack, layer, role), &block.values);
                }
            } else if matches!(role, Role::Gate | Role::GateUp) {
                all.gated.insert((stack, layer));
            }
        }
        all
    }

    /// The gain that can be folded into the columns of this matrix. A constant one changes nothing, and where gains
    /// are stored without the 1 that is added to them, one that was folded away is 0.
    fn before(&self, position: Position) -> Option<&'a [f32]> {
        let Position { stack, layer, role, .. } = position;
        let norm = role.norm_before(|norm| self.of_stack.contains(&(stack, norm)))?;
        let gain = *self.gains.get(&(stack, layer, norm))?;
        let first = *gain.first()?;
        gain.iter().any(|g| *g != first).then_some(gain)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Model;
    use super::*;

    fn gram(model: &Model) -> GramSketch {
        model.samples().row_gram().unwrap().sketched()
    }

    #[test]
    fn cosines_of_independent_models_have_the_stated_spread() {
        // 40 models of one shape with outlier dimensions, 780 pairs. The bound is conservative.
        let all: Vec<RowGram> =
            (0..40).map(|seed| Model::random(seed, 6, 96).samples().row_gram().unwrap().clone()).collect();
        let sketched: Vec<GramSketch> = all.iter().map(RowGram::sketched).collect();
        let (mut exact, mut estimated) = (Vec::new(), Vec::new());
        for (i, (a, of_a)) in all.iter().zip(&sketched).enumerate() {
            exact.extend(all[..i].iter().map(|b| a.against(b).unwrap().z()));
            estimated.extend(sketched[..i].iter().map(|b| of_a.against(b).z()));
        }
        for (z, least) in [(exact, 0.9), (estimated, 0.7)] {
            let n = z.len() as f64;
            let mean = z.iter().sum::<f64>() / n;
            let sd = (z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let largest = z.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(mean.abs() < 0.2 && (least..1.1).contains(&sd) && largest < 4.5, "{mean} {sd} {largest}");
        }
    }

    #[test]
    fn no_change_of_the_basis_changes_them() {
        let model = Model::random(1, 6, 96);
        let of_model = gram(&model);
        assert!(of_model.against(&gram(&model.permuted(7))).value > 0.999);
        // A turn by some angle in each plane of two neighbouring dimensions, once gains are where they do not matter.
        let mut folded = model.clone();
        for layer in &mut folded.layers {
            let gain = |role| layer.iter().find(|b| b.position.role == role).unwrap().values.clone();
            let (attention, mlp) = (gain(Role::AttentionNorm), gain(Role::MlpNorm));
            for block in layer.iter_mut() {
                let gain = match block.position.role {
                    Role::Query | Role::Key | Role::Value => &attention,
                    Role::Gate | Role::Up => &mlp,
                    role if role.is_norm() => {
                        block.values.fill(1.0);
                        continue;
                    }
                    _ => continue,
                };
                for row in block.values.chunks_mut(96) {
                    row.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
                    for (i, plane) in row.chunks_mut(2).enumerate() {
                        let (sin, cos) = (i as f32).sin_cos();
                        (plane[0], plane[1]) =
                            (cos * plane[0] - sin * plane[1], sin * plane[0] + cos * plane[1]);
                    }
                }
            }
        }
        let with_final_norm = |model: &Model| {
            let mut model = model.clone();
            let mut last = model.layers[0].iter().find(|b| b.position.role.is_norm()).unwrap().clone();
            last.position = Position::main(Role::FinalNorm, 0);
            model.outside.push(last);
            gram(&model)
        };
        let turned = with_final_norm(&model).against(&with_final_norm(&folded));
        assert!(turned.value > 0.95, "{turned:?}");
    }

    #[test]
    fn they_follow_the_square_of_the_correlation_and_the_root_of_the_kept_part() {
        let model = Model::random(2, 8, 256);
        let of_model = gram(&model);
        for r in [0.9f32, 0.7] {
            let value = of_model.against(&gram(&model.tuned(r, 5).permuted(3))).value;
            assert!((value - f64::from(r * r)).abs() < 0.15, "{r}: {value}");
        }
        for kept in [192, 128] {
            let chosen: Vec<usize> = (0..kept).map(|i| i * 97 % 256).collect();
            let value = of_model.against(&gram(&model.with_dimensions(&chosen))).value;
            assert!((value - (kept as f64 / 256.0).sqrt()).abs() < 0.15, "{kept}: {value}");
        }
        let deeper = of_model.against(&gram(&model.keep_layers(&[0, 2, 4, 6])));
        assert!(deeper.value > 0.4, "{deeper:?}");
    }

    #[test]
    fn no_more_is_improbable_than_the_signs_of_the_rows() {
        let few = gram(&Model::random(3, 2, 96));
        let same = few.against(&few);
        assert!((same.value - 1.0).abs() < 1e-9);
        // Tails of the normal distribution are a little less than e^(-z^2/2).
        let least = -f64::from(few.rows) * std::f64::consts::LN_2;
        assert!(same.ln_p() > least - 4.0 && same.ln_p() < 0.8 * least, "{} {least}", same.ln_p());
    }

    #[test]
    fn layers_that_repeat_each_other_are_no_evidence() {
        // One layer throughout, up to a little noise: whatever sign a cosine has, it has in every layer.
        let shared: Vec<GramSketch> = (0..12)
            .map(|seed| gram(&Model::random(seed, 8, 96).keep_layers(&[3; 8]).tuned(0.99, 100 + seed)))
            .collect();
        for (i, a) in shared.iter().enumerate() {
            for b in &shared[..i] {
                assert!(a.against(b).z().abs() < 4.5, "{:?}", a.against(b));
            }
        }
    }

    #[test]
    fn too_few_rows_have_none() {
        let mut model = Model::random(1, 2, 96);
        model.layers.iter_mut().for_each(|layer| layer.retain(|b| b.position.role == Role::Down));
        assert!(model.samples().row_gram().is_none());
        let of = gram(&Model::random(1, 2, 96));
        assert!(matches!(stored(None, Some(&of)), Signal::Absent(_)));
    }
}
