//! What a tokenizer is, as far as its files tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::structure::{Merges, Structure};
use super::vocabulary::Vocabulary;

/// How a tokenizer cuts a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Byte-pair encoding: merges in order of rank.
    Bpe,
    /// Longest match first, with a mark on pieces inside a word.
    WordPiece,
    /// Most probable segmentation.
    Unigram,
    /// Whole words, or characters.
    WordLevel,
}

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Begins a sequence.
    Begin,
    /// Ends a sequence.
    End,
    /// Stands for what is not in the vocabulary.
    Unknown,
    /// Fills up a batch.
    Pad,
    /// Is to be predicted.
    Mask,
    /// Separates two sequences.
    Separator,
    /// Stands for the whole sequence.
    Class,
}

impl Function {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Begin, Self::End, Self::Unknown, Self::Pad, Self::Mask, Self::Separator, Self::Class];

    /// The key that `tokenizer_config.json` and `special_tokens_map.json` use.
    pub fn key(self) -> &'static str {
        match self {
            Self::Begin => "bos_token",
            Self::End => "eos_token",
            Self::Unknown => "unk_token",
            Self::Pad => "pad_token",
            Self::Mask => "mask_token",
            Self::Separator => "sep_token",
            Self::Class => "cls_token",
        }
    }
}

/// What the files say of a tokenizer. `None` is always "not said", never "no".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenizer {
    /// How words are cut.
    pub algorithm: Option<Algorithm>,
    /// Id to token, added tokens included. Never empty.
    pub vocabulary: Vocabulary,
    /// The merges of a BPE.
    pub merges: Option<Merges>,
    /// What happens before and after; only tokenizer.json tells.
    pub structure: Option<Structure>,
    /// Special tokens by what they are for.
    pub special: BTreeMap<Function, String>,
    /// Whether text outside the vocabulary becomes byte tokens `<0x00>` to `<0xFF>`.
    pub byte_fallback: Option<bool>,
    /// Whether text is lower-cased first.
    pub lowercase: Option<bool>,
    /// Longest sequence, tokens, where one is set.
    pub model_max_length: Option<u64>,
    /// SHA-256 of the chat template.
    pub chat_template: Option<[u8; 32]>,
    /// What marks a piece inside a word, `##` for WordPiece.
    pub continuing_prefix: Option<String>,
}
