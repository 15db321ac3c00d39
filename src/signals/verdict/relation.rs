//! The likely relation behind a `derived`, and its direction: from facts, never guessed.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::battery::{EMBEDDING, WEIGHT_BLOCKS};
use super::super::evidence::{Correspondence, Delta, Evidence, Realigned, Shape, Tests};
use super::super::roles::Role;

/// Correlation down to which a descendant is called a fine-tune; below, it was trained on at length. Fine-tunes
/// of public base models keep .97 and more, continued pretraining .4 to .95.
const FINE_TUNE: f64 = 0.9;
/// Share of matrix rows or neurons that have another number in the other model from which on they were permuted.
const PERMUTED: f64 = 0.3;
/// Largest angle (root of one minus the correlation) of rounding: 4 bits give .07 to .15.
const ROUNDING: f64 = 0.2;
/// The same of two bits, where one side is stored in few: .33 of quanto's on a 135M model.
const WIDE_ROUNDING: f64 = 0.4;
/// Two sizes that differ by less than one part in so many are equal: buffers that one library stores and another not.
const SLACK: u64 = 100;

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
    /// One has layers of the other more than once: depth up-scaling, self-merge, block expansion.
    #[serde(rename = "layers added")]
    LayersAdded,
    /// One has fewer hidden dimensions, MLP neurons or key heads.
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
            Self::LayersAdded => "layers added",
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

/// Names the relation under the correspondence that was found; `None` where what was read leaves it open.
pub(super) fn relation(
    evidence: &Evidence,
    tests: &Tests,
    realigned: Option<&Realigned>,
) -> Option<Relation> {
    let Evidence { a, b, .. } = evidence;
    if a.hidden_size != b.hidden_size {
        return Some(Relation::WidthPruned);
    }
    match realigned.map(|r| r.by) {
        Some(Correspondence::Rotation) => return Some(Relation::Rotated),
        Some(Correspondence::Tokens | Correspondence::Gains) => return Some(Relation::Permuted),
        None => {}
    }
    // Config and tensors say that one is packed, whatever it holds; which of two packed ones came first is not known.
    if a.extent.unread_packing || b.extent.unread_packing {
        return (a.extent.quantised != b.extent.quantised).then_some(Relation::Quantised);
    }
    // Gains and embedding say nothing of what became of the layers.
    if a.roles.has_matrices() != b.roles.has_matrices() {
        return None;
    }
    structure(evidence, tests).or_else(|| values(evidence, tests))
}

/// What the shapes say.
fn structure(evidence: &Evidence, tests: &Tests) -> Option<Relation> {
    let Evidence { a, b, .. } = evidence;
    let differ = |x: Option<u32>, y: Option<u32>| matches!((x, y), (Some(x), Some(y)) if x != y);
    if !a.roles.has_matrices() {
        return vocabulary_changed(evidence).then_some(Relation::VocabularyChanged);
    }
    if a.layers != b.layers {
        // Of a pruned stack every layer is one of the other's, each once.
        return Some(if has_repeats(tests) { Relation::LayersAdded } else { Relation::DepthPruned });
    }
    if a.experts != b.experts {
        return Some(Relation::MoeFromDense);
    }
    if differ(a.inner_size, b.inner_size) || differ(a.key_rows, b.key_rows) {
        return Some(Relation::WidthPruned);
    }
    vocabulary_changed(evidence).then_some(Relation::VocabularyChanged)
}

/// Whether a layer of one model stands against two of the other.
fn has_repeats(tests: &Tests) -> bool {
    let repeats = |layer: fn(&(u16, u16, f64)) -> u16| {
        let mut layers: Vec<u16> = tests.matched_layers.iter().map(layer).collect();
        layers.sort_unstable();
        layers.windows(2).any(|pair| pair[0] == pair[1])
    };
    repeats(|pair| pair.0) || repeats(|pair| pair.1)
}

/// Whether the embeddings have other tokens, or another order of them. Rows beyond the tokenizer are padding.
fn vocabulary_changed(evidence: &Evidence) -> bool {
    let Evidence { a, b, .. } = evidence;
    let changed = match (a.tokens(), b.tokens()) {
        (Some(x), Some(y)) => x != y,
        _ => matches!((a.vocabulary, b.vocabulary), (Some(x), Some(y)) if x != y),
    };
    changed || evidence.tokens_renumbered == Some(true)
}

