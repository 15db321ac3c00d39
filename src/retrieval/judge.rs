//! The verdict on a candidate of the index: the same function as for a comparison, on stored fingerprints.

use crate::signals::evidence::Evidence;
use crate::signals::verdict::{self, Context};
use crate::signals::{Fingerprint, Verdict, stored};

/// Effect from which on a candidate need not be held against unrelated models: none of them comes near it.
const BEYOND_CONTROLS: f64 = 0.5;
/// Posterior up to which a control counts as unrelated.
const UNRELATED: f64 = 0.05;

/// Judges a candidate. A weak effect is held against what unrelated models of the same hidden size give; `controls`
/// is asked for them only then.
pub fn judge<'a, C: IntoIterator<Item = &'a Fingerprint>>(
    query: &Fingerprint,
    candidate: &Fingerprint,
    context: Context,
    controls: impl FnOnce() -> C,
) -> (Evidence, Verdict) {
    let mut evidence = stored::compare(query, candidate);
    if evidence.body_effect().is_none_or(|effect| effect < BEYOND_CONTROLS) {
        let unrelated = controls().into_iter().filter_map(|control| {
            let against = stored::compare(query, control);
            let score = verdict::judge(&against, Context::default()).score;
            (score <= UNRELATED).then_some(against.in_place)
        });
        evidence.in_place.hold_against(&unrelated.collect::<Vec<_>>());
    }
    let verdict = verdict::judge(&evidence, context);
    (evidence, verdict)
}
