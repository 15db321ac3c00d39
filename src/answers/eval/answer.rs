//! One pair of a list, judged.

use schemars::JsonSchema;
use serde::Serialize;

use super::pairs::Pair;
use crate::answers::compare::comparison::Comparison;
use crate::answers::judgement::Judgement;

/// One pair with its known answer and ours.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct JudgedPair {
    /// A model, as the list names it.
    pub a: String,
    /// Another one.
    pub b: String,
    /// Whether they share weights, as the list says.
    pub expected: bool,
    /// In what way, in the list's own words.
    pub expected_relation: String,
    /// Why there is no verdict: a model could not be read.
    pub error: Option<String>,
    /// The verdict with its evidence, where both models could be read.
    #[serde(flatten)]
    pub judgement: Option<Judgement>,
}

impl JudgedPair {
    pub(super) fn new(pair: &Pair, result: Result<&Comparison, String>) -> Self {
        let (judgement, error) = match result {
            Ok(comparison) => (Some(Judgement::new(comparison, Vec::new())), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            a: pair.a.clone(),
            b: pair.b.clone(),
            expected: pair.related,
            expected_relation: pair.relation.clone(),
            error,
            judgement,
        }
    }

    /// Whether the answer is right; abstaining is not a claim of descent.
    pub fn is_right(&self) -> bool {
        let called = self.judgement.as_ref().is_some_and(|judgement| judgement.related == Some(true));
        called == self.expected
    }
}
