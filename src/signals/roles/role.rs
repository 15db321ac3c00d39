//! What a tensor is and where it sits.

use std::ops::Range;

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
    /// Gate of a gated MLP: what goes through the activation function.
    Gate = 5,
    /// First MLP matrix.
    Up = 6,
    /// Fused gate and up projection.
    GateUp = 7,
    /// Second MLP matrix.
    Down = 8,
    /// Query projection of cross attention.
    CrossQuery = 9,
    /// Key projection of cross attention.
    CrossKey = 10,
    /// Value projection of cross attention.
    CrossValue = 11,
    /// Output projection of cross attention.
    CrossOutput = 12,
    /// First matrix of a state space or linear attention block.
    SsmIn = 13,
    /// Last matrix of a state space or linear attention block.
    SsmOut = 14,
    /// Output head, where it is stored beside the embedding; stored as layer 0.
    Head = 15,
    /// Norm at the attention, state space or linear attention block.
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
    /// Norm at the cross attention block.
    CrossNorm = 22,
    /// Norm behind the attention where [`Role::MlpNorm`] stands in front of the MLP.
    PostAttentionNorm = 23,
    /// Token embedding; stored as layer 0.
    Embedding = 32,
    /// First half of a low-rank query projection.
    QueryLatent = 48,
    /// First half of a low-rank key and value projection.
    KvLatent = 49,
}

impl Role {
    /// Every role, in the order of their codes.
    pub const ALL: [Self; 27] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Qkv,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::GateUp,
        Self::Down,
        Self::CrossQuery,
        Self::CrossKey,
        Self::CrossValue,
        Self::CrossOutput,
        Self::SsmIn,
        Self::SsmOut,
        Self::Head,
        Self::AttentionNorm,
        Self::MlpNorm,
        Self::PreMlpNorm,
        Self::PostMlpNorm,
        Self::FinalNorm,
        Self::EmbeddingNorm,
        Self::CrossNorm,
        Self::PostAttentionNorm,
        Self::Embedding,
        Self::QueryLatent,
        Self::KvLatent,
    ];

    /// The role with this number in the database.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u8 == code)
    }

    /// Whether this is a vector of norm gains.
    pub fn is_norm(self) -> bool {
        (16..32).contains(&(self as u8))
    }

    /// Whether every layer has one of these: a matrix, or a norm within the layer.
    pub fn is_in_layer(self) -> bool {
        !matches!(self, Self::FinalNorm | Self::EmbeddingNorm | Self::Embedding | Self::Head)
    }

    /// Whether this is one of a layer's matrices.
    pub fn is_matrix(self) -> bool {
        !self.is_norm() && !matches!(self, Self::Embedding | Self::Head)
    }

    /// Whether this is one of a layer's matrices, or the output head.
    pub fn is_matrix_or_head(self) -> bool {
        self.is_matrix() || self == Self::Head
    }

    /// Whether this matrix takes in the residual stream, of its own stack or of the encoder.
    pub(super) fn reads_residual(self) -> bool {
        !matches!(self, Self::Output | Self::Down | Self::CrossOutput | Self::SsmOut) && self.is_matrix()
    }

    /// The norm whose output is what this matrix takes in, so that its gain can be moved into the matrix's
    /// columns; `None` where there is none. `has` tells which norms are in the stack.
    ///
    /// Which side of a block its norm stands on is not in its name. Two rules settle it for every known
    /// family: a stack whose norms stand in front of the blocks needs one more behind the last layer, and a
    /// layer whose norms all stand behind the blocks has no norm named for the input of its attention. One norm
    /// serves both blocks where they run in parallel.
    pub fn norm_before(self, has: impl Fn(Self) -> bool) -> Option<Self> {
        // Keys and values of cross attention are fed from the other stack.
        let reads = self.reads_residual() && !matches!(self, Self::CrossKey | Self::CrossValue);
        if !reads || !has(Self::FinalNorm) {
            return None;
        }
        let candidates: &[Self] = match self {
            Self::CrossQuery => &[Self::CrossNorm, Self::AttentionNorm],
            Self::Gate | Self::Up | Self::GateUp if has(Self::AttentionNorm) => {
                &[Self::PreMlpNorm, Self::MlpNorm, Self::AttentionNorm]
            }
            Self::Gate | Self::Up | Self::GateUp => &[Self::PreMlpNorm],
            _ => &[Self::AttentionNorm],
        };
        candidates.iter().copied().find(|norm| has(*norm))
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
            Self::CrossQuery => "cross_q",
            Self::CrossKey => "cross_k",
            Self::CrossValue => "cross_v",
            Self::CrossOutput => "cross_o",
            Self::SsmIn => "ssm_in",
            Self::SsmOut => "ssm_out",
            Self::Head => "head",
            Self::AttentionNorm => "attention_norm",
            Self::MlpNorm => "mlp_norm",
            Self::PreMlpNorm => "pre_mlp_norm",
            Self::PostMlpNorm => "post_mlp_norm",
            Self::FinalNorm => "final_norm",
            Self::EmbeddingNorm => "embedding_norm",
            Self::CrossNorm => "cross_norm",
            Self::PostAttentionNorm => "post_attention_norm",
            Self::Embedding => "embedding",
            Self::QueryLatent => "q_latent",
            Self::KvLatent => "kv_latent",
        }
    }
}

