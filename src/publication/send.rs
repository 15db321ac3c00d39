//! A snapshot onto a remote, wherever that is.

use super::list::Key;
use super::publish::{self, PublishSettings, Published};
use super::remote::{Address, ShelfError};
use crate::hub::Hub;
use crate::store::{Database, Files};

/// Whether this build can write there.
pub fn can_send(to: &Address) -> Result<(), ShelfError> {
    if cfg!(not(feature = "hf-hub")) && matches!(to, Address::Dataset(_)) {
        return Err(ShelfError::NoWriter);
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
) -> Result<Published, ShelfError> {
    can_send(to)?;
    if matches!(to, Address::Files(to) if to.is_same(db.location())) {
        return Err(ShelfError::NotACopy { folder: db.location().to_string() });
    }
    let prepared = publish::prepare(db, key, settings)?;
    match to {
        Address::Files(location) => {
            let to = Files::open(location.clone())?;
            publish::publish_files(db, &prepared, &to, settings, execute, progress)
        }
        #[cfg(feature = "hf-hub")]
        Address::Dataset(id) => {
            super::publish_hub::publish_dataset(db, &prepared, id, hub, settings, execute, progress).await
        }
        #[cfg(not(feature = "hf-hub"))]
        Address::Dataset(_) => {
            let _ = hub;
            Err(ShelfError::NoWriter)
        }
    }
}
