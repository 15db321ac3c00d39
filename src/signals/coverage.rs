//! How much of a model a fingerprint has seen, and what the rest is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most parts that the rest of a model is told in.
pub const MOST_RESTS: usize = 16;

/// How much of a model's weights a fingerprint has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Parameters of the whole checkpoint, as far as known.
    pub parameters: u64,
    /// Of them, those of tensors with a known role that were read (sampled).
    pub parameters_read: u64,
    /// Bytes of all tensors, as far as known.
    pub bytes: u64,
    /// Of them, those of tensors with a known role that were read.
    pub bytes_read: u64,
    /// What the rest is, the largest part first; at most [`MOST_RESTS`].
    pub rest: Vec<Rest>,
}

/// A part of a model that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rest {
    /// Why it was not read.
    pub kind: RestKind,
    /// What it is, e.g. `vision_tower` or `EXL3`.
    pub what: String,
    /// Its parameters, as far as known.
    pub parameters: u64,
    /// Its bytes, as far as known.
    pub bytes: u64,
}

/// Why a part of a model was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestKind {
    /// Tensors whose names have no known role.
    UnknownName,
    /// Weights in a packing that this version does not decode.
    UnreadablePacking,
    /// Convolutions.
    Convolution,
    /// The output head.
    OutputHead,
    /// Vectors that are no norm gains: biases and the like.
    Vector,
    /// A shard of the model that was not opened.
    ShardNotOpened,
    /// Another file of the repository.
    OtherFile,
    /// Another component of the repository.
    OtherComponent,
}

impl RestKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::UnknownName,
        Self::UnreadablePacking,
        Self::Convolution,
        Self::OutputHead,
        Self::Vector,
        Self::ShardNotOpened,
        Self::OtherFile,
        Self::OtherComponent,
    ];

    /// The name in answers and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownName => "unknown_name",
            Self::UnreadablePacking => "unreadable_packing",
            Self::Convolution => "convolution",
            Self::OutputHead => "output_head",
            Self::Vector => "vector",
            Self::ShardNotOpened => "shard_not_opened",
            Self::OtherFile => "other_file",
            Self::OtherComponent => "other_component",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_name_each_in_json_and_in_the_database() {
        for kind in RestKind::ALL {
            assert_eq!(RestKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(RestKind::from_name("other"), None);
    }
}
