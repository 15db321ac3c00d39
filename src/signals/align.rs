//! Which hidden dimension of one model is which of the other, when they are not in their places.
//!
//! A checkpoint can be laundered without changing what it computes: its hidden dimensions permuted, or
//! rotated where the norm gains are folded away; and width pruning keeps a subset of them. In each case what
//! a dimension *says about known tokens* stays. So the alignment is estimated from one part of the model (the
//! embedding rows of common tokens, or the norm gains) and tested on the others, which it has not seen.
//!
//! Tables of two independent models may be alike up to a rotation, because tokens mean the same
//! to both; but a rotation maps no single dimension to a single dimension. So a one-to-one match of dimensions
//! cannot come from shared semantics. Before matching, the table is whitened: a few directions (token
//! frequency above all) dominate any embedding and make all dimensions look alike.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::blocks::Blocks;
use super::columns::standardise;
use super::matching::{self, Matching};
use super::normal::{self, Scores};
use super::roles::Position;
use super::units::Basis;

/// Most tokens that enter, and never more than there are dimensions; the cost of whitening grows with the
/// cube of it.
const MOST_TOKENS: usize = 256;
/// Fewest common tokens from which dimensions can be told apart: chance then reaches a cosine of .8 to .9.
const LEAST_TOKENS: usize = 32;
/// Common tokens from which on a permutation that was not found is not there: noise of a correlation of .7
/// still leaves most dimensions above what chance reaches.
const ENOUGH_TOKENS: usize = 64;
/// Newton-Schulz steps of whitening that are tried. Each lifts a weak direction by 1.5: after ten steps those of
/// 1/57 of the strongest have full strength, which tells most where copies are exact; after two or five, less of
/// what noise there is was lifted with them.
const WHITENING_STEPS: [usize; 3] = [2, 5, 10];
/// Matched dimensions from which on models are not called independent. A thousandth of one is expected by chance,
/// so two are one case in two million; they may be privileged dimensions that unrelated models have too.
pub(super) const NOTABLE_MATCHES: usize = 2;
/// Least share of matched dimensions for an alignment that is worth testing. Tests on fewer would rest on
/// outlier dimensions alone.
const LEAST_SHARE: f64 = 0.1;
/// Fewest norm gains from which a point cloud tells dimensions apart.
const LEAST_GAINS: usize = 4;
/// A point counts as the same one when it is nearer than this part of its neighbour's own spacing.
const NEARER: f32 = 0.5;
/// Share of matched dimensions from which on no rotation is looked for: it would map no single dimension to a
/// single one.
const NO_ROTATION: f64 = 0.5;

/// Embedding rows of tokens that both models have.
pub(super) struct CommonTokens {
    /// Unit rows of a, n x d of a, centred over the tokens.
    a: Array2<f32>,
    /// The same tokens of b, n x d of b.
    b: Array2<f32>,
    /// Whether tokens were matched by their strings; else equal ids were assumed to be equal tokens.
    by_string: bool,
}

/// Two bases in which the models' hidden dimensions correspond.
pub(super) struct Aligned {
    pub(super) a: Basis,
    pub(super) b: Basis,
    /// Dimensions matched, of those that could be.
    pub(super) matched: usize,
    pub(super) possible: usize,
    /// Share of the dimensions matched beyond what the null explains.
    pub(super) share: f64,
    /// Logarithm of the probability of so many matches by chance, where that is told exactly; else minus infinity.
    pub(super) ln_p: f64,
    /// Whether every matched dimension is in its old place.
    pub(super) in_place: bool,
}

impl Aligned {
    fn new(matching: &Matching, share: f64) -> Self {
        Self {
            a: Basis::Dimensions(matching.pairs.iter().map(|p| p.0).collect()),
            b: Basis::Dimensions(matching.pairs.iter().map(|p| p.1).collect()),
            matched: matching.pairs.len(),
            possible: matching.possible,
            share,
            ln_p: f64::NEG_INFINITY,
            in_place: matching.pairs.iter().all(|p| p.0 == p.1),
        }
    }

    /// Whether the dimensions correspond so plainly one to one that they were not rotated.
    pub(super) fn excludes_rotation(&self) -> bool {
        self.share >= NO_ROTATION
    }

    /// Whether enough dimensions are matched to test other tensors on.
    pub(super) fn is_usable(&self) -> bool {
        self.share >= LEAST_SHARE && self.matched >= 16
    }
}

