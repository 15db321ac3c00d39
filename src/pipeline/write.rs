//! write: rows into the database, a shard at a time.

use std::time::{Duration, Instant};

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::changes::gated;
use crate::checkpoint::extract::Extracted;
use crate::checkpoint::fetch::Metadata;
use crate::formats::ModelConfig;
use crate::hub::RepoEntry;
use crate::signals::profile::{Profile, STORED_TOKENS};
use crate::signals::{Fingerprint, Role};
use crate::store::{Database, Outcome, Partition, Row, RowRef, StoreError, Tag, Waiting, WeightFile};

/// When rows become a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteSettings {
    /// Rows in a shard. A row is about 10 KB, so the default holds 20 MB back; a crash loses at most so many.
    pub rows_per_shard: usize,
    /// Seconds after which fewer rows become a shard as well, so that a slow crawl loses little in a crash.
    pub shard_seconds: u64,
    /// Failed outcomes that are expected and leave the run's exit code at 0.
    pub accept: Vec<Outcome>,
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self { rows_per_shard: 2000, shard_seconds: 300, accept: Vec::new() }
    }
}

/// Collects rows and writes full shards.
pub struct Writer<'a> {
    db: &'a mut Database,
    pending: Vec<Row>,
    settings: WriteSettings,
    since: Instant,
    written: u64,
}

impl<'a> Writer<'a> {
    /// A writer with nothing pending.
    pub fn new(db: &'a mut Database, settings: &WriteSettings) -> Self {
        Self { db, pending: Vec::new(), settings: settings.clone(), since: Instant::now(), written: 0 }
    }

    /// The database as it is written so far.
    pub fn database(&self) -> &Database {
        self.db
    }

    /// Takes a row; writes a shard when enough are pending, and then returns the readings that are now in the
    /// database, each with its place.
    pub fn push(&mut self, row: Row) -> Result<Vec<(Tag, RowRef)>, StoreError> {
        self.pending.push(row);
        let full = self.pending.len() >= self.settings.rows_per_shard.max(1);
        if full || self.due().is_zero() { self.flush() } else { Ok(Vec::new()) }
    }

    /// The pending row with this reading.
    pub fn pending(&self, reading: Tag) -> Option<&Row> {
        self.pending.iter().rev().find(|row| reading_of(row) == Some(reading))
    }

    /// Whether something is pending.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Time until what is pending should be written.
    pub fn due(&self) -> Duration {
        Duration::from_secs(self.settings.shard_seconds).saturating_sub(self.since.elapsed())
    }

    /// Writes what is pending; returns as [`Writer::push`].
    pub fn flush(&mut self) -> Result<Vec<(Tag, RowRef)>, StoreError> {
        let _span = tracing::info_span!("write", rows = self.pending.len()).entered();
        let shard = self.db.append(&self.pending)?.unwrap_or_default();
        let readings = self
            .pending
            .iter()
            .zip(0..)
            .filter_map(|(row, number)| Some((reading_of(row)?, RowRef { shard, row: number })));
        let readings = readings.collect();
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.since = Instant::now();
        Ok(readings)
    }

    /// Writes what is pending together with what waits of this part of the Hub for the next crawl, and returns the
    /// number of rows written in all. Dropping the writer does not write.
    pub fn finish(
        mut self,
        part: Partition,
        waiting: impl Iterator<Item = Result<Waiting, StoreError>>,
    ) -> Result<u64, StoreError> {
        let _span = tracing::info_span!("write", rows = self.pending.len()).entered();
        self.db.append_last(&self.pending, part, waiting)?;
        self.written += self.pending.len() as u64;
        Ok(self.written)
    }
}

