//! plan: which files and which byte ranges. Pure code, no I/O.
//!
//! | module | question |
//! |---|---|
//! | `files` | which of the weight files are opened, and what does that cost |
//! | `sample` | which rows of which weights |
//! | `contents` | what is in the opened files, and where |
//! | `coverage` | how much of that is read, and what the rest is |
//! | `probes` | which bytes of the rest a comparison looks at |
//! | `ask` | the answer: blocks of rows, and how their bytes become values |
//! | `ranges` | which requests cover them, within a budget |

mod ask;
mod contents;
mod coverage;
mod files;
mod probes;
mod ranges;
mod sample;
mod spread;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::formats::Unsupported;
use crate::signals::Coverage;
use crate::store::AdapterFacts;

pub use ask::{Ask, Place, SamplePlan};
pub use files::{SmallFiles, config_file, layers, requests, shards, there, thin, tokenizer_files};
pub use probes::PROBE_BYTES;
pub use ranges::coalesce;
pub use sample::{sample, states, whole};

/// Version of what can be read at all. Whoever makes more of it readable raises this; then the next crawl tries again
/// what ended as unsupported or malformed before.
pub const READS_VERSION: u32 = 3;

/// How much of one checkpoint may be read. The defaults keep a 7B model (32 layers, hidden size 4096, 16-bit)
/// below 6 MB and at 80 ranges, beside what it takes to find a header that is not where the file begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanSettings {
    /// Most ranges of one checkpoint, one for each file included; to find a header may take a few more.
    pub max_ranges: usize,
    /// Most bytes of tensor data of one checkpoint, gaps included.
    pub max_bytes: u64,
    /// Gap up to which two asks become one range, bytes. Reading 32 KB costs less than a round trip.
    pub gap_bytes: u64,
    /// Most shards opened of one checkpoint; each costs one counted Hub request.
    pub max_shards: usize,
    /// Layers whose matrices are sampled.
    pub matrix_layers: usize,
    /// What to read beyond the canonical sample, which the database never needs.
    #[serde(skip)]
    pub detail: Option<Detail>,
}

/// Shards that a comparison opens: twice those of a model with 70 billion parameters.
const DETAILED_SHARDS: usize = 64;

/// What a comparison reads beyond the canonical sample.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Layers whose matrices are read in more rows.
    pub layers: usize,
    /// Most embedding rows read by token: the tokens are chosen so that any two vocabularies choose the same.
    pub tokens: usize,
    /// Most ranges in all.
    pub max_ranges: usize,
    /// Most bytes in all.
    pub max_bytes: u64,
}

impl Default for Detail {
    fn default() -> Self {
        Self { layers: 2, tokens: 512, max_ranges: 600, max_bytes: 24_000_000 }
    }
}

impl PlanSettings {
    /// The plan that tells copies: the canonical sample, and bytes of what is not in it.
    pub fn probing() -> Self {
        Self { detail: Some(Detail { layers: 0, tokens: 0, ..Detail::default() }), ..Self::detailed() }
    }

    /// The plan of a comparison: the canonical sample, more rows where they tell something, and of most models every
    /// shard, so that what is said is said of all of it.
    pub fn detailed() -> Self {
        Self { detail: Some(Detail::default()), max_shards: DETAILED_SHARDS, ..Self::default() }
    }
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            max_ranges: 80,
            max_bytes: 6_000_000,
            gap_bytes: 32 * 1024,
            max_shards: 8,
            matrix_layers: 16,
            detail: None,
        }
    }
}

/// Why nothing is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Only metadata was asked for.
    #[error("the weights were not asked for")]
    NotAsked,
    /// No weights in a format that is read.
    #[error("no {formats} weights{}", found.as_ref().map(|f| format!("; it has {f}")).unwrap_or_default())]
    NoWeights {
        /// The formats that are read.
        formats: String,
        /// A weight file of another format and what it is, if there is one.
        found: Option<String>,
    },
    /// Weights of a kind that is not read.
    #[error("{path} is {what}")]
    Unsupported {
        /// The file.
        path: String,
        /// What it is.
        what: Unsupported,
    },
    /// No tensor name is in the role table.
    #[error("none of {tensors} tensors has a known role, for example {example:?}")]
    NoRoles {
        /// Number of tensors in the opened files.
        tensors: usize,
        /// One of them.
        example: String,
        /// What they are.
        coverage: Box<Coverage>,
    },
    /// An adapter that is no low-rank difference.
    #[error("an adapter of a kind that is not read: {method}")]
    Adapter {
        /// The kind, or why its differences are not read.
        method: Cow<'static, str>,
        /// What it changes, as far as its tensors tell.
        facts: Option<Box<AdapterFacts>>,
        /// What its tensors are.
        coverage: Box<Coverage>,
    },
    /// No component has this name.
    #[error("no component {name:?}; there are {}", others.join(", "))]
    NoComponent {
        /// The name.
        name: String,
        /// The names that there are.
        others: Vec<String>,
    },
    /// The index names a file that the repository does not have.
    #[error(
        "the index names {shard:?}, which the repository does not have ({missing} of {shards} shards are missing)"
    )]
    MissingShards {
        /// The first one.
        shard: String,
        /// How many are missing.
        missing: usize,
        /// How many there should be.
        shards: usize,
    },
}

impl PlanError {
    /// What an adapter changes that is not read, as far as its tensors tell.
    pub fn adapter(&self) -> Option<&AdapterFacts> {
        match self {
            Self::Adapter { facts, .. } => facts.as_deref(),
            _ => None,
        }
    }

    /// What the weights are that are not read, where their headers were.
    pub fn coverage(&self) -> Option<&Coverage> {
        match self {
            Self::NoRoles { coverage, .. } | Self::Adapter { coverage, .. } => Some(coverage),
            _ => None,
        }
    }
}
