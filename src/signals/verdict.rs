//! From evidence to a verdict: one function, the same for compare and scan.
//!
//! **Hypotheses.** Two models are independent, or one descends from the other (or both from a third) in one of
//! several ways: with its tensors in place, with its hidden dimensions permuted or pruned to a subset, with them
//! rotated, or with them moved in a way that only the products of rows show. [`super::evidence::Evidence`] holds the tests of each way.
//!
//! **Probability.** Each test is a *source*: under independence its effect is `N(0, sd)`; under descent
//! the source survived with a prior probability `s` and then has an effect spread evenly over
//! `[LEAST_EFFECT, 1]`, else it looks independent. The likelihood ratio of a source is therefore
//! `1 - s + s * L`, with
//!
//! ```text
//! L = sd sqrt(2 pi) exp(x^2 / 2 sd^2) [Phi((x - e)/sd) - Phi((x - 1)/sd)] / (1 - e) / choices
//! ```
//!
//! The odds are the prior odds times the sum over the ways of (prior of the way times the product over its
//! sources); the `score` is the posterior probability that they give. A source that is absent contributes
//! nothing; a weak one (large `sd`) contributes little.
//!
//! **Error rate.** `derived` also needs a source with an effect of at least `LEAST_EFFECT` and `p <= ALPHA`,
//! where p is its tail probability, corrected (Bonferroni) for the number of sources, of layer maps and of
//! models searched.
//!
//! **Abstaining.** `independent` needs every way of descent to have been tested. Where one could not be
//! (`Evidence::open`), where the posterior is in between, or where something is significant but too weak for
//! descent (runs from one seed share a few hundredths), the answer is that the weights do not tell.
//!
//! The constants come from what transformations do to weights, not from any set of test models.

use std::fmt;

use super::evidence::{Correspondence, Effect, Evidence, Realigned, Signal, Tests};
use super::normal;
use super::relation;
use super::screen::Tier;

pub use super::relation::{Direction, Relation};

/// Smallest mean correlation that counts as descent. Documented descendants keep a parameter correlation of
/// .2 or more; independent runs from one seed share a few hundredths.
pub const LEAST_EFFECT: f64 = 0.1;
/// Largest corrected p-value of a `derived`: one false claim in 100,000 searches.
pub const ALPHA: f64 = 1e-5;
/// Corrected p-value from which on a weak resemblance is no longer called independence.
const NOTABLE: f64 = 1e-3;
/// Posterior from which on models are called derived.
const DERIVED: f64 = 0.99;
/// Posterior up to which models are called independent.
const INDEPENDENT: f64 = 0.05;
/// Prior of descent between two models of which nothing else is known.
const PRIOR: f64 = 0.5;
/// Part of the descendants whose hidden dimensions are where they were.
const IN_PLACE: f64 = 0.97;
/// Part that permutes or prunes hidden dimensions, for each way of finding them again.
const MOVED: f64 = 0.01;
/// How often the matrices of a descendant still lie where they were: heads and neurons may be permuted too.
const BODY_SURVIVES: f64 = 0.98;
/// The same for gains: folding into the next matrix (SmoothQuant, AWQ) rewrites them.
const GAINS_SURVIVE: f64 = 0.95;
/// The same for embedding rows: vocabularies are extended, trimmed, rebuilt.
const EMBEDDING_SURVIVES: f64 = 0.5;
/// The same for neuron codes: they are short, so that a correlation below .9 hides them.
const NEURONS_SURVIVE: f64 = 0.5;
/// Correlation down to which a descendant is called a fine-tune; below, it was trained on at length. Fine-tunes
/// of public base models keep .97 and more, continued pretraining .4 to .95.
pub(super) const FINE_TUNE: f64 = 0.9;

/// What the evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VerdictKind {
    /// The same weights, byte for byte.
    Identical,
    /// The weights of one played a causal role in the other.
    Derived,
    /// The weights do not tell, and the metadata is that of one family.
    SameFamily,
    /// The weights were compared in every way and share nothing.
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
    /// Posterior probability of descent, 0 to 1.
    pub score: f64,
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

