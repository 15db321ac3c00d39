//! `config.json`: the few facts that planning and comparing need.

use serde_json::{Map, Value};

/// What a checkpoint's config.json says of its shape. Self-reported: shapes that matter are taken from the
/// tensors; this is metadata evidence and a help in planning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelConfig {
    /// `model_type`, e.g. `llama`.
    pub model_type: Option<String>,
    /// First of `architectures`, e.g. `LlamaForCausalLM`.
    pub architecture: Option<String>,
    /// Width of the residual stream.
    pub hidden_size: Option<u64>,
    /// Number of layers of the main stack.
    pub layers: Option<u64>,
    /// Attention heads.
    pub heads: Option<u64>,
    /// Key and value heads, where they differ from `heads`.
    pub kv_heads: Option<u64>,
    /// Inner width of the MLP.
    pub intermediate_size: Option<u64>,
    /// Tokens in the vocabulary.
    pub vocab_size: Option<u64>,
    /// `quantization_config.quant_method`, where there is one.
    pub quantization: Option<String>,
}

impl ModelConfig {
    /// Parses config.json. Unknown or wrongly typed fields are absent; only a file that is no JSON object
    /// is an error.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let top: Map<String, Value> = serde_json::from_slice(json)?;
        // Vision-language wrappers keep the language model's shape one level down.
        let nested = ["text_config", "llm_config", "language_config"]
            .iter()
            .find_map(|key| top.get(*key).and_then(Value::as_object));
        let number = |keys: &[&str]| {
            keys.iter()
                .find_map(|key| top.get(*key).or_else(|| nested.and_then(|n| n.get(*key))))
                .and_then(Value::as_u64)
        };
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).map(|s| s.chars().take(200).collect());
        Ok(Self {
            model_type: text(top.get("model_type")),
            architecture: text(top.get("architectures").and_then(|a| a.get(0))),
            hidden_size: number(&["hidden_size", "n_embd", "d_model", "dim"]),
            layers: number(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"]),
            heads: number(&["num_attention_heads", "n_head", "num_heads", "n_heads"]),
            kv_heads: number(&["num_key_value_heads"]),
            intermediate_size: number(&["intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim"]),
            vocab_size: number(&["vocab_size"]),
            quantization: text(top.get("quantization_config").and_then(|q| q.get("quant_method"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings_and_nested_configs() {
        let gpt2 =
            ModelConfig::parse(br#"{"model_type":"gpt2","n_embd":96,"n_layer":6,"n_head":4}"#).unwrap();
        assert_eq!((gpt2.hidden_size, gpt2.layers, gpt2.heads), (Some(96), Some(6), Some(4)));
        let vlm = ModelConfig::parse(br#"{"model_type":"llava","text_config":{"hidden_size":64}}"#).unwrap();
        assert_eq!((vlm.model_type.as_deref(), vlm.hidden_size), (Some("llava"), Some(64)));
    }

    #[test]
    fn wrong_types_are_absent_not_fatal() {
        let odd =
            ModelConfig::parse(br#"{"hidden_size":"big","architectures":7,"model_type":null}"#).unwrap();
        assert_eq!(odd, ModelConfig::default());
        assert!(ModelConfig::parse(b"[]").is_err());
    }
}
