//! What is read: blocks of rows, where their bytes are, and how those become values.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::formats::{Encoding, FileRange};
use crate::signals::Coverage;
use crate::signals::roles::{Position, Role};

/// One block of rows to read.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What the weight is.
    pub position: Position,
    /// First row, counted within the position: a fused matrix is asked for as its parts.
    pub start: u64,
    /// Rows of the whole weight.
    pub tensor_rows: u64,
    /// Length of a row.
    pub columns: usize,
    /// How the bytes become values.
    pub encoding: Arc<dyn Encoding>,
    /// The rows, counted within the stored matrix.
    pub rows: Range<u64>,
    /// Where the bytes are: one piece of a plain tensor, several of a packed weight.
    pub pieces: Vec<FileRange>,
    /// Whether the database has it too, and not a comparison alone.
    pub canonical: bool,
}

impl Ask {
    /// The values of the block, from the bytes of its pieces; why there are none in the words of a report.
    pub fn decode(&self, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        self.encoding.decode(self.rows.clone(), pieces)
    }

    /// Tells asks of one position and first row apart: by their last row and, of two tensors, by where that ends.
    pub(super) fn end(&self) -> (u64, u64) {
        (self.rows.end, self.pieces.last().map_or(0, |piece| piece.bytes.end))
    }
}

/// Bytes in the middle of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tensor's name.
    pub name: String,
    /// Bytes of the whole tensor.
    pub size: u64,
    /// The bytes.
    pub bytes: FileRange,
}

/// What to read of the opened files.
#[derive(Clone, Debug, Default)]
pub struct SamplePlan {
    /// The blocks.
    pub asks: Vec<Ask>,
    /// The requests that cover them, sorted and disjoint, and behind them those for the probes.
    pub fetches: Vec<FileRange>,
    /// Why weights of these roles are not asked for; others of the same role may be.
    pub unreadable: BTreeMap<Role, String>,
    /// Places in tensors that are not sampled, for a comparison.
    pub probes: Vec<Place>,
    /// How much of the opened files has a role and can be read.
    pub coverage: Coverage,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
}
