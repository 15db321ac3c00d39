//! Rows of weights that are not floats one after the other.

use std::ops::Range;

use super::node::Ints;
use crate::formats::weight::elements;
use crate::formats::{Dtype, Encoding, PartRange, varint};

/// The type of a scale or a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// A byte from 0 to 255.
    Unsigned,
    /// Of a type that has values of its own.
    Of(Dtype),
}

impl Number {
    fn bytes(self) -> u64 {
        match self {
            Self::Unsigned => 1,
            Self::Of(dtype) => dtype.bits() / 8,
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Unsigned => bytes.iter().map(|byte| f32::from(*byte)).collect(),
            Self::Of(dtype) => dtype.decode(bytes).unwrap_or_default(),
        }
    }
}

/// A number for the whole matrix, or one for each row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PerRow {
    One(f32),
    Each(Number),
}

impl PerRow {
    fn range(self, suffix: &'static str, rows: &Range<u64>) -> Option<PartRange> {
        let Self::Each(number) = self else { return None };
        let bytes = rows.start.checked_mul(number.bytes())?..rows.end.checked_mul(number.bytes())?;
        Some(PartRange { suffix, bytes })
    }

    /// One number a row.
    fn values<'p>(
        self,
        count: usize,
        pieces: &mut impl Iterator<Item = &'p [u8]>,
    ) -> Result<Vec<f32>, String> {
        let values = match self {
            Self::One(one) => vec![one; count],
            Self::Each(number) => number.decode(pieces.next().unwrap_or_default()),
        };
        if values.len() == count { Ok(values) } else { Err(cut()) }
    }
}

fn cut() -> String {
    "not the bytes of these rows".to_owned()
}

/// `start * each..end * each`, where that is a number.
fn times(rows: &Range<u64>, each: u64) -> Result<Range<u64>, String> {
    let at = |n: u64| n.checked_mul(each).ok_or_else(|| "more than a file can hold".to_owned());
    Ok(at(rows.start)?..at(rows.end)?)
}

fn count(rows: &Range<u64>) -> usize {
    usize::try_from(rows.end.saturating_sub(rows.start)).unwrap_or(usize::MAX)
}

/// 8-bit numbers `q` that stand for `(q - zero) * scale`.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) is_signed: bool,
    /// Whether they are stored as `[columns, rows]`.
    pub(super) is_turned: bool,
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) scale: PerRow,
    pub(super) zero: PerRow,
}

impl Encoding for Bytes {
    fn name(&self) -> &str {
        if self.is_signed { "ONNX int8" } else { "ONNX uint8" }
    }

    fn is_quantised(&self) -> bool {
        true
    }

    fn is_strided(&self) -> bool {
        self.is_turned
    }

    fn ranges(&self, rows: &Range<u64>, _: u64) -> Result<Vec<PartRange>, String> {
        let codes = if self.is_turned { 0..self.rows } else { rows.clone() };
        let codes = PartRange { suffix: "", bytes: times(&codes, self.columns)? };
        let beside = [self.scale.range("scale", rows), self.zero.range("zero", rows)];
        Ok(std::iter::once(codes).chain(beside.into_iter().flatten()).collect())
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let mut pieces = pieces.iter().copied();
        let codes = pieces.next().ok_or_else(cut)?;
        let of_rows = count(&rows);
        let scales = self.scale.values(of_rows, &mut pieces)?;
        let zeros = self.zero.values(of_rows, &mut pieces)?;
        let (first, step_row, step) =
            if self.is_turned { (rows.start, 1, self.rows) } else { (0, self.columns, 1) };
        let mut values = Vec::with_capacity(codes.len().min(of_rows.saturating_mul(1 << 20)));
        for (row, (scale, zero)) in (0..).zip(scales.iter().zip(&zeros)) {
            for column in 0..self.columns {
                let at = usize::try_from(first + row * step_row + column * step).map_err(|_| cut())?;
                let code = *codes.get(at).ok_or_else(cut)?;
                let code = if self.is_signed { f32::from(code.cast_signed()) } else { f32::from(code) };
                values.push((code - zero) * scale);
            }
        }
        Ok(values)
    }
}

/// Zero points of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zeros {
    /// The middle of all codes.
    Middle,
    /// Codes, those of a row from a byte of their own on.
    Codes,
    Numbers(Number),
}

/// Rows of blocks of codes, the lowest bits of a byte first, each block with a scale: `MatMulNBits` of ONNX Runtime.
#[derive(Debug)]
pub(super) struct RowBlocks {
    ints: Ints,
    /// Blocks of a row.
    blocks: u64,
    name: String,
    pub(super) scales: Number,
    pub(super) zeros: Zeros,
}

impl RowBlocks {
    /// By the attributes of the node; `None` where they are not those of a matrix.
    pub(super) fn new(ints: Ints, scales: Number) -> Option<Self> {
        let bits = if ints.bits == 0 { 4 } else { ints.bits };
        let is_known = matches!(bits, 2 | 4 | 8) && ints.block >= 8 && ints.block.is_power_of_two();
        if !is_known || ints.rows == 0 || ints.columns == 0 {
            return None;
        }
        // The last block of a row is filled up.
        let blocks = ints.columns.div_ceil(ints.block);
        let name = format!("ONNX {bits}-bit");
        Some(Self { ints: Ints { bits, ..ints }, blocks, name, scales, zeros: Zeros::Middle })
    }

    /// Bytes of the codes of a row.
    fn of_codes(&self) -> Option<u64> {
        self.blocks.checked_mul(self.ints.block)?.checked_mul(self.ints.bits).map(|bits| bits / 8)
    }

