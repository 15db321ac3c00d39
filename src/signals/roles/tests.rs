//! The role map against what transformers writes for 129 architectures in 147 variants, and against 11 layouts
//! recorded by hand. See data/make_role_fixtures.py.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use Role::{AttentionNorm, Down, Embedding, FinalNorm, Key, MlpNorm, Output, Qkv, Query, Up};

use super::*;

/// Hidden size and number of experts of every fixture's language model.
const HIDDEN: u64 = 40;
const EXPERTS: u16 = 4;

struct Tensor {
    name: String,
    shape: Vec<u64>,
    /// The norm whose output this takes in, `-` where there is none, `?` where that was not measured.
    fed_by: String,
    /// Whether the output goes into the activation function.
    activated: bool,
}

fn architectures() -> BTreeMap<String, Vec<Tensor>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/roles");
    let tensor = |line: &str| {
        let [name, shape, fed_by, activated] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let shape = shape.split('x').map(|n| n.parse().unwrap()).collect();
        Tensor { name: name.into(), shape, fed_by: fed_by.into(), activated: activated == "act" }
    };
    let entry = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let tensors = text.lines().filter(|line| !line.starts_with('#')).map(tensor).collect();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), tensors)
    };
    fs::read_dir(folder).unwrap().map(|file| entry(file.unwrap().path())).collect()
}

fn map(tensors: &[Tensor]) -> Vec<(&Tensor, Option<Position>)> {
    let found = positions(tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())));
    tensors.iter().zip(found).collect()
}

fn placed(tensors: &[Tensor]) -> Vec<(&Tensor, Position)> {
    map(tensors).into_iter().filter_map(|(t, p)| Some((t, p?))).collect()
}

/// What is expected of each architecture, written from the model code: roles outside the layers, then those of
/// the layers, and of the encoder's layers. `*4` stands for four experts, `*1` for one tensor that holds all,
/// `*s` for the shared one, `~` for interleaved and `^` for transposed matrices.
const EXPECTED: &str = "
llama mistral ministral qwen2 qwen3 granite smollm3 bitnet stablelm \
    llama+bare llama+head llava llava_next internvl idefics3 smolvlm mistral3 paligemma qwen2_vl qwen2_5_vl qwen3_vl \
    qwen2_audio gemma \
    = embedding final_norm | 0-2: q k v o gate up down attention_norm mlp_norm
gemma2 gemma3_text gemma3 \
    = embedding final_norm | 0-2: q k v o gate up down attention_norm mlp_norm pre_mlp_norm post_mlp_norm
olmo = embedding | 0-2: q k v o gate up down
olmo2 olmo3 exaone4 = embedding final_norm | 0-2: q k v o gate up down mlp_norm post_mlp_norm
cohere cohere2 stablelm+parallel = embedding final_norm | 0-2: q k v o gate up down attention_norm
nemotron starcoder2 apertus xglm biogpt \
    = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
phi = embedding final_norm | 0-2: q k v o up down attention_norm
phi3 = embedding final_norm | 0-2: qkv o gate_up down attention_norm mlp_norm
glm = embedding final_norm | 0-2: q k v o gate_up down attention_norm mlp_norm
glm4 = embedding final_norm | 0-2: q k v o gate_up down attention_norm mlp_norm post_mlp_norm post_attention_norm
persimmon gpt_neox gpt_neox+bare falcon+rw \
    = embedding final_norm | 0-2: ~qkv o up down attention_norm mlp_norm
falcon = embedding final_norm | 0-2: ~qkv o up down attention_norm
falcon+new = embedding final_norm | 0-2: ~qkv o up down attention_norm mlp_norm
bloom bloom+bare = embedding final_norm embedding_norm | 0-2: ~qkv o up down attention_norm mlp_norm
mpt hand+replit = embedding final_norm | 0-2: qkv o up down attention_norm mlp_norm
gpt2 gpt2+bare gpt2+head = embedding final_norm | 0-2: ^qkv ^o ^up ^down attention_norm mlp_norm
openai-gpt = embedding | 0-2: ^qkv ^o ^up ^down attention_norm mlp_norm
gpt_bigcode = embedding final_norm | 0-2: qkv o up down attention_norm mlp_norm
hand+gpt_bigcode-mha = embedding final_norm | 0-2: ~qkv o up down attention_norm mlp_norm
gpt_neo = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
gptj = embedding final_norm | 0-2: q k v o up down attention_norm
codegen = embedding final_norm | 0-2: ~qkv o up down attention_norm
opt opt+bare blip-2 = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
opt+350m = embedding | 0-2: q k v o up down attention_norm mlp_norm
bert bert+bare bert+head roberta camembert xlm-roberta distilbert distilbert+bare electra deberta-v2 mpnet \
    hand+bert-gamma \
    = embedding embedding_norm | 0-2: q k v o up down attention_norm mlp_norm
