//! index: the search index from the shards on disk.

use crate::retrieval::{BuildSettings, Built, Index};
use crate::store::{Database, StoreError};

/// Rebuilds the index of a database. `progress` gets (nodes done, nodes in all).
pub fn index(
    db: &mut Database,
    settings: &BuildSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Built, StoreError> {
    let _span = tracing::info_span!("index").entered();
    Index::build(db, settings, progress)
}
