//! What a comparison is answered with.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::comparison::{self, Comparison};
use crate::answers::coverage::CoverageAnswer;
use crate::answers::judgement::{Judgement, ScreeningAnswer};
use crate::checkpoint::full::Whole;
use crate::checkpoint::model::Subject;
use crate::store::AdapterFacts;

/// Two models, side by side: `compare --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CompareAnswer {
    /// The first model, as it was named.
    pub a: String,
    /// The second one.
    pub b: String,
    /// The verdict with its evidence.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// What was read of a and of b.
    pub models: [ComparedModel; 2],
    /// What of the weights of a and of b could not be read, and why.
    pub not_read: [Vec<String>; 2],
    /// Whole tensors by role, where they were asked for.
    pub whole: Option<BTreeMap<&'static str, WholeAnswer>>,
    /// Bytes of file content read.
    pub bytes_fetched: u64,
    /// Seconds that the answer took.
    pub seconds: f64,
}

/// One of the two models.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ComparedModel {
    /// The commit, for a repository.
    pub sha: Option<String>,
    /// The first of the architectures in its config.
    pub architecture: Option<String>,
    /// Hidden dimensions; this and what follows is null where no weights were read.
    pub hidden_size: Option<usize>,
    /// Layers.
    pub layers: Option<u16>,
    /// Rows of the embedding.
    pub vocabulary: Option<u32>,
    /// Type of most sampled matrices, e.g. `BF16` or `GPTQ 4-bit`.
    pub dtype: Option<String>,
    /// Bytes of its weight files, as far as known.
    pub bytes_in_repo: Option<u64>,
    /// What it changes, where it is an adapter; null for a model.
    pub adapter: Option<AdapterFacts>,
    /// How much of the model is compared; null where nothing was read.
    pub coverage: Option<CoverageAnswer>,
    /// Bytes of file content read of it.
    pub bytes_fetched: u64,
    /// Why no weights were read.
    pub reason: Option<String>,
}

/// Tensors of one role, whole and sampled.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct WholeAnswer {
    /// Rows that both models have and that say something.
    pub rows: u64,
    /// Mean correlation of all rows at the same place.
    pub mean: f64,
    /// The same from the samples, where they have this role.
    pub sampled: Option<f64>,
    /// How far the sampled mean may lie off.
    pub error: f64,
    /// Whether it does not lie off farther.
    pub agrees: bool,
}

/// Config and tokenizer alone: `compare --screen --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ScreenAnswer {
    /// The first model, as it was named.
    pub a: String,
    /// The second one.
    pub b: String,
    /// What config and tokenizer say.
    pub screening: ScreeningAnswer,
    /// Bytes of file content read.
    pub bytes_fetched: u64,
    /// Seconds that the answer took.
    pub seconds: f64,
}

impl CompareAnswer {
    /// Of a, b and further suspected parents of a, with the tensors that were read whole.
    pub fn new(
        a: &Subject,
        b: &Subject,
        others: &[Subject],
        comparison: &Comparison,
        whole: Option<&[Whole]>,
        seconds: f64,
    ) -> Self {
        let parents = std::iter::once(b).chain(others).map(|parent| parent.name.clone()).collect();
        let not_read = [a, b].map(|subject| match &subject.weights {
            Ok(weights) => weights.unreadable.clone(),
            Err(error) => vec![error.to_string()],
        });
        Self {
            a: a.name.clone(),
            b: b.name.clone(),
            judgement: Judgement::new(comparison, parents),
            models: [a, b].map(Into::into),
            not_read,
            whole: whole.map(|all| all.iter().map(|whole| (whole.role.name(), whole.into())).collect()),
            bytes_fetched: [a, b].into_iter().chain(others).map(Subject::bytes_fetched).sum(),
            seconds,
        }
    }
}

impl ScreenAnswer {
    /// Of two models of which no weights need to have been read.
    pub fn new(a: &Subject, b: &Subject, seconds: f64) -> Self {
        Self {
            a: a.name.clone(),
            b: b.name.clone(),
            screening: (&comparison::screening(a, b)).into(),
            bytes_fetched: a.bytes_fetched() + b.bytes_fetched(),
            seconds,
        }
    }
}

impl From<&Subject> for ComparedModel {
    fn from(subject: &Subject) -> Self {
        let weights = subject.weights.as_ref().ok();
        let samples = weights.map(|weights| &weights.samples);
        Self {
            sha: subject.sha.clone(),
            architecture: subject.metadata.config.architecture.clone(),
            hidden_size: samples.map(|samples| samples.hidden_size),
            layers: samples.map(|samples| samples.layers),
            vocabulary: samples.and_then(|samples| samples.vocabulary),
            dtype: weights.and_then(|weights| weights.dtype.clone()),
            bytes_in_repo: weights.map(|weights| weights.bytes_in_repo),
            adapter: subject.adapter(),
            coverage: samples.and_then(|samples| samples.coverage.as_ref()).map(Into::into),
            bytes_fetched: subject.bytes_fetched(),
            reason: subject.weights.as_ref().err().map(ToString::to_string),
        }
    }
}

impl From<&Whole> for WholeAnswer {
    fn from(whole: &Whole) -> Self {
        let Whole { rows, mean, sampled, error, .. } = *whole;
        Self { rows, mean, sampled, error, agrees: whole.agrees() }
    }
}