/// What others may take a row's fingerprint by.
pub fn reading_of(row: &Row) -> Option<Tag> {
    row.reading.as_deref().filter(|_| row.fingerprint.is_some()).map(Tag::of)
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
        gone_at: None,
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
        reading: None,
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
        gated: gated(entry.gated).to_owned(),
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
    reading: Option<String>,
    extracted: Extracted,
    fingerprint: Fingerprint,
) -> Row {
    let measured = dimensions(&extracted);
    Row {
        dtype: extracted.dtype,
        parameters: Some(extracted.parameters),
        weight_files: extracted.files,
        bytes_in_repo: extracted.bytes_in_repo,
        bytes_fetched: metadata.bytes_fetched + extracted.bytes_fetched,
        weights_digest: extracted.weights_digest,
        reading,
        sample_digest: Some(extracted.sample_digest),
        profile: Some(Profile::new(&extracted.samples, STORED_TOKENS)),
        fingerprint: Some(fingerprint),
        ..described_row(entry, metadata, Some(&measured))
    }
}

/// The dimensions that the tensors have.
fn dimensions(extracted: &Extracted) -> ModelConfig {
    let samples = &extracted.samples;
    let down = samples.blocks.iter().find(|b| b.position.role == Role::Down && b.position.expert.is_none());
    ModelConfig {
        hidden_size: Some(samples.hidden_size as u64).filter(|&d| d > 0),
        layers: Some(u64::from(samples.layers)).filter(|&n| n > 0),
        intermediate_size: down.map(|block| block.columns as u64),
        vocab_size: samples.vocabulary.map(u64::from),
        ..ModelConfig::default()
    }
}

/// The row of a repository whose weights were read before, in the repository of `same`.
pub fn same_row(entry: &RepoEntry, metadata: &Metadata, files: Vec<WeightFile>, same: Row) -> Row {
    Row {
        dtype: same.dtype,
        parameters: same.parameters,
        weights_digest: crate::checkpoint::extract::weights_digest(&files),
        weight_files: files,
        bytes_in_repo: same.bytes_in_repo,
        bytes_fetched: metadata.bytes_fetched,
        reading: same.reading,
        sample_digest: same.sample_digest,
        profile: same.profile,
        fingerprint: same.fingerprint,
        ..described_row(entry, metadata, same.config.as_ref())
    }
}

/// A row with what the listing says now of a repository whose files have not changed.
pub fn relabelled_row(entry: &RepoEntry, before: Row) -> Row {
    let said = failed_row(entry, before.outcome, String::new());
    Row {
        repo_id: said.repo_id,
        crawled_at: later_than(before.crawled_at),
        gone_at: None,
        gated: said.gated,
        downloads: said.downloads,
        likes: said.likes,
        pipeline_tag: said.pipeline_tag,
        library_name: said.library_name,
        license: said.license,
        declared_bases: said.declared_bases,
        ..before
    }
}

/// The row of a repository that is listed no more.
pub fn gone_row(before: Row) -> Row {
    let now = later_than(before.crawled_at);
    Row { crawled_at: now, gone_at: Some(now), ..before }
}

/// The time, but later than that of a row that is to be replaced, whatever the clock was when that was made.
/// Milliseconds since 1970.
pub fn later_than(replaced: i64) -> i64 {
    Utc::now().timestamp_millis().max(replaced.saturating_add(1))
}

/// `measured` has the dimensions, for what config.json does not say or was not asked.
fn described_row(entry: &RepoEntry, metadata: &Metadata, measured: Option<&ModelConfig>) -> Row {
    let config = metadata.config.clone();
    let config = measured.map_or_else(|| config.clone(), |measured| config.clone().or_dimensions(measured));
    Row {
        outcome: Outcome::Indexed,
        reason: None,
        model_type: config.model_type.clone(),
        architecture: config.architecture.clone(),
        quantization: config.quantization.as_ref().and_then(|q| q.method.clone()),
        config: Some(config),
        tokenizer: metadata.tokenizer.as_ref().ok().map(|known| known.print.clone()),
        ..failed_row(entry, Outcome::Indexed, String::new())
    }
}
