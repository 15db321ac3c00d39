//! Tensors at their places in a file, and the bytes that stand there.

use std::ops::Range;

use super::tensors::Tensor;
use super::values::Source;
use crate::formats::gguf::{Kind, published_row};

/// One weight file.
#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) name: String,
    /// What is no tensor, and where.
    pub(super) pieces: Vec<(u64, Vec<u8>)>,
    /// In file order.
    pub(super) tensors: Vec<Placed>,
    pub(super) bytes: u64,
}

/// A tensor and its first byte in the file.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) tensor: Tensor,
    pub(super) begin: u64,
    /// How a GGUF file has it; elsewhere it is as it is.
    pub(super) ggml: Option<Ggml>,
}

impl Placed {
    /// Elements that are stored together, and the bytes that they take.
    fn unit(&self) -> (u64, u64) {
        self.ggml.map_or((1, self.tensor.element_bytes()), |ggml| (ggml.kind.elements, ggml.kind.bytes))
    }

    pub(super) fn bytes(&self) -> u64 {
        let (elements, bytes) = self.unit();
        self.tensor.elements() / elements * bytes
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> u64 {
        let (elements, bytes) = self.unit();
        (self.tensor.columns() / elements * bytes).max(1)
    }

    /// The elements, in the order in which they are stored, that lie in these bytes of the file.
    pub(super) fn elements(&self, bytes: &Range<u64>) -> Range<u64> {
        let (elements, size) = self.unit();
        let within = |at: u64| at.saturating_sub(self.begin).min(self.bytes());
        within(bytes.start) / size * elements..within(bytes.end).div_ceil(size) * elements
    }

    /// Whole units that hold these elements.
    pub(super) fn whole(&self, elements: &Range<u64>) -> Range<u64> {
        let (unit, _) = self.unit();
        elements.start / unit * unit..elements.end.next_multiple_of(unit).min(self.tensor.elements())
    }

    /// The first byte of an element in the file.
    pub(super) fn place(&self, element: u64) -> u64 {
        let (elements, bytes) = self.unit();
        self.begin + element / elements * bytes
    }

    /// The bytes of whole units of elements.
    pub(super) fn content(&self, elements: Range<u64>, source: Source) -> Vec<u8> {
        match self.ggml {
            Some(ggml) => ggml.content(&self.tensor, elements, source),
            None => source.bytes(&self.tensor, elements),
        }
    }
}

impl WeightFile {
    /// Bytes of the file, whether they are written or not.
    pub(super) fn read(&self, range: &Range<u64>, source: Source) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut put = |begin: u64, part: &[u8]| {
            let (from, to) = (begin.max(range.start), (begin + part.len() as u64).min(range.end));
            if from < to {
                bytes[(from - range.start) as usize..(to - range.start) as usize]
                    .copy_from_slice(&part[(from - begin) as usize..(to - begin) as usize]);
            }
        };
        for (begin, piece) in &self.pieces {
            put(*begin, piece);
        }
        for (_, placed, elements) in self.within(range) {
            put(placed.place(elements.start), &placed.content(elements, source));
        }
        bytes
    }

    /// The tensors that lie in these bytes, by number, and which of their elements do.
    pub(super) fn within(&self, range: &Range<u64>) -> Vec<(usize, &Placed, Range<u64>)> {
        let all = self.tensors.iter().enumerate();
        let parts = all.map(|(i, placed)| (i, placed, placed.elements(range)));
        parts.filter(|(.., elements)| !elements.is_empty()).collect()
    }
}

/// How a file has a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ggml {
    pub(super) kind: &'static Kind,
    pub(super) change: Change,
}

/// What the converter changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    Nothing,
    /// The halves of each head of so many rows alternate.
    Alternating(u64),
    /// 1 is added.
    OneMore,
}

impl Ggml {
    /// The bytes of whole blocks of elements, in the order in which they are stored.
    fn content(self, tensor: &Tensor, elements: Range<u64>, source: Source) -> Vec<u8> {
        let mut values = match self.change {
            Change::Alternating(head) => {
                let columns = tensor.columns();
                let rows = elements.start / columns..elements.end.div_ceil(columns);
                let row = |row: u64| {
                    let within = |at: u64| at.saturating_sub(row * columns).min(columns);
                    let begin = published_row(row, head) * columns;
                    source.floats(tensor, begin + within(elements.start)..begin + within(elements.end))
                };
                rows.flat_map(row).collect()
            }
            _ => source.floats(tensor, elements),
        };
        if self.change == Change::OneMore {
            for value in &mut values {
                *value += 1.0;
            }
        }
        // Types that are chosen below are written.
        self.kind.encode(&values).unwrap_or_default()
    }
}

/// Cuts where the next tensor would make a file longer than the limit.
pub(super) fn shards<T>(tensors: Vec<T>, limit: u64, bytes_of: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut shards: Vec<Vec<T>> = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in tensors {
        if bytes > 0 && bytes + bytes_of(&tensor) > limit {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += bytes_of(&tensor);
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}
