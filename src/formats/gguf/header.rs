//! The header of a GGUF file: a push decoder that says which bytes it needs next.
//!
//! Metadata come first, and in them, several megabytes long, the tokenizer; behind them the table of tensors; behind that
//! the data. Lists whose elements have one size are passed over without being read, and so are long texts; the tokens
//! where the table is found without them.

use std::collections::HashSet;
use std::mem;
use std::ops::Range;

use super::architecture;
use super::cursor::{Cursor, Read, Stop, Window};
use super::error::{GgufError, Shown};
use super::kinds::Kind;
use super::probe::{self, Next, Probe};
use super::values::{self, Found, Values};
use crate::formats::foreign::Foreign;
use crate::formats::weight::elements;
use crate::formats::{FileRange, Limits};

/// First read of a file, bytes.
const FIRST_READ: u64 = 64 * 1024;
/// Most that is asked for at once.
const MOST_READ: u64 = 2 << 20;
/// What the file begins with, in whatever byte order.
const MAGIC: &[u8; 4] = b"GGUF";
/// Fewest bytes of a tensor in the table, and of a metadata value: empty name, type and the rest.
const TENSOR_BYTES: u64 = 24;
const VALUE_BYTES: u64 = 13;
/// Where data begin, if the file does not say.
pub(super) const ALIGNMENT: u64 = 32;

/// One tensor as the table lists it.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape, rows first: the reverse of what is stored.
    pub shape: Vec<u64>,
    /// Its type; the number of one that is not known.
    pub kind: Result<&'static Kind, u32>,
    /// Bytes in the file.
    pub bytes: Range<u64>,
}

impl Tensor {
    /// Number of elements, saturating.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }
}

/// A checked header.
#[derive(Clone, Debug)]
pub struct Header {
    /// Whether numbers are stored with their highest byte first.
    pub big_endian: bool,
    /// What the file says of itself.
    pub values: Values,
    /// Tensors in file order.
    pub tensors: Vec<Tensor>,
    /// Where their data end, with what fills them up.
    end: u64,
}

/// What the decoder answers.
#[derive(Debug)]
pub enum Decoded {
    /// These bytes are needed.
    Need(Range<u64>),
    /// The header.
    Done(Header),
}

/// What is read next, the innermost last.
#[derive(Clone, Copy, Debug)]
enum Part {
    Start,
    /// So many metadata values.
    Values(u64),
    /// So many texts of a list.
    Texts(u64),
    /// So many lists of a list.
    Lists(u64),
    /// So many tensors.
    Tensors(u64),
}

/// The decoder of one file.
#[derive(Debug)]
pub struct Decoder {
    size: u64,
    limits: Limits,
    window: Window,
    at: u64,
    /// What the next read is, bytes.
    next_read: u64,
    parts: Vec<Part>,
    big_endian: bool,
    values: Values,
    tensors: Vec<Listed>,
    names: HashSet<String>,
    search: Search,
}

/// Whether the table is sought without what is in front of it.
#[derive(Debug)]
enum Search {
    /// Not yet.
    NotBegun,
    /// From this place, where reading goes on with these parts if nothing is found.
    Under(Probe, u64, Vec<Part>),
    /// It was, or need not be.
    Over,
}

/// A tensor before it is known where data begin.
#[derive(Debug)]
struct Listed {
    name: String,
    shape: Vec<u64>,
    kind: Result<&'static Kind, u32>,
    offset: u64,
}

impl Decoder {
    /// Of a file of this size, bytes.
    pub fn new(size: u64, limits: &Limits) -> Self {
        Self {
            size,
            limits: limits.clone(),
            window: Window::default(),
            at: 0,
            next_read: FIRST_READ,
            parts: vec![Part::Start],
            big_endian: false,
            values: Values::default(),
            tensors: Vec::new(),
            names: HashSet::new(),
            search: Search::NotBegun,
        }
    }

    /// What it needs next, or the header.
    pub fn step(&mut self) -> Result<Decoded, GgufError> {
        if let Some(decoded) = self.seek() {
            return Ok(decoded);
        }
        while let Some(part) = self.parts.pop() {
            match self.read(part) {
                Ok(()) => {}
                Err(Stop::Bad(error)) => return Err(error),
                Err(Stop::More(end)) => {
                    self.parts.push(part);
                    if let Some(decoded) = self.begin_search(part) {
                        return Ok(decoded);
                    }
                    return Ok(Decoded::Need(self.more(end)));
                }
            }
        }
        self.finish().map(Decoded::Done)
    }

    /// The bytes of a range that it asked for.
    pub fn give(&mut self, start: u64, bytes: &[u8]) {
        if self.window.end() == start {
            self.window.bytes.extend_from_slice(bytes);
        }
    }

