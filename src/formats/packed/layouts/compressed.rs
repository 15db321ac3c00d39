//! compressed-tensors' `pack-quantized`: integers of 1 to 8 bits in 32-bit words.

use super::parts::{blocks, group_index, number, part, shape, words};
use crate::formats::packed::packing::{Codes, Order, Packing, ScaleKind, Scales, Zeros};
use crate::formats::packed::{PackedError, Parts, QuantConfig};

/// What [`packed_rows`] answers.
pub(super) enum Rows {
    /// A packing that is read.
    Packed(Box<Packing>),
    /// `weight_shape` must be read first.
    NeedShape,
    /// Neither layout.
    Unknown,
}

/// Codes of 2, 4 and 8 bits fill a word, so that bits and words tell the columns. For others the layout has changed: up
/// to 0.16 a word holds as many whole codes as fit, and its last bits are empty; since 0.17 codes follow each other
/// across words. Which of the two, and where config.json does not tell the bits how many, follows from the columns.
pub(super) fn packed_rows(
    parts: &Parts<'_>,
    config: &QuantConfig,
    state: Option<&[u8]>,
) -> Result<Rows, PackedError> {
    let (rows, packed) = words(parts, "weight_packed")?;
    let scale = part(parts, "weight_scale")?;
    let stored = match (config.bits, config.group_size) {
        (Some(bits @ (2 | 4 | 8)), _) => Some((packed * 32 / bits, bits, true)),
        (bits, Some(size)) if scale.shape.get(1).is_some_and(|across| *across > 1) => {
            let across = scale.shape.get(1).copied().unwrap_or_default();
            across.checked_mul(size).and_then(|columns| fitting(columns, packed, bits))
        }
        (bits, _) => match state.map(|state| columns(parts, state)) {
            None if parts.contains_key("weight_shape") => return Ok(Rows::NeedShape),
            None => None,
            Some(columns) => fitting(columns?, packed, bits),
        },
    };
    let Some((columns, bits, is_dense)) = stored else { return Ok(Rows::Unknown) };
    let groups = blocks(rows, columns, "weight_scale", scale, None)?;
    let zeros = if parts.contains_key("weight_zero_point") {
        let (x, y) = words(parts, "weight_zero_point")?;
        if x != words_for(rows, bits, is_dense) || scale.shape != [rows, y] {
            let zero = part(parts, "weight_zero_point")?;
            return Err(shape("weight_zero_point", &zero.shape, "not a packed code for each scale"));
        }
        let order = if is_dense { Order::Down } else { Order::WordsDown };
        let codes = Codes { suffix: "weight_zero_point", order, stride: y * 32, bytes: x * y * 4 };
        Zeros::Codes { codes, plus: 0 }
    } else {
        Zeros::None
    };
    let half = f32::from(1u8 << (bits - 1));
    Ok(Rows::Packed(Box::new(Packing {
        name: format!("compressed-tensors {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(|code| f32::from(code) - half).collect(),
        bits,
        codes: Codes {
            suffix: "weight_packed",
            order: if is_dense { Order::Across } else { Order::WordsAcross },
            stride: packed * 32,
            bytes: rows * packed * 4,
        },
        transposed: false,
        scales: Scales {
            suffix: "weight_scale",
            kind: ScaleKind::Number(number("weight_scale", scale)?, 1.0),
            groups,
            entries: scale.elements(),
            global: None,
        },
        zeros,
        group_index: group_index(parts, "weight_g_idx", columns)?,
        format: false,
    })))
}

/// Words for so many codes.
fn words_for(codes: u64, bits: u64, is_dense: bool) -> u64 {
    if is_dense { (codes * bits).div_ceil(32) } else { codes.div_ceil(32 / bits) }
}

/// Columns, bits and layout that make so many words; of two layouts the one that wastes nothing.
fn fitting(columns: u64, packed: u64, bits: Option<u64>) -> Option<(u64, u64, bool)> {
    // A word holds at most 32 codes; so products stay small.
    if columns == 0 || columns > packed.checked_mul(32)? {
        return None;
    }
    let layouts = [true, false].into_iter().flat_map(|dense| (1..=8).map(move |bits| (bits, dense)));
    let mut fitting = layouts
        .filter(|(b, _)| bits.is_none_or(|stated| stated == *b))
        .filter(|(b, dense)| words_for(columns, *b, *dense) == packed);
    fitting.next().map(|(bits, dense)| (columns, bits, dense))
}

/// The columns that `weight_shape` says.
fn columns(parts: &Parts<'_>, state: &[u8]) -> Result<u64, PackedError> {
    let tensor = part(parts, "weight_shape")?;
    super::parts::matrix(state)
        .map(|[_, columns]| columns)
        .ok_or_else(|| shape("weight_shape", &tensor.shape, "not the shape of a matrix"))
}
