//! Weights of quantised linear layers: recognised from the header, read by rows of the logical matrix
//! `W [rows, columns]` (= `[out, in]`), decoded to `f32`.
//!
//! | layout | tensors of a layer | read for a block of rows |
//! |---|---|---|
//! | bitsandbytes NF4, FP4 | `weight` (nibbles, flat, high first), `weight.absmax`, `weight.quant_state.*`; with double quantisation `weight.nested_*` | these rows, their blocks' scales, once the state |
//! | bitsandbytes int8 | `weight` I8, `SCB`, `weight_format` | these rows |
//! | GPTQ | `qweight [in*bits/32, out]`, `qzeros [groups, out*bits/32]`, `scales [groups, out]`, `g_idx [in]` | everything |
//! | AWQ (GEMM) | `qweight [in, out/8]`, `qzeros [groups, out/8]`, `scales [groups, out]` | everything |
//! | compressed-tensors, packed | `weight_packed [out, in*bits/32]`, `weight_scale`, `weight_zero_point [out*bits/32, groups]`, `weight_g_idx` | these rows |
//! | int8, FP8 with scales | `weight`, `weight_scale` or `weight_scale_inv`: one, one a row, or one a block | these rows |
//! | MLX | `weight` U32 `[out, in*bits/32]`, `scales` and `biases` `[out, groups]` | these rows |
//! | MXFP4 (gpt-oss) | `_blocks` U8 `[.., out, in/32, 16]`, `_scales` U8 `[.., out, in/32]` | these rows |
//!
//! Every layout is a table of at most 256 values, an address for each code, and per group a scale and a
//! zero point: `w = (table[code] - zero) * scale + bias`. GPTQ and AWQ pack along the input, so that a row
//! of `W` lies strided over the whole tensor; [`Packing::bytes_needed`] tells what that costs.
//!
//! Whatever else is found (torchao, HQQ, EETQ, Marlin, AWQ GEMV, NVFP4, ...) is refused with the names of
//! its tensors. `weight_shape` is not read: the columns come from the groups or the packed width, which is
//! exact unless a row without groups ends inside a packed word.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use super::{Dtype, TensorInfo};

