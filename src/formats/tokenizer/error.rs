//! Why tokenizer files were refused.

use super::vocabulary::TokenFault;
use crate::formats::{Foreign, JsonError};

/// Why tokenizer files were refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// None of the files holds a vocabulary.
    #[error("no file with a vocabulary")]
    NoVocabulary,
    /// A vocabulary without a token.
    #[error("the vocabulary has no token")]
    Empty,
    /// Larger than [`Limits`](crate::formats::Limits) allows.
    #[error("{part} has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// The file or the part of it.
        part: &'static str,
        /// Its size, bytes.
        bytes: usize,
        /// What is read, bytes.
        limit: u64,
    },
    /// Another kind of file under this name.
    #[error("{part}: {source}")]
    Foreign {
        /// The file.
        part: &'static str,
        /// What it is.
        source: Foreign,
    },
    /// A line of a tiktoken file that is not base64 and a number.
    #[error("tiktoken file, line {line}: not a token as base64 and its rank")]
    Tiktoken {
        /// Counted from 1.
        line: usize,
    },
    /// A token of tekken.json whose bytes are not base64.
    #[error("tekken.json: the bytes of the token of rank {rank} are not base64")]
    Tekken {
        /// Its rank.
        rank: u64,
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

impl TokenizerError {
    /// Of a part that is JSON.
    pub(super) fn of_json(part: &'static str, error: JsonError) -> Self {
        match error {
            JsonError::Foreign(source) => Self::Foreign { part, source },
            JsonError::Json(source) => Self::Json { part, source },
        }
    }
}
