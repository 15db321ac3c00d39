//! The rank of the difference between two models: a merged LoRA adapter leaves one of a few dozen.

use super::blocks::{Block, Blocks};
use super::dot::dot;
use super::evidence::Delta;

/// Fewest rows of a block from which a low rank can be told.
const LEAST_ROWS: usize = 32;
/// Most rows that are looked at: ranks up to 40 are told.
const MOST_ROWS: usize = 160;
/// Part of the difference's energy that its rank has to explain; the rest is rounding of the stored sum.
const EXPLAINED: f64 = 0.95;

/// The numerical rank of the difference, over blocks of at least [`LEAST_ROWS`] rows that both models have and
/// that differ. `None` where there is no such block.
pub(super) fn delta(a: &Blocks, b: &Blocks) -> Option<Delta> {
    let mut found: Option<Delta> = None;
    for block in a.blocks.iter().filter(|x| x.position.role.is_matrix()) {
        let same = |y: &&Block| {
            (y.position, y.start, y.columns) == (block.position, block.start, block.columns)
                && y.values.len() == block.values.len()
        };
        let rows = (block.values.len() / block.columns).min(MOST_ROWS);
        let Some(other) = b.blocks.iter().find(same).filter(|_| rows >= LEAST_ROWS) else { continue };
        let difference: Vec<f32> =
            block.values.iter().zip(&other.values).take(rows * block.columns).map(|(x, y)| x - y).collect();
        if let rank @ 1.. = rank(difference, block.columns) {
            let so_far = found.unwrap_or(Delta { rank: 0, rows: usize::MAX });
            found = Some(Delta { rank: so_far.rank.max(rank), rows: so_far.rows.min(rows) });
        }
    }
    found
}

/// Numerical rank of rows one after the other: Gram-Schmidt, the largest remaining row first, until
/// [`EXPLAINED`] of the energy is gone. An upper bound of the rank that a singular value decomposition finds.
/// Beyond a quarter of the rows it stops: that is no low rank.
fn rank(mut values: Vec<f32>, columns: usize) -> usize {
    let mut rows: Vec<(f32, &mut [f32])> =
        values.chunks_exact_mut(columns).map(|row| (dot(row, row), row)).collect();
    let energy = |rows: &[(f32, &mut [f32])]| rows.iter().map(|(e, _)| f64::from(*e)).sum::<f64>();
    let (total, most) = (energy(&rows), rows.len() / 4 + 1);
    if !total.is_normal() {
        return 0;
    }
    let mut rank = 0;
    while rank < most && energy(&rows) > (1.0 - EXPLAINED) * total {
        let Some(largest) = (0..rows.len()).max_by(|i, j| rows[*i].0.total_cmp(&rows[*j].0)) else { break };
        let (norm, direction) = rows.swap_remove(largest);
        for (energy, row) in &mut rows {
            let part = dot(row, direction) / norm;
            row.iter_mut().zip(direction.iter()).for_each(|(v, d)| *v -= part * d);
            *energy = dot(row, row);
        }
        rank += 1;
    }
    rank
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::testing::gaussian;
    use super::*;

    #[test]
    fn low_rank_with_rounding_is_found_and_noise_is_full() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (rows, columns, r) = (64, 96, 8);
        let left: Vec<f32> = (0..rows * r).map(|_| gaussian(&mut rng)).collect();
        let right: Vec<f32> = (0..r * columns).map(|_| gaussian(&mut rng)).collect();
        let low: Vec<f32> = (0..rows * columns)
            .map(|i| {
                let (row, column) = (i / columns, i % columns);
                let sum: f32 = (0..r).map(|k| left[row * r + k] * right[k * columns + column]).sum();
                sum + 0.2 * gaussian(&mut rng)
            })
            .collect();
        let found = rank(low, columns);
        assert!((6..=12).contains(&found), "{found}");
        let noise: Vec<f32> = (0..rows * columns).map(|_| gaussian(&mut rng)).collect();
        assert_eq!(rank(noise, columns), 17, "more than a quarter of the rows");
        assert_eq!(rank(vec![0.0; 64], 8), 0);
    }
}
