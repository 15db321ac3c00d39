//! How the rows of a tensor become values: blocks one after the other, and what a converter does to rows and values.

use std::ops::Range;
use std::sync::Arc;

use super::kinds::{Kind, Values};
use crate::formats::{Encoding, PartRange};

/// Blocks one after the other, row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) kind: &'static Kind,
    pub(super) big_endian: bool,
}

impl Blocks {
    /// Why its values are not read, where they are not.
    pub(super) fn unreadable(&self) -> Option<String> {
        let name = self.kind.name;
        if !self.kind.is_read() {
            return Some(format!("packed as {name}, which is not read"));
        }
        let is_known = self.kind.halves.is_some() || !self.kind.is_quantised();
        (self.big_endian && !is_known)
            .then(|| format!("packed as {name} in big-endian order, which is not read"))
    }

    /// The bytes of blocks in little-endian order.
    fn turned(&self, bytes: &[u8]) -> Vec<u8> {
        let mut turned = bytes.to_vec();
        for block in turned.chunks_exact_mut(self.kind.bytes as usize) {
            match self.kind.halves {
                Some(halves) => halves.iter().for_each(|at| block.swap(*at, at + 1)),
                None => block.reverse(),
            }
        }
        turned
    }

    fn values(&self, bytes: &[u8]) -> Option<Vec<f32>> {
        let size = self.kind.bytes as usize;
        match self.kind.values {
            Values::Float(dtype) => dtype.decode(bytes),
            Values::Integer => Some(bytes.chunks_exact(size).map(integer).collect()),
            Values::Codes(decode) => {
                let mut values = Vec::with_capacity(bytes.len() / size * self.kind.elements as usize);
                bytes.chunks_exact(size).for_each(|block| decode(block, &mut values));
                Some(values)
            }
            Values::NotRead => None,
        }
    }
}

/// A signed integer of up to 8 bytes.
fn integer(bytes: &[u8]) -> f32 {
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [sign; 8];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    i64::from_le_bytes(all) as f32
}

impl Encoding for Blocks {
    fn name(&self) -> &str {
        self.kind.name
    }

    fn is_quantised(&self) -> bool {
        self.kind.is_quantised()
    }

    fn ranges(&self, rows: &Range<u64>, columns: u64) -> Result<Vec<PartRange>, String> {
        match (self.kind.size(rows.start, columns), self.kind.size(rows.end, columns)) {
            (Some(start), Some(end)) => Ok(vec![PartRange { suffix: "", bytes: start..end }]),
            _ => Err(format!("rows of {columns} columns are no blocks of {}", self.kind.name)),
        }
    }

    fn decode(&self, _: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let [bytes] = pieces else { return Err("not in one piece".into()) };
        let values = if self.big_endian { self.values(&self.turned(bytes)) } else { self.values(bytes) };
        values.ok_or_else(|| format!("{} is not read", self.kind.name))
    }
}

/// Gains to which the converter has added 1.
#[derive(Debug)]
pub(super) struct OneMore(pub(super) Arc<dyn Encoding>);

impl Encoding for OneMore {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn is_quantised(&self) -> bool {
        self.0.is_quantised()
    }

    fn ranges(&self, rows: &Range<u64>, columns: u64) -> Result<Vec<PartRange>, String> {
        self.0.ranges(rows, columns)
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let mut values = self.0.decode(rows, pieces)?;
        for value in &mut values {
            *value -= 1.0;
        }
        Ok(values)
    }
}

/// The row of the published model that is stored as this one, in heads of so many rows whose halves alternate.
pub fn published_row(stored: u64, head: u64) -> u64 {
    let within = stored % head;
    stored / head * head + within % 2 * (head / 2) + within / 2
}

/// Rows of queries or keys in the rotary order of ggml: of each head the two halves alternate.
#[derive(Debug)]
pub(super) struct Alternating {
    pub(super) stored: Arc<dyn Encoding>,
    /// Rows of a head, an even number.
    pub(super) head: u64,
}

impl Alternating {
    /// Where a row is stored.
    fn place(&self, row: u64) -> u64 {
        let (head, within, half) = (row / self.head, row % self.head, self.head / 2);
        head * self.head + within % half * 2 + within / half
    }

    /// Stored rows, one after the other, that hold these.
    fn around(&self, rows: &Range<u64>) -> Range<u64> {
        let last = rows.end.saturating_sub(1).max(rows.start);
        if rows.start / (self.head / 2) == last / (self.head / 2) {
            // All of one half of a head: in the order of their places.
            self.place(rows.start)..self.place(last) + u64::from(!rows.is_empty())
        } else {
            rows.start / self.head * self.head..(last / self.head + 1).saturating_mul(self.head)
        }
    }
}

impl Encoding for Alternating {
    fn name(&self) -> &str {
        self.stored.name()
    }

    fn is_quantised(&self) -> bool {
        self.stored.is_quantised()
    }

    fn ranges(&self, rows: &Range<u64>, columns: u64) -> Result<Vec<PartRange>, String> {
        self.stored.ranges(&self.around(rows), columns)
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let around = self.around(&rows);
        let values = self.stored.decode(around.clone(), pieces)?;
        let count = usize::try_from(around.end - around.start).unwrap_or(usize::MAX);
        let columns = values.len().checked_div(count).unwrap_or(0);
        let row = |row: u64| {
            let at = usize::try_from(self.place(row) - around.start).ok()?.checked_mul(columns)?;
            values.get(at..at + columns)
        };
        let found: Option<Vec<&[f32]>> = rows.map(row).collect();
        found.map(|rows| rows.concat()).ok_or_else(|| "fewer rows than were asked for".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::Dtype;

    #[test]
    fn integers_have_signs() {
        assert_eq!(integer(&[0xfe]), -2.0);
        assert_eq!(integer(&[0, 1]), 256.0);
        assert_eq!(integer(&(-5i64).to_le_bytes()), -5.0);
    }

    proptest! {
        #[test]
        fn rows_come_back_in_the_order_that_they_had(
            heads in 1u64..4, half in 1u64..5, start in 0u64..24, count in 0u64..24,
        ) {
            let head = 2 * half;
            let rows = heads * head;
            // As the converter does: reshape(heads, 2, half, ..).swapaxes(1, 2).
            let mut stored = vec![0u64; rows as usize];
            for row in 0..rows {
                let (h, two, i) = (row / head, row % head / half, row % half);
                stored[(h * head + 2 * i + two) as usize] = row;
                prop_assert_eq!(published_row(h * head + 2 * i + two, head), row);
            }
            let bytes: Vec<u8> = stored.iter().flat_map(|row| [*row as f32, -1.0]).flat_map(f32::to_le_bytes).collect();
            let encoding = Alternating { stored: Arc::new(Dtype::F32), head };
            let start = start.min(rows);
            let wanted = start..(start + count).min(rows);
            let ranges = encoding.ranges(&wanted, 2).unwrap();
            let pieces: Vec<&[u8]> = ranges
                .iter()
                .map(|r| &bytes[r.bytes.start as usize..r.bytes.end as usize])
                .collect();
            let values = encoding.decode(wanted.clone(), &pieces).unwrap();
            let expected: Vec<f32> = wanted.flat_map(|row| [row as f32, -1.0]).collect();
            prop_assert_eq!(values, expected);
        }
    }
}
