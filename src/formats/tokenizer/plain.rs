//! The files that came before tokenizer.json, and that many repositories still have alone.

use super::json::read_ids;
use super::structure::MergeHasher;
use super::vocabulary::Tokens;
use super::{
    Algorithm, Merges, TokenKind, Tokenizer, TokenizerError, TokenizerFiles, Vocabulary, sentencepiece,
};
use crate::formats::Limits;

/// `vocab.json`, with `merges.txt` for BPE or a SentencePiece model (Marian) beside it.
pub(super) fn vocab_json(
    json: &[u8],
    files: &TokenizerFiles<'_>,
    limits: &Limits,
) -> Result<Tokenizer, TokenizerError> {
    let mut tokens = Tokens::new(limits);
    read_ids("vocab.json", json, &mut tokens, TokenKind::Ordinary)?;
    let merges = files.merges_txt.map(merges_txt).transpose()?;
    let algorithm = match (&merges, files.sentencepiece) {
        (Some(_), _) => Some(Algorithm::Bpe),
        (None, Some(model)) => sentencepiece::read(model, limits)?.algorithm,
        (None, None) => Some(Algorithm::WordLevel),
    };
    let vocabulary = finish("vocab.json", tokens)?;
    Ok(Tokenizer { algorithm, vocabulary, merges, ..Tokenizer::default() })
}

/// `vocab.txt`: the token of each line has the line's number as its id.
pub(super) fn vocab_txt(bytes: &[u8], limits: &Limits) -> Result<Tokenizer, TokenizerError> {
    let file = "vocab.txt";
    let text = std::str::from_utf8(bytes).map_err(|source| TokenizerError::Text { file, source })?;
    let mut tokens = Tokens::new(limits);
    for line in text.lines() {
        tokens
            .push(tokens.len(), line, TokenKind::Ordinary)
            .map_err(|source| TokenizerError::Token { file, source })?;
    }
    let pieces = text.lines().any(|line| line.starts_with("##"));
    Ok(Tokenizer {
        algorithm: Some(if pieces { Algorithm::WordPiece } else { Algorithm::WordLevel }),
        vocabulary: finish(file, tokens)?,
        continuing_prefix: pieces.then(|| "##".to_owned()),
        ..Tokenizer::default()
    })
}

/// `merges.txt`: a line for each merge, after an optional line with a version.
fn merges_txt(bytes: &[u8]) -> Result<Merges, TokenizerError> {
    let file = "merges.txt";
    let text = std::str::from_utf8(bytes).map_err(|source| TokenizerError::Text { file, source })?;
    let mut merges = MergeHasher::default();
    for (i, line) in text.lines().enumerate() {
        if line.is_empty() || (i == 0 && line.starts_with("#version")) {
            continue;
        }
        let (left, right) = line.split_once(' ').ok_or(TokenizerError::Merge { line: i + 1 })?;
        merges.push(left, right);
    }
    Ok(merges.finish())
}

fn finish(file: &'static str, tokens: Tokens<'_>) -> Result<Vocabulary, TokenizerError> {
    tokens.finish().map_err(|source| TokenizerError::Token { file, source })
}
