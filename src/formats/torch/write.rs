//! Files as `torch.save` writes them, of tensors that are at hand: what tests read.

use super::zip::{self, ALIGNMENT};
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

/// A state dict as an archive; `None` where a type has no storage class of its own.
pub fn archive(tensors: &[Written<'_>]) -> Option<Vec<u8>> {
    let mut members = vec![("data.pkl".to_owned(), state_dict(tensors)?)];
    members.push(("byteorder".into(), b"little".to_vec()));
    members.extend((0..).zip(tensors).map(|(key, t): (u64, _)| (format!("data/{key}"), t.bytes.to_vec())));
    members.push(("version".into(), b"3\n".to_vec()));
    Some(stored(&members))
}

/// `{name: tensor}` in protocol 2.
fn state_dict(tensors: &[Written<'_>]) -> Option<Vec<u8>> {
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

/// An archive of members as they are, data at the places where torch has it.
pub(super) fn stored(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let name = format!("archive/{name}");
        let begin = file.len() as u32;
        // From the version that is needed to the length of the name.
        let mut common = vec![0; 10];
        common.extend(crc32fast::hash(content).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        file.extend(zip::LOCAL);
        file.extend(&common);
        let named = file.len() as u64 + 2 + name.len() as u64 + 4;
        let padding = (named.next_multiple_of(ALIGNMENT) - named) as u16;
        file.extend((padding + 4).to_le_bytes());
        file.extend(name.bytes());
        file.extend(b"FB");
        file.extend(padding.to_le_bytes());
        file.extend(std::iter::repeat_n(b'Z', padding.into()));
        file.extend(content);

        directory.extend(zip::CENTRAL);
        directory.extend([0; 2]);
        directory.extend(&common);
        directory.extend([0; 12]);
        directory.extend(begin.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (begin, count) = (file.len() as u32, members.len() as u16);
    file.extend(&directory);
    file.extend(zip::END);
    file.extend([0; 4]);
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(begin.to_le_bytes());
    file.extend([0; 2]);
    file
}
