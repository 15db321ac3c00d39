//! A model as a weighted sum of suspected parents.
//!
//! With parents `x_0 .. x_k` the shares are the least-squares solution of `y - x_0 = sum b_i (x_i - x_0)` over all
//! sampled values, the share of `x_0` being what is left to 1. A linear merge leaves rounding unexplained; a
//! fine-tune of one parent gives the others nothing, because independent task vectors are nearly orthogonal.

use std::collections::BTreeMap;

use super::blocks::Block;
use super::dot::dot;
use super::roles::Position;
use super::samples::Samples;

/// Most parents, the first among them.
pub const MOST_PARENTS: usize = 8;
/// Least share of a parent that counts.
const LEAST_SHARE: f64 = 0.05;
/// Largest part that may stay unexplained in a merge.
const MOST_UNEXPLAINED: f64 = 0.1;

/// The solution.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// One for each parent, in their order; they add up to 1.
    pub shares: Vec<f64>,
    /// Part of the distance to the nearest parent (squared) that the sum does not explain.
    pub unexplained: f64,
    /// Blocks that entered.
    pub blocks: usize,
}

impl Shares {
    /// Whether this is a merge: at least two parents have a part in it, and little stays unexplained.
    pub fn is_merge(&self) -> bool {
        self.unexplained <= MOST_UNEXPLAINED && self.shares.iter().filter(|s| **s >= LEAST_SHARE).count() > 1
    }
}

/// Why there is no solution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Fewer than two parents, or more than [`MOST_PARENTS`].
    #[error("{0} suspected parents; 2 to {MOST_PARENTS} can be told apart")]
    Parents(usize),
    /// The models have no blocks in common.
    #[error("the models have no blocks of equal shape in common")]
    NothingInCommon,
    /// Two of the parents are the same, or one is a sum of the others.
    #[error("the suspected parents cannot be told apart")]
    Singular,
}

/// The shares of the parents in `y`.
pub fn shares(y: &Samples, parents: &[&Samples]) -> Result<Shares, MergeError> {
    if !(2..=MOST_PARENTS).contains(&parents.len()) {
        return Err(MergeError::Parents(parents.len()));
    }
    let tables: Vec<BTreeMap<(Position, u64), &Block>> = parents
        .iter()
        .map(|p| p.blocks.iter().map(|block| ((block.position, block.start), block)).collect())
        .collect();
    let n = parents.len() - 1;
    let (mut normal, mut right) = (vec![vec![0.0f64; n]; n], vec![0.0f64; n]);
    let mut distances = vec![0.0f64; parents.len()];
    let mut blocks = 0;
    for block in &y.blocks {
        let of_parents: Option<Vec<&Block>> = tables
            .iter()
            .map(|table| {
                let found = *table.get(&(block.position, block.start))?;
                (found.columns == block.columns && found.values.len() == block.values.len()).then_some(found)
            })
            .collect();
        let Some(of_parents) = of_parents else { continue };
        let first = &of_parents[0].values;
        // Blocks count alike, whatever the size of their weights.
        let weight = 1.0 / f64::from(dot(first, first)).max(f64::MIN_POSITIVE);
        let minus = |x: &[f32], y: &[f32]| -> Vec<f32> { x.iter().zip(y).map(|(x, y)| x - y).collect() };
        let target = minus(&block.values, first);
        let directions: Vec<Vec<f32>> = of_parents[1..].iter().map(|p| minus(&p.values, first)).collect();
        for (i, x) in directions.iter().enumerate() {
            right[i] += weight * f64::from(dot(x, &target));
            for (j, y) in directions.iter().enumerate() {
                normal[i][j] += weight * f64::from(dot(x, y));
            }
        }
        for (distance, parent) in distances.iter_mut().zip(&of_parents) {
            let difference = minus(&block.values, &parent.values);
            *distance += weight * f64::from(dot(&difference, &difference));
        }
        blocks += 1;
    }
    if blocks == 0 {
        return Err(MergeError::NothingInCommon);
    }
    let rest = solve(normal, right.clone()).ok_or(MergeError::Singular)?;
    let explained: f64 = rest.iter().zip(&right).map(|(b, r)| b * r).sum();
    let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let left = (distances[0] - explained).max(0.0);
    let mut shares = vec![1.0 - rest.iter().sum::<f64>()];
    shares.extend(rest);
    // A model that is one of its parents leaves nothing to explain.
    let unexplained = if nearest > 0.0 { left / nearest } else { 0.0 };
    Ok(Shares { shares, unexplained, blocks })
}

/// Gaussian elimination with pivoting; `None` for a singular matrix.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    let largest = a.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
    for column in 0..n {
        let pivot = (column..n).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs()))?;
        if a[pivot][column].abs() <= 1e-9 * largest {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        let (above, below) = a.split_at_mut(column + 1);
        let row = &above[column];
        let value = b[column];
        for (other, right) in below.iter_mut().zip(&mut b[column + 1..]) {
            let factor = other[column] / row[column];
            other.iter_mut().zip(row).for_each(|(v, r)| *v -= factor * r);
            *right -= factor * value;
        }
    }
    for column in (0..n).rev() {
        let known: f64 = (column + 1..n).map(|j| a[column][j] * b[j]).sum();
        b[column] = (b[column] - known) / a[column][column];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Model;
    use super::*;

    fn merged(parts: &[(&Model, f32)]) -> Samples {
        let mut sum = parts[0].0.clone();
        let blocks = |m: &Model| m.layers.iter().flatten().chain(&m.outside).cloned().collect::<Vec<_>>();
        let sources: Vec<Vec<Block>> = parts.iter().map(|(m, _)| blocks(m)).collect();
        for (i, block) in sum.layers.iter_mut().flatten().chain(&mut sum.outside).enumerate() {
            for (k, v) in block.values.iter_mut().enumerate() {
                *v = sources.iter().zip(parts).map(|(s, (_, share))| share * s[i].values[k]).sum();
            }
        }
        sum.samples()
    }

    #[test]
    fn shares_of_a_merge_are_found() {
        let base = Model::random(1, 4, 96);
        let parents = [base.tuned(0.97, 1), base.tuned(0.97, 2), base.tuned(0.97, 3)];
        let y = merged(&[(&parents[0], 0.5), (&parents[1], 0.3), (&parents[2], 0.2)]);
        let samples: Vec<Samples> = parents.iter().map(Model::samples).collect();
        let found = shares(&y, &samples.iter().collect::<Vec<_>>()).unwrap();
        for (share, truth) in found.shares.iter().zip([0.5, 0.3, 0.2]) {
            assert!((share - truth).abs() < 1e-3, "{found:?}");
        }
        assert!(found.is_merge() && found.unexplained < 1e-6);
    }

    #[test]
    fn a_fine_tune_owes_its_siblings_nothing() {
        let base = Model::random(1, 4, 96);
        let (child, sibling) = (base.tuned(0.97, 1).samples(), base.tuned(0.97, 2).samples());
        let found = shares(&child, &[&base.samples(), &sibling]).unwrap();
        assert!(found.shares[1].abs() < 0.05 && !found.is_merge(), "{found:?}");
    }

    #[test]
    fn what_cannot_be_solved_is_said() {
        let (a, b) = (Model::random(1, 2, 64).samples(), Model::random(1, 2, 96).samples());
        assert_eq!(shares(&a, &[&a]), Err(MergeError::Parents(1)));
        assert_eq!(shares(&a, &[&b, &b]), Err(MergeError::NothingInCommon));
        assert_eq!(shares(&a, &[&a, &a]), Err(MergeError::Singular));
    }
}
