//! The retrieval vectors of all checkpoints, one after the other, each with its CRC-32 (u32, little-endian): a damaged
//! one is an error when it is read, and never a wrong neighbour.

use std::path::Path;

use super::segments::{Paths, SegmentWriter, Segments, is_part_of};
use super::vector::Vector;
use crate::signals::fingerprint::VECTOR_DIMENSIONS;
use crate::store::{Database, StoreError};

/// Name of the files.
pub const VECTORS: &str = "vectors";
/// Bytes of a vector and its checksum.
const RECORD: usize = VECTOR_DIMENSIONS + 4;
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
    /// Those of a database's index, without the rest of it.
    pub fn of(db: &Database) -> Result<Self, StoreError> {
        let missing = || StoreError::NoIndex { path: db.location().to_string().into() };
        let files = &db.manifest().index.as_ref().ok_or_else(missing)?.files;
        let parts = files.iter().filter(|(name, _)| is_part_of(name, VECTORS));
        let paths = parts.map(|(name, entry)| Ok((name.clone(), db.files().local(entry)?)));
        Self::open(&paths.collect::<Result<Paths, StoreError>>()?)
    }

    /// Opens the files.
    pub(super) fn open(paths: &Paths) -> Result<Self, StoreError> {
        Ok(Self { all: Segments::open_records(paths, VECTORS, RECORD)? })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.all.length() / RECORD as u64
    }

    /// The vector of a checkpoint.
    pub fn read(&self, checkpoint: u32) -> Result<Vector, StoreError> {
        let mut bytes = [0u8; RECORD];
        let at = u64::from(checkpoint) * RECORD as u64;
        self.all.read(&mut bytes, at)?;
        self.checked(&bytes, at)
    }

    fn checked(&self, record: &[u8; RECORD], at: u64) -> Result<Vector, StoreError> {
        let (vector, crc) = record.split_at(VECTOR_DIMENSIONS);
        if crc32fast::hash(vector).to_le_bytes() != crc {
            let (path, what) =
                (self.all.path(at)?.to_owned(), format!("the vector at {at} does not have its checksum"));
            return Err(StoreError::Damaged { path, what });
        }
        Ok(std::array::from_fn(|i| vector[i].cast_signed()))
    }

    /// All vectors in blocks, with the number of the first of each block.
    pub fn for_each_block(
        &self,
        mut visit: impl FnMut(u32, &[Vector]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut first = 0u32;
        self.all.for_each_piece(BLOCK * RECORD, |bytes| {
            let (records, _) = bytes.as_chunks::<RECORD>();
            let at = |i: usize| (u64::from(first) + i as u64) * RECORD as u64;
            let block = records
                .iter()
                .enumerate()
                .map(|(i, record)| self.checked(record, at(i)))
                .collect::<Result<Vec<_>, _>>()?;
            visit(first, &block)?;
            first += block.len() as u32;
            Ok(())
        })
    }
}

impl VectorsWriter {
    /// Writes to a folder, behind what there is.
    pub(super) fn open(before: &Paths, folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { out: SegmentWriter::open(before, folder, VECTORS)? })
    }

    /// Adds a vector.
    pub fn add(&mut self, vector: &Vector) -> Result<(), StoreError> {
        let bytes = vector.map(i8::cast_unsigned);
        self.out.add(&bytes)?;
        self.out.add(&crc32fast::hash(&bytes).to_le_bytes()).map(drop)
    }

    /// Makes them readable.
    pub fn finish(self) -> Result<Vectors, StoreError> {
        Ok(Vectors { all: self.out.finish()? })
    }
}
