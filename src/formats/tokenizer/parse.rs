//! Which of the files are read, and what the others add.

use super::error::TokenizerError;
use super::files::TokenizerFiles;
use super::model::Tokenizer;
use super::settings::Settings;
use super::vocabulary::{TokenKind, Tokens};
use super::{json, plain, sentencepiece, tiktoken};
use crate::formats::Limits;

impl Tokenizer {
    /// Reads a tokenizer from what there is of its files.
    pub fn parse(files: &TokenizerFiles<'_>, limits: &Limits) -> Result<Self, TokenizerError> {
        files.check(limits)?;
        let settings = Settings::parse(files)?;
        let mut tokenizer = if let Some(json) = files.tokenizer_json {
            json::read(json, limits)?
        } else {
            let mut read = if let Some(json) = files.vocab_json {
                plain::vocab_json(json, files, limits)?
            } else if let Some(text) = files.vocab_txt {
                plain::vocab_txt(text, limits)?
            } else if let Some(json) = files.tekken {
                tiktoken::tekken(json, limits)?
            } else if let Some(text) = files.sentencepiece.filter(|model| tiktoken::is_tiktoken(model)) {
                tiktoken::read(text, limits)?
            } else if let Some(model) = files.sentencepiece {
                sentencepiece::read(model, limits)?
            } else if let Some(text) = files.tiktoken {
                tiktoken::read(text, limits)?
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
