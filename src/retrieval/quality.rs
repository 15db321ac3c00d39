//! How well searches of an index do: the figures, and what they say of searches that were not made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::BuildSettings;

/// Chance that a rate is above its stated bound.
const DOUBT: f64 = 0.05;

/// What was measured, summed over the builds since the last one from nothing or with other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Checkpoints that were searched for.
    pub queries: usize,
    /// Share of them whose ten nearest, by the exact scan of all vectors, were found; of equals any counts.
    pub recall_at_10: f64,
    /// Searches for made-up models without relatives: representatives whose values were permuted and signs changed at
    /// random. Stored as `strangers`.
    #[serde(rename = "strangers")]
    pub negatives: usize,
    /// Of those, the ones that a family was named for. Stored as `false_families`.
    #[serde(rename = "false_families")]
    pub false_positives: usize,
}

impl Quality {
    /// Largest share of models without relatives that a family may be named for: the rate at which so few of so many, or
    /// fewer, are seen with a probability of 5 %. For none of `n` it is `3 / n`, the rule of three. `None` where nothing
    /// was measured.
    pub fn false_rate_at_most(&self) -> Option<f64> {
        let (seen, of) = (self.false_positives as u64, self.negatives as u64);
        (of > 0).then(|| upper_bound(seen, of))
    }

    /// Searches in all.
    pub(super) fn count(&self) -> u64 {
        (self.queries + self.negatives) as u64
    }

    /// Whether some of each that is to be measured was.
    pub(super) fn covers(&self, settings: &BuildSettings) -> bool {
        (self.queries > 0 || settings.recall_queries == 0) && (self.negatives > 0 || settings.negatives == 0)
    }

    /// Both together.
    pub(super) fn with(self, other: Self) -> Self {
        let queries = self.queries + other.queries;
        let found = self.recall_at_10 * self.queries as f64 + other.recall_at_10 * other.queries as f64;
        Self {
            queries,
            recall_at_10: if queries == 0 { 1.0 } else { found / queries as f64 },
            negatives: self.negatives + other.negatives,
            false_positives: self.false_positives + other.false_positives,
        }
    }
}

/// The largest rate at which so few of so many, or fewer, are seen with a probability of [`DOUBT`].
fn upper_bound(seen: u64, of: u64) -> f64 {
    if seen >= of {
        return 1.0;
    }
    // Probability of at most `seen`, summed over the terms, each from the one before.
    let probability = |rate: f64| {
        let mut term = of as f64 * (-rate).ln_1p();
        let mut sum = term.exp();
        for i in 0..seen {
            term += ((of - i) as f64 / (i + 1) as f64).ln() + rate.ln() - (-rate).ln_1p();
            sum += term.exp();
        }
        sum
    };
    let (mut low, mut high) = (seen as f64 / of as f64, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if probability(middle) > DOUBT { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_a_rate_is_that_of_the_tables() {
        // 1 - .05^(1/n), which the rule of three gives as 3/n.
        assert!((upper_bound(0, 1000) - 0.002_991).abs() < 1e-6);
        // The tables of Clopper and Pearson.
        for (seen, of, bound) in [(1, 10, 0.3942), (5, 100, 0.1023), (10, 10, 1.0), (0, 1, 0.95)] {
            assert!(
                (upper_bound(seen, of) - bound).abs() < 1e-4,
                "{seen} of {of}: {}",
                upper_bound(seen, of)
            );
        }
        assert_eq!(Quality::default().false_rate_at_most(), None);
    }

    #[test]
    fn what_nights_measured_adds_up() {
        let one = Quality { queries: 30, recall_at_10: 1.0, negatives: 100, false_positives: 1 };
        let two = Quality { queries: 10, recall_at_10: 0.8, negatives: 10, false_positives: 0 };
        let both = Quality { queries: 40, recall_at_10: 0.95, negatives: 110, false_positives: 1 };
        assert_eq!(one.with(two), both);
        assert_eq!(one.with(Quality::default()), one);
    }
}
