//! From evidence to a verdict: one function, the same for compare and scan.
//!
//! **Probability.** Each signal is a *source*: under independence its effect is `N(0, sd)`; under descent
//! the source survived with a prior probability `s` and then has an effect spread evenly over
//! `[LEAST_EFFECT, 1]`, else it looks independent. The likelihood ratio of a source is therefore
//! `1 - s + s * L`, with
//!
//! ```text
//! L = sd sqrt(2 pi) exp(x^2 / 2 sd^2) [Phi((x - e)/sd) - Phi((x - 1)/sd)] / (1 - e) / choices
//! ```
//!
//! The product over the sources times the prior odds gives the posterior, which is the `score`. A source
//! that is absent contributes nothing; a weak one (large `sd`) contributes little.
//!
//! **Error rate.** `derived` also needs `p <= ALPHA`, where p is the smallest tail probability of any
//! source, corrected (Bonferroni) for the number of sources, of layer maps and of models searched.
//!
//! The constants come from what transformations do to weights, not from any set of test models.

use std::fmt;

use super::evidence::{Effect, Evidence};
use super::normal;

/// Smallest mean correlation that counts as descent. Documented descendants keep a parameter correlation of
/// .2 or more; independent runs from one seed share a few hundredths.
pub const LEAST_EFFECT: f64 = 0.1;
/// Largest corrected p-value of a `derived`: one false claim in 100,000 searches.
pub const ALPHA: f64 = 1e-5;
/// Posterior from which on models are called derived.
const DERIVED: f64 = 0.99;
/// Posterior up to which models are called independent.
const INDEPENDENT: f64 = 0.05;
/// Prior of descent between two models of one width, of which nothing else is known.
const PRIOR: f64 = 0.5;
/// Prior between models of different widths: only width pruning changes the hidden size.
const PRIOR_OTHER_WIDTH: f64 = 0.01;
/// How often the matrices of a descendant still lie where they were: all but permuted or rotated copies.
const BODY_SURVIVES: f64 = 0.98;
/// The same for gains: folding into the next matrix (SmoothQuant, AWQ) rewrites them.
const GAINS_SURVIVE: f64 = 0.95;
/// The same for embedding rows by token id: vocabularies are extended, trimmed, rebuilt.
const EMBEDDING_SURVIVES: f64 = 0.5;
/// Cosine from which on blocks are untouched: byte sketches of equal values, cast to 16 bits, reach .9999.
const UNTOUCHED: f64 = 0.9999;
/// Cosine from which on a whole model is a copy: rounding to 8 bits a row keeps .9999, to 4 bits .98 to .997.
const COPY: f64 = 0.999;

/// What the evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// The same weights, byte for byte.
    Identical,
    /// The weights of one played a causal role in the other.
    Derived,
    /// The weights were compared and share nothing.
    Independent,
    /// The weights do not tell.
    NoWeightEvidence,
}

impl VerdictKind {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Derived => "derived",
            Self::Independent => "independent",
            Self::NoWeightEvidence => "no weight evidence",
        }
    }

    /// `Some(true)` related, `Some(false)` not, `None` undecided.
    pub fn related(self) -> Option<bool> {
        match self {
            Self::Identical | Self::Derived => Some(true),
            Self::Independent => Some(false),
            Self::NoWeightEvidence => None,
        }
    }
}

/// The likely relation behind a `derived`. Two fingerprints cannot tell a parent from a sibling; the names
/// say no more than the weights do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Equal content.
    Identical,
    /// Equal up to a cast, a re-save or rounding to 8 bits.
    Copy,
    /// All matrices moved a little and evenly, gains not at all.
    Quantised,
    /// Some matrices equal, others not, gains equal.
    PartialFineTune,
    /// The weights moved.
    FineTune,
    /// The weights moved and the embedding changed its size.
    VocabularyChanged,
    /// Layers were dropped or added.
    DepthChanged,
}

impl Relation {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Copy => "copy or cast",
            Self::Quantised => "quantised",
            Self::PartialFineTune => "LoRA or partial fine-tune",
            Self::FineTune => "fine-tune or sibling",
            Self::VocabularyChanged => "vocabulary changed",
            Self::DepthChanged => "depth changed",
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
    /// Posterior probability of descent, 0 to 1.
    pub score: f64,
    /// Corrected p-value of the strongest source; 1 where there is none.
    pub p_value: f64,
    /// One or two sentences that name the decisive evidence.
    pub why: String,
}

/// What is known beside the fingerprints.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Whether the content of both is known to be equal (`Some(true)`) or different.
    pub same_content: Option<bool>,
    /// Number of models that this one was found among; 1 for a plain comparison.
    pub searched: usize,
}

