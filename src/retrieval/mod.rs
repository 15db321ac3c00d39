//! From a fingerprint to the models that may share its weights.
//!
//! The index proposes, it never decides: what it returns is judged by [`crate::signals::verdict`] on the
//! stored cells. One node stands for one content; repositories that hold the same content are its postings.
//! The graph is hnsw_rs; an exact scan is its judge at build time, and nodes that the graph does not find are
//! kept on a side list that every search scans.

pub mod distance;
pub mod exact;
pub mod graph;
pub mod index;
pub mod postings;

pub use index::{BuildSettings, Built, Index};
pub use postings::Posting;
