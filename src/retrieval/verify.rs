//! Proof that an index is whole and that no model is lost in it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::heads::Hit;
use super::index::{HEAD_HITS, Index, Look};
use super::vector::cosine;
use crate::store::{Database, Outcome, StoreError};

/// What was looked at, and what was found wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Shards whose checksum is right.
    pub shards: usize,
    /// Rows in them, as counted.
    pub rows: u64,
    /// Contents of the index.
    pub contents: usize,
    /// Heads of the index.
    pub heads: usize,
    /// Heads that a search for their own vector does not find.
    pub lost_heads: usize,
    /// Contents that a search for their own vector does not find, nor anything as near.
    pub lost_contents: usize,
    /// Repositories with a fingerprint in the shards that the index covers, and no posting.
    pub lost_repositories: usize,
}

/// Hits among which a content has to find itself.
const HITS: usize = 10;

/// Checks every checksum of shards and index, the row totals, and that every repository, every content and every
/// head is found. `progress` gets (steps done, steps in all).
pub fn verify(db: &Database, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Verified, StoreError> {
    let shards = db.manifest().shards.len();
    let mut verified = Verified { rows: db.verify(&|_, _| {})?, shards, ..Verified::default() };
    if db.manifest().index.is_none() {
        return Ok(verified);
    }
    let index = Index::open(db)?;
    verified.contents = index.contents();
    verified.heads = index.heads();

    let covered = index.metadata.shards.len() as u32;
    let postings: HashSet<_> = index.postings.all().iter().map(|p| p.at).collect();
    let live = db.live()?;
    let fingerprints = live.repos.values().filter(|known| known.outcome == Outcome::Indexed);
    verified.lost_repositories =
        fingerprints.filter(|known| known.at.shard < covered && !postings.contains(&known.at)).count();

    let all = (index.contents() + index.heads()) as u64;
    let done = AtomicU64::new(0);
    let step = || {
        let n = done.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_multiple_of(1024) || n == all {
            progress(n, all);
        }
    };
    let lost_heads = (0..index.heads() as u32).into_par_iter().map(|number| {
        let head = &index.families.heads[number as usize];
        let heads = index.families.search();
        let hits = heads.nearest(head.hidden_size, heads.vector(number), HEAD_HITS, false);
        step();
        usize::from(!hits.iter().any(|hit| hit.number == number))
    });
    verified.lost_heads = lost_heads.sum();
    let lost_contents = (0..index.contents() as u32).into_par_iter().map(|content| {
        let place = index.contents[content as usize].place;
        let vector = index.vectors.read(content)?;
        let head = index.families.search().vector(place.head);
        let hit = Hit { number: place.head, cosine: cosine(head, &vector) };
        let closest = index.closest(&vector, &[hit], HITS, Look::Usual)?;
        step();
        let is_gone = index.postings.of(content).is_empty();
        let is_found = closest.iter().any(|hit| hit.number == content || hit.cosine >= 1.0 - 1e-6);
        Ok(usize::from(!is_gone && !is_found))
    });
    verified.lost_contents = lost_contents.sum::<Result<usize, StoreError>>()?;
    Ok(verified)
}

impl Verified {
    /// Whether nothing is lost.
    pub fn is_whole(&self) -> bool {
        self.lost_heads + self.lost_contents + self.lost_repositories == 0
    }
}
