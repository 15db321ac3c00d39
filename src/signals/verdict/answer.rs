//! The question and the answer.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::screen::Tier;
use super::relation::{Direction, Relation};

/// Largest corrected p-value of a `derived`: one false claim in 100,000 searches.
pub const ALPHA: f64 = 1e-5;

/// What the evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum VerdictKind {
    /// The same weights, byte for byte.
    #[serde(rename = "identical")]
    Identical,
    /// The weights of one played a causal role in the other.
    #[serde(rename = "derived")]
    Derived,
    /// The weights do not tell, and the metadata is that of one family.
    #[serde(rename = "same family by metadata only")]
    SameFamily,
    /// The weights were compared in every way and share nothing.
    #[serde(rename = "independent")]
    Independent,
    /// The weights do not tell.
    #[serde(rename = "no weight evidence")]
    NoWeightEvidence,
}

impl VerdictKind {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Derived => "derived",
            Self::SameFamily => "same family by metadata only",
            Self::Independent => "independent",
            Self::NoWeightEvidence => "no weight evidence",
        }
    }

    /// `Some(true)` related, `Some(false)` not, `None` undecided.
    pub fn related(self) -> Option<bool> {
        match self {
            Self::Identical | Self::Derived => Some(true),
            Self::Independent => Some(false),
            Self::SameFamily | Self::NoWeightEvidence => None,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The class.
    pub kind: VerdictKind,
    /// The likely relation, for related models.
    pub relation: Option<Relation>,
    /// Which descends from which, for related models.
    pub direction: Direction,
    /// Posterior probability of descent, 0 to 1; `None` where no test could be made, because a prior is no answer.
    pub score: Option<f64>,
    /// Corrected p-value of the strongest source; 1 where there is none.
    pub p_value: f64,
    /// One or two sentences that name the decisive evidence.
    pub why: String,
}

/// What is known beside the weights.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Whether the content of both is known to be equal (`Some(true)`) or different.
    pub same_content: Option<bool>,
    /// Number of models that this one was found among; 1 for a plain comparison.
    pub searched: usize,
    /// What metadata screening found.
    pub tier: Tier,
}

impl Default for Context {
    fn default() -> Self {
        Self { same_content: None, searched: 1, tier: Tier::Unknown }
    }
}
