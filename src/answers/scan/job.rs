//! A scan that can be carried to whoever makes it.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{ScanAnswer, ScanLine};
use super::query::{Query, QueryError};
use super::scanner::Scanner;
use crate::checkpoint::model::{LoadError, Model, ModelArg, split_component};
use crate::checkpoint::reading::Reader;
use crate::hub::{Hub, HubSettings, RepoId, RepoRef, is_commit_sha};
use crate::retrieval::SearchMode;
use crate::signals::Coverage;
use crate::signals::fingerprint::is_outdated;
use crate::store::{Row, StoreError, checkpoint_name};

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
    /// Whether the model may be read from the Hub; else only what is on this machine, or in the database.
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
    /// weight files, by their digests, under this name or another. Nothing is asked of the Hub where the database has the
    /// commit that is named; without the Hub it answers for what is not on this machine.
    pub async fn queries(&self, job: &ScanJob, hub: &Hub, reader: &Reader) -> Queries {
        let queries = self.try_queries(job, hub, reader).await;
        queries.unwrap_or_else(|error| vec![(job.model.clone(), Err(error))])
    }

    async fn try_queries(&self, job: &ScanJob, hub: &Hub, reader: &Reader) -> Result<Queries, QueryError> {
        if let Some(queries) = self.at_commit(&job.model)? {
            return Ok(queries);
        }
        let models = match self.open_each(job, hub, reader).await {
            // What is not on this machine may be in the database.
            Err(QueryError::Load(error)) if error.is_offline() => {
                return self.of_name(&job.model)?.ok_or(error.into());
            }
            models => models?,
        };
        let mut queries = Vec::new();
        for (name, model) in models {
            match model {
                Ok(model) => queries.extend(Box::pin(self.queries_of(model, reader)).await),
                Err(error) => queries.push((name, Err(error.into()))),
            }
        }
        Ok(queries)
    }

    /// What the database has of a repository at the commit that is asked for: then the Hub has nothing to add. What may
    /// end otherwise, and what an older version has read, is read again.
    fn at_commit(&self, text: &str) -> Result<Option<Queries>, StoreError> {
        let Some((repo, component)) = repository(text) else { return Ok(None) };
        let Some(commit) = repo.revision.as_deref().filter(|revision| is_commit_sha(revision)) else {
            return Ok(None);
        };
        self.in_database(text, &repo.id, component, |row| {
            let is_settled = row.outcome.is_final() && !is_outdated(row.extraction_version);
            row.sha.as_deref() == Some(commit) && is_settled
        })
    }

    /// What the database has of a repository, at whichever commit it was crawled.
    fn of_name(&self, text: &str) -> Result<Option<Queries>, StoreError> {
        match repository(text) {
            Some((repo, component)) if repo.revision.is_none() => {
                self.in_database(text, &repo.id, component, |_| true)
            }
            _ => Ok(None),
        }
    }

    /// The rows of a repository, or of that component of it which is named, if all of them are wanted.
    fn in_database(
        &self,
        text: &str,
        id: &RepoId,
        component: Option<&str>,
        is_wanted: impl Fn(&Row) -> bool,
    ) -> Result<Option<Queries>, StoreError> {
        let rows = self.database().named(self.names()?, id.as_str(), component)?;
        if rows.is_empty() || !rows.iter().all(is_wanted) {
            return Ok(None);
        }
        // As they are called where the Hub is asked.
        let (model, _) = split_component(text);
        let query = |row: Row| {
            let name = checkpoint_name(model, &row.component);
            (name.clone(), Query::stored(row).map(|query| query.called(name)))
        };
        Ok(Some(rows.into_iter().map(query).collect()))
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
    async fn queries_of(&self, mut model: Model<'_>, reader: &Reader) -> Queries {
        let name = model.name().to_owned();
        let stored = match model.weights_digest() {
            Some(digest) => self.stored(&digest),
            None => Ok(None),
        };
        let stored = stored.map(|row| row.and_then(|row| Query::like(model.unread(), row)));
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

/// The repository that a MODEL argument names, and the component.
fn repository(text: &str) -> Option<(RepoRef, Option<&str>)> {
    let (model, component) = split_component(text);
    match ModelArg::parse(model) {
        Ok(ModelArg::Repo(repo)) => Some((repo, component)),
        _ => None,
    }
}

/// The checkpoints of a model by name, each to be asked for or why not.
type Queries = Vec<(String, Result<Query, QueryError>)>;

/// A checkpoint of the model with its name, or why it is not open.
type Opened<'r> = (String, Result<Model<'r>, LoadError>);

async fn read(model: &mut Model<'_>, reader: &Reader) -> Result<Query, QueryError> {
    Query::read(model.read(&reader.settings.plan).await?)
}
