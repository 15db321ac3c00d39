//! A scan that can be carried to whoever makes it.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{ScanAnswer, ScanLine};
use super::query::{Query, QueryError};
use super::scanner::Scanner;
use crate::checkpoint::model::{LoadError, Model};
use crate::checkpoint::reading::Reader;
use crate::hub::{Hub, HubSettings};
use crate::retrieval::SearchMode;
use crate::signals::Coverage;

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
    /// Opens a model, reads it if that is needed, and finds its relatives: a line for each of its checkpoints.
    pub async fn answers(&self, job: &ScanJob, hub: &Hub, reader: &Reader) -> Vec<ScanLine> {
        let ScanOptions { mode, top_k, .. } = job.options;
        let mut begun = Instant::now();
        let mut lines = Vec::new();
        for (name, query) in self.queries(job, hub, reader).await {
            let answer = query.and_then(|query| Ok(self.scan(&query, top_k, mode)?));
            let seconds = begun.elapsed().as_secs_f64();
            lines.push(ScanLine::new(&name, answer.map(|answer| ScanAnswer { seconds, ..answer })));
            begun = Instant::now();
        }
        lines
    }

    /// Opens a model: each of its checkpoints, or that which is named. One is read unless the database has exactly its
    /// weight files, by their digests, under this name or another.
    pub async fn queries(
        &self,
        job: &ScanJob,
        hub: &Hub,
        reader: &Reader,
    ) -> Vec<(String, Result<Query, QueryError>)> {
        let models = match self.open_each(job, hub, reader).await {
            Ok(models) => models,
            Err(error) => return vec![(job.model.clone(), Err(error))],
        };
        let mut queries = Vec::new();
        for (name, model) in models {
            match model {
                Ok(model) => queries.extend(Box::pin(self.queries_of(model, reader)).await),
                Err(error) => queries.push((name, Err(error.into()))),
            }
        }
        queries
    }

    async fn open_each<'r>(
        &self,
        job: &ScanJob,
        hub: &Hub,
        reader: &'r Reader,
    ) -> Result<Vec<Opened<'r>>, QueryError> {
        let offline;
        let hub = if job.options.hub || hub.settings().offline {
            hub
        } else {
            offline = Hub::new(HubSettings { offline: true, ..hub.settings().clone() })?;
            &offline
        };
        Ok(Box::pin(Model::open_each(&job.model, hub, reader)).await?)
    }

    /// Of a checkpoint, and of the further whole models in its files.
    async fn queries_of(
        &self,
        mut model: Model<'_>,
        reader: &Reader,
    ) -> Vec<(String, Result<Query, QueryError>)> {
        let name = model.name().to_owned();
        let stored = match model.weights_digest() {
            Some(digest) => self.stored(&digest),
            None => Ok(None),
        };
        let stored = stored.map(|row| row.and_then(|row| Query::stored(model.unread(), row)));
        if let Some(known) = stored.transpose() {
            return vec![(name, known.map_err(QueryError::from))];
        }
        let read_of_main = read(&mut model, reader).await;
        let coverage = read_of_main.as_ref().ok().and_then(Query::coverage);
        let has_others = coverage.is_some_and(Coverage::has_other_models);
        let mut queries = vec![(name, read_of_main)];
        if !has_others {
            return queries;
        }
        match model.parts().await {
            Ok(parts) => {
                for mut part in parts {
                    queries.push((part.name().to_owned(), read(&mut part, reader).await));
                }
            }
            Err(error) => queries.push((model.name().to_owned(), Err(error.into()))),
        }
        queries
    }
}

/// A checkpoint of the model with its name, or why it is not open.
type Opened<'r> = (String, Result<Model<'r>, LoadError>);

async fn read(model: &mut Model<'_>, reader: &Reader) -> Result<Query, QueryError> {
    Query::read(model.read(&reader.settings.plan).await?)
}
