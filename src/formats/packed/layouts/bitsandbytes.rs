//! bitsandbytes: 4 bits with a table of values, and a state that describes them.

use serde::Deserialize;

use super::parts::{bits, number, part, shape, sized};
use crate::formats::Dtype;
use crate::formats::packed::packing::{Codes, Groups, Order, Packing, ScaleKind, Scales, Zeros};
use crate::formats::packed::{PackedError, Parts};

/// NF4: quantiles of the normal distribution (QLoRA, arXiv 2305.14314, appendix E). The kernels have this
/// table built in and ignore the stored `quant_map`, which equals it.
#[rustfmt::skip]
pub(in crate::formats::packed) const NF4: [f32; 16] = [
    -1.0, -0.696_192_8, -0.525_073_05, -0.394_917_5, -0.284_441_38, -0.184_773_43, -0.091_050_036, 0.0,
    0.079_580_3, 0.160_930_2, 0.246_112_3, 0.337_915_24, 0.440_709_83, 0.562_617, 0.722_956_84, 1.0,
];
/// bitsandbytes' FP4: sign, then the magnitudes of its `get_4bit_type`, divided by their maximum.
#[rustfmt::skip]
pub(in crate::formats::packed) const FP4: [f32; 16] = [
    0.0, 0.0625 / 12.0, 8.0 / 12.0, 1.0, 4.0 / 12.0, 6.0 / 12.0, 2.0 / 12.0, 3.0 / 12.0,
    -0.0, -0.0625 / 12.0, -8.0 / 12.0, -1.0, -4.0 / 12.0, -6.0 / 12.0, -2.0 / 12.0, -3.0 / 12.0,
];

/// bitsandbytes' own description of a 4-bit matrix.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: u64,
    shape: Vec<u64>,
    nested_blocksize: Option<u64>,
    nested_offset: Option<f32>,
}

pub(super) fn four_bit(parts: &Parts<'_>, state: &[u8]) -> Result<Packing, PackedError> {
    let state: State = serde_json::from_slice(state)?;
    let bad = |why| Err(shape("weight.quant_state", &state.shape, why));
    let [rows, columns] = state.shape[..] else { return bad("not a matrix") };
    // The storage type may be any, nibbles are packed into it all the same.
    let weight = part(parts, "weight")?;
    let bytes = weight.elements() * weight.dtype.map_or(0, Dtype::bits) / 8;
    let Some(elements) = rows.checked_mul(columns).filter(|&n| n > 0 && n.div_ceil(2) == bytes) else {
        return bad("not the size of the weight");
    };
    if state.blocksize == 0 {
        return bad("blocks of 0 elements");
    }
    let (name, table) = match state.quant_type.as_str() {
        "nf4" => ("NF4", NF4.to_vec()),
        "fp4" => ("FP4", FP4.to_vec()),
        _ => return bad("neither nf4 nor fp4"),
    };
    let entries = elements.div_ceil(state.blocksize);
    let absmax = sized(parts, "weight.absmax", entries)?;
    let kind = match (state.nested_blocksize, state.nested_offset) {
        (Some(block @ 1..), Some(offset)) if bits(absmax) == 8 => {
            for (suffix, n) in
                [("weight.nested_absmax", entries.div_ceil(block)), ("weight.nested_quant_map", 256)]
            {
                let tensor = sized(parts, suffix, n)?;
                if tensor.dtype != Some(Dtype::F32) {
                    return Err(shape(suffix, &tensor.shape, "not F32"));
                }
            }
            ScaleKind::Nested { block, offset }
        }
        (None, None) => ScaleKind::Number(number("weight.absmax", absmax)?, 1.0),
        _ => return bad("half a double quantisation"),
    };
    Ok(Packing {
        name: name.into(),
        rows,
        columns,
        table,
        bits: 4,
        codes: Codes { suffix: "weight", order: Order::HighFirst, stride: columns * 4, bytes },
        transposed: false,
        scales: Scales {
            suffix: "weight.absmax",
            kind,
            groups: Groups::Flat { elements: state.blocksize },
            entries,
            global: None,
        },
        zeros: Zeros::None,
        group_index: None,
        format: false,
    })
}