    /// Seeks the table of tensors instead of reading a long list of texts, where what the model is has been said.
    fn begin_search(&mut self, part: Part) -> Option<Decoded> {
        let (Part::Texts(left), Some(Part::Tensors(tensors))) = (part, self.parts.first()) else {
            return None;
        };
        if !matches!(self.search, Search::NotBegun) || !architecture::is_described(&self.values) {
            return None;
        }
        let probe = Probe::new(self.at, left, *tensors, self.size)?;
        self.search = Search::Under(probe, self.at, self.parts.clone());
        self.window = Window::default();
        self.seek()
    }

    /// The next step of the search, if it is under way: what it needs, or the header. If it ends without one, reading goes
    /// on where it was left.
    fn seek(&mut self) -> Option<Decoded> {
        let Search::Under(probe, at, parts) = &mut self.search else { return None };
        match probe.next(&self.window, self.size) {
            Next::Look(range) => {
                self.window = Window { start: range.start, bytes: Vec::new() };
                return Some(Decoded::Need(range));
            }
            Next::Search => {
                let begin = parts.drain(..1).collect::<Vec<_>>();
                let rest = (*at, [&begin[..], parts].concat());
                self.search = Search::Over;
                if let Some(header) = self.find(&begin) {
                    return Some(Decoded::Done(header));
                }
                (self.at, self.parts) = rest;
            }
            Next::GiveUp => {
                (self.at, self.parts) = (*at, mem::take(parts));
                self.search = Search::Over;
            }
        }
        self.window = Window { start: self.at, bytes: Vec::new() };
        None
    }

    /// The header with the table that is in the window, if one is that the whole file agrees with.
    fn find(&mut self, table: &[Part]) -> Option<Header> {
        for begin in probe::begins(&self.window, self.size, self.big_endian, self.limits.name_bytes) {
            let mut trial = Self::new(self.size, &self.limits);
            (trial.at, trial.parts, trial.big_endian) = (begin, table.to_vec(), self.big_endian);
            (trial.search, trial.values) = (Search::Over, self.values.clone());
            trial.window = mem::take(&mut self.window);
            let decoded = trial.step();
            self.window = trial.window;
            match decoded {
                Ok(Decoded::Done(header)) if header.end == self.size => return Some(header),
                _ => {}
            }
        }
        None
    }

    /// The bytes to ask for where those up to `end` are needed: more at a time the longer it takes.
    fn more(&mut self, end: u64) -> Range<u64> {
        self.window.forget(self.at);
        let start = self.window.end();
        let wanted = start.saturating_add(self.next_read).max(end).min(self.size);
        self.next_read = (self.next_read * 2).min(MOST_READ);
        start..wanted
    }

