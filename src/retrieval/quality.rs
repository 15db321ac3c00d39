//! How well searches of an index do, measured on the index itself.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::heads::{self, Hit};
use super::index::{Index, Look};
use super::vector::{Vector, dot, norm};
use super::vectors::Vectors;
use crate::signals::Fingerprint;
use crate::signals::sketch::mix;
use crate::store::StoreError;

/// Nearest contents that recall is measured on.
const RECALL_AT: usize = 10;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
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

/// The samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples {
    pub(super) queries: usize,
    pub(super) strangers: usize,
    pub(super) seed: u64,
}

/// Measures against the exact scan, and strangers that get a family.
pub(super) fn measure(index: &Index, samples: Samples) -> Result<Quality, StoreError> {
    let mut heads: Vec<u32> = (0..index.heads() as u32).collect();
    let mut contents: Vec<u32> = (0..index.contents() as u32).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(samples.seed);
    heads.shuffle(&mut rng);
    contents.shuffle(&mut rng);
    contents.truncate(samples.queries);

    let queries: Vec<(u32, Vector)> =
        contents.iter().map(|c| Ok((*c, index.vectors.read(*c)?))).collect::<Result<_, StoreError>>()?;
    let exact = exact_scan(&index.vectors, &queries.iter().map(|q| q.1).collect::<Vec<_>>(), RECALL_AT)?;
    let shares: Vec<f64> = queries
        .par_iter()
        .zip(&exact)
        .map(|((content, vector), truth)| {
            let head = index.contents[*content as usize].place.head;
            let print = Fingerprint { vector: *vector, ..index.fingerprint(head)? };
            let found = index.find(&print, RECALL_AT, Look::Usual)?;
            let hits =
                heads::nearest(found.related.iter().flat_map(|r| r.closest.iter().copied()), RECALL_AT);
            // What another family's contents happen to give is no neighbour worth finding.
            let family = index.family_of(*content);
            let near: Vec<&Hit> = truth.iter().filter(|hit| index.family_of(hit.number) == family).collect();
            let least = near.last().map_or(1.0, |hit| hit.cosine) - 1e-6;
            let found = hits.iter().filter(|hit| hit.cosine >= least).count().min(near.len());
            Ok(found as f64 / near.len().max(1) as f64)
        })
        .collect::<Result<_, StoreError>>()?;
    let strangers: Vec<u32> =
        heads.into_iter().cycle().take(if index.heads() == 0 { 0 } else { samples.strangers }).collect();
    let false_families = strangers
        .par_iter()
        .enumerate()
        .map(|(i, head)| {
            let stranger = turned(&index.fingerprint(*head)?, mix(samples.seed ^ i as u64));
            Ok(usize::from(!index.find(&stranger, 1, Look::Usual)?.related.is_empty()))
        })
        .sum::<Result<usize, StoreError>>()?;
    Ok(Quality {
        queries: shares.len(),
        recall_at_10: if shares.is_empty() { 1.0 } else { shares.iter().sum::<f64>() / shares.len() as f64 },
        strangers: strangers.len(),
        false_families,
    })
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
