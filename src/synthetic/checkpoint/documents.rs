//! The small files that a repository has beside its weights: configuration, tokenizer and card.

use serde_json::{Map, Value, json};

use super::error::CheckpointError;
use super::settings::Format;
use super::shapes::{Component, Latent, Packing, Scheme, Shape, Vocabulary};

/// Bytes that a vocabulary of pieces falls back to.
const BYTES: u64 = 256;

/// A small file: its path, and what is in it.
pub(super) type Document = (String, Vec<u8>);

/// Every small file of a repository in this format.
pub(super) fn all(shape: &Shape, format: Format) -> Result<Vec<Document>, CheckpointError> {
    let mut all = vec![("README.md".to_owned(), card(shape, format).into_bytes())];
    if !matches!(format, Format::Gguf(_)) && shape.components.is_empty() {
        all.push(("config.json".into(), serde_json::to_vec_pretty(&config(shape))?));
        all.extend(tokenizer_files(shape)?);
    }
    let mut index = json!({"_class_name": shape.architecture});
    for Component { folder, library, shape } in shape.components {
        all.push((format!("{folder}/config.json"), serde_json::to_vec_pretty(&config(shape))?));
        index[folder] = json!([library, shape.architecture]);
        if shape.scheme.has_roles() {
            let tokenizer = folder.replace("text_encoder", "tokenizer");
            all.extend(tokenizer_files(shape)?.map(|(name, text)| (format!("{tokenizer}/{name}"), text)));
            index[tokenizer] = json!(["transformers", "CLIPTokenizerFast"]);
        }
    }
    if !shape.components.is_empty() {
        all.push(("model_index.json".into(), serde_json::to_vec_pretty(&index)?));
    }
    Ok(all)
}

/// The files of a tokenizer.
pub(super) fn tokenizer_files(shape: &Shape) -> Result<[Document; 2], CheckpointError> {
    Ok([
        ("tokenizer.json".into(), serde_json::to_vec(&tokenizer(shape))?),
        ("tokenizer_config.json".into(), serde_json::to_vec_pretty(&tokenizer_config(shape))?),
    ])
}

fn card(shape: &Shape, format: Format) -> String {
    let Shape { license, model, name, .. } = shape;
    let (library, task) = match (shape.scheme, format) {
        _ if !shape.components.is_empty() => ("diffusers", "text-to-image"),
        (Scheme::Bert, _) => ("transformers", "fill-mask"),
        (_, Format::Gguf(_)) => ("gguf", "text-generation"),
        _ => ("transformers", "text-generation"),
    };
    format!(
        "---\nlicense: {license}\nlibrary_name: {library}\npipeline_tag: {task}\n---\n\n# {name}\n\nMade up by \
         hubprint, for measuring: the tensors, files and configuration of {model}, with values that no training has \
         seen. Most of the weights are zeros that no program reads.\n"
    )
}

