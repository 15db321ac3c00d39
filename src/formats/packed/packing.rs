//! Which bytes hold a block of rows, and their values.

use std::ops::Range;
use std::sync::Arc;

use super::PackedError;
use crate::formats::{Dtype, Encoding, Flat, PartRange};

/// Place of logical column `y % 8` among the nibbles of an AWQ word (AutoAWQ, `AWQ_REVERSE_ORDER`).
const AWQ_PLACE: [u64; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// How one matrix is packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Name of the layout for reports, e.g. `GPTQ 4-bit`.
    pub name: String,
    /// Rows of the logical matrix: output features. Experts of one tensor follow each other.
    pub rows: u64,
    /// Columns of the logical matrix: input features.
    pub columns: u64,
    /// Values of the codes, 2^bits of them.
    pub(super) table: Vec<f32>,
    pub(super) bits: u64,
    pub(super) codes: Codes,
    /// Codes, scales and zero points are stored as `[columns, rows]`.
    pub(super) transposed: bool,
    pub(super) scales: Scales,
    pub(super) zeros: Zeros,
    /// Tensor with the group of each column.
    pub(super) group_index: Option<&'static str>,
    /// Whether `weight_format` must be looked at.
    pub(super) format: bool,
}

/// Where the codes of a stored matrix `[x, y]` are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codes {
    pub(super) suffix: &'static str,
    pub(super) order: Order,
    /// Bits of a stored row: of one `x` (of one word row for [`Order::Down`] and [`Order::WordsDown`]); for
    /// [`Order::Runs`] the codes of one `x`.
    pub(super) stride: u64,
    /// Bytes of the whole tensor.
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// Along `y`, lowest bits first, over word borders.
    Across,
    /// Along `x`, in 32-bit words, lowest bits first, over word borders.
    Down,
    /// Along `y`, eight nibbles to a word in AWQ's order.
    Interleaved,
    /// All rows as one sequence of nibbles, the high one of a byte first.
    HighFirst,
    /// Along `y`, in 32-bit words, lowest bits first, as many as fit into a word.
    WordsAcross,
    /// Along `x`, in the same way.
    WordsDown,
    /// All rows as one sequence, cut into as many equal runs as codes fit into an element of so many bits. An element
    /// holds one code of each run, that of the first run in the lowest bits or in the highest ones.
    Runs { element: u64, first_high: bool },
}

impl Codes {
    /// Bytes that hold the stored rows `x`.
    fn range(&self, x: &Range<u64>, bits: u64) -> Range<u64> {
        match self.order {
            Order::Across | Order::Interleaved | Order::WordsAcross => {
                x.start * self.stride / 8..x.end * self.stride / 8
            }
            Order::Down => {
                x.start * bits / 32 * self.stride / 8..(x.end * bits).div_ceil(32) * self.stride / 8
            }
            Order::WordsDown => {
                let (words, codes) = (self.stride / 8, 32 / bits);
                x.start / codes * words..x.end.div_ceil(codes) * words
            }
            Order::HighFirst => x.start * self.stride / 8..(x.end * self.stride).div_ceil(8),
            Order::Runs { element, .. } => {
                let run = self.bytes * 8 / element;
                cycle(x.start * self.stride..x.end * self.stride, run, element / 8)
            }
        }
    }

    /// The code at `[x, y]`; `piece` holds the tensor from its byte `start` on.
    fn get(&self, piece: &[u8], start: u64, bits: u64, x: u64, y: u64) -> usize {
        let place = |bit: u64| match self.order {
            Order::Across => x * self.stride + y * bits + bit,
            Order::Down => {
                let down = x * bits + bit;
                down / 32 * self.stride + y * 32 + down % 32
            }
            Order::Interleaved => x * self.stride + y / 8 * 32 + 4 * AWQ_PLACE[(y % 8) as usize] + bit,
            Order::WordsAcross => {
                let codes = 32 / bits;
                x * self.stride + y / codes * 32 + y % codes * bits + bit
            }
            Order::WordsDown => {
                let codes = 32 / bits;
                x / codes * self.stride + y * 32 + x % codes * bits + bit
            }
            Order::HighFirst => ((x * self.stride + y * 4) ^ 4) + bit,
            Order::Runs { element, first_high } => {
                let (run, at) = (self.bytes * 8 / element, x * self.stride + y);
                let place = if first_high { element / bits - 1 - at / run } else { at / run };
                at % run * element + place * bits + bit
            }
        };
        (0..bits).fold(0, |code, bit| {
            let at = place(bit) - start * 8;
            code | usize::from(piece[(at / 8) as usize] >> (at % 8) & 1) << bit
        })
    }
}

