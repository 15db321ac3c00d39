//! MinHash: a few small numbers that estimate how much two sets overlap (Broder 1997).

use serde::{Deserialize, Serialize};

use super::hash::{key, mix};

/// `K` minima of a set's elements, each under a hash function of its own, of which the low 16 bits are kept
/// (b-bit minwise hashing, Li and König 2010). Two sets share a minimum with probability J, their Jaccard
/// similarity; minima that differ agree in 16 bits by chance with probability c = 2^-16. So of `K` numbers a
/// share p = J + (1 - J) c is expected to agree, and the estimate is J = (p - c) / (1 - c), without bias. Its
/// standard error is that of a proportion, at most 1 / (2 sqrt(K)): .044 for 128.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u16>", try_from = "Vec<u16>")]
pub struct MinHash<const K: usize>([u16; K]);

/// Chance that two different minima agree in the bits that are kept.
const CHANCE: f64 = 1.0 / 65536.0;

impl<const K: usize> MinHash<K> {
    /// Hashes a set; elements may repeat, and are expected to be hashes themselves. The empty set resembles
    /// the empty set only.
    pub fn of(elements: impl Iterator<Item = u64>) -> Self {
        let seeds: [u64; K] = std::array::from_fn(|i| key(&[i as u64]));
        let mut minima = [u64::MAX; K];
        for element in elements {
            for (minimum, seed) in minima.iter_mut().zip(&seeds) {
                *minimum = (*minimum).min(mix(element ^ seed));
            }
        }
        Self(minima.map(|minimum| minimum as u16))
    }

    /// Estimated Jaccard similarity, 0..=1.
    pub fn jaccard(&self, other: &Self) -> f64 {
        let share = self.agreeing(other) as f64 / K as f64;
        ((share - CHANCE) / (1.0 - CHANCE)).max(0.0)
    }

    /// Standard error of [`Self::jaccard`]. Taken at (agreeing + 1) / (K + 2), so that it is not 0 where all
    /// or none agree.
    pub fn standard_error(&self, other: &Self) -> f64 {
        let share = (self.agreeing(other) + 1) as f64 / (K + 2) as f64;
        (share * (1.0 - share) / K as f64).sqrt() / (1.0 - CHANCE)
    }

    fn agreeing(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count()
    }
}

impl<const K: usize> From<MinHash<K>> for Vec<u16> {
    fn from(hash: MinHash<K>) -> Self {
        hash.0.into()
    }
}

impl<const K: usize> TryFrom<Vec<u16>> for MinHash<K> {
    type Error = String;

    fn try_from(minima: Vec<u16>) -> Result<Self, String> {
        let minima = minima.try_into().map_err(|m: Vec<u16>| format!("{} minima instead of {K}", m.len()))?;
        Ok(Self(minima))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sets of `n` elements, of which `shared` are the same.
    fn pair(seed: u64, n: u64, shared: u64) -> (MinHash<128>, MinHash<128>) {
        let set = |own: u64| (0..n).map(move |i| key(&[seed, if i < shared { 0 } else { own }, i]));
        (MinHash::of(set(1)), MinHash::of(set(2)))
    }

    #[test]
    fn the_estimate_has_no_bias_and_the_stated_error() {
        for shared in [0u64, 100, 500, 900] {
            let (n, runs) = (1000, 60);
            let truth = shared as f64 / (2 * n - shared) as f64;
            let estimates: Vec<f64> = (0..runs)
                .map(|seed| {
                    let (a, b) = pair(seed, n, shared);
                    a.jaccard(&b)
                })
                .collect();
            let mean = estimates.iter().sum::<f64>() / runs as f64;
            let stated = (truth * (1.0 - truth) / 128.0).sqrt();
            let sd = (estimates.iter().map(|j| (j - truth).powi(2)).sum::<f64>() / runs as f64).sqrt();
            assert!((mean - truth).abs() <= 4.0 * stated / (runs as f64).sqrt() + 1e-4, "{mean} for {truth}");
            assert!(sd <= 1.4 * stated + 1e-3, "{sd} where {stated} is stated");
            let (a, b) = pair(0, n, shared);
            assert!((a.standard_error(&b) - stated).abs() < 0.015);
        }
    }

    #[test]
    fn equal_sets_agree_and_the_empty_set_is_alone() {
        let (a, b) = pair(1, 50, 50);
        assert_eq!(a.jaccard(&b), 1.0);
        assert!(a.standard_error(&b) > 0.005);
        let empty = MinHash::<128>::of(std::iter::empty());
        assert_eq!((empty.jaccard(&empty), empty.jaccard(&a)), (1.0, 0.0));
    }

    #[test]
    fn it_is_stored_as_a_list_of_its_length() {
        let (a, _) = pair(1, 50, 50);
        let json = serde_json::to_string(&a).unwrap();
        assert_eq!(serde_json::from_str::<MinHash<128>>(&json).unwrap(), a);
        assert!(serde_json::from_str::<MinHash<64>>(&json).is_err());
    }
}
