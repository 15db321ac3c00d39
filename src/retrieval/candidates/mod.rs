//! Who may be a relative: the sources that propose representatives to be judged.
//!
//! ```text
//! features    what a representative is found by, and what a query asks with
//! source      the trait of a source: add, propose
//! sign_codes  weights in place, by hidden size
//! row_gram    hidden dimensions permuted, rotated or pruned, of any hidden size
//! sources     all of them, in the order in which they are asked
//! ```
//!
//! A source proposes and never decides: [`super::judging`] holds what it proposes against the verdict.

pub mod features;
pub mod row_gram;
pub mod sign_codes;
pub mod source;
pub mod sources;

#[cfg(test)]
pub(super) mod conformance;

pub use features::Features;
pub use source::Candidates;
pub use sources::{Make, Sources};