impl Default for Context {
    fn default() -> Self {
        Self { same_content: None, searched: 1 }
    }
}

struct Source {
    name: &'static str,
    survives: f64,
    effect: Effect,
}

/// Judges one pair.
pub fn judge(evidence: &Evidence, context: Context) -> Verdict {
    if context.same_content == Some(true) {
        return Verdict {
            kind: VerdictKind::Identical,
            relation: Some(Relation::Identical),
            score: 1.0,
            p_value: 0.0,
            why: "The weight files have equal digests.".into(),
        };
    }
    let sources = sources(evidence);
    let same_width = evidence.hidden_sizes.0 == evidence.hidden_sizes.1;
    let prior = if same_width { PRIOR } else { PRIOR_OTHER_WIDTH };
    let ln_odds = (prior / (1.0 - prior)).ln() + sources.iter().map(ln_likelihood_ratio).sum::<f64>();
    let score = 1.0 / (1.0 + (-ln_odds).exp());
    let ln_tests = (sources.len().max(1) as f64 * context.searched.max(1) as f64).ln();
    let best = sources.iter().min_by(|x, y| x.effect.ln_p().total_cmp(&y.effect.ln_p()));
    let ln_p = best.map_or(0.0, |s| (s.effect.ln_p() + ln_tests).min(0.0));
    let kind = if score >= DERIVED && ln_p <= ALPHA.ln() {
        VerdictKind::Derived
    } else if score <= INDEPENDENT {
        VerdictKind::Independent
    } else {
        VerdictKind::NoWeightEvidence
    };
    let relation = (kind == VerdictKind::Derived).then(|| relation(evidence));
    let why = explain(evidence, kind, relation, best);
    Verdict { kind, relation, score, p_value: ln_p.exp(), why }
}

