//! What stands in front of the data of a file, for tensors of these shapes and types.

use super::header::ALIGNMENT;
use super::kinds::Kind;

/// What a key stands for.
#[derive(Clone, Debug)]
pub enum Put<'a> {
    /// A number of 16 bits.
    Short(u16),
    /// A number of 32 bits.
    Number(u32),
    /// A number of 32 bits that may be negative.
    Int(i32),
    /// A float.
    Real(f32),
    /// Yes or no.
    Truth(bool),
    /// A text.
    Text(&'a str),
    /// A list of texts.
    Texts(&'a [String]),
    /// A list of floats.
    Reals(&'a [f32]),
    /// A list of numbers of 32 bits that may be negative.
    Ints(&'a [i32]),
}

/// A tensor of a file.
#[derive(Clone, Copy, Debug)]
pub struct Shaped<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape, rows first.
    pub shape: &'a [u64],
    /// Its type.
    pub kind: &'static Kind,
}

/// Where a file has what.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Metadata and table of tensors, with what fills them up.
    pub header: Vec<u8>,
    /// The first byte of each tensor in the file.
    pub begins: Vec<u64>,
    /// Length of the file.
    pub bytes: u64,
}

impl Put<'_> {
    /// The number of its type, and its bytes.
    fn stored(&self) -> (u32, Vec<u8>) {
        match self {
            Self::Short(number) => (2, number.to_le_bytes().to_vec()),
            Self::Number(number) => (4, number.to_le_bytes().to_vec()),
            Self::Int(number) => (5, number.to_le_bytes().to_vec()),
            Self::Real(real) => (6, real.to_le_bytes().to_vec()),
            Self::Truth(truth) => (7, vec![u8::from(*truth)]),
            Self::Text(content) => (8, text(content)),
            Self::Texts(texts) => (9, list(8, texts, |content| text(content))),
            Self::Reals(reals) => (9, list(6, reals, |real| real.to_le_bytes().to_vec())),
            Self::Ints(ints) => (9, list(5, ints, |int| int.to_le_bytes().to_vec())),
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn list<T>(kind: u32, elements: &[T], bytes: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
    let mut list = kind.to_le_bytes().to_vec();
    list.extend((elements.len() as u64).to_le_bytes());
    list.extend(elements.iter().flat_map(bytes));
    list
}

/// A file of version 3, little-endian, its tensors in this order; `None` where blocks do not divide a row.
pub fn layout(values: &[(&str, Put<'_>)], tensors: &[Shaped<'_>]) -> Option<Layout> {
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        let (kind, bytes) = value.stored();
        header.extend(text(key));
        header.extend(kind.to_le_bytes());
        header.extend(bytes);
    }
    let mut offsets = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for Shaped { name, shape, kind } in tensors {
        header.extend(text(name));
        header.extend((shape.len() as u32).to_le_bytes());
        header.extend(shape.iter().rev().flat_map(|n| n.to_le_bytes()));
        header.extend(kind.code().to_le_bytes());
        header.extend(end.to_le_bytes());
        offsets.push(end);
        end = end.checked_add(kind.of_shape(shape)?)?.checked_next_multiple_of(ALIGNMENT)?;
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
    let data = header.len() as u64;
    let begins = offsets.into_iter().map(|offset| data + offset).collect();
    Some(Layout { header, begins, bytes: data.checked_add(end)? })
}