/// Which of a model's stacks of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stack {
    /// The only one, or the decoder where there is an encoder too.
    Main = 0,
    /// The encoder in front of a decoder.
    Encoder = 1,
}

impl Stack {
    /// The stack with this number in the database.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Main, Self::Encoder].into_iter().find(|stack| *stack as u8 == code)
    }
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// `torch.nn.Linear`: rows are outputs, a row runs over the inputs. Fused parts follow one another.
    Linear,
    /// The same, but the parts of a fused matrix alternate head by head.
    Interleaved,
    /// As [`Layout::Linear`], but of a fused gate and up projection the up part is in front.
    UpFirst,
    /// GPT-2's `Conv1D`: rows are inputs, a row runs over the outputs.
    Conv1d,
}

/// Where a tensor sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Which stack of layers.
    pub stack: Stack,
    /// Layer number; 0 for tensors outside the layers.
    pub layer: u16,
    /// Which expert of the layer, or [`Position::SHARED`]; 0 where one tensor holds all of them.
    pub expert: Option<u16>,
    /// What it does.
    pub role: Role,
    /// How it is stored.
    pub layout: Layout,
}

impl Position {
    /// The expert that sees every token (one tensor holds all of them where there are several).
    pub const SHARED: u16 = u16::MAX;

    /// A plain tensor of the main stack.
    pub fn main(role: Role, layer: u16) -> Self {
        Self { stack: Stack::Main, layer, expert: None, role, layout: Layout::Linear }
    }

    /// Depth of the layer in a stack of so many, in sixteenths: every second layer of a model has the depths of all of
    /// its layers.
    pub fn relative_depth(self, layers: u16) -> u64 {
        u64::from(self.layer) * 16 / u64::from(layers.max(1))
    }

    /// Whether this lies in the main stack of layers.
    pub fn is_main(self) -> bool {
        self.stack == Stack::Main
    }

    /// Whether a stored row runs over the residual (hidden) dimension, so that rows of all layers
    /// share one permutation symmetry. Keys and values of cross attention run over that of the encoder, which
    /// is the same where both share an embedding; it is the cautious answer where they do not.
    pub fn row_is_residual(self) -> bool {
        !self.role.is_matrix() || self.role.reads_residual() == (self.layout != Layout::Conv1d)
    }

    /// Rows and columns of the tensor as a matrix, the first dimension against the others. Of a tensor that
    /// holds all experts, those of the first one, with which it begins.
    pub fn matrix(self, shape: &[u64]) -> (u64, u64) {
        match (shape, self.expert) {
            ([_, rows, columns], Some(_)) => (*rows, *columns),
            ([], _) => (1, 1),
            ([n], _) => (1, *n),
            // Saturating: [0, 2^40, 2^40] is a legal, empty shape.
            ([rows, rest @ ..], _) => (*rows, rest.iter().fold(1, |product, n| n.saturating_mul(product))),
        }
    }

    /// Rows and columns of a matrix of so many elements, one side of which is the hidden dimension of this width.
    pub fn matrix_of(self, elements: u64, width: u64) -> Option<(u64, u64)> {
        let other = elements.checked_div(width).filter(|other| other.checked_mul(width) == Some(elements))?;
        Some(if self.row_is_residual() { (other, width) } else { (width, other) })
    }

    /// What the rows of this matrix are. A fused matrix whose parts follow one another is as good as its parts;
    /// any other is one part. `query_rows` is the width of the query, which is the number of columns of the
    /// layer's output projection; without it a fused attention matrix stays whole.
    pub fn parts(self, rows: u64, query_rows: Option<u64>) -> Vec<(Role, Range<u64>)> {
        match (self.role, self.layout, query_rows) {
            (Role::GateUp, Layout::Linear, _) if rows.is_multiple_of(2) => {
                vec![(Role::Gate, 0..rows / 2), (Role::Up, rows / 2..rows)]
            }
            (Role::GateUp, Layout::UpFirst, _) if rows.is_multiple_of(2) => {
                vec![(Role::Up, 0..rows / 2), (Role::Gate, rows / 2..rows)]
            }
            (Role::Qkv, Layout::Linear, Some(q)) if q < rows && (rows - q).is_multiple_of(2) => {
                let k = q + (rows - q) / 2;
                vec![(Role::Query, 0..q), (Role::Key, q..k), (Role::Value, k..rows)]
            }
            _ => vec![(self.role, 0..rows)],
        }
    }
}
