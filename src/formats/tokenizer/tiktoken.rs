//! Vocabularies of bytes and ranks: tiktoken's text files, and `tekken.json` of Mistral. What `tokenizer.json` says of the
//! same tokens is spelled in GPT-2's alphabet, so these are brought to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::vocabulary::Tokens;
use super::{Algorithm, Function, TokenKind, Tokenizer, TokenizerError};
use crate::formats::Limits;
use crate::formats::json;

const TIKTOKEN: &str = "tiktoken file";
const TEKKEN: &str = "tekken.json";

/// Ids that tekken.json keeps for special tokens in front of the others, where it does not say how many.
const SPECIAL_TOKENS: u64 = 1000;

/// Whether a file has a line of base64 and a number where it begins: Llama 3 names one `tokenizer.model`.
pub(super) fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    rank_and_bytes(line).is_some()
}

fn rank_and_bytes(line: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut words = line.trim_ascii().split(|byte| *byte == b' ');
    let (bytes, rank) = (words.next()?, words.next()?);
    let rank = std::str::from_utf8(rank).ok()?.parse().ok()?;
    // Base64 of nothing is nothing.
    let bytes = STANDARD.decode(bytes).ok().filter(|bytes| !bytes.is_empty())?;
    words.next().is_none().then_some((rank, bytes))
}

/// Reads a text file of tiktoken: a line for each token, its bytes as base64 and its id.
pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Tokenizer, TokenizerError> {
    let mut tokens = Tokens::new(limits);
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (rank, bytes) = rank_and_bytes(line).ok_or(TokenizerError::Tiktoken { line: number + 1 })?;
        tokens
            .push(rank, byte_level(&bytes), TokenKind::Ordinary)
            .map_err(|source| TokenizerError::Token { file: TIKTOKEN, source })?;
    }
    let vocabulary = tokens.finish().map_err(|source| TokenizerError::Token { file: TIKTOKEN, source })?;
    Ok(Tokenizer { algorithm: Some(Algorithm::Bpe), vocabulary, ..Tokenizer::default() })
}

#[derive(Deserialize)]
struct RawTekken {
    #[serde(default)]
    config: RawConfig,
    vocab: Vec<RawToken>,
    special_tokens: Option<Vec<RawSpecial>>,
}

#[derive(Default, Deserialize)]
struct RawConfig {
    default_vocab_size: Option<u64>,
    default_num_special_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct RawToken {
    rank: u64,
    token_bytes: String,
}

#[derive(Deserialize)]
struct RawSpecial {
    rank: u64,
    token_str: String,
}

/// The special tokens of files of before they listed them.
const UNLISTED: [&str; 17] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
];

/// Reads tekken.json. Special tokens have the first ids, the others follow by rank; of these, no more are used than the
/// file says, which lists some in reserve.
pub(super) fn tekken(json: &[u8], limits: &Limits) -> Result<Tokenizer, TokenizerError> {
    let raw: RawTekken = json::parse(json).map_err(|error| TokenizerError::of_json(TEKKEN, error))?;
    let fault = |source| TokenizerError::Token { file: TEKKEN, source };
    let special = raw.config.default_num_special_tokens.unwrap_or(SPECIAL_TOKENS);
    let used = raw.config.default_vocab_size.map_or(u64::MAX, |size| size.saturating_sub(special));
    let mut tokens = Tokens::new(limits);
    for token in raw.vocab.into_iter().filter(|token| token.rank < used) {
        let bytes = STANDARD.decode(&token.token_bytes).ok();
        let bytes = bytes.ok_or(TokenizerError::Tekken { rank: token.rank })?;
        tokens
            .push(token.rank.saturating_add(special), byte_level(&bytes), TokenKind::Ordinary)
            .map_err(fault)?;
    }
    let vocabulary = tokens.finish().map_err(fault)?;
    let listed = raw.special_tokens.unwrap_or_else(|| {
        let unlisted = (0..).zip(UNLISTED);
        unlisted.map(|(rank, text)| RawSpecial { rank, token_str: text.to_owned() }).collect()
    });
    let mut added = Tokens::new(limits);
    for token in listed.into_iter().filter(|token| token.rank < special) {
        added.push(token.rank, token.token_str, TokenKind::Special).map_err(fault)?;
    }
    let vocabulary = vocabulary.with_added(added);
    let roles = [
        (Function::Unknown, "<unk>"),
        (Function::Begin, "<s>"),
        (Function::End, "</s>"),
        (Function::Pad, "<pad>"),
    ];
    let has = |text: &str| {
        vocabulary.tokens().iter().any(|token| token.kind == TokenKind::Special && &*token.text == text)
    };
    let special = roles.into_iter().filter(|(_, text)| has(text)).map(|(role, text)| (role, text.to_owned()));
    Ok(Tokenizer {
        algorithm: Some(Algorithm::Bpe),
        special: special.collect(),
        vocabulary,
        ..Tokenizer::default()
    })
}

/// Bytes in the alphabet of GPT-2: those that print as Latin-1 stand for themselves, the other 68, in order, are the
/// characters from U+0100 on.
fn byte_level(bytes: &[u8]) -> String {
    let character = |byte: &u8| {
        let moved = match *byte {
            byte @ 0..=0x20 => 0x100 + u32::from(byte),
            byte @ 0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
            0xad => 0x143,
            byte => u32::from(byte),
        };
        char::from_u32(moved).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    bytes.iter().map(character).collect()
}
