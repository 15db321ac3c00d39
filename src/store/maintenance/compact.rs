//! Small shards become large ones, and rows that were replaced are left out.

use std::collections::HashSet;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use schemars::JsonSchema;
use serde::Serialize;

use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::manifest::{IndexEntry, Manifest, ShardEntry};
use crate::store::row::RowRef;
use crate::store::shard;

/// A database with fewer shards, not yet committed.
#[derive(Debug)]
pub struct Compacted {
    /// The shards after it.
    pub shards: Vec<ShardEntry>,
    /// By shard before: the places of its rows after it; none for a row that is replaced by a later one.
    places: Vec<Vec<Option<RowRef>>>,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Compaction {
    /// Shards before.
    pub shards_before: usize,
    /// Shards after.
    pub shards: usize,
    /// Rows that a later one had replaced.
    pub rows_dropped: u64,
    /// Bytes of the shards before.
    pub bytes_before: u64,
    /// Bytes of the shards after.
    pub bytes: u64,
}

impl Compacted {
    /// Where a row lies after it.
    pub fn place(&self, before: RowRef) -> Option<RowRef> {
        *self.places.get(before.shard as usize)?.get(before.row as usize)?
    }
}

/// Writes neighbouring shards that together have at most `rows` live rows as one, and those anew of which more than half
/// the rows were replaced by later ones; what was replaced is left out. `None` where that would touch fewer than
/// `least` shards. `progress` gets (rows done, rows in all).
pub fn compact(
    db: &Database,
    rows: u64,
    least: usize,
    progress: &dyn Fn(u64, u64),
) -> Result<Option<Compacted>, StoreError> {
    let before = &db.manifest().shards;
    let live: HashSet<RowRef> = db.live()?.places().collect();
    let mut live_rows = vec![0; before.len()];
    for place in &live {
        live_rows[place.shard as usize] += 1;
    }
    let runs = runs(&live_rows, rows.max(1));
    let is_kept = |run: &[usize]| matches!(run, [only] if 2 * live_rows[*only] >= before[*only].rows);
    let touched: usize = runs.iter().filter(|run| !is_kept(run)).map(Vec::len).sum();
    if touched < least.max(1) {
        return Ok(None);
    }
    let all = db.manifest().rows();
    let mut done = 0;
    let mut shards: Vec<ShardEntry> = Vec::new();
    let mut places = vec![Vec::new(); before.len()];
    for run in runs {
        let number = shards.len() as u32;
        if let Some(&only) = run.first().filter(|_| is_kept(&run)) {
            shard::check(db.files(), &before[only])?;
            places[only] =
                (0..before[only].rows as u32).map(|row| Some(RowRef { shard: number, row })).collect();
            shards.push(before[only].clone());
            done += before[only].rows;
            continue;
        }
        let mut next = 0;
        // Opened one after the other: there may be more than a process may have open.
        let batches = run.iter().flat_map(|&shard| {
            let (batches, error) = match shard::read_batches(db.files(), &before[shard]) {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            batches.into_iter().flatten().chain(error).map(move |batch| (shard, batch))
        });
        let kept = batches.map(|(shard, batch)| {
            let batch = batch?;
            let first = places[shard].len() as u32;
            let keep: BooleanArray = (0..batch.num_rows() as u32)
                .map(|row| Some(live.contains(&RowRef { shard: shard as u32, row: first + row })))
                .collect();
            places[shard].extend(keep.iter().map(|keep| {
                (keep == Some(true)).then(|| {
                    next += 1;
                    RowRef { shard: number, row: next - 1 }
                })
            }));
            done += batch.num_rows() as u64;
            progress(done, all);
            filter_record_batch(&batch, &keep).map_err(StoreError::damaged(db.folder()))
        });
        let entry = shard::write_batches(db.files(), kept)?;
        // All of it may have been replaced.
        if entry.rows > 0 {
            shards.push(entry);
        }
    }
    Ok(Some(Compacted { shards, places }))
}

/// Neighbouring shards, by the live rows of each, that together have at most so many.
fn runs(live_rows: &[u64], most: u64) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut sum = u64::MAX;
    for (i, &rows) in live_rows.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if sum.saturating_add(rows) <= most => {
                run.push(i);
                sum += rows;
            }
            _ => {
                runs.push(vec![i]);
                sum = rows;
            }
        }
    }
    runs
}

/// Makes a compaction the state of the database, with the index that fits it.
pub fn commit_compacted(
    db: &mut Database,
    compacted: &Compacted,
    index: Option<&IndexEntry>,
) -> Result<Compaction, StoreError> {
    let before = db.manifest().clone();
    let path = db.folder().to_owned();
    db.commit(|manifest| {
        if manifest.shards != before.shards || manifest.index != before.index {
            return Err(StoreError::Changed { path: path.clone() });
        }
        manifest.shards.clone_from(&compacted.shards);
        manifest.index = index.cloned();
        Ok(())
    })?;
    let bytes = |manifest: &Manifest| manifest.shards.iter().map(|s| s.entry.bytes).sum();
    Ok(Compaction {
        shards_before: before.shards.len(),
        shards: compacted.shards.len(),
        rows_dropped: before.rows() - db.manifest().rows(),
        bytes_before: bytes(&before),
        bytes: bytes(db.manifest()),
    })
}
