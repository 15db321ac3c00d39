//! The likely relation behind a `derived`, and its direction: from facts, never guessed.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::battery::{EMBEDDING, NORM_GAINS, WEIGHT_BLOCKS};
use super::super::evidence::{Correspondence, Delta, Evidence, Realigned, Shape, Tests};

/// Correlation down to which a descendant is called a fine-tune; below, it was trained on at length. Fine-tunes
/// of public base models keep .97 and more, continued pretraining .4 to .95.
const FINE_TUNE: f64 = 0.9;
/// Share of matrix rows or neurons that have another number in the other model from which on they were permuted.
const PERMUTED: f64 = 0.3;
/// Largest angle (root of one minus the correlation) of rounding: 4 bits give .07 to .15.
const ROUNDING: f64 = 0.2;

/// The likely relation behind a `derived`. Two models cannot tell a parent from a sibling; the names say no
/// more than the weights do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Relation {
    /// Equal content.
    #[serde(rename = "identical")]
    Identical,
    /// Equal up to a cast or a re-save.
    #[serde(rename = "copy or cast")]
    Copy,
    /// Rounded to a grid, or stored packed.
    #[serde(rename = "quantised")]
    Quantised,
    /// The difference has low rank.
    #[serde(rename = "LoRA")]
    Lora,
    /// Gains folded into the next matrix, or neurons scaled.
    #[serde(rename = "rescaled copy")]
    Rescaled,
    /// Some matrices equal, others not, gains equal.
    #[serde(rename = "partial fine-tune")]
    PartialFineTune,
    /// The weights moved a little.
    #[serde(rename = "fine-tune")]
    FineTune,
    /// The weights moved far.
    #[serde(rename = "continued pretraining")]
    ContinuedPretraining,
    /// The embedding has other tokens or another order of them.
    #[serde(rename = "vocabulary changed")]
    VocabularyChanged,
    /// One has fewer layers.
    #[serde(rename = "depth-pruned")]
    DepthPruned,
    /// One has fewer hidden dimensions or MLP neurons.
    #[serde(rename = "width-pruned")]
    WidthPruned,
    /// Hidden dimensions, heads or neurons in another order.
    #[serde(rename = "permuted copy")]
    Permuted,
    /// Hidden dimensions rotated.
    #[serde(rename = "rotated copy")]
    Rotated,
    /// Another basis of the hidden space: hidden dimensions permuted or rotated.
    #[serde(rename = "copy with moved dimensions")]
    BasisChanged,
    /// One has experts where the other has one MLP.
    #[serde(rename = "MoE from dense")]
    MoeFromDense,
    /// A weighted sum of several models.
    #[serde(rename = "merged")]
    Merged,
}

impl Relation {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Copy => "copy or cast",
            Self::Quantised => "quantised",
            Self::Lora => "LoRA",
            Self::Rescaled => "rescaled copy",
            Self::PartialFineTune => "partial fine-tune",
            Self::FineTune => "fine-tune",
            Self::ContinuedPretraining => "continued pretraining",
            Self::VocabularyChanged => "vocabulary changed",
            Self::DepthPruned => "depth-pruned",
            Self::WidthPruned => "width-pruned",
            Self::Permuted => "permuted copy",
            Self::Rotated => "rotated copy",
            Self::BasisChanged => "copy with moved dimensions",
            Self::MoeFromDense => "MoE from dense",
            Self::Merged => "merged",
        }
    }
}

/// Which of two related models descends from which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Direction {
    /// b is the child.
    #[serde(rename = "b descends from a")]
    AToB,
    /// a is the child.
    #[serde(rename = "a descends from b")]
    BToA,
    /// The weights do not tell, and siblings are not excluded.
    #[serde(rename = "undetermined")]
    Open,
}

impl Direction {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::AToB => "b descends from a",
            Self::BToA => "a descends from b",
            Self::Open => "undetermined",
        }
    }
}

