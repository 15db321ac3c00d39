//! Proof that an index is whole and that no model is lost in it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::candidates::{Candidates, Features};
use super::find::{Found, PROPOSED};
use super::hits::Hit;
use super::index::Index;
use super::query::{SearchMode, SearchQuery};
use super::representatives::Representative;
use super::vector::cosine;
use crate::store::{Database, Outcome, RowRef, StoreError, Tag};

/// What was looked at, and what was found wrong.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Verified {
    /// Shards whose checksum is right.
    pub shards: usize,
    /// Rows in them, as counted.
    pub rows: u64,
    /// Whether there is an index.
    pub has_index: bool,
    /// Repositories that the index names.
    pub repositories: usize,
    /// Checkpoints of the index; of each its vector was searched for among the members of its representative.
    #[serde(rename = "contents")]
    pub checkpoints: usize,
    /// Representatives of the index; of each its vector was searched for in place, among all of them.
    #[serde(rename = "heads")]
    pub representatives: usize,
    /// Representatives that a search for their own vector does not find.
    #[serde(rename = "lost_heads")]
    pub lost_representatives: usize,
    /// Checkpoints that a search for their own vector does not find, nor anything as near.
    #[serde(rename = "lost_contents")]
    pub lost_checkpoints: usize,
    /// Repositories with a fingerprint in the shards that the index covers, and no posting.
    pub lost_repositories: usize,
    /// What whole searches found, where they were made.
    pub deep: Option<Deep>,
}

/// Every checkpoint, searched for as a scan does: by the fingerprint of its oldest repository, read from the shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Deep {
    /// Searches made.
    pub searches: usize,
    /// Those that named the checkpoint itself, or one with an equal vector.
    pub found: usize,
    /// Those that did so only because of its digest: the test says too little about it, or other checkpoints are as near.
    pub by_digest_alone: usize,
    /// Checkpoints that were not named.
    pub lost: usize,
}

/// Hits among which a checkpoint has to find itself.
const HITS: usize = 10;
/// Cosine from which on two vectors count as equal.
const EQUAL: f32 = 1.0 - 1e-6;

/// Checks every checksum of shards and index, the row totals, and that every repository, every checkpoint and every
/// representative is found; when `deep`, by whole searches as well. `progress` gets (steps done, steps in all).
pub fn verify(
    db: &Database,
    deep: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Verified, StoreError> {
    let shards = db.manifest().shards.len();
    let mut verified = Verified { rows: db.verify(&|_, _| {})?, shards, ..Verified::default() };
    if db.manifest().index.is_none() {
        return Ok(verified);
    }
    let index = Index::open(db)?;
    verified.has_index = true;
    verified.repositories = index.postings.all().len();
    verified.checkpoints = index.checkpoints();
    verified.representatives = index.representatives();

    let covered = index.metadata.shards.len() as u32;
    let postings: HashSet<_> = index.postings.all().iter().map(|p| p.at).collect();
    let live = db.live()?;
    let fingerprints = live.checkpoints().filter(|checkpoint| checkpoint.outcome == Outcome::Indexed);
    let places = fingerprints.map(|checkpoint| checkpoint.at);
    verified.lost_repositories = places.filter(|at| at.shard < covered && !postings.contains(at)).count();

    // The first repository of each checkpoint that has any.
    let oldest: HashMap<RowRef, u32> = (0..index.checkpoints() as u32)
        .filter_map(|checkpoint| Some((index.postings.of(checkpoint).first()?.at, checkpoint)))
        .collect();
    let all = index.checkpoints() + index.representatives() + if deep { oldest.len() } else { 0 };
    let done = AtomicU64::new(0);
    let step = || {
        let n = done.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_multiple_of(1024) || n == all as u64 {
            progress(n, all as u64);
        }
    };
    let lost_representatives = (0..index.representatives() as u32).into_par_iter().map(|number| {
        let Representative { hidden_size, gram, .. } = index.families.representatives[number as usize];
        let sources = index.families.sources();
        let itself = Features { hidden_size, vector: *sources.vector(number), gram };
        let hits = sources.in_place().propose(&itself, PROPOSED, SearchMode::Usual);
        step();
        usize::from(!hits.iter().any(|hit| hit.number == number))
    });
    verified.lost_representatives = lost_representatives.sum();
    let lost_checkpoints = (0..index.checkpoints() as u32).into_par_iter().map(|checkpoint| {
        let place = index.checkpoints[checkpoint as usize].place;
        let vector = index.vectors.read(checkpoint)?;
        let representative = index.families.sources().vector(place.representative);
        let hit = Hit { number: place.representative, cosine: cosine(representative, &vector) };
        let closest = index.closest(&vector, &[hit], HITS, SearchMode::Usual, None)?;
        step();
        let is_gone = index.postings.of(checkpoint).is_empty();
        let is_found = closest.iter().any(|hit| hit.number == checkpoint || hit.cosine >= EQUAL);
        Ok(usize::from(!is_gone && !is_found))
    });
    verified.lost_checkpoints = lost_checkpoints.sum::<Result<usize, StoreError>>()?;
    if deep {
        verified.deep = Some(search_all(db, &index, &oldest, &step)?);
    }
    Ok(verified)
}

/// Searches for the checkpoints of these rows.
fn search_all(
    db: &Database,
    index: &Index,
    oldest: &HashMap<RowRef, u32>,
    step: &(dyn Fn() + Sync),
) -> Result<Deep, StoreError> {
    let mut deep = Deep::default();
    let is_named = |found: &Found, checkpoint: u32| {
        let mut closest = found.related.iter().flat_map(|related| &related.closest);
        closest.any(|hit| hit.number == checkpoint || hit.cosine >= EQUAL)
    };
    for shard in 0..index.metadata.shards.len() {
        for batch in db.index_rows(shard)? {
            let ends = batch?.into_par_iter().filter_map(|(at, row)| {
                let (checkpoint, fingerprint) = (*oldest.get(&at)?, row.fingerprint?);
                let tag = |digest: &Option<String>| digest.as_deref().map(Tag::of);
                let query = SearchQuery {
                    fingerprint: &fingerprint,
                    weights: tag(&row.weights_digest),
                    samples: tag(&row.sample_digest),
                    but: None,
                };
                let named =
                    |found: Result<Found, StoreError>| found.map(|found| is_named(&found, checkpoint));
                step();
                let by_vector = named(index.find(&fingerprint, HITS, SearchMode::Usual));
                Some(by_vector.and_then(|by_vector| {
                    Ok((by_vector, by_vector || named(index.find(query, HITS, SearchMode::Usual))?))
                }))
            });
            for (by_vector, found) in ends.collect::<Result<Vec<(bool, bool)>, StoreError>>()? {
                deep.searches += 1;
                deep.found += usize::from(found);
                deep.by_digest_alone += usize::from(found && !by_vector);
                deep.lost += usize::from(!found);
            }
        }
    }
    // A row that the shards do not have is as lost as one that is not found.
    deep.lost += oldest.len() - deep.searches;
    Ok(deep)
}

impl Verified {
    /// Whether nothing is lost.
    pub fn is_whole(&self) -> bool {
        let deep = self.deep.as_ref().map_or(0, |deep| deep.lost);
        self.lost_representatives + self.lost_checkpoints + self.lost_repositories + deep == 0
    }
}
