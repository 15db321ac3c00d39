//! What a file is that has another name: a pointer of Git LFS, an error page, a pickle.

use std::fmt;

/// What a file is, where it is not what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file is {0}")]
pub struct Foreign(pub Kind);

/// Kinds of file that are found under the name of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a clone without Git LFS has in the place of a large file.
    LfsPointer,
    /// An error page, or a form to sign in.
    Html,
    /// A zip archive, as `torch.save` writes.
    Zip,
    /// A bare pickle.
    Pickle,
    /// The format of llama.cpp.
    Gguf,
    /// A file of Keras.
    Hdf5,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with Zstandard.
    Zstd,
    /// Nothing but zeros: room for a download that never came.
    Zeros,
    /// Some other text.
    Text,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::LfsPointer => "a Git LFS pointer, not the content that it points to",
            Self::Html => "an HTML page",
            Self::Zip => "a zip archive, as torch.save writes it",
            Self::Pickle => "a Python pickle",
            Self::Gguf => "a GGUF file",
            Self::Hdf5 => "an HDF5 file",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with Zstandard",
            Self::Zeros => "all zeros where it begins, as an unfinished download is",
            Self::Text => "a text",
        }
    }

    /// One line of advice, where there is one.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::LfsPointer => Some("run `git lfs pull` in the clone"),
            Self::Html | Self::Text => {
                Some("it may be what a server answered instead of the file; fetch it again, signed in")
            }
            Self::Gguf => Some("give it a name that ends in .gguf"),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that a kind of file begins with.
const MAGIC: [(&[u8], Kind); 6] = [
    (b"version https://git-lfs.github.com/spec/", Kind::LfsPointer),
    (b"PK\x03\x04", Kind::Zip),
    (b"GGUF", Kind::Gguf),
    (b"\x89HDF\r\n\x1a\n", Kind::Hdf5),
    (b"\x1f\x8b\x08", Kind::Gzip),
    (b"\x28\xb5\x2f\xfd", Kind::Zstd),
];

/// How much of a text is looked at.
const LOOKED_AT: usize = 512;

impl Foreign {
    /// What a file of weights that cannot be read is, from its first bytes. To be asked only of what is damaged: a
    /// length may begin with any byte.
    pub fn of_weights(prefix: &[u8]) -> Option<Self> {
        let zeros = prefix.len() >= 16 && prefix.iter().take(LOOKED_AT).all(|byte| *byte == 0);
        let pickle = matches!(prefix, [0x80, 2..=5, ..]);
        Self::of_text(prefix)
            .or_else(|| zeros.then_some(Self(Kind::Zeros)))
            .or_else(|| pickle.then_some(Self(Kind::Pickle)))
            .or_else(|| is_text(prefix).then_some(Self(Kind::Text)))
    }

    /// The same of a file of text.
    pub fn of_text(prefix: &[u8]) -> Option<Self> {
        // A byte-order mark, as editors leave it.
        let prefix = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
        let magic = MAGIC.iter().find(|(magic, _)| prefix.starts_with(magic)).map(|(_, kind)| *kind);
        magic.or_else(|| is_html(prefix).then_some(Kind::Html)).map(Self)
    }
}

fn is_html(prefix: &[u8]) -> bool {
    let text = prefix.trim_ascii_start();
    let begins = |with: &[u8]| text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    [&b"<!doctype"[..], b"<html", b"<?xml"].into_iter().any(begins)
}

/// Whether all that is looked at is printable ASCII.
fn is_text(prefix: &[u8]) -> bool {
    let head = prefix.get(..LOOKED_AT).unwrap_or(prefix);
    head.len() >= 8 && head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_by_their_first_bytes() {
        let kind = |prefix: &[u8]| Foreign::of_weights(prefix).map(|Foreign(kind)| kind);
        for (prefix, expected) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00"[..], Kind::LfsPointer),
            (b"\n <!DOCTYPE html><title>Sign in</title>", Kind::Html),
            (b"<HTML>", Kind::Html),
            (b"PK\x03\x04\0\0\x08\x08", Kind::Zip),
            (b"\x80\x02}q\0(X\x05\0\0\0", Kind::Pickle),
            (b"GGUF\x03\0\0\0\x01\0\0\0", Kind::Gguf),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", Kind::Gzip),
            (b"\x28\xb5\x2f\xfd\x04\0\0\0", Kind::Zstd),
            (b"\x89HDF\r\n\x1a\n\0\0\0\0", Kind::Hdf5),
            (&[0; 64], Kind::Zeros),
            (b"Entry not found", Kind::Text),
        ] {
            assert_eq!(kind(prefix), Some(expected), "{prefix:?}");
        }
        for prefix in [&b""[..], b"\0", b"\x40\0\0\0\0\0\0\0{\"a\":", b"\x81\x02\0\0\0\0\0\0", b"text"] {
            assert_eq!(kind(prefix), None, "{prefix:?}");
        }
        assert_eq!(Foreign::of_text(b"{\"model_type\": \"llama\"}"), None);
    }
}