impl CommonTokens {
    /// The common tokens of two models; `Err` with their number where there are too few.
    pub(super) fn find(a: &Blocks, b: &Blocks) -> Result<Self, usize> {
        let by_string = a.tokens.is_some() && b.tokens.is_some();
        let rows = |model: &'_ Blocks| -> BTreeMap<u64, Vec<f32>> {
            let keys = model.tokens.as_deref().filter(|_| by_string);
            let key = |id: u64| {
                if by_string { keys.and_then(|k| k.key(u32::try_from(id).ok()?)) } else { Some(id) }
            };
            let unit = |row: &[f32]| {
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                (norm.is_normal()).then(|| row.iter().map(|v| v / norm).collect::<Vec<f32>>())
            };
            model.embedding().into_iter().filter_map(|(id, row)| Some((key(id)?, unit(row)?))).collect()
        };
        let (of_a, of_b) = (rows(a), rows(b));
        let common: Vec<(&Vec<f32>, &Vec<f32>)> =
            of_a.iter().filter_map(|(key, row)| Some((row, of_b.get(key)?))).collect();
        if common.len() < LEAST_TOKENS {
            return Err(common.len());
        }
        let n = common.len().min(MOST_TOKENS).min(a.hidden_size).min(b.hidden_size);
        let chosen: Vec<_> = (0..n).map(|i| common[i * common.len() / n]).collect();
        let table = |d: usize, rows: Vec<&Vec<f32>>| {
            Array2::from_shape_vec((rows.len(), d), rows.into_iter().flatten().copied().collect()).ok()
        };
        let tables = table(a.hidden_size, chosen.iter().map(|c| c.0).collect())
            .zip(table(b.hidden_size, chosen.iter().map(|c| c.1).collect()));
        let Some((a, b)) = tables else { return Err(0) };
        Ok(Self { a: centred(a), b: centred(b), by_string })
    }

    /// Whether a copy with permuted dimensions would have been seen.
    pub(super) fn is_conclusive(&self) -> bool {
        self.by_string && self.len() >= ENOUGH_TOKENS
    }

    /// Tokens that entered.
    fn len(&self) -> usize {
        self.a.nrows()
    }

    /// Dimensions of a that are dimensions of b, one to one; and both hidden spaces as seen from the tokens, which
    /// are equal for models that differ by a rotation, at several strengths of whitening.
    pub(super) fn align(&self) -> (Aligned, Vec<(Basis, Basis)>) {
        let (of_a, of_b) = rayon::join(|| whitened(&self.a), || whitened(&self.b));
        let mut best: Option<Aligned> = None;
        for (x, y) in of_a.iter().zip(&of_b) {
            let freedom = x.freedom.min(y.freedom).min(self.len() as f64 - 1.0);
            let (columns_x, columns_y) = (unit_columns(&x.rows), unit_columns(&y.rows));
            let matching = matching::mutual(&columns_x.view(), &columns_y.view(), freedom);
            if best.as_ref().is_none_or(|best| matching.share() > best.share) {
                best = Some(Aligned::new(&matching, matching.share()));
            }
        }
        let basis = |Whitened { rows, freedom }| Basis::Tokens { rows, freedom };
        let rotations = of_a.into_iter().zip(of_b).skip(1).map(|(x, y)| (basis(x), basis(y))).collect();
        (best.unwrap_or_else(|| Aligned::new(&Matching::default(), 0.0)), rotations)
    }
}

/// A whitened table of embedding rows.
struct Whitened {
    /// n x d.
    rows: Array2<f32>,
    /// Participation ratio of its spectrum: n where whitening was complete.
    freedom: f64,
}

fn centred(mut x: Array2<f32>) -> Array2<f32> {
    if let Some(mean) = x.mean_axis(Axis(0)) {
        x -= &mean;
    }
    x
}

/// Drives the singular values towards 1 by Newton-Schulz steps (`X <- X (3 - X'X) / 2`; Higham, Functions of
/// Matrices, 2008, ch. 8), on the n x n Gram matrix. One table for each of [`WHITENING_STEPS`].
fn whitened(x: &Array2<f32>) -> Vec<Whitened> {
    let mut gram = x.dot(&x.t());
    let scale = largest_eigenvalue(&gram.view());
    if !scale.is_normal() {
        return Vec::new();
    }
    gram /= scale;
    let mut product = Array2::<f32>::eye(gram.nrows());
    let most = WHITENING_STEPS.iter().copied().max().unwrap_or(0);
    let mut all = Vec::with_capacity(WHITENING_STEPS.len());
    for taken in 1..=most {
        let mut step = &gram * -0.5;
        step.diag_mut().mapv_inplace(|v| v + 1.5);
        product = step.dot(&product);
        gram = step.dot(&gram).dot(&step);
        if WHITENING_STEPS.contains(&taken) {
            let trace = f64::from(gram.diag().sum());
            let squares: f64 = gram.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            let freedom = trace * trace / squares.max(f64::MIN_POSITIVE);
            all.push(Whitened { rows: product.dot(x) / scale.sqrt(), freedom });
        }
    }
    all
}