/// Where these places of a sequence are that repeats after so many entries, in entries of so many bytes: all of it where
/// they pass its end.
fn cycle(places: Range<u64>, entries: u64, bytes: u64) -> Range<u64> {
    if places.start / entries == (places.end - 1) / entries {
        places.start % entries * bytes..((places.end - 1) % entries + 1) * bytes
    } else {
        0..entries * bytes
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scales {
    pub(super) suffix: &'static str,
    pub(super) kind: ScaleKind,
    pub(super) groups: Groups,
    /// Entries of the whole tensor.
    pub(super) entries: u64,
    /// The scale of these scales.
    pub(super) global: Option<Global>,
}

/// One number for the whole matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Global {
    pub(super) suffix: &'static str,
    pub(super) dtype: Dtype,
    /// Whether scales are divided by it.
    pub(super) divides: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ScaleKind {
    /// The number, times a constant of the layout.
    Number(Dtype, f32),
    /// 1 / the number.
    Inverse(Dtype),
    /// E8M0: 2^(byte - 127), 255 is NaN (OCP Microscaling Formats 1.0, section 5.4.1).
    PowerOfTwo,
    /// A code of `nested_quant_map` times the `nested_absmax` of `block` scales, plus an offset.
    Nested { block: u64, offset: f32 },
}

impl ScaleKind {
    fn bytes(self) -> u64 {
        match self {
            Self::Number(dtype, _) | Self::Inverse(dtype) => dtype.bits() / 8,
            Self::PowerOfTwo | Self::Nested { .. } => 1,
        }
    }
}

/// Which scale belongs to an element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Groups {
    /// `[_, across]`, one entry for so many rows and columns.
    Grid { rows: u64, columns: u64, across: u64 },
    /// One entry for so many elements of the flattened matrix.
    Flat { elements: u64 },
    /// The entries in turn for the elements of the flattened matrix.
    InTurn { entries: u64 },
    /// `[across, rows of W]`, one entry for so many columns of one row.
    Transposed { columns: u64, across: u64 },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Zeros {
    None,
    /// Numbers in the places of the scales.
    Numbers {
        suffix: &'static str,
        dtype: Dtype,
        shift: Shift,
    },
    /// Codes like those of the weights, to which `plus` is added modulo 2^bits.
    Codes {
        codes: Codes,
        plus: usize,
    },
}

/// What is done with a number that shifts the codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shift {
    /// Taken from the code.
    Before,
    /// Taken from the scaled code.
    After,
    /// Added to the scaled code.
    Added,
}

/// The pieces of [`Packing::ranges`], unpacked.
struct Pieces<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    global: &'a [u8],
    nested_absmax: &'a [u8],
    nested_map: &'a [u8],
    zeros: &'a [u8],
    group_index: &'a [u8],
}

impl Packing {
    /// What must be read for these rows, in the order in which [`Packing::decode`] takes it.
    pub fn ranges(&self, rows: &Range<u64>) -> Result<Vec<PartRange>, PackedError> {
        if rows.start >= rows.end || rows.end > self.rows {
            return Err(PackedError::Rows { start: rows.start, end: rows.end, rows: self.rows });
        }
        let codes_range = |codes: &Codes| {
            let bytes = if self.transposed { 0..codes.bytes } else { codes.range(rows, self.bits) };
            PartRange { suffix: codes.suffix, bytes }
        };
        let entries = self.entries(rows);
        let size = self.scales.kind.bytes();
        let scaled =
            |suffix, size: u64| PartRange { suffix, bytes: entries.start * size..entries.end * size };
        let mut ranges = vec![codes_range(&self.codes), scaled(self.scales.suffix, size)];
        if let Some(Global { suffix, dtype, .. }) = self.scales.global {
            ranges.push(PartRange { suffix, bytes: 0..dtype.bits() / 8 });
        }
        if let ScaleKind::Nested { block, .. } = self.scales.kind {
            let bytes = entries.start / block * 4..entries.end.div_ceil(block) * 4;
            ranges.push(PartRange { suffix: "weight.nested_absmax", bytes });
            ranges.push(PartRange { suffix: "weight.nested_quant_map", bytes: 0..256 * 4 });
        }
        match &self.zeros {
            Zeros::None => {}
            Zeros::Numbers { suffix, dtype, .. } => ranges.push(scaled(suffix, dtype.bits() / 8)),
            Zeros::Codes { codes, .. } => ranges.push(codes_range(codes)),
        }
        if let Some(suffix) = self.group_index {
            ranges.push(PartRange { suffix, bytes: 0..self.columns * 4 });
        }
        if self.format {
            ranges.push(PartRange { suffix: "weight_format", bytes: 0..1 });
        }
        Ok(ranges)
    }