/// config.json with the fields of the public model.
pub(super) fn config(shape: &Shape) -> Value {
    let dtype = match shape.dtype {
        safetensors::Dtype::F32 => "float32",
        safetensors::Dtype::F16 => "float16",
        _ => "bfloat16",
    };
    let mut config = json!({
        "architectures": [shape.architecture],
        "model_type": shape.model_type,
        "torch_dtype": dtype,
        "vocab_size": shape.tokens,
        "initializer_range": 0.02,
    });
    let further = match shape.scheme {
        Scheme::Bert => json!({
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.inner,
            "max_position_embeddings": shape.positions,
            "hidden_act": "gelu",
            "layer_norm_eps": shape.norm_epsilon,
            "type_vocab_size": 2,
            "pad_token_id": 0,
            "position_embedding_type": "absolute",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        }),
        Scheme::Gpt2 => json!({
            "n_embd": shape.hidden,
            "n_layer": shape.layers,
            "n_head": shape.heads,
            "n_positions": shape.positions,
            "n_ctx": shape.positions,
            "n_inner": null,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": shape.norm_epsilon,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }),
        Scheme::Llama { tied, .. } => rotary(shape, tied),
        Scheme::Mixtral { experts } => {
            let mut config = rotary(shape, false);
            config["num_local_experts"] = experts.into();
            config["num_experts_per_tok"] = 2.into();
            config["router_aux_loss_coef"] = 0.02.into();
            config
        }
        Scheme::DeepSeek(latent) => {
            let mut config = rotary(shape, false);
            extend(&mut config, latent_fields(latent));
            config
        }
        Scheme::Clip { projection } => json!({
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.inner,
            "max_position_embeddings": shape.positions,
            "projection_dim": projection.unwrap_or(shape.hidden),
            "hidden_act": if projection.is_some() { "gelu" } else { "quick_gelu" },
            "layer_norm_eps": shape.norm_epsilon,
        }),
        Scheme::Unet | Scheme::Autoencoder => return json!({"_class_name": shape.architecture}),
    };
    extend(&mut config, further);
    if let Some(packing) = quantization(shape.packing) {
        config["quantization_config"] = packing;
    }
    config
}

/// What models with rotary positions have in common.
fn rotary(shape: &Shape, tied: bool) -> Value {
    let mut config = json!({
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": tied,
        "attention_bias": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
    });
    if shape.model_type == "gemma" {
        config["head_dim"] = (shape.hidden / shape.heads).into();
        config["hidden_act"] = "gelu_pytorch_tanh".into();
    }
    // Llama 3.1 stretches its positions, and no other shape has as many.
    if shape.positions == 131_072 {
        config["rope_scaling"] = json!({
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        });
    }
    config
}

fn latent_fields(latent: Latent) -> Value {
    json!({
        "q_lora_rank": latent.query_rank,
        "kv_lora_rank": latent.kv_rank,
        "qk_nope_head_dim": latent.plain,
        "qk_rope_head_dim": latent.rotated,
        "v_head_dim": latent.value,
        "first_k_dense_replace": latent.dense,
        "n_routed_experts": latent.experts,
        "n_shared_experts": 1,
        "moe_intermediate_size": latent.expert_inner,
        "moe_layer_freq": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": true,
        "routed_scaling_factor": 2.5,
        "num_nextn_predict_layers": latent.further,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
        },
    })
}

fn quantization(packing: Packing) -> Option<Value> {
    Some(match packing {
        Packing::Plain => return None,
        Packing::Blocks(n) => json!({
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [n, n],
        }),
        Packing::Rows => json!({
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true, "dynamic": false,
                },
                "input_activations": {
                    "num_bits": 8, "type": "float", "strategy": "token", "symmetric": true, "dynamic": true,
                },
            }},
        }),
        Packing::Gptq(n) => json!({
            "quant_method": "gptq",
            "bits": 4,
            "group_size": n,
            "desc_act": false,
            "sym": true,
            "true_sequential": true,
            "damp_percent": 0.01,
        }),
    })
}

fn extend(config: &mut Value, more: Value) {
    if let (Value::Object(config), Value::Object(more)) = (config, more) {
        config.extend(more);
    }
}

