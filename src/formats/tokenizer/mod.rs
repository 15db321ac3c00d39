//! Tokenizer files: which token string has which id, and how text is cut into tokens.
//!
//! A repository tells this in one of several ways. The first that is there is read, the others are not:
//!
//! 1. `tokenizer.json`: everything in one file;
//! 2. `vocab.json`, with `merges.txt` for BPE, or `vocab.txt`: ids, without the structure around them;
//! 3. `tekken.json`: bytes and ranks, special tokens in front of them;
//! 4. a SentencePiece model: ids and kinds of its pieces; some files of that name are tiktoken's;
//! 5. `tiktoken.model` or `*.tiktoken`: bytes and ranks.
//!
//! `tokenizer_config.json` and `special_tokens_map.json` add which token serves as what. All of it is
//! self-reported, untrusted and bounded by [`Limits`](super::Limits); memory grows with the input, by no more than a small
//! factor, whatever ids and counts it claims.

mod error;
mod files;
mod json;
mod model;
mod parse;
mod plain;
mod sentencepiece;
mod settings;
mod structure;
mod tiktoken;
mod vocabulary;

pub use error::TokenizerError;
pub use files::{TOKENIZER_FILES, TokenizerFiles, files_to_read};
pub use model::{Algorithm, Function, Tokenizer};
pub use structure::{Component, Merges, Structure, leading_bytes};
pub use vocabulary::{Token, TokenFault, TokenKind, Vocabulary};

#[cfg(test)]
mod tests;
