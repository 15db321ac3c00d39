//! What every layout asks of its tensors.

use crate::formats::packed::packing::Groups;
use crate::formats::packed::{PackedError, Parts};
use crate::formats::{Dtype, TensorInfo};

/// How a grid of scales lies over the matrix: by the given block where that fits, else with as many rows
/// as the matrix or one, and columns in equal parts.
pub(super) fn blocks(
    rows: u64,
    columns: u64,
    suffix: &'static str,
    scale: &TensorInfo,
    block: Option<[u64; 2]>,
) -> Result<Groups, PackedError> {
    let (down, across) = match scale.shape[..] {
        [] => (1, 1),
        [n] => (n, 1),
        [n, m] => (n, m),
        _ => (0, 0),
    };
    let fitting = block.filter(|[r, c]| down == rows.div_ceil(*r) && across == columns.div_ceil(*c));
    if let Some([rows, columns]) = fitting {
        return Ok(Groups::Grid { rows, columns, across });
    }
    let equal = rows > 0
        && (down == 1 || down == rows)
        && columns > 0
        && across > 0
        && columns.is_multiple_of(across);
    if !equal {
        return Err(shape(suffix, &scale.shape, "not a grid over the weight"));
    }
    Ok(Groups::Grid { rows: rows / down, columns: columns / across, across })
}

/// The tensor with the group of each column, if there is one.
pub(super) fn group_index(
    parts: &Parts<'_>,
    suffix: &'static str,
    columns: u64,
) -> Result<Option<&'static str>, PackedError> {
    let Some(index) = parts.get(suffix) else { return Ok(None) };
    if index.shape != [columns] || bits(index) != 32 {
        return Err(shape(suffix, &index.shape, "not an I32 for each column"));
    }
    Ok(Some(suffix))
}

pub(super) fn part<'a>(parts: &Parts<'a>, suffix: &'static str) -> Result<&'a TensorInfo, PackedError> {
    parts.get(suffix).copied().ok_or(PackedError::Missing { suffix })
}

/// A tensor that must have so many elements.
pub(super) fn sized<'a>(
    parts: &Parts<'a>,
    suffix: &'static str,
    elements: u64,
) -> Result<&'a TensorInfo, PackedError> {
    let tensor = part(parts, suffix)?;
    if tensor.elements() != elements {
        return Err(shape(suffix, &tensor.shape, "not the blocks that the state describes"));
    }
    Ok(tensor)
}

/// Shape of a matrix of 32-bit words.
pub(super) fn words(parts: &Parts<'_>, suffix: &'static str) -> Result<(u64, u64), PackedError> {
    let tensor = part(parts, suffix)?;
    match tensor.shape[..] {
        [x, y] if bits(tensor) == 32 && tensor.dtype != Some(Dtype::F32) => Ok((x, y)),
        _ => Err(shape(suffix, &tensor.shape, "not a matrix of 32-bit words")),
    }
}

/// The dtype of a tensor of numbers.
pub(super) fn number(suffix: &str, tensor: &TensorInfo) -> Result<Dtype, PackedError> {
    tensor
        .dtype
        .filter(|d| d.decodable_bytes().is_some() && *d != Dtype::I8)
        .ok_or_else(|| shape(suffix, &tensor.shape, "not of a floating-point type"))
}

/// Bits of an element; 0 for an unknown type.
pub(super) fn bits(tensor: &TensorInfo) -> u64 {
    tensor.dtype.map_or(0, Dtype::bits)
}

pub(super) fn shape(suffix: &str, shape: &[u64], why: &'static str) -> PackedError {
    PackedError::Shape { suffix: suffix.to_owned(), shape: shape.to_vec(), why }
}

/// Rows and columns from a tensor of two integers.
pub(super) fn matrix(state: &[u8]) -> Option<[u64; 2]> {
    let numbers: Vec<i64> = match state.len() {
        8 => state.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        16 => state.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        _ => return None,
    };
    let [rows, columns] = numbers[..] else { return None };
    Some([rows.try_into().ok()?, columns.try_into().ok()?])
}
