//! Tokenizer files: which token string has which id, and how text is cut into tokens.
//!
//! A repository tells this in one of several ways. The first that is there is read, the others are not:
//!
//! 1. `tokenizer.json`: everything in one file;
//! 2. `vocab.json`, with `merges.txt` for BPE, or `vocab.txt`: ids, without the structure around them;
//! 3. a SentencePiece model: ids and kinds of its pieces.
//!
//! `tokenizer_config.json` and `special_tokens_map.json` add which token serves as what. All of it is
//! self-reported, untrusted and bounded by [`Limits`]; memory grows with the input, by no more than a small
//! factor, whatever ids and counts it claims.

mod files;
mod json;
mod plain;
mod sentencepiece;
mod settings;
mod structure;
mod vocabulary;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Limits;
use settings::Settings;
use vocabulary::Tokens;

pub use files::{TOKENIZER_FILES, TokenizerFiles, files_to_read};
pub use structure::{Component, Merges, Structure, leading_bytes};
pub use vocabulary::{Token, TokenFault, TokenKind, Vocabulary};

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

/// Why tokenizer files were refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// None of the files holds a vocabulary.
    #[error("no file with a vocabulary")]
    NoVocabulary,
    /// A vocabulary without a token.
    #[error("the vocabulary has no token")]
    Empty,
    /// Larger than [`Limits`] allows.
    #[error("{part} has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// The file or the part of it.
        part: &'static str,
        /// Its size, bytes.
        bytes: usize,
        /// What is read, bytes.
        limit: u64,
    },
    /// Not the JSON that the format asks for. Line and column count from the beginning of the part.
    #[error("{part}: {source}")]
    Json {
        /// The file or the part of it.
        part: &'static str,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A token that cannot be.
    #[error("{file}: {source}")]
    Token {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        source: TokenFault,
    },
    /// A text file with bytes that are not UTF-8.
    #[error("{file}: {source}")]
    Text {
        /// The file.
        file: &'static str,
        /// Where.
        source: std::str::Utf8Error,
    },
    /// A line of merges.txt that is not two tokens.
    #[error("merges.txt, line {line}: not two tokens")]
    Merge {
        /// Counted from 1.
        line: usize,
    },
    /// Not a SentencePiece model.
    #[error("SentencePiece model, byte {offset}: {reason}")]
    SentencePiece {
        /// Where in the file, bytes.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Tokenizer {
    /// Reads a tokenizer from what there is of its files.
    pub fn parse(files: &TokenizerFiles<'_>, limits: &Limits) -> Result<Self, TokenizerError> {
        files.check_sizes(limits)?;
        let settings = Settings::parse(files)?;
        let mut tokenizer = if let Some(json) = files.tokenizer_json {
            json::read(json, limits)?
        } else {
            let mut read = if let Some(json) = files.vocab_json {
                plain::vocab_json(json, files, limits)?
            } else if let Some(text) = files.vocab_txt {
                plain::vocab_txt(text, limits)?
            } else if let Some(model) = files.sentencepiece {
                sentencepiece::read(model, limits)?
            } else {
                return Err(TokenizerError::NoVocabulary);
            };
            // The later of two tokens with one id stays: the settings are newer than added_tokens.json.
            let mut added = Tokens::new(limits);
            if let Some(json) = files.added_tokens {
                json::read_ids("added_tokens.json", json, &mut added, TokenKind::Added)?;
            }
            settings.added(&mut added)?;
            read.vocabulary = read.vocabulary.with_added(added);
            read
        };
        if tokenizer.vocabulary.is_empty() {
            return Err(TokenizerError::Empty);
        }
        settings.apply(&mut tokenizer, limits);
        Ok(tokenizer)
    }
}

#[cfg(test)]
mod tests;
