//! Which files make a tokenizer.

use super::TokenizerError;
use crate::formats::{Foreign, Limits};

/// The names that are worth fetching, the preferred first. `sentencepiece.bpe.model` is not among them: the
/// models that have one (XLM-R, mBART, NLLB) shift its ids, so it names the wrong embedding rows.
pub const TOKENIZER_FILES: [&str; 13] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "source.spm",
    "tekken.json",
    "tiktoken.model",
];

/// Whether a file is one of tiktoken by its name: `qwen.tiktoken` and others are named after the model.
fn is_tiktoken(name: &str) -> bool {
    name == "tiktoken.model" || (name.ends_with(".tiktoken") && !name.contains('/'))
}

/// The files of one tokenizer, as far as there are any.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer_json: Option<&'a [u8]>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `added_tokens.json`.
    pub added_tokens: Option<&'a [u8]>,
    /// `vocab.json`.
    pub vocab_json: Option<&'a [u8]>,
    /// `merges.txt`.
    pub merges_txt: Option<&'a [u8]>,
    /// `vocab.txt`.
    pub vocab_txt: Option<&'a [u8]>,
    /// `tokenizer.model`, `spiece.model`, `spm.model` or `source.spm`.
    pub sentencepiece: Option<&'a [u8]>,
    /// `tekken.json`.
    pub tekken: Option<&'a [u8]>,
    /// `tiktoken.model`, or a file that ends in `.tiktoken`.
    pub tiktoken: Option<&'a [u8]>,
}

impl<'a> TokenizerFiles<'a> {
    /// Puts a file in its place. A name that is neither one of [`TOKENIZER_FILES`] nor ends in `.tiktoken` is ignored.
    pub fn insert(&mut self, name: &str, bytes: &'a [u8]) {
        let place = match name {
            "tokenizer.json" => &mut self.tokenizer_json,
            "tokenizer_config.json" => &mut self.tokenizer_config,
            "special_tokens_map.json" => &mut self.special_tokens_map,
            "added_tokens.json" => &mut self.added_tokens,
            "vocab.json" => &mut self.vocab_json,
            "merges.txt" => &mut self.merges_txt,
            "vocab.txt" => &mut self.vocab_txt,
            "tokenizer.model" | "spiece.model" | "spm.model" | "source.spm" => &mut self.sentencepiece,
            "tekken.json" => &mut self.tekken,
            name if is_tiktoken(name) => &mut self.tiktoken,
            _ => return,
        };
        *place = Some(bytes);
    }

    /// Refuses files that are larger than they need to be, or something else.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), TokenizerError> {
        let parts = [
            ("tokenizer.json", self.tokenizer_json, limits.tokenizer_bytes),
            ("vocab.json", self.vocab_json, limits.tokenizer_bytes),
            ("merges.txt", self.merges_txt, limits.tokenizer_bytes),
            ("vocab.txt", self.vocab_txt, limits.tokenizer_bytes),
            ("SentencePiece model", self.sentencepiece, limits.tokenizer_bytes),
            ("tekken.json", self.tekken, limits.tokenizer_bytes),
            ("tiktoken file", self.tiktoken, limits.tokenizer_bytes),
            ("tokenizer_config.json", self.tokenizer_config, limits.config_bytes),
            ("special_tokens_map.json", self.special_tokens_map, limits.config_bytes),
            ("added_tokens.json", self.added_tokens, limits.config_bytes),
        ];
        parts.into_iter().try_for_each(|(part, bytes, limit)| match bytes {
            Some(bytes) => {
                check_size(part, bytes, limit)?;
                Foreign::of_text(bytes).map_or(Ok(()), |source| Err(TokenizerError::Foreign { part, source }))
            }
            None => Ok(()),
        })
    }
}

/// Refuses a part of more than `limit` bytes.
pub(super) fn check_size(part: &'static str, bytes: &[u8], limit: u64) -> Result<(), TokenizerError> {
    if bytes.len() as u64 > limit {
        return Err(TokenizerError::TooLarge { part, bytes: bytes.len(), limit });
    }
    Ok(())
}

/// The smallest set of files that tells all there is, from the names beside a checkpoint. Empty when no file holds a
/// vocabulary.
pub fn files_to_read<'a>(names: &[&'a str]) -> Vec<&'a str> {
    const SENTENCEPIECE: [&str; 4] = ["tokenizer.model", "spiece.model", "spm.model", "source.spm"];
    let there = |name: &str| names.contains(&name);
    let first_sentencepiece = || SENTENCEPIECE.into_iter().find(|name| there(name));
    let vocabulary: Vec<&str> = if there("tokenizer.json") {
        vec!["tokenizer.json"]
    } else if there("vocab.json") {
        // Marian takes its ids from vocab.json and says in source.spm how it cuts words.
        let cutting = if there("merges.txt") { Some("merges.txt") } else { first_sentencepiece() };
        std::iter::once("vocab.json").chain(cutting).collect()
    } else if there("vocab.txt") {
        vec!["vocab.txt"]
    } else if there("tekken.json") {
        vec!["tekken.json"]
    } else {
        let tiktoken = || names.iter().copied().filter(|name| is_tiktoken(name)).min();
        first_sentencepiece().or_else(tiktoken).into_iter().collect()
    };
    let settings: &[&str] = match vocabulary.first() {
        None => &[],
        Some(&"tokenizer.json") if there("tokenizer_config.json") => &["tokenizer_config.json"],
        Some(&"tokenizer.json") => &["special_tokens_map.json"],
        Some(_) => &["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
    };
    let wanted = |name: &&&str| vocabulary.contains(*name) || settings.contains(*name);
    let mut wanted: Vec<&str> = names.iter().filter(wanted).copied().collect();
    // In the order of the list; a file with a name of its own comes last.
    wanted.sort_by_key(|name| TOKENIZER_FILES.iter().position(|known| known == name).unwrap_or(usize::MAX));
    wanted.dedup();
    wanted
}
