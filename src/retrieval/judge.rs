//! The verdict on candidates of the index: the same function as for a comparison, on stored fingerprints.

use std::cell::OnceCell;

use crate::signals::evidence::{Evidence, Tests};
use crate::signals::verdict::{self, Context};
use crate::signals::{Fingerprint, Verdict, stored};

/// Effect from which on a candidate need not be held against unrelated models: none of them comes near it.
const BEYOND_CONTROLS: f64 = 0.5;
/// Posterior up to which a control counts as unrelated.
const UNRELATED: f64 = 0.05;

/// One query, and models of the same hidden size that are unrelated to most.
pub struct Judge<'a> {
    query: &'a Fingerprint,
    controls: &'a [Fingerprint],
    /// What the unrelated ones of them give, once it is asked for.
    unrelated: OnceCell<Vec<Tests>>,
}

impl<'a> Judge<'a> {
    /// For one query.
    pub fn new(query: &'a Fingerprint, controls: &'a [Fingerprint]) -> Self {
        Self { query, controls, unrelated: OnceCell::new() }
    }

    /// Judges a candidate. A weak effect is held against what the controls give.
    pub fn judge(&self, candidate: &Fingerprint, context: Context) -> (Evidence, Verdict) {
        let mut evidence = stored::compare(self.query, candidate);
        if evidence.body_effect().is_none_or(|effect| effect < BEYOND_CONTROLS) {
            evidence.in_place.hold_against(self.unrelated.get_or_init(|| self.unrelated()));
        }
        let verdict = verdict::judge(&evidence, context);
        (evidence, verdict)
    }

    fn unrelated(&self) -> Vec<Tests> {
        let tests = |control: &Fingerprint| {
            let against = stored::compare(self.query, control);
            let score = verdict::judge(&against, Context::default()).score;
            (score <= UNRELATED).then_some(against.in_place)
        };
        self.controls.iter().filter_map(tests).collect()
    }
}