/// What became of the values, where the shapes are equal.
fn values(evidence: &Evidence, tests: &Tests) -> Option<Relation> {
    let Evidence { a, b, reuse, .. } = evidence;
    let untouched = 1.0 - evidence.resolution;
    let matrices: Vec<f64> = tests.roles.values().copied().collect();
    let lowest = matrices.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = matrices.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let embedding_kept = tests.effect(&EMBEDDING).is_none_or(|e| e.value >= untouched);
    let mut effects = tests.iter().filter_map(|(_, signal)| signal.effect());
    if effects.any(|e| e.value * e.elsewhere > PERMUTED) {
        return Some(Relation::Permuted);
    }
    let is_kept = lowest >= untouched && reuse.gains && embedding_kept;
    if reuse.b_is_cast || reuse.a_is_cast || is_kept {
        // Eight bits leave a correlation that sketches do not tell from a cast.
        if a.extent.quantised != b.extent.quantised && reuse.equal < reuse.of && !matrices.is_empty() {
            return Some(Relation::Quantised);
        }
        // What was compared is equal; the model is where that is all of it.
        if !has_everything(evidence, tests) {
            return None;
        }
        // A cast has other bytes everywhere.
        let unread = Some(&evidence.unread).filter(|unread| reuse.equal == reuse.of && unread.of > 0);
        return match unread.map(|unread| unread.equal == unread.of) {
            Some(true) => Some(Relation::Copy),
            Some(false) => (!matrices.is_empty()).then_some(Relation::PartialFineTune),
            None => (a.extent.is_whole() && b.extent.is_whole()).then_some(Relation::Copy),
        };
    }
    if matrices.is_empty() {
        return None;
    }
    if reuse.rescaled {
        return Some(Relation::Rescaled);
    }
    if evidence.delta.is_some_and(Delta::is_low) && reuse.gains {
        return Some(Relation::Lora);
    }
    // Rounding moves every role by about the same small angle; training does not.
    let angle = |cosine: f64| (1.0 - cosine).max(0.0).sqrt();
    let small = angle(lowest) < ROUNDING;
    // Without gains, which rounding leaves alone, a little training in every matrix looks the same.
    let alike = has_gains(a) && has_gains(b) && angle(lowest) < 2.0 * angle(highest);
    let one_is_packed = a.extent.quantised != b.extent.quantised;
    let wide = angle(lowest) < WIDE_ROUNDING;
    if reuse.gains && (small && (one_is_packed || alike) || wide && one_is_packed && alike) {
        return Some(Relation::Quantised);
    }
    if reuse.gains && highest >= untouched {
        return Some(Relation::PartialFineTune);
    }
    let body = tests.effect(&WEIGHT_BLOCKS)?;
    Some(if body.value < FINE_TUNE { Relation::ContinuedPretraining } else { Relation::FineTune })
}

/// Whether norm gains were read.
fn has_gains(shape: &Shape) -> bool {
    shape.roles.iter().any(Role::is_norm)
}

/// Whether all that was read of either model was held against the other, and there is as much of one as of the other.
fn has_everything(evidence: &Evidence, tests: &Tests) -> bool {
    let Evidence { a, b, .. } = evidence;
    let compared = |role: Role| match role {
        Role::Embedding => tests.effect(&EMBEDDING).is_some(),
        role if role.is_norm() => a.roles.has(role) && b.roles.has(role),
        role => tests.roles.contains_key(&role),
    };
    // Padding of the vocabulary makes a difference, in the embedding and in the head.
    let rows = |shape: &Shape| u64::from(shape.vocabulary.unwrap_or(0));
    let padding = rows(a).abs_diff(rows(b)).saturating_mul(2 * u64::from(a.hidden_size));
    let as_large = match (a.extent.parameters, b.extent.parameters) {
        (Some(x), Some(y)) => x.abs_diff(y) <= padding.saturating_add(x.max(y) / SLACK),
        _ => true,
    };
    a.roles.iter().chain(b.roles.iter()).all(compared) && as_large
}

/// The same where invariant tests alone tell of descent, and so not what became of the hidden dimensions.
pub(super) fn in_another_basis(evidence: &Evidence) -> Relation {
    if evidence.a.hidden_size == evidence.b.hidden_size {
        Relation::BasisChanged
    } else {
        Relation::WidthPruned
    }
}

/// Whether the models differ in their key heads alone, and the keys of one are keys of the other: it may have lost
/// heads, or the other one may repeat its own. Keys that were averaged are nobody's.
fn keeps_its_keys(evidence: &Evidence) -> bool {
    let Evidence { a, b, in_place, resolution, .. } = evidence;
    let others = (a.hidden_size, a.inner_size) == (b.hidden_size, b.inner_size);
    others && in_place.roles.get(&Role::Key).is_some_and(|r| *r >= 1.0 - resolution)
}

/// The direction where a hard fact gives one: what was packed, pruned or made of experts is the child.
pub(super) fn direction(evidence: &Evidence, relation: Option<Relation>) -> Direction {
    let Evidence { a, b, .. } = evidence;
    let child = |is_child: fn(&Shape, &Shape) -> bool| match (is_child(a, b), is_child(b, a)) {
        (true, false) => Direction::BToA,
        (false, true) => Direction::AToB,
        _ => Direction::Open,
    };
    let Some(relation) = relation else { return Direction::Open };
    match relation {
        Relation::Copy => match (evidence.reuse.b_is_cast, evidence.reuse.a_is_cast) {
            (true, false) => Direction::AToB,
            (false, true) => Direction::BToA,
            _ => Direction::Open,
        },
        Relation::Quantised => child(|x, y| x.extent.quantised && !y.extent.quantised),
        Relation::DepthPruned => child(|x, y| x.layers < y.layers),
        Relation::LayersAdded => child(|x, y| x.layers > y.layers),
        Relation::WidthPruned if keeps_its_keys(evidence) => Direction::Open,
        Relation::WidthPruned => child(|x, y| {
            let fewer = |x: Option<u32>, y: Option<u32>| x.zip(y).is_some_and(|(x, y)| x < y);
            x.hidden_size < y.hidden_size
                || (x.hidden_size == y.hidden_size
                    && (fewer(x.inner_size, y.inner_size) || fewer(x.key_rows, y.key_rows)))
        }),
        Relation::MoeFromDense => child(|x, y| x.experts && !y.experts),
        // Whoever compacts ids drops tokens.
        Relation::VocabularyChanged if evidence.tokens_renumbered == Some(true) => {
            child(|x, y| x.vocabulary < y.vocabulary)
        }
        // With every token where it was, the vocabulary with more of them was extended. Without tokenizers the longer
        // one may be padded as well.
        Relation::VocabularyChanged => child(|x, y| x.tokens() > y.tokens() && y.tokens().is_some()),
        _ => Direction::Open,
    }
}
