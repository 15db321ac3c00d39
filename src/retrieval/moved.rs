//! Search among family heads whose hidden dimensions may have been permuted, rotated or pruned.
//!
//! Their vectors say nothing then, but the products of their rows do, whatever the hidden size
//! ([`crate::signals::gram`]). Of each head 512 signs are kept. The first 256 of them are compared first: three in a
//! hundred unrelated heads are as near as `FARTHEST_START`, and one in a hundred thousand as near as `FARTHEST`. A head
//! whose products correlate by .5 with the query's, as those of weights with a correlation of .7 do, is passed over in one
//! of two thousand cases, one by .4 in one of twenty. It is what is left to try where no head was confirmed in place.

use super::heads::{self, Hit};
use super::vector::{correlation, near, signs};
use crate::signals::gram::{GRAM_DIMENSIONS, GramSketch};

/// Signs of a sketch of products.
pub type Signs = [u64; 2 * HALF];
/// Words of its first half.
const HALF: usize = GRAM_DIMENSIONS / 128;
/// Most differing signs of the first 256: 1.9 standard deviations of chance below a half.
const FARTHEST_START: u32 = 113;
/// Most differing signs of all: 4.3 standard deviations below, which is a correlation of .3.
const FARTHEST: u32 = 207;

/// The signs of a model's products.
pub fn signs_of(products: &GramSketch) -> Signs {
    let seed = u64::from(products.concentration.to_bits());
    signs(products.sketch.iter().map(|v| f32::from(*v)), seed)
}

/// All heads that have products.
#[derive(Debug, Default)]
pub(super) struct Moved {
    numbers: Vec<u32>,
    starts: Vec<[u64; HALF]>,
    rests: Vec<[u64; HALF]>,
}

impl Moved {
    /// Adds a head.
    pub(super) fn add(&mut self, number: u32, signs: &Signs) {
        let (start, rest) = halves(signs);
        self.numbers.push(number);
        self.starts.push(start);
        self.rests.push(rest);
    }

    /// The `k` nearest heads, nearest first, with the correlation that their signs tell. With `exact` the signs of every
    /// one are looked at.
    pub(super) fn nearest(&self, query: &GramSketch, k: usize, exact: bool) -> Vec<Hit> {
        let (start, rest) = halves(&signs_of(query));
        let farthest_start = if exact { u32::MAX } else { FARTHEST_START };
        let begun = near(&start, &self.starts, farthest_start);
        let rests: Vec<[u64; HALF]> = begun.iter().map(|(i, _)| self.rests[*i as usize]).collect();
        let hits = near(&rest, &rests, FARTHEST).into_iter().filter_map(|(n, of_rest)| {
            let (i, of_start) = begun[n as usize];
            let distance = of_start + of_rest;
            let cosine = correlation(distance, GRAM_DIMENSIONS);
            (distance <= FARTHEST).then_some(Hit { number: self.numbers[i as usize], cosine })
        });
        heads::nearest(hits, k)
    }
}

fn halves(signs: &Signs) -> ([u64; HALF], [u64; HALF]) {
    (std::array::from_fn(|i| signs[i]), std::array::from_fn(|i| signs[HALF + i]))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::signals::sketch::quantise;
    use crate::signals::testing::gaussian;

    fn products(values: &[f32; GRAM_DIMENSIONS]) -> GramSketch {
        GramSketch { sketch: quantise(values), concentration: 0.001, rows: 64 }
    }

    #[test]
    fn the_first_signs_pass_over_few_relatives_and_most_strangers() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<[f32; GRAM_DIMENSIONS]> =
            (0..500).map(|_| std::array::from_fn(|_| gaussian(&mut rng))).collect();
        let mut moved = Moved::default();
        for (number, values) in (7..).zip(&all) {
            moved.add(number, &signs_of(&products(values)));
        }
        let (mut missed, mut strangers) = (0, 0);
        for (number, values) in (7..).zip(&all) {
            let near = std::array::from_fn(|i| 0.5 * values[i] + (1.0f32 - 0.25).sqrt() * gaussian(&mut rng));
            let exact = moved.nearest(&products(&near), 3, true);
            assert_eq!(exact[0].number, number);
            assert!((exact[0].cosine - 0.5).abs() < 0.2, "{exact:?}");
            let usual = moved.nearest(&products(&near), 3, false);
            missed += usize::from(usual.first() != exact.first());
            strangers += usual.iter().filter(|hit| hit.number != number).count();
        }
        assert!(missed <= 8, "{missed} of 500");
        assert!(strangers <= 30, "{strangers} of 250,000");
    }
}
