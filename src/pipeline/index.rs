//! index: the search index from the shards on disk.

use crate::retrieval::{self, BuildSettings, Built};
use crate::store::{Database, StoreError};

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