    fn of_zeros(&self) -> Option<u64> {
        match self.zeros {
            Zeros::Middle => Some(0),
            Zeros::Codes => Some(self.blocks.checked_mul(self.ints.bits)?.div_ceil(8)),
            Zeros::Numbers(number) => self.blocks.checked_mul(number.bytes()),
        }
    }

    /// Bytes of all codes; `None` where they are more than a file holds.
    pub(super) fn bytes_of_codes(&self) -> Option<u64> {
        self.of_codes()?.checked_mul(self.ints.rows)
    }

    /// Bytes of a number for each block.
    pub(super) fn bytes_of(&self, number: Number) -> Option<u64> {
        self.blocks.checked_mul(number.bytes())?.checked_mul(self.ints.rows)
    }

    /// Bytes of all zero points.
    pub(super) fn bytes_of_zeros(&self) -> Option<u64> {
        self.of_zeros()?.checked_mul(self.ints.rows)
    }

    /// The code at this place of a row.
    fn code(&self, row: &[u8], place: usize) -> Option<f32> {
        let bits = self.ints.bits as usize;
        let at = place.checked_mul(bits)?;
        let byte = row.get(at / 8)? >> (at % 8);
        Some(f32::from(byte & (u8::MAX >> (8 - bits))))
    }
}

impl Encoding for RowBlocks {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_quantised(&self) -> bool {
        true
    }

    fn ranges(&self, rows: &Range<u64>, _: u64) -> Result<Vec<PartRange>, String> {
        let part = |suffix, each: Option<u64>| {
            let bytes = times(rows, each.ok_or_else(cut)?)?;
            Ok::<_, String>(PartRange { suffix, bytes })
        };
        let mut parts =
            vec![part("", self.of_codes())?, part("scale", self.blocks.checked_mul(self.scales.bytes()))?];
        if self.zeros != Zeros::Middle {
            parts.push(part("zero", self.of_zeros())?);
        }
        Ok(parts)
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let mut pieces = pieces.iter().copied();
        let mut piece = || pieces.next().ok_or_else(cut);
        let (codes, scales) = (piece()?, self.scales.decode(piece()?));
        let zeros = if self.zeros == Zeros::Middle { &[][..] } else { piece()? };
        let as_length = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).ok_or_else(cut);
        let (of_codes, of_zeros) = (as_length(self.of_codes())?, as_length(self.of_zeros())?);
        let (blocks, block) = (as_length(Some(self.blocks))?, as_length(Some(self.ints.block))?);
        let columns = as_length(Some(self.ints.columns))?;
        let middle = f32::from(1u8 << (self.ints.bits - 1));
        let mut values = Vec::new();
        for row in 0..count(&rows) {
            let of_row = |bytes: &'_ [u8], each: usize| {
                let start = row.checked_mul(each).ok_or_else(cut)?;
                bytes.get(start..start.saturating_add(each)).map(<[u8]>::to_vec).ok_or_else(cut)
            };
            let (codes, zeros) = (of_row(codes, of_codes)?, of_row(zeros, of_zeros)?);
            let numbers = match self.zeros {
                Zeros::Numbers(number) => number.decode(&zeros),
                Zeros::Middle | Zeros::Codes => Vec::new(),
            };
            for column in 0..columns {
                let group = column / block;
                let zero = match self.zeros {
                    Zeros::Middle => Some(middle),
                    Zeros::Codes => self.code(&zeros, group),
                    Zeros::Numbers(_) => numbers.get(group).copied(),
                };
                let scale = scales.get(row * blocks + group);
                let value = self.code(&codes, column).zip(zero).zip(scale);
                let ((code, zero), scale) = value.ok_or_else(cut)?;
                values.push((code - zero) * scale);
            }
        }
        Ok(values)
    }
}

/// The bits of numbers, each as a number of as many bytes as it needs. Where one lies, only those in front of it tell.
#[derive(Debug)]
pub(super) struct Varints {
    dtype: Dtype,
    /// Bytes of all.
    bytes: u64,
    columns: u64,
}

impl Varints {
    /// Of a matrix of this shape; `None` where that cannot lie in so many bytes.
    pub(super) fn new(dtype: Dtype, bytes: u64, shape: &[u64]) -> Option<Self> {
        let elements = elements(shape);
        let fits = elements <= bytes && bytes <= elements.saturating_mul(varint::MOST as u64);
        let rows = if shape.len() < 2 { 1 } else { shape.first().copied()? };
        let columns = elements.checked_div(rows)?;
        fits.then_some(Self { dtype, bytes, columns })
    }
}

impl Encoding for Varints {
    fn name(&self) -> &str {
        Encoding::name(&self.dtype)
    }

    fn is_quantised(&self) -> bool {
        false
    }

    fn is_strided(&self) -> bool {
        true
    }

    fn ranges(&self, _: &Range<u64>, _: u64) -> Result<Vec<PartRange>, String> {
        Ok(vec![PartRange { suffix: "", bytes: 0..self.bytes }])
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let [mut rest] = *pieces else { return Err(cut()) };
        let wanted = times(&rows, self.columns)?;
        let mut raw = Vec::new();
        for place in 0..wanted.end {
            let (number, length) = varint::read(rest).map_err(|none| none.why().to_owned())?;
            rest = rest.get(length..).unwrap_or_default();
            if wanted.contains(&place) {
                let bytes = number.to_le_bytes();
                raw.extend(bytes.iter().take((self.dtype.bits() / 8) as usize));
            }
        }
        self.dtype.decode(&raw).ok_or_else(cut)
    }
}
