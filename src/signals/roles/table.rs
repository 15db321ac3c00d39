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
//! tied to the embedding), projectors of other modalities, and `wq`, `wk` of Meta's and Mistral's own files, whose
//! rows are in another rotary order than everybody else's.

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
/// `modules_to_save.NAME` the name goes too, as does torch's `parametrizations` with its `original`.
pub(super) const SEEN_THROUGH: &[&str] =
    &["module", "base_layer", "default", "modules_to_save", "original_module", "parametrizations"];

type Names = &'static [(&'static str, Role)];

/// How models that share their names are named.
pub(super) struct Scheme {
    /// What may stand in front of every name.
    pub(super) roots: &'static [&'static str],
    /// What stands before the layer number.
    pub(super) layers: &'static str,
    pub(super) stack: Stack,
    /// How matrices are stored; [`Layout::Interleaved`] is said of the fused ones of attention among them,
    /// [`Layout::UpFirst`] of those of the MLP.
    pub(super) layout: Layout,
    /// Whether one tensor holds the matrices of all experts.
    pub(super) stacked: bool,
    /// Whether towers of other modalities have these names too, so that the token embedding has to be there.
    pub(super) needs_embedding: bool,
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
    needs_embedding: false,
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
            ("self_attn.dense", Output),        // Phi, Persimmon
            ("self_attn.qkv_proj", Qkv),        // Phi-3
            ("self_attn.W_pack", Qkv),          // Baichuan
            ("self_attn.q_proj.linear", Query), // Moshi
            ("self_attn.k_proj.linear", Key),
            ("self_attn.v_proj.linear", Value),
            ("self_attn.o_proj.linear", Output),
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
            ("temporal_block.q_proj", Query), // RecurrentGemma
            ("temporal_block.k_proj", Key),
            ("temporal_block.v_proj", Value),
            ("temporal_block.o_proj", Output),
            ("temporal_block.linear_x", SsmIn),
            ("temporal_block.linear_out", SsmOut),
            ("mlp_block.gate_proj", Gate),
            ("mlp_block.up_proj", Up),
            ("mlp_block.down_proj", Down),
            ("attention.q_proj", Query), // Ling and its linear attention
            ("attention.k_proj", Key),
            ("attention.v_proj", Value),
            ("attention.dense", Output),
            ("mlp.gate_proj", Gate),
            ("mlp.up_proj", Up),
            ("mlp.gate_up_proj", GateUp),
            ("mlp.down_proj", Down),
            ("mlp.fc1", Up), // Phi
            ("mlp.fc2", Down),
            ("mlp.c_fc", Up), // StarCoder 2
            ("mlp.c_proj", Down),
            ("mlp.ff0", Up), // TimesFM 2.5
            ("mlp.ff1", Down),
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
            ("share_expert.gate_proj", Gate), // Step 3
            ("share_expert.up_proj", Up),
            ("share_expert.down_proj", Down),
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
            ("mlp.layer_norm", MlpNorm), // TimesFM
            ("temporal_pre_norm", AttentionNorm),
            ("channel_pre_norm", MlpNorm),
            ("pre_feedforward_layernorm", PreMlpNorm),
            ("post_feedforward_layernorm", PostMlpNorm),
            ("post_mlp_layernorm", PostMlpNorm),
        ],
        outside: &[
            ("embed_tokens", Embedding),
            ("word_embeddings", Embedding), // Ling
            ("norm", FinalNorm),
            ("final_norm", FinalNorm),
            ("final_layernorm", FinalNorm),
        ],
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
            ("block_sparse_moe.experts.gate_up_proj", GateUp), // Granite-MoE with sliding windows
            ("block_sparse_moe.experts.down_proj", Down),
        ],
        ..PLAIN
    },
    Scheme {
        layout: Layout::Conv1d,
        stacked: true,
        inside: &[("mlp.experts.fc1", GateUp), ("mlp.experts.fc2", Down)], // Aria
        ..PLAIN
    },
    // Granite-MoE, JetMoE, whose attention has experts too, and Step 3.
    Scheme {
        stacked: true,
        inside: &[
            ("block_sparse_moe.input_linear", GateUp),
            ("block_sparse_moe.output_linear", Down),
            ("self_attention.experts.input_linear", Query),
            ("self_attention.experts.output_linear", Output),
            ("mlp.input_linear", GateUp),
            ("mlp.output_linear", Down),
            ("moe.gate_proj", Gate),
            ("moe.up_proj", Up),
            ("moe.down_proj", Down),
        ],
        ..PLAIN
    },
    // Layers of Llama's names, called otherwise: Kimi K2.5.
    Scheme {
        layers: "blocks",
        inside: &[
            ("self_attn.q_proj", Query),
            ("self_attn.k_proj", Key),
            ("self_attn.v_proj", Value),
            ("self_attn.o_proj", Output),
            ("self_attn.q_a_proj", QueryLatent),
            ("self_attn.kv_a_proj_with_mqa", KvLatent),
            ("mlp.gate_proj", Gate),
            ("mlp.up_proj", Up),
            ("mlp.down_proj", Down),
            ("mlp.experts.#.gate_proj", Gate),
            ("mlp.experts.#.up_proj", Up),
            ("mlp.experts.#.down_proj", Down),
            ("mlp.shared_experts.gate_proj", Gate),
            ("mlp.shared_experts.up_proj", Up),
            ("mlp.shared_experts.down_proj", Down),
            ("input_layernorm", AttentionNorm),
            ("post_attention_layernorm", MlpNorm),
        ],
        ..PLAIN
    },
    // DeepSeek's own files, and its fourth version everywhere.
    Scheme {
        inside: &[
            ("attn.wq_a", QueryLatent),
            ("attn.wkv_a", KvLatent),
            ("attn.wo", Output),
            ("attn.wo_b", Output),
            ("ffn.w1", Gate),
            ("ffn.w3", Up),
            ("ffn.w2", Down),
            ("ffn.experts.#.w1", Gate),
            ("ffn.experts.#.w3", Up),
            ("ffn.experts.#.w2", Down),
            ("ffn.shared_experts.w1", Gate),
            ("ffn.shared_experts.w3", Up),
            ("ffn.shared_experts.w2", Down),
        ],
        outside: &[("embed", Embedding)],
        ..PLAIN
    },
    // InternLM 2; Meta's and Mistral's own files.
    Scheme {
        layout: Layout::Interleaved,
        inside: &[
            ("attention.wqkv", Qkv),
            ("attention.wv", Value),
            ("attention.wo", Output),
            ("feed_forward.w1", Gate),
            ("feed_forward.w3", Up),
            ("feed_forward.w2", Down),
            ("feed_forward.experts.#.w1", Gate),
            ("feed_forward.experts.#.w3", Up),
            ("feed_forward.experts.#.w2", Down),
            ("experts.#.w1", Gate), // Mistral Large 3
            ("experts.#.w3", Up),
            ("experts.#.w2", Down),
            ("shared_experts.w1", Gate),
            ("shared_experts.w3", Up),
            ("shared_experts.w2", Down),
            ("attention.wq_a", QueryLatent),
            ("attention.wkv_a_with_mqa", KvLatent),
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
            ("mixer.experts.#.up_proj", Up),
            ("mixer.experts.#.down_proj", Down),
            ("mixer.shared_experts.up_proj", Up),
            ("mixer.shared_experts.down_proj", Down),
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
            ("mlp.c_fc_0", Gate), // EXAONE 3
            ("mlp.c_fc_1", Up),
            ("multi_head_attention.Wq", Query), // CTRL
            ("multi_head_attention.Wk", Key),
            ("multi_head_attention.Wv", Value),
            ("multi_head_attention.dense", Output),
            ("ffn.0", Up),
            ("ffn.2", Down),
            ("layernorm1", AttentionNorm),
            ("layernorm2", MlpNorm),
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
        outside: &[("embd.wte", Embedding), ("w", Embedding), ("layernorm", FinalNorm)],
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
            ("attention.query", Query), // TVP
            ("attention.key", Key),
            ("attention.value", Value),
            ("attention.dense", Output),
            ("attention.output.dense", Output),
            ("crossattention.self.query", CrossQuery),
            ("crossattention.self.key", CrossKey),
            ("crossattention.self.value", CrossValue),
            ("crossattention.output.dense", CrossOutput),
            ("crossattention.output.LayerNorm", CrossNorm),
            ("intermediate.dense", Up),
            ("output.dense", Down),
            ("attention.output.LayerNorm", AttentionNorm),
            ("attention.LayerNorm", AttentionNorm), // MPNet, ESM
            ("attention.self_attn_layer_norm", AttentionNorm), // XLM-RoBERTa-XL
            ("attention.layer_norm", AttentionNorm), // TVP
            ("output.LayerNorm", MlpNorm),
            ("output.layer_norm", MlpNorm),
            ("intermediate.LayerNorm", MlpNorm), // RoBERTa with norms in front
            ("LayerNorm", MlpNorm),              // ESM, XLM-RoBERTa-XL
        ],
        outside: &[
            ("embeddings.word_embeddings", Embedding),
            ("embeddings.LayerNorm", EmbeddingNorm),
            ("embeddings.layer_norm", EmbeddingNorm),
            ("LayerNorm", FinalNorm), // RoBERTa with norms in front
            ("encoder.emb_layer_norm_after", FinalNorm),
        ],
        ..PLAIN
    },
    // GTE (`new.`).
    Scheme {
        roots: BERT_ROOTS,
        layers: "encoder.layer",
        layout: Layout::UpFirst,
        inside: &[
            ("attention.qkv_proj", Qkv),
            ("attention.o_proj", Output),
            ("mlp.up_gate_proj", GateUp),
            ("mlp.down_proj", Down),
            ("mlp.fc11", Up),
            ("mlp.fc12", Gate),
            ("mlp.fc1", Up),
            ("mlp.fc2", Down),
            ("attn_ln", AttentionNorm),
            ("mlp_ln", MlpNorm),
        ],
        ..PLAIN
    },
    // Nomic's BERT; Jina's third embedding model.
    Scheme {
        roots: &["", "nomic_bert.", "roberta."],
        layers: "encoder.layers",
        inside: &[
            ("attn.Wqkv", Qkv),
            ("attn.out_proj", Output),
            ("mixer.Wqkv", Qkv),
            ("mixer.out_proj", Output),
            ("mlp.fc11", Up),
            ("mlp.fc12", Gate),
            ("mlp.fc1", Up),
            ("mlp.fc2", Down),
            ("norm1", AttentionNorm),
            ("norm2", MlpNorm),
        ],
        outside: &[("emb_ln", EmbeddingNorm), ("embeddings.word_embeddings", Embedding)],
        ..PLAIN
    },
    // CPM-Ant.
    Scheme {
        roots: &["", "cpmant."],
        layers: "encoder.layers",
        inside: &[
            ("self_att.self_attention.project_q", Query),
            ("self_att.self_attention.project_k", Key),
            ("self_att.self_attention.project_v", Value),
            ("self_att.self_attention.attention_out", Output),
            ("ffn.ffn.w_in.w_0", Gate),
            ("ffn.ffn.w_in.w_1", Up),
            ("ffn.ffn.w_out", Down),
            ("self_att.layernorm_before_attention", AttentionNorm),
            ("ffn.layernorm_before_ffn", MlpNorm),
        ],
        outside: &[("input_embedding", Embedding), ("encoder.output_layernorm", FinalNorm)],
        ..PLAIN
    },
    // The text side of CLIP and SigLIP, which is a language model; the other side has the same names in its layers.
    Scheme {
        roots: &["text_model.", ""],
        layers: "encoder.layers",
        needs_embedding: true,
        inside: &[
            ("self_attn.q_proj", Query),
            ("self_attn.k_proj", Key),
            ("self_attn.v_proj", Value),
            ("self_attn.out_proj", Output),
            ("mlp.fc1", Up),
            ("mlp.fc2", Down),
            ("layer_norm1", AttentionNorm),
            ("layer_norm2", MlpNorm),
        ],
        outside: &[("embeddings.token_embedding", Embedding), ("final_layer_norm", FinalNorm)],
        ..PLAIN
    },
    // The same in OpenCLIP.
    Scheme {
        roots: &[""],
        layers: "transformer.resblocks",
        needs_embedding: true,
        inside: &[
            ("attn.out_proj", Output),
            ("mlp.c_fc", Up),
            ("mlp.c_proj", Down),
            ("ln_1", AttentionNorm),
            ("ln_2", MlpNorm),
        ],
        outside: &[("token_embedding", Embedding), ("ln_final", FinalNorm)],
        ..PLAIN
    },
    Scheme {
        roots: &[""],
        layers: "transformer.resblocks",
        ends: &["_weight"],
        inside: &[("attn.in_proj", Qkv)],
        ..PLAIN
    },
    // Bark.
    Scheme {
        inside: &[
            ("attn.att_proj", Qkv),
            ("attn.out_proj", Output),
            ("mlp.in_proj", Up),
            ("mlp.out_proj", Down),
            ("layernorm_1", AttentionNorm),
            ("layernorm_2", MlpNorm),
        ],
        outside: &[("input_embeds_layer", Embedding), ("layernorm_final", FinalNorm)],
        ..PLAIN
    },
    // RWKV 4: the receptance is what the keys are asked with; as published, and in transformers.
    Scheme {
        roots: &["", "rwkv."],
        layers: "blocks",
        inside: &[
            ("attention.receptance", Query),
            ("attention.key", Key),
            ("attention.value", Value),
            ("attention.output", Output),
            ("feed_forward.key", Up),
            ("feed_forward.value", Down),
            ("att.receptance", Query),
            ("att.key", Key),
            ("att.value", Value),
            ("att.output", Output),
            ("ffn.key", Up),
            ("ffn.value", Down),
            ("ln1", AttentionNorm),
            ("ln2", MlpNorm),
        ],
        outside: &[("embeddings", Embedding), ("emb", Embedding), ("ln_out", FinalNorm)],
        ..PLAIN
    },
    // xLSTM.
    Scheme {
        roots: &["", "backbone."],
        layers: "blocks",
        inside: &[
            ("mlstm_layer.q", Query),
            ("mlstm_layer.k", Key),
            ("mlstm_layer.v", Value),
            ("mlstm_layer.out_proj", Output),
            ("ffn.proj_up_gate", Gate),
            ("ffn.proj_up", Up),
            ("ffn.proj_down", Down),
            ("norm_mlstm", AttentionNorm),
            ("norm_ffn", MlpNorm),
        ],
        outside: &[("out_norm", FinalNorm)],
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
            ("layer.2.mlp.wi", Up), // Switch Transformers
            ("layer.2.mlp.wo", Down),
            ("layer.2.mlp.experts.#.wi", Up),
            ("layer.2.mlp.experts.#.wo", Down),
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
            ("layer.1.mlp.wi", Up),
            ("layer.1.mlp.wo", Down),
            ("layer.1.mlp.experts.#.wi", Up),
            ("layer.1.mlp.experts.#.wo", Down),
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
    // SeamlessM4T for text.
    Scheme {
        layers: "text_decoder.layers",
        inside: BART,
        outside: &[("shared", Embedding), ("text_decoder.layer_norm", FinalNorm)],
        ..PLAIN
    },
    Scheme {
        layers: "text_encoder.layers",
        stack: Stack::Encoder,
        inside: BART,
        outside: &[("text_encoder.layer_norm", FinalNorm)],
        ..PLAIN
    },
    // ProphetNet.
    Scheme {
        layers: "decoder.layers",
        inside: PROPHET,
        outside: &[("word_embeddings", Embedding), ("decoder.embeddings_layer_norm", EmbeddingNorm)],
        ..PLAIN
    },
    Scheme {
        layers: "encoder.layers",
        stack: Stack::Encoder,
        inside: PROPHET,
        outside: &[("encoder.embeddings_layer_norm", EmbeddingNorm)],
        ..PLAIN
    },
    // The decoder of Moonshine and Canary, where the first matrix of a gated MLP has the gate behind it; T5Gemma, with
    // Gemma's four norms and one for cross attention; Dia.
    Scheme {
        layers: "decoder.layers",
        layout: Layout::UpFirst,
        inside: &[
            ("self_attn.q_proj", Query),
            ("self_attn.k_proj", Key),
            ("self_attn.v_proj", Value),
            ("self_attn.o_proj", Output),
            ("encoder_attn.q_proj", CrossQuery),
            ("encoder_attn.k_proj", CrossKey),
            ("encoder_attn.v_proj", CrossValue),
            ("encoder_attn.o_proj", CrossOutput),
            ("mlp.fc1", Up),
            ("mlp.fc2", Down),
            ("input_layernorm", AttentionNorm),
            ("post_attention_layernorm", CrossNorm),
            ("final_layernorm", MlpNorm),
        ],
        outside: &[("decoder.norm", FinalNorm), ("decoder.embedding_layernorm", EmbeddingNorm)],
        ..PLAIN
    },
    Scheme {
        layers: "decoder.layers",
        inside: &[
            ("cross_attn.q_proj", CrossQuery),
            ("cross_attn.k_proj", CrossKey),
            ("cross_attn.v_proj", CrossValue),
            ("cross_attn.o_proj", CrossOutput),
            ("mlp.gate_proj", Gate),
            ("mlp.up_proj", Up),
            ("mlp.down_proj", Down),
            ("pre_self_attn_layernorm", AttentionNorm),
            ("post_self_attn_layernorm", MlpNorm),
            ("pre_cross_attn_layernorm", CrossNorm),
            ("pre_feedforward_layernorm", PreMlpNorm),
            ("post_feedforward_layernorm", PostMlpNorm),
            ("self_attention.q_proj", Query), // Dia
            ("self_attention.k_proj", Key),
            ("self_attention.v_proj", Value),
            ("self_attention.o_proj", Output),
            ("cross_attention.q_proj", CrossQuery),
            ("cross_attention.k_proj", CrossKey),
            ("cross_attention.v_proj", CrossValue),
            ("cross_attention.o_proj", CrossOutput),
            ("mlp.gate_up_proj", GateUp),
            ("pre_sa_norm", AttentionNorm),
            ("pre_ca_norm", CrossNorm),
            ("pre_mlp_norm", MlpNorm),
        ],
        ..PLAIN
    },
    Scheme {
        layers: "encoder.layers",
        stack: Stack::Encoder,
        inside: &[
            ("self_attn.q_proj", Query),
            ("self_attn.k_proj", Key),
            ("self_attn.v_proj", Value),
            ("self_attn.o_proj", Output),
            ("mlp.gate_proj", Gate),
            ("mlp.up_proj", Up),
            ("mlp.down_proj", Down),
            ("mlp.fc1", Up),
            ("mlp.fc2", Down),
            ("input_layernorm", AttentionNorm),
            ("post_attention_layernorm", MlpNorm),
            ("pre_self_attn_layernorm", AttentionNorm),
            ("post_self_attn_layernorm", MlpNorm),
            ("pre_feedforward_layernorm", PreMlpNorm),
            ("post_feedforward_layernorm", PostMlpNorm),
            ("self_attention.q_proj", Query),
            ("self_attention.k_proj", Key),
            ("self_attention.v_proj", Value),
            ("self_attention.o_proj", Output),
            ("mlp.gate_up_proj", GateUp),
            ("pre_sa_norm", AttentionNorm),
            ("post_sa_norm", MlpNorm),
        ],
        outside: &[("encoder.norm", FinalNorm), ("encoder.embedding", Embedding)],
        ..PLAIN
    },
    // The decoder of NeMo's speech models, as Cohere's.
    Scheme {
        inside: &[
            ("first_sub_layer.query_net", Query),
            ("first_sub_layer.key_net", Key),
            ("first_sub_layer.value_net", Value),
            ("first_sub_layer.out_projection", Output),
            ("second_sub_layer.query_net", CrossQuery),
            ("second_sub_layer.key_net", CrossKey),
            ("second_sub_layer.value_net", CrossValue),
            ("second_sub_layer.out_projection", CrossOutput),
            ("third_sub_layer.dense_in", Up),
            ("third_sub_layer.dense_out", Down),
            ("layer_norm_1", AttentionNorm),
            ("layer_norm_2", CrossNorm),
            ("layer_norm_3", MlpNorm),
        ],
        outside: &[("token_embedding", Embedding), ("final_layer_norm", FinalNorm)],
        ..PLAIN
    },
    // The decoder of Pix2Struct, whose encoder is one of images.
    Scheme {
        roots: &[""],
        layers: "decoder.layer",
        inside: &[
            ("self_attention.attention.query", Query),
            ("self_attention.attention.key", Key),
            ("self_attention.attention.value", Value),
            ("self_attention.attention.output", Output),
            ("encoder_decoder_attention.attention.query", CrossQuery),
            ("encoder_decoder_attention.attention.key", CrossKey),
            ("encoder_decoder_attention.attention.value", CrossValue),
            ("encoder_decoder_attention.attention.output", CrossOutput),
            ("mlp.DenseReluDense.wi_0", Gate),
            ("mlp.DenseReluDense.wi_1", Up),
            ("mlp.DenseReluDense.wo", Down),
            ("self_attention.layer_norm", AttentionNorm),
            ("encoder_decoder_attention.layer_norm", CrossNorm),
            ("mlp.layer_norm", MlpNorm),
        ],
        outside: &[("decoder.embed_tokens", Embedding), ("decoder.final_layer_norm", FinalNorm)],
        ..PLAIN
    },
    // GGUF, whatever the family: the container tells apart what has one name there and two elsewhere.
    Scheme { roots: &[""], layers: "blk", inside: GGML, outside: GGML_OUTSIDE, ..PLAIN },
    Scheme {
        roots: &[""],
        layers: "blk",
        stacked: true,
        inside: &[
            ("ffn_gate_exps", Gate),
            ("ffn_up_exps", Up),
            ("ffn_down_exps", Down),
            ("ffn_gate_up_exps", GateUp),
        ],
        ..PLAIN
    },
    // Falcon-H1, whose converter leaves the end away.
    Scheme { roots: &[""], layers: "blk", ends: &[""], inside: &[("ffn_norm", MlpNorm)], ..PLAIN },
    // T5 in GGUF, decoder and encoder.
    Scheme {
        roots: &[""],
        layers: "dec.blk",
        inside: &[
            ("attn_q", Query),
            ("attn_k", Key),
            ("attn_v", Value),
            ("attn_o", Output),
            ("cross_attn_q", CrossQuery),
            ("cross_attn_k", CrossKey),
            ("cross_attn_v", CrossValue),
            ("cross_attn_o", CrossOutput),
            ("ffn_gate", Gate),
            ("ffn_up", Up),
            ("ffn_down", Down),
            ("attn_norm", AttentionNorm),
            ("cross_attn_norm", CrossNorm),
            ("ffn_norm", MlpNorm),
        ],
        outside: &[("token_embd", Embedding), ("dec.output_norm", FinalNorm)],
        ..PLAIN
    },
    Scheme {
        roots: &[""],
        layers: "enc.blk",
        stack: Stack::Encoder,
        inside: &[
            ("attn_q", Query),
            ("attn_k", Key),
            ("attn_v", Value),
            ("attn_o", Output),
            ("ffn_gate", Gate),
            ("ffn_up", Up),
            ("ffn_down", Down),
            ("attn_norm", AttentionNorm),
            ("ffn_norm", MlpNorm),
        ],
        outside: &[("enc.output_norm", FinalNorm)],
        ..PLAIN
    },
    // XGLM, BioGPT; the decoder of SpeechT5, the language model of Kosmos 2.
    Scheme {
        roots: &["model.", "biogpt.", "wrapped_decoder."],
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
    ("cross_attention.q_proj", CrossQuery), // NLLB-MoE, SeamlessM4T
    ("cross_attention.k_proj", CrossKey),
    ("cross_attention.v_proj", CrossValue),
    ("cross_attention.out_proj", CrossOutput),
    ("fc1", Up),
    ("fc2", Down),
    ("ffn.fc1", Up),
    ("ffn.fc2", Down),
    ("ffn.experts.#.fc1", Up),
    ("ffn.experts.#.fc2", Down),
    ("feed_forward.intermediate_dense", Up), // SpeechT5
    ("feed_forward.output_dense", Down),
    ("self_attn_layer_norm", AttentionNorm),
    ("encoder_attn_layer_norm", CrossNorm),
    ("cross_attention_layer_norm", CrossNorm),
    ("final_layer_norm", MlpNorm),
    ("ff_layer_norm", MlpNorm),
    ("ffn_layer_norm", MlpNorm),
];

const GGML: Names = &[
    ("attn_q", Query),
    ("attn_k", Key),
    ("attn_v", Value),
    ("attn_qkv", Qkv),
    ("attn_output", Output),
    ("attn_q_a", QueryLatent),
    ("attn_kv_a_mqa", KvLatent),
    ("ssm_in", SsmIn),
    ("ssm_out", SsmOut),
    ("ffn_gate", Gate),
    ("ffn_up", Up),
    ("ffn_down", Down),
    ("ffn_gate_shexp", Gate),
    ("ffn_up_shexp", Up),
    ("ffn_down_shexp", Down),
    ("attn_norm", AttentionNorm),
    ("attn_output_norm", AttentionNorm), // BERT
    ("layer_output_norm", MlpNorm),
    ("ffn_norm", MlpNorm),
    ("pre_ffw_norm", PreMlpNorm),
    ("post_attention_norm", PostAttentionNorm),
    ("post_ffw_norm", PostMlpNorm),
];

const GGML_OUTSIDE: Names =
    &[("token_embd", Embedding), ("token_embd_norm", EmbeddingNorm), ("output_norm", FinalNorm)];

const PROPHET: Names = &[
    ("self_attn.query_proj", Query),
    ("self_attn.key_proj", Key),
    ("self_attn.value_proj", Value),
    ("self_attn.out_proj", Output),
    ("cross_attn.query_proj", CrossQuery),
    ("cross_attn.key_proj", CrossKey),
    ("cross_attn.value_proj", CrossValue),
    ("cross_attn.out_proj", CrossOutput),
    ("feed_forward.intermediate", Up),
    ("feed_forward.output", Down),
    ("self_attn_layer_norm", AttentionNorm),
    ("cross_attn_layer_norm", CrossNorm),
    ("feed_forward_layer_norm", MlpNorm),
];
