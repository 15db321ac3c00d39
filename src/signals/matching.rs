//! Which of these vectors are the same ones: mutual best matches that chance does not explain.
//!
//! Used for hidden dimensions (by what they say about tokens), for rows of a matrix, and for MLP neurons. Two
//! independent directions in `n` dimensions have a cosine above `c` with a probability of about
//! `(1 - c^2)^((n-1)/2) / 2` (the beta tail), so the cosine that one pair in all is expected to pass by
//! chance with probability [`CHANCE`] follows from the number of pairs.

use ndarray::{Array2, ArrayView2, Axis, Slice};

/// Expected number of pairs beyond the bound when nothing is related.
const CHANCE: f64 = 1e-3;
/// Vectors of `a` held against all of `b` at once; bounds the memory to this many rows of cosines.
const CHUNK: usize = 512;

/// The result.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matching {
    /// (index in a, index in b, cosine) of mutual best matches above the bound, by index in a.
    pub(super) pairs: Vec<(usize, usize, f32)>,
    /// Matches that there could be.
    pub(super) possible: usize,
}

impl Matching {
    /// Share of the possible matches that were found, 0..=1.
    pub(super) fn share(&self) -> f64 {
        self.pairs.len() as f64 / self.possible.max(1) as f64
    }
}

/// The cosine that chance reaches once in 1 / [`CHANCE`] trials among `pairs` pairs in `n` dimensions; 1 or
/// more where nothing could be told.
pub(super) fn bound(pairs: f64, n: f64) -> f64 {
    if n < 3.0 {
        return 1.0;
    }
    let tail = 2.0 / (n - 1.0) * (CHANCE / pairs.max(1.0)).ln();
    (1.0 - tail.exp()).max(0.0).sqrt()
}

/// Matches the rows of `a` (m x n) with those of `b` (k x n), all of unit length. `freedom` is the dimension of
/// the space they can differ in, at most n.
pub(super) fn mutual(a: &ArrayView2<'_, f32>, b: &ArrayView2<'_, f32>, freedom: f64) -> Matching {
    let (m, k) = (a.nrows(), b.nrows());
    let possible = m.min(k);
    if possible == 0 || a.ncols() != b.ncols() {
        return Matching { pairs: Vec::new(), possible };
    }
    let bound = bound(m as f64 * k as f64, freedom) as f32;
    let mut best_of_a = vec![(0usize, f32::NEG_INFINITY); m];
    let mut best_of_b = vec![(0usize, f32::NEG_INFINITY); k];
    for start in (0..m).step_by(CHUNK) {
        let end = (start + CHUNK).min(m);
        let cosines: Array2<f32> = a.slice_axis(Axis(0), Slice::from(start..end)).dot(&b.t());
        for (row, i) in cosines.rows().into_iter().zip(start..) {
            for (j, c) in row.iter().copied().enumerate() {
                if c > best_of_a[i].1 {
                    best_of_a[i] = (j, c);
                }
                if c > best_of_b[j].1 {
                    best_of_b[j] = (i, c);
                }
            }
        }
    }
    let pairs = best_of_a
        .into_iter()
        .enumerate()
        .filter(|&(i, (j, c))| c >= bound && best_of_b[j].0 == i)
        .map(|(i, (j, c))| (i, j, c))
        .collect();
    Matching { pairs, possible }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    use rand_chacha::ChaCha8Rng;

    use super::super::testing::gaussian;
    use super::*;

    fn unit(rng: &mut ChaCha8Rng, m: usize, n: usize) -> Array2<f32> {
        let mut x = Array2::from_shape_fn((m, n), |_| gaussian(rng));
        for mut row in x.rows_mut() {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        x
    }

    #[test]
    fn unrelated_vectors_do_not_match() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let found: usize = (0..20)
            .map(|_| {
                mutual(&unit(&mut rng, 300, 24).view(), &unit(&mut rng, 200, 24).view(), 24.0).pairs.len()
            })
            .sum();
        assert!(found <= 1, "{found}");
    }

    #[test]
    fn a_shuffled_noisy_subset_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let a = unit(&mut rng, 700, 64);
        let mut kept: Vec<usize> = (0..700).collect();
        kept.shuffle(&mut rng);
        kept.truncate(400);
        let b = Array2::from_shape_fn((400, 64), |(j, i)| a[(kept[j], i)] + 0.03 * gaussian(&mut rng));
        let mut b = b;
        for mut row in b.rows_mut() {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        let matching = mutual(&a.view(), &b.view(), 64.0);
        assert!(matching.share() > 0.99, "{}", matching.share());
        assert!(matching.pairs.iter().all(|&(i, j, _)| kept[j] == i));
    }

    #[test]
    fn the_bound_follows_the_number_of_pairs() {
        assert!(bound(1e8, 32.0) > 0.85 && bound(1e8, 32.0) < 0.95);
        assert!(bound(1e7, 256.0) < 0.5);
        assert!(bound(100.0, 2.0) >= 1.0);
    }
}
