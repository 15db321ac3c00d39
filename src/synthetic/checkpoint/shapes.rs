//! The public models whose layout can be written, one row each.

use safetensors::Dtype;

/// A model's architecture, and how its publisher cut it into files.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What the command line calls it.
    pub name: &'static str,
    /// The public model that has these names, shapes, dtypes and shards.
    pub model: &'static str,
    /// As config.json has it.
    pub architecture: &'static str,
    /// As config.json has it.
    pub model_type: &'static str,
    pub(super) license: &'static str,
    pub(super) scheme: Scheme,
    /// Of the tensors that are not packed.
    pub(super) dtype: Dtype,
    pub(super) packing: Packing,
    pub(super) vocabulary: Vocabulary,
    pub(super) layers: u64,
    pub(super) hidden: u64,
    pub(super) inner: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    /// Rows of the token embedding.
    pub(super) tokens: u64,
    /// Longest input.
    pub(super) positions: u64,
    pub(super) rope_theta: f64,
    pub(super) norm_epsilon: f64,
    /// A file begins anew where the next tensor would make it longer than this.
    pub(super) shard_bytes: u64,
    /// Digits of the number of files in their names.
    pub(super) digits: usize,
    /// Models in folders of their own. Where there are any, the repository is a pipeline of them, and no model itself.
    pub(super) components: &'static [Component],
}

/// A model of a pipeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component {
    /// Its folder.
    pub(super) folder: &'static str,
    /// The library that loads it, as model_index.json has it.
    pub(super) library: &'static str,
    pub(super) shape: Shape,
}

impl Shape {
    /// Its models with their folders: itself, or those of a pipeline.
    pub(super) fn models(&self) -> Vec<(&'static str, &Self)> {
        match self.components {
            [] => vec![("", self)],
            all => all.iter().map(|component| (component.folder, &component.shape)).collect(),
        }
    }
}

/// How tensors are named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scheme {
    Bert,
    Gpt2,
    Llama {
        /// No output head beside the embedding.
        tied: bool,
        /// Queries, keys and values have biases.
        biases: bool,
        /// Rotary frequencies are stored, as early versions of transformers did.
        frequencies: bool,
    },
    Mixtral {
        experts: u64,
    },
    DeepSeek(Latent),
    /// The text model of CLIP, with a projection of its last state to so many dimensions.
    Clip {
        projection: Option<u64>,
    },
    /// A U-Net of diffusers.
    Unet,
    /// A variational autoencoder of diffusers.
    Autoencoder,
}

impl Scheme {
    /// Whether tensors have roles by their names, and rows of them are read.
    pub(super) fn has_roles(self) -> bool {
        !matches!(self, Self::Unet | Self::Autoencoder)
    }
}

/// Multi-head latent attention with experts, and layers that predict further tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latent {
    pub(super) query_rank: u64,
    pub(super) kv_rank: u64,
    /// Of a head, without and with rotation.
    pub(super) plain: u64,
    pub(super) rotated: u64,
    pub(super) value: u64,
    /// Layers before the first with experts.
    pub(super) dense: u64,
    pub(super) experts: u64,
    pub(super) expert_inner: u64,
    /// Layers behind the last, each with an embedding and a head of its own.
    pub(super) further: u64,
}

/// How linear layers are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Packing {
    Plain,
    /// FP8 with an F32 scale for each block of so many rows and columns, as DeepSeek publishes.
    Blocks(u64),
    /// FP8 with a scale a row, as compressed-tensors writes.
    Rows,
    /// GPTQ in 4 bits, so many columns a group.
    Gptq(u64),
}

/// Whose tokens: models of one vocabulary have the same, two vocabularies have a third in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    Bert,
    Gpt2,
    Qwen2,
    Llama2,
    Mistral,
    Llama3,
    DeepSeek3,
    Gemma,
    Clip,
}

/// What transformers cut at until 2023, and what it has cut at since.
const LARGE: u64 = 10_000_000_000;
const SMALL: u64 = 5_000_000_000;
/// For models that are one file.
const WHOLE: u64 = u64::MAX;

const LLAMA: Scheme = Scheme::Llama { tied: false, biases: false, frequencies: false };
const LLAMA_2: Scheme = Scheme::Llama { tied: false, biases: false, frequencies: true };

