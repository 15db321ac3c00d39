//! Where checkpoints belong: representatives, which stand for those near them (leader clustering), and the links that
//! put these into families.

use super::candidates::features::GramSigns;

/// The verified link of a checkpoint to a representative of its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// The representative.
    pub representative: u32,
    /// Mean correlation of the weights; where hidden dimensions are in another order or basis, correlation of the row
    /// Gram matrices.
    pub effect: f32,
    /// Corrected p-value.
    pub p_value: f64,
}

/// A checkpoint that stands for those near it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Representative {
    /// The checkpoint.
    pub checkpoint: u32,
    /// Its family; a family has the number of the order in which it was founded.
    pub family: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Where its fingerprint begins.
    pub payload: u64,
    /// The signs of its row Gram matrix; `None` where there is none.
    pub gram: Option<GramSigns>,
    /// What put it into its family; `None` for the founder.
    pub link: Option<Link>,
}

/// Where a checkpoint belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The representative that stands for it, which may be itself.
    pub representative: u32,
    /// Cosine with it.
    pub cosine: f32,
    /// Mean correlation of the weights with it; 1 for a representative.
    pub effect: f32,
}
