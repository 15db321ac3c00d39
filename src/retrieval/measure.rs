//! Measuring an index on itself: against the exact scan, and with models that have no relatives.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::exact::exact_scan;
use super::hits::{self, Hit};
use super::index::Index;
use super::quality::Quality;
use super::query::SearchMode;
use super::settings::BuildSettings;
use super::vector::Vector;
use crate::signals::Fingerprint;
use crate::signals::hash::mix;
use crate::store::StoreError;

/// Nearest checkpoints that recall is measured on.
const RECALL_AT: usize = 10;

/// One in so many of the samples is measured after an addition.
const NIGHTLY_SAMPLE: usize = 10;

/// The samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples {
    pub(super) queries: usize,
    pub(super) negatives: usize,
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
            negatives: settings.negatives.div_ceil(part),
            // What was measured only grows, so no sample is drawn twice.
            seed: settings.seed ^ before.count(),
        }
    }

    /// Searches in all.
    pub(super) fn count(&self) -> u64 {
        (self.queries + self.negatives) as u64
    }
}

/// Measures against the exact scan, and with made-up models that are to get no family. `progress` gets the searches done;
/// once `stop` says so, what was measured until then is the answer.
pub(super) fn measure(
    index: &Index,
    samples: Samples,
    progress: &(dyn Fn(u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Quality, StoreError> {
    if index.representatives() == 0 {
        return Ok(Quality { recall_at_10: 1.0, ..Quality::default() });
    }
    let done = AtomicU64::new(0);
    let step = || {
        let n = done.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_multiple_of(64) || n == samples.count() {
            progress(n);
        }
    };
    let mut representatives: Vec<u32> = (0..index.representatives() as u32).collect();
    let mut checkpoints: Vec<u32> = (0..index.checkpoints() as u32).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(samples.seed);
    representatives.shuffle(&mut rng);
    checkpoints.shuffle(&mut rng);
    checkpoints.truncate(if stop() { 0 } else { samples.queries });

    let queries: Vec<(u32, Vector)> =
        checkpoints.iter().map(|c| Ok((*c, index.vectors.read(*c)?))).collect::<Result<_, StoreError>>()?;
    let exact = exact_scan(&index.vectors, &queries.iter().map(|q| q.1).collect::<Vec<_>>(), RECALL_AT)?;
    let shares: Vec<f64> = queries
        .par_iter()
        .zip(&exact)
        .map(|((checkpoint, vector), truth)| {
            let share = recall(index, *checkpoint, vector, truth)?;
            step();
            Ok(share)
        })
        .collect::<Result<_, StoreError>>()?;
    let negatives: Vec<bool> = (0..samples.negatives)
        .into_par_iter()
        .filter(|_| !stop())
        .map(|i| {
            let representative = representatives[i % representatives.len()];
            let fingerprint = index.fingerprint(representative)?;
            step();
            if fingerprint.extent.rank.is_some() {
                // Of an adapter only an equal one is named: to find none is no merit.
                return Ok(None);
            }
            let negative = scrambled(&fingerprint, mix(samples.seed ^ mix(i as u64)));
            let found = index.find(&negative, 1, SearchMode::Usual)?;
            Ok(Some(!found.related.is_empty()))
        })
        .filter_map(Result::transpose)
        .collect::<Result<_, StoreError>>()?;
    Ok(Quality {
        queries: shares.len(),
        recall_at_10: if shares.is_empty() { 1.0 } else { shares.iter().sum::<f64>() / shares.len() as f64 },
        negatives: negatives.len(),
        false_positives: negatives.iter().filter(|named| **named).count(),
    })
}

/// Share of the nearest checkpoints of a checkpoint that a search for it finds.
fn recall(index: &Index, checkpoint: u32, vector: &Vector, truth: &[Hit]) -> Result<f64, StoreError> {
    let representative = index.checkpoints[checkpoint as usize].place.representative;
    let print = Fingerprint { vector: *vector, ..index.fingerprint(representative)? };
    let found = index.find(&print, RECALL_AT, SearchMode::Usual)?;
    let hits = hits::nearest(found.related.iter().flat_map(|r| r.closest.iter().copied()), RECALL_AT);
    // What another family's checkpoints happen to give is no neighbour worth finding.
    let family = index.family_of(checkpoint);
    let near: Vec<&Hit> = truth.iter().filter(|hit| index.family_of(hit.number) == family).collect();
    let least = near.last().map_or(1.0, |hit| hit.cosine) - 1e-6;
    let found = hits.iter().filter(|hit| hit.cosine >= least).count().min(near.len());
    Ok(found as f64 / near.len().max(1) as f64)
}

/// A fingerprint with the same values in other places and with other signs, in cells of one key alike: as much like
/// itself as before, and like no model. Signs alone would not do: changed in the same way in every layer, they keep
/// a part of what the model had in common with its own family.
fn scrambled(fingerprint: &Fingerprint, seed: u64) -> Fingerprint {
    let mut negative = fingerprint.clone();
    let scramble = |seed: u64, values: &mut [i8]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|i| mix(seed ^ mix(*i as u64)));
        let scrambled: Vec<i8> = order
            .iter()
            .map(|i| if mix(seed ^ mix(*i as u64)) & 1 == 1 { values[*i].wrapping_neg() } else { values[*i] })
            .collect();
        values.copy_from_slice(&scrambled);
    };
    scramble(seed, &mut negative.vector);
    if let Some(gram) = &mut negative.row_gram {
        scramble(mix(seed), &mut gram.sketch);
    }
    for cell in &mut negative.cells {
        let layer = if cell.role.is_norm() { u64::from(cell.layer) } else { 0 };
        let key = u64::from(cell.role as u8) | layer << 8 | u64::from(cell.start) << 24;
        scramble(mix(seed ^ key), &mut cell.sketch);
        cell.hash = mix(cell.hash ^ seed);
    }
    negative
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_sample_is_drawn_twice() {
        let settings = BuildSettings { recall_queries: 20, negatives: 20, seed: 7 };
        let mut measured = Quality::default();
        let mut seeds = HashSet::new();
        for night in 0..100 {
            let Samples { queries, negatives, seed } = Samples::after(&measured, &settings);
            assert_eq!((queries, negatives), if night == 0 { (20, 20) } else { (2, 2) });
            assert!(seeds.insert(seed), "night {night}");
            measured = measured.with(Quality { queries, negatives, ..Quality::default() });
        }
    }
}