/// The tensors of one layer by suffix: what follows the layer's name and a dot (`weight.absmax`), or, for
/// MXFP4, what follows the parameter's name (`_blocks`).
pub type Parts<'a> = BTreeMap<&'a str, &'a TensorInfo>;

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
/// Place of logical column `y % 8` among the nibbles of an AWQ word (AutoAWQ, `AWQ_REVERSE_ORDER`).
const AWQ_PLACE: [u64; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// NF4: quantiles of the normal distribution (QLoRA, arXiv 2305.14314, appendix E). The kernels have this
/// table built in and ignore the stored `quant_map`, which equals it.
#[rustfmt::skip]
const NF4: [f32; 16] = [
    -1.0, -0.696_192_8, -0.525_073_05, -0.394_917_5, -0.284_441_38, -0.184_773_43, -0.091_050_036, 0.0,
    0.079_580_3, 0.160_930_2, 0.246_112_3, 0.337_915_24, 0.440_709_83, 0.562_617, 0.722_956_84, 1.0,
];
/// bitsandbytes' FP4: sign, then the magnitudes of its `get_4bit_type`, divided by their maximum.
#[rustfmt::skip]
const FP4: [f32; 16] = [
    0.0, 0.0625 / 12.0, 8.0 / 12.0, 1.0, 4.0 / 12.0, 6.0 / 12.0, 2.0 / 12.0, 3.0 / 12.0,
    -0.0, -0.0625 / 12.0, -8.0 / 12.0, -1.0, -4.0 / 12.0, -6.0 / 12.0, -2.0 / 12.0, -3.0 / 12.0,
];
/// E2M1 (OCP Microscaling Formats 1.0, table 5).
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Why packed weights are not read.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// A layout that is not decoded.
    #[error("quantised weights that are not decoded: {method}, with tensors {tensors}")]
    Unreadable {
        /// What config.json names.
        method: String,
        /// Suffixes and shapes of the layer's tensors.
        tensors: String,
    },
    /// A tensor of a known layout is missing.
    #[error("tensor {suffix:?} is missing")]
    Missing {
        /// Its suffix.
        suffix: &'static str,
    },
    /// A tensor has a dtype or shape that the others contradict.
    #[error("tensor {suffix:?} of shape {shape:?} does not fit: {why}")]
    Shape {
        /// Its suffix.
        suffix: String,
        /// Its shape in the header, or the one that the state claims.
        shape: Vec<u64>,
        /// What is wrong.
        why: &'static str,
    },
    /// The bitsandbytes state is not its JSON.
    #[error("the bitsandbytes state is not valid: {0}")]
    State(#[from] serde_json::Error),
    /// No such rows.
    #[error("rows {start}..{end} of {rows}")]
    Rows {
        /// First row asked for.
        start: u64,
        /// End of the rows asked for.
        end: u64,
        /// Rows of the matrix.
        rows: u64,
    },
    /// The bytes handed in are not the ones asked for.
    #[error("tensor {suffix:?}: {found} bytes instead of {expected}")]
    Truncated {
        /// Suffix of the tensor.
        suffix: &'static str,
        /// Bytes that [`Packing::ranges`] named.
        expected: u64,
        /// Bytes handed in.
        found: u64,
    },
    /// A group index points outside the groups.
    #[error("column {column} is in group {group} of {groups}")]
    Group {
        /// The column.
        column: u64,
        /// What the index says.
        group: i32,
        /// Groups in a row.
        groups: u64,
    },
    /// int8 weights in an order of tiles that only old GPU kernels read.
    #[error("weight_format {0} instead of 0, row-major")]
    Tiled(u8),
}

/// What config.json says of the quantisation. Shapes are taken from the tensors; this decides only what
/// they leave open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `quant_method`, or the newer `method`.
    pub method: Option<String>,
    /// Version of the layout: `checkpoint_format`, the newer `format`, or AWQ's `version`.
    pub version: Option<String>,
    /// Bits of a code.
    pub bits: Option<u64>,
    /// Columns of a group; absent where it is -1, the whole input.
    pub group_size: Option<u64>,
    /// Rows and columns of a scale's block.
    pub block: Option<[u64; 2]>,
}

impl Facts {
    /// Takes the facts from a parsed config.json. Unknown or wrongly typed fields are absent, as are
    /// numbers in which the groups of a compressed-tensors config differ.
    pub fn parse(config: &Value) -> Self {
        let top = ["quantization_config", "compression_config", "quantization"]
            .iter()
            .find_map(|key| config.get(*key))
            .unwrap_or(&Value::Null);
        let mut schemes: Vec<&Value> = top
            .get("config_groups")
            .and_then(Value::as_object)
            .map(|groups| groups.values().filter_map(|g| g.get("weights")).collect())
            .unwrap_or_default();
        if schemes.is_empty() {
            schemes.push(top);
        }
        let agreed = |keys: &[&str]| {
            let mut values = schemes.iter().map(|s| keys.iter().find_map(|key| s.get(*key)));
            let first = values.next()?;
            values.all(|v| v == first).then_some(first)?
        };
        let text = |keys: &[&str]| {
            let value = keys.iter().find_map(|key| top.get(*key)?.as_str())?;
            Some(value.chars().take(200).collect())
        };
        let block = agreed(&["weight_block_size", "block_structure"])
            .and_then(|b| Some([b.get(0)?.as_u64()?, b.get(1)?.as_u64()?]));
        Self {
            method: text(&["quant_method", "method"]),
            version: text(&["checkpoint_format", "format", "version"]),
            bits: agreed(&["bits", "num_bits"]).and_then(Value::as_u64),
            group_size: agreed(&["group_size"]).and_then(Value::as_u64).filter(|&n| n > 0),
            block: block.filter(|b| !b.contains(&0)),
        }
    }
}

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
    facts: &Facts,
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
    if let Some((suffix, tensor)) = parts.iter().find(|(s, _)| s.starts_with("weight.quant_state.bitsandbytes__"))
    {
        if tensor.elements() > MAX_STATE {
            return Err(shape(suffix, &tensor.shape, "too large"));
        }
        return match state {
            Some(state) => four_bit(parts, state).map(packed),
            None => Ok(Recognised::NeedState((*suffix).to_owned())),
        };
    }
    let found = if has("SCB") {
        scaled(parts, facts, "SCB")?
    } else if has("qweight") && has("scales") {
        transposed(parts, facts)?
    } else if has("weight_packed") {
        packed_rows(parts, facts)?
    } else if has("weight_scale_inv") {
        // I8 under this name is a pair of FP4 codes.
        let float = parts.get("weight").is_some_and(|w| w.dtype == Some(Dtype::F8E4M3));
        if float { scaled(parts, facts, "weight_scale_inv")? } else { None }
    } else if has("weight_scale") && !has("weight_zero_point") {
        scaled(parts, facts, "weight_scale")?
    } else if has("weight") && has("scales") && has("biases") {
        affine(parts, facts)?
    } else if has("_blocks") {
        Some(microscaled(parts)?)
    } else {
        return match parts.get("weight").map(|w| w.dtype) {
            None if parts.keys().all(|s| NEUTRAL.contains(s)) => Ok(Recognised::Plain),
            Some(Some(Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)) => Ok(Recognised::Plain),
            Some(Some(Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::I8))
                if parts.keys().all(|s| NEUTRAL.contains(s)) =>
            {
                Ok(Recognised::Plain)
            }
            _ => Err(unreadable(parts, facts)),
        };
    };
    found.map(packed).ok_or_else(|| unreadable(parts, facts))
}

