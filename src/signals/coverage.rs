//! How much of a model a fingerprint has seen, and what the rest is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most parts that the rest of a model is told in.
pub const MOST_RESTS: usize = 16;
/// How many of them, the largest, are told one by one; what is beyond is added up for each kind.
const NAMED: usize = MOST_RESTS - RestKind::ALL.len();

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

    /// Whether there are further whole models in the same files.
    pub fn has_other_models(&self) -> bool {
        self.rest.iter().any(|rest| rest.kind == RestKind::OtherComponent)
    }

    /// Takes further parts of the rest. They are told by size, and at most [`MOST_RESTS`] of them: beyond the largest,
    /// those of one kind are one part.
    pub fn add_rest(&mut self, parts: impl IntoIterator<Item = Rest>) {
        let sort = |rest: &mut Vec<Rest>| rest.sort_by(|x, y| (y.bytes, &x.what).cmp(&(x.bytes, &y.what)));
        self.rest.extend(parts);
        sort(&mut self.rest);
        if self.rest.len() <= MOST_RESTS {
            return;
        }
        let mut others: BTreeMap<RestKind, Rest> = BTreeMap::new();
        for Rest { kind, parameters, bytes, .. } in self.rest.split_off(NAMED) {
            let none = Rest { kind, what: "others".into(), parameters: 0, bytes: 0 };
            let sum = others.entry(kind).or_insert(none);
            sum.parameters = sum.parameters.saturating_add(parameters);
            sum.bytes = sum.bytes.saturating_add(bytes);
        }
        self.rest.extend(others.into_values());
        sort(&mut self.rest);
    }

    /// The first parts of the rest in words, each with its share of the parameters: `vision_tower (unknown names, 50.0 %)`.
    pub fn rest_in_words(&self, most: usize) -> Option<String> {
        let all = self.parameters.max(1) as f64;
        let part = |rest: &Rest| {
            let share = 100.0 * rest.parameters as f64 / all;
            format!("{} ({}, {share:.1} %)", rest.what, rest.kind.words())
        };
        let parts: Vec<String> = self.rest.iter().take(most).map(part).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
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
    /// Whether the matrices are packed, also in a way that is not read, or lie on a grid of few values.
    pub quantised: bool,
    /// Tokens of the tokenizer; rows of the embedding beyond them are padding.
    pub tokens: Option<u32>,
    /// Of an adapter, whose matrices are differences to those of another model, their rank.
    pub rank: Option<u32>,
}

impl Extent {
    /// Whether nearly all was read, as [`Coverage::is_whole`]; not where that is not known.
    pub fn is_whole(&self) -> bool {
        self.coverage.is_some_and(|share| share >= WHOLE as f32)
    }

    /// Of this coverage.
    pub fn new(coverage: Option<&Coverage>, quantised: bool, tokens: Option<u32>) -> Self {
        Self {
            coverage: coverage.map(|coverage| coverage.share() as f32),
            parameters: coverage.map(|coverage| coverage.parameters),
            unread_packing: coverage.is_some_and(Coverage::has_unread_packing),
            quantised,
            tokens,
            rank: None,
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
    /// Matrices that are stored turned, so that every row lies all over them.
    Turned,
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
    pub const ALL: [Self; 9] = [
        Self::UnknownName,
        Self::UnreadablePacking,
        Self::Turned,
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
            Self::Turned => "turned",
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
            Self::Turned => "stored turned, a row costs the whole",
            Self::Convolution => "convolutions",
            Self::Vector => "vectors",
            Self::ShardNotOpened => "shards not opened",
            Self::OtherFile => "another file",
            Self::OtherComponent => "another component",
            Self::OtherModel => "another model",
        }
    }

    /// Whether it is about what a repository has beside the checkpoint.
    pub fn is_beside(self) -> bool {
        matches!(self, Self::OtherFile | Self::OtherModel)
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
    fn the_rest_adds_up_however_many_parts_it_has() {
        let part = |i: u64| Rest {
            kind: RestKind::ALL[i as usize % RestKind::ALL.len()],
            what: i.to_string(),
            parameters: i,
            bytes: 2 * i,
        };
        for n in [3, 16, 17, 100] {
            let mut coverage = Coverage::default();
            (0..n).for_each(|i| coverage.add_rest([part(i)]));
            let sum: u64 = coverage.rest.iter().map(|part| part.parameters).sum();
            assert_eq!(sum, n * (n - 1) / 2, "{n}");
            assert!(
                coverage.rest.len() <= MOST_RESTS && coverage.rest.is_sorted_by(|x, y| x.bytes >= y.bytes)
            );
        }
    }

    #[test]
    fn nine_tenths_are_whole_in_few_bytes_too() {
        for (read, whole) in [(8999, false), (9000, true), (9001, true)] {
            let coverage = Coverage { parameters_read: read, ..Coverage::of_all(10_000, 1) };
            assert_eq!(
                (coverage.is_whole(), Extent::new(Some(&coverage), false, None).is_whole()),
                (whole, whole)
            );
        }
        assert!(!Extent::default().is_whole());
    }

    #[test]
    fn the_rest_has_words() {
        let mut coverage = Coverage { parameters_read: 490, ..Coverage::of_all(1000, 2000) };
        let part =
            |kind, what: &str, parameters| Rest { kind, what: what.into(), parameters, bytes: parameters };
        coverage.add_rest([
            part(RestKind::Vector, "visual", 10),
            part(RestKind::UnknownName, "vision_tower", 500),
        ]);
        let words = "vision_tower (unknown names, 50.0 %), visual (vectors, 1.0 %)";
        assert_eq!(coverage.rest_in_words(2).as_deref(), Some(words));
        assert_eq!(coverage.rest_in_words(0), None);
    }

    #[test]
    fn kinds_have_one_name_each_in_json_and_in_the_database() {
        for kind in RestKind::ALL {
            assert_eq!(RestKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(RestKind::from_name("other"), None);
    }
}