const LLAMA_2_7B: Shape = Shape {
    name: "llama-7b",
    model: "meta-llama/Llama-2-7b-hf",
    architecture: "LlamaForCausalLM",
    model_type: "llama",
    license: "llama2",
    scheme: LLAMA_2,
    dtype: Dtype::F16,
    packing: Packing::Plain,
    vocabulary: Vocabulary::Llama2,
    layers: 32,
    hidden: 4096,
    inner: 11008,
    heads: 32,
    kv_heads: 32,
    tokens: 32000,
    positions: 4096,
    rope_theta: 10_000.0,
    norm_epsilon: 1e-5,
    shard_bytes: LARGE,
    digits: 5,
    components: &[],
};

const LLAMA_3_8B: Shape = Shape {
    name: "llama-3.1-8b",
    model: "meta-llama/Llama-3.1-8B",
    license: "llama3.1",
    scheme: LLAMA,
    dtype: Dtype::BF16,
    vocabulary: Vocabulary::Llama3,
    inner: 14336,
    kv_heads: 8,
    tokens: 128_256,
    positions: 131_072,
    rope_theta: 500_000.0,
    shard_bytes: SMALL,
    ..LLAMA_2_7B
};

const MISTRAL_7B: Shape = Shape {
    name: "mistral-7b",
    model: "mistralai/Mistral-7B-v0.1",
    architecture: "MistralForCausalLM",
    model_type: "mistral",
    license: "apache-2.0",
    scheme: LLAMA,
    dtype: Dtype::BF16,
    vocabulary: Vocabulary::Mistral,
    inner: 14336,
    kv_heads: 8,
    positions: 32768,
    ..LLAMA_2_7B
};

const CLIP: Shape = Shape {
    architecture: "CLIPTextModel",
    model_type: "clip_text_model",
    license: "openrail++",
    scheme: Scheme::Clip { projection: None },
    dtype: Dtype::F32,
    vocabulary: Vocabulary::Clip,
    layers: 12,
    hidden: 768,
    inner: 3072,
    heads: 12,
    kv_heads: 12,
    tokens: 49408,
    positions: 77,
    shard_bytes: WHOLE,
    ..LLAMA_2_7B
};

/// Stable Diffusion XL.
const SDXL: [Component; 4] = [
    Component { folder: "text_encoder", library: "transformers", shape: CLIP },
    Component {
        folder: "text_encoder_2",
        library: "transformers",
        shape: Shape {
            architecture: "CLIPTextModelWithProjection",
            scheme: Scheme::Clip { projection: Some(1280) },
            layers: 32,
            hidden: 1280,
            inner: 5120,
            heads: 20,
            kv_heads: 20,
            ..CLIP
        },
    },
    Component {
        folder: "unet",
        library: "diffusers",
        shape: Shape { architecture: "UNet2DConditionModel", scheme: Scheme::Unet, ..CLIP },
    },
    Component {
        folder: "vae",
        library: "diffusers",
        shape: Shape { architecture: "AutoencoderKL", scheme: Scheme::Autoencoder, ..CLIP },
    },
];