/// How a descendant's tensors correspond to its parent's.
#[derive(Clone, Copy)]
enum Way<'a> {
    InPlace,
    Moved(&'a Realigned),
    Products,
}

struct Source {
    name: &'static str,
    survives: f64,
    effect: Effect,
}

/// One way of descent with its sources and `ln` of its part of the odds.
struct Hypothesis<'a> {
    way: Way<'a>,
    sources: Vec<Source>,
    ln_odds: f64,
}

impl<'a> Hypothesis<'a> {
    fn new(way: Way<'a>, prior: f64, sources: Vec<Source>) -> Self {
        let ln_odds = prior.ln() + sources.iter().map(ln_likelihood_ratio).sum::<f64>();
        Self { way, sources, ln_odds }
    }

    /// The most significant source that is strong enough for descent.
    fn best(&self) -> Option<&Source> {
        let strong = self.sources.iter().filter(|s| s.effect.value >= LEAST_EFFECT);
        strong.min_by(|x, y| x.effect.ln_p().total_cmp(&y.effect.ln_p()))
    }
}

/// Judges one pair.
pub fn judge(evidence: &Evidence, context: Context) -> Verdict {
    if context.same_content == Some(true) {
        return Verdict {
            kind: VerdictKind::Identical,
            relation: Some(Relation::Identical),
            direction: Direction::Open,
            score: 1.0,
            p_value: 0.0,
            why: "The weight files are equal, byte for byte.".into(),
        };
    }
    let hypotheses = hypotheses(evidence);
    let tests = hypotheses.iter().map(|h| h.sources.len()).sum::<usize>().max(1);
    let ln_tests = (tests as f64 * context.searched.max(1) as f64).ln();
    let ln_p = |source: &Source| (source.effect.ln_p() + ln_tests).min(0.0);
    let ln_odds = ln_sum(hypotheses.iter().map(|h| h.ln_odds)) + (PRIOR / (1.0 - PRIOR)).ln();
    let score = 1.0 / (1.0 + (-ln_odds).exp());

    // In place first: whoever is found there is found by the ways that move dimensions as well.
    let is_decisive = |h: &&Hypothesis<'_>| {
        score >= DERIVED && h.best().is_some_and(|s| ln_p(s) <= ALPHA.ln()) && h.ln_odds >= 0.0
    };
    if let Some(found) = hypotheses.iter().find(is_decisive)
        && let Some(best) = found.best()
    {
        let relation = match found.way {
            Way::Products => relation::of_moved(evidence),
            way => relation::relation(evidence, way.tests(evidence), way.realigned()),
        };
        return Verdict {
            kind: VerdictKind::Derived,
            direction: relation::direction(evidence, relation),
            relation: Some(relation),
            score,
            p_value: ln_p(best).exp(),
            why: derived(evidence, found, best, relation),
        };
    }
    let strongest = hypotheses
        .iter()
        .flat_map(|h| h.sources.iter().map(move |s| (h, s)))
        .min_by(|x, y| x.1.effect.ln_p().total_cmp(&y.1.effect.ln_p()));
    let p = strongest.map_or(0.0, |(_, s)| ln_p(s));
    let kind = if score <= INDEPENDENT && evidence.open.is_empty() && p > NOTABLE.ln() {
        VerdictKind::Independent
    } else if matches!(context.tier, Tier::Same | Tier::SameWithTokenizer) {
        VerdictKind::SameFamily
    } else {
        VerdictKind::NoWeightEvidence
    };
    Verdict {
        kind,
        relation: None,
        direction: Direction::Open,
        score,
        p_value: p.exp(),
        why: undecided(evidence, kind, strongest),
    }
}

impl<'a> Way<'a> {
    fn tests(self, evidence: &'a Evidence) -> &'a Tests {
        match self {
            Self::InPlace | Self::Products => &evidence.in_place,
            Self::Moved(realigned) => &realigned.tests,
        }
    }

    fn realigned(self) -> Option<&'a Realigned> {
        match self {
            Self::InPlace | Self::Products => None,
            Self::Moved(realigned) => Some(realigned),
        }
    }
}

