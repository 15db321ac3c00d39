//! From the tensors of a layer to the [`Packing`].

use serde::Deserialize;

use super::packing::{Codes, Groups, Order, Packing, ScaleKind, Scales, Zeros};
use super::{PackedError, Parts, QuantConfig};
use crate::formats::{Dtype, TensorInfo};

/// Most elements of a tensor, dimensions of 0 counted as 1. No product below can overflow a `u64`: the
/// largest is elements, times 16 codes in an element, times 32 bits.
const MAX_ELEMENTS: u64 = 1 << 48;
/// Longest bitsandbytes state that is read, bytes. The library writes some 170.
const MAX_STATE: u64 = 4096;
/// Tensors that an error names. The layouts have at most 7.
const SHOWN: usize = 8;
/// Tensors beside a weight that do not change its values.
const NEUTRAL: [&str; 5] = ["weight", "bias", "input_scale", "input_zero_point", "output_scale"];
/// Block of DeepSeek's FP8 scales where config.json does not say (DeepSeek-V3, `weight_block_size`).
const FP8_BLOCK: [u64; 2] = [128, 128];
/// NF4: quantiles of the normal distribution (QLoRA, arXiv 2305.14314, appendix E). The kernels have this
/// table built in and ignore the stored `quant_map`, which equals it.
#[rustfmt::skip]
pub(super) const NF4: [f32; 16] = [
    -1.0, -0.696_192_8, -0.525_073_05, -0.394_917_5, -0.284_441_38, -0.184_773_43, -0.091_050_036, 0.0,
    0.079_580_3, 0.160_930_2, 0.246_112_3, 0.337_915_24, 0.440_709_83, 0.562_617, 0.722_956_84, 1.0,
];
/// bitsandbytes' FP4: sign, then the magnitudes of its `get_4bit_type`, divided by their maximum.
#[rustfmt::skip]
pub(super) const FP4: [f32; 16] = [
    0.0, 0.0625 / 12.0, 8.0 / 12.0, 1.0, 4.0 / 12.0, 6.0 / 12.0, 2.0 / 12.0, 3.0 / 12.0,
    -0.0, -0.0625 / 12.0, -8.0 / 12.0, -1.0, -4.0 / 12.0, -6.0 / 12.0, -2.0 / 12.0, -3.0 / 12.0,
];
/// E2M1 (OCP Microscaling Formats 1.0, table 5).
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// What [`recognise`] answers.
#[derive(Debug)]
pub enum Recognised {
    /// Not packed: `weight` holds the values.
    Plain,
    /// Call again with the whole content of the tensor with this suffix (at most 4 KB).
    NeedState(String),
    /// A layout that is decoded.
    Packed(Box<Packing>),
}

/// Recognises how a layer is stored. `state` is the content of the tensor that a first call asked for.
pub fn recognise(
    parts: &Parts<'_>,
    config: &QuantConfig,
    state: Option<&[u8]>,
) -> Result<Recognised, PackedError> {
    for (suffix, tensor) in parts {
        let elements = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1)));
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(shape(suffix, &tensor.shape, "too large"));
        }
    }
    let has = |suffix: &str| parts.contains_key(suffix);
    let packed = |packing| Recognised::Packed(Box::new(packing));
    if let Some((suffix, tensor)) =
        parts.iter().find(|(s, _)| s.starts_with("weight.quant_state.bitsandbytes__"))
    {
        // Bytes, not elements: a type of unknown size has any number of them.
        if tensor.bytes.end - tensor.bytes.start > MAX_STATE {
            return Err(shape(suffix, &tensor.shape, "too large"));
        }
        return match state {
            Some(state) => four_bit(parts, state).map(packed),
            None => Ok(Recognised::NeedState((*suffix).to_owned())),
        };
    }
    let found = if has("SCB") {
        scaled(parts, config, "SCB")?
    } else if has("qweight") && has("scales") {
        transposed(parts, config)?
    } else if has("weight_packed") {
        packed_rows(parts, config)?
    } else if has("weight_scale_inv") {
        // I8 under this name is a pair of FP4 codes.
        let float = parts.get("weight").is_some_and(|w| w.dtype == Some(Dtype::F8E4M3));
        if float { scaled(parts, config, "weight_scale_inv")? } else { None }
    } else if has("weight_scale") && !has("weight_zero_point") {
        scaled(parts, config, "weight_scale")?
    } else if has("weight") && has("scales") && has("biases") {
        affine(parts, config)?
    } else if has("_blocks") {
        Some(microscaled(parts)?)
    } else {
        return match parts.get("weight").map(|w| w.dtype) {
            None if parts.keys().all(|s| NEUTRAL.contains(s)) => Ok(Recognised::Plain),
            Some(Some(dtype)) if dtype.is_plain_float() => Ok(Recognised::Plain),
            Some(Some(Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::I8))
                if parts.keys().all(|s| NEUTRAL.contains(s)) =>
            {
                Ok(Recognised::Plain)
            }
            _ => Err(unreadable(parts, config)),
        };
    };
    found.map(packed).ok_or_else(|| unreadable(parts, config))
}

