//! The tensors of a shape, in the order of the model's own state dict, by which shards are cut.

use safetensors::Dtype;

mod diffusion;

use super::shapes::{Latent, Packing, Scheme, Shape};

/// One tensor of the checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// The weight whose values it holds, or of which it is a part.
    pub(super) weight: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) content: Content,
}

/// What stands in a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content {
    /// Of a norm at this relative depth, 0 to 1.
    Gain(f32),
    Bias,
    Matrix,
    /// A matrix or convolution of a model of which nothing has a role.
    NotRead,
    /// A matrix of a row a token.
    Embedding,
    /// A lower triangle of ones.
    Mask,
    /// Of rotary positions, with their base.
    Frequencies(f64),
    /// FP8 codes, with a scale for each block of rows and columns.
    Bytes([u64; 2]),
    /// Scales of such blocks.
    ByteScales,
    /// GPTQ: eight codes a word, down the columns of the weight, of which so many are a group.
    Words(u64),
    /// GPTQ: the zero points, all in the middle of the codes.
    Zeros,
    /// GPTQ: a scale for each group of each row.
    GroupScales,
    /// GPTQ: the group of each column, so many being one.
    Groups(u64),
}

impl Tensor {
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of an element.
    pub(super) fn element_bytes(&self) -> u64 {
        self.dtype.bitsize() as u64 / 8
    }

    pub(super) fn bytes(&self) -> u64 {
        self.elements() * self.element_bytes()
    }

    /// Elements of the last dimension.
    pub(super) fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1).max(1)
    }

    /// Weights of the model that stand in it: buffers and scales are none, a word is eight.
    pub(super) fn parameters(&self) -> u64 {
        match self.content {
            Content::Mask
            | Content::Frequencies(_)
            | Content::ByteScales
            | Content::Zeros
            | Content::GroupScales
            | Content::Groups(_) => 0,
            Content::Words(_) => 8 * self.elements(),
            _ => self.elements(),
        }
    }
}

/// All tensors of the shape.
pub(super) fn of(shape: &Shape) -> Vec<Tensor> {
    let mut list = List { shape, tensors: Vec::new() };
    match shape.scheme {
        Scheme::Bert => list.bert(),
        Scheme::Gpt2 => list.gpt2(),
        Scheme::Llama { tied, biases, frequencies } => list.llama(tied, biases, frequencies),
        Scheme::Mixtral { experts } => list.mixtral(experts),
        Scheme::DeepSeek(latent) => list.deepseek(latent),
        Scheme::Clip { projection } => list.clip(projection),
        Scheme::Unet => list.unet(),
        Scheme::Autoencoder => list.autoencoder(),
    }
    list.tensors
}

struct List<'a> {
    shape: &'a Shape,
    tensors: Vec<Tensor>,
}

