//! Weights of quantised linear layers: recognised from the header, read by rows of the logical matrix
//! `W [rows, columns]` (= `[out, in]`), decoded to `f32`.
//!
//! | layout | tensors of a layer | read for a block of rows |
//! |---|---|---|
//! | bitsandbytes NF4, FP4 | `weight` (nibbles, flat, high first), `weight.absmax`, `weight.quant_state.*`; with double quantisation `weight.nested_*` | these rows, their blocks' scales, once the state |
//! | bitsandbytes int8 | `weight` I8, `SCB`, `weight_format` | these rows |
//! | GPTQ, AutoRound | `qweight [in*bits/32, out]`, `qzeros [groups, out*bits/32]`, `scales [groups, out]`, `g_idx [in]` | everything |
//! | AWQ (GEMM), AutoRound | `qweight [in, out/8]`, `qzeros [groups, out/8]`, `scales [groups, out]` | everything |
//! | compressed-tensors, packed | `weight_packed [out, in*bits/32]`, `weight_scale`, `weight_zero_point [out*bits/32, groups]`, `weight_g_idx`, `weight_shape` | these rows, once the shape where bits are not stated |
//! | int8, FP8 with scales | `weight`, `weight_scale` or `weight_scale_inv`: one, one a row, or one a block; `weight_zero_point` | these rows |
//! | quanto, 8 bits | `weight._data`, `weight._scale` | these rows |
//! | quanto, 2 and 4 bits | `weight._data._data`, runs of the grouped matrix in a byte, `weight._scale`, `weight._shift`; the shape is not stored | these rows |
//! | torchao int8, FP8, int4 | `_weight_qdata`, `_weight_scale`, `_weight_zero_point`, before 0.15 `weight:qdata` ... | these rows; of int4 all scales |
//! | MLX | `weight` U32 `[.., out, in*bits/32]`, `scales` and `biases` `[.., out, groups]`, or `scales` U8 alone | these rows |
//! | MXFP4 (gpt-oss) | `_blocks` U8 `[.., out, in/32, 16]`, `_scales` U8 `[.., out, in/32]` | these rows |
//! | NVFP4, MXFP4 | `weight` or `weight_packed` U8 `[out, in/2]`, `weight_scale`, and of NVFP4 `weight_scale_2` (multiplied) or `weight_global_scale` (divides) | these rows |
//! | HQQ | `W_q`, runs of the grouped matrix in a byte (3 bits: in 32), `scale`, `zero`, `shape` | these rows, once the shape |
//! | BitNet | `weight` U8 `[out/4, in]`, quarters of the rows in a byte, `weight_scale` | these rows |
//!
//! Every layout is a table of at most 256 values, an address for each code, and per group a scale and a
//! zero point: `w = (table[code] - zero) * scale + bias`. GPTQ and AWQ pack along the input, so that a row
//! of `W` lies strided over the whole tensor; [`Packing::bytes_needed`] tells what that costs.
//!
//! The tensors decide the layout; config.json decides what they leave open: GPTQ's zero points, bits and group size of
//! MLX where they agree with the other tensors (`grids`). Whatever else is found (EXL2, EXL3, AQLM, VPTQ, EETQ, Marlin,
//! AWQ GEMV, torchao for kernels, ...) is refused: by the name that its tensors tell, or that of
//! config.json.

mod config;
mod grids;
mod layouts;
mod named;
mod packing;
mod stored;

use std::collections::BTreeMap;

pub use self::config::{Grid, QuantConfig};
pub use self::layouts::{MAX_STATE, Recognised, recognise};
pub use self::packing::{FlatPacking, Packing};
pub use self::stored::{States, plain_name, weights};
use super::TensorInfo;

/// The tensors of one layer by suffix: what follows the layer's name and a dot (`weight.absmax`), or, for
/// MXFP4, what follows the parameter's name (`_blocks`).
pub type Parts<'a> = BTreeMap<&'a str, &'a TensorInfo>;

/// Why packed weights are not read.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// A layout that is known by the names of its tensors, and not decoded.
    #[error("packed as {method}, which is not read")]
    Named {
        /// Its name.
        method: &'static str,
    },
    /// A layout that is not known.
    #[error("packed as {method} ({tensors}), which is not read")]
    Unreadable {
        /// What config.json names.
        method: String,
        /// Suffixes of the layer's tensors.
        tensors: String,
    },
    /// Bits and group size for which neither config.json nor the rest of the checkpoint decides.
    #[error("packed with bits and a group size that are not known: {choices}")]
    Open {
        /// What fits the tensors.
        choices: String,
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

#[cfg(test)]
mod tests;
