//! The retrieval vectors of all contents, one after the other.

use std::path::Path;

use super::segments::{SegmentWriter, Segments};
use super::vector::Vector;
use crate::signals::fingerprint::VECTOR_DIMENSIONS;
use crate::store::StoreError;

/// Name of the files.
pub const VECTORS: &str = "vectors";
/// Vectors read at once.
const BLOCK: usize = 4096;

/// The vectors, to be read.
#[derive(Debug)]
pub struct Vectors {
    all: Segments,
}

/// More of them.
pub struct VectorsWriter {
    out: SegmentWriter,
}

impl Vectors {
    /// Opens the files of a folder.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { all: Segments::open(folder, VECTORS)? })
    }

    /// The vector of a content.
    pub fn read(&self, content: u32) -> Result<Vector, StoreError> {
        let mut bytes = [0u8; VECTOR_DIMENSIONS];
        self.all.read(&mut bytes, u64::from(content) * VECTOR_DIMENSIONS as u64)?;
        Ok(bytes.map(u8::cast_signed))
    }

    /// All vectors in blocks, with the number of the first of each block.
    pub fn for_each_block(
        &self,
        mut visit: impl FnMut(u32, &[Vector]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut first = 0;
        self.all.for_each_piece(BLOCK * VECTOR_DIMENSIONS, |bytes| {
            let (vectors, _) = bytes.as_chunks::<VECTOR_DIMENSIONS>();
            let block: Vec<Vector> = vectors.iter().map(|v| v.map(u8::cast_signed)).collect();
            visit(first, &block)?;
            first += block.len() as u32;
            Ok(())
        })
    }
}

impl VectorsWriter {
    /// Begins behind what is there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { out: SegmentWriter::open(folder, VECTORS)? })
    }

    /// Adds a vector.
    pub fn add(&mut self, vector: &Vector) -> Result<(), StoreError> {
        self.out.add(&vector.map(i8::cast_unsigned)).map(drop)
    }

    /// Makes them durable and readable.
    pub fn finish(self) -> Result<Vectors, StoreError> {
        Ok(Vectors { all: self.out.finish()? })
    }
}
