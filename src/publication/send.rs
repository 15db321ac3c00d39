//! A snapshot onto a remote, wherever that is.

use super::address::Address;
use super::error::PublicationError;
use super::key::Key;
use super::plan::Published;
use super::prepare::{self, PublishSettings};
use super::publish;
use crate::hub::Hub;
use crate::store::{Database, DatabaseFiles};

/// Whether this build can write there.
pub fn can_send(to: &Address) -> Result<(), PublicationError> {
    if cfg!(not(feature = "hf-hub")) && matches!(to, Address::Dataset(_)) {
        return Err(PublicationError::NoWriter);
    }
    Ok(())
}

/// Publishes a database's snapshot, signed with `key`; without `execute` nothing is written. `progress` gets (bytes
/// done, bytes in all).
pub async fn send(
    db: &Database,
    to: &Address,
    hub: &Hub,
    key: &Key,
    settings: &PublishSettings,
    execute: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Published, PublicationError> {
    can_send(to)?;
    if matches!(to, Address::Files(to) if to.is_same(db.location())) {
        return Err(PublicationError::NotACopy { folder: db.location().to_string() });
    }
    let prepared = prepare::prepare(db, key, settings)?;
    match to {
        Address::Files(location) => {
            let to = DatabaseFiles::open(location.clone())?;
            publish::publish_files(db, &prepared, &to, settings, execute, progress)
        }
        #[cfg(feature = "hf-hub")]
        Address::Dataset(id) => {
            super::publish_hub::publish_dataset(db, &prepared, id, hub, settings, execute, progress).await
        }
        #[cfg(not(feature = "hf-hub"))]
        Address::Dataset(_) => {
            let _ = hub;
            Err(PublicationError::NoWriter)
        }
    }
}
