//! `manifest.json`: which files make up the database.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{StoreError, atomic};
use crate::signals::fingerprint::EXTRACTION_VERSION;

/// Version of the database layout and of the Parquet schema.
pub const FORMAT_VERSION: u32 = 3;
/// Name of the manifest in a database folder.
pub const FILE_NAME: &str = "manifest.json";

/// The list of files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// [`EXTRACTION_VERSION`] of the fingerprints.
    pub extraction_version: u32,
    /// Counts commits.
    pub generation: u64,
    /// Shards in the order in which they were written.
    pub shards: Vec<ShardEntry>,
    /// What the last crawl left for the next one.
    pub waiting: Option<ShardEntry>,
    /// The index, once built.
    pub index: Option<IndexEntry>,
}

/// One Parquet file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Path under the database folder.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it, lower-case hex.
    pub sha256: String,
}

/// The index that scans use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Folder under the database folder.
    pub folder: String,
    /// Number of shards, from the first on, that it covers.
    pub shards: usize,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            extraction_version: EXTRACTION_VERSION,
            generation: 0,
            shards: Vec::new(),
            waiting: None,
            index: None,
        }
    }
}

impl Manifest {
    /// Reads and checks a database's manifest.
    pub fn read(folder: &Path) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let path = folder.join(FILE_NAME);
        let json = match std::fs::read(&path) {
            Ok(json) => json,
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Err(StoreError::NotADatabase { path: folder.to_owned() });
            }
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        // The version alone first: another version may have other fields.
        let Version { format_version: found } =
            serde_json::from_slice(&json).map_err(StoreError::damaged(&path))?;
        let version =
            |what, found, supported| Err(StoreError::Version { path: path.clone(), what, found, supported });
        if found != FORMAT_VERSION {
            return version("format", found, FORMAT_VERSION);
        }
        let manifest: Self = serde_json::from_slice(&json).map_err(StoreError::damaged(&path))?;
        if manifest.extraction_version != EXTRACTION_VERSION {
            return version("extraction", manifest.extraction_version, EXTRACTION_VERSION);
        }
        let inside = |name: &str| !name.starts_with('/') && !name.split('/').any(|part| part == "..");
        let folders = manifest.index.iter().map(|i| &i.folder);
        let mut names = manifest.shards.iter().chain(&manifest.waiting).map(|s| &s.file).chain(folders);
        if let Some(name) = names.find(|name| !inside(name)) {
            return Err(StoreError::Damaged { path, what: format!("{name:?} leaves the database folder") });
        }
        Ok(manifest)
    }

    /// Makes this manifest the database's state.
    pub fn commit(&mut self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(FILE_NAME);
        self.generation += 1;
        let json = serde_json::to_vec_pretty(self).map_err(StoreError::damaged(&path))?;
        atomic::write(&path, &json)
    }
}
