//! What config.json says of packed weights.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::formats::config::LANGUAGE_PARTS;

/// What config.json says of the quantisation. Shapes are taken from the tensors; this decides only what
/// they leave open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantConfig {
    /// `quant_method`, or the newer `method`.
    pub method: Option<String>,
    /// Version of the layout: `checkpoint_format`, the newer `format`, AWQ's `version`, BitNet's `linear_class`, or
    /// AutoRound's `packing_format` (before 0.5 `backend`).
    pub version: Option<String>,
    /// Bits of a code.
    pub bits: Option<u64>,
    /// Columns of a group; absent where it is -1, the whole input.
    pub group_size: Option<u64>,
    /// Rows and columns of a scale's block.
    pub block: Option<[u64; 2]>,
    /// What MLX says of single layers, by their names.
    pub layers: BTreeMap<String, Grid>,
}

/// Bits of a code and columns of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grid {
    /// Bits of a code.
    pub bits: u64,
    /// Columns of a group.
    pub group_size: u64,
}

impl QuantConfig {
    /// Takes it from a parsed config.json. Unknown or wrongly typed fields are absent, as are
    /// numbers in which the groups of a compressed-tensors config differ.
    pub fn parse<'c>(config: &'c Value) -> Self {
        let of = |config: &'c Value| {
            ["quantization_config", "compression_config", "quantization"]
                .iter()
                .find_map(|key| config.get(*key))
        };
        // Models of several parts have it beside the rest of the language model's.
        let nested = || LANGUAGE_PARTS.iter().find_map(|part| of(config.get(*part)?));
        let top = of(config).or_else(nested).unwrap_or(&Value::Null);
        // MLX's own; beside it may be what the model before it was packed with.
        let numbers = config.get("quantization").filter(|own| own.get("group_size").is_some()).unwrap_or(top);
        let mut schemes: Vec<&Value> = numbers
            .get("config_groups")
            .and_then(Value::as_object)
            .map(|groups| groups.values().filter_map(|g| g.get("weights")).collect())
            .unwrap_or_default();
        if schemes.is_empty() {
            schemes.push(numbers);
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
        let bits = agreed(&["bits", "num_bits"]).and_then(Value::as_u64);
        let group_size = agreed(&["group_size"]).and_then(Value::as_u64).filter(|&n| n > 0);
        let grid = |layer: &Value| {
            let number = |key| layer.get(key).and_then(Value::as_u64);
            let (stated, size) = (number("bits"), number("group_size"));
            let known = stated.is_some() || size.is_some();
            known.then_some(Grid { bits: stated.or(bits)?, group_size: size.or(group_size)? })
        };
        let of_layers = numbers.as_object().into_iter().flatten();
        let mut found = Self {
            method: text(&["quant_method", "method"]),
            version: text(&["checkpoint_format", "format", "version", "linear_class"]),
            bits,
            group_size,
            block: block.filter(|b| !b.contains(&0)),
            layers: of_layers.filter_map(|(name, layer)| Some((name.clone(), grid(layer)?))).collect(),
        };
        if found.is_auto_round() {
            found.version = text(&["packing_format", "backend"]);
        }
        found
    }

    /// Whether AutoRound has written it, which stores in the layouts of others.
    pub fn is_auto_round(&self) -> bool {
        self.method.as_deref().is_some_and(|method| method.replace('_', "-").ends_with("auto-round"))
    }

    /// Bits and group size of all layers of which nothing else is said.
    pub fn grid(&self) -> Option<Grid> {
        Some(Grid { bits: self.bits?, group_size: self.group_size? })
    }

    /// What is said of this layer alone. The names in config.json may begin further inside than those of the tensors.
    pub fn layer(&self, name: &str) -> Option<Grid> {
        let inside = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        std::iter::once(name).chain(inside).find_map(|name| self.layers.get(name).copied())
    }
}
