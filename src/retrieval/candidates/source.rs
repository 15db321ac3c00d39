//! The trait of a source of candidates.

use std::fmt::Debug;

use super::features::Features;
use crate::retrieval::hits::Hit;
use crate::retrieval::query::SearchMode;

/// Proposes representatives that may be relatives of a query. `conformance` has the tests that every source passes.
///
/// The trait is the seam between what is near and what is related. A source knows one space, adds what it is given and
/// answers with numbers; families, budgets and verdicts are no business of its own. It is called through a pointer once
/// for a query and source, never for a representative.
pub trait Candidates: Debug + Send + Sync {
    /// Takes in a representative. Numbers follow one another, the smallest may be any. One without the features that this
    /// source looks at is passed over.
    fn add(&mut self, number: u32, features: &Features);

    /// Takes in many whose numbers follow one another, in the caller's order: whatever is near to each other is best laid
    /// side by side, because a search looks at all of it at once. Says the same as one after the other.
    fn extend(&mut self, all: &[(u32, Features)]) {
        for (number, features) in all {
            self.add(*number, features);
        }
    }

    /// At most `k` representatives, nearest first, of equals the smaller number first, with how near they are
    /// (-1..=1). Empty where the query lacks the features that this source looks at. Equal calls have equal answers,
    /// in as many threads as there are.
    fn propose(&self, query: &Features, k: usize, mode: SearchMode) -> Vec<Hit>;
}
