//! What is read: blocks of rows, where their bytes are, and how those become values.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::formats::Dtype;
use crate::formats::packed::Packing;
use crate::signals::roles::{Position, Role};

/// One block of rows to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What the weight is.
    pub position: Position,
    /// First row.
    pub start: u64,
    /// Rows of the whole weight.
    pub tensor_rows: u64,
    /// Length of a row.
    pub columns: usize,
    /// How the bytes become values.
    pub decoding: Decoding,
    /// Where the bytes are: one piece of a plain tensor, several of a packed weight.
    pub pieces: Vec<Fetch>,
    /// Whether the database has it too, and not a comparison alone.
    pub canonical: bool,
}

impl Ask {
    /// Tells asks of one position and first row apart: the last byte, or the last row where several rows need
    /// the same bytes.
    pub(super) fn end(&self) -> u64 {
        match &self.decoding {
            Decoding::Plain(_) => self.pieces.last().map_or(0, |piece| piece.bytes.end),
            Decoding::Packed(_, rows) => rows.end,
        }
    }
}

/// How the bytes of a block become values.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoding {
    /// Elements, one after the other.
    Plain(Dtype),
    /// These rows of a packed matrix.
    Packed(Arc<Packing>, Range<u64>),
}

impl Decoding {
    /// The values of a block whose pieces hold these bytes; why there are none in the words of a report.
    pub fn decode(&self, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        match (self, pieces) {
            (Self::Plain(dtype), [bytes]) => {
                dtype.decode(bytes).ok_or_else(|| format!("{} is not read", dtype.name()))
            }
            (Self::Plain(_), _) => Err("not in one piece".into()),
            (Self::Packed(packing, rows), _) => {
                packing.decode(rows.clone(), pieces).map_err(|error| error.to_string())
            }
        }
    }

    /// The name of the type in reports.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Packed(packing, _) => &packing.name,
        }
    }
}

/// Bytes of one of the opened files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which of the opened files.
    pub file: usize,
    /// Bytes in the file.
    pub bytes: Range<u64>,
}

/// What to read of the opened files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplePlan {
    /// The blocks.
    pub asks: Vec<Ask>,
    /// The requests that cover them, sorted and disjoint.
    pub fetches: Vec<Fetch>,
    /// Why weights of these roles are not asked for; others of the same role may be.
    pub unreadable: BTreeMap<Role, String>,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
}