/// bitsandbytes' own description of a 4-bit matrix.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: u64,
    shape: Vec<u64>,
    nested_blocksize: Option<u64>,
    nested_offset: Option<f32>,
}

fn four_bit(parts: &Parts<'_>, state: &[u8]) -> Result<Packing, PackedError> {
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
        },
        zeros: Zeros::None,
        group_index: None,
        format: false,
    })
}

/// GPTQ, packed along the input, or AWQ, packed along the output; both store `[in, out]`. `None` for
/// neither.
fn transposed(parts: &Parts<'_>, config: &QuantConfig) -> Result<Option<Packing>, PackedError> {
    let (weight_x, weight_y) = words(parts, "qweight")?;
    let (zero_x, zero_y) = words(parts, "qzeros")?;
    let scales = part(parts, "scales")?;
    let [groups, rows] = scales.shape[..] else { return Ok(None) };
    let named = |method: &str| config.method.as_deref().is_none_or(|m| m == method);
    let (method, bits, columns, order, plus) = if named("gptq") && weight_y == rows {
        // Version 1 stores the zero point less 1.
        let plus = match config.version.as_deref() {
            None | Some("gptq") => 1,
            Some("gptq_v2") => 0,
            Some(_) => return Ok(None),
        };
        let Some(bits) = [2, 3, 4, 8].into_iter().find(|bits| (rows * bits).div_ceil(32) == zero_y) else {
            return Ok(None);
        };
        ("GPTQ", bits, weight_x * 32 / bits, Order::Down, plus)
    } else if named("awq") && weight_y * 8 == rows && zero_y == weight_y {
        ("AWQ", 4, weight_x, Order::Interleaved, 0)
    } else {
        return Ok(None);
    };
    if rows == 0 || columns == 0 || zero_x != groups {
        return Err(shape("scales", &scales.shape, "not the groups of qzeros and the output of qweight"));
    }
    let group_index = group_index(parts, "g_idx", columns)?;
    let span = if group_index.is_some() { columns } else { group_columns(columns, groups, scales, config)? };
    let zero_order = if order == Order::Down { Order::Across } else { order };
    let codes = |suffix, order, x: u64, y: u64| Codes { suffix, order, stride: y * 32, bytes: x * y * 4 };
    Ok(Some(Packing {
        name: format!("{method} {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(f32::from).collect(),
        bits,
        codes: codes("qweight", order, weight_x, weight_y),
        transposed: true,
        scales: Scales {
            suffix: "scales",
            kind: ScaleKind::Number(number("scales", scales)?, 1.0),
            groups: Groups::Transposed { columns: span, across: groups },
            entries: groups * rows,
        },
        zeros: Zeros::Codes { codes: codes("qzeros", zero_order, zero_x, zero_y), plus },
        group_index,
        format: false,
    }))
}

/// Bytes that each have their scale: of the tensor, of the row, of a group of the row, or of a block.
/// `None` where the weight is no such byte.
fn scaled(
    parts: &Parts<'_>,
    config: &QuantConfig,
    suffix: &'static str,
) -> Result<Option<Packing>, PackedError> {
    let weight = part(parts, "weight")?;
    let Some(dtype @ (Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2)) = weight.dtype else { return Ok(None) };
    let [rows, columns] = weight.shape[..] else {
        return Err(shape("weight", &weight.shape, "not a matrix"));
    };
    let scale = part(parts, suffix)?;
    let eight_bit = suffix == "SCB";
    let kind = match scale.dtype {
        Some(Dtype::Other { bits: 8 }) => ScaleKind::PowerOfTwo,
        // bitsandbytes stores the row's largest magnitude, which is code 127.
        _ => ScaleKind::Number(number(suffix, scale)?, if eight_bit { 1.0 / 127.0 } else { 1.0 }),
    };
    let block = config.block.or((suffix == "weight_scale_inv").then_some(FP8_BLOCK));
    Ok(Some(Packing {
        name: format!("{} with scales", dtype.name()),
        rows,
        columns,
        table: dtype.decode(&(0..=255).collect::<Vec<u8>>()).unwrap_or_default(),
        bits: 8,
        codes: Codes { suffix: "weight", order: Order::Across, stride: columns * 8, bytes: rows * columns },
        transposed: false,
        scales: Scales {
            suffix,
            kind,
            groups: blocks(rows, columns, suffix, scale, block)?,
            entries: scale.elements(),
        },
        zeros: Zeros::None,
        group_index: None,
        format: eight_bit && parts.contains_key("weight_format"),
    }))
}

/// compressed-tensors' `pack-quantized`. `None` for other types packed under the same name (NVFP4), or
/// other than 2, 4 and 8 bits, whose packing has changed between versions.
fn packed_rows(parts: &Parts<'_>, config: &QuantConfig) -> Result<Option<Packing>, PackedError> {
    let (Some(bits @ (2 | 4 | 8)), 32) = (config.bits, self::bits(part(parts, "weight_packed")?)) else {
        return Ok(None);
    };
    let (rows, packed) = words(parts, "weight_packed")?;
    let columns = packed * 32 / bits;
    let scale = part(parts, "weight_scale")?;
    let groups = blocks(rows, columns, "weight_scale", scale, None)?;
    let zeros = if parts.contains_key("weight_zero_point") {
        let (x, y) = words(parts, "weight_zero_point")?;
        if x != (rows * bits).div_ceil(32) || scale.shape != [rows, y] {
            let zero = part(parts, "weight_zero_point")?;
            return Err(shape("weight_zero_point", &zero.shape, "not a packed code for each scale"));
        }
        let codes =
            Codes { suffix: "weight_zero_point", order: Order::Down, stride: y * 32, bytes: x * y * 4 };
        Zeros::Codes { codes, plus: 0 }
    } else {
        Zeros::None
    };
    let half = f32::from(1u8 << (bits - 1));
    Ok(Some(Packing {
        name: format!("compressed-tensors {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(|code| f32::from(code) - half).collect(),
        bits,
        codes: Codes {
            suffix: "weight_packed",
            order: Order::Across,
            stride: packed * 32,
            bytes: rows * packed * 4,
        },
        transposed: false,
        scales: Scales {
            suffix: "weight_scale",
            kind: ScaleKind::Number(number("weight_scale", scale)?, 1.0),
            groups,
            entries: scale.elements(),
        },
        zeros,
        group_index: group_index(parts, "weight_g_idx", columns)?,
        format: false,
    }))
}

/// MLX: scale and bias for each group. Bits may differ between layers, the group size does not. `None`
/// where they cannot be told.
fn affine(parts: &Parts<'_>, config: &QuantConfig) -> Result<Option<Packing>, PackedError> {
    let (Some(group_size), 32) = (config.group_size, self::bits(part(parts, "weight")?)) else {
        return Ok(None);
    };
    let (rows, packed) = words(parts, "weight")?;
    let scales = part(parts, "scales")?;
    let biases = part(parts, "biases")?;
    let [_, across] = scales.shape[..] else { return Ok(None) };
    let fits = |bits: &u64| {
        let stored = across.checked_mul(group_size).and_then(|columns| columns.checked_mul(*bits));
        stored == Some(packed * 32)
    };
    let Some(bits) = (2..=8).find(fits) else { return Ok(None) };
    let columns = across * group_size;
    if scales.shape[0] != rows || biases.shape != scales.shape {
        return Err(shape("biases", &biases.shape, "not the groups of weight and scales"));
    }
    Ok(Some(Packing {
        name: format!("MLX {bits}-bit"),
        rows,
        columns,
        table: (0..1u16 << bits).map(f32::from).collect(),
        bits,
        codes: Codes {
            suffix: "weight",
            order: Order::Across,
            stride: packed * 32,
            bytes: rows * packed * 4,
        },
        transposed: false,
        scales: Scales {
            suffix: "scales",
            kind: ScaleKind::Number(number("scales", scales)?, 1.0),
            groups: Groups::Grid { rows: 1, columns: group_size, across },
            entries: scales.elements(),
        },
        zeros: Zeros::Bias(number("biases", biases)?),
        group_index: None,
        format: false,
    }))
}

/// MXFP4 of gpt-oss: 16 bytes for each 32 columns, the low nibble first.
fn microscaled(parts: &Parts<'_>) -> Result<Packing, PackedError> {
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
    Ok(Packing {
        name: "MXFP4".into(),
        rows,
        columns: across * 32,
        table: E2M1.to_vec(),
        bits: 4,
        codes: Codes {
            suffix: "_blocks",
            order: Order::Across,
            stride: across * 128,
            bytes: blocks.elements(),
        },
        transposed: false,
        scales: Scales {
            suffix: "_scales",
            kind: ScaleKind::PowerOfTwo,
            groups: Groups::Grid { rows: 1, columns: 32, across: *across },
            entries: scales.elements(),
        },
        zeros: Zeros::None,
        group_index: None,
        format: false,
    })
}

/// How a grid of scales lies over the matrix: by the given block where that fits, else with as many rows
/// as the matrix or one, and columns in equal parts.
fn blocks(
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

/// Columns of a group of GPTQ or AWQ: as config.json says where that fits, else equal parts.
fn group_columns(
    columns: u64,
    groups: u64,
    scales: &TensorInfo,
    config: &QuantConfig,
) -> Result<u64, PackedError> {
    let stated = config.group_size.filter(|&n| columns.div_ceil(n) == groups);
    let equal = (groups > 0 && columns.is_multiple_of(groups)).then(|| columns / groups);
    stated
        .or(equal)
        .filter(|&n| n > 0)
        .ok_or_else(|| shape("scales", &scales.shape, "not groups of the input"))
}

/// The tensor with the group of each column, if there is one.
fn group_index(
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

fn part<'a>(parts: &Parts<'a>, suffix: &'static str) -> Result<&'a TensorInfo, PackedError> {
    parts.get(suffix).copied().ok_or(PackedError::Missing { suffix })
}

/// A tensor that must have so many elements.
fn sized<'a>(parts: &Parts<'a>, suffix: &'static str, elements: u64) -> Result<&'a TensorInfo, PackedError> {
    let tensor = part(parts, suffix)?;
    if tensor.elements() != elements {
        return Err(shape(suffix, &tensor.shape, "not the blocks that the state describes"));
    }
    Ok(tensor)
}

/// Shape of a matrix of 32-bit words.
fn words(parts: &Parts<'_>, suffix: &'static str) -> Result<(u64, u64), PackedError> {
    let tensor = part(parts, suffix)?;
    match tensor.shape[..] {
        [x, y] if bits(tensor) == 32 && tensor.dtype != Some(Dtype::F32) => Ok((x, y)),
        _ => Err(shape(suffix, &tensor.shape, "not a matrix of 32-bit words")),
    }
}

/// The dtype of a tensor of numbers.
fn number(suffix: &str, tensor: &TensorInfo) -> Result<Dtype, PackedError> {
    tensor
        .dtype
        .filter(|d| d.decodable_bytes().is_some() && *d != Dtype::I8)
        .ok_or_else(|| shape(suffix, &tensor.shape, "not of a floating-point type"))
}

/// Bits of an element; 0 for an unknown type.
fn bits(tensor: &TensorInfo) -> u64 {
    tensor.dtype.map_or(0, Dtype::bits)
}

fn shape(suffix: &str, shape: &[u64], why: &'static str) -> PackedError {
    PackedError::Shape { suffix: suffix.to_owned(), shape: shape.to_vec(), why }
}

fn unreadable(parts: &Parts<'_>, config: &QuantConfig) -> PackedError {
    let shown = parts.iter().take(SHOWN).map(|(suffix, t)| format!("{suffix} {:?}", t.shape));
    let tensors: Vec<String> = shown.collect();
    PackedError::Unreadable {
        method: config.method.clone().unwrap_or_else(|| "no quant_method".into()),
        tensors: tensors.join(", "),
    }
}
