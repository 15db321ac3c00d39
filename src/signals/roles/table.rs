//! The table of tensor names, one for all families.
//!
//! A name is `<root><layers>.<layer number>.<inside><end>` or `<root><outside><end>`, after the wrappers in
//! front have been taken off; `#` stands for the number of an expert. Everything is compared as a whole, never
//! in part: the vision tower of a multimodal model has `...layers.0.self_attn.q_proj.weight` too, under another
//! root.
//!
//! Absent on purpose, because nothing can be compared by position or nothing is learnt from it: biases,
//! position and token-type embeddings, relative attention biases, norms over heads, latents or inner dimensions
//! (`q_norm`, `kv_a_layernorm`, Mamba's gated norm), routers, the small Mamba matrices, output heads (mostly
//! tied to the embedding), projectors of other modalities, and `wq`, `wk` of Meta's own Llama files, whose rows
//! are in another rotary order than everybody else's.

use super::role::Role::{
    self, AttentionNorm, CrossKey, CrossNorm, CrossOutput, CrossQuery, CrossValue, Down, Embedding,
    EmbeddingNorm, FinalNorm, Gate, GateUp, Key, KvLatent, MlpNorm, Output, PostAttentionNorm, PostMlpNorm,
    PreMlpNorm, Qkv, Query, QueryLatent, SsmIn, SsmOut, Up, Value,
};
use super::role::{Layout, Stack};

/// Prefixes that are known to stand in front of the names of a language model; may be repeated. Behind one of these
/// a single name has its role; behind any other prefix only a whole family has.
pub(super) const WRAPPERS: &[&str] =
    &["base_model.model.", "language_model.", "model.language_model.", "thinker.", "llm."];

/// Components that training tools leave anywhere in a name, beside all that begin with an underscore (`_orig_mod`,
/// `_fsdp_wrapped_module`, `_checkpoint_wrapped_module`, `_forward_module`). `default` is the adapter of peft, and of
/// `modules_to_save.NAME` the name goes too.
pub(super) const SEEN_THROUGH: &[&str] =
    &["module", "base_layer", "default", "modules_to_save", "original_module"];

type Names = &'static [(&'static str, Role)];

/// How models that share their names are named.
pub(super) struct Scheme {
    /// What may stand in front of every name.
    pub(super) roots: &'static [&'static str],
    /// What stands before the layer number.
    pub(super) layers: &'static str,
    pub(super) stack: Stack,
    /// How matrices are stored; [`Layout::Interleaved`] is said of the fused ones among them.
    pub(super) layout: Layout,
    /// Whether one tensor holds the matrices of all experts.
    pub(super) stacked: bool,
    /// How names end.
    pub(super) ends: &'static [&'static str],
    /// What follows the layer number.
    pub(super) inside: Names,
    /// Names outside the layers.
    pub(super) outside: Names,
}

/// What most families have in common.
const PLAIN: Scheme = Scheme {
    roots: &["", "model."],
    layers: "layers",
    stack: Stack::Main,
    layout: Layout::Linear,
    stacked: false,
    ends: &[".weight"],
    inside: &[],
    outside: &[],
};

const LLAMA_ROOTS: &[&str] = &["", "model.", "model.text_model."];
const BERT_ROOTS: &[&str] =
    &["", "model.", "bert.", "roberta.", "electra.", "camembert.", "deberta.", "mpnet.", "esm."];
const GPT2_ROOTS: &[&str] = &["", "transformer."];

