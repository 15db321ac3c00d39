//! What the converter of llama.cpp changes of a model, by its architecture: rows of queries and keys, gains, names.

use std::borrow::Cow;
use std::sync::Arc;

use super::encoding::{Alternating, OneMore};
use super::values::Values;
use crate::formats::{Encoding, ModelConfig, Positions};

/// Architectures whose queries and keys are stored with the halves of each head alternating: those that are rotated in
/// pairs of neighbours (`LLAMA_ROPE_TYPE_NORM`), and not elsewhere.
const ALTERNATING: [&str; 20] = [
    "arcee",
    "arctic",
    "baichuan",
    "bailingmoe",
    "chameleon",
    "deci",
    "deepseek",
    "granite",
    "granitehybrid",
    "granitemoe",
    "internlm2",
    "llada",
    "llama",
    "llama-embed",
    "minicpm",
    "mistral3",
    "nanbeige",
    "olmo",
    "smollm3",
    "xverse",
];

/// Architectures whose converter adds 1 to the gains of norms, because their code does when it runs.
const ONE_MORE: [&str; 9] = [
    "gemma",
    "gemma2",
    "gemma3",
    "gemma-embedding",
    "minimax-m3",
    "nemotron",
    "qwen35",
    "qwen35moe",
    "qwen3next",
];

/// Whether the converter lets the halves of each head of queries and keys alternate.
pub fn alternates(architecture: &str) -> bool {
    ALTERNATING.contains(&architecture)
}

/// Whether the converter adds 1 to the gains of norms.
pub fn adds_one(architecture: &str) -> bool {
    ONE_MORE.contains(&architecture)
}

/// Architectures with a norm in front of the MLP and one behind the attention, which the others call differently.
const FOUR_NORMS: [&str; 6] = ["afmoe", "gemma-embedding", "gemma2", "gemma3", "gemma3n", "gemma4"];

/// Architectures and tensors whose heads are stored in another order than the published model's, or in one that is not
/// known.
const REORDERED: [(&[&str], &[&str]); 3] = [
    (&["qwen35", "qwen35moe", "qwen3next"], &["attn_qkv", "ssm_in", "ssm_out"]),
    (&["maincoder", "nemotron_h", "nemotron_h_moe"], &["attn_q", "attn_k"]),
    (&["plamo"], &["attn_q", "attn_output"]),
];

/// Architectures that have another name as a type of model, beside those that only differ in a hyphen.
const MODEL_TYPES: [(&str, &str); 17] = [
    ("command-r", "cohere"),
    ("ernie4_5-moe", "ernie4_5_moe"),
    ("gemma3", "gemma3_text"),
    ("glm4moe", "glm4_moe"),
    ("gptneox", "gpt_neox"),
    ("granitehybrid", "granitemoehybrid"),
    ("hunyuan-dense", "hunyuan_v1_dense"),
    ("hunyuan-moe", "hunyuan_v1_moe"),
    ("modern-bert", "modernbert"),
    ("phi2", "phi"),
    ("qwen2moe", "qwen2_moe"),
    ("qwen2vl", "qwen2_vl"),
    ("qwen3moe", "qwen3_moe"),
    ("qwen3next", "qwen3_next"),
    ("qwen35", "qwen3_5"),
    ("starcoder", "gpt_bigcode"),
    ("t5encoder", "t5"),
];

/// An architecture that stands for several types of model.
const AMBIGUOUS: [&str; 1] = ["deepseek2"];

/// A model as its metadata describe it.
#[derive(Debug)]
pub(super) struct Architecture<'a> {
    name: &'a str,
    values: &'a Values,
    has_second_norm: bool,
}

impl<'a> Architecture<'a> {
    /// Of a model with these tensors.
    pub(super) fn new(values: &'a Values, mut names: impl Iterator<Item = &'a str>) -> Self {
        let name = values.stored_text("general.architecture").unwrap_or_default();
        Self { name, values, has_second_norm: name == "falcon" && names.any(|n| n.ends_with(SECOND_NORM)) }
    }

    fn is_in(&self, all: &[&str]) -> bool {
        all.contains(&self.name)
    }