/// A part of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRange {
    /// Suffix of the tensor.
    pub suffix: &'static str,
    /// Bytes relative to the tensor's begin.
    pub bytes: Range<u64>,
}

/// How one matrix is packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Rows of the logical matrix: output features. Experts of one tensor follow each other.
    pub rows: u64,
    /// Columns of the logical matrix: input features.
    pub columns: u64,
    /// Values of the codes, 2^bits of them.
    table: Vec<f32>,
    bits: u64,
    codes: Codes,
    /// Codes, scales and zero points are stored as `[columns, rows]`.
    transposed: bool,
    scales: Scales,
    zeros: Zeros,
    /// Tensor with the group of each column.
    group_index: Option<&'static str>,
    /// Whether `weight_format` must be looked at.
    format: bool,
}

/// Where the codes of a stored matrix `[x, y]` are.
#[derive(Clone, Debug, PartialEq)]
struct Codes {
    suffix: &'static str,
    order: Order,
    /// Bits of a stored row: of one `x` (of one word row for [`Order::Down`]).
    stride: u64,
    /// Bytes of the whole tensor.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    /// Along `y`, lowest bits first, over word borders.
    Across,
    /// Along `x`, in 32-bit words, lowest bits first, over word borders.
    Down,
    /// Along `y`, eight nibbles to a word in AWQ's order.
    Interleaved,
    /// All rows as one sequence of nibbles, the high one of a byte first.
    HighFirst,
}

impl Codes {
    /// Bytes that hold the stored rows `x`.
    fn range(&self, x: &Range<u64>, bits: u64) -> Range<u64> {
        match self.order {
            Order::Across | Order::Interleaved => x.start * self.stride / 8..x.end * self.stride / 8,
            Order::Down => {
                x.start * bits / 32 * self.stride / 8..(x.end * bits).div_ceil(32) * self.stride / 8
            }
            Order::HighFirst => x.start * self.stride / 8..(x.end * self.stride).div_ceil(8),
        }
    }

