//! Nodes, and which weight each of them uses.

use std::collections::HashMap;

use super::OnnxError;
use super::names::{Names, is_made_up};
use super::stored::{Info, Stored, Used};
use crate::formats::Limits;

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
    fn weight(&self) -> Option<(Op, usize)> {
        Some(match self.op.as_str() {
            "MatMul" | "FusedMatMul" => (Op::Columns, 1),
            "Gemm" if self.ints.trans_b => (Op::Rows, 1),
            "Gemm" => (Op::Columns, 1),
            "MatMulInteger" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat" => (Op::Columns, 1),
            "Conv" => (Op::Rows, 1),
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

/// The nodes and weights of all graphs of a file.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Of each name its first use.
    uses: HashMap<String, Use>,
    initializers: Vec<Info>,
    /// Names that an `Identity` gives, and of what.
    aliases: Vec<(String, String)>,
}

impl Graph {
    /// Takes a node.
    pub(super) fn node(&mut self, node: Node, limits: &Limits) -> Result<(), OnnxError> {
        if node.op == "Constant" {
            let Node { output, value, .. } = node;
            // Shapes and axes are constants, too.
            return match value.filter(|value| value.shape.len() > 1) {
                Some(mut value) => {
                    value.name = output;
                    self.initializer(value, limits)
                }
                None => Ok(()),
            };
        }
        let Some((op, place)) = node.weight() else { return Ok(()) };
        let Some(input) = node.inputs.get(place) else { return Ok(()) };
        let count = (self.uses.len() + self.aliases.len()) as u64;
        if count >= limits.tensors as u64 {
            let (what, found, limit) = ("nodes that use a weight", count + 1, limits.tensors as u64);
            return Err(OnnxError::TooMany { what, found, limit });
        }
        if op == Op::Alias {
            self.aliases.push((node.output, input.clone()));
            return Ok(());
        }
        let scope = scope(&node);
        let input = input.clone();
        let beside = node.inputs.into_iter().skip(place + 1).collect();
        let found = Use { op, scope, output: node.output, beside, ints: node.ints };
        self.uses.entry(input).or_insert(found);
        Ok(())
    }

    /// Takes a weight.
    pub(super) fn initializer(&mut self, info: Info, limits: &Limits) -> Result<(), OnnxError> {
        let found = self.initializers.len() as u64 + 1;
        if found > limits.tensors as u64 {
            return Err(OnnxError::TooMany { what: "tensors", found, limit: limits.tensors as u64 });
        }
        self.initializers.push(info);
        Ok(())
    }

    /// The weights, under the names that they have in the model.
    pub(super) fn weights(self) -> Result<Vec<Stored>, OnnxError> {
        let Self { uses, initializers, aliases } = self;
        let names = Names::new(&initializers, &uses);
        let infos: HashMap<&str, &Info> =
            initializers.iter().map(|info| (info.name.as_str(), info)).collect();
        let mut weights = Vec::new();
        for info in &initializers {
            let used = names.used(&info.name);
            let used = used.map(|(own, last)| Used { own, last, is_turned: names.is_turned(&info.name) });
            weights.extend(Stored::new(info, names.of(&info.name), used, &infos)?);
        }
        // Of gains that were equal the exporter keeps one.
        let mut again = Vec::new();
        for (alias, of) in &aliases {
            let info = infos.get(of.as_str()).filter(|info| info.shape.len() == 1 && !is_made_up(alias));
            if let Some(info) = info {
                again.extend(Stored::new(info, alias.clone(), None, &infos)?);
            }
        }
        weights.extend(again);
        Ok(weights)
    }
}

/// The name of the module that a node is in: as the node says it, or as the exporter made a name for the node of it,
/// `/model/layers.0/mlp/up_proj/MatMul`.
fn scope(node: &Node) -> Option<String> {
    if let Some(namespace) = &node.namespace {
        // `: class/encoder: class/encoder.layer.0: class/linear: function`
        let (modules, _) = namespace.rsplit_once('/')?;
        let last = modules.rsplit('/').next()?;
        return last.split(": ").next().filter(|name| !name.is_empty()).map(str::to_owned);
    }
    let (modules, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
    Some(modules.replace('/', ".")).filter(|name| !name.is_empty())
}
