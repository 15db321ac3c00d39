//! Id to token, bounded.

use std::collections::BTreeMap;

use crate::formats::Limits;

/// How a token came into the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Learned, spelled in the alphabet of the model.
    Ordinary,
    /// Added by hand and matched literally.
    Added,
    /// Added, and no text: it steers the model.
    Special,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its row in the embedding.
    pub id: u32,
    /// As the files spell it.
    pub text: Box<str>,
    /// How it came in.
    pub kind: TokenKind,
}

/// The tokens of a model, in order of id. Ids may have holes; no id is twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    tokens: Vec<Token>,
}

/// A token that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// An id beyond what any embedding has.
    #[error("token {text:?} has id {id}, ids below {limit} are read")]
    Id {
        /// Beginning of the token.
        text: String,
        /// Its id.
        id: u64,
        /// First id that is refused.
        limit: usize,
    },
    /// One token more than [`Limits`] allows.
    #[error("more than {0} tokens")]
    TooMany(usize),
    /// Longer than [`Limits`] allows.
    #[error("token {text:?}... has {bytes} bytes, at most {limit} are read")]
    TooLong {
        /// Its beginning.
        text: String,
        /// Its length, bytes.
        bytes: usize,
        /// What is read, bytes.
        limit: usize,
    },
    /// Two tokens with one id.
    #[error("tokens {first:?} and {second:?} both have id {id}")]
    Duplicate {
        /// The id.
        id: u32,
        /// Beginning of the one.
        first: String,
        /// Beginning of the other.
        second: String,
    },
}

impl Vocabulary {
    /// All tokens, in order of id.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// How many tokens there are, holes not counted.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token with this id.
    pub fn get(&self, id: u32) -> Option<&Token> {
        let at = self.tokens.binary_search_by_key(&id, |t| t.id).ok()?;
        self.tokens.get(at)
    }

    /// Puts added tokens over these. An added token takes its id from a learned one, as it does when text is
    /// decoded; among added ones the last wins.
    pub(super) fn with_added(self, added: Tokens<'_>) -> Self {
        let mut by_id: BTreeMap<u32, Token> = added.tokens.into_iter().map(|t| (t.id, t)).collect();
        if by_id.is_empty() {
            return self;
        }
        let mut tokens = self.tokens;
        for token in &mut tokens {
            if let Some(added) = by_id.remove(&token.id) {
                *token = added;
            }
        }
        tokens.extend(by_id.into_values());
        tokens.sort_by_key(|t| t.id);
        Self { tokens }
    }
}

/// Tokens being read, in the order of the file.
pub(super) struct Tokens<'l> {
    limits: &'l Limits,
    tokens: Vec<Token>,
}

impl<'l> Tokens<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, tokens: Vec::new() }
    }

    /// How many have been read: the id of the next one, where ids are positions.
    pub(super) fn len(&self) -> u64 {
        self.tokens.len() as u64
    }

    pub(super) fn push(
        &mut self,
        id: u64,
        text: impl AsRef<str> + Into<Box<str>>,
        kind: TokenKind,
    ) -> Result<(), TokenFault> {
        let limit = self.limits.tokens;
        if self.tokens.len() >= limit {
            return Err(TokenFault::TooMany(limit));
        }
        let bytes = text.as_ref().len();
        if bytes > self.limits.token_bytes {
            let text = beginning(text.as_ref());
            return Err(TokenFault::TooLong { text, bytes, limit: self.limits.token_bytes });
        }
        match u32::try_from(id) {
            Ok(row) if (row as usize) < limit => {
                self.tokens.push(Token { id: row, text: text.into(), kind });
                Ok(())
            }
            _ => Err(TokenFault::Id { text: beginning(text.as_ref()), id, limit }),
        }
    }

    /// The vocabulary, unless two tokens have one id.
    pub(super) fn finish(mut self) -> Result<Vocabulary, TokenFault> {
        self.tokens.sort_by_key(|t| t.id);
        self.tokens.shrink_to_fit();
        match self.tokens.windows(2).find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(TokenFault::Duplicate {
                id: pair[0].id,
                first: beginning(&pair[0].text),
                second: beginning(&pair[1].text),
            }),
            None => Ok(Vocabulary { tokens: self.tokens }),
        }
    }
}

/// As much of a token as an error shows.
fn beginning(text: &str) -> String {
    text.chars().take(80).collect()
}
