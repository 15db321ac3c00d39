//! What a weight is called in the model. Most keep the names of its parameters. Exporters fold a transposition into the
//! weights that are multiplied by, and give the result a name of their own (`onnx::MatMul_404`, `val_97`): then the module
//! of the node that uses it tells the name, and the weight lies there turned. Nothing is guessed: where no module is named,
//! or two weights would have one name, each has the name that is stored.

use std::collections::{HashMap, HashSet};

use super::info::Info;
use super::node::{Op, Use};

/// Names that exporters make up, before a number.
const MADE_UP: [&str; 6] = ["", "val", "t", "transpose", "permute", "initializer"];
/// What quantisers add to the name of a weight.
const QUANTISED: [&str; 3] = ["_quantized", "_quant", "_int8"];
/// Nodes passed over on the way from a weight to what multiplies by it.
const MOST_PASSED: usize = 4;

/// The names of all weights of a file.
pub(super) struct Names<'g> {
    uses: &'g HashMap<String, Use>,
    /// By the names that are stored.
    names: HashMap<&'g str, String>,
}

impl<'g> Names<'g> {
    /// For these weights with these uses.
    pub(super) fn new(weights: &'g [Info], uses: &'g HashMap<String, Use>) -> Self {
        let mut all = Self { uses, names: HashMap::new() };
        let stored: HashSet<&str> = weights.iter().map(|info| info.name.as_str()).collect();
        let mut owners: HashMap<String, Option<&'g str>> = HashMap::new();
        for info in weights {
            let Some(name) = all.told(&info.name) else { continue };
            let is_taken = stored.contains(name.as_str());
            let owner = owners.entry(name).or_insert(if is_taken { None } else { Some(&info.name) });
            if *owner != Some(&info.name) {
                *owner = None;
            }
        }
        all.names = owners.into_iter().filter_map(|(name, owner)| Some((owner?, name))).collect();
        all
    }

    /// The name in the model.
    pub(super) fn of(&self, stored: &str) -> String {
        self.names.get(stored).map_or_else(|| stored.to_owned(), Clone::clone)
    }

    /// Whether what is multiplied by lies turned: a parameter that has kept its name has kept its order, as those of GPT-2,
    /// which are `[in, out]` in the model, too.
    pub(super) fn is_turned(&self, stored: &str) -> bool {
        let plain = without_quantised(stored);
        self.names.contains_key(stored) && (is_made_up(plain) || plain.contains(".MatMul"))
    }

    /// How a weight is used in the end, and what its own use is.
    pub(super) fn used(&self, stored: &str) -> Option<(&'g Use, &'g Use)> {
        let own = self.uses.get(stored)?;
        let mut last = own;
        for _ in 0..MOST_PASSED {
            if last.op != Op::Passed {
                break;
            }
            last = self.uses.get(&last.output)?;
        }
        Some((own, last))
    }

    /// The name that the stored one and the use tell.
    fn told(&self, stored: &str) -> Option<String> {
        let plain = without_quantised(stored);
        if is_made_up(plain) {
            let (_, used) = self.used(stored)?;
            return used.scope.as_ref().map(|scope| format!("{scope}.weight"));
        }
        // `model.layers.0.attn.q_proj.MatMul.weight`, as the builder of onnxruntime-genai has it.
        let named = of_builder(plain);
        (named != stored).then_some(named)
    }
}

/// Whether an exporter has made this name up.
pub(super) fn is_made_up(name: &str) -> bool {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let has_number = plain.len() < name.len();
    let plain = plain.trim_matches('_');
    name.starts_with("onnx::") || name.starts_with('/') || has_number && MADE_UP.contains(&plain)
}

/// A name without what quantisers add: `_quantized`, and `_Q4` or `_Q4G32`.
fn without_quantised(name: &str) -> &str {
    if let Some(plain) = QUANTISED.iter().find_map(|end| name.strip_suffix(end)) {
        return plain;
    }
    match name.rsplit_once("_Q") {
        Some((plain, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => plain,
        _ => name,
    }
}

/// Parts of names that the builder of onnxruntime-genai adds: `attn.q_proj.MatMul.weight`, `attn.q_norm.layernorm.weight`.
const OF_BUILDER: [&str; 4] = ["MatMul", "MatMulNBits", "Add", "layernorm"];

/// A name of the builder of onnxruntime-genai as transformers has it.
fn of_builder(name: &str) -> String {
    let inner = name.strip_prefix("model.layers.");
    if inner.and_then(|inner| inner.split('.').nth(1)) == Some("final_norm_layernorm") {
        return "model.norm.weight".to_owned();
    }
    if !name.split('.').any(|part| OF_BUILDER.contains(&part)) {
        return name.to_owned();
    }
    let plain = |part| match part {
        "attn" if inner.is_some() => "self_attn",
        "qweight" => "weight",
        part => part,
    };
    let parts = name.split('.').filter(|part| !OF_BUILDER.contains(part)).map(plain);
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_exporters_make_up() {
        for name in
            ["onnx::MatMul_404", "val_97", "1234", "_val_3", "transpose_12", "/layer/Constant_output_0"]
        {
            assert!(is_made_up(name), "{name}");
        }
        for name in ["encoder.layer.0.output.dense.weight", "val", "weight_1", "h.0.attn.c_attn.weight", ""] {
            assert!(!is_made_up(name), "{name}");
        }
    }

    #[test]
    fn what_quantisers_add() {
        for (name, plain) in [
            ("onnx::MatMul_404_quantized", "onnx::MatMul_404"),
            ("lm_head.MatMul.weight_Q4", "lm_head.MatMul.weight"),
            ("x.weight_Q4G32", "x.weight"),
            ("a_Q.weight", "a_Q.weight"),
        ] {
            assert_eq!(without_quantised(name), plain);
        }
    }

    #[test]
    fn names_of_the_builder() {
        for (name, expected) in [
            ("model.layers.0.attn.q_proj.MatMul.weight", "model.layers.0.self_attn.q_proj.weight"),
            ("model.layers.3.attn.q_norm.layernorm.weight", "model.layers.3.self_attn.q_norm.weight"),
            ("model.layers.28.final_norm_layernorm.weight", "model.norm.weight"),
            ("lm_head.MatMul.weight", "lm_head.weight"),
            ("model.layers.0.mlp.up_proj.MatMulNBits.qweight", "model.layers.0.mlp.up_proj.weight"),
            ("model.embed_tokens.weight", "model.embed_tokens.weight"),
            ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ] {
            assert_eq!(of_builder(name), expected);
        }
    }
}
