//! The role map: which tensor is what, from its name alone.
//!
//! One table for all families. A name that no row matches has no role and is never read; so an unknown
//! architecture yields an absent signal, not a wrong one. Patterns are anchored at both ends: the
//! vision tower of a multimodal model has `...layers.0.self_attn.q_proj` too, under another prefix.

use std::sync::LazyLock;

use regex::Regex;

/// What a tensor does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Query projection.
    Query = 0,
    /// Key projection.
    Key = 1,
    /// Value projection.
    Value = 2,
    /// Fused query, key and value projection.
    Qkv = 3,
    /// Attention output projection.
    Output = 4,
    /// Gate of a gated MLP.
    Gate = 5,
    /// First MLP matrix.
    Up = 6,
    /// Fused gate and up projection.
    GateUp = 7,
    /// Second MLP matrix.
    Down = 8,
    /// Norm at the attention block.
    AttentionNorm = 16,
    /// Norm at the MLP block.
    MlpNorm = 17,
    /// Norm in front of the MLP where there are four a layer.
    PreMlpNorm = 18,
    /// Norm behind the MLP where there are four a layer.
    PostMlpNorm = 19,
    /// Norm behind the last layer; stored as layer 0.
    FinalNorm = 20,
    /// Norm behind the embedding; stored as layer 0.
    EmbeddingNorm = 21,
    /// Token embedding; stored as layer 0.
    Embedding = 32,
}

impl Role {
    /// Every role, matrices first.
    pub const ALL: [Self; 16] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Qkv,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::GateUp,
        Self::Down,
        Self::AttentionNorm,
        Self::MlpNorm,
        Self::PreMlpNorm,
        Self::PostMlpNorm,
        Self::FinalNorm,
        Self::EmbeddingNorm,
        Self::Embedding,
    ];

    /// The role with this number in the database.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u8 == code)
    }

    /// Whether this is a vector of norm gains.
    pub fn is_norm(self) -> bool {
        (16..32).contains(&(self as u8))
    }

    /// Whether this is one of a layer's matrices.
    pub fn is_matrix(self) -> bool {
        (self as u8) < 16
    }

    /// Short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q",
            Self::Key => "k",
            Self::Value => "v",
            Self::Qkv => "qkv",
            Self::Output => "o",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::AttentionNorm => "attention_norm",
            Self::MlpNorm => "mlp_norm",
            Self::PreMlpNorm => "pre_mlp_norm",
            Self::PostMlpNorm => "post_mlp_norm",
            Self::FinalNorm => "final_norm",
            Self::EmbeddingNorm => "embedding_norm",
            Self::Embedding => "embedding",
        }
    }
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `torch.nn.Linear`: rows are outputs, a row runs over the inputs.
    Linear,
    /// GPT-2's `Conv1D`: rows are inputs, a row runs over the outputs.
    Conv1d,
}

/// Where a tensor sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Layer number; 0 for tensors outside the layers.
    pub layer: u16,
    /// What it does.
    pub role: Role,
    /// How it is stored.
    pub layout: Layout,
}

impl Position {
    /// Whether a stored row runs over the residual (hidden) dimension, so that rows of all layers
    /// share one permutation symmetry.
    pub fn row_is_residual(self) -> bool {
        match self.role {
            Role::Query | Role::Key | Role::Value | Role::Qkv | Role::Gate | Role::Up | Role::GateUp => {
                self.layout == Layout::Linear
            }
            Role::Output | Role::Down => self.layout == Layout::Conv1d,
            _ => true,
        }
    }
}

struct Family {
    /// What stands before the layer number.
    layers: &'static str,
    layout: Layout,
    /// What follows the layer number.
    inside: &'static [(&'static str, Role)],
    /// Whole names outside the layers.
    outside: &'static [(&'static str, Role)],
}

use Role::{
    AttentionNorm, Down, Embedding, EmbeddingNorm, FinalNorm, Gate, GateUp, Key, MlpNorm, Output,
    PostMlpNorm, PreMlpNorm, Qkv, Query, Up, Value,
};

