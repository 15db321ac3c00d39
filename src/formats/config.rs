//! `config.json`: the facts that planning, screening and comparing need.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json::{self, JsonError};
use super::text::printable;

/// Where models of several parts keep the config of their language model.
pub(super) const LANGUAGE_PARTS: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// What a checkpoint's config.json says of its shape. Self-reported: shapes that matter are taken from the
/// tensors; this is metadata evidence and a help in planning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// `model_type`, e.g. `llama`.
    pub model_type: Option<String>,
    /// First of `architectures`, e.g. `LlamaForCausalLM`.
    pub architecture: Option<String>,
    /// Width of the residual stream.
    pub hidden_size: Option<u64>,
    /// Number of layers of the main stack.
    pub layers: Option<u64>,
    /// Layers of the encoder, where there is another stack.
    pub encoder_layers: Option<u64>,
    /// Layers of the decoder, where there is another stack.
    pub decoder_layers: Option<u64>,
    /// Attention heads.
    pub heads: Option<u64>,
    /// Key and value heads, where they differ from `heads`.
    pub kv_heads: Option<u64>,
    /// Width of an attention head, where it is not `hidden_size / heads`.
    pub head_dim: Option<u64>,
    /// Inner width of the MLP.
    pub intermediate_size: Option<u64>,
    /// Routed experts of a layer.
    pub experts: Option<u64>,
    /// Experts that a token is routed to.
    pub experts_per_token: Option<u64>,
    /// Tokens in the vocabulary.
    pub vocab_size: Option<u64>,
    /// Longest sequence, tokens.
    pub max_positions: Option<u64>,
    /// How positions enter.
    pub positions: Option<Positions>,
    /// Base of the rotary frequencies.
    pub rope_theta: Option<f64>,
    /// What a norm adds to the variance.
    pub norm_eps: Option<f64>,
    /// Non-linearity of the MLP, e.g. `silu`.
    pub activation: Option<String>,
    /// Whether the output layer is the embedding.
    pub tie_word_embeddings: Option<bool>,
    /// Type of the stored weights, e.g. `bfloat16`.
    pub dtype: Option<String>,
    /// How the weights are quantised, where they are.
    pub quantization: Option<Quantization>,
}

/// How positions enter a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Positions {
    /// A trained table.
    Learned,
    /// Queries and keys are rotated.
    Rotary,
    /// A bias that grows with distance.
    Alibi,
    /// A fixed table of sines added to the embedding. It singles out hidden dimensions, which are then not
    /// exchangeable: unrelated models may correlate.
    Sinusoidal,
    /// A trained bias for each distance.
    Relative,
}

impl Positions {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Rotary => "rotary",
            Self::Alibi => "alibi",
            Self::Sinusoidal => "sinusoidal",
            Self::Relative => "relative",
        }
    }
}

/// `quantization_config`, in the words of its several dialects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    /// `quant_method`, e.g. `gptq`.
    pub method: Option<String>,
    /// Bits of a weight.
    pub bits: Option<u64>,
    /// Weights that share a scale; -1 is a whole column.
    pub group_size: Option<i64>,
    /// Code of 4-bit weights, `nf4` or `fp4`.
    pub quant_type: Option<String>,
    /// Whether the codes lie symmetric around 0.
    pub symmetric: Option<bool>,
    /// Whether columns were quantised in order of activation.
    pub desc_act: Option<bool>,
    /// Whether the scales are quantised as well.
    pub double_quant: Option<bool>,
}

/// An object, and another one level down that is asked where the first does not answer.
struct Fields<'a> {
    top: &'a Map<String, Value>,
    nested: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The first of `keys` whose value is of the type that `convert` takes.
    fn find<T>(&self, keys: &[&str], convert: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let answer = |key: &&str| {
            let at = |map: &'a Map<String, Value>| map.get(*key).and_then(&convert);
            at(self.top).or_else(|| self.nested.and_then(at))
        };
        keys.iter().find_map(answer)
    }

    fn number(&self, keys: &[&str]) -> Option<u64> {
        self.find(keys, Value::as_u64)
    }

    fn real(&self, keys: &[&str]) -> Option<f64> {
        self.find(keys, Value::as_f64)
    }

    fn flag(&self, keys: &[&str]) -> Option<bool> {
        self.find(keys, Value::as_bool)
    }

    fn text(&self, keys: &[&str]) -> Option<String> {
        self.find(keys, text)
    }

    fn object(&self, keys: &[&str]) -> Option<&'a Map<String, Value>> {
        self.find(keys, Value::as_object)
    }
}

fn text(value: &Value) -> Option<String> {
    Some(printable(value.as_str()?.as_bytes()))
}

