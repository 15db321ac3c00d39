//! A weight of a checkpoint: its name, its shape, and how its rows are stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one of the opened files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Which of the opened files.
    pub file: usize,
    /// Bytes in the file.
    pub bytes: Range<u64>,
}

impl FileRange {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.bytes.end.saturating_sub(self.bytes.start)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part of one of the tensors that a weight is stored in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRange {
    /// Which tensor: its key among [`Weight::parts`]; empty where there is one.
    pub suffix: &'static str,
    /// Bytes relative to the tensor's begin.
    pub bytes: Range<u64>,
}

/// Elements of a tensor of this shape; as many as a number can say, where they are more.
pub fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |product, n| product.saturating_mul(*n))
}

/// How the rows of a matrix are stored, and how their bytes become values. Pure.
pub trait Encoding: fmt::Debug + Send + Sync {
    /// The name in reports, e.g. `BF16` or `GPTQ 4-bit`.
    fn name(&self) -> &str;

    /// Whether the values were rounded to the few that codes can say.
    fn is_quantised(&self) -> bool;

    /// Whether every row lies strided over the whole matrix, so that one costs all.
    fn is_strided(&self) -> bool {
        false
    }

    /// Whether the matrix is made of fewer parameters than it has elements, as a product of thin ones is.
    fn is_product(&self) -> bool {
        false
    }

    /// The bytes that hold these rows of a matrix of so many columns, in the order in which [`Encoding::decode`] takes
    /// them; why there are none in the words of a report.
    fn ranges(&self, rows: &Range<u64>, columns: u64) -> Result<Vec<PartRange>, String>;

    /// These rows, `[rows.len(), columns]` row-major, from the content of [`Encoding::ranges`]; why not in the words of a
    /// report.
    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String>;
}

/// The values of a matrix in a row, of which nothing tells where a row ends. Pure.
pub trait Flat: fmt::Debug + Send + Sync {
    /// How many there are.
    fn elements(&self) -> u64;

    /// How they are stored as a matrix of so many rows and columns, which are as many elements.
    fn shaped(&self, rows: u64, columns: u64) -> Arc<dyn Encoding>;
}

/// A weight of a checkpoint.
#[derive(Debug)]
pub struct Weight<'a> {
    /// The name that it has where it is not packed.
    pub name: Cow<'a, str>,
    /// The shape that it has where it is not packed; empty where that is not known.
    pub shape: Cow<'a, [u64]>,
    /// The tensors that it is stored in, by suffix; empty text where there is one.
    pub parts: BTreeMap<&'a str, FileRange>,
    /// Elements of these tensors, as they are stored.
    pub elements: u64,
    /// How it is stored.
    pub form: Form,
}

/// How a weight is stored.
#[derive(Debug)]
pub enum Form {
    /// Its rows, in this way.
    Stored(Arc<dyn Encoding>),
    /// Its values in a row; the shape is not stored.
    Flat(Arc<dyn Flat>),
    /// Not known before these few bytes were read.
    After(FileRange),
    /// Not read, for this reason.
    Unreadable(String),
}
