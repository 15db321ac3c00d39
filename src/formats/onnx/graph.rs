//! The graph: which node uses which weight.

use std::collections::HashMap;

use super::OnnxError;
use super::info::Info;
use super::names::{Names, is_made_up};
use super::node::{Node, Op, Use, scope};
use super::stored::{Stored, Used};
use crate::formats::Limits;

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