impl Vocabulary {
    /// Tokens that are no text.
    fn special(self) -> &'static [&'static str] {
        match self {
            Self::Bert => &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Self::Gpt2 => &["<|endoftext|>"],
            Self::Qwen2 => &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            Self::Llama2 | Self::Mistral => &["<unk>", "<s>", "</s>"],
            Self::Llama3 => &["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
            Self::DeepSeek3 => &["<|begin_of_sentence|>", "<|end_of_sentence|>", "<|pad|>"],
            Self::Gemma => &["<unk>", "<bos>", "<eos>"],
            Self::Clip => &["<|startoftext|>", "<|endoftext|>"],
        }
    }

    /// What marks a word that begins, and one that goes on.
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Bert => ("", "##"),
            Self::Llama2 | Self::Mistral | Self::Gemma => ("\u{2581}", ""),
            _ => ("\u{120}", ""),
        }
    }

    fn has_fallback(self) -> bool {
        matches!(self, Self::Llama2 | Self::Mistral | Self::Gemma)
    }

    /// The token with this id. No two are equal: the capital at the end keeps a vocabulary's own words apart from
    /// those that all have.
    fn token(self, id: u64) -> String {
        let special = self.special().len() as u64;
        if let Some(text) = self.special().get(id as usize) {
            return (*text).to_owned();
        }
        let id = id - special;
        if self.has_fallback() && id < BYTES {
            return format!("<0x{id:02X}>");
        }
        let (begins, goes_on) = self.marks();
        let mark = if id.is_multiple_of(2) { begins } else { goes_on };
        let own =
            if id.is_multiple_of(3) { String::new() } else { char::from(b'A' + self as u8).to_string() };
        format!("{mark}{}{own}", word(id))
    }
}

/// A vocabulary as the header of a GGUF file has it.
pub(super) struct Tokens {
    pub(super) texts: Vec<String>,
    /// What kind of token each is: text, control, or a byte.
    pub(super) kinds: Vec<i32>,
    /// How likely each is, in vocabularies of pieces.
    pub(super) scores: Vec<f32>,
    /// Pairs of texts that become one, in vocabularies of pairs: about two for each token, as Llama 3 has.
    pub(super) merges: Vec<String>,
}

impl Tokens {
    pub(super) fn of(shape: &Shape) -> Self {
        let vocabulary = shape.vocabulary;
        let texts: Vec<String> = (0..shape.tokens).map(|id| vocabulary.token(id)).collect();
        let special = vocabulary.special().len() as u64;
        let bytes = special..special + if vocabulary.has_fallback() { BYTES } else { 0 };
        let kind = |id: u64| match id {
            id if id < special => 3,
            id if bytes.contains(&id) => 6,
            _ => 1,
        };
        let pairs = |text: &String| {
            let at = text.char_indices().skip(1).take(2).map(|(at, _)| at);
            at.map(|at| format!("{} {}", &text[..at], &text[at..])).collect::<Vec<_>>()
        };
        let texts_of_pairs = if vocabulary.has_fallback() { &[] } else { &texts[special as usize..] };
        Self {
            kinds: (0..shape.tokens).map(kind).collect(),
            scores: (0..shape.tokens).map(|id| -(id as f32)).collect(),
            merges: texts_of_pairs.iter().flat_map(pairs).collect(),
            texts,
        }
    }
}

/// Two letters or more, another word for each number.
fn word(mut number: u64) -> String {
    // Past the single letters.
    number += 26;
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            break;
        }
        number -= 1;
    }
    letters.into_iter().rev().collect()
}