/// Every shape, small ones first.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "bert-base",
        model: "google-bert/bert-base-uncased",
        architecture: "BertForMaskedLM",
        model_type: "bert",
        license: "apache-2.0",
        scheme: Scheme::Bert,
        dtype: Dtype::F32,
        vocabulary: Vocabulary::Bert,
        layers: 12,
        hidden: 768,
        inner: 3072,
        heads: 12,
        kv_heads: 12,
        tokens: 30522,
        positions: 512,
        norm_epsilon: 1e-12,
        shard_bytes: WHOLE,
        ..LLAMA_2_7B
    },
    Shape {
        name: "gpt2",
        model: "openai-community/gpt2",
        architecture: "GPT2LMHeadModel",
        model_type: "gpt2",
        license: "mit",
        scheme: Scheme::Gpt2,
        dtype: Dtype::F32,
        vocabulary: Vocabulary::Gpt2,
        layers: 12,
        hidden: 768,
        inner: 3072,
        heads: 12,
        kv_heads: 12,
        tokens: 50257,
        positions: 1024,
        shard_bytes: WHOLE,
        ..LLAMA_2_7B
    },
    Shape {
        name: "qwen2.5-0.5b",
        model: "Qwen/Qwen2.5-0.5B",
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        license: "apache-2.0",
        scheme: Scheme::Llama { tied: true, biases: true, frequencies: false },
        dtype: Dtype::BF16,
        vocabulary: Vocabulary::Qwen2,
        layers: 24,
        hidden: 896,
        inner: 4864,
        heads: 14,
        kv_heads: 2,
        tokens: 151_936,
        positions: 32768,
        rope_theta: 1_000_000.0,
        norm_epsilon: 1e-6,
        shard_bytes: SMALL,
        ..LLAMA_2_7B
    },
    Shape {
        name: "gemma-2b",
        model: "google/gemma-2b",
        architecture: "GemmaForCausalLM",
        model_type: "gemma",
        license: "gemma",
        scheme: Scheme::Llama { tied: true, biases: false, frequencies: false },
        dtype: Dtype::BF16,
        vocabulary: Vocabulary::Gemma,
        layers: 18,
        hidden: 2048,
        inner: 16384,
        heads: 8,
        kv_heads: 1,
        tokens: 256_000,
        positions: 8192,
        norm_epsilon: 1e-6,
        shard_bytes: SMALL,
        ..LLAMA_2_7B
    },
    Shape {
        name: "sdxl",
        model: "stabilityai/stable-diffusion-xl-base-1.0",
        architecture: "StableDiffusionXLPipeline",
        components: &SDXL,
        ..CLIP
    },
    LLAMA_2_7B,
    Shape {
        name: "llama-7b-single",
        model: "fine-tunes of Llama 2 7B in one BF16 file",
        scheme: LLAMA,
        dtype: Dtype::BF16,
        shard_bytes: WHOLE,
        ..LLAMA_2_7B
    },
    Shape {
        name: "llama-7b-gptq",
        model: "TheBloke/Llama-2-7B-GPTQ",
        scheme: LLAMA,
        packing: Packing::Gptq(128),
        shard_bytes: WHOLE,
        ..LLAMA_2_7B
    },
    MISTRAL_7B,
    LLAMA_3_8B,
    Shape {
        name: "llama-3.1-8b-fp8",
        model: "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic",
        packing: Packing::Rows,
        ..LLAMA_3_8B
    },
    Shape {
        name: "llama-13b",
        model: "meta-llama/Llama-2-13b-hf",
        layers: 40,
        hidden: 5120,
        inner: 13824,
        heads: 40,
        kv_heads: 40,
        ..LLAMA_2_7B
    },
    Shape {
        name: "llama-3-70b",
        model: "meta-llama/Meta-Llama-3-70B",
        license: "llama3",
        layers: 80,
        hidden: 8192,
        inner: 28672,
        heads: 64,
        positions: 8192,
        ..LLAMA_3_8B
    },
    Shape {
        name: "mixtral-8x7b",
        model: "mistralai/Mixtral-8x7B-v0.1",
        architecture: "MixtralForCausalLM",
        model_type: "mixtral",
        scheme: Scheme::Mixtral { experts: 8 },
        rope_theta: 1_000_000.0,
        shard_bytes: SMALL,
        ..MISTRAL_7B
    },
    Shape {
        name: "deepseek-v3",
        model: "deepseek-ai/DeepSeek-V3",
        architecture: "DeepseekV3ForCausalLM",
        model_type: "deepseek_v3",
        license: "mit",
        scheme: Scheme::DeepSeek(Latent {
            query_rank: 1536,
            kv_rank: 512,
            plain: 128,
            rotated: 64,
            value: 128,
            dense: 3,
            experts: 256,
            expert_inner: 2048,
            further: 1,
        }),
        dtype: Dtype::BF16,
        packing: Packing::Blocks(128),
        vocabulary: Vocabulary::DeepSeek3,
        layers: 61,
        hidden: 7168,
        inner: 18432,
        heads: 128,
        kv_heads: 128,
        tokens: 129_280,
        positions: 163_840,
        norm_epsilon: 1e-6,
        // The publisher's own script cut it; this limit gives as many files.
        shard_bytes: 4_260_000_000,
        digits: 6,
        ..LLAMA_2_7B
    },
];

/// The shape with this name.
pub fn find(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name)
}
