//! How well searches of an index do, measured on the index itself.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build::BuildSettings;
use super::heads::{self, Hit};
use super::index::{Index, Look};
use super::vector::{Vector, dot, norm};
use super::vectors::Vectors;
use crate::signals::Fingerprint;
use crate::signals::hash::mix;
use crate::store::StoreError;

/// Nearest contents that recall is measured on.
const RECALL_AT: usize = 10;

/// One in so many of the samples is measured after an addition.
const NIGHTLY_SAMPLE: usize = 10;

/// Chance that a rate is above its stated bound.
const DOUBT: f64 = 0.05;

/// What was measured, summed over the builds since the last one from nothing or with other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Contents that were searched for.
    pub queries: usize,
    /// Share of them whose ten nearest, by the exact scan of all vectors, were found; of equals any counts.
    pub recall_at_10: f64,
    /// Searches for made-up strangers: heads whose values were moved and turned at random.
    pub strangers: usize,
    /// Strangers that a family was named for.
    pub false_families: usize,
}

impl Quality {
    /// Largest share of models without relatives that a family may be named for: the rate at which so few of so many, or
    /// fewer, are seen with a probability of 5 %. For none of `n` it is `3 / n`, the rule of three. `None` where nothing
    /// was measured.
    pub fn false_rate_at_most(&self) -> Option<f64> {
        let (seen, of) = (self.false_families as u64, self.strangers as u64);
        (of > 0).then(|| upper_bound(seen, of))
    }

    /// Searches in all.
    pub(super) fn count(&self) -> u64 {
        (self.queries + self.strangers) as u64
    }

    /// Whether some of each that is to be measured was.
    pub(super) fn covers(&self, settings: &BuildSettings) -> bool {
        (self.queries > 0 || settings.recall_queries == 0) && (self.strangers > 0 || settings.strangers == 0)
    }