deberta = embedding embedding_norm | 0-2: ~qkv o up down attention_norm mlp_norm
albert = embedding embedding_norm | 0: q k v o up down attention_norm mlp_norm
esm xlm-roberta-xl = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
modernbert = embedding final_norm embedding_norm | 0: qkv o gate_up down mlp_norm \
    | 1-2: qkv o gate_up down attention_norm mlp_norm
t5 = embedding final_norm e:final_norm \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
mt5 umt5 = embedding final_norm e:final_norm \
    | 0-2: q k v o gate up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o gate up down attention_norm mlp_norm
bart bart+bare bart+head plbart = embedding embedding_norm e:embedding_norm \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
mbart = embedding final_norm embedding_norm e:final_norm e:embedding_norm \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
marian = embedding \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
pegasus blenderbot m2m_100 whisper = embedding final_norm e:final_norm \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
mixtral phimoe olmoe qwen3_moe \
    = embedding final_norm | 0-2: q k v o gate*4 up*4 down*4 attention_norm mlp_norm
qwen2_moe = embedding final_norm \
    | 0-2: q k v o gate*4 gate*s up*4 up*s down*4 down*s attention_norm mlp_norm
granitemoe qwen3_vl_moe \
    = embedding final_norm | 0-2: q k v o gate_up*1 down*1 attention_norm mlp_norm
gpt_oss hand+gpt_oss-square hand+qwen3_vl_moe \
    = embedding final_norm | 0-2: q k v o ^gate_up*1 ^down*1 attention_norm mlp_norm
llama4_text = embedding final_norm | 0,2: q k v o gate up down attention_norm mlp_norm \
    | 1: q k v o gate*s up*s ^gate_up*1 ^down*1 down*s attention_norm mlp_norm
deepseek_v2 = embedding final_norm | 0: q o gate up down attention_norm mlp_norm kv_latent \
    | 1-2: q o gate*4 gate*s up*4 up*s down*4 down*s attention_norm mlp_norm kv_latent
deepseek_v3 = embedding final_norm | 0: o gate up down attention_norm mlp_norm q_latent kv_latent \
    | 1-2: o gate*4 gate*s up*4 up*s down*4 down*s attention_norm mlp_norm q_latent kv_latent
glm4_moe = embedding final_norm | 0: q k v o gate up down attention_norm mlp_norm \
    | 1-2: q k v o gate*4 gate*s up*4 up*s down*4 down*s attention_norm mlp_norm
qwen3_5_moe_text = embedding final_norm \
    | 0: gate*4 gate*s up*4 up*s down*4 down*s ssm_in ssm_out attention_norm mlp_norm \
    | 1-2: q k v o gate*4 gate*s up*4 up*s down*4 down*s attention_norm mlp_norm
mamba mamba2 falcon_mamba = embedding final_norm | 0-2: ssm_in ssm_out attention_norm
jamba = embedding final_norm | 0,2: gate up down ssm_in ssm_out attention_norm mlp_norm \
    | 1: q k v o gate*4 up*4 down*4 attention_norm mlp_norm
bamba = embedding final_norm | 0,2: gate up down ssm_in ssm_out attention_norm mlp_norm \
    | 1: q k v o gate up down attention_norm mlp_norm
falcon_h1 = embedding final_norm | 0-2: q k v o gate up down ssm_in ssm_out attention_norm mlp_norm
nemotron_h = embedding final_norm | 0: ssm_in ssm_out attention_norm | 1: q k v o attention_norm \
    | 2: up down attention_norm
mllama = embedding final_norm | 0,2: q k v o gate up down attention_norm mlp_norm \
    | 1: gate up down cross_q cross_k cross_v cross_o attention_norm mlp_norm
clip siglip = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
clip_vision_model siglip_vision_model vit vit+bare dinov2 wav2vec2 =
longformer luke layoutlm ernie data2vec-text dpr tapas roformer \
    = embedding embedding_norm | 0-2: q k v o up down attention_norm mlp_norm
