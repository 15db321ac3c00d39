//! Fingerprints of the family representatives, one record after the other: what a candidate is judged by.
//!
//! A record is little-endian: its length (u32), its CRC-32 (u32), then hidden size (u32), layers (u16), vocabulary
//! (u32, all ones for unknown), extent (coverage, f32, negative for unknown; parameters, u64, 0 for unknown; tokens, u32,
//! all ones for unknown; rank, u32, 0 for no adapter; flags, u8: 1 for unread packing, 2 for quantised), four column correlations (f32), the row Gram matrix (concentration, f32; rows, u16, 0 for none; the
//! sketch), number of cells (u32) and the cells. Every record is
//! checked when it is read, so that a damaged file is an error and never a wrong verdict.

use std::path::Path;

use super::segments::{Paths, SegmentWriter, Segments};
use super::vector::Vector;
use crate::signals::coverage::Extent;
use crate::signals::fingerprint::{CELL_DIMENSIONS, Cell, ColumnCorrelation};
use crate::signals::gram::{GRAM_DIMENSIONS, GramSketch};
use crate::signals::roles::Stack;
use crate::signals::{Fingerprint, Role};
use crate::store::StoreError;

const PREFIX: usize = 8;
const FIXED: usize = 4 + 2 + 4 + (4 + 8 + 4 + 4 + 1) + 16 + (4 + 2 + GRAM_DIMENSIONS) + 4;
/// What stands where there are none.
const NO_GRAM: GramSketch = GramSketch { sketch: [0; GRAM_DIMENSIONS], concentration: 0.0, rows: 0 };
const CELL: usize = 25 + CELL_DIMENSIONS;
/// Longest record that is read; a model has some 200 cells.
const MOST_BYTES: u32 = 1 << 24;
/// An expert that is none.
const NO_EXPERT: u16 = u16::MAX;

/// Name of the files.
pub const PAYLOAD: &str = "payload";

/// More records.
pub struct PayloadWriter {
    out: SegmentWriter,
}

/// The records, to be read.
#[derive(Debug)]
pub struct Payload {
    all: Segments,
}

impl PayloadWriter {
    /// Writes to a folder, behind what there is.
    pub(super) fn open(before: &Paths, folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { out: SegmentWriter::open(before, folder, PAYLOAD)? })
    }

    /// Adds a record; returns where it begins.
    pub fn add(&mut self, fingerprint: &Fingerprint) -> Result<u64, StoreError> {
        self.out.add(&encode(fingerprint))
    }

    /// Makes what was added readable.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.out.flush()
    }

    /// A record that was flushed.
    pub fn read(&self, at: u64, vector: &Vector) -> Result<Fingerprint, StoreError> {
        read(self.out.reader(), at, vector)
    }

    /// Makes them durable.
    pub fn finish(self) -> Result<(), StoreError> {
        self.out.finish().map(drop)
    }
}

impl Payload {
    /// Opens the files.
    pub(super) fn open(paths: &Paths) -> Result<Self, StoreError> {
        Ok(Self { all: Segments::open(paths, PAYLOAD)? })
    }

    /// The fingerprint that begins at `at`; its retrieval vector, kept elsewhere, is given.
    pub fn read(&self, at: u64, vector: &Vector) -> Result<Fingerprint, StoreError> {
        read(&self.all, at, vector)
    }
}

fn read(all: &Segments, at: u64, vector: &Vector) -> Result<Fingerprint, StoreError> {
    let damaged = |what: String| match all.path(at) {
        Ok(path) => StoreError::Damaged { path: path.to_owned(), what },
        Err(error) => error,
    };
    let mut prefix = [0u8; PREFIX];
    all.read(&mut prefix, at)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = prefix;
    let (length, crc) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]));
    if length > MOST_BYTES {
        return Err(damaged(format!("the record at {at} says it has {length} bytes")));
    }
    let mut record = vec![0u8; length as usize];
    all.read(&mut record, at + PREFIX as u64)?;
    if crc32fast::hash(&record) != crc {
        return Err(damaged(format!("the record at {at} does not have its checksum")));
    }
    decode(&record, vector).ok_or_else(|| damaged(format!("the record at {at} is no fingerprint")))
}

fn encode(fingerprint: &Fingerprint) -> Vec<u8> {
    let ColumnCorrelation { gains, residual, inner, embedding } = fingerprint.column_correlation;
    let mut body = Vec::with_capacity(FIXED + CELL * fingerprint.cells.len());
    body.extend(fingerprint.hidden_size.to_le_bytes());
    body.extend(fingerprint.layers.to_le_bytes());
    body.extend(fingerprint.vocabulary.unwrap_or(u32::MAX).to_le_bytes());
    let Extent { coverage, parameters, unread_packing, quantised, tokens, rank } = fingerprint.extent;
    body.extend(coverage.unwrap_or(-1.0).to_le_bytes());
    body.extend(parameters.unwrap_or(0).to_le_bytes());
    body.extend(tokens.unwrap_or(u32::MAX).to_le_bytes());
    body.extend(rank.unwrap_or(0).to_le_bytes());
    body.push(u8::from(unread_packing) | u8::from(quantised) << 1);
    body.extend([gains, residual, inner, embedding].iter().flat_map(|r| r.to_le_bytes()));
    let GramSketch { sketch, concentration, rows } = fingerprint.row_gram.unwrap_or(NO_GRAM);
    body.extend(concentration.to_le_bytes());
    body.extend(rows.to_le_bytes());
    body.extend(sketch.map(i8::cast_unsigned));
    body.extend((fingerprint.cells.len() as u32).to_le_bytes());
    for cell in &fingerprint.cells {
        body.extend([cell.stack as u8, cell.role as u8, u8::from(cell.residual)]);
        body.extend(cell.layer.to_le_bytes());
        body.extend(cell.expert.unwrap_or(NO_EXPERT).to_le_bytes());
        body.extend(cell.rows.to_le_bytes());
        body.extend(cell.start.to_le_bytes());
        body.extend(cell.dimension.to_le_bytes());
        body.extend(cell.hash.to_le_bytes());
        body.extend(cell.sketch.map(i8::cast_unsigned));
    }
    let mut record = Vec::with_capacity(PREFIX + body.len());
    record.extend((body.len() as u32).to_le_bytes());
    record.extend(crc32fast::hash(&body).to_le_bytes());
    record.extend(body);
    record
}

