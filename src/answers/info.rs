//! What a database holds.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::retrieval::Index;
use crate::retrieval::tables::{FamilyRow, Posting};
use crate::signals::fingerprint::is_outdated;
use crate::store::statistics::Statistics;
use crate::store::{Database, Outcome, StoreError};

/// Families that are named.
const LARGEST: usize = 5;

/// What a database holds: `db info --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Info {
    /// Checkpoints with a row.
    pub models: u64,
    /// Repositories that they are of.
    pub repositories: usize,
    /// Checkpoints with a fingerprint.
    pub indexed: u64,
    /// Checkpoints by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Shards of the snapshot.
    pub shards: usize,
    /// Bytes of all files that the snapshot names.
    pub bytes: u64,
    /// The same for each checkpoint.
    pub bytes_per_model: Option<u64>,
    /// Number of the snapshot.
    pub generation: u64,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// Version of the files.
    pub format_version: u32,
    /// Version of the extraction that the last writer had.
    pub extraction_version: u32,
    /// Checkpoints with a fingerprint, by the version of the extraction that made it.
    pub extraction_versions: BTreeMap<String, u64>,
    /// Those of an older version than this program's, also of repositories that are gone: how much of the model they have seen is not known.
    pub outdated: u64,
    /// By format, by size, and age.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// Families of the index.
    pub families: usize,
    /// Distinct checkpoints of the index.
    pub contents: usize,
    /// The families with most distinct checkpoints.
    pub largest_families: Vec<LargeFamily>,
    /// Whether there is an index.
    pub has_index: bool,
    /// Shards that the index does not cover yet.
    pub shards_not_indexed: usize,
}

/// One of the largest families.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LargeFamily {
    /// Its name.
    pub family: String,
    /// The oldest repository of its likeliest ancestor.
    pub root: Option<String>,
    /// Distinct checkpoints in it.
    pub contents: u32,
}

/// Looks into a database.
pub fn info(db: &Database) -> Result<Info, StoreError> {
    let manifest = db.manifest();
    let live = db.live()?;
    let outcomes = live.outcomes();
    let extraction_versions = live.extraction_versions();
    let bytes: u64 = manifest.files().map(|entry| entry.bytes).sum();
    let models: u64 = outcomes.values().sum();
    // An index that cannot be opened says nothing of families; scans and `verify` say why.
    let index = Index::open(db).ok();
    Ok(Info {
        models,
        repositories: live.repositories().count(),
        indexed: outcomes.get(&Outcome::Indexed).copied().unwrap_or(0),
        outcomes: outcomes.iter().map(|(outcome, n)| (outcome.name(), *n)).collect(),
        shards: manifest.shards.len(),
        bytes,
        bytes_per_model: bytes.checked_div(models),
        generation: manifest.generation,
        committed_at: manifest.committed_at,
        format_version: manifest.format_version,
        extraction_version: manifest.extraction_version,
        outdated: extraction_versions.iter().filter(|(v, _)| is_outdated(**v)).map(|(_, n)| n).sum(),
        extraction_versions: extraction_versions.iter().map(|(v, n)| (v.to_string(), *n)).collect(),
        statistics: db.statistics(&live)?,
        families: index.as_ref().map_or(0, Index::families),
        contents: index.as_ref().map_or(0, Index::checkpoints),
        largest_families: index.as_ref().map(largest).unwrap_or_default(),
        has_index: manifest.index.is_some(),
        shards_not_indexed: manifest.shards_not_indexed(),
    })
}

/// Of equally large ones those come first whose root does by name: numbers and names of families depend on what was
/// crawled first.
fn largest(index: &Index) -> Vec<LargeFamily> {
    let families = (0..index.families() as u32).map(|number| index.family(number));
    let family = |family: &FamilyRow| LargeFamily {
        family: family.id.clone(),
        root: index.repositories(family.root).first().map(Posting::name),
        contents: family.checkpoints,
    };
    let mut largest: Vec<LargeFamily> = families.map(family).collect();
    largest.sort_by(|a, b| (Reverse(a.contents), &a.root).cmp(&(Reverse(b.contents), &b.root)));
    largest.truncate(LARGEST);
    largest
}
