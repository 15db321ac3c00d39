//! maintain: what keeps a database small that is written to every night, for years.
//!
//! Each crawl adds shards and snapshots, and rows that replace others. Here small shards are joined, replaced rows left
//! out, and old snapshots and reports removed, each when there is enough of it to be worth the writing.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::retrieval;
use crate::store::maintenance::{self, Compaction, Keep, Vacuumed};
use crate::store::{Database, StoreError};

/// `[maintenance]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintainSettings {
    /// Live rows up to which neighbouring shards are joined.
    pub rows_per_shard: u64,
    /// Shards that can be joined, or hold mostly replaced rows, from which on that is done.
    pub compact_from: usize,
    /// Latest snapshots that are kept.
    pub snapshots: usize,
    /// Snapshots and files that are younger than this are kept as well, e.g. `7d`: somebody may be reading them.
    #[serde(deserialize_with = "duration")]
    pub younger: Duration,
    /// Latest run reports that are kept.
    pub reports: usize,
}

impl Default for MaintainSettings {
    fn default() -> Self {
        let younger = Duration::from_hours(7 * 24);
        Self { rows_per_shard: 20_000, compact_from: 30, snapshots: 2, younger, reports: 400 }
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Maintained {
    /// `None`: there was too little to gain, or the index has to catch up first.
    pub compaction: Option<Compaction>,
    /// Snapshots and files.
    pub vacuum: Vacuumed,
    /// Run reports.
    pub reports_removed: usize,
}

/// Looks after a database on these terms. `progress` gets (rows done, rows in all).
pub fn maintain(
    db: &mut Database,
    settings: &MaintainSettings,
    progress: &dyn Fn(u64, u64),
) -> Result<Maintained, StoreError> {
    let _span = tracing::info_span!("maintain").entered();
    let compaction = if index_is_behind(db) {
        None
    } else {
        compact(db, settings.rows_per_shard, settings.compact_from, progress)?
    };
    let keep = Keep { latest: settings.snapshots, younger: settings.younger };
    let vacuum = maintenance::vacuum(db, keep, false)?;
    let reports_removed = maintenance::forget_reports(db, settings.reports)?;
    Ok(Maintained { compaction, vacuum, reports_removed })
}

/// Whether there is an index that a compaction would lose.
pub fn index_is_behind(db: &Database) -> bool {
    db.manifest().index.is_some() && db.manifest().shards_not_indexed() > 0
}

/// Joins small shards, and has the index follow; see [`maintenance::compact`].
pub fn compact(
    db: &mut Database,
    rows: u64,
    least: usize,
    progress: &dyn Fn(u64, u64),
) -> Result<Option<Compaction>, StoreError> {
    let Some(compacted) = maintenance::compact(db, rows, least, progress)? else { return Ok(None) };
    let index = retrieval::relocate(db, &compacted)?;
    maintenance::commit_compacted(db, &compacted, index.as_ref()).map(Some)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}
