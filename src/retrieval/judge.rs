//! The verdict on candidates of the index: the same function as for a comparison, on stored fingerprints.

use std::collections::BTreeMap;

use super::controls::{Controls, Shape};
use crate::signals::evidence::{Evidence, Tests};
use crate::signals::verdict::{self, Context};
use crate::signals::{Fingerprint, Verdict, stored};

/// Effect from which on a candidate need not be held against unrelated models: none of them comes near it.
const BEYOND_CONTROLS: f64 = 0.5;

/// One query, and what unrelated models have in common with it.
pub struct Judge<'a> {
    query: &'a Fingerprint,
    controls: &'a Controls,
    /// By the shape of candidates, once it is asked for.
    unrelated: BTreeMap<Shape, Vec<Tests>>,
}

impl<'a> Judge<'a> {
    /// For one query.
    pub fn new(query: &'a Fingerprint, controls: &'a Controls) -> Self {
        Self { query, controls, unrelated: BTreeMap::new() }
    }

    /// Judges a candidate. A weak effect is held against what the controls give, where it is significant without them:
    /// they widen deviations, and make nothing significant that is not.
    pub fn judge(&mut self, candidate: &Fingerprint, context: Context) -> (Evidence, Verdict) {
        let mut evidence = stored::compare(self.query, candidate);
        let verdict = verdict::judge(&evidence, context);
        let is_weak = evidence.body_effect().is_none_or(|effect| effect < BEYOND_CONTROLS);
        if is_weak && verdict.p_value <= verdict::ALPHA {
            let shape = (candidate.hidden_size, candidate.layers);
            let unrelated = self.unrelated.entry(shape);
            let unrelated = unrelated.or_insert_with(|| self.controls.held_against(self.query, shape));
            evidence.in_place.hold_against(unrelated);
            let verdict = verdict::judge(&evidence, context);
            return (evidence, verdict);
        }
        (evidence, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;

    /// What all models of a recipe share with each other, when each keeps this much of it.
    const SHARED: f32 = 0.5;

    #[test]
    fn what_all_models_of_a_recipe_share_is_no_descent() {
        let recipe = Model::random(1, 6, 256);
        let of_recipe = |seed| recipe.tuned(SHARED, seed).fingerprint();
        let (query, candidate) = (of_recipe(100), of_recipe(101));
        let none = Controls::default();
        let (evidence, verdict) = Judge::new(&query, &none).judge(&candidate, Context::default());
        let effect = evidence.body_effect().unwrap();
        assert!((0.12..0.35).contains(&effect), "{effect}");
        assert_eq!(verdict.kind.related(), Some(true), "theory alone takes it for descent");

        let mut controls = Controls::default();
        (0..8).for_each(|seed| controls.add(&of_recipe(seed)));
        let mut judge = Judge::new(&query, &controls);
        let (_, verdict) = judge.judge(&candidate, Context::default());
        assert_eq!(verdict.kind.related(), None, "{verdict:?}");
        // A child shares far more with its parent than with any of them.
        let child = recipe.tuned(SHARED, 100).tuned(0.9, 7).fingerprint();
        assert_eq!(judge.judge(&child, Context::default()).1.kind.related(), Some(true));
    }

    #[test]
    fn a_relative_among_the_controls_is_none() {
        let base = Model::random(1, 6, 256);
        let query = base.tuned(0.3, 9).fingerprint();
        let mut controls = Controls::default();
        controls.add(&base.fingerprint());
        (10..18).for_each(|seed| controls.add(&Model::random(seed, 6, 256).fingerprint()));
        let shape = (256, 6);
        assert_eq!(controls.held_against(&query, shape).len(), 8);
        let (_, verdict) = Judge::new(&query, &controls).judge(&base.fingerprint(), Context::default());
        assert_eq!(verdict.kind.related(), Some(true), "{verdict:?}");
        assert!(controls.held_against(&query, (256, 7)).is_empty(), "of another depth there are none");
    }
}
