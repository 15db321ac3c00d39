//! Files in the memory of this process: for tests, and for databases that nobody keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::contract::{Present, Storage, Version, check_name, missing, of_other_length, too_long};
use crate::store::checksum::sha256;
use crate::store::entry::FileEntry;
use crate::store::error::StoreError;

/// A place in memory. Clones are the same place.
#[derive(Clone, Default)]
pub struct Memory {
    files: Arc<Mutex<Objects>>,
}

/// By name; and how often something was written.
#[derive(Default)]
struct Objects {
    by_name: BTreeMap<String, Stored>,
    writes: u64,
}

struct Stored {
    bytes: Arc<Vec<u8>>,
    modified: SystemTime,
    /// The number of the write that made it.
    write: u64,
}

impl Objects {
    fn insert(&mut self, name: &str, bytes: Vec<u8>) {
        self.writes += 1;
        let stored = Stored { bytes: Arc::new(bytes), modified: SystemTime::now(), write: self.writes };
        self.by_name.insert(name.to_owned(), stored);
    }
}

impl Memory {
    fn files(&self) -> MutexGuard<'_, Objects> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.files, &other.files)
    }
}

impl Eq for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("files", &self.files().by_name.len()).finish()
    }
}

impl Storage for Memory {
    fn read(&self, name: &str, most: u64) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        check_name(name)?;
        let files = self.files();
        let Some(stored) = files.by_name.get(name) else { return Ok(None) };
        if stored.bytes.len() as u64 > most {
            return Err(too_long(self.address(name), most));
        }
        let version = Version { tag: None, number: Some(stored.write.to_string()) };
        Ok(Some((stored.bytes.to_vec(), version)))
    }

    fn copy(&self, name: &str, bytes: u64, to: &mut dyn Write) -> Result<(), StoreError> {
        check_name(name)?;
        let found = self.files().by_name.get(name).map(|stored| Arc::clone(&stored.bytes));
        let found = found.ok_or_else(|| missing(self.address(name)))?;
        if found.len() as u64 != bytes {
            return Err(of_other_length(self.address(name), found.len() as u64, bytes));
        }
        to.write_all(&found).map_err(StoreError::io(Path::new(name)))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        check_name(name)?;
        self.files().insert(name, bytes.to_vec());
        Ok(())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        check_name(name)?;
        let mut files = self.files();
        let is_new = !files.by_name.contains_key(name);
        if is_new {
            files.insert(name, bytes.to_vec());
        }
        Ok(is_new)
    }

    fn replace(&self, name: &str, bytes: &[u8], version: &Version) -> Result<bool, StoreError> {
        check_name(name)?;
        let mut files = self.files();
        let found = files.by_name.get(name).map(|stored| stored.write.to_string());
        let is_same = found.is_some() && found == version.number;
        if is_same {
            files.insert(name, bytes.to_vec());
        }
        Ok(is_same)
    }

    fn import(&self, entry: &FileEntry, from: &Path) -> Result<(), StoreError> {
        check_name(&entry.file)?;
        let bytes = std::fs::read(from).map_err(StoreError::io(from))?;
        entry.is(from, bytes.len() as u64, &sha256(&bytes))?;
        self.files().insert(&entry.file, bytes);
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        check_name(folder)?;
        let files = self.files();
        let all = files.by_name.iter().filter(|(name, _)| {
            name.strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.contains('/'))
        });
        let present = |(name, stored): (&String, &Stored)| Present {
            file: name.clone(),
            bytes: stored.bytes.len() as u64,
            modified: stored.modified,
        };
        Ok(all.map(present).collect())
    }

    fn foreign(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError> {
        let files = self.files();
        let first = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
        Ok(files.by_name.keys().find(|name| !is_ours(&first(name))).cloned())
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        self.files().by_name.remove(name);
        Ok(())
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn address(&self, name: &str) -> PathBuf {
        format!("memory:{name}").into()
    }
}
