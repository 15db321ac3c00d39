//! A tensor as the file describes it.

use std::ops::Range;

use super::OnnxError;
use crate::formats::{Dtype, Limits};

/// A tensor as the file describes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    /// The number of its type.
    pub(super) kind: u64,
    pub(super) data: Data,
    /// Its bytes, where it is so small that they were read.
    pub(super) small: Vec<u8>,
    pub(super) is_external: bool,
    location: String,
    offset: Option<u64>,
    length: Option<u64>,
    /// That a number of the place is none.
    is_bad: bool,
}

/// Where the values of a tensor are.
#[derive(Clone, Debug, Default)]
pub(super) enum Data {
    /// Nowhere in this file.
    #[default]
    None,
    /// One after the other, in as many bytes as their type has.
    Plain(Range<u64>),
    /// In one field, each in as many bytes as it needs.
    Varints(Range<u64>),
    /// In several fields.
    Scattered,
}

impl Info {
    /// Takes the next length of its shape.
    pub(super) fn dimension(&mut self, length: u64, limits: &Limits) -> Result<(), OnnxError> {
        self.shape.push(length);
        let (found, limit) = (self.shape.len() as u64, limits.rank as u64);
        if found > limit {
            return Err(OnnxError::TooMany { what: "dimensions of a tensor", found, limit });
        }
        Ok(())
    }

    /// Takes a field of values, by its number.
    pub(super) fn values(&mut self, number: u64, bytes: Range<u64>) {
        self.data = match self.data {
            Data::None => match number {
                // Floats, doubles, and raw data.
                4 | 9 | 10 => Data::Plain(bytes),
                _ => Data::Varints(bytes),
            },
            // Where raw data is empty it says nothing.
            _ if bytes.is_empty() => return,
            _ => Data::Scattered,
        };
    }

    /// Takes a pair that says where the values are.
    pub(super) fn external(&mut self, key: &str, value: String) {
        let number = value.trim().parse::<u64>().ok();
        match key {
            "location" => self.location = value,
            "offset" => (self.offset, self.is_bad) = (number, self.is_bad || number.is_none()),
            "length" => (self.length, self.is_bad) = (number, self.is_bad || number.is_none()),
            _ => {}
        }
    }

    pub(super) fn dtype(&self) -> Option<Dtype> {
        Dtype::parse(match self.kind {
            1 => "F32",
            2 => "U8",
            3 => "I8",
            4 => "U16",
            5 => "I16",
            6 => "I32",
            7 => "I64",
            9 => "BOOL",
            10 => "F16",
            11 => "F64",
            12 => "U32",
            13 => "U64",
            14 => "C64",
            15 => "C128",
            16 => "BF16",
            17 => "F8_E4M3",
            18 => "F8_E4M3FNUZ",
            19 => "F8_E5M2",
            20 => "F8_E5M2FNUZ",
            // 4-bit numbers, two in a byte.
            21 | 22 => "F4",
            _ => return None,
        })
    }

    /// Bytes of all its elements, where its type has a size.
    fn expected(&self) -> Result<Option<u64>, OnnxError> {
        let shape_of = |bytes| OnnxError::Shape { name: self.name.clone(), shape: self.shape.clone(), bytes };
        let Some(dtype) = self.dtype() else { return Ok(None) };
        let count = self.shape.iter().try_fold(1u64, |n, length| n.checked_mul(*length));
        let bits = count.and_then(|count| count.checked_mul(dtype.bits()));
        Ok(Some(bits.ok_or_else(|| shape_of(0))?.div_ceil(8)))
    }

    /// Where its values are, if they are one after the other.
    pub(super) fn place(&self) -> Result<Option<Place>, OnnxError> {
        let expected = self.expected()?;
        let shape_of = |bytes| OnnxError::Shape { name: self.name.clone(), shape: self.shape.clone(), bytes };
        if self.is_external {
            let bad = |why| OnnxError::Place {
                name: self.name.clone(),
                location: self.location.chars().take(80).collect(),
                why,
            };
            check(&self.location).map_err(bad)?;
            let start = self.offset.unwrap_or(0);
            let length = self.length.or(expected).unwrap_or(0);
            if self.is_bad {
                return Err(bad("offset or length is no number"));
            }
            let end = start.checked_add(length).ok_or_else(|| bad("more than a file can hold"))?;
            if expected.is_some_and(|expected| expected != length) {
                return Err(shape_of(length));
            }
            let location = self.location.strip_prefix("./").unwrap_or(&self.location).to_owned();
            return Ok(Some(Place { location: Some(location), bytes: start..end }));
        }
        let Data::Plain(bytes) = &self.data else { return Ok(None) };
        let length = bytes.end - bytes.start;
        if expected.is_some_and(|expected| expected != length) {
            return Err(shape_of(length));
        }
        Ok(Some(Place { location: None, bytes: bytes.clone() }))
    }
}

/// Why a file of external data may not be called so, if it may not: it must lie beside the model or below.
fn check(location: &str) -> Result<(), &'static str> {
    if location.is_empty() {
        return Err("no name");
    }
    if location.starts_with('/') || location.contains('\\') || location.contains(':') {
        return Err("not a relative path");
    }
    if location.split('/').any(|part| part == "..") {
        return Err("outside the folder of the model");
    }
    if location.chars().any(char::is_control) {
        return Err("no name of a file");
    }
    Ok(())
}

/// Bytes of this file, or of one that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The other file, relative to the folder of this one.
    pub location: Option<String>,
    /// Bytes in that file.
    pub bytes: Range<u64>,
}
