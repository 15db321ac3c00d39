//! What a place for files does.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::store::entry::FileEntry;
use crate::store::error::StoreError;

/// A file that is there.
#[derive(Clone, Debug)]
pub struct Present {
    /// Its name, with that of its folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// What tells one state of a file from the next; a place that has no such thing leaves it empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub(super) tag: Option<String>,
    pub(super) number: Option<String>,
}

/// A place for files. A name is a path of plain parts, `folder/name`; any other is refused.
pub trait Storage: fmt::Debug + Send + Sync {
    /// The bytes of a file of at most so many, and its version; `None` where there is none. A longer one is
    /// [`StoreError::Damaged`].
    fn read(&self, name: &str, most: u64) -> Result<Option<(Vec<u8>, Version)>, StoreError>;

    /// Copies a file of exactly so many bytes, piece by piece. One of another length, or none, is
    /// [`StoreError::Damaged`].
    fn copy(&self, name: &str, bytes: u64, to: &mut dyn Write) -> Result<(), StoreError>;

    /// Writes a small file, in the place of one that is there.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Writes a small file unless there is one of its name; returns whether it did.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError>;

    /// Replaces a small file if it is still at this version; returns whether it did.
    fn replace(&self, name: &str, bytes: &[u8], version: &Version) -> Result<bool, StoreError>;

    /// Writes a file of this machine under its stated name. One that is not as stated is [`StoreError::Damaged`], and
    /// does not appear.
    fn import(&self, entry: &FileEntry, from: &Path) -> Result<(), StoreError>;

    /// The finished files right in a folder, in no particular order; none where there is no folder.
    fn list(&self, folder: &str) -> Result<Vec<Present>, StoreError>;

    /// The name of something that lies here under no name of this kind; of what is in folders, their names count.
    fn foreign(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError>;

    /// Removes a file; that it is not there is no error.
    fn remove(&self, name: &str) -> Result<(), StoreError>;

    /// The folder on this machine whose files these are, where that is so: they are read where they lie, and the
    /// operating system's locks hold for them.
    fn folder(&self) -> Option<&Path>;

    /// What people find a file by.
    fn address(&self, name: &str) -> PathBuf;
}

/// Refuses names that lead elsewhere.
pub(super) fn check_name(name: &str) -> Result<(), StoreError> {
    let is_plain = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\\', '\0']);
    if name.split('/').all(is_plain) { Ok(()) } else { Err(StoreError::Name { name: name.to_owned() }) }
}

/// A file that is longer than it may be.
pub(super) fn too_long(path: PathBuf, most: u64) -> StoreError {
    let what = format!("it has more than {most} bytes, the longest that such a file may have");
    StoreError::Damaged { path, what }
}

/// A file that is not as long as it should be.
pub(super) fn of_other_length(path: PathBuf, found: u64, stated: u64) -> StoreError {
    StoreError::Damaged { path, what: format!("it has {found} bytes, stated are {stated}") }
}

/// A file that should be there.
pub(super) fn missing(path: PathBuf) -> StoreError {
    StoreError::Damaged { path, what: "it is not there".into() }
}