impl ModelConfig {
    /// Parses config.json. Unknown or wrongly typed fields are absent; only a file that is no JSON object
    /// is an error.
    pub fn parse(json: &[u8]) -> Result<Self, JsonError> {
        json::parse(json).map(|top| Self::read(&top))
    }

    /// What the Hub's list repeats of config.json: the type, how the weights are quantised, and no dimensions.
    pub fn listed(value: &Value) -> Self {
        value.as_object().map(Self::read).unwrap_or_default()
    }

    /// Takes what is absent here from there.
    #[must_use]
    pub fn or(self, of: Self) -> Self {
        Self {
            model_type: self.model_type.or(of.model_type),
            architecture: self.architecture.or(of.architecture),
            hidden_size: self.hidden_size.or(of.hidden_size),
            layers: self.layers.or(of.layers),
            encoder_layers: self.encoder_layers.or(of.encoder_layers),
            decoder_layers: self.decoder_layers.or(of.decoder_layers),
            heads: self.heads.or(of.heads),
            kv_heads: self.kv_heads.or(of.kv_heads),
            head_dim: self.head_dim.or(of.head_dim),
            intermediate_size: self.intermediate_size.or(of.intermediate_size),
            experts: self.experts.or(of.experts),
            experts_per_token: self.experts_per_token.or(of.experts_per_token),
            vocab_size: self.vocab_size.or(of.vocab_size),
            max_positions: self.max_positions.or(of.max_positions),
            positions: self.positions.or(of.positions),
            rope_theta: self.rope_theta.or(of.rope_theta),
            norm_eps: self.norm_eps.or(of.norm_eps),
            activation: self.activation.or(of.activation),
            tie_word_embeddings: self.tie_word_embeddings.or(of.tie_word_embeddings),
            dtype: self.dtype.or(of.dtype),
            quantization: self.quantization.or(of.quantization),
        }
    }

    /// Takes the dimensions that are absent here from there.
    #[must_use]
    pub fn or_dimensions(self, of: &Self) -> Self {
        Self {
            hidden_size: self.hidden_size.or(of.hidden_size),
            layers: self.layers.or(of.layers),
            intermediate_size: self.intermediate_size.or(of.intermediate_size),
            vocab_size: self.vocab_size.or(of.vocab_size),
            ..self
        }
    }