    /// Both together.
    pub(super) fn with(self, other: Self) -> Self {
        let queries = self.queries + other.queries;
        let found = self.recall_at_10 * self.queries as f64 + other.recall_at_10 * other.queries as f64;
        Self {
            queries,
            recall_at_10: if queries == 0 { 1.0 } else { found / queries as f64 },
            strangers: self.strangers + other.strangers,
            false_families: self.false_families + other.false_families,
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

/// The samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples {
    pub(super) queries: usize,
    pub(super) strangers: usize,
    pub(super) seed: u64,
}

impl Samples {
    /// What to measure on an index after this was measured on those that it was built on.
    pub(super) fn after(before: &Quality, settings: &BuildSettings) -> Self {
        // A night changes little, and its build must not spend its time on measuring. One that was interrupted before
        // has measured nothing.
        let part = if before.covers(settings) { NIGHTLY_SAMPLE } else { 1 };
        Self {
            queries: settings.recall_queries.div_ceil(part),
            strangers: settings.strangers.div_ceil(part),
            // What was measured only grows, so no sample is drawn twice.
            seed: settings.seed ^ before.count(),
        }
    }

    /// Searches in all.
    pub(super) fn count(&self) -> u64 {
        (self.queries + self.strangers) as u64
    }
}

/// Measures against the exact scan, and strangers that get a family. `progress` gets the searches done; once `stop` says
/// so, what was measured until then is the answer.
pub(super) fn measure(
    index: &Index,
    samples: Samples,
    progress: &(dyn Fn(u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Quality, StoreError> {
    if index.heads() == 0 {
        return Ok(Quality { recall_at_10: 1.0, ..Quality::default() });
    }
    let done = AtomicU64::new(0);
    let step = || {
        let n = done.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_multiple_of(64) || n == samples.count() {
            progress(n);
        }
    };
    let mut heads: Vec<u32> = (0..index.heads() as u32).collect();
    let mut contents: Vec<u32> = (0..index.contents() as u32).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(samples.seed);
    heads.shuffle(&mut rng);
    contents.shuffle(&mut rng);
    contents.truncate(if stop() { 0 } else { samples.queries });

    let queries: Vec<(u32, Vector)> =
        contents.iter().map(|c| Ok((*c, index.vectors.read(*c)?))).collect::<Result<_, StoreError>>()?;
    let exact = exact_scan(&index.vectors, &queries.iter().map(|q| q.1).collect::<Vec<_>>(), RECALL_AT)?;
    let shares: Vec<f64> = queries
        .par_iter()
        .zip(&exact)
        .map(|((content, vector), truth)| {
            let share = recall(index, *content, vector, truth)?;
            step();
            Ok(share)
        })
        .collect::<Result<_, StoreError>>()?;
    let strangers: Vec<bool> = (0..samples.strangers)
        .into_par_iter()
        .filter(|_| !stop())
        .map(|i| {
            let head = heads[i % heads.len()];
            let stranger = turned(&index.fingerprint(head)?, mix(samples.seed ^ mix(i as u64)));
            let found = index.find(&stranger, 1, Look::Usual)?;
            step();
            Ok(!found.related.is_empty())
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Quality {
        queries: shares.len(),
        recall_at_10: if shares.is_empty() { 1.0 } else { shares.iter().sum::<f64>() / shares.len() as f64 },
        strangers: strangers.len(),
        false_families: strangers.iter().filter(|named| **named).count(),
    })
}

/// Share of the nearest contents of a content that a search for it finds.
fn recall(index: &Index, content: u32, vector: &Vector, truth: &[Hit]) -> Result<f64, StoreError> {
    let head = index.contents[content as usize].place.head;
    let print = Fingerprint { vector: *vector, ..index.fingerprint(head)? };
    let found = index.find(&print, RECALL_AT, Look::Usual)?;
    let hits = heads::nearest(found.related.iter().flat_map(|r| r.closest.iter().copied()), RECALL_AT);
    // What another family's contents happen to give is no neighbour worth finding.
    let family = index.family_of(content);
    let near: Vec<&Hit> = truth.iter().filter(|hit| index.family_of(hit.number) == family).collect();
    let least = near.last().map_or(1.0, |hit| hit.cosine) - 1e-6;
    let found = hits.iter().filter(|hit| hit.cosine >= least).count().min(near.len());
    Ok(found as f64 / near.len().max(1) as f64)
}

/// A fingerprint with the same values in other places and with other signs, in cells of one key alike: as much like
/// itself as before, and like no model. Signs alone would not do: turned in the same way in every layer, they keep
/// a part of what the model had in common with its own family.
fn turned(fingerprint: &Fingerprint, seed: u64) -> Fingerprint {
    let mut stranger = fingerprint.clone();
    let turn = |seed: u64, values: &mut [i8]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|i| mix(seed ^ mix(*i as u64)));
        let moved: Vec<i8> = order
            .iter()
            .map(|i| if mix(seed ^ mix(*i as u64)) & 1 == 1 { values[*i].wrapping_neg() } else { values[*i] })
            .collect();
        values.copy_from_slice(&moved);
    };
    turn(seed, &mut stranger.vector);
    if let Some(products) = &mut stranger.row_gram {
        turn(mix(seed), &mut products.sketch);
    }
    for cell in &mut stranger.cells {
        let layer = if cell.role.is_norm() { u64::from(cell.layer) } else { 0 };
        let key = u64::from(cell.role as u8) | layer << 8 | u64::from(cell.start) << 24;
        turn(mix(seed ^ key), &mut cell.sketch);
        cell.hash = mix(cell.hash ^ seed);
    }
    stranger
}

/// The `k` nearest of all vectors to each query, block by block.
pub fn exact_scan(vectors: &Vectors, queries: &[Vector], k: usize) -> Result<Vec<Vec<Hit>>, StoreError> {
    let mut best: Vec<Vec<Hit>> = vec![Vec::new(); queries.len()];
    let norms: Vec<f32> = queries.iter().map(norm).collect();
    vectors.for_each_block(|first, block| {
        let of_block: Vec<f32> = block.iter().map(norm).collect();
        best.par_iter_mut().zip(queries.par_iter().zip(&norms)).for_each(|(best, (query, of_query))| {
            let hits = block.iter().zip(&of_block).enumerate().map(|(i, (vector, of_vector))| Hit {
                number: first + i as u32,
                cosine: dot(query, vector) as f32 / (of_query * of_vector),
            });
            *best = heads::nearest(best.iter().copied().chain(hits), k);
        });
        Ok(())
    })?;
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
    fn no_sample_is_drawn_twice() {
        let settings = BuildSettings { recall_queries: 20, strangers: 20, seed: 7 };
        let mut measured = Quality::default();
        let mut seeds = HashSet::new();
        for night in 0..100 {
            let Samples { queries, strangers, seed } = Samples::after(&measured, &settings);
            assert_eq!((queries, strangers), if night == 0 { (20, 20) } else { (2, 2) });
            assert!(seeds.insert(seed), "night {night}");
            measured = measured.with(Quality { queries, strangers, ..Quality::default() });
        }
    }

    #[test]
    fn what_nights_measured_adds_up() {
        let one = Quality { queries: 30, recall_at_10: 1.0, strangers: 100, false_families: 1 };
        let two = Quality { queries: 10, recall_at_10: 0.8, strangers: 10, false_families: 0 };
        let both = Quality { queries: 40, recall_at_10: 0.95, strangers: 110, false_families: 1 };
        assert_eq!(one.with(two), both);
        assert_eq!(one.with(Quality::default()), one);
    }
}