impl List<'_> {
    fn add(&mut self, name: String, dtype: Dtype, shape: &[u64], content: Content) {
        let weight = name.clone();
        self.tensors.push(Tensor { name, weight, dtype, shape: shape.to_vec(), content });
    }

    fn plain(&mut self, name: String, shape: &[u64], content: Content) {
        self.add(name, self.shape.dtype, shape, content);
    }

    fn gain(&mut self, name: String, layer: u64, length: u64) {
        let depth = (layer + 1) as f32 / (self.shape.layers + 1) as f32;
        self.plain(name, &[length], Content::Gain(depth));
    }

    /// A linear layer as the shape packs it.
    fn linear(&mut self, layer: &str, rows: u64, columns: u64) {
        let weight = format!("{layer}.weight");
        let dtype = self.shape.dtype;
        let mut part = |end: &str, dtype, shape: &[u64], content| {
            let (name, weight) = (format!("{layer}.{end}"), weight.clone());
            self.tensors.push(Tensor { name, weight, dtype, shape: shape.to_vec(), content });
        };
        match self.shape.packing {
            Packing::Plain => part("weight", dtype, &[rows, columns], Content::Matrix),
            Packing::Blocks(n) => {
                part("weight", Dtype::F8_E4M3, &[rows, columns], Content::Bytes([n, n]));
                let blocks = [rows.div_ceil(n), columns.div_ceil(n)];
                part("weight_scale_inv", Dtype::F32, &blocks, Content::ByteScales);
            }
            Packing::Rows => {
                part("weight", Dtype::F8_E4M3, &[rows, columns], Content::Bytes([1, columns]));
                part("weight_scale", dtype, &[rows, 1], Content::ByteScales);
            }
            Packing::Gptq(n) => {
                part("g_idx", Dtype::I32, &[columns], Content::Groups(n));
                part("qweight", Dtype::I32, &[columns / 8, rows], Content::Words(n));
                part("qzeros", Dtype::I32, &[columns / n, rows / 8], Content::Zeros);
                part("scales", dtype, &[columns / n, rows], Content::GroupScales);
            }
        }
    }

    /// `weight` and `bias` of PyTorch's linear layer.
    fn with_bias(&mut self, layer: &str, shape: &[u64], outputs: u64) {
        self.plain(format!("{layer}.weight"), shape, Content::Matrix);
        self.plain(format!("{layer}.bias"), &[outputs], Content::Bias);
    }

    fn layer_norm(&mut self, layer: &str, (gain, bias): (&str, &str), depth: u64) {
        let hidden = self.shape.hidden;
        self.gain(format!("{layer}.{gain}"), depth, hidden);
        self.plain(format!("{layer}.{bias}"), &[hidden], Content::Bias);
    }

    fn bert(&mut self) {
        const NORM: (&str, &str) = ("gamma", "beta");
        let Shape { hidden: d, inner, layers, tokens, positions, .. } = *self.shape;
        let at = "bert.embeddings";
        self.plain(format!("{at}.word_embeddings.weight"), &[tokens, d], Content::Embedding);
        self.plain(format!("{at}.position_embeddings.weight"), &[positions, d], Content::Matrix);
        self.plain(format!("{at}.token_type_embeddings.weight"), &[2, d], Content::Matrix);
        self.layer_norm(&format!("{at}.LayerNorm"), NORM, 0);
        for layer in 0..layers {
            let at = format!("bert.encoder.layer.{layer}");
            for part in ["query", "key", "value"] {
                self.with_bias(&format!("{at}.attention.self.{part}"), &[d, d], d);
            }
            self.with_bias(&format!("{at}.attention.output.dense"), &[d, d], d);
            self.layer_norm(&format!("{at}.attention.output.LayerNorm"), NORM, layer);
            self.with_bias(&format!("{at}.intermediate.dense"), &[inner, d], inner);
            self.with_bias(&format!("{at}.output.dense"), &[d, inner], d);
            self.layer_norm(&format!("{at}.output.LayerNorm"), NORM, layer);
        }
        self.with_bias("bert.pooler.dense", &[d, d], d);
        self.plain("cls.predictions.bias".into(), &[tokens], Content::Bias);
        self.with_bias("cls.predictions.transform.dense", &[d, d], d);
        self.layer_norm("cls.predictions.transform.LayerNorm", NORM, layers);
        self.with_bias("cls.seq_relationship", &[2, d], 2);
    }

    fn clip(&mut self, projection: Option<u64>) {
        const NORM: (&str, &str) = ("weight", "bias");
        let Shape { hidden: d, inner, layers, tokens, positions, .. } = *self.shape;
        let at = "text_model.embeddings";
        self.plain(format!("{at}.token_embedding.weight"), &[tokens, d], Content::Embedding);
        self.plain(format!("{at}.position_embedding.weight"), &[positions, d], Content::Matrix);
        for layer in 0..layers {
            let at = format!("text_model.encoder.layers.{layer}");
            for part in ["k_proj", "v_proj", "q_proj", "out_proj"] {
                self.with_bias(&format!("{at}.self_attn.{part}"), &[d, d], d);
            }
            self.layer_norm(&format!("{at}.layer_norm1"), NORM, layer);
            self.with_bias(&format!("{at}.mlp.fc1"), &[inner, d], inner);
            self.with_bias(&format!("{at}.mlp.fc2"), &[d, inner], d);
            self.layer_norm(&format!("{at}.layer_norm2"), NORM, layer);
        }
        self.layer_norm("text_model.final_layer_norm", NORM, layers);
        if let Some(width) = projection {
            self.plain("text_projection.weight".into(), &[width, d], Content::Matrix);
        }
    }

    fn gpt2(&mut self) {
        const NORM: (&str, &str) = ("weight", "bias");
        let Shape { hidden: d, inner, layers, tokens, positions: n, .. } = *self.shape;
        self.plain("wte.weight".into(), &[tokens, d], Content::Embedding);
        self.plain("wpe.weight".into(), &[n, d], Content::Matrix);
        for layer in 0..layers {
            let at = format!("h.{layer}");
            self.layer_norm(&format!("{at}.ln_1"), NORM, layer);
            self.plain(format!("{at}.attn.bias"), &[1, 1, n, n], Content::Mask);
            // Stored as inputs by outputs.
            self.with_bias(&format!("{at}.attn.c_attn"), &[d, 3 * d], 3 * d);
            self.with_bias(&format!("{at}.attn.c_proj"), &[d, d], d);
            self.layer_norm(&format!("{at}.ln_2"), NORM, layer);
            self.with_bias(&format!("{at}.mlp.c_fc"), &[d, inner], inner);
            self.with_bias(&format!("{at}.mlp.c_proj"), &[inner, d], d);
        }
        self.layer_norm("ln_f", NORM, layers);
    }

    fn llama(&mut self, tied: bool, biases: bool, frequencies: bool) {
        let Shape { hidden: d, inner, heads, layers, rope_theta, .. } = *self.shape;
        self.embedding("model.embed_tokens.weight");
        for layer in 0..layers {
            let at = format!("model.layers.{layer}");
            self.attention(&at, biases);
            if frequencies {
                let name = format!("{at}.self_attn.rotary_emb.inv_freq");
                self.add(name, Dtype::F32, &[d / heads / 2], Content::Frequencies(rope_theta));
            }
            self.gated(&format!("{at}.mlp"), ["gate_proj", "up_proj", "down_proj"], inner);
            self.layer_norms(layer);
        }
        self.gain("model.norm.weight".into(), layers, d);
        if !tied {
            self.head("lm_head.weight");
        }
    }

    fn mixtral(&mut self, experts: u64) {
        let Shape { hidden: d, inner, layers, .. } = *self.shape;
        self.embedding("model.embed_tokens.weight");
        for layer in 0..layers {
            let at = format!("model.layers.{layer}");
            self.attention(&at, false);
            let block = format!("{at}.block_sparse_moe");
            self.plain(format!("{block}.gate.weight"), &[experts, d], Content::Matrix);
            for expert in 0..experts {
                let expert = format!("{block}.experts.{expert}");
                self.linear(&format!("{expert}.w1"), inner, d);
                self.linear(&format!("{expert}.w2"), d, inner);
                self.linear(&format!("{expert}.w3"), inner, d);
            }
            self.layer_norms(layer);
        }
        self.gain("model.norm.weight".into(), layers, d);
        self.head("lm_head.weight");
    }

    fn deepseek(&mut self, latent: Latent) {
        const GATED: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];
        let Shape { hidden: d, inner, heads, layers, .. } = *self.shape;
        let Latent { query_rank, kv_rank, plain, rotated, value, experts, expert_inner, .. } = latent;
        self.embedding("model.embed_tokens.weight");
        for layer in 0..layers + latent.further {
            let at = format!("model.layers.{layer}");
            let predicts = layer >= layers;
            if predicts {
                // The planner's names know one embedding, so this one is a matrix like others.
                self.head(&format!("{at}.embed_tokens.weight"));
                self.gain(format!("{at}.enorm.weight"), layer, d);
                self.gain(format!("{at}.hnorm.weight"), layer, d);
                self.plain(format!("{at}.eh_proj.weight"), &[d, 2 * d], Content::Matrix);
            }
            let attention = format!("{at}.self_attn");
            self.linear(&format!("{attention}.q_a_proj"), query_rank, d);
            self.gain(format!("{attention}.q_a_layernorm.weight"), layer, query_rank);
            self.linear(&format!("{attention}.q_b_proj"), heads * (plain + rotated), query_rank);
            self.linear(&format!("{attention}.kv_a_proj_with_mqa"), kv_rank + rotated, d);
            self.gain(format!("{attention}.kv_a_layernorm.weight"), layer, kv_rank);
            self.linear(&format!("{attention}.kv_b_proj"), heads * (plain + value), kv_rank);
            self.linear(&format!("{attention}.o_proj"), d, heads * value);
            let block = format!("{at}.mlp");
            if layer < latent.dense {
                self.gated(&block, GATED, inner);
            } else {
                self.plain(format!("{block}.gate.weight"), &[experts, d], Content::Matrix);
                let bias = format!("{block}.gate.e_score_correction_bias");
                self.add(bias, Dtype::F32, &[experts], Content::Bias);
                for expert in 0..experts {
                    self.gated(&format!("{block}.experts.{expert}"), GATED, expert_inner);
                }
                self.gated(&format!("{block}.shared_experts"), GATED, expert_inner);
            }
            self.layer_norms(layer);
            if predicts {
                self.gain(format!("{at}.shared_head.norm.weight"), layer, d);
                self.head(&format!("{at}.shared_head.head.weight"));
            }
        }
        self.gain("model.norm.weight".into(), layers, d);
        self.head("lm_head.weight");
    }

    fn embedding(&mut self, name: &str) {
        self.plain(name.into(), &[self.shape.tokens, self.shape.hidden], Content::Embedding);
    }

    /// A row a token as well, but no embedding that is read by token. Never packed.
    fn head(&mut self, name: &str) {
        self.plain(name.into(), &[self.shape.tokens, self.shape.hidden], Content::Matrix);
    }

    fn attention(&mut self, layer: &str, biases: bool) {
        let Shape { hidden: d, heads, kv_heads, .. } = *self.shape;
        let narrow = d / heads * kv_heads;
        for (part, rows) in [("q", d), ("k", narrow), ("v", narrow)] {
            let name = format!("{layer}.self_attn.{part}_proj");
            self.linear(&name, rows, d);
            if biases {
                self.plain(format!("{name}.bias"), &[rows], Content::Bias);
            }
        }
        self.linear(&format!("{layer}.self_attn.o_proj"), d, d);
    }

    fn gated(&mut self, block: &str, [gate, up, down]: [&str; 3], inner: u64) {
        let d = self.shape.hidden;
        self.linear(&format!("{block}.{gate}"), inner, d);
        self.linear(&format!("{block}.{up}"), inner, d);
        self.linear(&format!("{block}.{down}"), d, inner);
    }

    fn layer_norms(&mut self, layer: u64) {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            self.gain(format!("model.layers.{layer}.{norm}.weight"), layer, self.shape.hidden);
        }
    }
}
