//! The graph: which node uses which weight.

use std::collections::HashMap;

use super::OnnxError;
use super::info::Info;
use super::names::{Names, is_made_up};
use super::node::{Node, Op, Use, scope};
use super::stored::{Stored, Used};
use crate::formats::Limits;

/// Most weights of a file, and most nodes that use one: in a message they take so few bytes that the bound of a header is
/// none for the memory that they take here.
const MOST_WEIGHTS: usize = 65_536;

fn at_most(what: &'static str, found: usize, limits: &Limits) -> Result<(), OnnxError> {
    let limit = limits.tensors.min(MOST_WEIGHTS);
    if found > limit {
        return Err(OnnxError::TooMany { what, found: found as u64, limit: limit as u64 });
    }
    Ok(())
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
        at_most("nodes that use a weight", self.uses.len() + self.aliases.len() + 1, limits)?;
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
        at_most("tensors", self.initializers.len() + 1, limits)?;
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
            weights.extend(Stored::new(info, &names.of(&info.name), used, &infos)?);
        }
        // Of gains that were equal the exporter keeps one.
        let mut again = Vec::new();
        for (alias, of) in &aliases {
            let info = infos.get(of.as_str()).filter(|info| info.shape.len() == 1 && !is_made_up(alias));
            if let Some(info) = info {
                again.extend(Stored::new(info, alias, None, &infos)?);
            }
        }
        weights.extend(again);
        Ok(weights)
    }
}
