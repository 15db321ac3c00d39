//! Search among representatives whose hidden dimensions may have been permuted, rotated or pruned.
//!
//! Their retrieval vectors say nothing then, but the row Gram matrix (the pairwise cosines of rows) does not change,
//! whatever the hidden size ([`crate::signals::gram`]). Of each representative the 512 signs of its sketch are kept.
//! The first 256 of them are compared first: three in a hundred unrelated ones are as near as `FARTHEST_START`, and one in
//! a hundred thousand as near as `FARTHEST`. A representative whose matrix correlates by .5 with the query's, as those of
//! weights with a correlation of .7 do, is passed over in one of two thousand cases, one by .4 in one of twenty.

use super::features::{Features, GramSigns};
use super::source::Candidates;
use crate::retrieval::hits::{self, Hit};
use crate::retrieval::query::SearchMode;
use crate::retrieval::vector::{correlation, near};

/// Signs of a sketch.
const SIGNS: usize = 64 * 2 * HALF;
/// Words of the first half of its signs.
const HALF: usize = size_of::<GramSigns>() / 16;
/// Most differing signs of the first 256: 1.9 standard deviations of chance below a half.
const FARTHEST_START: u32 = 113;
/// Most differing signs of all: 4.3 standard deviations below, which is a correlation of .3.
const FARTHEST: u32 = 207;

/// Representatives by their row Gram matrices, those that have one.
#[derive(Debug, Default)]
pub struct RowGram {
    numbers: Vec<u32>,
    starts: Vec<[u64; HALF]>,
    rests: Vec<[u64; HALF]>,
}

impl Candidates for RowGram {
    fn add(&mut self, number: u32, features: &Features) {
        let Some(signs) = &features.gram else { return };
        let (start, rest) = halves(signs);
        self.numbers.push(number);
        self.starts.push(start);
        self.rests.push(rest);
    }

    /// By the correlation of the row Gram matrices, as their signs tell it.
    fn propose(&self, query: &Features, k: usize, mode: SearchMode) -> Vec<Hit> {
        let Some(signs) = &query.gram else { return Vec::new() };
        let (start, rest) = halves(signs);
        let farthest_start = if mode == SearchMode::Exact { u32::MAX } else { FARTHEST_START };
        let begun = near(&start, &self.starts, farthest_start);
        let rests: Vec<[u64; HALF]> = begun.iter().map(|(i, _)| self.rests[*i as usize]).collect();
        let hits = near(&rest, &rests, FARTHEST).into_iter().filter_map(|(n, of_rest)| {
            let (i, of_start) = begun[n as usize];
            let distance = of_start + of_rest;
            let cosine = correlation(distance, SIGNS);
            (distance <= FARTHEST).then_some(Hit { number: self.numbers[i as usize], cosine })
        });
        hits::nearest(hits, k)
    }
}

fn halves(signs: &GramSigns) -> ([u64; HALF], [u64; HALF]) {
    (std::array::from_fn(|i| signs[i]), std::array::from_fn(|i| signs[HALF + i]))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::retrieval::vector;
    use crate::signals::fingerprint::VECTOR_DIMENSIONS;
    use crate::signals::testing::gaussian;

    fn features(values: &[f32; SIGNS]) -> Features {
        let gram = Some(vector::signs(values.iter().copied(), 0));
        Features { hidden_size: 64, vector: [0; VECTOR_DIMENSIONS], gram }
    }

    #[test]
    fn the_first_signs_pass_over_few_relatives_and_most_others() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<[f32; SIGNS]> = (0..500).map(|_| std::array::from_fn(|_| gaussian(&mut rng))).collect();
        let mut source = RowGram::default();
        for (number, values) in (7..).zip(&all) {
            source.add(number, &features(values));
        }
        let (mut missed, mut unrelated) = (0, 0);
        for (number, values) in (7..).zip(&all) {
            let near = std::array::from_fn(|i| 0.5 * values[i] + (1.0f32 - 0.25).sqrt() * gaussian(&mut rng));
            let exact = source.propose(&features(&near), 3, SearchMode::Exact);
            assert_eq!(exact[0].number, number);
            assert!((exact[0].cosine - 0.5).abs() < 0.2, "{exact:?}");
            let usual = source.propose(&features(&near), 3, SearchMode::Usual);
            missed += usize::from(usual.first() != exact.first());
            unrelated += usual.iter().filter(|hit| hit.number != number).count();
        }
        assert!(missed <= 8, "{missed} of 500");
        assert!(unrelated <= 30, "{unrelated} of 250,000");
    }
}
