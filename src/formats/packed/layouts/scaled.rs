//! Bytes that each have their scale: int8 and FP8 of many libraries.

use super::parts::{blocks, number, part, shape};
use crate::formats::Dtype;
use crate::formats::packed::packing::{Codes, Order, Packing, ScaleKind, Scales, Shift, Zeros};
use crate::formats::packed::{PackedError, Parts, QuantConfig};

/// Block of DeepSeek's FP8 scales where config.json does not say (DeepSeek-V3, `weight_block_size`).
const FP8_BLOCK: [u64; 2] = [128, 128];

/// The suffixes of a weight, of its scales, and of the zero points that may be there.
pub(super) struct Names {
    pub(super) weight: &'static str,
    pub(super) scale: &'static str,
    pub(super) zero: &'static str,
}

/// compressed-tensors, ModelOpt, FBGEMM and others.
pub(super) const PLAIN: Names = Names { weight: "weight", scale: "weight_scale", zero: "weight_zero_point" };
/// bitsandbytes.
pub(super) const BITSANDBYTES: Names = Names { scale: "SCB", ..PLAIN };
/// DeepSeek, where the scale is named for what the kernel does with it.
pub(super) const DEEPSEEK: Names = Names { scale: "weight_scale_inv", ..PLAIN };
/// quanto.
pub(super) const QUANTO: Names =
    Names { weight: "weight._data", scale: "weight._scale", zero: "weight._shift" };

/// `None` where the weight is no such byte.
pub(super) fn scaled(
    parts: &Parts<'_>,
    config: &QuantConfig,
    names: &Names,
) -> Result<Option<Packing>, PackedError> {
    let weight = part(parts, names.weight)?;
    let Some(dtype @ (Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2)) = weight.dtype else { return Ok(None) };
    let [rows, columns] = weight.shape[..] else {
        return Err(shape(names.weight, &weight.shape, "not a matrix"));
    };
    let scale = part(parts, names.scale)?;
    let eight_bit = names.scale == BITSANDBYTES.scale;
    let kind = match scale.dtype {
        Some(Dtype::Other { bits: 8 }) => ScaleKind::PowerOfTwo,
        // bitsandbytes stores the row's largest magnitude, which is code 127.
        _ => ScaleKind::Number(number(names.scale, scale)?, if eight_bit { 1.0 / 127.0 } else { 1.0 }),
    };
    let block = config.block.or((names.scale == DEEPSEEK.scale).then_some(FP8_BLOCK));
    let zeros = match parts.get(names.zero) {
        None => Zeros::None,
        Some(zero) => match zero.dtype.filter(|d| d.decodable_bytes().is_some()) {
            Some(dtype) if zero.elements() == scale.elements() => {
                Zeros::Numbers { suffix: names.zero, dtype, shift: Shift::Before }
            }
            _ => return Err(shape(names.zero, &zero.shape, "not a number for each scale")),
        },
    };
    Ok(Some(Packing {
        name: format!("{} with scales", dtype.name()),
        rows,
        columns,
        table: dtype.decode(&(0..=255).collect::<Vec<u8>>()).unwrap_or_default(),
        bits: 8,
        codes: Codes {
            suffix: names.weight,
            order: Order::Across,
            stride: columns * 8,
            bytes: rows * columns,
        },
        transposed: false,
        scales: Scales {
            suffix: names.scale,
            kind,
            groups: blocks(rows, columns, names.scale, scale, block)?,
            entries: scale.elements(),
            global: None,
        },
        zeros,
        group_index: None,
        format: eight_bit && parts.contains_key("weight_format"),
    }))
}
