//! Everything that chance decides about a made-up repository, and the hashes it states.
//!
//! All of it follows from the seed and the number, in time that does not depend on how many there
//! are: the catalogue is computed where others are looked up.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::local_hub::text::hex;

/// What is decided; each question has its own draw, so that the shares do not depend on each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Changed,
    Gone,
    Renamed,
    Duplicate,
    Original,
    Kind,
    Popularity,
    Created,
    Modified,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) seed: u64,
}

impl Draw {
    /// 64 random bits: the finaliser of SplitMix64 over seed, question and number.
    pub(super) fn bits(self, question: Question, number: u64) -> u64 {
        mix(mix(mix(self.seed) ^ question as u64) ^ number)
    }

    /// At least 0, less than 1.
    fn unit(self, question: Question, number: u64) -> f64 {
        // The 53 bits that a float holds exactly.
        (self.bits(question, number) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether `number` is in a share. A larger share holds the smaller one.
    pub(super) fn hit(self, question: Question, number: u64, share: f64) -> bool {
        self.unit(question, number) < share
    }

    /// Below `bound`, which is not 0.
    pub(super) fn below(self, question: Question, number: u64, bound: u64) -> u64 {
        self.bits(question, number) % bound
    }

    /// Downloads and likes. The first are Pareto with exponent 4/5: half of all repositories have
    /// one or two, the most popular of three million some hundred million.
    pub(super) fn popularity(self, number: u64) -> (u64, u64) {
        // Only roots, which are the same on every machine; powers are not.
        let rank = 1.0 / (1.0 - self.unit(Question::Popularity, number));
        ((rank * rank.sqrt().sqrt()) as u64, rank.sqrt() as u64 - 1)
    }

    /// Commit of a version of a repository.
    pub(super) fn commit(self, number: u64, version: u32) -> String {
        hex(&Sha1::digest(format!("hubprint made-up {} {number} {version}", self.seed)))
    }

    /// What a version of a repository states as the sha256 of a file.
    pub(super) fn sha256(self, number: u64, version: u32, path: &str) -> String {
        hex(&Sha256::digest(format!("hubprint made-up {} {number} {version} {path}", self.seed)))
    }
}

fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_met_nested_and_independent() {
        let draw = Draw { seed: 1 };
        let count = |admits: &dyn Fn(u64) -> bool| (0..100_000).filter(|&n| admits(n)).count() as f64;
        let hit = |question, n, share| draw.hit(question, n, share);
        assert_eq!(count(&|n| hit(Question::Gone, n, 0.0)), 0.0);
        assert_eq!(count(&|n| hit(Question::Gone, n, 1.0)), 100_000.0);
        // Five standard deviations.
        assert!((count(&|n| hit(Question::Gone, n, 0.1)) - 10_000.0).abs() < 475.0);
        let both = |n| hit(Question::Gone, n, 0.1) && hit(Question::Changed, n, 0.1);
        assert!((count(&both) - 1_000.0).abs() < 158.0);
        assert!((0..10_000).all(|n| !hit(Question::Gone, n, 0.1) || hit(Question::Gone, n, 0.2)));
        assert_ne!(draw.bits(Question::Gone, 1), Draw { seed: 2 }.bits(Question::Gone, 1));
    }

    #[test]
    fn few_are_popular() {
        let mut downloads: Vec<u64> = (0..100_000).map(|n| Draw { seed: 1 }.popularity(n).0).collect();
        downloads.sort_unstable();
        assert!((1..=2).contains(&downloads[50_000]), "{}", downloads[50_000]);
        let (top, all) = (downloads[99_000..].iter().sum::<u64>(), downloads.iter().sum::<u64>());
        assert!(2 * top > all, "one in a hundred has {top} of {all}");
    }
}
