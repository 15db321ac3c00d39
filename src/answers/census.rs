//! How much of every kind of checkpoint the role table knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::json_lines::{self, JsonLinesError};
use crate::signals::roles::{self, Stack};

/// Share of the parameters in the layers that must have a role.
const HALF: f64 = 0.5;

/// What the role table knows of listed checkpoints: `dev roles --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Census {
    /// Checkpoints of the list.
    pub checkpoints: usize,
    /// How many of them have usable roles.
    pub usable: usize,
    /// Lines of the list without tensors.
    pub without_tensors: usize,
    /// Each checkpoint, in the order of the list.
    pub each: Vec<Known>,
}

/// What has a role in one checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Known {
    /// Type of the model.
    #[serde(rename = "type")]
    pub kind: String,
    /// Tensors of the checkpoint.
    pub tensors: usize,
    /// How many of them have a role.
    pub with_role: usize,
    /// Share of the parameters that has one.
    pub share: f64,
    /// What stands in front of the names of the model.
    pub prefix: String,
    /// Layers of the main stack; null where there is none.
    pub layers: Option<u16>,
    /// Share of the parameters in layers, of the best stack, that has a role.
    pub share_of_layers: f64,
    /// Prefixes of further whole models in the checkpoint.
    pub others: Vec<String>,
    /// Names of the tensors without a role, once for all that differ in numbers alone, which are `#`.
    pub without_role: Vec<String>,
    /// Whether every layer of some stack has a matrix with a role, and half of the parameters in its layers have one.
    pub usable: bool,
}

/// A line of the list.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<u64>>,
}

/// Reads a list of checkpoints, a JSON object a line: `type`, and the shapes of `tensors` by name.
pub fn census(list: &Path) -> Result<Census, JsonLinesError> {
    let mut census = Census::default();
    for listed in json_lines::read::<Listed>(list)? {
        if listed.tensors.is_empty() {
            census.without_tensors += 1;
            continue;
        }
        let known = known(listed);
        census.checkpoints += 1;
        census.usable += usize::from(known.usable);
        census.each.push(known);
    }
    Ok(census)
}

/// Parameters with a role, and all.
#[derive(Default)]
struct Tally {
    known: u64,
    all: u64,
    /// Layers, and those with a matrix that has a role.
    layers: BTreeSet<u16>,
    with_matrix: BTreeSet<u16>,
}

impl Tally {
    fn share(&self) -> f64 {
        self.known as f64 / self.all.max(1) as f64
    }

    fn is_usable(&self) -> bool {
        !self.layers.is_empty() && self.layers == self.with_matrix && self.share() >= HALF
    }
}

fn known(listed: Listed) -> Known {
    let shapes = listed.tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    let (positions, naming) = roles::survey(shapes);
    let mut whole = Tally::default();
    let mut stacks: BTreeMap<Stack, Tally> = BTreeMap::new();
    let nameless = listed.tensors.keys().zip(&positions).filter(|(_, position)| position.is_none());
    let without_role: BTreeSet<String> = nameless.map(|(name, _)| roles::without_numbers(name)).collect();
    for ((name, shape), position) in listed.tensors.iter().zip(&positions) {
        let elements = shape.iter().fold(1, |n: u64, side| n.saturating_mul(*side));
        let known = if position.is_some() { elements } else { 0 };
        whole.all = whole.all.saturating_add(elements);
        whole.known = whole.known.saturating_add(known);
        let Some((stack, layer)) = naming.layer(name) else { continue };
        let tally = stacks.entry(stack).or_default();
        tally.all = tally.all.saturating_add(elements);
        tally.known = tally.known.saturating_add(known);
        tally.layers.insert(layer);
        if position.is_some_and(|p| p.role.is_matrix()) {
            tally.with_matrix.insert(layer);
        }
    }
    Known {
        tensors: listed.tensors.len(),
        with_role: positions.iter().flatten().count(),
        share: whole.share(),
        prefix: naming.prefix().to_owned(),
        layers: naming.depth(),
        share_of_layers: stacks.values().map(Tally::share).fold(0.0, f64::max),
        others: naming.others().iter().map(|other| other.prefix.clone()).collect(),
        without_role: without_role.into_iter().collect(),
        usable: stacks.values().any(Tally::is_usable),
        kind: listed.kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tensors: &[(&str, &[u64])]) -> Listed {
        let tensors = tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
        Listed { kind: "any".into(), tensors: tensors.collect() }
    }

    #[test]
    fn half_of_the_layers_is_usable() {
        let of = |mixer: u64| {
            known(listed(&[
                ("x.embed_tokens.weight", &[100, 8]),
                ("x.layers.0.self_attn.q_proj.weight", &[8, 8]),
                ("x.layers.0.self_attn.o_proj.weight", &[8, 8]),
                ("x.layers.0.mixer.other.weight", &[mixer, 8]),
            ]))
        };
        let half = of(16);
        assert_eq!(half.without_role, ["x.layers.#.mixer.other.weight"]);
        assert_eq!((half.prefix.as_str(), half.layers, half.with_role), ("x.", Some(1), 3));
        assert_eq!((half.share_of_layers, half.usable), (0.5, true));
        assert!(!of(17).usable);
    }

    #[test]
    fn a_layer_of_which_nothing_is_known_is_not_usable() {
        let known = known(listed(&[
            ("embed_tokens.weight", &[100, 8]),
            ("layers.0.self_attn.q_proj.weight", &[8, 8]),
            ("layers.0.self_attn.o_proj.weight", &[8, 8]),
            ("layers.1.mixer.other.weight", &[1, 8]),
        ]));
        assert_eq!((known.layers, known.usable), (Some(2), false));
        assert!(known.share_of_layers > 0.9);
    }
}