fn hypotheses(evidence: &Evidence) -> Vec<Hypothesis<'_>> {
    let mut all = Vec::new();
    if evidence.a.hidden_size == evidence.b.hidden_size {
        all.push(Hypothesis::new(Way::InPlace, IN_PLACE, sources(&evidence.in_place)));
    }
    for realigned in &evidence.realigned {
        let mut sources = sources(&realigned.tests);
        if let Signal::Present(effect) = realigned.dimensions {
            sources.push(Source { name: "hidden dimensions", survives: GAINS_SURVIVE, effect });
        }
        all.push(Hypothesis::new(Way::Moved(realigned), MOVED, sources));
    }
    // Last: the others say more of what was done.
    if let Some(effect) = evidence.in_place.row_products.effect() {
        let source = Source { name: "row products", survives: BODY_SURVIVES, effect };
        all.push(Hypothesis::new(Way::Products, MOVED, vec![source]));
    }
    all
}

fn sources(tests: &Tests) -> Vec<Source> {
    // The layer map repeats the blocks where the depths are equal; it is a source only where they are not.
    let body = match tests.weight_blocks.effect() {
        Some(effect) => Some(("weight blocks", effect)),
        None => tests.layer_map.effect().map(|effect| ("mapped layers", effect)),
    };
    let source = |name, survives| move |effect| Source { name, survives, effect };
    [
        body.map(|(name, effect)| Source { name, survives: BODY_SURVIVES, effect }),
        tests.norm_gains.effect().map(source("norm gains", GAINS_SURVIVE)),
        tests.embedding.effect().map(source("embedding rows", EMBEDDING_SURVIVES)),
        tests.rows.effect().map(source("matrix rows", BODY_SURVIVES)),
        tests.neurons.effect().map(source("MLP neurons", NEURONS_SURVIVE)),
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
    // ln(1 - s + s e^survived)
    ln_sum([(1.0 - source.survives).ln(), source.survives.ln() + survived].into_iter())
}

/// `ln` of a sum of exponentials, without overflow.
fn ln_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_finite() {
        largest + values.map(|v| (v - largest).exp()).sum::<f64>().ln()
    } else {
        largest
    }
}

fn derived(evidence: &Evidence, found: &Hypothesis<'_>, best: &Source, relation: Relation) -> String {
    let mut text = String::new();
    if let Some(Realigned { by, dimensions, .. }) = found.way.realigned() {
        let possible = evidence.a.hidden_size.min(evidence.b.hidden_size);
        text += &match (by, dimensions.effect()) {
            (Correspondence::Rotation, _) | (_, None) => {
                "Seen through the embedding of common tokens, which a rotation does not change: ".to_owned()
            }
            (Correspondence::Tokens, Some(e)) => format!(
                "{} of {possible} hidden dimensions correspond one to one by what they say about common tokens. ",
                e.cells
            ),
            (Correspondence::Gains, Some(e)) => {
                format!(
                    "{} of {possible} hidden dimensions correspond one to one by their norm gains. ",
                    e.cells
                )
            }
        };
    }
    let Effect { value, cells, .. } = best.effect;
    let z = best.effect.z();
    text += &match best.name {
        "hidden dimensions" => "Independent models have almost none in common.".to_owned(),
        "matrix rows" => format!(
            "{:.0} % of the matrix rows are rows of the other model, in whatever order; independent models have none in common.",
            100.0 * value
        ),
        "MLP neurons" => format!(
            "{:.0} % of the MLP neurons write what neurons of the other model write, in whatever order; independent models have none in common.",
            100.0 * value
        ),
        "row products" => format!(
            "{cells} and more rows of the matrices lie to each other as in the other model, which moved hidden dimensions do not change: their products correlate by {value:.3} (z {z:.1}), where independent models give 0."
        ),
        name => format!(
            "The {name} agree: mean correlation {value:.3}, z {z:.1} over {cells} blocks, where independent models give 0 and |z| below 4."
        ),
    };
    if evidence.a.layers != evidence.b.layers && !matches!(found.way, Way::Products) {
        let map = LayerMap(found.way.tests(evidence));
        text += &format!(" {} layers against {}, matched {map}.", evidence.a.layers, evidence.b.layers);
    }
    if let (Relation::Lora, Some(delta)) = (relation, evidence.delta) {
        text += &format!(" The difference has rank {} in blocks of {} rows.", delta.rank, delta.rows);
    }
    text
}

