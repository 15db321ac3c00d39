//! Exact search among family heads, by hidden size; and by the products of rows ([`super::moved`]).
//!
//! Vectors of different hidden sizes are orthogonal by construction, so only heads of the query's size are looked
//! at. Of each the sign code is compared first, an eighth of the bytes: only one in a hundred unrelated heads comes as
//! near as 475 differing signs, and the inner product decides among those. A head with a correlation of .2 misses it
//! in one of thirty cases, one with .25 in one of five hundred, one with .3 in one of twenty thousand.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use rayon::prelude::*;

use super::moved::{Moved, Signs};
use super::vector::{self, Code, Vector};
use crate::signals::gram::GramSketch;

/// Most differing signs that are looked at further: chance differs in 512 with a standard deviation of 16, and one
/// in a hundred lies 2.3 deviations below.
const FARTHEST: u32 = 475;
/// Least cosine of a hit: three standard deviations of chance, and what the least correlation that counts as
/// descent gives.
const LEAST_COSINE: f32 = 0.1;

/// A number and its cosine with the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Of a head, or of a content.
    pub number: u32,
    /// -1..=1.
    pub cosine: f32,
}

impl Eq for Hit {}

impl Ord for Hit {
    /// Nearest first; of equals the one with the smaller number, so that the order is always the same.
    fn cmp(&self, other: &Self) -> Ordering {
        other.cosine.total_cmp(&self.cosine).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` nearest of some hits, nearest first.
pub fn nearest(hits: impl Iterator<Item = Hit>, k: usize) -> Vec<Hit> {
    nearest_of(hits, k, |_| true)
}

/// The same of those that are wanted, which is only asked of such as would be among them.
pub fn nearest_of(hits: impl Iterator<Item = Hit>, k: usize, is_wanted: impl Fn(&Hit) -> bool) -> Vec<Hit> {
    // The farthest of those kept is on top.
    let mut kept: BinaryHeap<Hit> = BinaryHeap::new();
    for hit in hits {
        let is_near = kept.len() < k || kept.peek().is_some_and(|farthest| hit < *farthest);
        if is_near && is_wanted(&hit) {
            kept.push(hit);
            if kept.len() > k {
                kept.pop();
            }
        }
    }
    kept.into_sorted_vec()
}

/// Heads of one hidden size.
#[derive(Debug, Default)]
struct Width {
    numbers: Vec<u32>,
    codes: Vec<Code>,
    norms: Vec<f32>,
}

/// All heads, numbered in the order in which they are added.
#[derive(Debug, Default)]
pub struct Heads {
    widths: BTreeMap<u32, Width>,
    vectors: Vec<Vector>,
    moved: Moved,
}

/// What a head is searched by.
#[derive(Clone, Copy, Debug)]
pub struct Searched {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// The retrieval vector.
    pub vector: Vector,
    /// The signs of its products, where it has any.
    pub products: Option<Signs>,
}

impl Heads {
    /// Adds a head.
    pub fn add(&mut self, head: &Searched) {
        self.push(head, vector::code_of(&head.vector), vector::norm(&head.vector));
    }

    /// Adds many heads at once.
    pub fn extend(&mut self, all: Vec<Searched>) {
        let made: Vec<(Code, f32)> =
            all.par_iter().map(|head| (vector::code_of(&head.vector), vector::norm(&head.vector))).collect();
        self.vectors.reserve(all.len());
        for (head, (code, norm)) in all.into_iter().zip(made) {
            self.push(&head, code, norm);
        }
    }

    fn push(&mut self, head: &Searched, code: Code, norm: f32) {
        let number = self.vectors.len() as u32;
        let width = self.widths.entry(head.hidden_size).or_default();
        width.numbers.push(number);
        width.codes.push(code);
        width.norms.push(norm);
        self.vectors.push(head.vector);
        if let Some(signs) = &head.products {
            self.moved.add(number, signs);
        }
    }

    /// The vector of a head.
    pub fn vector(&self, number: u32) -> &Vector {
        &self.vectors[number as usize]
    }

    /// The `k` nearest heads of this hidden size, nearest first. With `exact` every one of them is looked at.
    pub fn nearest(&self, hidden_size: u32, query: &Vector, k: usize, exact: bool) -> Vec<Hit> {
        let Some(width) = self.widths.get(&hidden_size) else { return Vec::new() };
        let (code, norm) = (vector::code_of(query), vector::norm(query));
        let farthest = if exact { u32::MAX } else { FARTHEST };
        let passing = width.codes.iter().enumerate().filter(|(_, c)| vector::distance(&code, c) <= farthest);
        let hits = passing.map(|(i, _)| {
            let number = width.numbers[i];
            Hit { number, cosine: vector::dot(query, self.vector(number)) as f32 / (norm * width.norms[i]) }
        });
        nearest(hits.filter(|hit| hit.cosine >= LEAST_COSINE), k)
    }

    /// The `k` nearest heads of any hidden size by the products of their rows, with the correlation of these.
    pub fn nearest_moved(&self, products: Option<&GramSketch>, k: usize, exact: bool) -> Vec<Hit> {
        products.map_or_else(Vec::new, |products| self.moved.nearest(products, k, exact))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::signals::fingerprint::VECTOR_DIMENSIONS;
    use crate::signals::testing::gaussian;

    fn noise(rng: &mut ChaCha8Rng) -> [f32; VECTOR_DIMENSIONS] {
        std::array::from_fn(|_| gaussian(rng))
    }

    fn bytes(values: &[f32; VECTOR_DIMENSIONS]) -> Vector {
        crate::signals::sketch::quantise(values)
    }

    #[test]
    fn the_filter_finds_what_the_exact_scan_finds() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<_> = (0..400).map(|_| noise(&mut rng)).collect();
        let mut heads = Heads::default();
        for v in &all {
            heads.add(&Searched { hidden_size: 64, vector: bytes(v), products: None });
        }
        let mut missed = 0;
        for (i, v) in all.iter().enumerate() {
            let near = std::array::from_fn(|j| 0.3 * v[j] + (1.0f32 - 0.09).sqrt() * gaussian(&mut rng));
            let exact = heads.nearest(64, &bytes(&near), 3, true);
            assert_eq!(exact[0].number, i as u32);
            assert!((exact[0].cosine - 0.3).abs() < 0.15);
            missed += usize::from(heads.nearest(64, &bytes(&near), 3, false).first() != exact.first());
        }
        assert!(missed <= 2, "{missed} of 400");
        assert!(heads.nearest(65, &bytes(&all[0]), 3, false).is_empty(), "another hidden size");
    }

    #[test]
    fn the_nearest_come_in_order() {
        let hit = |number, cosine| Hit { number, cosine };
        let hits = [hit(5, 0.5), hit(1, 0.9), hit(3, 0.5), hit(2, 0.1)];
        assert_eq!(nearest(hits.into_iter(), 3), [hit(1, 0.9), hit(3, 0.5), hit(5, 0.5)]);
        assert!(nearest(hits.into_iter(), 0).is_empty());
        assert_eq!(nearest_of(hits.into_iter(), 2, |hit| hit.number > 2), [hit(3, 0.5), hit(5, 0.5)]);
    }
}
