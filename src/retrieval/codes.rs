//! How checkpoints differ from their representatives: the sign code of each, one after the other, little-endian.

use std::path::Path;

use super::segments::{Paths, SegmentWriter, Segments};
use super::vector::Code;
use crate::store::StoreError;

/// Name of the files.
pub(super) const CODES: &str = "codes";
/// Codes read at once.
const BLOCK: usize = 8192;

/// All codes.
pub(super) fn read(paths: &Paths) -> Result<Vec<Code>, StoreError> {
    let mut all = Vec::new();
    let parts = Segments::open_records(paths, CODES, size_of::<Code>())?;
    parts.for_each_piece(BLOCK * size_of::<Code>(), |bytes| {
        let (codes, _) = bytes.as_chunks::<{ size_of::<Code>() }>();
        let word = |code: &[u8; size_of::<Code>()], i: usize| {
            u64::from_le_bytes(std::array::from_fn(|byte| code[8 * i + byte]))
        };
        all.extend(codes.iter().map(|code| -> Code { std::array::from_fn(|i| word(code, i)) }));
        Ok(())
    })?;
    Ok(all)
}

/// Writes the codes that came after those that there are.
pub(super) fn write(before: &Paths, folder: &Path, codes: &[Code]) -> Result<(), StoreError> {
    let mut out = SegmentWriter::open(before, folder, CODES)?;
    for word in codes.iter().flatten() {
        out.add(&word.to_le_bytes())?;
    }
    out.finish().map(drop)
}
