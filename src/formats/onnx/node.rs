//! A node, and what it does with a weight.

use super::info::Info;

/// A node, as far as weights need it.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) op: String,
    pub(super) name: String,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    /// The modules that it is in, as the exporter of torch 2.5 and later says it.
    pub(super) namespace: Option<String>,
    pub(super) ints: Ints,
    /// The value of a constant.
    pub(super) value: Option<Info>,
}

/// Attributes that say how a weight lies in its tensor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ints {
    pub(super) trans_b: bool,
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) bits: u64,
    pub(super) block: u64,
}

impl Node {
    /// An attribute that is a number.
    pub(super) fn int(&mut self, name: &str, value: i64) {
        let length = u64::try_from(value).unwrap_or(0);
        match name {
            "transB" => self.ints.trans_b = value != 0,
            "N" => self.ints.rows = length,
            "K" => self.ints.columns = length,
            "bits" => self.ints.bits = length,
            "block_size" => self.ints.block = length,
            _ => {}
        }
    }

    /// Which of its inputs is a weight, and what it does with it.
    pub(super) fn weight(&self) -> Option<(Op, usize)> {
        Some(match self.op.as_str() {
            "Conv" => (Op::Rows, 1),
            "Gemm" if self.ints.trans_b => (Op::Rows, 1),
            "MatMul"
            | "FusedMatMul"
            | "Gemm"
            | "MatMulInteger"
            | "DynamicQuantizeMatMul"
            | "MatMulIntegerToFloat" => (Op::Columns, 1),
            "Gather" => (Op::Rows, 0),
            "MatMulNBits" => (Op::Blocks, 1),
            "Identity" => (Op::Alias, 0),
            "Cast" | "DequantizeLinear" => (Op::Passed, 0),
            _ => return None,
        })
    }
}

/// What a node does with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Multiplies by it, as it lies there: `[in, out]`.
    Columns,
    /// Takes or multiplies by its rows: `[out, in]`.
    Rows,
    /// The same, of rows in blocks of codes.
    Blocks,
    /// Gives it another name.
    Alias,
    /// Hands it on in another type.
    Passed,
}

/// How a weight is used.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) op: Op,
    /// The name of the module that it is in.
    pub(super) scope: Option<String>,
    pub(super) output: String,
    /// What else goes in: scales and zero points.
    pub(super) beside: Vec<String>,
    pub(super) ints: Ints,
}

/// The name of the module that a node is in: as the node says it, or as the exporter made a name for the node of it,
/// `/model/layers.0/mlp/up_proj/MatMul`.
pub(super) fn scope(node: &Node) -> Option<String> {
    if let Some(namespace) = &node.namespace {
        // `: class/encoder: class/encoder.layer.0: class/linear: function`
        let (modules, _) = namespace.rsplit_once('/')?;
        let last = modules.rsplit('/').next()?;
        return last.split(": ").next().filter(|name| !name.is_empty()).map(str::to_owned);
    }
    let (modules, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
    Some(modules.replace('/', ".")).filter(|name| !name.is_empty())
}
