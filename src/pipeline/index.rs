//! index: the search index from the shards on disk.

use schemars::JsonSchema;
use serde::Serialize;

use crate::retrieval::{self, BuildSettings, Built};
use crate::store::{Database, StoreError};

/// What an index build did, and what it took: `index --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IndexReport {
    /// What it did.
    #[serde(flatten)]
    pub built: Built,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Bytes of memory that it was said to take at most.
    pub memory_bound_bytes: u64,
    /// Largest resident size of the process, bytes; null where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
}

/// Brings the index of a database up to date, or builds it `from_nothing`. `progress` gets (rows done, rows in
/// all); once `stop` says so, what was finished is committed.
pub fn index(
    db: &mut Database,
    settings: &BuildSettings,
    from_nothing: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Built, StoreError> {
    let _span = tracing::info_span!("index").entered();
    retrieval::build(db, settings, from_nothing, progress, stop)
}
