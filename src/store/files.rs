//! The files of a database, with a folder on this machine.
//!
//! All but manifests, locks and reports are named by their content and never change. So what lies elsewhere is mirrored
//! file by file, as they are needed, and whatever reads works on local files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::atomic;
use super::checksum::Checksum;
use super::entry::FileEntry;
use super::error::StoreError;
use super::layout::{MANIFESTS, manifest_name};
use super::location::Location;
use super::storage::{Folder, Present, Storage};

/// Longest small file: a manifest of a million files.
const MOST_SMALL: u64 = 256 << 20;

/// Reads and writes the files.
#[derive(Clone, Debug)]
pub struct DatabaseFiles {
    location: Location,
    storage: Arc<dyn Storage>,
    /// The folder on this machine, as a place for files.
    mirror: Folder,
}

impl DatabaseFiles {
    /// The files at a place; nothing is read yet.
    pub fn open(location: Location) -> Result<Self, StoreError> {
        let storage = location.storage()?;
        let mirror = Folder::new(location.folder());
        Ok(Self { location, storage, mirror })
    }

    /// Where they are.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The place where they lie.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        self.location.folder()
    }

    /// Whether the folder on this machine holds copies only.
    pub fn is_mirrored(&self) -> bool {
        self.storage.folder().is_none()
    }

    /// Path of a file on this machine. It is fetched and checked first where it lies elsewhere.
    pub fn local(&self, entry: &FileEntry) -> Result<PathBuf, StoreError> {
        let path = self.folder().join(&entry.file);
        let is_here = || std::fs::metadata(&path).is_ok_and(|found| found.len() == entry.bytes);
        if self.is_mirrored() && !is_here() {
            atomic::write_checked(&path, entry, |file| self.export(entry, file))?;
        }
        Ok(path)
    }

    /// Writes a file that is named by its content.
    pub fn add(
        &self,
        folder: &str,
        extension: &str,
        fill: impl FnOnce(&mut File) -> Result<(), StoreError>,
    ) -> Result<FileEntry, StoreError> {
        let entry = atomic::write_hashed(self.folder(), folder, extension, fill)?;
        self.send(&entry)?;
        Ok(entry)
    }

    /// Makes a finished file, on the file system of the database, one that is named by its content.
    pub fn adopt(&self, path: &Path, folder: &str, extension: &str) -> Result<FileEntry, StoreError> {
        let entry = atomic::adopt(path, self.folder(), folder, extension)?;
        self.send(&entry)?;
        Ok(entry)
    }

    fn send(&self, entry: &FileEntry) -> Result<(), StoreError> {
        if self.is_mirrored() { self.import(&self.folder().join(&entry.file), entry) } else { Ok(()) }
    }

    /// Brings in a finished file of another place under its stated name, checking it on the way.
    pub fn import(&self, path: &Path, entry: &FileEntry) -> Result<(), StoreError> {
        self.storage.import(entry, path)
    }

    /// Copies a file of the stated length to `to`.
    pub fn export(&self, entry: &FileEntry, to: &mut dyn Write) -> Result<(), StoreError> {
        self.storage.copy(&entry.file, entry.bytes, to)
    }

    /// The numbers of all manifests, the latest last.
    pub fn generations(&self) -> Result<Vec<u64>, StoreError> {
        let number = |file: &str| file.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        let present = self.list(MANIFESTS)?;
        let mut numbers: Vec<u64> = present.iter().filter_map(|p| number(&p.file)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A manifest's text; `None` where there is none of this number.
    pub fn manifest(&self, generation: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(&manifest_name(generation))
    }

    /// Writes a manifest unless there is one of its number: the commit. Returns whether it did.
    pub fn create_manifest(&self, generation: u64, text: &[u8]) -> Result<bool, StoreError> {
        self.storage.create(&manifest_name(generation), text)
    }

    /// A small file's text; `None` where there is none.
    pub fn get(&self, file: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_bounded(file, MOST_SMALL)
    }

    /// The text of a file of at most so many bytes; `None` where there is none.
    pub fn get_bounded(&self, file: &str, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.storage.read(file, most)?.map(|(text, _)| text))
    }

    /// Writes a small file under a name of its own.
    pub fn put(&self, file: &str, text: &[u8]) -> Result<(), StoreError> {
        self.storage.put(file, text)
    }

    /// The files in a folder of the database; unfinished ones are left out.
    pub fn list(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        self.storage.list(folder)
    }

    /// The name of something that lies here under no name of this kind; of what is in folders, their names count.
    pub fn foreign(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError> {
        self.storage.foreign(is_ours)
    }

    /// Files on this machine alone: of what lies elsewhere, the copies.
    pub fn list_mirror(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        self.mirror.list(folder)
    }

    /// Removes a file, and the copy of it on this machine. That it is not there is no error.
    pub fn remove(&self, file: &str) -> Result<(), StoreError> {
        self.storage.remove(file)?;
        if self.is_mirrored() { self.remove_from_mirror(file) } else { Ok(()) }
    }

    /// Removes a file from this machine.
    pub fn remove_from_mirror(&self, file: &str) -> Result<(), StoreError> {
        self.mirror.remove(file)
    }

    /// Checks length and checksum of a file where it lies, not of its copy.
    pub fn verify_one(&self, entry: &FileEntry) -> Result<(), StoreError> {
        let mut checksum = Checksum::default();
        self.export(entry, &mut checksum)?;
        let (bytes, sha256) = checksum.finish();
        entry.is(&self.storage.address(&entry.file), bytes, &sha256)?;
        // A copy is worth nothing once it differs; it is fetched again when it is needed.
        let copy = self.folder().join(&entry.file);
        if self.is_mirrored() && copy.exists() && entry.verify(&copy).is_err() {
            self.remove_from_mirror(&entry.file)?;
        }
        Ok(())
    }

    /// Checks length and checksum of each file; of equal entries one is looked at. `progress` gets (bytes done,
    /// bytes in all).
    pub fn verify<'a>(
        &self,
        entries: impl Iterator<Item = &'a FileEntry>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), StoreError> {
        use rayon::prelude::*;
        use std::sync::atomic::{AtomicU64, Ordering};

        let entries: BTreeMap<&str, &FileEntry> = entries.map(|e| (e.file.as_str(), e)).collect();
        let all = entries.values().map(|e| e.bytes).sum();
        let done = AtomicU64::new(0);
        entries.par_iter().try_for_each(|(_, entry)| {
            self.verify_one(entry)?;
            progress(done.fetch_add(entry.bytes, Ordering::Relaxed) + entry.bytes, all);
            Ok(())
        })
    }
}
