//! The retrieval vectors of all contents, one after the other in a file.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::vector::Vector;
use crate::signals::fingerprint::VECTOR_DIMENSIONS;
use crate::store::StoreError;

/// Vectors read at once.
const BLOCK: usize = 4096;

/// A file that is read.
#[derive(Debug)]
pub struct Vectors {
    file: File,
    path: PathBuf,
}

/// A file that grows.
pub struct VectorsWriter {
    out: BufWriter<File>,
    reader: Vectors,
}

impl Vectors {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { file: File::open(path).map_err(StoreError::io(path))?, path: path.to_owned() })
    }

    /// The vector of a content.
    pub fn read(&self, content: u32) -> Result<Vector, StoreError> {
        let mut bytes = [0u8; VECTOR_DIMENSIONS];
        let at = u64::from(content) * VECTOR_DIMENSIONS as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(StoreError::io(&self.path))?;
        Ok(bytes.map(u8::cast_signed))
    }

    /// All vectors in blocks, with the number of the first of each block.
    pub fn for_each_block(
        &self,
        mut visit: impl FnMut(u32, &[Vector]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Its own handle: the position of the shared one is nobody's.
        let mut file = File::open(&self.path).map_err(StoreError::io(&self.path))?;
        let mut bytes = vec![0u8; BLOCK * VECTOR_DIMENSIONS];
        let mut first = 0;
        loop {
            let mut filled = 0;
            while filled < bytes.len() {
                match file.read(&mut bytes[filled..]).map_err(StoreError::io(&self.path))? {
                    0 => break,
                    n => filled += n,
                }
            }
            let (vectors, _) = bytes[..filled].as_chunks::<VECTOR_DIMENSIONS>();
            if vectors.is_empty() {
                return Ok(());
            }
            let block: Vec<Vector> = vectors.iter().map(|v| v.map(u8::cast_signed)).collect();
            visit(first, &block)?;
            first += block.len() as u32;
        }
    }
}

impl VectorsWriter {
    /// Appends to a file, which is made if there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::options().append(true).create(true).open(path).map_err(StoreError::io(path))?;
        Ok(Self { out: BufWriter::with_capacity(1 << 20, file), reader: Vectors::open(path)? })
    }

    /// Adds a vector.
    pub fn add(&mut self, vector: &Vector) -> Result<(), StoreError> {
        self.out.write_all(&vector.map(i8::cast_unsigned)).map_err(StoreError::io(&self.reader.path))
    }

    /// Makes the file durable and readable.
    pub fn finish(mut self) -> Result<Vectors, StoreError> {
        self.out.flush().map_err(StoreError::io(&self.reader.path))?;
        self.out.get_ref().sync_all().map_err(StoreError::io(&self.reader.path))?;
        Ok(self.reader)
    }
}
