//! From a fingerprint to the models that may share its weights.
//!
//! ```text
//! vector    signed bytes, sign codes, and the two kernels
//! heads     exact search among the contents that stand for those near them
//! moved     the same where hidden dimensions may have been moved
//! controls  models that stand for unrelated ones
//! judge     the verdict on a candidate, on stored fingerprints
//! family    which head a content belongs to, and which family
//! members   the contents of a head, to name the closest
//! root      the likeliest ancestor of a family; names keeps what families are called
//! codes, vectors, payload, tables, postings   the files; lineage says it in names
//! index     all of it: open, find
//! build     an index from shards, night by night; quality measures it, verify proves it, relocate follows a compaction
//! ```
//!
//! The index proposes, it never decides: what a search returns is judged by [`crate::signals::verdict`] on the
//! stored cells. One content stands for all repositories that hold it.

pub mod controls;
pub mod family;
pub mod heads;
pub mod index;
pub mod judge;
pub mod members;
pub mod moved;
pub mod payload;
pub mod postings;
pub mod root;
mod segments;
pub mod tables;
pub mod vector;
pub mod vectors;

mod build;
mod codes;
mod lineage;
mod names;
mod quality;
mod relocate;
mod verify;

pub use build::{BuildSettings, Built, build, memory_bound};
pub use index::{Index, LINEAGE, Look, Related, Sought};
pub use quality::{Quality, exact_scan};
pub use relocate::relocate;
pub use tables::Family;
pub use verify::{Deep, Verified, verify};
