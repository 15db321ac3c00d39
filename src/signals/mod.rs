//! From sampled weights to evidence: pure functions, no I/O.
//!
//! ```text
//! roles      tensor name            -> (layer, role, layout)
//! sample     tensor shape           -> which rows are read, the same for every model
//! columns    sampled rows           -> centred unit columns, and how much they resemble each other
//! sketch     columns                -> a few signed bytes whose inner products estimate correlations
//! fingerprint all sketches of a model, what the database stores
//! evidence   two fingerprints       -> effect and z per signal
//! verdict    evidence               -> related or not, how sure, why
//! tokens     tokenizer              -> keys of tokens that hold across tokenizers, anchors, overlap
//! tokenizer  tokenizer              -> a print of fixed size, what the database stores; its comparison
//! screen     two config.json        -> which pairs are worth looking at, never a verdict
//! ```

pub mod columns;
pub mod evidence;
pub mod fingerprint;
pub mod layer_map;
pub mod minhash;
pub mod normal;
pub mod roles;
pub mod sample;
pub mod screen;
pub mod sketch;
pub mod tokenizer;
pub mod tokens;
pub mod verdict;

pub use evidence::{Evidence, Signal};
pub use fingerprint::Fingerprint;
pub use roles::{Layout, Position, Role};
pub use tokenizer::TokenizerPrint;
pub use tokens::TokenKeys;
pub use verdict::{Verdict, VerdictKind};
