//! Files as `torch.save` writes them, of tensors that are at hand or are mostly holes.

use super::zip::{ALIGNMENT, CENTRAL, ELSEWHERE, END, END_64, END_64_BYTES, LOCAL, LOCATOR_64};
use crate::formats::Dtype;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// Its name in the state dict.
    pub name: &'a str,
    /// Element type: one of F64, F32, F16, BF16 and I8.
    pub dtype: Dtype,
    /// Row-major shape.
    pub shape: &'a [u64],
    /// Little-endian elements, row by row.
    pub bytes: &'a [u8],
}

/// A tensor without its elements.
#[derive(Clone, Copy, Debug)]
pub struct Shaped<'a> {
    /// Its name in the state dict.
    pub name: &'a str,
    /// Element type: one of F64, F32, F16, BF16 and I8.
    pub dtype: Dtype,
    /// Row-major shape.
    pub shape: &'a [u64],
}

/// Where a file has what.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// All but the elements: parts of the file, and where each begins.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// The first byte of each tensor in the file.
    pub begins: Vec<u64>,
    /// Length of the file.
    pub bytes: u64,
}

/// A state dict as an archive; `None` where a type has no storage class of its own.
pub fn archive(tensors: &[Written<'_>]) -> Option<Vec<u8>> {
    let shaped: Vec<Shaped<'_>> =
        tensors.iter().map(|t| Shaped { name: t.name, dtype: t.dtype, shape: t.shape }).collect();
    Some(stored(&members(&shaped, tensors.iter().map(|t| Content::Bytes(t.bytes.to_vec())))?))
}

/// The same with elements that are still to be written, so that checksums of tensors are 0, which torch does not look at.
pub fn layout(tensors: &[Shaped<'_>]) -> Option<Layout> {
    let bytes = |t: &Shaped<'_>| t.shape.iter().product::<u64>() * t.dtype.bits() / 8;
    let members = members(tensors, tensors.iter().map(|t| Content::Hole(bytes(t))))?;
    let mut layout = placed(&members);
    // Of the members, tensors are those that are holes.
    let is_hole = |(_, (_, content)): &(u64, &Member)| matches!(content, Content::Hole(_));
    let begins = layout.begins.iter().copied().zip(&members);
    layout.begins = begins.filter(is_hole).map(|(begin, _)| begin).collect();
    Some(layout)
}

/// A member of an archive: its name, and what is in it.
type Member = (String, Content);

/// What is in a member.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// So many bytes that are written later.
    Hole(u64),
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Hole(bytes) => *bytes,
        }
    }

    fn checksum(&self) -> u32 {
        match self {
            Self::Bytes(bytes) => crc32fast::hash(bytes),
            Self::Hole(_) => 0,
        }
    }
}