    fn cursor(&self) -> Cursor<'_> {
        Cursor { window: &self.window, at: self.at, size: self.size, big_endian: self.big_endian }
    }

    /// Reads one element of a part; what is left of it goes back.
    fn read(&mut self, part: Part) -> Read<()> {
        match part {
            Part::Start => self.start(),
            Part::Values(0) | Part::Texts(0) | Part::Lists(0) | Part::Tensors(0) => Ok(()),
            Part::Values(left) => self.value(left - 1),
            Part::Texts(left) => {
                let mut cursor = self.cursor();
                let length = cursor.u64()?;
                cursor.skip(length)?;
                self.at = cursor.at;
                self.parts.push(Part::Texts(left - 1));
                Ok(())
            }
            Part::Lists(left) => {
                let mut cursor = self.cursor();
                let found = values::list(&mut cursor, "of lists")?;
                self.at = cursor.at;
                self.parts.push(Part::Lists(left - 1));
                self.enter(&found)
            }
            Part::Tensors(left) => self.tensor(left - 1),
        }
    }

    fn start(&mut self) -> Read<()> {
        let mut cursor = self.cursor();
        let magic = cursor.take(4)?;
        if magic != MAGIC {
            let foreign = Foreign::of_weights(&self.window.bytes);
            let other = GgufError::Magic([magic[0], magic[1], magic[2], magic[3]]);
            return Err(foreign.map_or(other, GgufError::Foreign).into());
        }
        let version = cursor.u32()?;
        cursor.big_endian = version.trailing_zeros() >= 16;
        let version = if cursor.big_endian { version.swap_bytes() } else { version };
        if !matches!(version, 2 | 3) {
            return Err(GgufError::Version(version).into());
        }
        let (tensors, values) = (cursor.u64()?, cursor.u64()?);
        let most = |what, found, limit: usize| {
            let limit = limit as u64;
            if found > limit { Err(GgufError::TooMany { what, found, limit }) } else { Ok(()) }
        };
        most("tensors", tensors, self.limits.tensors)?;
        most("metadata values", values, self.limits.values)?;
        let least = tensors * TENSOR_BYTES + values * VALUE_BYTES;
        let mut end = cursor;
        end.skip(least)?;
        (self.at, self.big_endian) = (cursor.at, cursor.big_endian);
        self.parts = vec![Part::Tensors(tensors), Part::Values(values)];
        Ok(())
    }

    fn value(&mut self, left: u64) -> Read<()> {
        let mut cursor = self.cursor();
        let key = cursor.name("key", self.limits.name_bytes)?;
        let found = values::value(&mut cursor, &key)?;
        self.at = cursor.at;
        if !self.names.insert(key.clone()) {
            return Err(GgufError::Twice { what: "key", name: key }.into());
        }
        self.parts.push(Part::Values(left));
        if let Found::Kept(value) = found {
            self.values.0.insert(key, value);
            return Ok(());
        }
        self.enter(&found)
    }

    /// Goes into a list.
    fn enter(&mut self, found: &Found) -> Read<()> {
        match found {
            Found::Kept(_) | Found::Passed => {}
            Found::Texts(count) => self.parts.push(Part::Texts(*count)),
            Found::Lists(count) => {
                let limit = self.limits.nesting;
                if self.parts.len() >= limit {
                    let (found, limit) = (self.parts.len() as u64 + 1, limit as u64);
                    return Err(GgufError::TooMany { what: "lists in one another", found, limit }.into());
                }
                self.parts.push(Part::Lists(*count));
            }
        }
        Ok(())
    }

    fn tensor(&mut self, left: u64) -> Read<()> {
        let mut cursor = self.cursor();
        let name = cursor.name("tensor's name", self.limits.name_bytes)?;
        let rank = cursor.u32()?;
        if rank as usize > self.limits.rank {
            let (found, limit) = (rank.into(), self.limits.rank as u64);
            return Err(GgufError::TooMany { what: "dimensions of a tensor", found, limit }.into());
        }
        let mut shape = (0..rank).map(|_| cursor.u64()).collect::<Read<Vec<u64>>>()?;
        shape.reverse();
        let code = cursor.u32()?;
        let offset = cursor.u64()?;
        self.at = cursor.at;
        if self.tensors.is_empty() {
            // Keys are no names of tensors.
            self.names.clear();
        }
        if !self.names.insert(name.clone()) {
            return Err(GgufError::Twice { what: "tensor", name }.into());
        }
        self.tensors.push(Listed { name, shape, kind: Kind::of_code(code).ok_or(code), offset });
        self.parts.push(Part::Tensors(left));
        Ok(())
    }

    /// Holds the table against the file: tensors follow one another, each at the next multiple of the alignment.
    fn finish(&mut self) -> Result<Header, GgufError> {
        let alignment = self.values.number("general.alignment").unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(GgufError::Alignment(alignment));
        }
        let size = self.size;
        let outside = |expected| GgufError::Size { expected: Shown(expected), actual: size };
        let data = self.at.checked_next_multiple_of(alignment).ok_or(outside(None))?;
        let listed = mem::take(&mut self.tensors);
        let offsets: Vec<u64> = listed.iter().skip(1).map(|tensor| tensor.offset).collect();
        let mut expected = 0u64;
        let mut tensors = Vec::with_capacity(listed.len());
        for (i, Listed { name, shape, kind, offset }) in listed.into_iter().enumerate() {
            if offset != expected {
                return Err(GgufError::Layout { name, begin: offset, expected });
            }
            let begin = data.checked_add(offset).ok_or(outside(None))?;
            let bytes = match kind {
                Ok(kind) => match kind.of_shape(&shape) {
                    Some(bytes) => bytes,
                    None => return Err(GgufError::Shape { name, shape, kind: kind.name }),
                },
                // Up to the next one, whatever it is.
                Err(_) => match offsets.get(i) {
                    Some(next) => next.saturating_sub(offset),
                    None => size.saturating_sub(begin),
                },
            };
            let end = begin.checked_add(bytes);
            let end = end.filter(|end| *end <= size).ok_or(outside(end))?;
            expected = (end - data).checked_next_multiple_of(alignment).ok_or(outside(None))?;
            tensors.push(Tensor { name, shape, kind, bytes: begin..end });
        }
        self.names = HashSet::new();
        let end = data.saturating_add(expected);
        Ok(Header { big_endian: self.big_endian, values: mem::take(&mut self.values), tensors, end })
    }
}

impl Tensor {
    /// Where it lies, in the opened file with this number.
    pub(super) fn place(&self, file: usize) -> FileRange {
        FileRange { file, bytes: self.bytes.clone() }
    }
}
