//! The role map: which tensor is what, from its name and, where names are shared, from shapes.
//!
//! One table for all families. A name that no row matches has no role and is never read; so an unknown
//! architecture yields an absent signal, not a wrong one.

mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::LazyLock;

use table::{FAMILIES, Family, WRAPPERS};

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
    pub const ALL: [Self; 26] = [
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
        !matches!(self, Self::FinalNorm | Self::EmbeddingNorm | Self::Embedding)
    }

    /// Whether this is one of a layer's matrices.
    pub fn is_matrix(self) -> bool {
        !self.is_norm() && self != Self::Embedding
    }

    /// Whether this matrix takes in the residual stream, of its own stack or of the encoder.
    fn reads_residual(self) -> bool {
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

    /// What the rows of this matrix are. A fused matrix whose parts follow one another is as good as its parts;
    /// any other is one part. `query_rows` is the width of the query, which is the number of columns of the
    /// layer's output projection; without it a fused attention matrix stays whole.
    pub fn parts(self, rows: u64, query_rows: Option<u64>) -> Vec<(Role, Range<u64>)> {
        match (self.role, self.layout, query_rows) {
            (Role::GateUp, Layout::Linear, _) if rows.is_multiple_of(2) => {
                vec![(Role::Gate, 0..rows / 2), (Role::Up, rows / 2..rows)]
            }
            (Role::Qkv, Layout::Linear, Some(q)) if q < rows && (rows - q).is_multiple_of(2) => {
                let k = q + (rows - q) / 2;
                vec![(Role::Query, 0..q), (Role::Key, q..k), (Role::Value, k..rows)]
            }
            _ => vec![(self.role, 0..rows)],
        }
    }
}

/// What a name in the table says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    stack: Stack,
    role: Role,
    layout: Layout,
    expert: Option<u16>,
}

/// What may follow the layer number, for each text in front of it.
static INSIDE: LazyLock<HashMap<String, HashMap<String, Entry>>> = LazyLock::new(|| {
    let mut heads: HashMap<String, HashMap<String, Entry>> = HashMap::new();
    for family in FAMILIES {
        let names: HashMap<String, Entry> = family.entries(family.inside).collect();
        for root in family.roots {
            heads.entry(format!("{root}{}", family.layers)).or_default().extend(names.clone());
        }
    }
    heads
});

/// Whole names outside the layers.
static OUTSIDE: LazyLock<HashMap<String, Entry>> = LazyLock::new(|| {
    let names = FAMILIES.iter().flat_map(|family| {
        let rooted = |(name, entry)| family.roots.iter().map(move |root| (format!("{root}{name}"), entry));
        family.entries(family.outside).flat_map(rooted)
    });
    names.collect()
});

impl Family {
    fn entries(&self, names: &'static [(&str, Role)]) -> impl Iterator<Item = (String, Entry)> {
        names.iter().flat_map(move |&(name, role)| {
            let layout = match self.layout {
                Layout::Interleaved if role != Role::Qkv => Layout::Linear,
                _ if !role.is_matrix() => Layout::Linear,
                layout => layout,
            };
            let expert = if name.contains("shared_expert") {
                Some(Position::SHARED)
            } else {
                (self.stacked || name.contains('#')).then_some(0)
            };
            let entry = Entry { stack: self.stack, role, layout, expert };
            self.ends.iter().map(move |end| (format!("{name}{end}"), entry))
        })
    }
}

/// The position of the tensor with this name, or `None` when no family knows it.
///
/// Names alone do not tell everything; [`positions`] does better where the shapes are known.
pub fn position(name: &str) -> Option<Position> {
    let mut name = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    let (entry, layer, expert) = match split_at_number(name) {
        Some((head, layer, inside)) => {
            let names = INSIDE.get(head)?;
            match inside.split_once(".experts.").and_then(|(block, rest)| Some((block, number(rest)?))) {
                Some((block, (expert, rest))) => {
                    (names.get(&format!("{block}.experts.#.{rest}"))?, layer, Some(expert))
                }
                None => (names.get(inside)?, layer, None),
            }
        }
        None => (OUTSIDE.get(name)?, 0, None),
    };
    let Entry { stack, role, layout, expert: fixed } = *entry;
    Some(Position { stack, layer, expert: expert.or(fixed), role, layout })
}

