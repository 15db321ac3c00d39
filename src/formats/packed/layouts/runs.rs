//! Codes whose neighbours lie in different bytes: HQQ, quanto and BitNet cut the matrix into as many runs as a byte holds codes.

use super::parts::{bits, matrix, number, part, shape};
use crate::formats::TensorInfo;
use crate::formats::packed::packing::{
    Codes, FlatPacking, Groups, Order, Packing, ScaleKind, Scales, Shift, Zeros,
};
use crate::formats::packed::{PackedError, Parts, QuantConfig};

/// HQQ: `W_q` is the grouped matrix, whose groups are its rows (axis 1) or its columns (axis 0), packed along its rows.
/// Scales and zeros of shape `[groups, 1]` or `[1, groups]` tell the axis, `shape` the matrix itself. The bytes may be
/// labelled as floats. `None` for one scale for all.
pub(super) fn hqq(parts: &Parts<'_>, state: &[u8]) -> Result<Option<Packing>, PackedError> {
    let (weight, scale, zero) = (part(parts, "W_q")?, part(parts, "scale")?, part(parts, "zero")?);
    let bad = |why| Err(shape("shape", &part(parts, "shape")?.shape, why));
    let Some([rows, columns]) = matrix(state) else { return bad("not the shape of a matrix") };
    let Some(total) = rows.checked_mul(columns).filter(|n| *n > 0) else { return bad("not of a matrix") };
    let (groups, in_turn) = match scale.shape[..] {
        [n, 1] if n > 0 => (n, false),
        [1, n] if n > 0 => (n, true),
        _ => return Ok(None),
    };
    let size = total / groups;
    let [down, across] = if in_turn { [size, groups] } else { [groups, size] };
    let [stored, wide] = weight.shape[..] else { return bad("not that of a packed matrix") };
    // 3 bits in words, all others in bytes.
    let packings = [(8, 8), (8, 4), (8, 2), (8, 1), (32, 3)];
    let fits = |(element, code): &(u64, u64)| {
        stored == down.div_ceil(element / code) && wide * bits(weight) == across.saturating_mul(*element)
    };
    let mut fitting = packings.into_iter().filter(fits);
    let (Some((element, bits)), None, true) = (fitting.next(), fitting.next(), size * groups == total) else {
        return bad("not that of the weight in its groups");
    };
    if zero.shape != scale.shape {
        return Err(shape("zero", &zero.shape, "not one for each scale"));
    }
    let groups = if in_turn { Groups::InTurn { entries: groups } } else { Groups::Flat { elements: size } };
    Ok(Some(Packing {
        name: format!("HQQ {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(f32::from).collect(),
        bits,
        codes: codes("W_q", weight, element, true, columns),
        transposed: false,
        scales: Scales {
            suffix: "scale",
            kind: ScaleKind::Number(number("scale", scale)?, 1.0),
            groups,
            entries: scale.elements(),
            global: None,
        },
        zeros: Zeros::Numbers { suffix: "zero", dtype: number("zero", zero)?, shift: Shift::Before },
        group_index: None,
        format: false,
    }))
}

/// BitNet: -1, 0 and 1, of four quarters of the rows in a byte, and one scale. The kernel's own layer divides by the
/// scale, `AutoBitLinear` multiplies.
pub(super) fn bitnet(parts: &Parts<'_>, config: &QuantConfig) -> Result<Option<Packing>, PackedError> {
    let (weight, scale) = (part(parts, "weight")?, part(parts, "weight_scale")?);
    let ([quarter, columns], 8, 1) = (&weight.shape[..], bits(weight), scale.elements()) else {
        return Ok(None);
    };
    let (rows, columns) = (quarter * 4, *columns);
    if rows == 0 || columns == 0 {
        return Err(shape("weight", &weight.shape, "empty"));
    }
    let dtype = number("weight_scale", scale)?;
    let multiplies = config.version.as_deref() == Some("autobitlinear");
    Ok(Some(Packing {
        name: "BitNet".into(),
        rows,
        columns,
        table: vec![-1.0, 0.0, 1.0, 2.0],
        bits: 2,
        codes: codes("weight", weight, 8, false, columns),
        transposed: false,
        scales: Scales {
            suffix: "weight_scale",
            kind: if multiplies { ScaleKind::Number(dtype, 1.0) } else { ScaleKind::Inverse(dtype) },
            groups: Groups::Grid { rows, columns, across: 1 },
            entries: 1,
            global: None,
        },
        zeros: Zeros::None,
        group_index: None,
        format: false,
    }))
}

/// quanto below 8 bits: `weight._data._data` is the grouped matrix `[groups, size]` packed along its rows, with a scale
/// and a shift a group. The shape of the matrix is nowhere.
pub(super) fn quanto(parts: &Parts<'_>) -> Result<FlatPacking, PackedError> {
    const DATA: &str = "weight._data._data";
    let (weight, scale, shift) =
        (part(parts, DATA)?, part(parts, "weight._scale")?, part(parts, "weight._shift")?);
    let groups = scale.elements();
    let [down, size] = weight.shape[..] else { return Err(shape(DATA, &weight.shape, "not a matrix")) };
    let fits = |bits: &u64| groups.div_ceil(8 / bits) == down;
    let mut fitting = [4, 2].into_iter().filter(fits);
    let (Some(bits), None, 8, 1..) = (fitting.next(), fitting.next(), bits(weight), down.min(size)) else {
        return Err(shape(DATA, &weight.shape, "not the groups of the scales"));
    };
    if shift.elements() != groups {
        return Err(shape("weight._shift", &shift.shape, "not one for each scale"));
    }
    let Some(dtype) = shift.dtype.filter(|dtype| dtype.decodable_bytes().is_some()) else {
        return Err(shape("weight._shift", &shift.shape, "not numbers"));
    };
    let moved = if dtype.is_plain_float() { Shift::After } else { Shift::Before };
    Ok(FlatPacking::new(Packing {
        name: format!("quanto {bits}-bit"),
        rows: groups * size,
        columns: 1,
        table: (0..1u16 << bits).map(f32::from).collect(),
        bits,
        codes: codes(DATA, weight, 8, false, 1),
        transposed: false,
        scales: Scales {
            suffix: "weight._scale",
            kind: ScaleKind::Number(number("weight._scale", scale)?, 1.0),
            groups: Groups::Flat { elements: size },
            entries: groups,
            global: None,
        },
        zeros: Zeros::Numbers { suffix: "weight._shift", dtype, shift: moved },
        group_index: None,
        format: false,
    }))
}

fn codes(suffix: &'static str, weight: &TensorInfo, element: u64, first_high: bool, columns: u64) -> Codes {
    let bytes = weight.elements() * bits(weight) / 8;
    Codes { suffix, order: Order::Runs { element, first_high }, stride: columns, bytes }
}