pub(super) const SCHEMES: &[Scheme] = &[
    // Llama, Mistral, Qwen 2 and 3, Gemma, Phi, OLMo, Cohere, GLM, StarCoder 2, and what follows their naming,
    // with experts (Mixtral, Qwen-MoE, DeepSeek) or state spaces (Jamba, Bamba, Falcon-H1) in the layer.
    Scheme {
        roots: LLAMA_ROOTS,
        inside: &[
            ("self_attn.q_proj", Query),
            ("self_attn.k_proj", Key),
            ("self_attn.v_proj", Value),
            ("self_attn.o_proj", Output),
            ("self_attn.dense", Output), // Phi, Persimmon
            ("self_attn.qkv_proj", Qkv), // Phi-3
            ("self_attn.W_pack", Qkv),   // Baichuan
            ("self_attn.q_a_proj", QueryLatent),
            ("self_attn.kv_a_proj_with_mqa", KvLatent),
            ("cross_attn.q_proj", CrossQuery), // Mllama
            ("cross_attn.k_proj", CrossKey),
            ("cross_attn.v_proj", CrossValue),
            ("cross_attn.o_proj", CrossOutput),
            ("mamba.in_proj", SsmIn),
            ("mamba.out_proj", SsmOut),
            ("linear_attn.in_proj_qkv", SsmIn),  // Qwen 3.5
            ("linear_attn.in_proj_qkvz", SsmIn), // Qwen3-Next
            ("linear_attn.out_proj", SsmOut),
            ("mlp.gate_proj", Gate),
            ("mlp.up_proj", Up),
            ("mlp.gate_up_proj", GateUp),
            ("mlp.down_proj", Down),
            ("mlp.fc1", Up), // Phi
            ("mlp.fc2", Down),
            ("mlp.c_fc", Up), // StarCoder 2
            ("mlp.c_proj", Down),
            ("feed_forward.gate_proj", Gate), // Jamba, Falcon-H1, Llama 4
            ("feed_forward.up_proj", Up),
            ("feed_forward.down_proj", Down),
            ("mlp.experts.#.gate_proj", Gate),
            ("mlp.experts.#.up_proj", Up),
            ("mlp.experts.#.down_proj", Down),
            ("feed_forward.experts.#.gate_proj", Gate),
            ("feed_forward.experts.#.up_proj", Up),
            ("feed_forward.experts.#.down_proj", Down),
            ("block_sparse_moe.experts.#.w1", Gate), // Mixtral
            ("block_sparse_moe.experts.#.w3", Up),
            ("block_sparse_moe.experts.#.w2", Down),
            ("mlp.shared_expert.gate_proj", Gate), // Qwen 2
            ("mlp.shared_expert.up_proj", Up),
            ("mlp.shared_expert.down_proj", Down),
            ("mlp.shared_experts.gate_proj", Gate), // DeepSeek
            ("mlp.shared_experts.up_proj", Up),
            ("mlp.shared_experts.down_proj", Down),
            ("feed_forward.shared_expert.gate_proj", Gate), // Llama 4
            ("feed_forward.shared_expert.up_proj", Up),
            ("feed_forward.shared_expert.down_proj", Down),
            ("input_layernorm", AttentionNorm),
            ("attention_layernorm", AttentionNorm),          // Apertus
            ("post_self_attn_layernorm", PostAttentionNorm), // GLM-4
            ("post_attention_layernorm", MlpNorm),
            ("feedforward_layernorm", MlpNorm),
            ("pre_ff_layernorm", MlpNorm),
            ("pre_feedforward_layernorm", PreMlpNorm),
            ("post_feedforward_layernorm", PostMlpNorm),
            ("post_mlp_layernorm", PostMlpNorm),
        ],
        outside: &[("embed_tokens", Embedding), ("norm", FinalNorm), ("final_layernorm", FinalNorm)],
        ..PLAIN
    },
    // All experts in one tensor: gpt-oss and Llama 4, transposed; later Qwen, not transposed. Shapes decide.
    Scheme {
        layout: Layout::Conv1d,
        stacked: true,
        ends: &[""],
        inside: &[
            ("mlp.experts.gate_up_proj", GateUp),
            ("mlp.experts.down_proj", Down),
            ("feed_forward.experts.gate_up_proj", GateUp),
            ("feed_forward.experts.down_proj", Down),
        ],
        ..PLAIN
    },
    // Granite-MoE.
    Scheme {
        stacked: true,
        inside: &[("block_sparse_moe.input_linear", GateUp), ("block_sparse_moe.output_linear", Down)],
        ..PLAIN
    },
    // InternLM 2; Meta's own Llama files.
    Scheme {
        layout: Layout::Interleaved,
        inside: &[
            ("attention.wqkv", Qkv),
            ("attention.wv", Value),
            ("attention.wo", Output),
            ("feed_forward.w1", Gate),
            ("feed_forward.w3", Up),
            ("feed_forward.w2", Down),
            ("attention_norm", AttentionNorm),
            ("ffn_norm", MlpNorm),
        ],
        outside: &[("tok_embeddings", Embedding), ("norm", FinalNorm)],
        ..PLAIN
    },
    // GPT-NeoX, Pythia; Persimmon.
    Scheme {
        roots: &["", "gpt_neox.", "model."],
        layout: Layout::Interleaved,
        inside: &[
            ("attention.query_key_value", Qkv),
            ("attention.dense", Output),
            ("self_attn.query_key_value", Qkv),
            ("mlp.dense_h_to_4h", Up),
            ("mlp.dense_4h_to_h", Down),
            ("input_layernorm", AttentionNorm),
            ("post_attention_layernorm", MlpNorm),
        ],
        outside: &[("embed_in", Embedding), ("final_layer_norm", FinalNorm)],
        ..PLAIN
    },
    // ModernBERT.
    Scheme {
        inside: &[
            ("attn.Wqkv", Qkv),
            ("attn.Wo", Output),
            ("mlp.Wi", GateUp),
            ("mlp.Wo", Down),
            ("attn_norm", AttentionNorm),
            ("mlp_norm", MlpNorm),
        ],
        outside: &[
            ("embeddings.tok_embeddings", Embedding),
            ("embeddings.norm", EmbeddingNorm),
            ("final_norm", FinalNorm),
        ],
        ..PLAIN
    },
    // Mamba, Mamba 2, Falcon-Mamba; Nemotron-H, where a layer is one of state space, attention and MLP.
    Scheme {
        roots: &["", "backbone."],
        inside: &[
            ("mixer.in_proj", SsmIn),
            ("mixer.out_proj", SsmOut),
            ("mixer.q_proj", Query),
            ("mixer.k_proj", Key),
            ("mixer.v_proj", Value),
            ("mixer.o_proj", Output),
            ("mixer.up_proj", Up),
            ("mixer.down_proj", Down),
            ("norm", AttentionNorm),
        ],
        outside: &[("embeddings", Embedding), ("embedding", Embedding), ("norm_f", FinalNorm)],
        ..PLAIN
    },
    // ChatGLM 2 and 3, GLM-4-9B in their own code.
    Scheme {
        roots: &["transformer."],
        layers: "encoder.layers",
        inside: &[
            ("self_attention.query_key_value", Qkv),
            ("self_attention.dense", Output),
            ("mlp.dense_h_to_4h", GateUp),
            ("mlp.dense_4h_to_h", Down),
            ("input_layernorm", AttentionNorm),
            ("post_attention_layernorm", MlpNorm),
        ],
        outside: &[("embedding.word_embeddings", Embedding), ("encoder.final_layernorm", FinalNorm)],
        ..PLAIN
    },
    // GPT-2 and GPT; the same names with plain matrices in GPT-BigCode, GPT-Neo and Qwen 1. Shapes decide.
    Scheme {
        roots: GPT2_ROOTS,
        layers: "h",
        layout: Layout::Conv1d,
        inside: &[
            ("attn.c_attn", Qkv),
            ("attn.c_proj", Output),
            ("mlp.c_fc", Up),
            ("mlp.c_proj", Down),
            ("ln_1", AttentionNorm),
            ("ln_2", MlpNorm),
        ],
        outside: &[("wte", Embedding), ("tokens_embed", Embedding), ("ln_f", FinalNorm)],
        ..PLAIN
    },
    // What is always plain in layers of that name: Qwen 1, whose `w2` is the gate; GPT-Neo; GPT-J and CodeGen;
    // Phi in its own code.
    Scheme {
        roots: GPT2_ROOTS,
        layers: "h",
        inside: &[
            ("mlp.w2", Gate),
            ("mlp.w1", Up),
            ("attn.attention.q_proj", Query),
            ("attn.attention.k_proj", Key),
            ("attn.attention.v_proj", Value),
            ("attn.attention.out_proj", Output),
            ("attn.q_proj", Query),
            ("attn.k_proj", Key),
            ("attn.v_proj", Value),
            ("attn.out_proj", Output),
            ("mlp.fc_in", Up),
            ("mlp.fc_out", Down),
            ("mixer.Wqkv", Qkv),
            ("mixer.out_proj", Output),
            ("mlp.fc1", Up),
            ("mlp.fc2", Down),
            ("ln", AttentionNorm),
        ],
        outside: &[("embd.wte", Embedding)],
        ..PLAIN
    },
    // Falcon, BLOOM; the fused matrix of CodeGen.
    Scheme {
        roots: GPT2_ROOTS,
        layers: "h",
        layout: Layout::Interleaved,
        inside: &[
            ("self_attention.query_key_value", Qkv),
            ("self_attention.dense", Output),
            ("attn.qkv_proj", Qkv),
            ("mlp.dense_h_to_4h", Up),
            ("mlp.dense_4h_to_h", Down),
            ("input_layernorm", AttentionNorm),
            ("post_attention_layernorm", MlpNorm),
            ("ln_attn", AttentionNorm),
            ("ln_mlp", MlpNorm),
        ],
        outside: &[
            ("word_embeddings", Embedding),
            ("word_embeddings_layernorm", EmbeddingNorm),
            ("ln_f", FinalNorm),
        ],
        ..PLAIN
    },
    // MPT; other names in its first version and in Replit's.
    Scheme {
        roots: GPT2_ROOTS,
        layers: "blocks",
        inside: &[
            ("attn.Wqkv", Qkv),
            ("attn.out_proj", Output),
            ("ffn.up_proj", Up),
            ("ffn.down_proj", Down),
            ("mlp.mlp_up", Up),
            ("mlp.mlp_down", Down),
            ("norm_1", AttentionNorm),
            ("norm_2", MlpNorm),
            ("ln_1", AttentionNorm),
            ("ln_2", MlpNorm),
        ],
        outside: &[("wte", Embedding), ("norm_f", FinalNorm), ("ln_f", FinalNorm)],
        ..PLAIN
    },
    // BERT, RoBERTa, ELECTRA, DeBERTa, MPNet, ESM; `gamma` is the TensorFlow name of a gain.
    Scheme {
        roots: BERT_ROOTS,
        layers: "encoder.layer",
        layout: Layout::Interleaved,
        ends: &[".weight", ".gamma"],
        inside: &[
            ("attention.self.query", Query),
            ("attention.self.key", Key),
            ("attention.self.value", Value),
            ("attention.self.query_proj", Query), // DeBERTa 2
            ("attention.self.key_proj", Key),
            ("attention.self.value_proj", Value),
            ("attention.self.in_proj", Qkv), // DeBERTa
            ("attention.attn.q", Query),     // MPNet
            ("attention.attn.k", Key),
            ("attention.attn.v", Value),
            ("attention.attn.o", Output),
            ("attention.output.dense", Output),
            ("intermediate.dense", Up),
            ("output.dense", Down),
            ("attention.output.LayerNorm", AttentionNorm),
            ("attention.LayerNorm", AttentionNorm), // MPNet, ESM
            ("attention.self_attn_layer_norm", AttentionNorm), // XLM-RoBERTa-XL
            ("output.LayerNorm", MlpNorm),
            ("LayerNorm", MlpNorm), // ESM, XLM-RoBERTa-XL
        ],
        outside: &[
            ("embeddings.word_embeddings", Embedding),
            ("embeddings.LayerNorm", EmbeddingNorm),
            ("encoder.emb_layer_norm_after", FinalNorm),
        ],
        ..PLAIN
    },
    // The final norm of XLM-RoBERTa-XL; under another root the same name belongs to DeBERTa's positions.
    Scheme { roots: &["roberta."], outside: &[("encoder.LayerNorm", FinalNorm)], ..PLAIN },
    // ALBERT: the number is that of the group of layers that share their weights.
    Scheme {
        roots: &["", "albert."],
        layers: "encoder.albert_layer_groups",
        inside: &[
            ("albert_layers.0.attention.query", Query),
            ("albert_layers.0.attention.key", Key),
            ("albert_layers.0.attention.value", Value),
            ("albert_layers.0.attention.dense", Output),
            ("albert_layers.0.ffn", Up),
            ("albert_layers.0.ffn_output", Down),
            ("albert_layers.0.attention.LayerNorm", AttentionNorm),
            ("albert_layers.0.full_layer_layer_norm", MlpNorm),
        ],
        outside: &[("embeddings.word_embeddings", Embedding), ("embeddings.LayerNorm", EmbeddingNorm)],
        ..PLAIN
    },
    // DistilBERT.
    Scheme {
        roots: &["", "distilbert."],
        layers: "transformer.layer",
        inside: &[
            ("attention.q_lin", Query),
            ("attention.k_lin", Key),
            ("attention.v_lin", Value),
            ("attention.out_lin", Output),
            ("ffn.lin1", Up),
            ("ffn.lin2", Down),
            ("sa_layer_norm", AttentionNorm),
            ("output_layer_norm", MlpNorm),
        ],
        outside: &[("embeddings.word_embeddings", Embedding), ("embeddings.LayerNorm", EmbeddingNorm)],
        ..PLAIN
    },
    // T5 and kin, decoder and encoder.
    Scheme {
        roots: GPT2_ROOTS,
        layers: "decoder.block",
        inside: &[
            ("layer.0.SelfAttention.q", Query),
            ("layer.0.SelfAttention.k", Key),
            ("layer.0.SelfAttention.v", Value),
            ("layer.0.SelfAttention.o", Output),
            ("layer.1.EncDecAttention.q", CrossQuery),
            ("layer.1.EncDecAttention.k", CrossKey),
            ("layer.1.EncDecAttention.v", CrossValue),
            ("layer.1.EncDecAttention.o", CrossOutput),
            ("layer.2.DenseReluDense.wi", Up),
            ("layer.2.DenseReluDense.wi_0", Gate),
            ("layer.2.DenseReluDense.wi_1", Up),
            ("layer.2.DenseReluDense.wo", Down),
            ("layer.0.layer_norm", AttentionNorm),
            ("layer.1.layer_norm", CrossNorm),
            ("layer.2.layer_norm", MlpNorm),
        ],
        outside: &[
            ("shared", Embedding),
            ("decoder.embed_tokens", Embedding),
            ("decoder.final_layer_norm", FinalNorm),
        ],
        ..PLAIN
    },
    Scheme {
        roots: GPT2_ROOTS,
        layers: "encoder.block",
        stack: Stack::Encoder,
        inside: &[
            ("layer.0.SelfAttention.q", Query),
            ("layer.0.SelfAttention.k", Key),
            ("layer.0.SelfAttention.v", Value),
            ("layer.0.SelfAttention.o", Output),
            ("layer.1.DenseReluDense.wi", Up),
            ("layer.1.DenseReluDense.wi_0", Gate),
            ("layer.1.DenseReluDense.wi_1", Up),
            ("layer.1.DenseReluDense.wo", Down),
            ("layer.0.layer_norm", AttentionNorm),
            ("layer.1.layer_norm", MlpNorm),
        ],
        outside: &[("encoder.embed_tokens", Embedding), ("encoder.final_layer_norm", FinalNorm)],
        ..PLAIN
    },
    // BART, mBART, Marian, Pegasus, M2M100, Whisper, decoder and encoder; OPT has the decoder alone.
    Scheme {
        layers: "decoder.layers",
        inside: BART,
        outside: &[
            ("shared", Embedding),
            ("decoder.embed_tokens", Embedding),
            ("decoder.layernorm_embedding", EmbeddingNorm),
            ("decoder.layer_norm", FinalNorm),
            ("decoder.final_layer_norm", FinalNorm),
        ],
        ..PLAIN
    },
    Scheme {
        layers: "encoder.layers",
        stack: Stack::Encoder,
        inside: BART,
        outside: &[
            ("encoder.embed_tokens", Embedding),
            ("encoder.layernorm_embedding", EmbeddingNorm),
            ("encoder.layer_norm", FinalNorm),
        ],
        ..PLAIN
    },
    // XGLM, BioGPT.
    Scheme {
        roots: &["model.", "biogpt."],
        inside: BART,
        outside: &[("embed_tokens", Embedding), ("layer_norm", FinalNorm)],
        ..PLAIN
    },
];

const BART: Names = &[
    ("self_attn.q_proj", Query),
    ("self_attn.k_proj", Key),
    ("self_attn.v_proj", Value),
    ("self_attn.out_proj", Output),
    ("encoder_attn.q_proj", CrossQuery),
    ("encoder_attn.k_proj", CrossKey),
    ("encoder_attn.v_proj", CrossValue),
    ("encoder_attn.out_proj", CrossOutput),
    ("fc1", Up),
    ("fc2", Down),
    ("self_attn_layer_norm", AttentionNorm),
    ("encoder_attn_layer_norm", CrossNorm),
    ("final_layer_norm", MlpNorm),
];