/// The table. Dots are literal; `layers` ends where the layer number begins.
const FAMILIES: &[Family] = &[
    // Llama, Mistral, Qwen, Gemma, Phi-3 and what follows their naming; the prefix of multimodal wrappers.
    Family {
        layers: r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?layers\.",
        layout: Layout::Linear,
        inside: &[
            ("self_attn.q_proj.weight", Query),
            ("self_attn.k_proj.weight", Key),
            ("self_attn.v_proj.weight", Value),
            ("self_attn.qkv_proj.weight", Qkv),
            ("self_attn.o_proj.weight", Output),
            ("mlp.gate_proj.weight", Gate),
            ("mlp.up_proj.weight", Up),
            ("mlp.gate_up_proj.weight", GateUp),
            ("mlp.down_proj.weight", Down),
            ("input_layernorm.weight", AttentionNorm),
            ("post_attention_layernorm.weight", MlpNorm),
            ("pre_feedforward_layernorm.weight", PreMlpNorm),
            ("post_feedforward_layernorm.weight", PostMlpNorm),
        ],
        outside: &[
            (r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?embed_tokens.weight", Embedding),
            (r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?norm.weight", FinalNorm),
        ],
    },
    // BERT, RoBERTa, ELECTRA and kin; `gamma` is the TensorFlow name of early checkpoints.
    Family {
        layers: r"(?:(?:bert|roberta|electra|camembert|model)\.)?encoder\.layer\.",
        layout: Layout::Linear,
        inside: &[
            ("attention.self.query.weight", Query),
            ("attention.self.key.weight", Key),
            ("attention.self.value.weight", Value),
            ("attention.output.dense.weight", Output),
            ("intermediate.dense.weight", Up),
            ("output.dense.weight", Down),
            ("attention.output.LayerNorm.weight", AttentionNorm),
            ("attention.output.LayerNorm.gamma", AttentionNorm),
            ("output.LayerNorm.weight", MlpNorm),
            ("output.LayerNorm.gamma", MlpNorm),
        ],
        outside: &[
            (r"(?:(?:bert|roberta|electra|camembert|model)\.)?embeddings.word_embeddings.weight", Embedding),
            (
                r"(?:(?:bert|roberta|electra|camembert|model)\.)?embeddings.LayerNorm.(?:weight|gamma)",
                EmbeddingNorm,
            ),
        ],
    },
    // DistilBERT.
    Family {
        layers: r"(?:distilbert\.)?transformer\.layer\.",
        layout: Layout::Linear,
        inside: &[
            ("attention.q_lin.weight", Query),
            ("attention.k_lin.weight", Key),
            ("attention.v_lin.weight", Value),
            ("attention.out_lin.weight", Output),
            ("ffn.lin1.weight", Up),
            ("ffn.lin2.weight", Down),
            ("sa_layer_norm.weight", AttentionNorm),
            ("output_layer_norm.weight", MlpNorm),
        ],
        // Its embedding names are BERT's under another prefix.
        outside: &[
            (r"distilbert\.embeddings.word_embeddings.weight", Embedding),
            (r"distilbert\.embeddings.LayerNorm.weight", EmbeddingNorm),
        ],
    },
    // GPT-2.
    Family {
        layers: r"(?:transformer\.)?h\.",
        layout: Layout::Conv1d,
        inside: &[
            ("attn.c_attn.weight", Qkv),
            ("attn.c_proj.weight", Output),
            ("mlp.c_fc.weight", Up),
            ("mlp.c_proj.weight", Down),
            ("ln_1.weight", AttentionNorm),
            ("ln_2.weight", MlpNorm),
        ],
        outside: &[
            (r"(?:transformer\.)?wte.weight", Embedding),
            (r"(?:transformer\.)?ln_f.weight", FinalNorm),
        ],
    },
    // GPT-NeoX and Pythia.
    Family {
        layers: r"(?:gpt_neox\.)?layers\.",
        layout: Layout::Linear,
        inside: &[
            ("attention.query_key_value.weight", Qkv),
            ("attention.dense.weight", Output),
            ("mlp.dense_h_to_4h.weight", Up),
            ("mlp.dense_4h_to_h.weight", Down),
            ("input_layernorm.weight", AttentionNorm),
            ("post_attention_layernorm.weight", MlpNorm),
        ],
        outside: &[
            (r"(?:gpt_neox\.)?embed_in.weight", Embedding),
            (r"(?:gpt_neox\.)?final_layer_norm.weight", FinalNorm),
        ],
    },
    // OPT.
    Family {
        layers: r"(?:model\.)?decoder\.layers\.",
        layout: Layout::Linear,
        inside: &[
            ("self_attn.q_proj.weight", Query),
            ("self_attn.k_proj.weight", Key),
            ("self_attn.v_proj.weight", Value),
            ("self_attn.out_proj.weight", Output),
            ("fc1.weight", Up),
            ("fc2.weight", Down),
            ("self_attn_layer_norm.weight", AttentionNorm),
            ("final_layer_norm.weight", MlpNorm),
        ],
        outside: &[
            (r"(?:model\.)?decoder\.embed_tokens.weight", Embedding),
            (r"(?:model\.)?decoder\.final_layer_norm.weight", FinalNorm),
        ],
    },
];

struct Rule {
    pattern: Regex,
    role: Role,
    layout: Layout,
}

/// A literal suffix becomes a pattern: only its dots mean something to a regular expression.
fn literal_dots(text: &str) -> String {
    text.replace(r"\.", ".").replace('.', r"\.")
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let mut rules = Vec::new();
    for family in FAMILIES {
        let inside = family.inside.iter().map(|(suffix, role)| {
            (format!(r"^{}(\d{{1,4}})\.{}$", family.layers, literal_dots(suffix)), *role)
        });
        let outside = family.outside.iter().map(|(name, role)| (format!("^{}$", literal_dots(name)), *role));
        for (pattern, role) in inside.chain(outside) {
            #[expect(clippy::expect_used, reason = "constant patterns; the test below compiles all of them")]
            let pattern = Regex::new(&pattern).expect("the role table holds valid patterns");
            rules.push(Rule { pattern, role, layout: family.layout });
        }
    }
    rules
});

/// The position of the tensor with this name, or `None` when no family knows it.
pub fn position(name: &str) -> Option<Position> {
    // A cheap look first: headers hold many biases, scales and buffers.
    if !(name.ends_with(".weight") || name.ends_with(".gamma")) {
        return None;
    }
    RULES.iter().find_map(|rule| {
        let captures = rule.pattern.captures(name)?;
        let layer = captures.get(1).map_or(Some(0), |number| number.as_str().parse().ok())?;
        Some(Position { layer, role: rule.role, layout: rule.layout })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> Option<(u16, Role)> {
        position(name).map(|p| (p.layer, p.role))
    }

    #[test]
    fn the_three_layouts_of_the_demo() {
        assert_eq!(at("model.layers.12.self_attn.q_proj.weight"), Some((12, Query)));
        assert_eq!(at("model.embed_tokens.weight"), Some((0, Embedding)));
        assert_eq!(at("model.norm.weight"), Some((0, FinalNorm)));
        assert_eq!(at("bert.encoder.layer.3.attention.output.LayerNorm.weight"), Some((3, AttentionNorm)));
        assert_eq!(at("bert.encoder.layer.3.output.LayerNorm.gamma"), Some((3, MlpNorm)));
        assert_eq!(at("embeddings.word_embeddings.weight"), Some((0, Embedding)));
        assert_eq!(at("transformer.h.0.attn.c_attn.weight"), Some((0, Qkv)));
        assert_eq!(at("wte.weight"), Some((0, Embedding)));
        assert_eq!(at("model.language_model.layers.0.mlp.down_proj.weight"), Some((0, Down)));
    }

    #[test]
    fn look_alikes_have_no_role() {
        for name in [
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
            "model.visual.blocks.0.norm1.weight",
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.0.self_attn.q_proj.weight_scale",
            "model.layers.0.mlp.experts.3.up_proj.weight",
            "model.layers.99999.mlp.up_proj.weight",
            "xmodel.layers.0.mlp.up_proj.weight",
            "model.embed_tokensXweight",
            "encoder.block.0.layer.0.SelfAttention.q.weight",
            "lm_head.weight",
        ] {
            assert_eq!(at(name), None, "{name}");
        }
    }

    #[test]
    fn conv1d_rows_run_over_the_other_side() {
        let residual = |name: &str| position(name).unwrap().row_is_residual();
        assert!(residual("model.layers.0.self_attn.q_proj.weight"));
        assert!(!residual("model.layers.0.mlp.down_proj.weight"));
        assert!(!residual("h.0.attn.c_attn.weight"));
        assert!(residual("h.0.mlp.c_proj.weight"));
    }

    #[test]
    fn role_codes_are_unique_and_round_trip() {
        for role in Role::ALL {
            assert_eq!(Role::from_code(role as u8), Some(role));
        }
    }
}