    /// The code at `[x, y]`; `piece` holds the tensor from its byte `start` on.
    fn get(&self, piece: &[u8], start: u64, bits: u64, x: u64, y: u64) -> usize {
        let place = |bit: u64| match self.order {
            Order::Across => x * self.stride + y * bits + bit,
            Order::Down => {
                let down = x * bits + bit;
                down / 32 * self.stride + y * 32 + down % 32
            }
            Order::Interleaved => x * self.stride + y / 8 * 32 + 4 * AWQ_PLACE[(y % 8) as usize] + bit,
            Order::HighFirst => ((x * self.stride + y * 4) ^ 4) + bit,
        };
        (0..bits).fold(0, |code, bit| {
            let at = place(bit) - start * 8;
            code | usize::from(piece[(at / 8) as usize] >> (at % 8) & 1) << bit
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Scales {
    suffix: &'static str,
    kind: ScaleKind,
    groups: Groups,
    /// Entries of the whole tensor.
    entries: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ScaleKind {
    /// The number, times a constant of the layout.
    Number(Dtype, f32),
    /// E8M0: 2^(byte - 127), 255 is NaN (OCP Microscaling Formats 1.0, section 5.4.1).
    PowerOfTwo,
    /// A code of `nested_quant_map` times the `nested_absmax` of `block` scales, plus an offset.
    Nested { block: u64, offset: f32 },
}

impl ScaleKind {
    fn bytes(self) -> u64 {
        match self {
            Self::Number(dtype, _) => dtype.bits() / 8,
            Self::PowerOfTwo | Self::Nested { .. } => 1,
        }
    }
}

/// Which scale belongs to an element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Groups {
    /// `[_, across]`, one entry for so many rows and columns.
    Grid { rows: u64, columns: u64, across: u64 },
    /// One entry for so many elements of the flattened matrix.
    Flat { elements: u64 },
    /// `[across, rows of W]`, one entry for so many columns of one row.
    Transposed { columns: u64, across: u64 },
}

#[derive(Clone, Debug, PartialEq)]
enum Zeros {
    None,
    /// Numbers in the places of the scales, added after scaling.
    Bias(Dtype),
    /// Codes like those of the weights, to which `plus` is added modulo 2^bits.
    Codes { codes: Codes, plus: usize },
}

/// The pieces of [`Packing::ranges`], unpacked.
struct Pieces<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    nested_absmax: &'a [u8],
    nested_map: &'a [u8],
    zeros: &'a [u8],
    group_index: &'a [u8],
}

impl Packing {
    /// What must be read for these rows, in the order in which [`Packing::decode`] takes it.
    pub fn ranges(&self, rows: &Range<u64>) -> Result<Vec<PartRange>, PackedError> {
        if rows.start >= rows.end || rows.end > self.rows {
            return Err(PackedError::Rows { start: rows.start, end: rows.end, rows: self.rows });
        }
        let codes_range = |codes: &Codes| {
            let bytes = if self.transposed { 0..codes.bytes } else { codes.range(rows, self.bits) };
            PartRange { suffix: codes.suffix, bytes }
        };
        let entries = self.entries(rows);
        let size = self.scales.kind.bytes();
        let scaled = |suffix, size: u64| PartRange { suffix, bytes: entries.start * size..entries.end * size };
        let mut ranges = vec![codes_range(&self.codes), scaled(self.scales.suffix, size)];
        if let ScaleKind::Nested { block, .. } = self.scales.kind {
            let bytes = entries.start / block * 4..entries.end.div_ceil(block) * 4;
            ranges.push(PartRange { suffix: "weight.nested_absmax", bytes });
            ranges.push(PartRange { suffix: "weight.nested_quant_map", bytes: 0..256 * 4 });
        }
        match &self.zeros {
            Zeros::None => {}
            Zeros::Bias(dtype) => ranges.push(scaled("biases", dtype.bits() / 8)),
            Zeros::Codes { codes, .. } => ranges.push(codes_range(codes)),
        }
        if let Some(suffix) = self.group_index {
            ranges.push(PartRange { suffix, bytes: 0..self.columns * 4 });
        }
        if self.format {
            ranges.push(PartRange { suffix: "weight_format", bytes: 0..1 });
        }
        Ok(ranges)
    }

    /// Bytes to read for these rows, gaps not counted.
    pub fn bytes_needed(&self, rows: &Range<u64>) -> Result<u64, PackedError> {
        Ok(self.ranges(rows)?.iter().map(|r| r.bytes.end - r.bytes.start).sum())
    }

    /// The rows as `f32`, `[rows.len(), columns]` row-major, from the content of [`Packing::ranges`] in its
    /// order. Takes memory for the result and one row of scales.
    pub fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, PackedError> {
        let ranges = self.ranges(&rows)?;
        for (i, PartRange { suffix, bytes }) in ranges.iter().enumerate() {
            let expected = bytes.end - bytes.start;
            let found = pieces.get(i).map_or(0, |p| p.len() as u64);
            if found != expected {
                return Err(PackedError::Truncated { suffix, expected, found });
            }
        }
        let mut rest = ranges.iter().zip(pieces);
        let mut take = |wanted: bool| if wanted { rest.next().map_or(&[][..], |(_, piece)| *piece) } else { &[] };
        let nested = matches!(self.scales.kind, ScaleKind::Nested { .. });
        let pieces = Pieces {
            codes: take(true),
            scales: take(true),
            nested_absmax: take(nested),
            nested_map: take(nested),
            zeros: take(self.zeros != Zeros::None),
            group_index: take(self.group_index.is_some()),
        };
        if let Some(&format) = take(self.format).first().filter(|f| **f != 0) {
            return Err(PackedError::Tiled(format));
        }
        // The pieces hold at least one bit for each value.
        let mut values = Vec::with_capacity(((rows.end - rows.start) * self.columns) as usize);
        let start = self.start(&self.codes, &rows);
        for row in rows.clone() {
            let scales = self.scale_row(&rows, row, &pieces);
            let zeros = self.zero_row(&rows, row, scales.len(), &pieces);
            for column in 0..self.columns {
                let group = self.group(row, column, scales.len(), pieces.group_index)?;
                let (x, y) = if self.transposed { (column, row) } else { (row, column) };
                let value = self.table[self.codes.get(pieces.codes, start, self.bits, x, y)];
                let scale = scales[group];
                values.push(match self.zeros {
                    Zeros::None => value * scale,
                    Zeros::Bias(_) => value * scale + zeros[group],
                    Zeros::Codes { .. } => (value - zeros[group]) * scale,
                });
            }
        }
        Ok(values)
    }

    /// First byte that is read of a tensor of codes.
    fn start(&self, codes: &Codes, rows: &Range<u64>) -> u64 {
        if self.transposed { 0 } else { codes.range(rows, self.bits).start }
    }

    /// Entries of the scales that are read for these rows.
    fn entries(&self, rows: &Range<u64>) -> Range<u64> {
        match self.scales.groups {
            Groups::Grid { rows: block, across, .. } => {
                rows.start / block * across..rows.end.div_ceil(block) * across
            }
            Groups::Flat { elements } => {
                rows.start * self.columns / elements..(rows.end * self.columns).div_ceil(elements)
            }
            Groups::Transposed { .. } => 0..self.scales.entries,
        }
    }

    /// Numbers of the groups' entries of one row, among those that are read.
    fn places(&self, rows: &Range<u64>, row: u64) -> Vec<usize> {
        let first = self.entries(rows).start;
        let places: Range<u64> = match self.scales.groups {
            Groups::Transposed { across, .. } => {
                return (0..across).map(|g| (g * self.rows + row) as usize).collect();
            }
            Groups::Grid { .. } | Groups::Flat { .. } => self.entries(&(row..row + 1)),
        };
        places.map(|entry| (entry - first) as usize).collect()
    }

    fn scale_row(&self, rows: &Range<u64>, row: u64, pieces: &Pieces<'_>) -> Vec<f32> {
        let places = self.places(rows, row);
        match self.scales.kind {
            ScaleKind::Number(dtype, factor) => {
                numbers(dtype, pieces.scales, &places).into_iter().map(|s| s * factor).collect()
            }
            ScaleKind::PowerOfTwo => places
                .iter()
                .map(|&p| match pieces.scales[p] {
                    255 => f32::NAN,
                    exponent => f32::from(i16::from(exponent) - 127).exp2(),
                })
                .collect(),
            ScaleKind::Nested { block, offset } => {
                let codes: Vec<usize> = places.iter().map(|&p| usize::from(pieces.scales[p])).collect();
                let first = self.entries(rows).start;
                let blocks: Vec<usize> =
                    places.iter().map(|&p| ((first + p as u64) / block - first / block) as usize).collect();
                let absmax = numbers(Dtype::F32, pieces.nested_absmax, &blocks);
                let codes = numbers(Dtype::F32, pieces.nested_map, &codes);
                codes.iter().zip(absmax).map(|(code, absmax)| code * absmax + offset).collect()
            }
        }
    }

    fn zero_row(&self, rows: &Range<u64>, row: u64, groups: usize, pieces: &Pieces<'_>) -> Vec<f32> {
        match &self.zeros {
            Zeros::None => Vec::new(),
            Zeros::Bias(dtype) => numbers(*dtype, pieces.zeros, &self.places(rows, row)),
            Zeros::Codes { codes, plus } => (0..groups as u64)
                .map(|group| {
                    let (x, y) = if self.transposed { (group, row) } else { (row, group) };
                    let code = codes.get(pieces.zeros, self.start(codes, rows), self.bits, x, y);
                    self.table[(code + plus) % self.table.len()]
                })
                .collect(),
        }
    }

    /// Group of a column among those of its row.
    fn group(&self, row: u64, column: u64, groups: usize, index: &[u8]) -> Result<usize, PackedError> {
        if self.group_index.is_some() {
            let group = index.as_chunks::<4>().0[column as usize];
            let group = i32::from_le_bytes(group);
            return usize::try_from(group).ok().filter(|g| *g < groups).ok_or(PackedError::Group {
                column,
                group,
                groups: groups as u64,
            });
        }
        Ok(match self.scales.groups {
            Groups::Grid { columns, .. } | Groups::Transposed { columns, .. } => column / columns,
            Groups::Flat { elements } => {
                (row * self.columns + column) / elements - row * self.columns / elements
            }
        } as usize)
    }
}

/// Elements at these places of an array of a decodable type.
fn numbers(dtype: Dtype, raw: &[u8], places: &[usize]) -> Vec<f32> {
    let size = (dtype.bits() / 8) as usize;
    let chosen: Vec<u8> = places.iter().flat_map(|&p| &raw[p * size..(p + 1) * size]).copied().collect();
    dtype.decode(&chosen).unwrap_or_default()
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
    let table = match state.quant_type.as_str() {
        "nf4" => NF4.to_vec(),
        "fp4" => FP4.to_vec(),
        _ => return bad("neither nf4 nor fp4"),
    };
    let entries = elements.div_ceil(state.blocksize);
    let absmax = sized(parts, "weight.absmax", entries)?;
    let kind = match (state.nested_blocksize, state.nested_offset) {
        (Some(block @ 1..), Some(offset)) if bits(absmax) == 8 => {
            for (suffix, n) in [
                ("weight.nested_absmax", entries.div_ceil(block)),
                ("weight.nested_quant_map", 256),
            ] {
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
fn transposed(parts: &Parts<'_>, facts: &Facts) -> Result<Option<Packing>, PackedError> {
    let (weight_x, weight_y) = words(parts, "qweight")?;
    let (zero_x, zero_y) = words(parts, "qzeros")?;
    let scales = part(parts, "scales")?;
    let [groups, rows] = scales.shape[..] else { return Ok(None) };
    let named = |method: &str| facts.method.as_deref().is_none_or(|m| m == method);
    let (bits, columns, order, plus) = if named("gptq") && weight_y == rows {
        // Version 1 stores the zero point less 1.
        let plus = match facts.version.as_deref() {
            None | Some("gptq") => 1,
            Some("gptq_v2") => 0,
            Some(_) => return Ok(None),
        };
        let Some(bits) = [2, 3, 4, 8].into_iter().find(|bits| (rows * bits).div_ceil(32) == zero_y) else {
            return Ok(None);
        };
        (bits, weight_x * 32 / bits, Order::Down, plus)
    } else if named("awq") && weight_y * 8 == rows && zero_y == weight_y {
        (4, weight_x, Order::Interleaved, 0)
    } else {
        return Ok(None);
    };
    if rows == 0 || columns == 0 || zero_x != groups {
        return Err(shape("scales", &scales.shape, "not the groups of qzeros and the output of qweight"));
    }
    let group_index = group_index(parts, "g_idx", columns)?;
    let span = if group_index.is_some() { columns } else { group_columns(columns, groups, scales, facts)? };
    let zero_order = if order == Order::Down { Order::Across } else { order };
    let codes = |suffix, order, x: u64, y: u64| Codes { suffix, order, stride: y * 32, bytes: x * y * 4 };
    Ok(Some(Packing {
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
fn scaled(parts: &Parts<'_>, facts: &Facts, suffix: &'static str) -> Result<Option<Packing>, PackedError> {
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
    let block = facts.block.or((suffix == "weight_scale_inv").then_some(FP8_BLOCK));
    Ok(Some(Packing {
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
fn packed_rows(parts: &Parts<'_>, facts: &Facts) -> Result<Option<Packing>, PackedError> {
    let (Some(bits @ (2 | 4 | 8)), 32) = (facts.bits, self::bits(part(parts, "weight_packed")?)) else {
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
fn affine(parts: &Parts<'_>, facts: &Facts) -> Result<Option<Packing>, PackedError> {
    let (Some(group_size), 32) = (facts.group_size, self::bits(part(parts, "weight")?)) else {
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
    let equal = rows > 0 && (down == 1 || down == rows) && columns > 0 && across > 0 && columns.is_multiple_of(across);
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
    facts: &Facts,
) -> Result<u64, PackedError> {
    let stated = facts.group_size.filter(|&n| columns.div_ceil(n) == groups);
    let equal = (groups > 0 && columns.is_multiple_of(groups)).then(|| columns / groups);
    stated.or(equal).filter(|&n| n > 0).ok_or_else(|| shape("scales", &scales.shape, "not groups of the input"))
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

fn unreadable(parts: &Parts<'_>, facts: &Facts) -> PackedError {
    let shown = parts.iter().take(SHOWN).map(|(suffix, t)| format!("{suffix} {:?}", t.shape));
    let tensors: Vec<String> = shown.collect();
    PackedError::Unreadable {
        method: facts.method.clone().unwrap_or_else(|| "no quant_method".into()),
        tensors: tensors.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::safetensors::{Decoded, try_decode};
    use crate::formats::{Header, Limits};

    /// A golden file: made by a library (tests/fixtures/packed/make.py).
    struct Golden {
        file: &'static [u8],
        header: Header,
    }

    macro_rules! golden {
        ($name:literal) => {
            Golden::new(include_bytes!(concat!("../../tests/fixtures/packed/", $name, ".safetensors")))
        };
    }

    impl Golden {
        fn new(file: &'static [u8]) -> Self {
            match try_decode(file, file.len() as u64, &Limits::default()) {
                Ok(Decoded::Done(header)) => Self { file, header },
                other => panic!("{other:?}"),
            }
        }

        fn parts(&self) -> Parts<'_> {
            self.header
                .tensors
                .iter()
                .filter_map(|t| {
                    let rest = t.name.strip_prefix("layer")?;
                    Some((rest.strip_prefix('.').unwrap_or(rest), t))
                })
                .collect()
        }

        fn facts(&self) -> Facts {
            let config: Value = serde_json::from_str(&self.header.metadata["config"]).unwrap();
            Facts::parse(&serde_json::json!({ "quantization_config": config }))
        }

        fn bytes(&self, tensor: &TensorInfo) -> &'static [u8] {
            &self.file[tensor.bytes.start as usize..tensor.bytes.end as usize]
        }

        fn packing(&self) -> Packing {
            let parts = self.parts();
            let mut answer = recognise(&parts, &self.facts(), None).unwrap();
            if let Recognised::NeedState(suffix) = &answer {
                let state = self.bytes(parts[suffix.as_str()]);
                answer = recognise(&parts, &self.facts(), Some(state)).unwrap();
            }
            match answer {
                Recognised::Packed(packing) => *packing,
                other => panic!("{other:?}"),
            }
        }

        /// Decodes from nothing but the named ranges.
        fn decode(&self, packing: &Packing, rows: Range<u64>) -> Vec<f32> {
            let parts = self.parts();
            let ranges = packing.ranges(&rows).unwrap();
            let pieces: Vec<&[u8]> = ranges
                .iter()
                .map(|r| &self.bytes(parts[r.suffix])[r.bytes.start as usize..r.bytes.end as usize])
                .collect();
            packing.decode(rows, &pieces).unwrap()
        }

        /// Holds the whole against the library, and every smaller block against the whole.
        fn check(&self) {
            let packing = self.packing();
            let columns = packing.columns as usize;
            let all = self.decode(&packing, 0..packing.rows);
            assert_eq!(all.len(), packing.rows as usize * columns);
            let reference = self.header.tensors.iter().find(|t| t.name == "reference").unwrap();
            assert_eq!(reference.shape[1], packing.columns);
            let expected = reference.dtype.unwrap().decode(self.bytes(reference)).unwrap();
            let first: usize = self.header.metadata["first_row"].parse().unwrap();
            let tolerance: f32 = self.header.metadata["tolerance"].parse().unwrap();
            assert!(expected.iter().any(|v| *v != 0.0));
            for (i, (found, expected)) in all[first * columns..].iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() <= tolerance * expected.abs(), "{i}: {found} {expected}");
            }
            for start in 0..packing.rows {
                for end in [start + 1, start + 3].into_iter().filter(|e| *e <= packing.rows) {
                    let block = self.decode(&packing, start..end);
                    assert_eq!(block, all[start as usize * columns..end as usize * columns]);
                }
            }
        }
    }

    #[test]
    fn bitsandbytes_as_the_library() {
        for golden in [
            golden!("bnb_nf4"),
            golden!("bnb_nf4_double"),
            golden!("bnb_nf4_odd"),
            golden!("bnb_fp4"),
            golden!("bnb_fp4_double"),
            golden!("bnb_int8"),
        ] {
            golden.check();
        }
    }

    #[test]
    fn built_in_tables_are_the_stored_ones() {
        for (golden, table) in [(golden!("bnb_nf4"), NF4), (golden!("bnb_fp4"), FP4)] {
            let parts = golden.parts();
            let stored = Dtype::F32.decode(golden.bytes(parts["weight.quant_map"])).unwrap();
            assert_eq!(stored, table);
        }
    }

    #[test]
    fn gptq_as_the_libraries() {
        for golden in [
            golden!("gptq_v1_2bit"),
            golden!("gptq_v1_3bit"),
            golden!("gptq_v1_4bit"),
            golden!("gptq_v1_4bit_act"),
            golden!("gptq_v1_8bit"),
            golden!("gptq_v2_3bit"),
            golden!("gptq_v2_4bit"),
        ] {
            golden.check();
        }
    }

    #[test]
    fn awq_as_the_library() {
        golden!("awq").check();
    }

    #[test]
    fn compressed_tensors_as_the_library() {
        for golden in [
            golden!("ct_4bit_group"),
            golden!("ct_4bit_zero"),
            golden!("ct_8bit_channel"),
            golden!("ct_int8"),
            golden!("ct_fp8_tensor"),
            golden!("ct_fp8_block"),
        ] {
            golden.check();
        }
    }

    #[test]
    fn block_formats_as_transformers() {
        golden!("fp8_block").check();
        golden!("mxfp4").check();
    }

    #[test]
    fn mlx_as_the_library() {
        for golden in [golden!("mlx_3bit"), golden!("mlx_4bit"), golden!("mlx_6bit")] {
            golden.check();
        }
    }
}
