//! Several databases become one.

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use schemars::JsonSchema;
use serde::Serialize;

use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::files::DatabaseFiles;
use crate::store::live::Live;
use crate::store::manifest::{Reads, ShardEntry};
use crate::store::row::{RowRef, Waiting};
use crate::store::shard;
use crate::store::task::Partition;

/// What joining did.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Merged {
    /// Databases that were joined.
    pub sources: usize,
    /// Shards that were added; those that were there already count not.
    pub shards: usize,
    /// Rows in them.
    pub rows: u64,
}

/// Adds the rows of other databases, and what waits in them, in one commit. Of a repository that several hold, the rows
/// that were made last are live. A row is added only if it is newer than what is there, so that nothing is added twice,
/// however the shards were cut since; a shard of new rows is taken as it is.
pub fn merge(
    into: &mut Database,
    sources: &[Database],
    progress: &dyn Fn(u64, u64),
) -> Result<Merged, StoreError> {
    let mut live = into.live()?;
    let mut shards: Vec<ShardEntry> = Vec::new();
    let mut waiting = Vec::new();
    let all = sources.iter().map(|source| source.manifest().rows()).sum();
    let mut done = 0;
    for source in sources {
        for shard in &source.manifest().shards {
            let newer = newer(&mut live, source.files(), shard)?;
            if newer.iter().all(|newer| *newer) {
                into.files().import(&source.files().local(&shard.entry)?, &shard.entry)?;
                shards.push(shard.clone());
            } else if newer.contains(&true) {
                shards.push(copy_rows(source.files(), shard, &newer, into.files())?);
            }
            done += shard.rows;
            progress(done, all);
        }
        waiting.extend(source.waiting(Partition::WHOLE)?);
    }
    waiting.extend(into.waiting(Partition::WHOLE)?);
    let waiting = still_waiting(&live, waiting);
    let list = shard::write_waiting(into.files(), waiting.into_iter().map(Ok))?;
    if !shards.is_empty() || list.is_some() || !into.manifest().waiting.is_empty() {
        into.commit(|manifest| {
            manifest.shards.extend(shards.iter().cloned());
            // The rows may be of an older version than the crawls into this database.
            manifest.reads = Reads::default();
            manifest.waiting.clear();
            manifest.waiting.extend(list.clone().map(|list| (Partition::WHOLE.to_string(), list)));
            Ok(())
        })?;
    }
    let rows = shards.iter().map(|shard| shard.rows).sum();
    Ok(Merged { sources: sources.len(), shards: shards.len(), rows })
}

/// By row of a shard, whether it is newer than what is known of its checkpoint; from then on it is known.
fn newer(live: &mut Live, files: &DatabaseFiles, shard: &ShardEntry) -> Result<Vec<bool>, StoreError> {
    let mut newer = Vec::new();
    for batch in shard::read_keys(files, shard)? {
        for key in batch? {
            let is_newer = live.lacks(&key);
            if is_newer {
                // Where the rows lie does not matter here.
                live.add(&key, RowRef { shard: 0, row: 0 });
            }
            newer.push(is_newer);
        }
    }
    Ok(newer)
}

/// Some rows of a shard as a shard of another database.
fn copy_rows(
    from: &DatabaseFiles,
    shard: &ShardEntry,
    rows: &[bool],
    to: &DatabaseFiles,
) -> Result<ShardEntry, StoreError> {
    let mut next = 0;
    let kept = shard::read_batches(from, shard)?.map(|batch| {
        let batch = batch?;
        let rows = rows.iter().skip(next).take(batch.num_rows());
        next += batch.num_rows();
        let keep: BooleanArray = rows.map(|keep| Some(*keep)).collect();
        filter_record_batch(&batch, &keep).map_err(StoreError::damaged(from.folder()))
    });
    shard::write_batches(to, kept)
}

/// What waits of several databases: each repository once, and none that was read elsewhere since.
fn still_waiting(live: &Live, mut waiting: Vec<Waiting>) -> Vec<Waiting> {
    waiting.retain(|w| live.still_waits(w));
    waiting.sort_by(|a, b| (&a.hub_id, a.since).cmp(&(&b.hub_id, b.since)));
    waiting.dedup_by(|a, b| a.hub_id == b.hub_id);
    waiting
}