/// Names the relation under the correspondence that was found.
pub(super) fn relation(evidence: &Evidence, tests: &Tests, realigned: Option<&Realigned>) -> Relation {
    let Evidence { a, b, .. } = evidence;
    let differ = |x: Option<u32>, y: Option<u32>| matches!((x, y), (Some(x), Some(y)) if x != y);
    if a.hidden_size != b.hidden_size {
        return Relation::WidthPruned;
    }
    match realigned.map(|r| r.by) {
        Some(Correspondence::Rotation) => return Relation::Rotated,
        Some(Correspondence::Tokens | Correspondence::Gains) => return Relation::Permuted,
        None => {}
    }
    if a.layers != b.layers {
        return Relation::DepthPruned;
    }
    if a.experts != b.experts {
        return Relation::MoeFromDense;
    }
    if differ(a.inner_size, b.inner_size) {
        return Relation::WidthPruned;
    }
    if differ(a.vocabulary, b.vocabulary) || evidence.tokens_renumbered == Some(true) {
        return Relation::VocabularyChanged;
    }
    let reuse = evidence.reuse;
    let untouched = 1.0 - evidence.resolution;
    let matrices: Vec<f64> = tests.roles.values().copied().collect();
    let lowest = matrices.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = matrices.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let compared = !matrices.is_empty();
    let embedding_kept = tests.effect(&EMBEDDING).is_none_or(|e| e.value >= untouched);
    let mut effects = tests.iter().filter_map(|(_, signal)| signal.effect());
    if effects.any(|e| e.value * e.elsewhere > PERMUTED) {
        return Relation::Permuted;
    }
    if compared && (reuse.b_is_cast || reuse.a_is_cast) {
        return Relation::Copy;
    }
    if compared && lowest >= untouched && reuse.gains && embedding_kept {
        return Relation::Copy;
    }
    if reuse.rescaled {
        return Relation::Rescaled;
    }
    if evidence.delta.is_some_and(Delta::is_low) && reuse.gains {
        return Relation::Lora;
    }
    // Rounding moves every role by about the same small angle; training does not.
    let angle = |cosine: f64| (1.0 - cosine).max(0.0).sqrt();
    let small = compared && angle(lowest) < ROUNDING;
    if reuse.gains && small && (a.quantised != b.quantised || angle(lowest) < 2.0 * angle(highest)) {
        return Relation::Quantised;
    }
    if reuse.gains && highest >= untouched {
        return Relation::PartialFineTune;
    }
    let body = tests.effect(&WEIGHT_BLOCKS).or(tests.effect(&NORM_GAINS));
    if body.is_some_and(|e| e.value < FINE_TUNE) {
        Relation::ContinuedPretraining
    } else {
        Relation::FineTune
    }
}

/// The same where invariant tests alone tell of descent, and so not what became of the hidden dimensions.
pub(super) fn in_another_basis(evidence: &Evidence) -> Relation {
    if evidence.a.hidden_size == evidence.b.hidden_size {
        Relation::BasisChanged
    } else {
        Relation::WidthPruned
    }
}

/// The direction where a hard fact gives one: what was packed, pruned or made of experts is the child.
pub(super) fn direction(evidence: &Evidence, relation: Relation) -> Direction {
    let Evidence { a, b, .. } = evidence;
    let child = |is_child: fn(&Shape, &Shape) -> bool| match (is_child(a, b), is_child(b, a)) {
        (true, false) => Direction::BToA,
        (false, true) => Direction::AToB,
        _ => Direction::Open,
    };
    match relation {
        Relation::Copy => match (evidence.reuse.b_is_cast, evidence.reuse.a_is_cast) {
            (true, false) => Direction::AToB,
            (false, true) => Direction::BToA,
            _ => Direction::Open,
        },
        Relation::Quantised => child(|x, y| x.quantised && !y.quantised),
        Relation::DepthPruned => child(|x, y| x.layers < y.layers),
        Relation::WidthPruned => child(|x, y| {
            x.hidden_size < y.hidden_size || (x.hidden_size == y.hidden_size && x.inner_size < y.inner_size)
        }),
        Relation::MoeFromDense => child(|x, y| x.experts && !y.experts),
        // With every token where it was, the longer vocabulary was extended.
        Relation::VocabularyChanged if evidence.tokens_renumbered != Some(true) => {
            child(|x, y| x.vocabulary > y.vocabulary)
        }
        // Whoever compacts ids drops tokens.
        Relation::VocabularyChanged => child(|x, y| x.vocabulary < y.vocabulary),
        _ => Direction::Open,
    }
}
