//! Codes whose neighbours lie in different bytes: HQQ and BitNet cut the matrix into as many runs as a byte holds codes.

use super::parts::{bits, matrix, number, part, shape};
use crate::formats::packed::packing::{Codes, Groups, Order, Packing, ScaleKind, Scales, Shift, Zeros};
use crate::formats::packed::{PackedError, Parts, QuantConfig};
use crate::formats::{Dtype, TensorInfo};

/// HQQ: `W_q` is the grouped matrix, whose groups are its rows (axis 1) or its columns (axis 0), packed along its rows.
/// Scales and zeros of shape `[groups, 1]` or `[1, groups]` tell the axis, `shape` the matrix itself. `None` for the
/// matrix viewed as floats, and for one scale for all.
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
    let (element, bits) = match (bits(weight), weight.elements()) {
        (_, 0) => return Ok(None),
        (8, n) if weight.dtype.is_none_or(|d| d.decodable_bytes().is_none()) => match total.div_ceil(n) {
            codes @ (1 | 2 | 4 | 8) => (8, 8 / codes),
            _ => return bad("not the size of the weight"),
        },
        (32, _) if weight.dtype != Some(Dtype::F32) => (32, 3),
        _ => return Ok(None),
    };
    let size = total / groups;
    let [down, across] = if in_turn { [size, groups] } else { [groups, size] };
    if size * groups != total || weight.shape != [down.div_ceil(element / bits), across] {
        return bad("not that of the weight in its groups");
    }
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

fn codes(suffix: &'static str, weight: &TensorInfo, element: u64, first_high: bool, columns: u64) -> Codes {
    let bytes = weight.elements() * element / 8;
    Codes { suffix, order: Order::Runs { element, first_high }, stride: columns, bytes }
}
