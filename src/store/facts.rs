//! What the database says of its repositories as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::database::{Database, RowRef};
use super::schema::Fact;
use super::{Live, StoreError, shard};

/// Counts over the live rows.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Facts {
    /// By how the weights are stored: the method of quantisation, else the dtype of most tensors.
    pub formats: BTreeMap<String, u64>,
    /// By number of stored weights, in classes from `<100M` to `>=40B`.
    pub sizes: BTreeMap<&'static str, u64>,
    /// Bytes of their weight files.
    pub bytes_in_repos: u64,
    /// Bytes that were read of them.
    pub bytes_fetched: u64,
    /// When the first of them was read, milliseconds since 1970.
    pub oldest_row: Option<i64>,
    /// When the last of them was read, milliseconds since 1970.
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
    /// The rows that count: one a repository, without what is large.
    pub fn facts_of(&self, live: &Live) -> Result<Vec<Fact>, StoreError> {
        let places: std::collections::HashSet<RowRef> = live.places().collect();
        let mut facts = Vec::with_capacity(places.len());
        for (shard, entry) in (0..).zip(&self.manifest().shards) {
            let mut row = 0;
            for batch in shard::read_facts(self.files(), entry)? {
                for fact in batch? {
                    if places.contains(&RowRef { shard, row }) {
                        facts.push(fact);
                    }
                    row += 1;
                }
            }
        }
        Ok(facts)
    }

    /// Counts over them.
    pub fn facts(&self, live: &Live) -> Result<Facts, StoreError> {
        let mut facts =
            Facts { gone: live.repos.values().filter(|k| k.gone).count() as u64, ..Facts::default() };
        for fact in self.facts_of(live)? {
            facts.bytes_in_repos += fact.bytes_in_repo;
            facts.bytes_fetched += fact.bytes_fetched;
            facts.oldest_row = Some(facts.oldest_row.map_or(fact.crawled_at, |t| t.min(fact.crawled_at)));
            facts.newest_row = Some(facts.newest_row.map_or(fact.crawled_at, |t| t.max(fact.crawled_at)));
            let Some(parameters) = fact.parameters else { continue };
            if let Some(format) = fact.quantization.or(fact.dtype) {
                *facts.formats.entry(format).or_default() += 1;
            }
            if let Some((_, class)) = SIZES.iter().find(|(below, _)| parameters < *below) {
                *facts.sizes.entry(class).or_default() += 1;
            }
        }
        Ok(facts)
    }
}