fn undecided(
    evidence: &Evidence,
    kind: VerdictKind,
    strongest: Option<(&Hypothesis<'_>, &Source)>,
) -> String {
    let seen = match strongest {
        None => "No block of weights could be compared.".to_owned(),
        Some((h, s)) => {
            let under = h.way.realigned().map(|r| format!(" ({})", r.by.name())).unwrap_or_default();
            let Effect { value, .. } = s.effect;
            let z = s.effect.z();
            match kind {
                VerdictKind::Independent => format!(
                    "The weights share nothing: the strongest of all tests, {}{under}, gives {value:.3} (z {z:.1}), also with hidden dimensions permuted, pruned or rotated.",
                    s.name
                ),
                _ => format!(
                    "The strongest test, {}{under}, gives {value:.3} (z {z:.1}), which decides nothing.",
                    s.name
                ),
            }
        }
    };
    let open: Vec<&str> = evidence.open.iter().map(|open| open.name()).collect();
    let mut text = seen;
    if kind != VerdictKind::Independent && !open.is_empty() {
        text += &format!(" Not ruled out: {}.", open.join("; "));
    }
    if kind == VerdictKind::SameFamily {
        text += " Config and shapes are those of one family, which says nothing about descent.";
    }
    text
}

struct LayerMap<'a>(&'a Tests);

