//! The names of an index's files, and `index.json`, which says what the index is.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::quality::Quality;
use super::settings::BuildSettings;
use crate::signals::fingerprint::{EXTRACTION_VERSION, VECTOR_DIMENSIONS, is_comparable};
use crate::store::manifest::{IndexEntry, Manifest};
use crate::store::{Database, FileEntry, StoreError};

/// Folder of the files of indexes.
pub(super) const FOLDER: &str = "index";
/// Version of the files of an index.
pub const INDEX_VERSION: u32 = 10;
/// Name of the file that says what an index is.
pub const METADATA: &str = "index.json";
pub(super) const CHECKPOINTS: &str = "contents.parquet";
pub(super) const REPRESENTATIVES: &str = "heads.parquet";
pub(super) const FAMILIES: &str = "families.parquet";
pub(super) const POSTINGS: &str = "postings.parquet";
/// For people and other tools: searches do not read it.
pub const LINEAGE: &str = "lineage.parquet";
/// Longest metadata that is read, bytes: 70 for each shard.
pub const MOST_METADATA: u64 = 64 << 20;

/// `index.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) index_version: u32,
    /// Of the build; its rows may be of any before that is comparable.
    pub(super) extraction_version: u32,
    pub(super) little_endian: bool,
    pub(super) dimensions: usize,
    /// The database that it was built of.
    pub(super) database: String,
    /// Rows of the tables.
    pub(super) postings: usize,
    #[serde(rename = "contents")]
    pub(super) checkpoints: usize,
    #[serde(rename = "heads")]
    pub(super) representatives: usize,
    pub(super) families: usize,
    /// Whether it covered all shards when it was built; one that was interrupted did not.
    pub(super) complete: bool,
    pub(super) settings: BuildSettings,
    /// SHA-256 of the shards that it covers, in the order of the manifest.
    pub(super) shards: Vec<String>,
    pub(super) quality: Quality,
}

impl Metadata {
    /// Reads it from a file.
    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        let mut json = Vec::new();
        let file = File::open(path).map_err(StoreError::io(path))?;
        file.take(MOST_METADATA).read_to_end(&mut json).map_err(StoreError::io(path))?;
        // First: another version may have other fields.
        check_version(&json, path)?;
        let metadata: Self = serde_json::from_slice(&json).map_err(StoreError::damaged(path))?;
        let damaged = |what: &str| Err(StoreError::Damaged { path: path.to_owned(), what: what.to_owned() });
        if metadata.little_endian != cfg!(target_endian = "little") {
            return damaged("it was built on a machine of the other byte order");
        }
        if metadata.dimensions != VECTOR_DIMENSIONS {
            return damaged("its vectors have another length");
        }
        Ok(metadata)
    }

    /// Writes it among the files of a database.
    pub(super) fn write(&self, db: &Database) -> Result<FileEntry, StoreError> {
        let json = serde_json::to_vec_pretty(self).map_err(StoreError::damaged(db.folder()))?;
        db.files().add(FOLDER, "json", |file| file.write_all(&json).map_err(StoreError::io(db.folder())))
    }

    /// Whether it was built of this database, as it is; `path` is for errors.
    pub(super) fn check(
        &self,
        manifest: &Manifest,
        entry: &IndexEntry,
        path: &Path,
    ) -> Result<(), StoreError> {
        if self.database != manifest.id {
            let of: String = self.database.chars().take(64).collect();
            let what = format!("of {of}, and it lies in {}", manifest.id);
            return Err(StoreError::ForeignIndex { path: path.to_owned(), what });
        }
        let stale = |what| Err(StoreError::StaleIndex { path: path.to_owned(), what });
        if !is_comparable(self.extraction_version) {
            let found = self.extraction_version;
            return stale(format!("fingerprints of version {found}, and they are of {EXTRACTION_VERSION}"));
        }
        if self.shards.len() != entry.shards {
            return stale(format!("{} shards, and the manifest says {}", self.shards.len(), entry.shards));
        }
        let mut pairs = (0..).zip(self.shards.iter().zip(&manifest.shards));
        if let Some((n, (_, shard))) = pairs.find(|(_, (sha256, shard))| **sha256 != shard.entry.sha256) {
            return stale(format!("another shard {n} than {}", shard.entry.file));
        }
        let rows: u64 = manifest.shards.iter().take(entry.shards).map(|shard| shard.rows).sum();
        if self.postings as u64 > rows {
            return stale(format!("{} repositories, and its shards have {rows}", self.postings));
        }
        Ok(())
    }
}

/// Whether this version reads an index with these [`METADATA`]. `path` is for errors: [`StoreError::Version`], or
/// [`StoreError::Damaged`] where they name no version.
pub fn check_version(metadata: &[u8], path: &Path) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Version {
        index_version: u32,
    }
    let Version { index_version: found } =
        serde_json::from_slice(metadata).map_err(StoreError::damaged(path))?;
    if found == INDEX_VERSION {
        return Ok(());
    }
    Err(StoreError::Version { path: path.to_owned(), what: "index", found, supported: INDEX_VERSION })
}
