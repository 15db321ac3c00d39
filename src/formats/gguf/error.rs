//! Why a GGUF file is refused.

use crate::formats::Foreign;

/// Why the header of a GGUF file was refused.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// Another kind of file.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It does not begin as the format does.
    #[error("not a GGUF file: it begins with {0:02x?}")]
    Magic([u8; 4]),
    /// A version that is not read.
    #[error("GGUF version {0}; 2 and 3 are read")]
    Version(u32),
    /// Something in the header ends after the file.
    #[error("the header claims to go on to byte {end}, but the file ends after {size}")]
    PastEnd {
        /// Where it would end; `None` where that is more than 64 bits hold.
        end: Shown,
        /// Size of the file.
        size: u64,
    },
    /// The header is larger than what is read of headers.
    #[error("the headers of this checkpoint have more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// More of something than is read.
    #[error("{what}: {found}, at most {limit} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many the file claims.
        found: u64,
        /// How many are read.
        limit: u64,
    },
    /// A type of metadata that no version has.
    #[error("metadata {key:?} is of type {kind}, which is not known")]
    Type {
        /// The key.
        key: String,
        /// The number of its type.
        kind: u32,
    },
    /// A key or a tensor that is there twice.
    #[error("{what} {name:?} occurs twice")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A name that is no text.
    #[error("a {0} is not UTF-8")]
    Text(&'static str),
    /// An alignment that is none.
    #[error("the alignment is {0}, which is no power of two")]
    Alignment(u64),
    /// A tensor whose blocks do not divide its rows, or that nothing could hold.
    #[error("tensor {name:?}: rows of shape {shape:?} are no whole number of blocks of {kind}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape, rows first.
        shape: Vec<u64>,
        /// Its type.
        kind: &'static str,
    },
    /// Two tensors overlap, or bytes between them belong to none.
    #[error("tensor {name:?} begins at byte {begin} of the data, the one before it ends at {expected}")]
    Layout {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// Where it should.
        expected: u64,
    },
    /// The file is shorter than the header says.
    #[error("the header describes a file of {expected} bytes, the file has {actual}")]
    Size {
        /// Size by the header.
        expected: Shown,
        /// Real size.
        actual: u64,
    },
}

/// A number of bytes, or that it is more than 64 bits hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(pub Option<u64>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(bytes) => bytes.fmt(f),
            None => f.write_str("more than 2^64"),
        }
    }
}