/// Upper estimate of the largest eigenvalue of a positive semidefinite matrix. A tenth too much does no harm;
/// too little by more than half would make the iteration diverge, and power iteration is never that far off
/// the part of the spectrum that its start vector has.
fn largest_eigenvalue(gram: &ArrayView2<'_, f32>) -> f32 {
    let n = gram.nrows();
    // The row of the largest diagonal entry has a part in the leading direction.
    let start = (0..n).max_by(|i, j| gram[(*i, *i)].total_cmp(&gram[(*j, *j)])).unwrap_or(0);
    let mut v = gram.row(start).to_owned();
    let mut value = 0.0;
    for _ in 0..20 {
        let norm = v.dot(&v).sqrt();
        if !norm.is_normal() {
            return 0.0;
        }
        v /= norm;
        v = gram.dot(&v);
        value = v.dot(&v).sqrt();
    }
    value * 1.1
}

/// The columns as rows of unit length; a column of zeros stays zero and matches nothing.
fn unit_columns(x: &Array2<f32>) -> Array2<f32> {
    let mut columns = x.t().as_standard_layout().into_owned();
    for mut column in columns.rows_mut() {
        let norm = column.dot(&column).sqrt();
        if norm.is_normal() {
            column /= norm;
        }
    }
    columns
}

/// Dimensions matched by their norm gains alone: dimension i is the point of its gains' normal scores, and a
/// permutation moves points without changing them. `None` when the models have too few gains in common or
/// too few that say something.
///
/// The null is that both clouds are drawn from one density. Then a point of the narrower model is nearer to a point of
/// the wider one than [`NEARER`] of that point's own spacing as often as points of the wider one are to each other, and
/// this rate is measured on them: so the wider one, whose points are at least as dense, is always the measure.
/// [`Aligned::share`] is what exceeds the rate. Both counts are small, so how probable they are is told by the exact test
/// of two rates: given their sum, those of the narrower model are binomial. Of the wider one two near points count each
/// other, so that half of its points and matches are taken.
pub(super) fn gain_cloud(a: &Blocks, b: &Blocks) -> Option<Aligned> {
    let (of_a, of_b) = (gains(a), gains(b));
    let common: Vec<(&[f32], &[f32])> =
        of_a.iter().filter_map(|(place, gain)| Some((*gain, *of_b.get(place)?))).collect();
    if common.len() < LEAST_GAINS || common.len() * 2 < of_a.len().max(of_b.len()) {
        return None;
    }
    let cloud = |gains: Vec<&[f32]>| {
        let d = gains.first().map_or(0, |g| g.len());
        let normal = Scores::new(d);
        let scores: Vec<f32> = gains.iter().flat_map(|g| normal.of(g)).collect();
        Some(Array2::from_shape_vec((gains.len(), d), scores).ok()?.t().as_standard_layout().into_owned())
    };
    let a = cloud(common.iter().map(|c| c.0).collect())?;
    let b = cloud(common.iter().map(|c| c.1).collect())?;
    Some(match_clouds(&a, &b))
}

/// Matches the points of two clouds, `d x gains`.
fn match_clouds(a: &Array2<f32>, b: &Array2<f32>) -> Aligned {
    let b_is_wider = b.nrows() > a.nrows();
    let (wide, narrow) = if b_is_wider { (b, a) } else { (a, b) };
    let own = neighbours(wide, wide, true);
    let to_wide = neighbours(narrow, wide, false);
    let to_narrow = neighbours(wide, narrow, false);
    // Left out of the wider one, a point would be matched to its neighbour by chance at this rate.
    let chance = own
        .iter()
        .enumerate()
        .filter(|(i, n)| {
            let other = &own[n.nearest];
            let spacing = if other.nearest == *i { other.second } else { other.distance };
            n.distance < NEARER * spacing
        })
        .count();
    let rate = (chance.max(1) as f64 / own.len() as f64).min(0.5);
    let mut pairs: Vec<(usize, usize, f32)> = to_wide
        .iter()
        .enumerate()
        .filter(|(j, n)| n.distance < NEARER * own[n.nearest].distance && to_narrow[n.nearest].nearest == *j)
        .map(|(j, n)| if b_is_wider { (j, n.nearest, n.distance) } else { (n.nearest, j, n.distance) })
        .collect();
    pairs.sort_by_key(|p| p.0);
    let matching = Matching { pairs, possible: narrow.nrows() };
    let share = ((matching.share() - rate) / (1.0 - rate)).max(0.0);
    let (matched, of_narrow) = (matching.pairs.len() as u64, narrow.nrows() as f64);
    let of_both = of_narrow / (of_narrow + own.len() as f64 / 2.0);
    let ln_p = normal::ln_binomial_tail(matched, matched + (chance as u64).div_ceil(2), of_both);
    Aligned { ln_p, ..Aligned::new(&matching, share) }
}

