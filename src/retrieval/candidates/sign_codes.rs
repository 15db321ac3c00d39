//! Exact search among representatives, by hidden size: who has the same weights in the same places.
//!
//! Vectors of different hidden sizes are orthogonal by construction, so only representatives of the query's size are
//! looked at. Of each the sign code is compared first, an eighth of the bytes: only one in a hundred unrelated ones comes
//! as near as 475 differing signs, and the inner product decides among those. A representative with a correlation of .2
//! misses it in one of thirty cases, one with .25 in one of five hundred, one with .3 in one of twenty thousand.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::features::Features;
use super::source::Candidates;
use crate::retrieval::hits::{self, Hit};
use crate::retrieval::query::SearchMode;
use crate::retrieval::vector::{self, Code, Vector};

/// Most differing signs that are looked at further: chance differs in 512 with a standard deviation of 16, and one
/// in a hundred lies 2.3 deviations below.
const FARTHEST: u32 = 475;
/// Least cosine of a hit: three standard deviations of chance, and what the least correlation that counts as
/// descent gives.
const LEAST_COSINE: f32 = 0.1;

/// Representatives of one hidden size.
#[derive(Debug, Default)]
struct Width {
    numbers: Vec<u32>,
    codes: Vec<Code>,
    norms: Vec<f32>,
    vectors: Vec<Vector>,
}

/// Representatives by their retrieval vectors, which are kept here.
#[derive(Debug, Default)]
pub struct SignCodes {
    /// By hidden size, in the order in which they came.
    widths: BTreeMap<u32, Width>,
    /// The smallest number.
    first: u32,
    /// From that one on: the hidden size, and the place among those of that size.
    places: Vec<(u32, u32)>,
}

impl SignCodes {
    /// Makes room for so many more numbers, of which this is the smallest.
    fn reserve(&mut self, smallest: u32, more: usize) {
        if self.places.is_empty() {
            self.first = smallest;
        }
        debug_assert_eq!(
            smallest as usize,
            self.first as usize + self.places.len(),
            "numbers follow one another"
        );
        self.places.resize(self.places.len() + more, (0, 0));
    }

    fn push(&mut self, number: u32, features: &Features, code: Code, norm: f32) {
        let width = self.widths.entry(features.hidden_size).or_default();
        self.places[(number - self.first) as usize] = (features.hidden_size, width.numbers.len() as u32);
        width.numbers.push(number);
        width.codes.push(code);
        width.norms.push(norm);
        width.vectors.push(features.vector);
    }

    /// The vector of a representative that was added.
    pub fn vector(&self, number: u32) -> &Vector {
        let (hidden_size, at) = self.places[(number - self.first) as usize];
        &self.widths[&hidden_size].vectors[at as usize]
    }
}

impl Candidates for SignCodes {
    fn add(&mut self, number: u32, features: &Features) {
        self.reserve(number, 1);
        self.push(number, features, vector::code_of(&features.vector), vector::norm(&features.vector));
    }

    fn extend(&mut self, all: &[(u32, Features)]) {
        let Some(smallest) = all.iter().map(|(number, _)| *number).min() else { return };
        self.reserve(smallest, all.len());
        let made: Vec<(Code, f32)> =
            all.par_iter().map(|(_, f)| (vector::code_of(&f.vector), vector::norm(&f.vector))).collect();
        for ((number, features), (code, norm)) in all.iter().zip(made) {
            self.push(*number, features, code, norm);
        }
    }

    /// By the cosine of the retrieval vectors.
    fn propose(&self, query: &Features, k: usize, mode: SearchMode) -> Vec<Hit> {
        let Some(width) = self.widths.get(&query.hidden_size) else { return Vec::new() };
        let (code, norm) = (vector::code_of(&query.vector), vector::norm(&query.vector));
        let farthest = if mode == SearchMode::Exact { u32::MAX } else { FARTHEST };
        let passing = width.codes.iter().enumerate().filter(|(_, c)| vector::distance(&code, c) <= farthest);
        let hits = passing.map(|(i, _)| {
            let number = width.numbers[i];
            let dot = vector::dot(&query.vector, &width.vectors[i]);
            Hit { number, cosine: dot as f32 / (norm * width.norms[i]) }
        });
        hits::nearest(hits.filter(|hit| hit.cosine >= LEAST_COSINE), k)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::signals::fingerprint::VECTOR_DIMENSIONS;
    use crate::signals::sketch::quantise;
    use crate::signals::testing::gaussian;

    fn noise(rng: &mut ChaCha8Rng) -> [f32; VECTOR_DIMENSIONS] {
        std::array::from_fn(|_| gaussian(rng))
    }

    fn features(values: &[f32; VECTOR_DIMENSIONS]) -> Features {
        Features { hidden_size: 64, vector: quantise(values), gram: None }
    }

    #[test]
    fn the_codes_let_through_what_the_exact_search_finds() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<_> = (0..400).map(|_| noise(&mut rng)).collect();
        let mut codes = SignCodes::default();
        for (number, values) in (0..).zip(&all) {
            codes.add(number, &features(values));
        }
        let mut missed = 0;
        for (number, v) in (0..).zip(&all) {
            let near = std::array::from_fn(|j| 0.3 * v[j] + (1.0f32 - 0.09).sqrt() * gaussian(&mut rng));
            let query = features(&near);
            let exact = codes.propose(&query, 3, SearchMode::Exact);
            assert_eq!(exact[0].number, number);
            assert!((exact[0].cosine - 0.3).abs() < 0.15);
            missed += usize::from(codes.propose(&query, 3, SearchMode::Usual).first() != exact.first());
        }
        assert!(missed <= 2, "{missed} of 400");
        let wider = Features { hidden_size: 65, ..features(&all[0]) };
        assert!(codes.propose(&wider, 3, SearchMode::Usual).is_empty(), "another hidden size");
    }
}