fn decode(record: &[u8], vector: &Vector) -> Option<Fingerprint> {
    let (mut fixed, cells) = record.split_at_checked(FIXED)?;
    let hidden_size = u32::from_le_bytes(take(&mut fixed)?);
    let layers = u16::from_le_bytes(take(&mut fixed)?);
    let vocabulary = u32::from_le_bytes(take(&mut fixed)?);
    let coverage = Some(f32::from_le_bytes(take(&mut fixed)?)).filter(|share| *share >= 0.0);
    let parameters = Some(u64::from_le_bytes(take(&mut fixed)?)).filter(|n| *n > 0);
    let tokens = Some(u32::from_le_bytes(take(&mut fixed)?)).filter(|n| *n != u32::MAX);
    let rank = Some(u32::from_le_bytes(take(&mut fixed)?)).filter(|rank| *rank > 0);
    let [flags] = take(&mut fixed)?;
    let (unread_packing, quantised) = (flags & 1 == 1, flags & 2 == 2);
    let extent = Extent { coverage, parameters, unread_packing, quantised, tokens, rank };
    let mut float = || Some(f32::from_le_bytes(take(&mut fixed)?));
    let column_correlation =
        ColumnCorrelation { gains: float()?, residual: float()?, inner: float()?, embedding: float()? };
    let concentration = f32::from_le_bytes(take(&mut fixed)?);
    let rows = u16::from_le_bytes(take(&mut fixed)?);
    let sketch = take::<GRAM_DIMENSIONS>(&mut fixed)?.map(u8::cast_signed);
    let count = u32::from_le_bytes(take(&mut fixed)?) as usize;
    if cells.len() != count.checked_mul(CELL)? {
        return None;
    }
    let cells = cells.chunks_exact(CELL).map(|mut bytes| {
        let [stack, role, residual] = take(&mut bytes)?;
        Some(Cell {
            stack: Stack::from_code(stack)?,
            role: Role::from_code(role)?,
            residual: residual == 1,
            layer: u16::from_le_bytes(take(&mut bytes)?),
            expert: Some(u16::from_le_bytes(take(&mut bytes)?)).filter(|e| *e != NO_EXPERT),
            rows: u16::from_le_bytes(take(&mut bytes)?),
            start: u32::from_le_bytes(take(&mut bytes)?),
            dimension: u32::from_le_bytes(take(&mut bytes)?),
            hash: u64::from_le_bytes(take(&mut bytes)?),
            sketch: take::<CELL_DIMENSIONS>(&mut bytes)?.map(u8::cast_signed),
        })
    });
    Some(Fingerprint {
        hidden_size,
        layers,
        vocabulary: Some(vocabulary).filter(|v| *v != u32::MAX),
        extent,
        cells: cells.collect::<Option<_>>()?,
        column_correlation,
        row_gram: (rows > 0).then_some(GramSketch { sketch, concentration, rows }),
        vector: *vector,
    })
}

/// The next `N` bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;

    #[test]
    fn records_round_trip_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let prints: Vec<Fingerprint> = (0..3).map(|s| Model::random(s, 3, 64).fingerprint()).collect();
        let mut writer = PayloadWriter::open(&Paths::new(), dir.path()).unwrap();
        let mut at: Vec<u64> = prints[..2].iter().map(|p| writer.add(p).unwrap()).collect();
        writer.flush().unwrap();
        assert_eq!(writer.read(at[1], &prints[1].vector).unwrap(), prints[1]);
        writer.finish().unwrap();
        // What is added later stands behind.
        let part = |n| (format!("payload-000{n}.bin"), dir.path().join(format!("payload-000{n}.bin")));
        let mut writer = PayloadWriter::open(&Paths::from([part(0)]), dir.path()).unwrap();
        at.push(writer.add(&prints[2]).unwrap());
        writer.finish().unwrap();
        let payload = Payload::open(&Paths::from([part(0), part(1)])).unwrap();
        for (at, print) in at.iter().zip(&prints) {
            assert_eq!(payload.read(*at, &print.vector).unwrap(), *print);
        }

        let path = dir.path().join("payload-0000.bin");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = at[1] as usize + 100;
        bytes[middle] ^= 1;
        crate::store::atomic::write(&path, &bytes).unwrap();
        let payload = Payload::open(&Paths::from([part(0), part(1)])).unwrap();
        assert!(matches!(payload.read(at[1], &prints[1].vector), Err(StoreError::Damaged { .. })));
        assert!(payload.read(at[0], &prints[0].vector).is_ok());
        assert!(payload.read(at[2] + 3, &prints[2].vector).is_err());
        assert!(payload.read(1 << 40, &prints[2].vector).is_err());
    }

    #[test]
    fn cut_records_are_no_fingerprints() {
        let print = Model::random(1, 2, 64).fingerprint();
        let record = encode(&print);
        let body = &record[PREFIX..];
        assert!(decode(body, &print.vector).is_some());
        for n in 0..body.len() {
            assert!(decode(&body[..n], &print.vector).is_none(), "{n}");
        }
    }
}