roberta-prelayernorm = embedding embedding_norm final_norm | 0-2: q k v o up down attention_norm mlp_norm
nomic_bert = embedding embedding_norm | 0-2: qkv o gate up down attention_norm mlp_norm
gte = embedding embedding_norm | 0-2: qkv o <gate_up down attention_norm mlp_norm
jina_embeddings_v3 = embedding embedding_norm | 0-2: qkv o up down attention_norm mlp_norm
ctrl = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
cpmant exaone xlstm = embedding final_norm | 0-2: q k v o gate up down attention_norm mlp_norm
rwkv = embedding final_norm | 0-2: q k v o up down attention_norm mlp_norm
moshi = embedding final_norm | 0-2: q k v o gate_up down attention_norm mlp_norm
jetmoe = embedding final_norm | 0-2: q*1 o*1 gate_up*1 down*1 attention_norm mlp_norm
granitemoe_swa = embedding final_norm | 0-2: q k v o gate_up*1 down*1 attention_norm mlp_norm
recurrent_gemma = embedding final_norm | 0-1: gate up down ssm_in ssm_out attention_norm mlp_norm \
    | 2: q k v o gate up down attention_norm mlp_norm
nemotron_h+moe = embedding final_norm | 0: ssm_in ssm_out attention_norm | 1: q k v o attention_norm \
    | 2: up*4 up*s down*4 down*s attention_norm
prophetnet = embedding embedding_norm e:embedding_norm \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
seamless_m4t = embedding final_norm e:final_norm \
    | 0-2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0-2: q k v o up down attention_norm mlp_norm
nllb-moe switch_transformers = embedding final_norm e:final_norm \
    | 0,2: q k v o up down cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | 1: q k v o up*4 down*4 cross_q cross_k cross_v cross_o attention_norm mlp_norm cross_norm \
    | e0,2: q k v o up down attention_norm mlp_norm \
    | e1: q k v o up*4 down*4 attention_norm mlp_norm
hand+baichuan = embedding final_norm | 0-2: qkv o gate up down attention_norm mlp_norm
hand+qwen1 = embedding final_norm | 0-2: qkv o gate up down attention_norm mlp_norm
hand+internlm2 = embedding final_norm | 0-2: ~qkv o gate up down attention_norm mlp_norm
hand+chatglm3 = embedding final_norm | 0-2: qkv o gate_up down attention_norm mlp_norm
hand+phi-1_5 = embedding | 0-2: qkv o up down attention_norm
hand+meta-llama = embedding final_norm | 0-2: v o gate up down attention_norm mlp_norm
";

