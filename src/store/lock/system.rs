//! Locks of the operating system, on the files of a folder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;

use super::names::{lock_name, locked, task_of};
use crate::store::atomic;
use crate::store::error::StoreError;
use crate::store::files::DatabaseFiles;
use crate::store::layout::{CONTENT_FOLDERS, LOCKS, MANIFESTS, PUBLICATIONS, REPORTS};
use crate::store::owner::Owner;
use crate::store::task::Task;

/// Held while locks are looked at and taken.
const GUARD: &str = ".guard";
/// Longest lock file that is read.
const MOST_BYTES: u64 = 4096;

/// A lock that is held: as long as the file is open, the operating system's lock holds.
#[derive(Debug)]
pub(super) struct Claim {
    file: File,
    path: PathBuf,
}

impl Claim {
    /// Claims a task in a folder, and removes what writers that died have left there if nobody else is at work.
    pub(super) fn acquire(
        files: &DatabaseFiles,
        root: &Path,
        task: Task,
        owner: &Owner,
    ) -> Result<Self, StoreError> {
        let folder = root.join(LOCKS);
        std::fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
        // Where the file system has no locks, two that begin in the same instant may both believe that they are alone;
        // their commits are safe even so.
        let guard = open(&folder.join(GUARD))?;
        let _ = guard.lock();
        let mut is_alone = true;
        for present in files.list(LOCKS)? {
            let Some(other) = task_of(&present.file).filter(|other| *other != task) else { continue };
            let path = root.join(&present.file);
            if let Held::By(holder) = look(&open(&path)?, &path, owner)? {
                if task.excludes(other) {
                    return Err(locked(files, holder));
                }
                is_alone = false;
            }
        }
        let path = root.join(lock_name(task));
        let mut file = open(&path)?;
        if let Held::By(holder) = look(&file, &path, owner)? {
            return Err(locked(files, holder));
        }
        state(&mut file, owner).map_err(StoreError::io(&path))?;
        if is_alone {
            // What writers that died had not finished. Nobody can begin while we hold the guard.
            for folder in ["", MANIFESTS, REPORTS, PUBLICATIONS].iter().chain(&CONTENT_FOLDERS) {
                atomic::clean(&root.join(folder), Duration::ZERO)?;
            }
        }
        Ok(Self { file, path })
    }

    /// Whether the claim is still ours, and now holds longer.
    pub(super) fn renew(&mut self, owner: &Owner) -> Result<bool, StoreError> {
        if !read(&self.path).is_some_and(|found| found.is_same(owner)) {
            return Ok(false);
        }
        state(&mut self.file, owner).map_err(StoreError::io(&self.path)).map(|()| true)
    }

    /// What cannot be given back expires.
    pub(super) fn give_back(self, owner: &Owner) {
        if read(&self.path).is_some_and(|found| found.is_same(owner)) {
            let _ = self.file.set_len(0);
        }
    }
}

/// Who holds a lock.
enum Held {
    ByNobody,
    /// Somebody, as far as known.
    By(Option<Owner>),
}

/// Whether somebody holds the lock on a file. If not, it is ours from now on, as long as the file is open.
fn look(file: &File, path: &Path, ours: &Owner) -> Result<Held, StoreError> {
    let reaches_other_processes = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => return Ok(Held::By(read(path))),
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => false,
        Err(TryLockError::Error(e)) => return Err(StoreError::io(path)(e)),
    };
    // An owner on this machine would hold the lock if it were alive.
    let may_live = |o: &Owner| (&o.host, &o.boot) != (&ours.host, &ours.boot) || !reaches_other_processes;
    let holder = read(path).filter(|other| may_live(other) && other.expires > Utc::now());
    Ok(holder.map_or(Held::ByNobody, |holder| Held::By(Some(holder))))
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(StoreError::io(path))
}

/// Who is named in a lock file.
fn read(path: &Path) -> Option<Owner> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    Owner::parse(&text)
}

fn state(file: &mut File, owner: &Owner) -> std::io::Result<()> {
    let text = owner.to_text();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)?;
    file.sync_data()
}
