//! What a representative is found by, and what a query asks with: all that sources look at.

use crate::retrieval::vector::{Vector, signs};
use crate::signals::Fingerprint;
use crate::signals::gram::{GRAM_DIMENSIONS, GramSketch};

/// Signs of the sketch of a row Gram matrix, one bit each.
pub type GramSigns = [u64; GRAM_DIMENSIONS / 64];

/// One model, as sources see it.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// The retrieval vector.
    pub vector: Vector,
    /// Of its row Gram matrix; `None` where too few rows were read.
    pub gram: Option<GramSigns>,
}

impl From<&Fingerprint> for Features {
    fn from(fingerprint: &Fingerprint) -> Self {
        Self {
            hidden_size: fingerprint.hidden_size,
            vector: fingerprint.vector,
            gram: fingerprint.row_gram.as_ref().map(gram_signs),
        }
    }
}

fn gram_signs(sketch: &GramSketch) -> GramSigns {
    let seed = u64::from(sketch.concentration.to_bits());
    signs(sketch.sketch.iter().map(|v| f32::from(*v)), seed)
}
