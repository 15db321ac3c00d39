//! From sampled weights to evidence: pure functions, no I/O.
//!
//! ```text
//! roles       tensor name            -> (layer, role, layout)
//! sample      tensor shape           -> which rows are read, the same for every model
//! samples     the rows read, decoded
//! sketch      many values            -> a few signed bytes; places: where each value goes
//! columns     a row                  -> a centred unit column; how much columns resemble each other
//! fingerprint samples                -> sketches of a few signed bytes: what the database stores
//! products    samples                -> how rows lie to each other, whatever the basis of the hidden space
//! stored      two fingerprints       -> evidence, estimated from sketches
//! sampled     two models' samples    -> evidence, exactly, also with hidden dimensions moved (align)
//! neurons     two models' down projections -> MLP neurons in another order, found by what they write
//! verdict     evidence               -> related or not, how sure, why
//! ```

pub mod columns;
pub mod evidence;
pub mod fingerprint;
pub mod layer_map;
pub mod merge;
pub mod minhash;
pub mod named;
pub mod normal;
pub mod places;
pub mod products;
pub mod profile;
pub mod roles;
pub mod sample;
pub mod sampled;
pub mod samples;
pub mod screen;
pub mod sketch;
pub mod stored;
pub mod tokenizer;
pub mod tokens;
pub mod verdict;

mod align;
mod delta;
mod matched;
mod matching;
mod neurons;
mod relation;
pub(crate) mod reuse;
#[cfg(test)]
pub(crate) mod testing;
mod units;

pub use evidence::{Evidence, Signal};
pub use fingerprint::Fingerprint;
pub use roles::{Layout, Position, Role};
pub use samples::Samples;
pub use verdict::{Verdict, VerdictKind};