/// Norm gains over the hidden dimension that are not constant.
fn gains(samples: &Blocks) -> BTreeMap<Position, &[f32]> {
    samples
        .blocks
        .iter()
        .filter(|b| b.position.role.is_norm() && b.columns == samples.hidden_size)
        .filter(|b| standardise(&mut b.values.clone()))
        .map(|b| (b.position, &b.values[..]))
        .collect()
}

/// Whether the norm gains say something: a rotated copy must have constant ones, because a rotation does not
/// commute with gains.
pub(super) fn has_gains(samples: &Blocks) -> bool {
    gains(samples).len() >= LEAST_GAINS
}

struct Neighbour {
    nearest: usize,
    distance: f32,
    second: f32,
}

/// The nearest point of `to` for each point of `from`; with `same`, a point is not its own neighbour.
fn neighbours(from: &Array2<f32>, to: &Array2<f32>, same: bool) -> Vec<Neighbour> {
    const CHUNK: usize = 512;
    let squares: Vec<f32> = to.rows().into_iter().map(|r| r.dot(&r)).collect();
    let mut found = Vec::with_capacity(from.nrows());
    for start in (0..from.nrows()).step_by(CHUNK) {
        let end = (start + CHUNK).min(from.nrows());
        let part = from.slice_axis(Axis(0), Slice::from(start..end));
        let products = part.dot(&to.t());
        for (offset, (point, row)) in part.rows().into_iter().zip(products.rows()).enumerate() {
            let own = point.dot(&point);
            let mut best = Neighbour { nearest: 0, distance: f32::INFINITY, second: f32::INFINITY };
            for (j, product) in row.iter().enumerate() {
                if same && j == start + offset {
                    continue;
                }
                let distance = (own + squares[j] - 2.0 * product).max(0.0);
                if distance < best.distance {
                    best.second = best.distance;
                    (best.nearest, best.distance) = (j, distance);
                } else if distance < best.second {
                    best.second = distance;
                }
            }
            best.distance = best.distance.sqrt();
            best.second = best.second.sqrt();
            found.push(best);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::testing::gaussian;
    use super::*;

    fn cloud(points: usize, gains: usize, rng: &mut ChaCha8Rng) -> Array2<f32> {
        Array2::from_shape_fn((points, gains), |_| gaussian(rng))
    }

    #[test]
    fn independent_clouds_of_any_widths_match_by_chance() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (gains, a, b) in
            [(4, 64, 64), (4, 64, 192), (4, 64, 1024), (8, 64, 192), (8, 64, 1024), (6, 256, 512)]
        {
            const DRAWS: usize = 60;
            let ln_p: Vec<f64> = (0..DRAWS)
                .map(|_| {
                    let (a, b) = (cloud(a, gains, &mut rng), cloud(b, gains, &mut rng));
                    let (found, turned) = (match_clouds(&a, &b), match_clouds(&b, &a));
                    assert!((found.ln_p - turned.ln_p).abs() < 1e-9 || a.nrows() == b.nrows());
                    found.ln_p.min(turned.ln_p)
                })
                .collect();
            // Of sixty at a level of a hundredth .6 are expected, six one time in a hundred thousand.
            let rare = ln_p.iter().filter(|ln_p| **ln_p < 0.01_f64.ln()).count();
            assert!(rare < 6, "{gains} gains, {a} and {b} points: {rare} of {DRAWS}");
        }
    }

    #[test]
    fn points_of_the_same_model_match() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (all, kept) in [(64, 64), (64, 48), (192, 64), (1024, 768)] {
            let whole = cloud(all, 8, &mut rng);
            // Every dimension has another number, and some noise.
            let part = Array2::from_shape_fn((kept, 8), |(i, g)| {
                whole[[(i * 7 + 3) % all, g]] + 0.02 * gaussian(&mut rng)
            });
            for found in [match_clouds(&whole, &part), match_clouds(&part, &whole)] {
                assert!(
                    found.ln_p < 1e-9_f64.ln() && found.share > 0.8,
                    "{all} {kept}: {} {}",
                    found.ln_p,
                    found.share
                );
            }
        }
    }
}
