//! The ways of descent, each with the tests that speak for or against it.

use super::super::battery::HIDDEN_DIMENSIONS;
use super::super::evidence::{Evidence, Realigned, Tests};
use super::super::normal;
use super::super::signal::{Effect, Signal};
use super::super::test::Test;

/// Smallest mean correlation that counts as descent. Documented descendants keep a parameter correlation of
/// .2 or more; independent runs from one seed share a few hundredths.
pub const LEAST_EFFECT: f64 = 0.1;
/// Part of the descendants whose hidden dimensions are where they were.
const IN_PLACE: f64 = 0.97;
/// Part whose hidden space has another basis, for each way of finding that out.
const OTHER_BASIS: f64 = 0.01;

/// How a descendant's tensors correspond to its parent's.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// Hidden dimensions are where they were.
    InPlace,
    /// They were brought into correspondence.
    Realigned(&'a Realigned),
    /// Only what no change of basis alters is alike.
    Invariant,
}

impl<'a> Way<'a> {
    pub(super) fn tests(self, evidence: &'a Evidence) -> &'a Tests {
        match self {
            Self::InPlace | Self::Invariant => &evidence.in_place,
            Self::Realigned(realigned) => &realigned.tests,
        }
    }

    pub(super) fn realigned(self) -> Option<&'a Realigned> {
        match self {
            Self::InPlace | Self::Invariant => None,
            Self::Realigned(realigned) => Some(realigned),
        }
    }
}

/// A test that is present.
pub(super) struct Source {
    pub(super) test: &'static Test,
    pub(super) effect: Effect,
}

/// One way of descent with its sources and `ln` of its part of the odds.
pub(super) struct Hypothesis<'a> {
    pub(super) way: Way<'a>,
    pub(super) sources: Vec<Source>,
    pub(super) ln_odds: f64,
}

impl<'a> Hypothesis<'a> {
    fn new(way: Way<'a>, prior: f64, sources: Vec<Source>) -> Self {
        let ln_odds = prior.ln() + sources.iter().map(ln_likelihood_ratio).sum::<f64>();
        Self { way, sources, ln_odds }
    }

    /// The most significant source that is strong enough for descent.
    pub(super) fn best(&self) -> Option<&Source> {
        let strong = self.sources.iter().filter(|s| s.effect.value >= LEAST_EFFECT);
        strong.min_by(|x, y| x.effect.ln_p().total_cmp(&y.effect.ln_p()))
    }
}

/// Every way that was looked for.
pub(super) fn hypotheses(evidence: &Evidence) -> Vec<Hypothesis<'_>> {
    let mut all = Vec::new();
    if evidence.a.hidden_size == evidence.b.hidden_size {
        all.push(Hypothesis::new(Way::InPlace, IN_PLACE, sources(&evidence.in_place, false)));
    }
    for realigned in &evidence.realigned {
        let mut sources = sources(&realigned.tests, false);
        if let Signal::Present(effect) = realigned.dimensions {
            sources.push(Source { test: &HIDDEN_DIMENSIONS, effect });
        }
        all.push(Hypothesis::new(Way::Realigned(realigned), OTHER_BASIS, sources));
    }
    // Last: the others say more of what was done.
    let invariant = sources(&evidence.in_place, true);
    if !invariant.is_empty() {
        all.push(Hypothesis::new(Way::Invariant, OTHER_BASIS, invariant));
    }
    all
}

/// The tests that count, either those that no change of basis alters or the others.
fn sources(tests: &Tests, invariant: bool) -> Vec<Source> {
    let wanted = tests.counted().filter(|(test, _)| test.invariant == invariant);
    wanted.map(|(test, effect)| Source { test, effect }).collect()
}

fn ln_likelihood_ratio(source: &Source) -> f64 {
    let Effect { value, sd, ln_choices, .. } = source.effect;
    let interval = normal::ln_interval((value - 1.0) / sd, (value - LEAST_EFFECT) / sd);
    let density = (2.0 * std::f64::consts::PI).sqrt().ln() + sd.ln() + value * value / (2.0 * sd * sd);
    let survived = density + interval - (1.0 - LEAST_EFFECT).ln() - ln_choices;
    // ln(1 - s + s e^survived)
    ln_sum([(1.0 - source.test.survives).ln(), source.test.survives.ln() + survived].into_iter())
}

/// `ln` of a sum of exponentials, without overflow.
pub(super) fn ln_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_finite() {
        largest + values.map(|v| (v - largest).exp()).sum::<f64>().ln()
    } else {
        largest
    }
}
