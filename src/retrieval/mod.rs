//! From a fingerprint to the models that may share its weights.
//!
//! ```text
//! vector      signed bytes, sign codes, and the two kernels; hits, what a search finds
//! candidates  the sources that propose representatives, each in a space of its own
//! controls    models that stand for unrelated ones
//! judge       the verdict on a candidate, on stored fingerprints
//! judging     the one loop that holds candidates against it
//! families    which representative a checkpoint belongs to, and which family
//! members     the checkpoints of a representative, to name the closest
//! root        the likeliest ancestor of a family; names keeps what families are called
//! codes, vectors, payload, tables, postings, metadata   the files; lineage says it in names
//! index       all of it, open; find searches it
//! construction   an index from shards, night by night
//! exact       the exact scan; measure holds searches against it, quality keeps the figures
//! verify      proof that nothing is lost; relocate follows a compaction
//! ```
//!
//! The index proposes, it never decides: what a search returns is judged by [`crate::signals::verdict`] on the
//! stored cells. A *checkpoint* is a distinct one here: one stands for all repositories with the same sampled bytes. A
//! *representative* is a checkpoint that stands for those near it (leader clustering), and searches look at these.

pub mod candidates;
pub mod controls;
pub mod families;
pub mod find;
pub mod hits;
pub mod index;
pub mod judge;
pub mod judging;
pub mod members;
pub mod metadata;
pub mod payload;
pub mod postings;
pub mod query;
pub mod representatives;
pub mod root;
mod segments;
pub mod tables;
pub mod vector;
pub mod vectors;

mod codes;
mod construction;
mod exact;
mod lineage;
mod measure;
mod names;
mod quality;
mod relocate;
mod settings;
#[cfg(test)]
mod tests;
mod verify;

pub use construction::{Built, build, memory_bound};
pub use exact::exact_scan;
pub use find::{Found, Related};
pub use index::Index;
pub use metadata::LINEAGE;
pub use quality::Quality;
pub use query::{SearchMode, SearchQuery};
pub use relocate::relocate;
pub use settings::BuildSettings;
pub use tables::FamilyRow;
pub use verify::{Deep, Verified, verify};
