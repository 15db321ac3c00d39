//! Parts of rows, of which the other columns are not read, and the rows of what waits.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::UInt64Type;

use super::adapter::RANK;
use super::arrays::{text, time};
use super::reader::{EXTRACTION_VERSION, Reader};
use crate::signals::Fingerprint;
use crate::store::StoreError;
use crate::store::row::{Outcome, Waiting};

/// The columns of a [`IndexRow`].
pub const INDEX_COLUMNS: [&str; 38] = [
    "repo_id",
    "hub_id",
    "component",
    "created_at",
    "declared_bases",
    "quantization",
    "weights_digest",
    "sample_digest",
    EXTRACTION_VERSION,
    "hidden_size",
    "layers",
    "vocabulary",
    "resemblance",
    "cell_role",
    "cell_stack",
    "cell_expert",
    "cell_hash",
    "cell_layer",
    "cell_start",
    "cell_rows",
    "cell_dimension",
    "cell_residual",
    "cell_sketch",
    "products",
    "product_concentration",
    "product_rows",
    "vector",
    "coverage_parameters",
    "coverage_parameters_read",
    "coverage_bytes",
    "coverage_bytes_read",
    "rest_kind",
    "rest_what",
    "rest_parameters",
    "rest_bytes",
    "tokenizer_tokens",
    "quantised",
    RANK,
];

/// What the index needs of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexRow {
    /// Name.
    pub repo_id: String,
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Which of the repository's checkpoints.
    pub component: String,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// What the card claims.
    pub declared_bases: Vec<String>,
    /// Whether config.json states a quantisation.
    pub quantised: bool,
    /// Digest of the weight files.
    pub weights_digest: Option<String>,
    /// Digest of the sampled bytes.
    pub sample_digest: Option<String>,
    /// Of the extraction that made the row.
    pub extraction_version: u32,
    /// The fingerprint, if indexed.
    pub fingerprint: Option<Fingerprint>,
}