/// Text before the first component that is a number, the number, and the text behind it.
fn split_at_number(name: &str) -> Option<(&str, u16, &str)> {
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    dots.filter(|dot| name.as_bytes().get(dot + 1).is_some_and(u8::is_ascii_digit)).find_map(|dot| {
        let (layer, inside) = number(&name[dot + 1..])?;
        Some((&name[..dot], layer, inside))
    })
}

/// The number of up to four digits with which the text begins, and what follows the dot behind it.
fn number(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_once('.')?;
    let is_number = digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| is_number)?, rest))
}

/// The positions of a checkpoint's tensors, from names and shapes. What names leave open is settled by looking
/// at all of them, and whatever stays open has no role:
///
/// - GPT-2 and GPT-Neo share names but not the layout, and so do families with all experts in one tensor: the
///   side that has the width of the norms is the residual one.
/// - The bare towers of CLIP, ViT and wav2vec 2.0 share some names with BART and BERT, but never those of
///   attention and norms together: a stack without them is no language model unless it has a token embedding.
/// - Two tensors can claim one position (a tied embedding stored twice): the first by name has it.
pub fn positions<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Vec<Option<Position>> {
    let tensors: Vec<(&str, &[u64])> = tensors.into_iter().collect();
    let mut found: Vec<Option<Position>> = tensors.iter().map(|(name, _)| position(name)).collect();
    settle_layout(&tensors, &mut found);
    drop_fragments(&mut found);
    drop_duplicates(&tensors, &mut found);
    found
}

/// Decides between `Linear` and `Conv1d` where the table says `Conv1d`.
fn settle_layout(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let known = || tensors.iter().zip(found.iter()).filter_map(|((_, shape), p)| Some((shape, (*p)?)));
    let hidden = known().find(|(_, p)| p.role == Role::AttentionNorm).map(|(shape, p)| p.matrix(shape).1);
    let witness = known()
        .filter(|(_, p)| p.layout == Layout::Conv1d && p.role.reads_residual())
        .map(|(shape, p)| (p.role, p.matrix(shape)))
        .find(|(_, (rows, columns))| rows != columns);
    let layout = witness.and_then(|(_, (rows, columns))| match hidden {
        Some(d) if d == columns => Some(Layout::Linear),
        Some(d) if d == rows => Some(Layout::Conv1d),
        _ => None,
    });
    // GPT-BigCode with many key heads alternates the parts of its fused matrix, Qwen 1 does not.
    let gated = known().any(|(_, p)| p.role == Role::Gate);
    for ((_, shape), slot) in tensors.iter().zip(found) {
        let Some(p) = slot.as_mut().filter(|p| p.layout == Layout::Conv1d) else { continue };
        let (rows, columns) = p.matrix(shape);
        match layout {
            Some(Layout::Linear) if p.role == Role::Qkv && columns.checked_mul(3) == Some(rows) && !gated => {
                p.layout = Layout::Interleaved;
            }
            Some(layout) => p.layout = layout,
            None => *slot = None,
        }
    }
}

/// Takes the roles from stacks that have neither an embedding nor attention with norms.
fn drop_fragments(found: &mut [Option<Position>]) {
    for stack in [Stack::Main, Stack::Encoder] {
        let has =
            |roles: &[Role]| found.iter().flatten().any(|p| p.stack == stack && roles.contains(&p.role));
        let whole = has(&[Role::Embedding])
            || has(&[Role::Output, Role::SsmOut]) && has(&[Role::AttentionNorm, Role::MlpNorm]);
        if !whole {
            found.iter_mut().filter(|p| p.is_some_and(|p| p.stack == stack)).for_each(|p| *p = None);
        }
    }
}

/// Leaves each position to one tensor.
fn drop_duplicates(tensors: &[(&str, &[u64])], found: &mut [Option<Position>]) {
    let mut owners = HashMap::with_capacity(found.len());
    for (i, p) in found.iter().enumerate() {
        let Some(p) = p else { continue };
        let owner = owners.entry((p.stack, p.layer, p.expert, p.role)).or_insert(i);
        if tensors[i].0 < tensors[*owner].0 {
            *owner = i;
        }
    }
    let keep: BTreeSet<usize> = owners.into_values().collect();
    found.iter_mut().enumerate().filter(|(i, _)| !keep.contains(i)).for_each(|(_, p)| *p = None);
}
