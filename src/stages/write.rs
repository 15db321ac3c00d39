//! write: rows into the database, a shard at a time.

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::extract::Extracted;
use super::fetch::Metadata;
use crate::hub::{Gated, RepoEntry};
use crate::signals::Fingerprint;
use crate::signals::profile::{Profile, STORED_TOKENS};
use crate::store::{Database, Outcome, Row, StoreError};

/// When rows become a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteSettings {
    /// Rows in a shard. A row is about 10 KB, so the default holds 20 MB back; a crash loses at most so many.
    pub rows_per_shard: usize,
    /// Failed outcomes that are expected and leave the run's exit code at 0.
    pub accept: Vec<Outcome>,
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self { rows_per_shard: 2000, accept: Vec::new() }
    }
}

/// Collects rows and writes full shards.
pub struct Writer<'a> {
    db: &'a mut Database,
    pending: Vec<Row>,
    rows_per_shard: usize,
    written: u64,
}

impl<'a> Writer<'a> {
    /// A writer with nothing pending.
    pub fn new(db: &'a mut Database, settings: &WriteSettings) -> Self {
        Self { db, pending: Vec::new(), rows_per_shard: settings.rows_per_shard.max(1), written: 0 }
    }

    /// Takes a row; writes a shard when enough are pending.
    pub fn push(&mut self, row: Row) -> Result<(), StoreError> {
        self.pending.push(row);
        if self.pending.len() >= self.rows_per_shard { self.flush() } else { Ok(()) }
    }

    /// Writes what is pending and returns the number of rows written in all. Dropping the writer does not write.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        self.flush()?;
        Ok(self.written)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let _span = tracing::info_span!("write", rows = self.pending.len()).entered();
        self.db.append(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// The row of a repository that ended without a fingerprint and without a description.
pub fn bare_row(name: &str, outcome: Outcome, reason: String) -> Row {
    Row {
        repo_id: name.to_owned(),
        hub_id: name.to_owned(),
        sha: None,
        created_at: None,
        last_modified: None,
        crawled_at: Utc::now().timestamp_millis(),
        outcome,
        reason: Some(reason),
        gated: "false".into(),
        downloads: None,
        likes: None,
        pipeline_tag: None,
        library_name: None,
        license: None,
        declared_bases: Vec::new(),
        model_type: None,
        architecture: None,
        quantization: None,
        config: None,
        tokenizer: None,
        dtype: None,
        parameters: None,
        weight_files: Vec::new(),
        bytes_in_repo: 0,
        bytes_fetched: 0,
        weights_digest: None,
        sample_digest: None,
        profile: None,
        fingerprint: None,
    }
}

/// The row of a repository that ended without a fingerprint.
pub fn failed_row(entry: &RepoEntry, outcome: Outcome, reason: String) -> Row {
    let tagged = |prefix: &str| {
        let prefix = prefix.to_owned();
        entry.tags.iter().filter_map(move |t| t.strip_prefix(&prefix).map(str::to_owned))
    };
    Row {
        hub_id: entry.object_id.clone(),
        sha: entry.sha.clone(),
        created_at: entry.created_at.map(|t| t.timestamp_millis()),
        last_modified: entry.last_modified.map(|t| t.timestamp_millis()),
        gated: match entry.gated {
            Some(Gated::Auto) => "auto",
            Some(Gated::Manual) => "manual",
            _ => "false",
        }
        .to_owned(),
        downloads: entry.downloads,
        likes: entry.likes,
        pipeline_tag: entry.pipeline_tag.clone(),
        library_name: entry.library_name.clone(),
        license: tagged("license:").next(),
        // `base_model:org/name`; the tags with a relation (`base_model:quantized:org/name`) repeat it.
        declared_bases: tagged("base_model:").filter(|base| !base.contains(':')).collect(),
        ..bare_row(entry.id.as_str(), outcome, reason)
    }
}

/// The row of an indexed repository.
pub fn indexed_row(
    entry: &RepoEntry,
    metadata: &Metadata,
    extracted: Extracted,
    fingerprint: Fingerprint,
) -> Row {
    let config = &metadata.config;
    Row {
        outcome: Outcome::Indexed,
        reason: None,
        model_type: config.model_type.clone(),
        architecture: config.architecture.clone(),
        quantization: config.quantization.as_ref().and_then(|q| q.method.clone()),
        config: Some(config.clone()),
        tokenizer: metadata.tokenizer.as_ref().ok().map(|known| known.print.clone()),
        dtype: extracted.dtype,
        parameters: Some(extracted.parameters),
        weight_files: extracted.files,
        bytes_in_repo: extracted.bytes_in_repo,
        bytes_fetched: metadata.bytes_fetched + extracted.bytes_fetched,
        weights_digest: extracted.weights_digest,
        sample_digest: Some(extracted.sample_digest),
        profile: Some(Profile::new(&extracted.samples, STORED_TOKENS)),
        fingerprint: Some(fingerprint),
        ..failed_row(entry, Outcome::Indexed, String::new())
    }
}