/// The map of an architecture in the notation of [`EXPECTED`].
fn describe(tensors: &[Tensor]) -> String {
    // By role, and whether it is that of a shared expert: the layout and the numbers of the experts.
    type Roles = BTreeMap<(Role, bool), (Layout, Vec<u16>)>;
    let mut layers: BTreeMap<(Stack, u16), Roles> = BTreeMap::new();
    let mut outside = BTreeMap::new();
    for (tensor, p) in placed(tensors) {
        // Whether a head is stored depends on the config alone.
        if p.role == Role::Head {
            continue;
        }
        if matches!(p.role, FinalNorm | Embedding | Role::EmbeddingNorm) {
            outside.insert((p.stack, p.role), if p.stack == Stack::Encoder { "e:" } else { "" });
            continue;
        }
        let shared = p.expert == Some(Position::SHARED);
        let roles = layers.entry((p.stack, p.layer)).or_default();
        let (layout, experts) = roles.entry((p.role, shared)).or_insert((p.layout, Vec::new()));
        assert_eq!(*layout, p.layout, "{}", tensor.name);
        experts.extend(p.expert);
    }
    let mut text: Vec<String> = vec![
        outside
            .iter()
            .map(|((_, role), sign)| format!("{sign}{}", role.name()))
            .collect::<Vec<_>>()
            .join(" "),
    ];
    let mut groups: Vec<(Stack, String, Vec<u16>)> = Vec::new();
    for ((stack, layer), roles) in layers {
        let word = |((role, shared), (layout, mut experts)): ((Role, bool), (Layout, Vec<u16>))| {
            experts.sort_unstable();
            let sign = match layout {
                Layout::Linear => "",
                Layout::Interleaved => "~",
                Layout::Conv1d => "^",
                Layout::UpFirst => "<",
            };
            let count = match experts.len() as u16 {
                0 => String::new(),
                _ if shared => "*s".to_owned(),
                n => {
                    assert!(experts.iter().copied().eq(0..n));
                    format!("*{n}")
                }
            };
            format!("{sign}{}{count}", role.name())
        };
        let line = roles.into_iter().map(word).collect::<Vec<_>>().join(" ");
        match groups.iter_mut().find(|(s, l, _)| *s == stack && *l == line) {
            Some((_, _, numbers)) => numbers.push(layer),
            None => groups.push((stack, line, vec![layer])),
        }
    }
    for (stack, line, layers) in groups {
        let sign = if stack == Stack::Encoder { "e" } else { "" };
        let range = match layers.as_slice() {
            [only] => only.to_string(),
            [first, .., last] if usize::from(last - first) + 1 == layers.len() => format!("{first}-{last}"),
            several => several.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        text.push(format!("{sign}{range}: {line}"));
    }
    text.join(" | ")
}

/// The words of a description in any order.
fn sorted(description: &str) -> Vec<Vec<&str>> {
    let mut parts: Vec<Vec<&str>> =
        description.split('|').map(|part| part.split_whitespace().collect()).collect();
    for part in &mut parts {
        part.sort_unstable();
    }
    parts
}

#[test]
fn every_architecture_has_the_expected_map() {
    let mut expected = HashMap::new();
    for line in EXPECTED.lines().filter(|line| !line.is_empty()) {
        let (names, description) = line.split_once('=').unwrap();
        expected.extend(names.split_whitespace().map(|name| (name, description)));
    }
    let architectures = architectures();
    let mut wrong = Vec::new();
    for (name, tensors) in &architectures {
        let is = describe(tensors);
        let should = expected.get(name.as_str()).copied().unwrap_or("not expected");
        if sorted(&is) != sorted(should) {
            wrong.push(format!("{name} = {is}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(architectures.len(), expected.len());
}

/// Parts of names that never have a role. Both ways: what has none contains one of these.
const NONE: &[&str] = &[
    // Vectors that are no gains, and tables that are no token embedding.
    "bias",
    ".beta",
    "position",
    "token_type",
    "wpe",
    "rel_embeddings",
    "rotary",
    "inv_freq",
    "pos_proj",
    "pos_q_proj",
    "pos_key_proj",
    "pos_query_proj",
    "sinks",
    "alpha_",
    ".eps",
    "masked_spec",
    // Norms over heads, latents and inner dimensions.
    "q_norm",
    "k_norm",
    "q_layernorm",
    "k_layernorm",
    "a_layernorm",
    "sub_norm",
    "mixer.norm",
    "mamba.norm",
    "b_layernorm",
    "c_layernorm",
    "dt_layernorm",
    "linear_attn.norm",
    // Routers, gates of whole blocks, second halves of low-rank projections, Mamba's small matrices.
    "mlp.gate.",
    "moe.gate.",
    "router",
    "shared_expert_gate",
    "cross_attn_attn_gate",
    "cross_attn_mlp_gate",
    "q_b_proj",
    "kv_b_proj",
    "A_log",
    "mixer.D",
    "mamba.D",
    "conv",
    "dt_",
    "x_proj",
    "in_proj_a",
    "in_proj_b",
    "in_proj_z",
    // Heads and projections of embeddings.
    "lm_head",
    "cls.",
    "score.",
    "classification_head",
    "classifier",
    "pooler",
    "predictions",
    "vocab_",
    "qa_outputs",
    "contact_head",
    "project_in",
    "project_out",
    "embeddings_project",
    "embedding_hidden_mapping_in",
    ".output_layer.",
    "head.",
    "embed_out",
    // Of linear attention: gates, and what mixes a token with the one before it.
    "rg_lru",
    "linear_y",
    "conv_1d",
    "time_",
    "gate_preact",
    "multihead_norm",
    "attention.time",
    "feed_forward.receptance",
    "pre_ln",
    // Of other families: keys and values in one, what all experts share, global attention, queries for entities.
    ".kv_proj",
    "mixer.gate.",
    "shared_mlp",
    "_global",
    "e2w_query",
    "w2e_query",
    "e2e_query",
    "entity_",
    "rel_pos",
    "relative_pos",
    "ngram_embeddings",
    "segment_embedding",
    // Other modalities.
    "vision",
    "visual",
    "audio_tower",
    "qformer",
    "query_tokens",
    "multi_modal_projector",
    "connector",
    "language_projection",
    "image_newline",
    "text_projection",
    "text_model.head",
    "logit_",
    "feature_",
    "patch_",
    "cls_token",
    "mask_token",
    "layer_scale",
    "post_layernorm",
    "pre_layrnorm",
    "vit.",
    "layernorm_before.",
    "layernorm_after",
    "class_embedding",
    "probe",
];

/// Output heads that are stored beside the embedding.
const HEADS: &[&str] = &["lm_head.weight", "lm_head.decoder.weight", "output_layer.weight", "output.weight"];

/// Fixtures that are no language models: nothing in them has a role.
const OTHERS: &[&str] =
    &["clip_vision_model", "siglip_vision_model", "vit", "vit+bare", "dinov2", "wav2vec2"];

#[test]
fn what_has_no_role_is_known_to_have_none() {
    let mut wrong = Vec::new();
    for (architecture, tensors) in architectures() {
        for (tensor, p) in map(&tensors) {
            let name = &tensor.name;
            let meta = architecture == "hand+meta-llama" || architecture == "hand+internlm2";
            let none = NONE.iter().any(|part| name.contains(part))
                || OTHERS.contains(&architecture.as_str())
                || (meta && ["output.weight", ".wq.", ".wk."].iter().any(|part| name.contains(part)))
                // DeBERTa's norm of position embeddings; the norm of a head.
                || name == "deberta.encoder.LayerNorm.weight";
            let is_head = p.is_some_and(|p| p.role == Role::Head);
            if is_head && !HEADS.iter().any(|head| name.ends_with(head)) {
                wrong.push(format!("{architecture}: {name} as a head"));
            } else if !is_head && p.is_none() != none {
                wrong.push(format!("{architecture}: {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_output_head_is_known_by_name_and_shape() {
    let of = |head: &str, shape: &[u64]| {
        let tensors: [(&str, &[u64]); 4] = [
            ("model.embed_tokens.weight", &[100, 8]),
            ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
            ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
            (head, shape),
        ];
        positions(tensors)[3].map(|p| p.role)
    };
    assert_eq!(of("lm_head.weight", &[100, 8]), Some(Role::Head));
    assert_eq!(of("language_model.lm_head.weight", &[100, 8]), Some(Role::Head));
    // Of another vocabulary, the head of another task, a table of the same shape.
    for (name, shape) in [
        ("lm_head.weight", &[101, 8][..]),
        ("score.weight", &[2, 8]),
        ("table.weight", &[100, 8]),
        ("lm_head.bias", &[100]),
    ] {
        assert_eq!(of(name, shape), None, "{name}");
    }
}

/// The names of a small model with a head of its own, behind a prefix.
fn with_head(prefix: &str) -> Vec<(String, Vec<u64>)> {
    let mut tensors = vec![(format!("{prefix}model.embed_tokens.weight"), vec![100, 8])];
    for matrix in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        tensors.push((format!("{prefix}model.layers.0.self_attn.{matrix}.weight"), vec![8, 8]));
    }
    tensors.push((format!("{prefix}lm_head.weight"), vec![100, 8]));
    tensors
}

#[test]
fn the_head_is_that_of_the_model() {
    let mut tensors = [with_head("language_model."), with_head("draft.")].concat();
    // The larger one is the model, and has the longer name.
    tensors.push(("language_model.model.layers.0.mlp.up_proj.weight".into(), vec![16, 8]));
    let found = positions(tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())));
    let heads: Vec<&str> = tensors
        .iter()
        .zip(found)
        .filter(|(_, p)| p.is_some_and(|p| p.role == Role::Head))
        .map(|((name, _), _)| name.as_str())
        .collect();
    assert_eq!(heads, ["language_model.lm_head.weight"]);
}

#[test]
fn a_name_that_is_given_twice_is_one() {
    // The embedding stands above the layers, behind a prefix that nobody knows.
    let mut names = vec!["x.embed_tokens.weight".to_owned(), "x.y.norm.weight".to_owned()];
    for layer in 0..3 {
        for inside in ["self_attn.q_proj", "self_attn.o_proj", "input_layernorm", "post_attention_layernorm"]
        {
            names.push(format!("x.y.layers.{layer}.{inside}.weight"));
        }
    }
    let of = |names: &[String]| Naming::of(names.iter().map(String::as_str));
    let (once, twice) = (of(&names), of(&[names.clone(), names.clone()].concat()));
    for naming in [once, twice] {
        assert_eq!(naming.depth(), Some(3));
        assert_eq!(naming.position("x.embed_tokens.weight").map(|p| p.role), Some(Embedding));
    }
}

#[test]
fn what_stands_above_two_models_belongs_to_one_of_them() {
    let mut names = vec!["a.embed_tokens.weight".to_owned()];
    for (model, layers) in [("x", 3), ("y", 2)] {
        for layer in 0..layers {
            for inside in
                ["self_attn.q_proj", "self_attn.o_proj", "input_layernorm", "post_attention_layernorm"]
            {
                names.push(format!("a.{model}.layers.{layer}.{inside}.weight"));
            }
        }
    }
    let naming = Naming::of(names.iter().map(String::as_str));
    assert_eq!((naming.prefix(), naming.depth()), ("a.x.", Some(3)));
    let [other] = naming.others() else { panic!("{:?}", naming.others()) };
    assert!(other.tensors.iter().all(|name| name.starts_with("a.y.")), "{other:?}");
}

#[test]
fn long_names_of_nothing_but_numbers_cost_little() {
    // 5,000 names of 1,024 bytes: with every number and every suffix looked at these are 10^12 bytes.
    let names: Vec<String> = (0..5000).map(|i| format!("a{i:04}{}", ".0".repeat(509))).collect();
    assert_eq!(Naming::of(names.iter().map(String::as_str)).depth(), None);
}

/// Embeddings of another width than the layers.
const NARROW: &[&str] = &["albert", "electra", "opt+350m"];

#[test]
fn shapes_agree_with_roles() {
    for (architecture, tensors) in architectures() {
        let placed = placed(&tensors);
        for (tensor, p) in &placed {
            let (rows, columns) = p.matrix(&tensor.shape);
            let what = format!("{architecture}: {}", tensor.name);
            if matches!(p.role, Embedding | Role::EmbeddingNorm) && NARROW.contains(&architecture.as_str()) {
                continue;
            }
            let residual = if p.row_is_residual() { columns } else { rows };
            assert_eq!(residual, HIDDEN, "{what}");
            if p.role.is_norm() {
                assert_eq!(tensor.shape, [HIDDEN], "{what}");
            } else if p.role == Embedding {
                assert!(rows > 100, "{what}");
            } else {
                let experts = p.expert.is_some_and(|e| e != Position::SHARED);
                assert_eq!(tensor.shape.len(), if tensor.shape[0] == 4 && experts { 3 } else { 2 }, "{what}");
            }
            // Where inner and hidden size differ, exactly one side of a matrix is the residual one.
            let in_layer = |role: Role| {
                let same =
                    |q: &Position| (q.stack, q.layer, q.expert, q.role) == (p.stack, p.layer, p.expert, role);
                placed.iter().find(|(_, q)| same(q)).map(|(t, q)| (*q, q.matrix(&t.shape)))
            };
            let outputs = |(p, (rows, columns)): (Position, (u64, u64))| {
                if p.layout == Layout::Conv1d { columns } else { rows }
            };
            let inputs = |(p, (rows, columns)): (Position, (u64, u64))| {
                if p.layout == Layout::Conv1d { rows } else { columns }
            };
            let here = (*p, (rows, columns));
            // Queries and keys of an xLSTM are half as wide as its values.
            let narrow = architecture == "xlstm";
            if p.role == Down {
                let first =
                    in_layer(Up).map_or_else(|| outputs(in_layer(Role::GateUp).unwrap()) / 2, outputs);
                assert_eq!(inputs(here), first, "{what}");
            }
            if p.role == Output {
                if let Some(qkv) = in_layer(Qkv) {
                    let kv = outputs(qkv) - inputs(here);
                    assert!(kv.is_multiple_of(2) && kv / 2 <= inputs(here), "{what}");
                } else if let (Some(q), Some(_), false) = (in_layer(Query), in_layer(Key), narrow) {
                    // Qwen 3.5 has a gate in its query projection.
                    let gated = if architecture == "qwen3_5_moe_text" { 2 } else { 1 };
                    assert_eq!(inputs(here) * gated, outputs(q), "{what}");
                }
            }
            if p.role == Key && !narrow {
                assert_eq!(in_layer(Role::Value).map(outputs), Some(outputs(here)), "{what}");
            }
        }
        let owners: BTreeSet<_> = placed.iter().map(|(_, p)| (p.stack, p.layer, p.expert, p.role)).collect();
        assert_eq!(owners.len(), placed.len(), "{architecture}");
        for (_, p) in placed {
            assert!(p.expert.is_none_or(|e| e < EXPERTS || e == Position::SHARED), "{architecture}");
        }
    }
}

/// Stacks whose norms stand behind the blocks, and those without gains.
const NO_NORM_BEFORE: &[&str] = &[
    "longformer",
    "luke",
    "layoutlm",
    "roformer",
    "ernie",
    "data2vec-text",
    "dpr",
    "tapas",
    "nomic_bert",
    "gte",
    "jina_embeddings_v3",
    "prophetnet",
    "bert",
    "bert+bare",
    "bert+head",
    "roberta",
    "camembert",
    "xlm-roberta",
    "distilbert",
    "distilbert+bare",
    "albert",
    "electra",
    "deberta",
    "deberta-v2",
    "mpnet",
    "bart",
    "bart+bare",
    "bart+head",
    "plbart",
    "marian",
    "openai-gpt",
    "opt+350m",
    "olmo",
    "olmo2",
    "olmo3",
    "exaone4",
    "hand+bert-gamma",
    "hand+phi-1_5",
];

#[test]
fn the_norm_before_a_matrix_is_the_one_that_feeds_it() {
    let mut measured = 0;
    for (architecture, tensors) in architectures() {
        let placed = placed(&tensors);
        let norms: HashMap<&str, Position> = placed
            .iter()
            .map(|(tensor, p)| (tensor.name.as_str(), *p))
            .filter(|(_, p)| p.role.is_norm())
            .collect();
        for (tensor, p) in &placed {
            let what = format!("{architecture}: {}", tensor.name);
            let before =
                p.role.norm_before(|role| norms.values().any(|n| n.stack == p.stack && n.role == role));
            let reads = p.role.is_matrix()
                && !matches!(p.role, Output | Down | Role::CrossOutput | Role::SsmOut)
                && !matches!(p.role, Role::CrossKey | Role::CrossValue);
            assert_eq!(before.is_some(), reads && !NO_NORM_BEFORE.contains(&architecture.as_str()), "{what}");
            if tensor.fed_by == "?" {
                continue;
            }
            let Some(before) = before else {
                // Behind the blocks: a block is fed by the norm of the one in front of it.
                if let Some(feeding) = norms.get(tensor.fed_by.as_str()).filter(|_| reads) {
                    let (layer, roles): (_, &[Role]) = match p.role {
                        Role::Gate | Up => (p.layer, &[AttentionNorm, Role::CrossNorm]),
                        Role::CrossQuery => (p.layer, &[AttentionNorm]),
                        _ if p.layer == 0 => (0, &[Role::EmbeddingNorm]),
                        _ => (p.layer - 1, &[MlpNorm]),
                    };
                    assert_eq!((feeding.stack, feeding.layer), (p.stack, layer), "{what}");
                    assert!(roles.contains(&feeding.role), "{what} {:?}", feeding.role);
                    measured += 1;
                }
                continue;
            };
            if architecture == "rwkv" {
                // What the norm puts out is mixed with that of the token before.
                continue;
            }
            let Some(feeding) = norms.get(tensor.fed_by.as_str()) else { panic!("{what} is fed by no norm") };
            if feeding.role == Role::EmbeddingNorm {
                // ModernBERT's first layer has no norm of its own.
                assert_eq!((architecture.as_str(), p.layer), ("modernbert", 0));
                continue;
            }
            assert_eq!((feeding.stack, feeding.layer, feeding.role), (p.stack, p.layer, before), "{what}");
            measured += 1;
        }
    }
    assert!(measured > 1000, "{measured}");
}

#[test]
fn the_gate_is_what_goes_through_the_activation() {
    let mut measured = 0;
    for (architecture, tensors) in architectures() {
        let placed = placed(&tensors);
        let gated: BTreeSet<_> =
            placed.iter().filter(|(_, p)| p.role == Role::Gate).map(|(_, p)| (p.layer, p.expert)).collect();
        for (tensor, p) in placed.iter().filter(|(t, _)| t.fed_by != "?") {
            let is_gate = p.role == Role::Gate;
            if is_gate || (p.role == Up && gated.contains(&(p.layer, p.expert))) {
                assert_eq!(tensor.activated, is_gate, "{architecture}: {}", tensor.name);
                measured += 1;
            }
        }
    }
    assert!(measured > 200, "{measured}");
}

#[test]
fn names_that_say_what_they_are() {
    let words: [(Role, &[&str]); 9] = [
        // RWKV asks with its receptance; of JetMoE only queries and the output have experts.
        (
            Query,
            &["q_proj", "query", "query_proj", "q_lin", "q", "Wq", "project_q", "receptance", "input_linear"],
        ),
        (Key, &["k_proj", "key", "key_proj", "k_lin", "k", "Wk", "project_k"]),
        (Role::Value, &["v_proj", "value", "value_proj", "v_lin", "v", "wv", "Wv", "project_v"]),
        (Role::CrossQuery, &["q_proj", "q", "query_proj"]),
        (Role::CrossKey, &["k_proj", "k", "key_proj"]),
        (Role::CrossValue, &["v_proj", "v", "value_proj"]),
        (Role::Gate, &["gate_proj", "wi_0", "w1", "c_fc_0", "w_0", "proj_up_gate", "fc12"]),
        (Role::QueryLatent, &["q_a_proj"]),
        (Role::KvLatent, &["kv_a_proj_with_mqa"]),
    ];
    for (architecture, tensors) in architectures() {
        for (tensor, p) in placed(&tensors) {
            let word = tensor.name.trim_end_matches(".weight").trim_end_matches(".linear");
            let word = word.rsplit('.').next().unwrap();
            let cross = ["encoder_attn", "EncDecAttention", "cross_attn", "cross_attention"]
                .iter()
                .any(|c| tensor.name.contains(c));
            let is_cross = (9..=12).contains(&(p.role as u8)) || p.role == Role::CrossNorm;
            // T5's cross norm is told by its number alone.
            assert!(cross == is_cross || p.role == Role::CrossNorm, "{}", tensor.name);
            let Some((_, said)) = words.iter().find(|(role, _)| *role == p.role) else { continue };
            // Qwen 1 puts the output of `w2` through the activation.
            let said = if architecture == "hand+qwen1" { &["w2"] } else { *said };
            assert!(said.contains(&word), "{architecture}: {}", tensor.name);
        }
    }
}

/// All older and newer names of the same language model inside a multimodal one, and what training tools put
/// in front.
#[test]
fn prefixes_change_nothing() {
    for architecture in ["llama", "gemma2", "mixtral", "opt", "t5"] {
        for tensor in &architectures()[architecture] {
            let plain = position(&tensor.name);
            for prefix in ["module.", "base_model.model.", "language_model.", "model.language_model.", "llm."]
            {
                assert_eq!(position(&format!("{prefix}{}", tensor.name)), plain, "{prefix}{}", tensor.name);
            }
            if let Some(rest) = tensor.name.strip_prefix("model.") {
                assert_eq!(position(&format!("model.language_model.{rest}")), plain, "{}", tensor.name);
            }
            for tower in [
                "vision_tower.",
                "model.vision_tower.",
                "model.visual.",
                "visual.",
                "vision_model.",
                "talker.",
            ] {
                assert_eq!(position(&format!("{tower}{}", tensor.name)), None, "{tower}{}", tensor.name);
            }
        }
    }
}

fn at(name: &str) -> Option<(u16, Role)> {
    position(name).map(|p| (p.layer, p.role))
}

#[test]
fn look_alikes_have_no_role() {
    for name in [
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "model.visual.blocks.0.norm1.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.0.self_attn.q_proj.qweight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.mlp.experts.x.up_proj.weight",
        "model.layers.0.mlp.experts.gate_up_proj_blocks",
        "model.layers.0.self_attn.relative_attention_bias.weight",
        "model.layers.99999.mlp.up_proj.weight",
        "model.layers.+1.mlp.up_proj.weight",
        "model.layers..mlp.up_proj.weight",
        "xmodel.layers.0.mlp.up_proj.weight",
        "model.embed_tokensXweight",
        "model.layers.61.embed_tokens.weight",
        "lm_head.weight",
        "",
        ".",
        "é.0.é",
    ] {
        assert_eq!(at(name), None, "{name}");
    }
}

#[test]
fn positions_of_the_first_table() {
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
fn experts_keep_their_numbers() {
    let expert = |name: &str| position(name).map(|p| (p.layer, p.expert));
    assert_eq!(expert("model.layers.60.mlp.experts.255.up_proj.weight"), Some((60, Some(255))));
    assert_eq!(
        expert("model.layers.60.mlp.shared_experts.up_proj.weight"),
        Some((60, Some(Position::SHARED)))
    );
    assert_eq!(expert("model.layers.60.mlp.up_proj.weight"), Some((60, None)));
    assert_eq!(expert("model.layers.9.mlp.experts.gate_up_proj"), Some((9, Some(0))));
}

#[test]
fn a_fused_matrix_is_as_good_as_its_parts() {
    let qkv = Position::main(Qkv, 0);
    assert_eq!(qkv.parts(96, Some(48)), [(Query, 0..48), (Key, 48..72), (Role::Value, 72..96)]);
    // Without the output projection nobody knows where the query ends.
    assert_eq!(qkv.parts(96, None), [(Qkv, 0..96)]);
    assert_eq!(qkv.parts(96, Some(96)), [(Qkv, 0..96)]);
    assert_eq!(qkv.parts(96, Some(49)), [(Qkv, 0..96)]);
    assert_eq!(Position { layout: Layout::Interleaved, ..qkv }.parts(96, Some(48)), [(Qkv, 0..96)]);
    let gate_up = Position::main(Role::GateUp, 0);
    assert_eq!(gate_up.parts(10, None), [(Role::Gate, 0..5), (Up, 5..10)]);
    assert_eq!(Position { layout: Layout::Conv1d, ..gate_up }.parts(10, None), [(Role::GateUp, 0..10)]);
    assert_eq!(Position::main(Key, 0).parts(7, Some(3)), [(Key, 0..7)]);
}

#[test]
fn a_tied_embedding_stored_twice_counts_once() {
    let wide: &[u64] = &[136, 40];
    let names =
        ["shared.weight", "decoder.embed_tokens.weight", "decoder.layers.0.self_attn.out_proj.weight"];
    let found = positions(names.map(|name| (name, wide)));
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn a_layout_that_no_shape_proves_has_no_role() {
    let square: &[u64] = &[40, 40];
    let gain: &[u64] = &[40];
    let found = positions([
        ("h.0.attn.c_proj.weight", square),
        ("h.0.attn.out_proj.weight", square),
        ("h.0.ln_1.weight", gain),
    ]);
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn role_codes_are_unique_and_round_trip() {
    for role in Role::ALL {
        assert_eq!(Role::from_code(role as u8), Some(role));
    }
    assert!(Role::ALL.is_sorted());
}