/// The members of a state dict.
fn members(tensors: &[Shaped<'_>], contents: impl Iterator<Item = Content>) -> Option<Vec<Member>> {
    let text = |name: &str, content: &[u8]| (name.to_owned(), Content::Bytes(content.to_vec()));
    let mut members = vec![text("data.pkl", &state_dict(tensors)?), text("byteorder", b"little")];
    members.extend((0..).zip(contents).map(|(key, content): (u64, _)| (format!("data/{key}"), content)));
    members.push(text("version", b"3\n"));
    Some(members)
}

/// `{name: tensor}` in protocol 2.
fn state_dict(tensors: &[Shaped<'_>]) -> Option<Vec<u8>> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        text(&mut pickle, tensor.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{}Storage\n", class(tensor.dtype)?).bytes());
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        let elements = tensor.shape.iter().product();
        int(&mut pickle, elements);
        pickle.extend(b"tQ");
        int(&mut pickle, 0);
        ints(&mut pickle, tensor.shape);
        let mut stride = 1;
        let mut strides: Vec<u64> = Vec::new();
        for n in tensor.shape.iter().rev() {
            strides.insert(0, stride);
            stride *= n;
        }
        ints(&mut pickle, &strides);
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    Some(pickle)
}

fn class(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::F64 => "Double",
        Dtype::F32 => "Float",
        Dtype::F16 => "Half",
        Dtype::Bf16 => "BFloat16",
        Dtype::I8 => "Char",
        Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::Other { .. } => return None,
    })
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

fn int(pickle: &mut Vec<u8>, number: u64) {
    pickle.extend([0x8a, 8]);
    pickle.extend(number.to_le_bytes());
}

fn ints(pickle: &mut Vec<u8>, numbers: &[u64]) {
    pickle.push(b'(');
    for number in numbers {
        int(pickle, *number);
    }
    pickle.push(b't');
}

/// An archive of members as they are.
pub(super) fn stored(members: &[Member]) -> Vec<u8> {
    let layout = placed(members);
    let mut file = vec![0; layout.bytes as usize];
    for (begin, bytes) in &layout.pieces {
        file[*begin as usize..*begin as usize + bytes.len()].copy_from_slice(bytes);
    }
    file
}

/// An archive of members as they are, data at the places where torch has it. `begins` is of all members, and the pieces
/// have all but the holes.
fn placed(members: &[Member]) -> Layout {
    let mut layout = Layout::default();
    let (mut directory, mut end) = (Vec::new(), 0u64);
    for (name, content) in members {
        let name = format!("archive/{name}");
        let (begin, length) = (end, content.length());
        // What has no room in 32 bits stands in an extra field.
        let (short_length, short_begin) = (length.min(ELSEWHERE) as u32, begin.min(ELSEWHERE) as u32);
        let mut wide = Vec::new();
        if length >= ELSEWHERE {
            wide.extend([length, length].map(u64::to_le_bytes).concat());
        }
        if begin >= ELSEWHERE {
            wide.extend(begin.to_le_bytes());
        }
        if !wide.is_empty() {
            let head = [1, wide.len() as u16].map(u16::to_le_bytes).concat();
            wide.splice(..0, head);
        }
        // From the version that is needed to the length of the name.
        let mut common = vec![0; 10];
        common.extend(content.checksum().to_le_bytes());
        common.extend(short_length.to_le_bytes());
        common.extend(short_length.to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        let mut header = [&LOCAL[..], &common].concat();
        let named = begin + header.len() as u64 + 2 + (name.len() + wide.len()) as u64 + 4;
        let padding = (named.next_multiple_of(ALIGNMENT) - named) as u16;
        header.extend((padding + 4 + wide.len() as u16).to_le_bytes());
        header.extend(name.bytes());
        header.extend(&wide);
        header.extend(b"FB");
        header.extend(padding.to_le_bytes());
        header.extend(std::iter::repeat_n(b'Z', padding.into()));
        layout.begins.push(begin + header.len() as u64);
        end = begin + header.len() as u64 + length;
        layout.pieces.push((begin, header));
        if let Content::Bytes(bytes) = content
            && let Some(data) = layout.begins.last()
        {
            layout.pieces.push((*data, bytes.clone()));
        }

        directory.extend(CENTRAL);
        directory.extend([0; 2]);
        directory.extend(&common);
        directory.extend((wide.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(short_begin.to_le_bytes());
        directory.extend(name.bytes());
        directory.extend(&wide);
    }
    let (begin, length, count) = (end, directory.len() as u64, members.len() as u64);
    if begin >= ELSEWHERE {
        // The end of 64 bits, and where it is.
        let place = begin + length;
        directory.extend(END_64);
        directory.extend((END_64_BYTES as u64 - 12).to_le_bytes());
        directory.extend([45, 45].map(u16::to_le_bytes).concat());
        directory.extend([0; 8]);
        directory.extend([count, count, length, begin].map(u64::to_le_bytes).concat());
        directory.extend(LOCATOR_64);
        directory.extend([0; 4]);
        directory.extend(place.to_le_bytes());
        directory.extend(1u32.to_le_bytes());
    }
    directory.extend(END);
    directory.extend([0; 4]);
    directory.extend([count as u16, count as u16].map(u16::to_le_bytes).concat());
    directory.extend((length as u32).to_le_bytes());
    directory.extend((begin.min(ELSEWHERE) as u32).to_le_bytes());
    directory.extend([0; 2]);
    layout.bytes = begin + directory.len() as u64;
    layout.pieces.push((begin, directory));
    layout
}