/// A batch of [`INDEX_COLUMNS`] to what the index needs; `path` is for errors.
pub fn index_rows_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<IndexRow>, StoreError> {
    let reader = Reader { batch, path };
    let row = |i| {
        let extent = reader.extent(i, reader.coverage(i)?.as_ref())?;
        Ok(IndexRow {
            repo_id: reader.required("repo_id", i)?,
            hub_id: reader.required("hub_id", i)?,
            component: reader.component(i)?,
            created_at: reader.time("created_at", i)?,
            declared_bases: reader.texts("declared_bases", i)?.into_iter().flatten().collect(),
            quantised: reader.text("quantization", i)?.is_some(),
            weights_digest: reader.text("weights_digest", i)?,
            sample_digest: reader.text("sample_digest", i)?,
            extraction_version: reader.extraction_version(i)?,
            fingerprint: reader.fingerprint(i, extent)?,
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// The columns of a [`Key`].
pub const KEY_COLUMNS: [&str; 10] = [
    "repo_id",
    "hub_id",
    "component",
    "sha",
    "crawled_at",
    "gone_at",
    "outcome",
    "gated",
    "reading",
    EXTRACTION_VERSION,
];

/// What tells whether a repository must be crawled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Which of the repository's checkpoints.
    pub component: String,
    /// Its name.
    pub repo_id: String,
    /// Commit that was read.
    pub sha: Option<String>,
    /// When the row was made, milliseconds since 1970.
    pub crawled_at: i64,
    /// Whether the Hub lists it no more.
    pub is_gone: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// `false`, `auto` or `manual`.
    pub gated: String,
    /// See [`Row::extraction_key`](crate::store::Row::extraction_key).
    pub extraction_key: Option<String>,
    /// Of the extraction that made the row.
    pub extraction_version: u32,
}

/// A batch of [`KEY_COLUMNS`] to keys; `path` is for errors.
pub fn keys_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Key>, StoreError> {
    let reader = Reader { batch, path };
    let key = |i| {
        Ok(Key {
            hub_id: reader.required("hub_id", i)?,
            component: reader.component(i)?,
            repo_id: reader.required("repo_id", i)?,
            sha: reader.text("sha", i)?,
            crawled_at: reader.time("crawled_at", i)?.unwrap_or_default(),
            is_gone: reader.time("gone_at", i)?.is_some(),
            outcome: reader.outcome(i)?,
            gated: reader.required("gated", i)?,
            extraction_key: reader.text("reading", i)?,
            extraction_version: reader.extraction_version(i)?,
        })
    };
    (0..batch.num_rows()).map(key).collect()
}

/// The columns of a [`Summary`].
pub const SUMMARY_COLUMNS: [&str; 13] = [
    "hub_id",
    "component",
    "repo_id",
    "crawled_at",
    "gone_at",
    "created_at",
    "license",
    "declared_bases",
    "quantization",
    "dtype",
    "parameters",
    "bytes_in_repo",
    "bytes_fetched",
];

/// What the counts and the export say of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Which of the repository's checkpoints.
    pub component: String,
    /// Name.
    pub repo_id: String,
    /// When the row was made, milliseconds since 1970.
    pub crawled_at: i64,
    /// Whether the Hub lists the repository no more.
    pub is_gone: bool,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// From the `license:` tag.
    pub license: Option<String>,
    /// What the card claims.
    pub declared_bases: Vec<String>,
    /// Quantisation method of config.json.
    pub quantization: Option<String>,
    /// Dtype of most sampled tensors.
    pub dtype: Option<String>,
    /// Stored elements of the opened weight files.
    pub parameters: Option<u64>,
    /// Bytes of all weight files.
    pub bytes_in_repo: u64,
    /// Bytes of response bodies read for it.
    pub bytes_fetched: u64,
}

/// A batch of [`SUMMARY_COLUMNS`] to summaries; `path` is for errors.
pub fn summaries_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Summary>, StoreError> {
    let reader = Reader { batch, path };
    let summary = |i| {
        Ok(Summary {
            hub_id: reader.required("hub_id", i)?,
            component: reader.component(i)?,
            repo_id: reader.required("repo_id", i)?,
            crawled_at: reader.time("crawled_at", i)?.unwrap_or_default(),
            is_gone: reader.time("gone_at", i)?.is_some(),
            created_at: reader.time("created_at", i)?,
            license: reader.text("license", i)?,
            declared_bases: reader.texts("declared_bases", i)?.into_iter().flatten().collect(),
            quantization: reader.text("quantization", i)?,
            dtype: reader.text("dtype", i)?,
            parameters: reader.number::<UInt64Type>("parameters", i)?,
            bytes_in_repo: reader.number::<UInt64Type>("bytes_in_repo", i)?.unwrap_or_default(),
            bytes_fetched: reader.number::<UInt64Type>("bytes_fetched", i)?.unwrap_or_default(),
        })
    };
    (0..batch.num_rows()).map(summary).collect()
}

/// Waiting repositories to a batch with the columns `hub_id`, `repo_id` and `since`.
pub fn waiting_to_batch(waiting: &[Waiting]) -> Result<RecordBatch, arrow::error::ArrowError> {
    RecordBatch::try_from_iter([
        ("hub_id", text(waiting.iter().map(|w| Some(&w.hub_id)))),
        ("repo_id", text(waiting.iter().map(|w| Some(&w.repo_id)))),
        ("since", time(waiting.iter().map(|w| Some(w.since)))),
    ])
}

/// A batch back to waiting repositories; `path` is for errors.
pub fn waiting_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Waiting>, StoreError> {
    let reader = Reader { batch, path };
    let waiting = |i| {
        Ok(Waiting {
            hub_id: reader.required("hub_id", i)?,
            repo_id: reader.required("repo_id", i)?,
            since: reader.time("since", i)?.unwrap_or_default(),
        })
    };
    (0..batch.num_rows()).map(waiting).collect()
}