fn tokenizer(shape: &Shape) -> Value {
    let vocabulary = shape.vocabulary;
    let vocab: Map<String, Value> =
        (0..shape.tokens).map(|id| (vocabulary.token(id), Value::from(id))).collect();
    let added: Vec<Value> = (0..vocabulary.special().len() as u64)
        .map(|id| {
            json!({
                "id": id, "content": vocabulary.token(id), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let (normalizer, pre_tokenizer, decoder, model) = if vocabulary == Vocabulary::Bert {
        (
            json!({
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true,
            }),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            json!({
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab,
            }),
        )
    } else if vocabulary.has_fallback() {
        (
            json!({"type": "Prepend", "prepend": "\u{2581}"}),
            Value::Null,
            json!({"type": "ByteFallback"}),
            json!({
                "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true, "vocab": vocab,
                "merges": [],
            }),
        )
    } else {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
        (
            Value::Null,
            bytes.clone(),
            bytes,
            json!({"type": "BPE", "unk_token": null, "byte_fallback": false, "vocab": vocab, "merges": []}),
        )
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}

fn tokenizer_config(shape: &Shape) -> Value {
    let class = match shape.vocabulary {
        Vocabulary::Bert => "BertTokenizer",
        Vocabulary::Gpt2 => "GPT2Tokenizer",
        Vocabulary::Qwen2 => "Qwen2Tokenizer",
        Vocabulary::Llama2 | Vocabulary::Mistral => "LlamaTokenizer",
        Vocabulary::Llama3 => "PreTrainedTokenizerFast",
        Vocabulary::DeepSeek3 => "LlamaTokenizerFast",
        Vocabulary::Gemma => "GemmaTokenizer",
        Vocabulary::Clip => "CLIPTokenizer",
    };
    let mut config = json!({"tokenizer_class": class, "model_max_length": shape.positions});
    let further = match shape.vocabulary.special() {
        [pad, unknown, classify, separate, mask] => json!({
            "pad_token": pad, "unk_token": unknown, "cls_token": classify, "sep_token": separate,
            "mask_token": mask, "do_lower_case": true,
        }),
        [unknown, begin, end] if shape.vocabulary.has_fallback() => {
            json!({"unk_token": unknown, "bos_token": begin, "eos_token": end})
        }
        [begin, end, ..] => json!({"bos_token": begin, "eos_token": end}),
        [both] => json!({"bos_token": both, "eos_token": both, "unk_token": both}),
        [] => json!({}),
    };
    extend(&mut config, further);
    config
}

#[cfg(test)]
mod tests {
    use super::super::shapes::SHAPES;
    use super::*;
    use crate::formats::{Limits, ModelConfig, Tokenizer, TokenizerFiles, packed};
    use crate::signals::tokens::TokenKeys;

    fn parsed(shape: &Shape) -> (ModelConfig, Tokenizer) {
        let documents = [
            &tokenizer_files(shape).unwrap()[..],
            &[("config.json".to_owned(), serde_json::to_vec(&super::config(shape)).unwrap())],
        ]
        .concat();
        let content = |name: &str| &documents.iter().find(|(found, _)| *found == name).unwrap().1[..];
        let mut files = TokenizerFiles::default();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            files.insert(name, content(name));
        }
        let config = ModelConfig::parse(content("config.json")).unwrap();
        (config, Tokenizer::parse(&files, &Limits::default()).unwrap())
    }

    #[test]
    fn documents_are_read_as_those_of_the_public_models() {
        let models = SHAPES.iter().flat_map(Shape::models).map(|(_, shape)| shape);
        for shape in models.filter(|shape| shape.scheme.has_roles()) {
            let (config, tokenizer) = parsed(shape);
            assert_eq!(config.model_type.as_deref(), Some(shape.model_type), "{}", shape.name);
            assert_eq!(config.hidden_size, Some(shape.hidden), "{}", shape.name);
            assert_eq!(config.layers, Some(shape.layers), "{}", shape.name);
            assert_eq!(tokenizer.vocabulary.tokens().len() as u64, shape.tokens, "{}", shape.name);
            let quantization = packed::QuantConfig::parse(&super::config(shape));
            assert_eq!(quantization.method.is_some(), shape.packing != Packing::Plain);
        }
    }

    #[test]
    fn vocabularies_have_a_part_in_common() {
        let keys =
            |name: &str| TokenKeys::of(&parsed(SHAPES.iter().find(|shape| shape.name == name).unwrap()).1);
        let (llama, mistral, qwen) = (keys("llama-7b"), keys("mistral-7b"), keys("qwen2.5-0.5b"));
        assert_eq!(llama.anchors(512).len(), 512);
        for other in [&mistral, &qwen] {
            let shared = llama.overlap(other).shared as f64 / llama.len() as f64;
            assert!((0.1..0.7).contains(&shared), "{shared}");
        }
    }

    #[test]
    fn words_differ() {
        let all: std::collections::BTreeSet<String> = (0..20_000).map(word).collect();
        assert_eq!(all.len(), 20_000);
        assert_eq!((word(0), word(25), word(26)), ("aa".into(), "az".into(), "ba".into()));
    }
}
