//! write: rows into the database, a shard at a time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::checkpoint::row::extraction_key_of;
use crate::store::{Database, Outcome, Partition, Row, RowRef, StoreError, Tag, Waiting};

/// When rows become a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteSettings {
    /// Rows in a shard. A row is about 10 KB, so the default holds 20 MB back; a crash loses at most so many.
    pub rows_per_shard: usize,
    /// Seconds after which fewer rows become a shard as well, so that a slow crawl loses little in a crash.
    pub shard_seconds: u64,
    /// Failed outcomes that are expected and leave the run's exit code at 0.
    pub accept: Vec<Outcome>,
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self { rows_per_shard: 2000, shard_seconds: 300, accept: Vec::new() }
    }
}

/// Collects rows and writes full shards.
pub struct Writer<'a> {
    db: &'a mut Database,
    pending: Vec<Row>,
    settings: WriteSettings,
    since: Instant,
    written: u64,
}

impl<'a> Writer<'a> {
    /// A writer with nothing pending.
    pub fn new(db: &'a mut Database, settings: &WriteSettings) -> Self {
        Self { db, pending: Vec::new(), settings: settings.clone(), since: Instant::now(), written: 0 }
    }

    /// The database as it is written so far.
    pub fn database(&self) -> &Database {
        self.db
    }

    /// Takes all rows of one reading of a repository, of which there is one for each of its checkpoints: they are made
    /// at the same moment and committed together, see [`crate::store::live`]. Writes a shard when enough rows are
    /// pending, and then returns the extraction keys that are now in the database, each with its place.
    pub fn push(&mut self, mut rows: Vec<Row>) -> Result<Vec<(Tag, RowRef)>, StoreError> {
        let made = rows.iter().map(|row| row.crawled_at).max().unwrap_or_default();
        for row in &mut rows {
            row.crawled_at = made;
        }
        self.pending.append(&mut rows);
        let full = self.pending.len() >= self.settings.rows_per_shard.max(1);
        if full || self.due().is_zero() { self.flush() } else { Ok(Vec::new()) }
    }

    /// The pending row with this extraction key.
    pub fn pending(&self, key: Tag) -> Option<&Row> {
        self.pending.iter().rev().find(|row| extraction_key_of(row) == Some(key))
    }

    /// Whether something is pending.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Time until what is pending should be written.
    pub fn due(&self) -> Duration {
        Duration::from_secs(self.settings.shard_seconds).saturating_sub(self.since.elapsed())
    }

    /// Writes what is pending; returns as [`Writer::push`].
    pub fn flush(&mut self) -> Result<Vec<(Tag, RowRef)>, StoreError> {
        let _span = tracing::info_span!("write", rows = self.pending.len()).entered();
        let shard = self.db.append(&self.pending)?.unwrap_or_default();
        let keys = self
            .pending
            .iter()
            .zip(0..)
            .filter_map(|(row, number)| Some((extraction_key_of(row)?, RowRef { shard, row: number })));
        let keys = keys.collect();
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.since = Instant::now();
        Ok(keys)
    }

    /// Writes what is pending together with what waits of this part of the Hub for the next crawl, and returns the
    /// number of rows written in all. Dropping the writer does not write.
    pub fn finish(
        mut self,
        part: Partition,
        waiting: impl Iterator<Item = Result<Waiting, StoreError>>,
    ) -> Result<u64, StoreError> {
        let _span = tracing::info_span!("write", rows = self.pending.len()).entered();
        self.db.append_last(&self.pending, part, waiting)?;
        self.written += self.pending.len() as u64;
        Ok(self.written)
    }
}
