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

/// One tensor of an odd type does not make a model a packed one.
const PACKED: u64 = 20;

/// Share of a model's parameters from which on what is said of the part that was read is said of the whole.
pub const WHOLE: f64 = 0.9;

impl Coverage {
    /// Of a model that was read as a whole.
    pub fn of_all(parameters: u64, bytes: u64) -> Self {
        Self { parameters, parameters_read: parameters, bytes, bytes_read: bytes, rest: Vec::new() }
    }

    /// Share of the parameters that was read, 0 to 1. Where weights are packed in a way that is not read, how many there
    /// are is not known; then it is the share of the bytes, where that is less.
    pub fn share(&self) -> f64 {
        let share = |read: u64, of: u64| if of == 0 { 0.0 } else { (read.min(of) as f64) / of as f64 };
        let of_parameters = share(self.parameters_read, self.parameters);
        if self.has_unread_packing() {
            of_parameters.min(share(self.bytes_read, self.bytes))
        } else {
            of_parameters
        }
    }

    /// Whether that is nearly all.
    pub fn is_whole(&self) -> bool {
        self.share() >= WHOLE
    }

    /// Whether a good part of the weights is packed in a way that is not read: a twentieth of the bytes and more.
    pub fn has_unread_packing(&self) -> bool {
        let packed = self.rest.iter().filter(|rest| rest.kind == RestKind::UnreadablePacking);
        let bytes = packed.map(|rest| rest.bytes).fold(0, u64::saturating_add);
        bytes > 0 && bytes.saturating_mul(PACKED) >= self.bytes
    }

    /// The parts by size; what is beyond [`MOST_RESTS`] is added to the last one of its kind, or left out where there
    /// is none.
    pub fn set_rest(&mut self, mut parts: Vec<Rest>) {
        parts.sort_by(|x, y| (y.bytes, &x.what).cmp(&(x.bytes, &y.what)));
        let beyond = parts.split_off(parts.len().min(MOST_RESTS));
        for part in beyond {
            if let Some(last) = parts.iter_mut().rev().find(|kept| kept.kind == part.kind) {
                last.parameters = last.parameters.saturating_add(part.parameters);
                last.bytes = last.bytes.saturating_add(part.bytes);
            }
        }
        self.rest = parts;
    }
}

/// What a stored fingerprint stands for, in few bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extent {
    /// [`Coverage::share`]; `None` where it is not known.
    pub coverage: Option<f32>,
    /// Parameters of the whole checkpoint, where they are known.
    pub parameters: Option<u64>,
    /// [`Coverage::has_unread_packing`].
    pub unread_packing: bool,
    /// Whether the matrices are packed or lie on a grid of few values.
    pub quantised: bool,
    /// Tokens of the tokenizer; rows of the embedding beyond them are padding.
    pub tokens: Option<u32>,
}

impl Extent {
    /// Of this coverage.
    pub fn new(coverage: Option<&Coverage>, quantised: bool, tokens: Option<u32>) -> Self {
        Self {
            coverage: coverage.map(|coverage| coverage.share() as f32),
            parameters: coverage.map(|coverage| coverage.parameters),
            unread_packing: coverage.is_some_and(Coverage::has_unread_packing),
            quantised,
            tokens,
        }
    }
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
    /// Vectors that are no norm gains: biases and the like.
    Vector,
    /// A shard of the model that was not opened.
    ShardNotOpened,
    /// Another file of the repository, which is not counted among the model's parameters and bytes.
    OtherFile,
    /// A further whole model in the same files.
    OtherComponent,
    /// A further whole model in other files of the repository, which is not counted either.
    OtherModel,
}

impl RestKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::UnknownName,
        Self::UnreadablePacking,
        Self::Convolution,
        Self::Vector,
        Self::ShardNotOpened,
        Self::OtherFile,
        Self::OtherComponent,
        Self::OtherModel,
    ];

    /// The name in answers and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownName => "unknown_name",
            Self::UnreadablePacking => "unreadable_packing",
            Self::Convolution => "convolution",
            Self::Vector => "vector",
            Self::ShardNotOpened => "shard_not_opened",
            Self::OtherFile => "other_file",
            Self::OtherComponent => "other_component",
            Self::OtherModel => "other_model",
        }
    }

    /// Why it was not read, in the words of a report.
    pub fn words(self) -> &'static str {
        match self {
            Self::UnknownName => "unknown names",
            Self::UnreadablePacking => "a packing that is not read",
            Self::Convolution => "convolutions",
            Self::Vector => "vectors",
            Self::ShardNotOpened => "shards not opened",
            Self::OtherFile => "another file",
            Self::OtherComponent => "another component",
            Self::OtherModel => "another model",
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
