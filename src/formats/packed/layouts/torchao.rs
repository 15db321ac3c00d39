//! torchao's tensors as it flattens them into safetensors: `_weight_qdata`, before 0.15 `weight:qdata`.

use super::parts::{bits, number, part, shape};
use super::scaled::{Names, scaled};
use crate::formats::Dtype;
use crate::formats::packed::packing::{Codes, Groups, Order, Packing, ScaleKind, Scales, Shift, Zeros};
use crate::formats::packed::{PackedError, Parts, QuantConfig};

const NAMES: [Names; 2] = [
    Names { weight: "_weight_qdata", scale: "_weight_scale", zero: "_weight_zero_point" },
    Names { weight: "weight:qdata", scale: "weight:scale", zero: "weight:zero_point" },
];

/// The suffixes of a layer that is torchao's.
pub(super) fn names(parts: &Parts<'_>) -> Option<&'static Names> {
    NAMES.iter().find(|names| parts.contains_key(names.weight))
}

/// `Int8Tensor`, `IntxUnpackedToInt8Tensor`, `Float8Tensor` and `Int4Tensor`. `None` for those whose order only kernels
/// know: `Int4TilePackedTo4dTensor` (`scale_and_zero`), preshuffled ones, NVFP4 and MX, whose scales may be swizzled.
pub(super) fn packing(
    parts: &Parts<'_>,
    config: &QuantConfig,
    names: &'static Names,
) -> Result<Option<Packing>, PackedError> {
    let (Some(weight), Some(scale)) = (parts.get(names.weight), parts.get(names.scale)) else {
        return Ok(None);
    };
    if scale.dtype.is_none_or(|dtype| !dtype.is_plain_float()) {
        return Ok(None);
    }
    match (&weight.shape[..], &scale.shape[..]) {
        ([rows, bytes], [across, of_scale]) if is_int4(parts, names) => {
            if rows != of_scale || bits(weight) != 8 {
                return Err(shape(names.scale, &scale.shape, "not groups of the weight"));
            }
            int4(parts, names, [*rows, bytes * 2], *across)
        }
        _ => scaled(parts, config, names),
    }
}

/// `Int4Tensor` has zero points that are numbers of the type of its scales; those of int8 are integers.
fn is_int4(parts: &Parts<'_>, names: &Names) -> bool {
    parts.get(names.zero).is_some_and(|zero| zero.dtype.is_some_and(Dtype::is_plain_float))
}

/// Pairs of codes from -8 to 7, the first one in the low half; scales and zero points `[groups, out]`.
fn int4(
    parts: &Parts<'_>,
    names: &'static Names,
    [rows, columns]: [u64; 2],
    across: u64,
) -> Result<Option<Packing>, PackedError> {
    let (scale, zero) = (part(parts, names.scale)?, part(parts, names.zero)?);
    if rows == 0 || columns == 0 || across == 0 || !columns.is_multiple_of(across) {
        return Err(shape(names.scale, &scale.shape, "not equal groups of the weight"));
    }
    if zero.shape != scale.shape {
        return Err(shape(names.zero, &zero.shape, "not one for each scale"));
    }
    let signed = |code: u8| f32::from(code) - if code < 8 { 0.0 } else { 16.0 };
    Ok(Some(Packing {
        name: "torchao 4-bit".into(),
        rows,
        columns,
        table: (0..16).map(signed).collect(),
        bits: 4,
        codes: Codes {
            suffix: names.weight,
            order: Order::Across,
            stride: columns * 4,
            bytes: rows * columns / 2,
        },
        transposed: false,
        scales: Scales {
            suffix: names.scale,
            kind: ScaleKind::Number(number(names.scale, scale)?, 1.0),
            groups: Groups::Transposed { columns: columns / across, across },
            entries: scale.elements(),
            global: None,
        },
        zeros: Zeros::Numbers { suffix: names.zero, dtype: number(names.zero, zero)?, shift: Shift::Added },
        group_index: None,
        format: false,
    }))
}
