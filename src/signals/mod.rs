//! From sampled weights to evidence: pure functions, no I/O.
//!
//! ```text
//! roles         tensor name             -> (layer, role, layout)
//! sample        tensor shape            -> which rows are read, the same for every model
//! samples       the rows read, decoded (blocks), and what several signals make of them
//! sketch        many values             -> a few signed bytes; buckets: where each value goes
//! columns       a row                   -> a centred unit column; how much columns correlate with each other
//! coverage      how much of a model was read, and what the rest is
//! fingerprint   samples                 -> sketches of a few signed bytes: what the database stores
//! gram          samples                 -> pairwise cosines of rows, the same in any basis of the hidden space
//! battery       every test of the weights: one table of what each is called, weighs and measures (test)
//! stored        two fingerprints        -> evidence, estimated from sketches (stored_pair)
//! sampled       two models' samples     -> evidence, exactly, also in corresponding bases (sampled_pair, align)
//! verdict       evidence                -> related or not, how sure, why
//! ```
//!
//! A file uses only files that do not use it. From the bottom: results ([`signal`]), data ([`samples`],
//! [`fingerprint`]), pairs of them, tests ([`mod@test`], [`battery`]), [`evidence`], the two comparisons, [`verdict`].

pub mod battery;
pub mod blocks;
pub mod buckets;
pub mod columns;
pub mod coverage;
pub mod dot;
pub mod evidence;
pub mod fingerprint;
pub mod gram;
pub mod hash;
pub mod layer_map;
pub mod merge;
pub mod minhash;
pub mod named;
pub mod normal;
pub mod profile;
pub mod roles;
pub mod sample;
pub mod sampled;
pub mod samples;
pub mod screen;
pub mod signal;
pub mod sketch;
pub mod stored;
pub mod test;
pub mod tokenizer;
pub mod tokens;
pub mod verdict;

mod align;
mod delta;
mod matched;
mod matching;
mod neurons;
pub(crate) mod reuse;
mod rows;
mod sampled_pair;
mod stored_pair;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod toy;
mod units;

pub use coverage::Coverage;
pub use evidence::Evidence;
pub use fingerprint::Fingerprint;
pub use roles::{Layout, Position, Role};
pub use samples::Samples;
pub use signal::Signal;
pub use test::Test;
pub use verdict::{Verdict, VerdictKind};
