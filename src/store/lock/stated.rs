//! Locks that are files with an owner and a time, at places that have no other: a claim holds until it expires.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use super::names::{lock_name, locked, task_of};
use crate::store::atomic;
use crate::store::error::StoreError;
use crate::store::files::DatabaseFiles;
use crate::store::layout::{CONTENT_FOLDERS, LOCKS};
use crate::store::owner::Owner;
use crate::store::storage::{Storage, Version};
use crate::store::task::Task;

/// Age from which on an unfinished file is nobody's.
const DAY: Duration = Duration::from_hours(24);
/// Longest lock file that is read.
const MOST_BYTES: u64 = 4096;

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Claim {
    storage: Arc<dyn Storage>,
    name: String,
}

impl Claim {
    /// Claims a task.
    pub(super) fn acquire(files: &DatabaseFiles, task: Task, owner: &Owner) -> Result<Self, StoreError> {
        let claim = Self { storage: Arc::clone(files.storage()), name: lock_name(task) };
        let is_ours = match claim.read()? {
            None => claim.put_as(owner, |ours| claim.storage.create(&claim.name, ours))?,
            Some((found, version)) => match found.filter(|other| holds(other, owner)) {
                Some(other) => return Err(locked(files, Some(other))),
                None => claim.put_as(owner, |ours| claim.storage.replace(&claim.name, ours, &version))?,
            },
        };
        if !is_ours {
            return Err(locked(files, claim.read()?.and_then(|(found, _)| found)));
        }
        // Looked for after our own is there: of two that exclude each other, at least one sees the other.
        if let Err(error) = claim.displace(files, task, owner) {
            claim.give_back(owner);
            return Err(error);
        }
        for folder in CONTENT_FOLDERS {
            // Others may be fetching into the same mirror.
            atomic::clean(&files.folder().join(folder), DAY)?;
        }
        Ok(claim)
    }

    /// Who is named in the file, if anybody, and its version; `None` where there is no file.
    fn read(&self) -> Result<Option<(Option<Owner>, Version)>, StoreError> {
        let found = self.storage.read(&self.name, MOST_BYTES)?;
        Ok(found.map(|(text, version)| (Owner::parse(&text), version)))
    }

    /// Whether a conditional put was done; also where the store did it, said that it failed, and refused the second
    /// try.
    fn put_as(
        &self,
        owner: &Owner,
        put: impl FnOnce(&[u8]) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        Ok(put(&owner.to_text())? || self.read()?.is_some_and(|(found, _)| found.as_ref() == Some(owner)))
    }

    /// Fails if a task is at work that excludes this one; removes the claims of those that have expired.
    fn displace(&self, files: &DatabaseFiles, task: Task, owner: &Owner) -> Result<(), StoreError> {
        for present in self.storage.list(LOCKS)? {
            if !task_of(&present.file).is_some_and(|other| other != task && task.excludes(other)) {
                continue;
            }
            let other = Self { storage: Arc::clone(&self.storage), name: present.file };
            let Some(holder) = other.read()?.and_then(|(found, _)| found) else { continue };
            if holds(&holder, owner) {
                return Err(locked(files, Some(holder)));
            }
            // If it should wake up after all, it must notice.
            self.storage.remove(&other.name)?;
        }
        Ok(())
    }

    /// Whether the claim is still ours, and now holds longer.
    pub(super) fn renew(&self, owner: &Owner) -> Result<bool, StoreError> {
        match self.read()? {
            Some((Some(found), version)) if found.is_same(owner) => {
                self.put_as(owner, |ours| self.storage.replace(&self.name, ours, &version))
            }
            _ => Ok(false),
        }
    }

    /// What cannot be given back expires.
    pub(super) fn give_back(&self, owner: &Owner) {
        if let Ok(Some((Some(found), _))) = self.read()
            && found.is_same(owner)
        {
            let _ = self.storage.remove(&self.name);
        }
    }
}

/// Whether a claim holds: until it expires, or until it is seen from here that its process has died.
fn holds(claim: &Owner, ours: &Owner) -> bool {
    let place = |o: &Owner| (o.host.clone(), o.boot.clone(), o.namespace.clone());
    let is_seen = !claim.namespace.is_empty() && place(claim) == place(ours);
    let is_dead = is_seen && !Path::new(&format!("/proc/{}", claim.pid)).exists();
    claim.expires > Utc::now() && !is_dead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_with_its_process_where_that_can_be_seen() {
        let since = Utc::now();
        let ours = Owner::this(since, since + Duration::from_mins(3));
        assert!(holds(&ours, &ours));
        // No process can have this number.
        let dead = Owner { pid: u32::MAX, ..ours.clone() };
        assert!(!holds(&dead, &ours));
        for unseen in [
            Owner { host: "elsewhere.example".into(), ..dead.clone() },
            Owner { boot: "before".into(), ..dead.clone() },
            Owner { namespace: "pid:[1]".into(), ..dead.clone() },
            Owner { namespace: String::new(), ..dead },
        ] {
            assert!(holds(&unseen, &ours), "{unseen:?}");
        }
        assert!(!holds(&Owner { expires: since, ..ours.clone() }, &ours));
    }
}
