//! What a database knows of one model, from its row alone.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::coverage::CoverageAnswer;
use super::scan::{Query, ScanAnswer, Scanner};
use crate::retrieval::SearchMode;
use crate::signals::fingerprint::is_outdated;
use crate::store::{AdapterFacts, Outcome, Row, StoreError, WeightFile};

/// What a database knows of one checkpoint: `db show --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShowAnswer {
    /// The repository, as it was called when it was crawled.
    pub repo_id: String,
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Which of the repository's checkpoints; left out for the main one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// The commit that was read.
    pub sha: Option<String>,
    /// When the repository was created.
    pub created_at: Option<DateTime<Utc>>,
    /// When its head was committed.
    pub last_modified: Option<DateTime<Utc>>,
    /// When it was crawled.
    pub crawled_at: Option<DateTime<Utc>>,
    /// Since when the Hub lists it no more.
    pub gone_at: Option<DateTime<Utc>>,
    /// How the crawl of it ended.
    pub outcome: Outcome,
    /// Why, unless it has a fingerprint.
    pub reason: Option<String>,
    /// `false`, `auto` or `manual`.
    pub gated: String,
    /// Downloads of the last 30 days.
    pub downloads: Option<u64>,
    /// Likes.
    pub likes: Option<u64>,
    /// Its task, as the Hub has it.
    pub pipeline_tag: Option<String>,
    /// Its library, as the Hub has it.
    pub library_name: Option<String>,
    /// Its licence, as its card has it.
    pub license: Option<String>,
    /// The base models that its card names, else its weight files.
    pub declared_bases: Vec<String>,
    /// `model_type` of config.json, else what the weight files say.
    pub model_type: Option<String>,
    /// First of `architectures`.
    pub architecture: Option<String>,
    /// Quantisation method of config.json.
    pub quantization: Option<String>,
    /// Width of the hidden dimension, from the tensors.
    pub hidden_size: Option<u32>,
    /// Layers of the main stack, from the tensors.
    pub layers: Option<u16>,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
    /// How most tensors that were sampled are stored.
    pub dtype: Option<String>,
    /// Stored elements of the opened weight files.
    pub parameters: Option<u64>,
    /// The weight files.
    pub weight_files: Vec<WeightFile>,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
    /// Bytes of response bodies that the crawl read of it.
    pub bytes_fetched: u64,
    /// What it changes, where it is an adapter; null for a model.
    pub adapter: Option<AdapterFacts>,
    /// How much of the weights was read; null where that is not known.
    pub coverage: Option<CoverageAnswer>,
    /// Version of the extraction that has read it.
    pub extraction_version: u32,
    /// Whether that is older than this program's, so that how much of the model it has seen is not known.
    pub outdated: bool,
    /// Its relatives in the database, itself left out; null where there is no fingerprint, or no index.
    pub relatives: Option<ScanAnswer>,
    /// Why there are no relatives to name.
    pub no_relatives: Option<String>,
}

impl ShowAnswer {
    /// What a row says, and its relatives by this index: up to `top_k` of each family. `Err` says why there is no index.
    pub fn new(row: Row, index: Result<&Scanner, &str>, top_k: usize) -> Result<Self, StoreError> {
        let relatives = match (index, Query::stored(row.clone())) {
            (Ok(scanner), Ok(query)) => Ok(scanner.scan(&query, top_k, SearchMode::default())?),
            (_, Err(unread)) => Err(unread.to_string()),
            (Err(why), Ok(_)) => Err(why.to_owned()),
        };
        let time = |millis: Option<i64>| millis.and_then(DateTime::from_timestamp_millis);
        let fingerprint = row.fingerprint.as_ref();
        Ok(Self {
            created_at: time(row.created_at),
            last_modified: time(row.last_modified),
            crawled_at: time(Some(row.crawled_at)),
            gone_at: time(row.gone_at),
            hidden_size: fingerprint.map(|fingerprint| fingerprint.hidden_size),
            layers: fingerprint.map(|fingerprint| fingerprint.layers),
            vocabulary: fingerprint.and_then(|fingerprint| fingerprint.vocabulary),
            coverage: row.coverage.as_ref().map(Into::into),
            outdated: is_outdated(row.extraction_version),
            no_relatives: relatives.as_ref().err().cloned(),
            relatives: relatives.ok(),
            repo_id: row.repo_id,
            hub_id: row.hub_id,
            component: row.component,
            sha: row.sha,
            outcome: row.outcome,
            reason: row.reason,
            gated: row.gated,
            downloads: row.downloads,
            likes: row.likes,
            pipeline_tag: row.pipeline_tag,
            library_name: row.library_name,
            license: row.license,
            declared_bases: row.declared_bases,
            model_type: row.model_type,
            architecture: row.architecture,
            quantization: row.quantization,
            dtype: row.dtype,
            parameters: row.parameters,
            weight_files: row.weight_files,
            bytes_in_repo: row.bytes_in_repo,
            bytes_fetched: row.bytes_fetched,
            adapter: row.adapter,
            extraction_version: row.extraction_version,
        })
    }
}
