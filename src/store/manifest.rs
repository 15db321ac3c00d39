//! Manifests: which files make up the database, one manifest a commit.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::entry::FileEntry;
use super::error::StoreError;
use super::files::DatabaseFiles;
use super::layout::{OLD_MANIFEST, manifest_name};
use crate::signals::fingerprint::{EXTRACTION_VERSION, is_comparable};

/// Version of the database layout and of the Parquet schema. Since 5 a row belongs to a component of a repository; since
/// 6 each row has its extraction version, and says how much of the model was read.
pub const FORMAT_VERSION: u32 = 6;
/// The oldest version that is read as it is; the next commit makes it this one. Its rows are of main components.
const OLDEST_VERSION: u32 = 4;
/// How often a manifest that goes away between listing and reading is looked for again.
const ATTEMPTS: usize = 5;

/// The list of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// [`EXTRACTION_VERSION`] of the writer; rows may be of any before that is comparable, and say so.
    pub extraction_version: u32,
    /// Random name of the database; copies of it have the same.
    pub id: String,
    /// Counts commits.
    pub generation: u64,
    /// When this one was made.
    pub committed_at: DateTime<Utc>,
    /// Shards in the order in which they were written.
    pub shards: Vec<ShardEntry>,
    /// What the last crawl left for the next one, by the part of the Hub that it crawls.
    pub waiting: BTreeMap<String, ShardEntry>,
    /// The index, once built.
    pub index: Option<IndexEntry>,
    /// What the crawls into this database can read.
    #[serde(default)]
    pub reads: Reads,
}

/// A version of what can be read of repositories, and since when crawls have it. A row without a fingerprint that was
/// made before may be none any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// 0: not known.
    pub version: u32,
    /// Milliseconds since 1970.
    pub since: i64,
}

/// One Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// The file.
    #[serde(flatten)]
    pub entry: FileEntry,
    /// Rows in it.
    pub rows: u64,
}

/// The index that scans use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Number of shards, from the first on, that it covers.
    pub shards: usize,
    /// Its files by the names that the index knows them by.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// The first manifest of a new database.
    pub(super) fn new() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            extraction_version: EXTRACTION_VERSION,
            id: format!("{:016x}", rand::random::<u64>()),
            generation: 0,
            committed_at: Utc::now(),
            shards: Vec::new(),
            waiting: BTreeMap::new(),
            index: None,
            reads: Reads::default(),
        }
    }

    /// The latest manifest.
    pub(super) fn latest(files: &DatabaseFiles) -> Result<Self, StoreError> {
        // Another process may remove old manifests while we look at them; then there is a newer one.
        for _ in 0..ATTEMPTS {
            let Some(generation) = files.generations()?.pop() else { break };
            if let Some(manifest) = Self::read(files, generation)? {
                return Ok(manifest);
            }
        }
        Err(match files.get(OLD_MANIFEST)? {
            Some(text) => check_version(&text, files, OLD_MANIFEST).err(),
            None => None,
        }
        .unwrap_or_else(|| StoreError::NotADatabase { path: files.location().to_string().into() }))
    }

    /// One manifest; `None` where there is none of this number.
    pub fn read(files: &DatabaseFiles, generation: u64) -> Result<Option<Self>, StoreError> {
        let Some(text) = files.manifest(generation)? else { return Ok(None) };
        let name = manifest_name(generation);
        let manifest = Self::parse(&text, files, &name)?;
        if manifest.generation != generation {
            return Err(damaged(files, &name, format!("it says that it is number {}", manifest.generation)));
        }
        Ok(Some(manifest))
    }

    /// Reads and checks a manifest's text; `name` is for errors.
    pub fn parse(text: &[u8], files: &DatabaseFiles, name: &str) -> Result<Self, StoreError> {
        check_version(text, files, name)?;
        let manifest: Self = serde_json::from_slice(text).map_err(|e| damaged(files, name, e.to_string()))?;
        check_extraction(manifest.extraction_version, &files.folder().join(name))?;
        if let Some(entry) = manifest.files().find(|entry| !entry.is_content()) {
            return Err(damaged(files, name, format!("{:?} is no place of a file", entry.file)));
        }
        if manifest.index.as_ref().is_some_and(|index| index.shards > manifest.shards.len()) {
            return Err(damaged(files, name, "its index covers more shards than there are".into()));
        }
        Ok(manifest)
    }

    /// The names of all files in a manifest of whatever version.
    pub(super) fn names_in(text: &[u8]) -> Vec<String> {
        fn walk(value: &serde_json::Value, names: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    names.extend(map.get("file").and_then(|file| file.as_str()).map(str::to_owned));
                    map.values().for_each(|value| walk(value, names));
                }
                serde_json::Value::Array(values) => values.iter().for_each(|value| walk(value, names)),
                _ => {}
            }
        }
        let mut names = Vec::new();
        if let Ok(value) = serde_json::from_slice(text) {
            walk(&value, &mut names);
        }
        names
    }

    /// Its text.
    pub fn to_text(&self) -> Vec<u8> {
        // Plain values: there is nothing that could fail to be written.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let indexes = self.index.iter().flat_map(|index| index.files.values());
        self.shards.iter().chain(self.waiting.values()).map(|shard| &shard.entry).chain(indexes)
    }

    /// Rows of all shards, replaced ones included.
    pub fn rows(&self) -> u64 {
        self.shards.iter().map(|shard| shard.rows).sum()
    }

    /// Shards that the index does not cover.
    pub fn shards_not_indexed(&self) -> usize {
        self.shards.len() - self.index.as_ref().map_or(0, |index| index.shards).min(self.shards.len())
    }
}

/// The version alone first: another version may have other fields.
fn check_version(text: &[u8], files: &DatabaseFiles, name: &str) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let Version { format_version: found } =
        serde_json::from_slice(text).map_err(|e| damaged(files, name, e.to_string()))?;
    if (OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Ok(());
    }
    let path = files.folder().join(name);
    Err(StoreError::Version { path, what: "format", found, supported: FORMAT_VERSION })
}

/// Whether rows of this extraction version can be read; `path` is for the error.
pub(in crate::store) fn check_extraction(found: u32, path: &Path) -> Result<(), StoreError> {
    if is_comparable(found) {
        return Ok(());
    }
    let path = path.to_owned();
    Err(StoreError::Version { path, what: "extraction", found, supported: EXTRACTION_VERSION })
}

fn damaged(files: &DatabaseFiles, name: &str, what: String) -> StoreError {
    StoreError::Damaged { path: files.folder().join(name), what }
}