    fn read(top: &Map<String, Value>) -> Self {
        // Vision-language wrappers keep the language model's shape one level down.
        let nested = LANGUAGE_PARTS.iter().find_map(|key| top.get(*key).and_then(Value::as_object));
        let fields = Fields { top, nested };
        let own = Fields { top, nested: None };
        // Since transformers 5 the rotary settings are an object, of one per kind of layer in some models.
        let rope = fields.object(&["rope_parameters"]);
        let rope_kind = rope.and_then(|kinds| kinds.get("full_attention")).and_then(Value::as_object);
        let rope_theta = fields
            .real(&["rope_theta", "rotary_emb_base"])
            .or_else(|| Fields { top: rope?, nested: rope_kind }.real(&["rope_theta"]));
        let model_type = own.text(&["model_type"]);
        Self {
            architecture: top.get("architectures").and_then(|all| text(all.get(0)?)),
            hidden_size: fields.number(&["hidden_size", "n_embd", "d_model", "dim"]),
            layers: fields.number(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"]),
            encoder_layers: fields.number(&["encoder_layers", "num_encoder_layers"]),
            decoder_layers: fields.number(&["decoder_layers", "num_decoder_layers"]),
            heads: fields.number(&["num_attention_heads", "n_head", "num_heads", "n_heads"]),
            kv_heads: fields.number(&["num_key_value_heads"]),
            head_dim: fields.number(&["head_dim", "d_kv"]),
            intermediate_size: fields.number(&[
                "intermediate_size",
                "n_inner",
                "d_ff",
                "ffn_dim",
                "hidden_dim",
            ]),
            experts: fields.number(&["num_local_experts", "num_experts", "n_routed_experts"]),
            experts_per_token: fields.number(&["num_experts_per_tok", "num_experts_per_token"]),
            vocab_size: fields.number(&["vocab_size"]),
            max_positions: fields.number(&["max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"]),
            positions: positions(&fields, model_type.as_deref(), rope_theta),
            rope_theta,
            norm_eps: fields.real(&["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"]),
            activation: fields.text(&[
                "hidden_act",
                "hidden_activation",
                "activation_function",
                "activation",
                "feed_forward_proj",
            ]),
            tie_word_embeddings: fields.flag(&["tie_word_embeddings"]),
            dtype: fields.text(&["dtype", "torch_dtype"]),
            quantization: fields.object(&["quantization_config"]).map(quantization),
            model_type,
        }
    }

    /// Key and value heads, whether or not they differ from `heads`.
    pub fn key_heads(&self) -> Option<u64> {
        self.kv_heads.or(self.heads)
    }

    /// Width of an attention head, whether or not it is `hidden_size / heads`.
    pub fn head_width(&self) -> Option<u64> {
        self.head_dim.or_else(|| self.hidden_size?.checked_div(self.heads?))
    }
}

/// What a config says in so many words, else what its type of model always does.
fn positions(fields: &Fields<'_>, model_type: Option<&str>, rope_theta: Option<f64>) -> Option<Positions> {
    let nested_alibi = fields.object(&["attn_config"]).and_then(|a| a.get("alibi")).and_then(Value::as_bool);
    let yes = |keys: &[&str]| fields.flag(keys) == Some(true);
    let there = |keys: &[&str]| fields.find(keys, |value| (!value.is_null()).then_some(())).is_some();
    if yes(&["alibi"]) || nested_alibi == Some(true) {
        return Some(Positions::Alibi);
    }
    if yes(&["sinusoidal_pos_embds", "static_position_embeddings"]) {
        return Some(Positions::Sinusoidal);
    }
    if there(&["relative_attention_num_buckets"]) {
        return Some(Positions::Relative);
    }
    match fields.text(&["position_embedding_type"]).as_deref() {
        Some("absolute" | "learned_absolute") => return Some(Positions::Learned),
        Some("rope" | "rotary") => return Some(Positions::Rotary),
        Some("alibi") => return Some(Positions::Alibi),
        Some("relative_key" | "relative_key_query") => return Some(Positions::Relative),
        _ => {}
    }
    if rope_theta.is_some() || there(&["rope_parameters", "rope_scaling", "rotary_pct", "rotary_dim"]) {
        return Some(Positions::Rotary);
    }
    match model_type? {
        "bert" | "roberta" | "xlm-roberta" | "camembert" | "electra" | "albert" | "distilbert" | "gpt2"
        | "gpt_neo" | "gpt_bigcode" | "opt" | "bart" | "mbart" | "clip" => Some(Positions::Learned),
        "llama" | "mistral" | "mixtral" | "falcon" | "gpt_neox" | "gptj" => Some(Positions::Rotary),
        "bloom" => Some(Positions::Alibi),
        "marian" | "m2m_100" | "nllb-moe" | "pegasus" | "xglm" => Some(Positions::Sinusoidal),
        _ => None,
    }
}

fn quantization(config: &Map<String, Value>) -> Quantization {
    // compressed-tensors keeps the settings of weights two levels down, in its first group.
    let group =
        config.get("config_groups").and_then(|groups| groups.get("group_0")?.get("weights")?.as_object());
    let fields = Fields { top: config, nested: group };
    let loaded_in = |key, bits| (fields.flag(&[key]) == Some(true)).then_some(bits);
    Quantization {
        method: fields.text(&["quant_method"]),
        bits: fields
            .number(&["bits", "w_bit", "num_bits"])
            .or_else(|| loaded_in("load_in_4bit", 4))
            .or_else(|| loaded_in("load_in_8bit", 8)),
        group_size: fields.find(&["group_size", "q_group_size"], Value::as_i64),
        quant_type: fields.text(&["bnb_4bit_quant_type"]),
        symmetric: fields.flag(&["sym", "symmetric"]),
        desc_act: fields.flag(&["desc_act"]),
        double_quant: fields.flag(&["bnb_4bit_use_double_quant"]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> ModelConfig {
        ModelConfig::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn reads_both_spellings_and_nested_configs() {
        let gpt2 =
            parse(r#"{"model_type":"gpt2","n_embd":96,"n_layer":6,"n_head":4,"layer_norm_epsilon":1e-5}"#);
        assert_eq!((gpt2.hidden_size, gpt2.layers, gpt2.heads), (Some(96), Some(6), Some(4)));
        assert_eq!((gpt2.norm_eps, gpt2.key_heads(), gpt2.head_width()), (Some(1e-5), Some(4), Some(24)));
        let vlm = parse(r#"{"model_type":"llava","text_config":{"hidden_size":64,"model_type":"llama"}}"#);
        assert_eq!((vlm.model_type.as_deref(), vlm.hidden_size), (Some("llava"), Some(64)));
    }

    #[test]
    fn wrong_types_are_absent_not_fatal() {
        let odd = parse(
            r#"{"hidden_size":"big","architectures":7,"model_type":null,"rope_theta":"x","dtype":1,"tie_word_embeddings":"no","rope_parameters":3,"quantization_config":[]}"#,
        );
        assert_eq!(odd.hidden_size, None);
        assert_eq!(odd, ModelConfig { positions: Some(Positions::Rotary), ..ModelConfig::default() });
        assert!(ModelConfig::parse(b"[]").is_err());
        assert_eq!(parse(r#"{"hidden_size":8,"num_attention_heads":0}"#).head_width(), None);
    }

    #[test]
    fn rotary_settings_are_found_in_three_places() {
        for json in [
            r#"{"rope_theta":5e5}"#,
            r#"{"rope_parameters":{"rope_type":"default","rope_theta":500000.0}}"#,
            r#"{"text_config":{"rope_parameters":{"full_attention":{"rope_theta":500000},"sliding_attention":{"rope_theta":1e4}}}}"#,
        ] {
            let config = parse(json);
            assert_eq!((config.rope_theta, config.positions), (Some(5e5), Some(Positions::Rotary)), "{json}");
        }
    }

    #[test]
    fn positions_are_said_or_follow_from_the_type() {
        let cases = [
            (r#"{"model_type":"bert","position_embedding_type":"absolute"}"#, Some(Positions::Learned)),
            (r#"{"model_type":"distilbert","sinusoidal_pos_embds":false}"#, Some(Positions::Learned)),
            (r#"{"model_type":"distilbert","sinusoidal_pos_embds":true}"#, Some(Positions::Sinusoidal)),
            (r#"{"model_type":"falcon","alibi":true}"#, Some(Positions::Alibi)),
            (r#"{"model_type":"falcon","alibi":false}"#, Some(Positions::Rotary)),
            (r#"{"model_type":"mpt","attn_config":{"alibi":true}}"#, Some(Positions::Alibi)),
            (r#"{"model_type":"t5","relative_attention_num_buckets":32}"#, Some(Positions::Relative)),
            (r#"{"model_type":"gpt2","rope_scaling":null}"#, Some(Positions::Learned)),
            (r#"{"model_type":"marian"}"#, Some(Positions::Sinusoidal)),
            (r#"{"model_type":"something"}"#, None),
        ];
        for (json, expected) in cases {
            assert_eq!(parse(json).positions, expected, "{json}");
        }
    }

    #[test]
    fn quantisation_is_read_in_its_dialects() {
        let read = |json: &str| parse(&format!(r#"{{"quantization_config":{json}}}"#)).quantization.unwrap();
        let gptq = read(r#"{"quant_method":"gptq","bits":4,"group_size":-1,"sym":true,"desc_act":false}"#);
        assert_eq!(
            (gptq.bits, gptq.group_size, gptq.symmetric, gptq.desc_act),
            (Some(4), Some(-1), Some(true), Some(false))
        );
        let bnb = read(
            r#"{"load_in_4bit":true,"load_in_8bit":false,"bnb_4bit_quant_type":"nf4","bnb_4bit_use_double_quant":true}"#,
        );
        assert_eq!((bnb.method, bnb.bits, bnb.quant_type.as_deref()), (None, Some(4), Some("nf4")));
        let compressed = read(
            r#"{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":8,"group_size":128,"symmetric":true}}}}"#,
        );
        assert_eq!(
            (compressed.bits, compressed.group_size, compressed.symmetric),
            (Some(8), Some(128), Some(true))
        );
    }

    #[test]
    fn stacks_and_experts_are_counted() {
        let bart = parse(r#"{"model_type":"bart","encoder_layers":12,"decoder_layers":6,"d_model":1024}"#);
        assert_eq!((bart.encoder_layers, bart.decoder_layers), (Some(12), Some(6)));
        let mixtral = parse(r#"{"model_type":"mixtral","num_local_experts":8,"num_experts_per_tok":2}"#);
        assert_eq!((mixtral.experts, mixtral.experts_per_token), (Some(8), Some(2)));
    }

    /// JSON of any shape under keys that mean something, and now and then no JSON at all.
    fn json_like() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec![
            "model_type",
            "architectures",
            "hidden_size",
            "num_attention_heads",
            "head_dim",
            "rope_theta",
            "rope_parameters",
            "full_attention",
            "position_embedding_type",
            "attn_config",
            "alibi",
            "quantization_config",
            "config_groups",
            "group_0",
            "weights",
            "group_size",
            "text_config",
        ]);
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<i128>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|x| format!("{x:e}")),
            any::<String>().prop_map(|text| Value::from(text).to_string()),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
                    let members: Vec<_> = members.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ModelConfig::parse(&bytes);
        }

        #[test]
        fn json_of_any_shape_never_panics(json in json_like()) {
            if let Ok(config) = ModelConfig::parse(json.as_bytes()) {
                let _ = (config.key_heads(), config.head_width());
                for text in [config.model_type, config.architecture].into_iter().flatten() {
                    prop_assert!(text.chars().count() <= 200 && !text.chars().any(char::is_control), "{text:?}");
                }
            }
        }
    }
}
