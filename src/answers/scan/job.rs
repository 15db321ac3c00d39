//! A scan that can be carried to whoever makes it.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::ScanAnswer;
use super::query::{Query, QueryError};
use super::scanner::Scanner;
use crate::checkpoint::model::Model;
use crate::checkpoint::reading::Reader;
use crate::hub::{Hub, HubSettings};
use crate::retrieval::SearchMode;

/// Related checkpoints that a scan names of each family by default.
pub const TOP_K: usize = 5;

/// A model to be scanned, and how.
///
/// ```
/// use hubprint::answers::scan::ScanJob;
///
/// let job: ScanJob = serde_json::from_str(r#"{"model": "org/name", "top_k": 3}"#)?;
/// assert!(job.options.hub && job.options.top_k == 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanJob {
    /// A repository (`org/name` or `org/name@revision`), a checkpoint folder, a cache snapshot, or a weight file.
    pub model: String,
    /// How.
    #[serde(flatten)]
    pub options: ScanOptions,
}

/// How models are scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScanOptions {
    /// How hard to search.
    pub mode: SearchMode,
    /// Related checkpoints that are named of each family, at most.
    pub top_k: usize,
    /// Whether the model may be read from the Hub; else only what is on this machine.
    pub hub: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { mode: SearchMode::default(), top_k: TOP_K, hub: true }
    }
}

impl ScanJob {
    /// Of this model, as usual.
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), options: ScanOptions::default() }
    }
}

impl Scanner {
    /// Opens the model, reads it if that is needed, and finds its relatives.
    pub async fn answer(&self, job: &ScanJob, hub: &Hub, reader: &Reader) -> Result<ScanAnswer, QueryError> {
        let begun = Instant::now();
        let query = self.query(job, hub, reader).await?;
        let ScanOptions { mode, top_k, .. } = job.options;
        let answer = self.scan(&query, top_k, mode)?;
        Ok(ScanAnswer { seconds: begun.elapsed().as_secs_f64(), ..answer })
    }

    /// Opens a model, and reads it unless the database has exactly its weight files, by their digests, under this name
    /// or another.
    pub async fn query(&self, job: &ScanJob, hub: &Hub, reader: &Reader) -> Result<Query, QueryError> {
        let offline;
        let hub = if job.options.hub || hub.settings().offline {
            hub
        } else {
            offline = Hub::new(HubSettings { offline: true, ..hub.settings().clone() })?;
            &offline
        };
        let mut model = Model::open(&job.model, hub, reader).await?;
        if let Some(digest) = model.weights_digest()
            && let Some(row) = self.stored(&digest)?
            && let Some(query) = Query::stored(model.unread(), row)
        {
            return Ok(query);
        }
        Query::read(model.read(&reader.settings.plan).await?)
    }
}
