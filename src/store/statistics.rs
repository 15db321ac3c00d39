//! What the database says of its checkpoints as a whole.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::database::Database;
use super::error::StoreError;
use super::live::Live;
use super::row::RowRef;
use super::schema::Summary;
use super::shard;

/// Counts over the live rows: of checkpoints.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Statistics {
    /// By how the weights are stored: the method of quantisation, else the dtype of most tensors.
    pub formats: BTreeMap<String, u64>,
    /// By number of stored weights, see [`SIZES`].
    pub sizes: BTreeMap<&'static str, u64>,
    /// Bytes of their weight files, and how many of them were read.
    pub bytes_in_repos: u64,
    /// See `bytes_in_repos`.
    pub bytes_fetched: u64,
    /// When the first and the last of them were read, milliseconds since 1970.
    pub oldest_row: Option<i64>,
    /// See `oldest_row`.
    pub newest_row: Option<i64>,
    /// Listed by the Hub no more.
    pub gone: u64,
}

/// Classes of models by stored weights: those below the number.
pub const SIZES: [(u64, &str); 6] = [
    (100_000_000, "<100M"),
    (1_000_000_000, "100M-1B"),
    (3_000_000_000, "1B-3B"),
    (10_000_000_000, "3B-10B"),
    (40_000_000_000, "10B-40B"),
    (u64::MAX, ">=40B"),
];

impl Database {
    /// Summaries of the rows that count: one a checkpoint, without what is large.
    pub fn summaries(&self, live: &Live) -> Result<Vec<Summary>, StoreError> {
        let places: HashSet<RowRef> = live.places().collect();
        let mut summaries = Vec::with_capacity(places.len());
        for (shard, entry) in (0..).zip(&self.manifest().shards) {
            let mut row = 0;
            for batch in shard::read_summaries(self.files(), entry)? {
                for summary in batch? {
                    if places.contains(&RowRef { shard, row }) {
                        summaries.push(summary);
                    }
                    row += 1;
                }
            }
        }
        Ok(summaries)
    }

    /// Counts over them.
    pub fn statistics(&self, live: &Live) -> Result<Statistics, StoreError> {
        let mut all = Statistics::default();
        for summary in self.summaries(live)? {
            all.bytes_in_repos += summary.bytes_in_repo;
            all.bytes_fetched += summary.bytes_fetched;
            all.gone += u64::from(summary.is_gone);
            all.oldest_row = Some(all.oldest_row.map_or(summary.crawled_at, |t| t.min(summary.crawled_at)));
            all.newest_row = Some(all.newest_row.map_or(summary.crawled_at, |t| t.max(summary.crawled_at)));
            let Some(parameters) = summary.parameters else { continue };
            if let Some(format) = summary.quantization.or(summary.dtype) {
                *all.formats.entry(format).or_default() += 1;
            }
            if let Some((_, class)) = SIZES.iter().find(|(below, _)| parameters < *below) {
                *all.sizes.entry(class).or_default() += 1;
            }
        }
        Ok(all)
    }
}
