//! The judgement of one pair.

use super::super::evidence::Evidence;
use super::super::screen::Tier;
use super::adapters;
use super::answer::{ALPHA, Context, Verdict, VerdictKind};
use super::hypotheses::{Hypothesis, Source, Way, hypotheses, ln_sum};
use super::relation::{self, Direction, Relation};
use super::sentences;
use super::unseen;

/// Corrected p-value from which on a weak correlation is no longer called independence.
const NOTABLE: f64 = 1e-3;
/// Posterior from which on models are called derived.
const DERIVED: f64 = 0.99;
/// Posterior up to which models are called independent.
const INDEPENDENT: f64 = 0.05;
/// Prior of descent between two models of which nothing else is known.
const PRIOR: f64 = 0.5;

/// Judges one pair.
pub fn judge(evidence: &Evidence, context: Context) -> Verdict {
    if context.same_content == Some(true) {
        return Verdict {
            kind: VerdictKind::Identical,
            relation: Some(Relation::Identical),
            direction: Direction::Open,
            score: Some(1.0),
            p_value: 0.0,
            why: "The weight files are equal, byte for byte.".into(),
        };
    }
    if let Some(verdict) = adapters::judge(evidence) {
        return verdict;
    }
    let hypotheses = hypotheses(evidence);
    let tests = hypotheses.iter().map(|h| h.sources.len()).sum::<usize>().max(1);
    let ln_tests = (tests as f64 * context.searched.max(1) as f64).ln();
    let ln_p = |source: &Source| (source.effect.ln_p() + ln_tests).min(0.0);
    let ln_odds = ln_sum(hypotheses.iter().map(|h| h.ln_odds)) + (PRIOR / (1.0 - PRIOR)).ln();
    let score = 1.0 / (1.0 + (-ln_odds).exp());

    // In place first: whoever is found there is found in another basis as well.
    let is_decisive = |h: &&Hypothesis<'_>| {
        score >= DERIVED && h.best().is_some_and(|s| ln_p(s) <= ALPHA.ln()) && h.ln_odds >= 0.0
    };
    if let Some(found) = hypotheses.iter().find(is_decisive)
        && let Some(best) = found.best()
    {
        let relation = match found.way {
            Way::Invariant => Some(relation::in_another_basis(evidence)),
            way => relation::relation(evidence, way.tests(evidence), way.realigned()),
        };
        return Verdict {
            kind: VerdictKind::Derived,
            direction: relation::direction(evidence, relation),
            relation,
            score: Some(score),
            p_value: ln_p(best).exp(),
            why: sentences::derived(evidence, found, best, relation),
        };
    }
    let strongest = hypotheses
        .iter()
        .flat_map(|h| h.sources.iter().map(move |s| (h, s)))
        .min_by(|x, y| x.1.effect.ln_p().total_cmp(&y.1.effect.ln_p()));
    let p = strongest.map_or(0.0, |(_, s)| ln_p(s));
    let shares_nothing = score <= INDEPENDENT && evidence.open.is_empty() && p > NOTABLE.ln();
    let unseen = if shares_nothing { unseen::unseen(evidence) } else { Vec::new() };
    let kind = if shares_nothing && unseen.is_empty() {
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
        // Where every way was looked for and none led anywhere, that is an answer, too.
        score: (strongest.is_some() || kind == VerdictKind::Independent).then_some(score),
        p_value: p.exp(),
        why: sentences::undecided(evidence, kind, strongest, shares_nothing, &unseen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sampled::{compare, realign};
    use super::super::super::samples::Samples;
    use super::super::super::stored;
    use super::super::super::testing::Model;
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
            assert!(v.score > Some(0.99) && v.p_value < 1e-5);
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
