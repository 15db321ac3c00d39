//! The metadata of a header: keys and what they stand for.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Read};
use super::error::GgufError;
use crate::formats::text::printable;

/// Longest text that is kept, bytes; templates and licences are longer.
const MOST_TEXT: u64 = 4096;
/// Most numbers of a list that are kept: one for each layer.
const MOST_NUMBERS: u64 = 1024;
/// Fewest bytes of a text, and of a list.
const TEXT_BYTES: u64 = 8;
const LIST_BYTES: u64 = 12;

/// What a key stands for, as far as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer that is not negative, or a boolean.
    Number(u64),
    /// A float, or a negative integer.
    Real(f64),
    /// A short text.
    Text(String),
    /// A short list of integers.
    Numbers(Vec<u64>),
}

/// What was found under a key.
pub(super) enum Found {
    Kept(Value),
    /// Too long, or of no use.
    Passed,
    /// So many texts follow, which say themselves how long they are.
    Texts(u64),
    /// So many lists follow.
    Lists(u64),
}

/// How a value of a type is stored.
#[derive(Clone, Copy, PartialEq)]
enum Stored {
    Unsigned(u64),
    Signed(u64),
    Float(u64),
    Text,
    List,
}

/// Types by their numbers.
fn stored(kind: u32) -> Option<Stored> {
    Some(match kind {
        0 | 7 => Stored::Unsigned(1),
        1 => Stored::Signed(1),
        2 => Stored::Unsigned(2),
        3 => Stored::Signed(2),
        4 => Stored::Unsigned(4),
        5 => Stored::Signed(4),
        6 => Stored::Float(4),
        8 => Stored::Text,
        9 => Stored::List,
        10 => Stored::Unsigned(8),
        11 => Stored::Signed(8),
        12 => Stored::Float(8),
        _ => return None,
    })
}

/// Reads what stands behind a key.
pub(super) fn value(cursor: &mut Cursor<'_>, key: &str) -> Read<Found> {
    match known(cursor, key)? {
        Stored::Text => {
            let length = cursor.u64()?;
            if length > MOST_TEXT {
                cursor.skip(length)?;
                return Ok(Found::Passed);
            }
            let text = String::from_utf8_lossy(cursor.take(length)?).into_owned();
            Ok(Found::Kept(Value::Text(text)))
        }
        Stored::List => list(cursor, key),
        Stored::Unsigned(bytes) => cursor.unsigned(bytes).map(Value::Number).map(Found::Kept),
        Stored::Signed(bytes) => {
            let bits = 64 - 8 * bytes;
            let number = (cursor.unsigned(bytes)? << bits).cast_signed() >> bits;
            let real = Value::Real(number as f64);
            Ok(Found::Kept(u64::try_from(number).map_or(real, Value::Number)))
        }
        Stored::Float(4) => {
            cursor.u32().map(|bits| Found::Kept(Value::Real(as_written(f32::from_bits(bits)))))
        }
        Stored::Float(_) => cursor.u64().map(|bits| Found::Kept(Value::Real(f64::from_bits(bits)))),
    }
}

/// What was rounded to single precision: 1e-5, not 9.99999974e-6.
fn as_written(real: f32) -> f64 {
    real.to_string().parse().unwrap_or(f64::from(real))
}

/// Reads the type, the length and, where its elements have one size, the rest of a list.
pub(super) fn list(cursor: &mut Cursor<'_>, key: &str) -> Read<Found> {
    let element = known(cursor, key)?;
    let count = cursor.u64()?;
    let passed = |bytes| {
        // Texts and lists have at least their own lengths.
        let mut behind = *cursor;
        behind.skip(u64::checked_mul(count, bytes).unwrap_or(u64::MAX)).map(|()| behind.at)
    };
    match element {
        Stored::Text => passed(TEXT_BYTES).map(|_| Found::Texts(count)),
        Stored::List => passed(LIST_BYTES).map(|_| Found::Lists(count)),
        Stored::Unsigned(bytes) | Stored::Signed(bytes) if count <= MOST_NUMBERS => {
            // A negative one is larger than any number of heads or layers.
            let numbers = (0..count).map(|_| cursor.unsigned(bytes)).collect::<Read<_>>()?;
            Ok(Found::Kept(Value::Numbers(numbers)))
        }
        Stored::Unsigned(bytes) | Stored::Signed(bytes) | Stored::Float(bytes) => {
            cursor.at = passed(bytes)?;
            Ok(Found::Passed)
        }
    }
}

fn known(cursor: &mut Cursor<'_>, key: &str) -> Read<Stored> {
    let kind = cursor.u32()?;
    let unknown = || GgufError::Type { key: printable(key.as_bytes()), kind };
    stored(kind).ok_or_else(|| unknown().into())
}

/// Keys and values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub(super) BTreeMap<String, Value>);

impl Values {
    /// A number.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A number that is one for all layers, or the one of this layer in a list.
    pub fn of_layer(&self, key: &str, layer: usize) -> Option<u64> {
        match self.0.get(key)? {
            Value::Numbers(all) => all.get(layer).copied(),
            _ => self.number(key),
        }
    }

    /// A number that is one for all layers, or the largest of a list.
    pub fn largest(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::Numbers(all) => all.iter().copied().max(),
            _ => self.number(key),
        }
    }

    /// A number with a fraction.
    pub fn real(&self, key: &str) -> Option<f64> {
        match self.0.get(key)? {
            Value::Real(real) => Some(*real),
            _ => None,
        }
    }

    /// A text, as far as a report can show it.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Value::Text(text) => Some(printable(text.as_bytes())),
            _ => None,
        }
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A text as it is stored.
    pub(super) fn stored_text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All keys, with their values in words.
    pub fn in_words(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(key, value)| {
            let words = match value {
                Value::Number(number) => number.to_string(),
                Value::Real(real) => real.to_string(),
                Value::Text(text) => text.clone(),
                Value::Numbers(all) => all.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
            };
            (key.clone(), words)
        })
    }
}