fn sources(evidence: &Evidence) -> Vec<Source> {
    // The layer map repeats the blocks where the depths are equal; it is a source only where they are not.
    let body = match evidence.weight_blocks.effect() {
        Some(effect) => Some(("weight blocks", effect)),
        None => evidence.layer_map.effect().map(|effect| ("mapped layers", effect)),
    };
    [
        body.map(|(name, effect)| Source { name, survives: BODY_SURVIVES, effect }),
        evidence.norm_gains.effect().map(|effect| Source {
            name: "norm gains",
            survives: GAINS_SURVIVE,
            effect,
        }),
        evidence.embedding.effect().map(|effect| Source {
            name: "embedding rows",
            survives: EMBEDDING_SURVIVES,
            effect,
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ln_likelihood_ratio(source: &Source) -> f64 {
    let Effect { value, sd, ln_choices, .. } = source.effect;
    let interval = normal::ln_interval((value - 1.0) / sd, (value - LEAST_EFFECT) / sd);
    let density = (2.0 * std::f64::consts::PI).sqrt().ln() + sd.ln() + value * value / (2.0 * sd * sd);
    let survived = density + interval - (1.0 - LEAST_EFFECT).ln() - ln_choices;
    // ln(1 - s + s e^survived), without overflow.
    let (died, lived) = ((1.0 - source.survives).ln(), source.survives.ln() + survived);
    let larger = died.max(lived);
    larger + ((died - larger).exp() + (lived - larger).exp()).ln()
}

fn relation(evidence: &Evidence) -> Relation {
    if evidence.layers.0 != evidence.layers.1 {
        return Relation::DepthChanged;
    }
    if matches!(evidence.vocabularies, (Some(a), Some(b)) if a != b) {
        return Relation::VocabularyChanged;
    }
    let at_least = |signal: &super::Signal, bound| signal.effect().is_none_or(|e| e.value >= bound);
    let matrices: Vec<f64> = evidence.roles.values().copied().collect();
    let lowest = matrices.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = matrices.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if lowest >= COPY && at_least(&evidence.norm_gains, COPY) && at_least(&evidence.embedding, COPY) {
        return Relation::Copy;
    }
    if matrices.is_empty() || !at_least(&evidence.norm_gains, UNTOUCHED) {
        return Relation::FineTune;
    }
    if highest >= UNTOUCHED {
        return Relation::PartialFineTune;
    }
    // Rounding moves every role by about the same small angle; training does not.
    let angle = |cosine: f64| (1.0 - cosine).max(0.0).sqrt();
    if angle(lowest) < 0.2 && angle(lowest) < 2.0 * angle(highest) {
        Relation::Quantised
    } else {
        Relation::FineTune
    }
}

fn explain(
    evidence: &Evidence,
    kind: VerdictKind,
    relation: Option<Relation>,
    best: Option<&Source>,
) -> String {
    let (da, db) = evidence.hidden_sizes;
    match (kind, best) {
        (VerdictKind::Derived, Some(s)) => {
            let mut text = format!(
                "The {} agree: mean correlation {:.3}, z {:.1} over {} blocks, where independent models give 0 and |z| below 4.",
                s.name,
                s.effect.value,
                s.effect.z(),
                s.effect.cells
            );
            if relation == Some(Relation::DepthChanged) {
                text.push_str(&format!(
                    " {} layers against {}, matched {}.",
                    evidence.layers.0,
                    evidence.layers.1,
                    LayerMap(evidence)
                ));
            }
            text
        }
        (VerdictKind::Independent, None) if da != db => format!(
            "Hidden sizes differ ({da} and {db}), so no weight was copied, cast, quantised, tuned or merged; width pruning is not tested."
        ),
        (VerdictKind::Independent, Some(s)) => format!(
            "The {} do not agree: mean correlation {:.3}, z {:.1}. A permuted or rotated copy would not show here.",
            s.name,
            s.effect.value,
            s.effect.z()
        ),
        (_, Some(s)) => format!(
            "The strongest signal, the {}, is not decisive: mean correlation {:.3}, z {:.1}.",
            s.name,
            s.effect.value,
            s.effect.z()
        ),
        (_, None) => "No block of weights could be compared.".into(),
    }
}

struct LayerMap<'a>(&'a Evidence);

impl fmt::Display for LayerMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.matched_layers.iter().map(|(a, b, _)| format!("{a}={b}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::compare;
    use super::super::fingerprint::testing::Model;
    use super::*;

    fn verdict(a: &Model, b: &Model) -> Verdict {
        judge(&compare(&a.fingerprint(), &b.fingerprint()), Context::default())
    }

    #[test]
    fn independent_runs_of_one_shape() {
        for seed in 0..20 {
            let v = verdict(&Model::random(2 * seed, 6, 96), &Model::random(2 * seed + 1, 6, 96));
            assert_eq!(v.kind, VerdictKind::Independent, "{v:?}");
        }
    }

    #[test]
    fn descendants_by_distance() {
        let base = Model::random(7, 6, 96);
        for r in [0.9999, 0.99, 0.9, 0.6, 0.4] {
            let v = verdict(&base, &base.tuned(r, 3));
            assert_eq!(v.kind, VerdictKind::Derived, "{r}: {v:?}");
            assert!(v.score > 0.99 && v.p_value < 1e-5);
        }
    }

    #[test]
    fn depth_changes_name_their_layers() {
        let base = Model::random(7, 8, 96);
        let v = verdict(&base, &base.keep_layers(&[0, 2, 4, 6]));
        assert_eq!((v.kind, v.relation), (VerdictKind::Derived, Some(Relation::DepthChanged)));
        assert!(v.why.contains("2=1"), "{}", v.why);
    }

    #[test]
    fn a_depth_change_alone_is_no_evidence() {
        let v = verdict(&Model::random(1, 8, 96), &Model::random(2, 4, 96));
        assert_eq!(v.kind, VerdictKind::Independent, "{v:?}");
    }

    #[test]
    fn equal_content_and_other_widths() {
        let (a, b) = (Model::random(1, 4, 96).fingerprint(), Model::random(1, 4, 64).fingerprint());
        let same = judge(&compare(&a, &a), Context { same_content: Some(true), searched: 1 });
        assert_eq!(same.kind, VerdictKind::Identical);
        let other = judge(&compare(&a, &b), Context::default());
        assert_eq!(other.kind, VerdictKind::Independent);
        assert!(other.why.contains("width pruning is not tested"));
    }

    #[test]
    fn nothing_comparable_is_undecided() {
        // Same width, but no block in common: one model has only an embedding, the other only layers.
        let mut a = Model::random(1, 4, 96);
        let mut b = Model::random(1, 4, 96);
        a.layers.iter_mut().for_each(Vec::clear);
        b.outside.clear();
        let v = verdict(&a, &b);
        assert_eq!(v.kind, VerdictKind::NoWeightEvidence);
        assert_eq!(v.kind.related(), None);
    }

    #[test]
    fn searching_more_models_asks_for_more() {
        let base = Model::random(7, 2, 32);
        let weak = compare(&base.fingerprint(), &base.tuned(0.45, 3).fingerprint());
        let one = judge(&weak, Context::default()).p_value;
        let many = judge(&weak, Context { same_content: None, searched: 1_000_000 }).p_value;
        assert!(many > one);
    }
}