    /// The name of a tensor, in which one name stands for one thing.
    pub(super) fn plain_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let renamed = |end: &str, to: &str| Some(Cow::Owned(format!("{}{to}", name.strip_suffix(end)?)));
        let found = if self.is_in(&FOUR_NORMS) {
            renamed(".ffn_norm.weight", ".pre_ffw_norm.weight")
        } else if self.has_second_norm {
            // Falcon's norm of the attention is the second one where there are two.
            renamed(SECOND_NORM, ".attn_norm.weight")
                .or_else(|| renamed(".attn_norm.weight", ".ffn_norm.weight"))
        } else {
            None
        };
        found.unwrap_or(Cow::Borrowed(name))
    }

    /// How a tensor of so many rows is read as the published model has it; why it is not in the words of a report.
    pub(super) fn undo(
        &self,
        name: &str,
        rows: u64,
        stored: Arc<dyn Encoding>,
    ) -> Result<Arc<dyn Encoding>, String> {
        let Some(weight) = name.strip_suffix(".weight") else { return Ok(stored) };
        let is_changed = weight.ends_with("norm") || weight.ends_with("attn_q") || weight.ends_with("attn_k");
        if self.name.is_empty() && is_changed {
            // Of shards the first one says it.
            return Err("the files do not say of which architecture they are".into());
        }
        if adds_one(self.name) && weight.ends_with("norm") && !weight.ends_with("ssm_norm") {
            return Ok(Arc::new(OneMore(stored)));
        }
        let Some((layer, inside)) = in_layer(weight) else { return Ok(stored) };
        if REORDERED.iter().any(|(names, tensors)| self.is_in(names) && tensors.contains(&inside)) {
            return Err("its heads are in another order than those of the published model".into());
        }
        if !alternates(self.name) || !matches!(inside, "attn_q" | "attn_k") {
            return Ok(stored);
        }
        let own = |key: &str| self.values.of_layer(&format!("{}.attention.{key}", self.name), layer);
        let has_own = self.values.has(&format!("{}.attention.head_count_kv", self.name));
        let heads = own(if inside == "attn_k" && has_own { "head_count_kv" } else { "head_count" });
        let divides = |n: &u64| *n > 0 && n.checked_mul(2).is_some_and(|two| rows.is_multiple_of(two));
        match heads.filter(divides).map(|n| rows / n) {
            Some(head) if head > 0 => Ok(Arc::new(Alternating { stored, head })),
            _ => Err("its heads are not known, and so neither is the order of its rows".into()),
        }
    }

    /// What config.json would say.
    pub(super) fn config(&self) -> ModelConfig {
        let key = |key: &str| format!("{}.{key}", self.name);
        let number = |of: &str| self.values.largest(&key(of)).filter(|n| *n > 0);
        let rope_theta = self.values.real(&key("rope.freq_base"));
        let is_rotary = rope_theta.is_some() || number("rope.dimension_count").is_some();
        ModelConfig {
            model_type: self.model_type(),
            hidden_size: number("embedding_length"),
            layers: number("block_count"),
            decoder_layers: number("decoder_block_count"),
            heads: number("attention.head_count"),
            kv_heads: number("attention.head_count_kv"),
            head_dim: number("attention.key_length"),
            intermediate_size: number("feed_forward_length"),
            experts: number("expert_count"),
            experts_per_token: number("expert_used_count"),
            vocab_size: number("vocab_size"),
            max_positions: number("context_length"),
            positions: is_rotary.then_some(Positions::Rotary),
            rope_theta,
            norm_eps: self
                .values
                .real(&key("attention.layer_norm_rms_epsilon"))
                .or_else(|| self.values.real(&key("attention.layer_norm_epsilon"))),
            ..ModelConfig::default()
        }
    }

    fn model_type(&self) -> Option<String> {
        if self.name.is_empty() || self.is_in(&AMBIGUOUS) {
            return None;
        }
        if self.name == "llama" && self.values.number("llama.expert_count").is_some_and(|n| n > 0) {
            return Some("mixtral".to_owned());
        }
        let renamed = MODEL_TYPES.iter().find(|(name, _)| *name == self.name).map(|(_, to)| (*to).to_owned());
        renamed.or_else(|| self.values.text("general.architecture").map(|name| name.replace('-', "_")))
    }
}

/// How the name of Falcon's norm of the attention ends where the MLP has another.
const SECOND_NORM: &str = ".attn_norm_2.weight";

/// The layer that a tensor of the main stack is in, and what it is called there.
fn in_layer(weight: &str) -> Option<(usize, &str)> {
    let (layer, inside) = weight.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, inside))
}

/// Whether it was said what the model is and how its heads lie, so that what is behind need not be read.
pub(super) fn is_described(values: &Values) -> bool {
    let name = values.stored_text("general.architecture").unwrap_or_default();
    let says = |key: &str| values.has(&format!("{name}.{key}"));
    // Of models whose keys have as many heads as their queries the converter does not write how many.
    let has_key_heads = !alternates(name) || says("attention.head_count_kv");
    let usual = ["block_count", "embedding_length", "attention.head_count", "feed_forward_length"];
    has_key_heads && usual.into_iter().all(says)
}
