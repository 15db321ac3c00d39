//! Files as the database states them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checksum::checksum;
use super::error::StoreError;
use super::layout::CONTENT_FOLDERS;

/// A file of the database as its manifest states it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path under the database folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it, lower-case hex.
    pub sha256: String,
}

impl FileEntry {
    /// Checks length and SHA-256 of the file at a path.
    pub fn verify(&self, path: &Path) -> Result<(), StoreError> {
        let (bytes, sha256) = checksum(path)?;
        self.is(path, bytes, &sha256)
    }

    /// Checks the length of the file at a path.
    pub fn verify_length(&self, path: &Path) -> Result<(), StoreError> {
        let found = std::fs::metadata(path).map_err(StoreError::io(path))?.len();
        if found == self.bytes {
            return Ok(());
        }
        let what = format!("it has {found} bytes, stated are {}", self.bytes);
        Err(StoreError::Damaged { path: path.to_owned(), what })
    }

    /// Whether it is the place of a file that is named by its content.
    pub fn is_content(&self) -> bool {
        let [folder, name] = self.file.split('/').collect::<Vec<_>>()[..] else { return false };
        let stem = name.split('.').next();
        CONTENT_FOLDERS.contains(&folder) && stem.is_some() && stem == self.sha256.get(..32)
    }

    /// Whether these are the stated length and checksum; `path` is for the error.
    pub fn is(&self, path: &Path, bytes: u64, sha256: &str) -> Result<(), StoreError> {
        if (bytes, sha256) == (self.bytes, self.sha256.as_str()) {
            return Ok(());
        }
        let what =
            format!("{bytes} bytes with SHA-256 {sha256}, stated are {} with {}", self.bytes, self.sha256);
        Err(StoreError::Damaged { path: path.to_owned(), what })
    }
}