impl fmt::Display for LayerMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.matched_layers.iter().map(|(a, b, _)| format!("{a}={b}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sampled::{compare, realign};
    use super::super::testing::Model;
    use super::super::{Samples, stored};
    use super::*;

    fn verdict_of(a: &Samples, b: &Samples) -> Verdict {
        let mut evidence = compare(a, b);
        realign(a, b, &mut evidence);
        judge(&evidence, Context::default())
    }

    fn verdict(a: &Model, b: &Model) -> Verdict {
        verdict_of(&a.samples(), &b.samples())
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
        for r in [0.9999, 0.99, 0.9, 0.6, 0.4, 0.25] {
            let v = verdict(&base, &base.tuned(r, 3));
            assert_eq!(v.kind, VerdictKind::Derived, "{r}: {v:?}");
            assert!(v.score > 0.99 && v.p_value < 1e-5);
        }
    }

    #[test]
    fn from_fingerprints_alone_descendants_are_found_and_nothing_is_ruled_out() {
        let base = Model::random(7, 6, 96);
        let judge =
            |x: &Model| judge(&stored::compare(&base.fingerprint(), &x.fingerprint()), Context::default());
        assert_eq!(judge(&base.tuned(0.6, 3)).kind, VerdictKind::Derived);
        assert_eq!(judge(&Model::random(8, 6, 96)).kind, VerdictKind::NoWeightEvidence);
    }

    #[test]
    fn depth_changes_name_their_layers() {
        let base = Model::random(7, 8, 96);
        let v = verdict(&base, &base.keep_layers(&[0, 2, 4, 6]));
        assert_eq!((v.kind, v.relation), (VerdictKind::Derived, Some(Relation::DepthPruned)));
        assert_eq!(v.direction, Direction::AToB);
        assert!(v.why.contains("2=1"), "{}", v.why);
    }

    #[test]
    fn a_depth_change_alone_is_no_evidence() {
        let v = verdict(&Model::random(1, 8, 96), &Model::random(2, 4, 96));
        assert_eq!(v.kind, VerdictKind::Independent, "{v:?}");
    }

    #[test]
    fn permuted_copies_are_found_also_after_training() {
        for (seed, r) in [(1, 0.999), (2, 0.95), (3, 0.9)] {
            let base = Model::random(seed, 6, 96);
            let v = verdict(&base, &base.tuned(r, 9).permuted(4));
            assert_eq!((v.kind, v.relation), (VerdictKind::Derived, Some(Relation::Permuted)), "{v:?}");
            assert!(v.why.contains("hidden dimensions correspond one to one"), "{}", v.why);
        }
    }

    #[test]
    fn a_subset_of_the_dimensions_is_found() {
        let base = Model::random(5, 6, 128);
        let kept: Vec<usize> = (0..128).filter(|i| i % 4 != 1).collect();
        let v = verdict(&base, &base.tuned(0.95, 2).with_dimensions(&kept));
        assert_eq!((v.kind, v.relation), (VerdictKind::Derived, Some(Relation::WidthPruned)), "{v:?}");
        assert_eq!(v.direction, Direction::AToB);
    }

    #[test]
    fn other_widths_without_a_match_are_not_related() {
        let v = verdict(&Model::random(1, 4, 96), &Model::random(1, 4, 64));
        assert_ne!(v.kind.related(), Some(true), "{v:?}");
    }

    #[test]
    fn equal_content() {
        let samples = Model::random(1, 4, 96).samples();
        let context = Context { same_content: Some(true), ..Context::default() };
        assert_eq!(judge(&compare(&samples, &samples), context).kind, VerdictKind::Identical);
    }

    #[test]
    fn nothing_comparable_is_undecided() {
        // Same width, but no block in common: one model has only an embedding, the other only layers.
        let mut a = Model::random(1, 4, 96);
        let mut b = Model::random(1, 4, 96);
        a.layers.iter_mut().for_each(Vec::clear);
        b.outside.clear();
        let v = verdict(&a, &b);
        assert_eq!((v.kind, v.kind.related()), (VerdictKind::NoWeightEvidence, None));
        assert!(v.why.contains("Not ruled out"), "{}", v.why);
    }

    #[test]
    fn what_cannot_be_looked_for_is_not_ruled_out() {
        // Without gains and tokens, a permuted copy would not show; metadata may then name the family.
        let strip = |model: &Model| {
            let mut model = model.clone();
            model.outside.clear();
            model.layers.iter_mut().for_each(|layer| layer.retain(|b| b.position.role.is_matrix()));
            model.samples()
        };
        let (a, b) = (strip(&Model::random(1, 4, 96)), strip(&Model::random(2, 4, 96)));
        assert_eq!(verdict_of(&a, &b).kind, VerdictKind::NoWeightEvidence);
        let context = Context { tier: Tier::Same, ..Context::default() };
        let family = judge(&compare(&a, &b), context);
        assert_eq!((family.kind, family.relation), (VerdictKind::SameFamily, None));
    }

    #[test]
    fn a_significant_trace_too_weak_for_descent_is_undecided() {
        // Runs from one seed: a few hundredths, far beyond chance.
        let base = Model::random(7, 24, 256);
        let mut twin = Model::random(8, 24, 256);
        for (x, y) in base.layers.iter().flatten().zip(twin.layers.iter_mut().flatten()) {
            x.values.iter().zip(&mut y.values).for_each(|(x, y)| *y += 0.06 * x);
        }
        let v = verdict(&base, &twin);
        assert_eq!(v.kind, VerdictKind::NoWeightEvidence, "{v:?}");
    }

    #[test]
    fn searching_more_models_asks_for_more() {
        let base = Model::random(7, 2, 32);
        let weak = stored::compare(&base.fingerprint(), &base.tuned(0.45, 3).fingerprint());
        let one = judge(&weak, Context::default()).p_value;
        let many = judge(&weak, Context { searched: 1_000_000, ..Context::default() }).p_value;
        assert!(many > one);
    }
}
