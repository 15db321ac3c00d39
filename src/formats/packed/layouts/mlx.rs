//! MLX: groups of codes in 32-bit words, with a scale and a bias, or in the microscaling formats with a scale.

use super::fp4::E2M1;
use super::parts::{bits, number, part, shape};
use crate::formats::packed::packing::{Codes, Groups, Order, Packing, ScaleKind, Scales, Shift, Zeros};
use crate::formats::packed::{PackedError, Parts, QuantConfig};
use crate::formats::{Dtype, TensorInfo};

/// Rows of all experts together, and words of a row.
fn stored_rows(weight: &TensorInfo) -> Result<(u64, u64), PackedError> {
    match &weight.shape[..] {
        [leading @ .., rows, packed] if bits(weight) == 32 && weight.dtype != Some(Dtype::F32) => {
            Ok((leading.iter().product::<u64>() * rows, *packed))
        }
        _ => Err(shape("weight", &weight.shape, "not a matrix of 32-bit words")),
    }
}

/// Groups of a row, of scales that lie over these rows.
fn groups(weight: &TensorInfo, scales: &TensorInfo) -> Result<u64, PackedError> {
    match (&weight.shape[..], &scales.shape[..]) {
        ([rows @ .., _], [of_scales @ .., across]) if rows == of_scales && *across > 0 => Ok(*across),
        _ => Err(shape("scales", &scales.shape, "not groups of the weight")),
    }
}

/// Scale and bias for each group. `None` where bits and group size are not those of the tensors.
pub(super) fn affine(parts: &Parts<'_>, config: &QuantConfig) -> Result<Option<Packing>, PackedError> {
    let (weight, scales, biases) = (part(parts, "weight")?, part(parts, "scales")?, part(parts, "biases")?);
    let (Some(bits @ 2..=8), Some(group_size), 32) = (config.bits, config.group_size, bits(weight)) else {
        return Ok(None);
    };
    let (rows, packed) = stored_rows(weight)?;
    let across = groups(weight, scales)?;
    if biases.shape != scales.shape {
        return Err(shape("biases", &biases.shape, "not the groups of weight and scales"));
    }
    let columns = across.checked_mul(group_size);
    let Some(columns) = columns.filter(|n| n.checked_mul(bits) == Some(packed * 32)) else {
        return Ok(None);
    };
    Ok(Some(Packing {
        name: format!("MLX {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(f32::from).collect(),
        bits,
        codes: codes(rows, packed),
        transposed: false,
        scales: Scales {
            suffix: "scales",
            kind: ScaleKind::Number(number("scales", scales)?, 1.0),
            groups: Groups::Grid { rows: 1, columns: group_size, across },
            entries: scales.elements(),
            global: None,
        },
        zeros: Zeros::Numbers { suffix: "biases", dtype: number("biases", biases)?, shift: Shift::Added },
        group_index: None,
        format: false,
    }))
}

/// The microscaling formats: bytes as scales, and no biases. Words and groups tell which it is. `None` for neither.
pub(super) fn floats(parts: &Parts<'_>) -> Result<Option<Packing>, PackedError> {
    let (weight, scales) = (part(parts, "weight")?, part(parts, "scales")?);
    let (rows, packed) = stored_rows(weight)?;
    let across = groups(weight, scales)?;
    if !(packed * 32).is_multiple_of(across) {
        return Ok(None);
    }
    let e4m3 = ScaleKind::Number(Dtype::F8E4M3, 1.0);
    let bytes = || Dtype::F8E4M3.decode(&(0..=255).collect::<Vec<u8>>()).unwrap_or_default();
    let (name, bits, group_size, table, kind) = match packed * 32 / across {
        64 => ("NVFP4", 4, 16, E2M1.to_vec(), e4m3),
        128 => ("MXFP4", 4, 32, E2M1.to_vec(), ScaleKind::PowerOfTwo),
        256 => ("MXFP8", 8, 32, bytes(), ScaleKind::PowerOfTwo),
        _ => return Ok(None),
    };
    Ok(Some(Packing {
        name: format!("MLX {name}"),
        rows,
        columns: across * group_size,
        table,
        bits,
        codes: codes(rows, packed),
        transposed: false,
        scales: Scales {
            suffix: "scales",
            kind,
            groups: Groups::Grid { rows: 1, columns: group_size, across },
            entries: scales.elements(),
            global: None,
        },
        zeros: Zeros::None,
        group_index: None,
        format: false,
    }))
}

fn codes(rows: u64, packed: u64) -> Codes {
    Codes { suffix: "weight", order: Order::Across, stride: packed * 32, bytes: rows * packed * 4 }
}
