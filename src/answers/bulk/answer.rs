//! What a scan of many models is answered with.

use schemars::JsonSchema;
use serde::Serialize;

use crate::answers::scan::answer::ScanFailure;
use crate::signals::verdict::{Relation, VerdictKind};

/// The families of one of many models, in short: a line of `scan --from`, `--from-db` and `--all-new`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BulkAnswer {
    /// The model, as it was named.
    pub query: String,
    /// Share of its parameters that was read, 0 to 1; null where that is not known, as of rows of older versions.
    pub coverage: Option<f32>,
    /// Related families, nearest first.
    pub families: Vec<BulkFamily>,
    /// The largest share of models without relatives that a family is named for, with 95 % confidence; null where that
    /// was not measured.
    pub false_rate_at_most: Option<f64>,
}

/// A related family, in short: no row of the database is read for it, unless the query represents it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BulkFamily {
    /// Its name, which never changes, whatever is added to the database.
    pub family: String,
    /// The oldest repository of the likeliest ancestor.
    pub root: Option<String>,
    /// What the evidence on the query and `judged` amounts to.
    pub verdict: VerdictKind,
    /// In what way the two are related.
    pub relation: Option<Relation>,
    /// Posterior probability of descent, 0 to 1.
    pub score: f64,
    /// Probability of such evidence between independent models, corrected for the models searched.
    pub p_value: f64,
    /// Mean matched correlation of the two, -1 to 1; null where no matrices could be compared.
    pub similarity: Option<f64>,
    /// The repository that the verdict is on: of that checkpoint the oldest, or one with exactly the query's files.
    /// Never the query of `--all-new` itself.
    pub judged: Option<String>,
    /// The nearest checkpoints, each by such a repository.
    pub closest: Vec<CloseModel>,
}

/// A near checkpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CloseModel {
    /// A repository that holds it.
    pub repo_id: String,
    /// Cosine of the retrieval vectors, -1 to 1.
    pub cosine: f32,
}

/// One line of a scan of many models.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum BulkLine {
    /// An answer.
    Answered(BulkAnswer),
    /// None.
    Failed(ScanFailure),
}