    /// Whether every row lies strided over the whole matrix.
    pub fn is_strided(&self) -> bool {
        self.transposed
    }

    /// Bytes to read for these rows, gaps not counted.
    pub fn bytes_needed(&self, rows: &Range<u64>) -> Result<u64, PackedError> {
        Ok(self.ranges(rows)?.iter().map(|r| r.bytes.end - r.bytes.start).sum())
    }

    /// The rows as `f32`, `[rows.len(), columns]` row-major, from the content of [`Packing::ranges`] in its
    /// order. Takes memory for the result and one row of scales.
    pub fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, PackedError> {
        let ranges = self.ranges(&rows)?;
        for (i, PartRange { suffix, bytes }) in ranges.iter().enumerate() {
            let expected = bytes.end - bytes.start;
            let found = pieces.get(i).map_or(0, |p| p.len() as u64);
            if found != expected {
                return Err(PackedError::Truncated { suffix, expected, found });
            }
        }
        let mut rest = ranges.iter().zip(pieces);
        let mut take =
            |wanted: bool| if wanted { rest.next().map_or(&[][..], |(_, piece)| *piece) } else { &[] };
        let nested = matches!(self.scales.kind, ScaleKind::Nested { .. });
        let pieces = Pieces {
            codes: take(true),
            scales: take(true),
            global: take(self.scales.global.is_some()),
            nested_absmax: take(nested),
            nested_map: take(nested),
            zeros: take(self.zeros != Zeros::None),
            group_index: take(self.group_index.is_some()),
        };
        if let Some(&format) = take(self.format).first().filter(|f| **f != 0) {
            return Err(PackedError::Tiled(format));
        }
        // The pieces hold at least one bit for each value.
        let mut values = Vec::with_capacity(((rows.end - rows.start) * self.columns) as usize);
        let start = self.start(&self.codes, &rows);
        for row in rows.clone() {
            let scales = self.scale_row(&rows, row, &pieces);
            let zeros = self.zero_row(&rows, row, scales.len(), &pieces);
            for column in 0..self.columns {
                let group = self.group(row, column, scales.len(), pieces.group_index)?;
                let (x, y) = if self.transposed { (column, row) } else { (row, column) };
                let value = self.table[self.codes.get(pieces.codes, start, self.bits, x, y)];
                let scale = scales[group];
                values.push(match self.zeros {
                    Zeros::None => value * scale,
                    Zeros::Numbers { shift: Shift::Added, .. } => value * scale + zeros[group],
                    Zeros::Numbers { shift: Shift::After, .. } => value * scale - zeros[group],
                    Zeros::Numbers { shift: Shift::Before, .. } | Zeros::Codes { .. } => {
                        (value - zeros[group]) * scale
                    }
                });
            }
        }
        Ok(values)
    }

    /// First byte that is read of a tensor of codes.
    fn start(&self, codes: &Codes, rows: &Range<u64>) -> u64 {
        if self.transposed { 0 } else { codes.range(rows, self.bits).start }
    }

    /// Entries of the scales that are read for these rows.
    fn entries(&self, rows: &Range<u64>) -> Range<u64> {
        match self.scales.groups {
            Groups::Grid { rows: block, across, .. } => {
                rows.start / block * across..rows.end.div_ceil(block) * across
            }
            Groups::Flat { elements } => {
                rows.start * self.columns / elements..(rows.end * self.columns).div_ceil(elements)
            }
            Groups::InTurn { entries } => {
                cycle(rows.start * self.columns..rows.end * self.columns, entries, 1)
            }
            Groups::Transposed { .. } => 0..self.scales.entries,
        }
    }

    /// Numbers of the groups' entries of one row, among those that are read.
    fn places(&self, rows: &Range<u64>, row: u64) -> Vec<usize> {
        let first = self.entries(rows).start;
        let places: Range<u64> = match self.scales.groups {
            Groups::Transposed { across, .. } => {
                return (0..across).map(|g| (g * self.rows + row) as usize).collect();
            }
            Groups::InTurn { entries } => {
                let elements = row * self.columns..row * self.columns + self.columns.min(entries);
                return elements.map(|at| (at % entries - first) as usize).collect();
            }
            Groups::Grid { .. } | Groups::Flat { .. } => self.entries(&(row..row + 1)),
        };
        places.map(|entry| (entry - first) as usize).collect()
    }

