//! Which layer of one model is which layer of the other: the best order-keeping match of two stacks, and the layers of
//! the deeper one that repeat others.

use std::cmp::Ordering;

use super::normal;
use super::signal::Effect;

/// A layer of a, the layer of b that stands against it, and the z of the two.
pub type LayerPair = (u16, u16, f64);

/// Two stacks, layer by layer.
#[derive(Clone, Debug)]
pub(super) struct LayerMap {
    /// The layers that stand against each other, from the first to the last; see [`with_repeats`].
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

/// Largest p-value, corrected for all pairs of layers, of a layer that repeats another: one in 100,000 comparisons.
const REPEATED: f64 = 1e-5;

/// The order-keeping match `path` and, of the deeper stack, the layers beside it that are a layer of the other stack,
/// too: a stack that was built of copies of its parent's layers has some (SOLAR, a self-merge, LLaMA-Pro). The layer
/// that such a one repeats is the one with the largest z, which has to be significant among all pairs, and no
/// smaller than half of what the matched layers typically have. `depths` are those of the stacks, of which `z` may
/// have a part.
pub(super) fn with_repeats(z: &[Vec<f64>], path: &[Match], depths: (u16, u16)) -> Vec<Match> {
    let (rows, columns) = (z.len(), z.first().map_or(0, Vec::len));
    let ln_pairs = ((rows * columns).max(1) as f64).ln();
    let mut of_path: Vec<f64> = path.iter().map(|m| m.z).collect();
    of_path.sort_by(f64::total_cmp);
    let typical = of_path.get(of_path.len() / 2).copied().unwrap_or(0.0);
    let is_repeat =
        |m: &Match| m.z >= typical / 2.0 && normal::ln_upper_tail(m.z) + ln_pairs <= REPEATED.ln();
    let of_a = match depths.0.cmp(&depths.1) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => return path.to_vec(),
    };
    let (deeper, other) = if of_a { (rows, columns) } else { (columns, rows) };
    let pair = |deep: usize, layer: usize| {
        let (a, b) = if of_a { (deep, layer) } else { (layer, deep) };
        Match { a, b, z: z[a][b] }
    };
    let deep = |m: &Match| if of_a { m.a } else { m.b };
    let beside = (0..deeper).filter(|layer| path.iter().all(|m| deep(m) != *layer));
    let nearest = |layer| (0..other).map(|of| pair(layer, of)).max_by(|x, y| x.z.total_cmp(&y.z));
    let mut all = path.to_vec();
    all.extend(beside.filter_map(nearest).filter(is_repeat));
    all.sort_by_key(deep);
    all
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
    fn layers_that_repeat_others_are_added() {
        // Layers 0 1 2 1 2 3 of a stack of four, seen from both sides; layer 5 is one that nothing is like.
        let used = [0, 1, 2, 1, 2, 3];
        let z: Vec<Vec<f64>> =
            used.iter().map(|u| (0..4).map(|b| if b == *u { 12.0 } else { 0.3 }).collect()).collect();
        let found = |z: &[Vec<f64>], depths| -> Vec<(usize, usize)> {
            with_repeats(z, &align(z), depths).into_iter().map(|m| (m.a, m.b)).collect()
        };
        let expected: Vec<(usize, usize)> = used.iter().copied().enumerate().collect();
        assert_eq!(found(&z, (6, 4)), expected);
        let turned: Vec<Vec<f64>> = (0..4).map(|b| z.iter().map(|row| row[b]).collect()).collect();
        assert_eq!(found(&turned, (4, 6)), expected.iter().map(|(a, b)| (*b, *a)).collect::<Vec<_>>());
        // Neither a pruned stack nor chance adds any.
        let pruned = vec![vec![12.0, 0.0, 0.1, 3.0], vec![0.0, 0.2, 12.0, 0.1]];
        assert_eq!(found(&pruned, (2, 4)), [(0, 0), (1, 2)]);
    }

    #[test]
    fn counts() {
        assert!((ln_matchings(4, 8, 4) - 70f64.ln()).abs() < 1e-9);
        assert!(ln_matchings(5, 5, 5).abs() < 1e-9);
    }
}
