//! Which layer of one model is which layer of the other: the best order-keeping match of two stacks.

use super::signal::Effect;

/// A layer of a, the layer of b that stands against it, and the z of the two.
pub type LayerPair = (u16, u16, f64);

/// Two stacks, layer by layer.
#[derive(Clone, Debug)]
pub(super) struct LayerMap {
    /// The layers that stand against each other, from the first to the last.
    pub(super) layers: Vec<LayerPair>,
    /// What they have in common.
    pub(super) effect: Effect,
}

/// One matched pair of layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Index into the rows of the matrix.
    pub a: usize,
    /// Index into its columns.
    pub b: usize,
    /// z of this pair.
    pub z: f64,
}

/// The strictly increasing matching that maximises the sum of squared positive z, by dynamic programming
/// (as in sequence alignment: skipping a layer costs nothing, and a layer is matched at most once).
pub fn align(z: &[Vec<f64>]) -> Vec<Match> {
    let rows = z.len();
    let columns = z.first().map_or(0, Vec::len);
    let gain = |i: usize, j: usize| z[i][j].max(0.0).powi(2);
    let mut best = vec![vec![0.0f64; columns + 1]; rows + 1];
    for i in 1..=rows {
        for j in 1..=columns {
            best[i][j] = (best[i - 1][j - 1] + gain(i - 1, j - 1)).max(best[i - 1][j]).max(best[i][j - 1]);
        }
    }
    let (mut i, mut j) = (rows, columns);
    let mut path = Vec::new();
    while i > 0 && j > 0 {
        if best[i][j] <= best[i - 1][j] {
            i -= 1;
        } else if best[i][j] <= best[i][j - 1] {
            j -= 1;
        } else {
            (i, j) = (i - 1, j - 1);
            path.push(Match { a: i, b: j, z: z[i][j] });
        }
    }
    path.reverse();
    path
}

/// `ln` of the number of order-keeping matchings of `n` pairs between stacks of `a` and `b` layers: what the
/// best of them has been chosen from.
pub fn ln_matchings(a: usize, b: usize, n: usize) -> f64 {
    ln_choose(a, n) + ln_choose(b, n)
}

fn ln_choose(n: usize, k: usize) -> f64 {
    let ln_factorial = |x: usize| libm::lgamma(x as f64 + 1.0);
    if k > n { 0.0 } else { ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(z: &[Vec<f64>]) -> Vec<(usize, usize)> {
        align(z).into_iter().map(|m| (m.a, m.b)).collect()
    }

    #[test]
    fn every_second_layer() {
        let mut z = vec![vec![-0.5; 6]; 3];
        for i in 0..3 {
            z[i][2 * i] = 12.0;
        }
        assert_eq!(pairs(&z), [(0, 0), (1, 2), (2, 4)]);
    }

    #[test]
    fn order_is_kept() {
        // Crossing matches: only the heavier can stay.
        let z = vec![vec![0.0, 9.0], vec![8.0, 0.0]];
        assert_eq!(pairs(&z), [(0, 1)]);
    }

    #[test]
    fn nothing_positive_matches_nothing() {
        assert!(pairs(&[vec![-1.0, -2.0], vec![-3.0, -1.0]]).is_empty());
        assert!(align(&[]).is_empty());
    }

    #[test]
    fn counts() {
        assert!((ln_matchings(4, 8, 4) - 70f64.ln()).abs() < 1e-9);
        assert!(ln_matchings(5, 5, 5).abs() < 1e-9);
    }
}