    fn scale_row(&self, rows: &Range<u64>, row: u64, pieces: &Pieces<'_>) -> Vec<f32> {
        let places = self.places(rows, row);
        let scales: Vec<f32> = match self.scales.kind {
            ScaleKind::Number(dtype, factor) => {
                numbers(dtype, pieces.scales, &places).into_iter().map(|s| s * factor).collect()
            }
            ScaleKind::Inverse(dtype) => {
                numbers(dtype, pieces.scales, &places).into_iter().map(f32::recip).collect()
            }
            ScaleKind::PowerOfTwo => places
                .iter()
                .map(|&p| match pieces.scales[p] {
                    255 => f32::NAN,
                    exponent => f32::from(i16::from(exponent) - 127).exp2(),
                })
                .collect(),
            ScaleKind::Nested { block, offset } => {
                let codes: Vec<usize> = places.iter().map(|&p| usize::from(pieces.scales[p])).collect();
                let first = self.entries(rows).start;
                let blocks: Vec<usize> =
                    places.iter().map(|&p| ((first + p as u64) / block - first / block) as usize).collect();
                let absmax = numbers(Dtype::F32, pieces.nested_absmax, &blocks);
                let codes = numbers(Dtype::F32, pieces.nested_map, &codes);
                codes.iter().zip(absmax).map(|(code, absmax)| code * absmax + offset).collect()
            }
        };
        let Some(Global { dtype, divides, .. }) = self.scales.global else { return scales };
        let global = numbers(dtype, pieces.global, &[0]).first().copied().unwrap_or(f32::NAN);
        scales.into_iter().map(|s| if divides { s / global } else { s * global }).collect()
    }

    fn zero_row(&self, rows: &Range<u64>, row: u64, groups: usize, pieces: &Pieces<'_>) -> Vec<f32> {
        match &self.zeros {
            Zeros::None => Vec::new(),
            Zeros::Numbers { dtype, .. } => numbers(*dtype, pieces.zeros, &self.places(rows, row)),
            Zeros::Codes { codes, plus } => (0..groups as u64)
                .map(|group| {
                    let (x, y) = if self.transposed { (group, row) } else { (row, group) };
                    let code = codes.get(pieces.zeros, self.start(codes, rows), self.bits, x, y);
                    self.table[(code + plus) % self.table.len()]
                })
                .collect(),
        }
    }

    /// Group of a column among those of its row.
    fn group(&self, row: u64, column: u64, groups: usize, index: &[u8]) -> Result<usize, PackedError> {
        if self.group_index.is_some() {
            let group = index.as_chunks::<4>().0[column as usize];
            let group = i32::from_le_bytes(group);
            return usize::try_from(group).ok().filter(|g| *g < groups).ok_or(PackedError::Group {
                column,
                group,
                groups: groups as u64,
            });
        }
        Ok(match self.scales.groups {
            Groups::Grid { columns, .. } | Groups::Transposed { columns, .. } => column / columns,
            Groups::Flat { elements } => {
                (row * self.columns + column) / elements - row * self.columns / elements
            }
            Groups::InTurn { entries } => column % entries,
        } as usize)
    }
}

/// How the values of a matrix are packed, one after another, where nothing tells its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatPacking(Packing);

impl FlatPacking {
    /// Of the packing of the values as one column.
    pub(super) fn new(column: Packing) -> Self {
        Self(column)
    }

    /// The values as a matrix.
    pub(super) fn as_matrix(&self, rows: u64, columns: u64) -> Packing {
        let codes = Codes { stride: columns, ..self.0.codes.clone() };
        Packing { rows, columns, codes, ..self.0.clone() }
    }

    /// The values as one column.
    pub(super) fn column(&self) -> &Packing {
        &self.0
    }
}

impl Flat for FlatPacking {
    fn elements(&self) -> u64 {
        self.0.rows
    }

    fn shaped(&self, rows: u64, columns: u64) -> Arc<dyn Encoding> {
        Arc::new(self.as_matrix(rows, columns))
    }
}

impl Encoding for Packing {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_quantised(&self) -> bool {
        true
    }

    fn is_strided(&self) -> bool {
        self.transposed
    }

    fn ranges(&self, rows: &Range<u64>, _: u64) -> Result<Vec<PartRange>, String> {
        self.ranges(rows).map_err(|error| error.to_string())
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        self.decode(rows, pieces).map_err(|error| error.to_string())
    }
}

/// Elements at these places of an array of a decodable type.
fn numbers(dtype: Dtype, raw: &[u8], places: &[usize]) -> Vec<f32> {
    let size = (dtype.bits() / 8) as usize;
    let chosen: Vec<u8> = places.iter().flat_map(|&p| &raw[p * size..(p + 1) * size]).copied().collect();
    dtype.decode(&chosen).unwrap_or_default()
}
