//! A SentencePiece model: a protobuf message of which four fields matter. Numbers and defaults are those of
//! `sentencepiece_model.proto`.

use super::vocabulary::Tokens;
use super::{Algorithm, Function, TokenKind, Tokenizer, TokenizerError};
use crate::formats::{Limits, varint};

/// A field of a message.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A float, none of which is read.
    Fixed,
}

/// Reads the fields of a message one by one.
struct Message<'a> {
    rest: &'a [u8],
    /// Where `rest` lies in the file, bytes.
    offset: usize,
}

impl<'a> Message<'a> {
    fn fail(&self, reason: &'static str) -> TokenizerError {
        TokenizerError::SentencePiece { offset: self.offset, reason }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], TokenizerError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| self.fail("ends within a field"))?;
        self.rest = rest;
        self.offset += n;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, TokenizerError> {
        match varint::read(self.rest) {
            Ok((number, length)) => self.take(length).map(|_| number),
            Err(none) => {
                self.offset += self.rest.len().min(varint::MOST);
                Err(self.fail(none.why()))
            }
        }
    }

    /// The next field's number and value; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, TokenizerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.fail("ends within a field"))?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(self.fail("a wire type that does not exist")),
        };
        Ok(Some((tag >> 3, value)))
    }

    /// A message within this one that has just been read.
    fn inner(&self, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: self.offset - bytes.len() }
    }
}

/// What the training settings say; ids below 0 mean that there is no such token.
struct Trainer {
    model_type: u64,
    byte_fallback: bool,
    ids: [(Function, i64); 4],
}

impl Default for Trainer {
    fn default() -> Self {
        use Function::{Begin, End, Pad, Unknown};
        Self { model_type: 1, byte_fallback: false, ids: [(Unknown, 0), (Begin, 1), (End, 2), (Pad, -1)] }
    }
}

/// Reads a model; the position of a piece is its id.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Tokenizer, TokenizerError> {
    let fault = |source| TokenizerError::Token { file: "SentencePiece model", source };
    let mut model = Message { rest: bytes, offset: 0 };
    let mut tokens = Tokens::new(limits);
    let mut trainer = Trainer::default();
    while let Some(field) = model.next()? {
        match field {
            (1, Value::Bytes(bytes)) => {
                let (text, kind) = piece(model.inner(bytes))?;
                tokens.push(tokens.len(), text, kind).map_err(fault)?;
            }
            (2, Value::Bytes(bytes)) => trainer = read_trainer(model.inner(bytes))?,
            _ => {}
        }
    }
    let vocabulary = tokens.finish().map_err(fault)?;
    let special = |(function, id): (Function, i64)| {
        let token = vocabulary.get(u32::try_from(id).ok()?)?;
        (token.kind == TokenKind::Special).then(|| (function, token.text.to_string()))
    };
    Ok(Tokenizer {
        algorithm: match trainer.model_type {
            1 => Some(Algorithm::Unigram),
            2 => Some(Algorithm::Bpe),
            // Words and characters.
            3 | 4 => Some(Algorithm::WordLevel),
            _ => None,
        },
        special: trainer.ids.into_iter().filter_map(special).collect(),
        byte_fallback: Some(trainer.byte_fallback),
        vocabulary,
        ..Tokenizer::default()
    })
}

/// A piece's text and kind.
fn piece(mut message: Message<'_>) -> Result<(&str, TokenKind), TokenizerError> {
    let (mut text, mut kind) = ("", TokenKind::Ordinary);
    while let Some(field) = message.next()? {
        match field {
            (1, Value::Bytes(bytes)) => {
                text = std::str::from_utf8(bytes).map_err(|_| message.fail("a piece that is not UTF-8"))?;
            }
            (3, Value::Number(number)) => {
                kind = match number {
                    // Unknown, and control.
                    2 | 3 => TokenKind::Special,
                    // Defined by the user, and unused.
                    4 | 5 => TokenKind::Added,
                    // Normal, and byte.
                    _ => TokenKind::Ordinary,
                };
            }
            _ => {}
        }
    }
    Ok((text, kind))
}

fn read_trainer(mut message: Message<'_>) -> Result<Trainer, TokenizerError> {
    let mut trainer = Trainer::default();
    while let Some((field, value)) = message.next()? {
        let Value::Number(number) = value else { continue };
        match field {
            3 => trainer.model_type = number,
            35 => trainer.byte_fallback = number != 0,
            // unk, bos, eos, pad. A negative number is written as that of 64 bits.
            40..=43 => trainer.ids[(field - 40) as usize].1 = number as i64,
            _ => {}
        }
    }
    Ok(trainer)
}
