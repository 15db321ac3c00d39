//! publish: a snapshot onto a remote, signed.
//!
//! All files are named by their content, so what lies there already is not sent again, once it was read and is what it
//! should be; a publication that was cut short is gone on with by the next. The signed list comes last: until then the
//! remote offers what it did before. Whatever is not ours is left alone, and a place that is not ours is refused.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::address::Address;
use super::error::PublicationError;
use super::list::{self, CARD};
use super::plan::{Published, There, folders, plan, published};
use super::prepare::{Prepared, PublishSettings};
use super::remote::is_leftover;
use crate::store::lock::Lock;
use crate::store::{Database, DatabaseFiles, FileEntry, StoreError, Task};

/// Publishes into a folder or a bucket. Without `execute` nothing is written. `progress` gets (bytes done, bytes in
/// all).
pub fn publish_files(
    db: &Database,
    prepared: &Prepared,
    to: &DatabaseFiles,
    settings: &PublishSettings,
    execute: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Published, PublicationError> {
    let address = Address::Files(to.location().clone());
    let mut there = There {
        has_marker: to.get(list::MARKER)?.as_deref() == Some(list::MARKER_TEXT),
        foreign: to.foreign(is_leftover)?,
        ..There::default()
    };
    // Before anything is written, be it a lock.
    there.is_ours_or_empty(&address)?;
    let lock = if execute { Some(Lock::acquire(to, Task::Maintenance)?) } else { None };
    let mut lengths = BTreeMap::new();
    for folder in folders() {
        lengths.extend(to.list(folder)?.into_iter().map(|present| (present.file, present.bytes)));
    }
    there.same = same(to, &prepared.publication.files, &lengths)?;
    there.names = lengths.into_keys().collect();
    there.look_at(prepared, &mut |name| Ok(to.get(name)?))?;
    let plan = plan(&address, prepared, &there, settings)?;
    if let Some(lock) = lock {
        db.files().verify(plan.send.iter(), &|_, _| {})?;
        if !there.has_marker {
            to.put(list::MARKER, list::MARKER_TEXT)?;
        }
        let all = plan.send.iter().map(|entry| entry.bytes).sum();
        let mut done = 0;
        for entry in &plan.send {
            to.import(&db.files().local(entry)?, entry)?;
            done += entry.bytes;
            progress(done, all);
        }
        lock.check()?;
        if !there.is_signed {
            for (name, text) in &prepared.own {
                to.put(name, text)?;
            }
        }
        to.put(CARD, &prepared.card)?;
        for name in &plan.remove {
            to.remove(name)?;
        }
    }
    Ok(published(prepared, &plan, execute))
}

/// Those of the files that are there and are what is stated of them: all of it is read.
fn same(
    to: &DatabaseFiles,
    files: &[FileEntry],
    lengths: &BTreeMap<String, u64>,
) -> Result<BTreeSet<String>, StoreError> {
    let there = files.par_iter().filter(|entry| lengths.get(&entry.file) == Some(&entry.bytes));
    let same = there.map(|entry| match to.verify_one(entry) {
        Ok(()) => Ok(Some(entry.file.clone())),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(other) => Err(other),
    });
    Ok(same.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}
