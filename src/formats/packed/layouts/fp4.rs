//! E2M1, two in a byte, the first one in the low half: MXFP4 and NVFP4.

use super::parts::{bits, number, part, shape};
use crate::formats::packed::packing::{Codes, Global, Groups, Order, Packing, ScaleKind, Scales, Zeros};
use crate::formats::packed::{PackedError, Parts};
use crate::formats::{Dtype, TensorInfo};

/// E2M1 (OCP Microscaling Formats 1.0, table 5).
pub(super) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// MXFP4 of gpt-oss: 16 bytes for each 32 columns.
pub(super) fn blocks(parts: &Parts<'_>) -> Result<Packing, PackedError> {
    let blocks = part(parts, "_blocks")?;
    let scales = part(parts, "_scales")?;
    let [leading @ .., across, 16] = &blocks.shape[..] else {
        return Err(shape("_blocks", &blocks.shape, "not in blocks of 16 bytes"));
    };
    let rows: u64 = leading.iter().product();
    if scales.elements() != rows * across || scales.elements() == 0 {
        return Err(shape("_scales", &scales.shape, "not one for each block"));
    }
    for (suffix, tensor) in [("_blocks", blocks), ("_scales", scales)] {
        if bits(tensor) != 8 {
            return Err(shape(suffix, &tensor.shape, "not bytes"));
        }
    }
    let scales = Scales {
        suffix: "_scales",
        kind: ScaleKind::PowerOfTwo,
        groups: Groups::Grid { rows: 1, columns: 32, across: *across },
        entries: scales.elements(),
        global: None,
    };
    Ok(packing("MXFP4", rows, across * 32, "_blocks", scales))
}

/// ModelOpt's NVFP4: E4M3 scales for 16 columns each, and a number that they are multiplied with. `None` for other bytes.
pub(super) fn modelopt(parts: &Parts<'_>) -> Result<Option<Packing>, PackedError> {
    let global = part(parts, "weight_scale_2")?;
    nibbles(parts, "weight", Some(("weight_scale_2", global, false)))
}

/// compressed-tensors' `nvfp4-pack-quantized`, whose scales are divided by a number, and `mxfp4-pack-quantized`, which
/// has none. `None` for other bytes.
pub(super) fn compressed(parts: &Parts<'_>) -> Result<Option<Packing>, PackedError> {
    let global = parts.get("weight_global_scale").map(|tensor| ("weight_global_scale", *tensor, true));
    if parts.contains_key("weight_zero_point") {
        return Ok(None);
    }
    nibbles(parts, "weight_packed", global)
}

fn nibbles(
    parts: &Parts<'_>,
    suffix: &'static str,
    global: Option<(&'static str, &TensorInfo, bool)>,
) -> Result<Option<Packing>, PackedError> {
    let (weight, scale) = (part(parts, suffix)?, part(parts, "weight_scale")?);
    let ([rows, bytes], 8) = (&weight.shape[..], bits(weight)) else { return Ok(None) };
    let (columns, rows) = (bytes * 2, *rows);
    let (name, kind, group_size) = match (scale.dtype, global) {
        (Some(Dtype::F8E4M3), Some(_)) => ("NVFP4", ScaleKind::Number(Dtype::F8E4M3, 1.0), 16),
        (Some(Dtype::Other { bits: 8 }), None) => ("MXFP4", ScaleKind::PowerOfTwo, 32),
        _ => return Ok(None),
    };
    let across = columns / group_size;
    if rows == 0 || across == 0 || scale.shape != [rows, across] || columns != across * group_size {
        return Err(shape("weight_scale", &scale.shape, "not groups of the weight"));
    }
    let global = match global {
        None => None,
        Some((suffix, tensor, _)) if tensor.elements() != 1 => {
            return Err(shape(suffix, &tensor.shape, "not one number"));
        }
        Some((suffix, tensor, divides)) => Some(Global { suffix, dtype: number(suffix, tensor)?, divides }),
    };
    let scales = Scales {
        suffix: "weight_scale",
        kind,
        groups: Groups::Grid { rows: 1, columns: group_size, across },
        entries: scale.elements(),
        global,
    };
    Ok(Some(packing(name, rows, columns, suffix, scales)))
}

fn packing(name: &str, rows: u64, columns: u64, suffix: &'static str, scales: Scales) -> Packing {
    Packing {
        name: name.into(),
        rows,
        columns,
        table: E2M1.to_vec(),
        bits: 4,
        codes: Codes { suffix, order: Order::Across, stride: columns * 4, bytes: rows * columns / 2 },
        transposed: false,
        scales,
        zeros: Zeros::None,
        group_index: None,
        format: false,
    }
}
