//! The row that a repository ends as.

use chrono::Utc;

use super::extract::{self, Extracted};
use super::metadata::Metadata;
use crate::formats::ModelConfig;
use crate::hub::{Gated, RepoEntry};
use crate::signals::fingerprint::EXTRACTION_VERSION;
use crate::signals::profile::{Profile, STORED_TOKENS};
use crate::signals::{Coverage, Fingerprint, Role};
use crate::store::{AdapterFacts, Outcome, Row, Tag, WeightFile};

/// What others may take a row's fingerprint by.
pub fn extraction_key_of(row: &Row) -> Option<Tag> {
    row.extraction_key.as_deref().filter(|_| row.fingerprint.is_some()).map(Tag::of)
}

/// The row of a repository that ended without a fingerprint and without a description.
pub fn bare(name: &str, outcome: Outcome, reason: String) -> Row {
    Row {
        repo_id: name.to_owned(),
        hub_id: name.to_owned(),
        component: String::new(),
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
        extraction_key: None,
        sample_digest: None,
        extraction_version: EXTRACTION_VERSION,
        coverage: None,
        adapter: None,
        profile: None,
        fingerprint: None,
    }
}

/// The row of a repository that ended without a fingerprint.
pub fn failed(entry: &RepoEntry, outcome: Outcome, reason: String) -> Row {
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
        ..bare(entry.id.as_str(), outcome, reason)
    }
}

/// The row of an indexed repository.
pub fn indexed(
    entry: &RepoEntry,
    metadata: &Metadata,
    extraction_key: Option<String>,
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
        extraction_key,
        sample_digest: extracted.sample_digest,
        coverage: extracted.samples.coverage.clone(),
        adapter: extracted.adapter.map(|facts| metadata.named(facts)),
        profile: Some(Profile::new(&extracted.samples, STORED_TOKENS)),
        fingerprint: Some(fingerprint),
        ..described(entry, metadata, Some(&measured))
    }
}

/// Weight files that were opened, and tell nothing.
pub struct Unread {
    /// The files.
    pub files: Vec<WeightFile>,
    /// Bytes of all of them, as far as known.
    pub bytes_in_repo: u64,
    /// Bytes of them that were read.
    pub bytes_read: u64,
    /// What their tensors are, as far as that is known.
    pub coverage: Option<Coverage>,
    /// What they change, where they are an adapter.
    pub adapter: Option<AdapterFacts>,
}

/// The row of a checkpoint that is known by its headers alone.
pub fn unsupported(entry: &RepoEntry, metadata: &Metadata, unread: Unread, reason: String) -> Row {
    let Unread { coverage, adapter, .. } = unread;
    Row {
        outcome: Outcome::Unsupported,
        reason: Some(reason),
        weight_files: unread.files,
        bytes_in_repo: unread.bytes_in_repo,
        bytes_fetched: metadata.bytes_fetched + unread.bytes_read,
        parameters: coverage.as_ref().map(|coverage| coverage.parameters),
        coverage,
        adapter: adapter.map(|facts| metadata.named(facts)),
        ..described(entry, metadata, None)
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
pub fn copied(entry: &RepoEntry, metadata: &Metadata, files: Vec<WeightFile>, same: Row) -> Row {
    Row {
        dtype: same.dtype,
        parameters: same.parameters,
        weights_digest: extract::weights_digest(&files, None),
        weight_files: files,
        bytes_in_repo: same.bytes_in_repo,
        bytes_fetched: metadata.bytes_fetched,
        extraction_key: same.extraction_key,
        sample_digest: same.sample_digest,
        extraction_version: same.extraction_version,
        coverage: same.coverage,
        // Of the same file another repository may say something else.
        adapter: same.adapter.map(|facts| metadata.named(facts)),
        profile: same.profile,
        fingerprint: same.fingerprint,
        ..described(entry, metadata, same.config.as_ref())
    }
}

/// A row with what the listing says now of a repository whose files have not changed. A card that names no base leaves
/// those that the files name.
pub fn updated(entry: &RepoEntry, before: Row) -> Row {
    let said = failed(entry, before.outcome, String::new());
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
        declared_bases: declared_bases(said.declared_bases, entry, &before.declared_bases),
        ..before
    }
}

/// The row of a repository that is listed no more.
pub fn gone(before: Row) -> Row {
    let now = later_than(before.crawled_at);
    Row { crawled_at: now, gone_at: Some(now), ..before }
}

/// The time, but later than that of a row that is to be replaced, whatever the clock was when that was made.
/// Milliseconds since 1970.
pub fn later_than(replaced: i64) -> i64 {
    Utc::now().timestamp_millis().max(replaced.saturating_add(1))
}

/// `measured` has the dimensions, for what config.json does not say or was not asked.
fn described(entry: &RepoEntry, metadata: &Metadata, measured: Option<&ModelConfig>) -> Row {
    let config = metadata.config.clone();
    let config = measured.map_or_else(|| config.clone(), |measured| config.clone().or_dimensions(measured));
    let card = failed(entry, Outcome::Indexed, String::new());
    Row {
        outcome: Outcome::Indexed,
        reason: None,
        model_type: config.model_type.clone(),
        architecture: config.architecture.clone(),
        quantization: config.quantization.as_ref().and_then(|q| q.method.clone()),
        config: Some(config),
        tokenizer: metadata.tokenizer.as_ref().ok().map(|known| known.print.clone()),
        declared_bases: declared_bases(card.declared_bases, entry, &metadata.declared_bases),
        ..card
    }
}

/// What the card says, else what the files say.
fn declared_bases(of_card: Vec<String>, entry: &RepoEntry, of_files: &[String]) -> Vec<String> {
    if of_card.is_empty() {
        of_files.iter().filter(|base| *base != entry.id.as_str()).cloned().collect()
    } else {
        of_card
    }
}

/// How the database names a way of access.
pub fn gated(gated: Option<Gated>) -> &'static str {
    match gated {
        Some(Gated::Auto) => "auto",
        Some(Gated::Manual) => "manual",
        Some(Gated::False) | None => "false",
    }
}
