//! How many of the pairs came out right, and what the scores are worth.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::answer::JudgedPair;

/// Bins of the calibration table.
const BINS: usize = 10;

/// Figures of merit. A pair whose model could not be read counts nowhere but in `unavailable`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Merit {
    /// Pairs in the list.
    pub pairs: usize,
    /// Pairs of which a model could not be read.
    pub unavailable: usize,
    /// Related pairs called related.
    pub true_positives: usize,
    /// Unrelated pairs called related.
    pub false_positives: usize,
    /// Unrelated pairs called independent.
    pub true_negatives: usize,
    /// Unrelated pairs of which the weights did not tell.
    pub abstained_unrelated: usize,
    /// Related pairs called independent: the one answer that misleads.
    pub called_independent: usize,
    /// Related pairs of which the weights did not tell.
    pub abstained_related: usize,
    /// Share of pairs that were rightly called related, or rightly not.
    pub accuracy: Option<f64>,
    /// Share of the pairs called related that are.
    pub precision: Option<f64>,
    /// Share of the related pairs that were called so.
    pub recall: Option<f64>,
    /// Probability that a related pair has a higher score than an unrelated one.
    pub auc: Option<f64>,
    /// Mean squared difference of score and truth: 0 is perfect, .25 says nothing.
    pub brier: Option<f64>,
    /// Related pairs and how many were found, by relation.
    pub by_relation: BTreeMap<String, Found>,
    /// Score against truth in ten bins: pairs, mean score, share related.
    pub calibration: Vec<Bin>,
}

/// Related pairs of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Found {
    /// How many there are.
    pub pairs: usize,
    /// How many were called related.
    pub found: usize,
}

/// Pairs with scores in one tenth of 0..=1.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Bin {
    /// How many.
    pub pairs: usize,
    /// Their mean score.
    pub mean_score: f64,
    /// Share of them that is related.
    pub related: f64,
}

/// The score of a pair of which no test could be made: either is as likely.
const UNTOLD: f64 = 0.5;

impl Merit {
    /// Of these pairs.
    pub fn of(judged: &[JudgedPair]) -> Self {
        let mut m = Self { pairs: judged.len(), ..Self::default() };
        let mut scores: Vec<(f64, bool)> = Vec::new();
        for pair in judged {
            let Some(judgement) = &pair.judgement else {
                m.unavailable += 1;
                continue;
            };
            let related = pair.expected;
            scores.push((judgement.score.unwrap_or(UNTOLD), related));
            match (related, judgement.related) {
                (true, Some(true)) => m.true_positives += 1,
                (false, Some(true)) => m.false_positives += 1,
                (false, Some(false)) => m.true_negatives += 1,
                (false, None) => m.abstained_unrelated += 1,
                (true, Some(false)) => m.called_independent += 1,
                (true, None) => m.abstained_related += 1,
            }
            if related {
                let found = m.by_relation.entry(pair.expected_relation.clone()).or_default();
                found.pairs += 1;
                found.found += usize::from(pair.is_right());
            }
        }
        let share = |n: usize, of: usize| (of > 0).then(|| n as f64 / of as f64);
        let right = m.true_positives + m.true_negatives + m.abstained_unrelated;
        m.accuracy = share(right, scores.len());
        m.precision = share(m.true_positives, m.true_positives + m.false_positives);
        m.recall = share(m.true_positives, m.true_positives + m.called_independent + m.abstained_related);
        m.auc = auc(&scores);
        let squares: f64 =
            scores.iter().map(|(s, related)| (s - f64::from(u8::from(*related))).powi(2)).sum();
        m.brier = (!scores.is_empty()).then(|| squares / scores.len() as f64);
        m.calibration = calibration(&scores);
        m
    }
}

/// Area under the receiver operating characteristic, from ranks; ties count half (Mann and Whitney 1947).
fn auc(scores: &[(f64, bool)]) -> Option<f64> {
    let of = |wanted: bool| scores.iter().filter(move |s| s.1 == wanted).map(|s| s.0);
    let (positives, negatives) = (of(true).count(), of(false).count());
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut sorted: Vec<f64> = of(false).collect();
    sorted.sort_by(f64::total_cmp);
    let below: f64 = of(true)
        .map(|s| {
            let (low, high) = (sorted.partition_point(|v| *v < s), sorted.partition_point(|v| *v <= s));
            (low + high) as f64 / 2.0
        })
        .sum();
    Some(below / positives as f64 / negatives as f64)
}

fn calibration(scores: &[(f64, bool)]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for (score, related) in scores {
        let bin = &mut bins[((score * BINS as f64) as usize).min(BINS - 1)];
        bin.pairs += 1;
        bin.mean_score += score;
        bin.related += f64::from(u8::from(*related));
    }
    for bin in bins.iter_mut().filter(|bin| bin.pairs > 0) {
        bin.mean_score /= bin.pairs as f64;
        bin.related /= bin.pairs as f64;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_the_curve() {
        assert_eq!(auc(&[(0.9, true), (0.8, true), (0.1, false)]), Some(1.0));
        assert_eq!(auc(&[(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(auc(&[(0.5, true)]), None);
        let bins = calibration(&[(1.0, true), (0.95, false), (0.0, false)]);
        assert_eq!((bins[9].pairs, bins[0].pairs), (2, 1));
        assert!((bins[9].related - 0.5).abs() < 1e-12);
    }
}
