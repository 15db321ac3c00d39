//! What a scan is answered with.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::query::QueryError;
use crate::answers::coverage::CoverageAnswer;
use crate::answers::judgement::Judgement;
use crate::checkpoint::error::in_full;
use crate::store::{AdapterFacts, checkpoint_name};

/// The families of one model: `scan --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ScanAnswer {
    /// The model, as it was named.
    pub query: String,
    /// The commit, for a repository.
    pub sha: Option<String>,
    /// The repository of the database with exactly the query's weight files, by their digests, so that they were not
    /// read; null where they were.
    pub known_from: Option<String>,
    /// What the query changes, where it is an adapter; null for a model.
    pub adapter: Option<AdapterFacts>,
    /// Whether an adapter has the shapes of the model that its config names, or its card; null where none is named.
    pub adapter_base: Option<AdapterBase>,
    /// How much of the query was read; null where that is not known.
    pub coverage: Option<CoverageAnswer>,
    /// Distinct checkpoints that were searched.
    pub searched: usize,
    /// Of them, those that only an older version of the extraction has read, so that how much of them it has seen is not
    /// known.
    pub outdated: usize,
    /// Related families, nearest first.
    pub families: Vec<FamilyAnswer>,
    /// Of an adapter the nearest others whose differences correlate with its own. Those of one base do; the weights do not
    /// tell whether one descends from the other.
    pub undecided: Vec<Candidate>,
    /// The nearest checkpoint that was judged unrelated or undecided, where there is no family.
    pub closest_rejected: Option<Candidate>,
    /// Searches for made-up models without relatives that were made when this index was built.
    pub negatives: usize,
    /// How many of those were given a family.
    pub false_positives: usize,
    /// The largest share of models without relatives that a family is named for, with 95 % confidence; null where that
    /// was not measured.
    pub false_rate_at_most: Option<f64>,
    /// Bytes of file content read of the query.
    pub bytes_fetched: u64,
    /// Seconds that the answer took.
    pub seconds: f64,
}

/// The model that an adapter names as its base, which is a claim.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AdapterBase {
    /// Its name.
    pub repo_id: String,
    /// Whether the adapter has the shapes of it; null where the database has no fingerprint of that model.
    pub fits: Option<bool>,
    /// What does not fit.
    pub misfit: Option<String>,
}

impl fmt::Display for AdapterBase {
    /// In words that stand by themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.misfit, self.fits) {
            (Some(why), _) => write!(f, "it does not fit {}: {why}", self.repo_id),
            (None, Some(_)) => write!(f, "it fits the shapes of {}", self.repo_id),
            (None, None) => write!(f, "the database has no fingerprint of {}", self.repo_id),
        }
    }
}

/// A related family.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FamilyAnswer {
    /// Its name, which never changes, whatever is added to the database.
    pub family: String,
    /// Distinct checkpoints in it.
    pub contents: u32,
    /// The likeliest ancestor.
    pub root: Candidate,
    /// Why it is the likeliest ancestor.
    pub root_evidence: String,
    /// The closest checkpoints that the verdict confirms, best first; the root may be among them.
    pub members: Vec<Candidate>,
}

/// One checkpoint of the database, judged against the query.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Candidate {
    /// The oldest repository that holds it, or the one with exactly the query's files.
    pub repo_id: String,
    /// Which of the repository's checkpoints; left out for the main one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// The commit.
    pub sha: Option<String>,
    /// When the repository was created, RFC 3339.
    pub created_at: Option<String>,
    /// Since when the Hub lists the repository no more, RFC 3339.
    pub gone_at: Option<String>,
    /// Its licence, as its card has it.
    pub license: Option<String>,
    /// The base models that its card names.
    pub declared_bases: Vec<String>,
    /// Version of the extraction that has read it; of one before 3 it is not known how much of the model it has seen.
    pub extraction_version: u32,
    /// What it changes, where it is an adapter; left out for a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterFacts>,
    /// Other repositories with the same checkpoint, up to 64.
    pub copies: Vec<String>,
    /// Mean matched correlation of the weights, -1 to 1: what members are ordered by; null where no matrices could be
    /// compared.
    pub similarity: Option<f64>,
    /// How much of it the database has seen; null where that is not known.
    pub coverage: Option<CoverageAnswer>,
    /// The verdict with its evidence; a is the query, b this checkpoint.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl Candidate {
    /// What people call it.
    pub fn name(&self) -> String {
        checkpoint_name(&self.repo_id, &self.component)
    }
}

/// A query that could not be answered.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ScanFailure {
    /// The model, as it was named.
    pub query: String,
    /// Why.
    pub error: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

/// One line of `scan --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ScanLine {
    /// An answer.
    Answered(Box<ScanAnswer>),
    /// None.
    Failed(ScanFailure),
}

impl ScanFailure {
    /// Of a query with this name.
    pub fn new(query: &str, error: &QueryError) -> Self {
        Self { query: query.to_owned(), error: in_full(error), hint: error.hint().map(str::to_owned) }
    }
}

impl ScanLine {
    /// What came of the query with this name.
    pub fn new(query: &str, result: Result<ScanAnswer, QueryError>) -> Self {
        match result {
            Ok(answer) => Self::Answered(Box::new(answer)),
            Err(error) => Self::Failed(ScanFailure::new(query, &error)),
        }
    }
}
