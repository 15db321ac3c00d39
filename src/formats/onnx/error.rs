//! Why an ONNX file is refused.

use crate::formats::Foreign;

/// Why an ONNX file was refused.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// Another kind of file.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// A field that ends after the message that it is in, or after the file.
    #[error("a field at byte {at} claims {claimed} bytes, and {left} are left")]
    Length {
        /// Where it begins.
        at: u64,
        /// Its length as the file states it.
        claimed: u64,
        /// Bytes to the end of what it is in.
        left: u64,
    },
    /// No field of a protobuf message.
    #[error("no field of a protobuf message at byte {at}: {why}")]
    Field {
        /// Where it would begin.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No graph in it.
    #[error("no ONNX model: a message without a graph")]
    NoGraph,
    /// Graphs inside graphs.
    #[error("graphs in one another, more than {limit} deep")]
    Nesting {
        /// The limit.
        limit: usize,
    },
    /// More of something than is read.
    #[error("{what}: {found}, at most {limit} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many the file has.
        found: u64,
        /// How many are read.
        limit: u64,
    },
    /// The headers of this checkpoint are larger than what is read of headers.
    #[error("the graphs of this checkpoint have more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A shape that a file cannot hold, or that its values do not fill.
    #[error("tensor {name:?}: {bytes} bytes do not fill shape {shape:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape; a negative length as it is stored.
        shape: Vec<u64>,
        /// Bytes that it has.
        bytes: u64,
    },
    /// External data that lie where none may.
    #[error("tensor {name:?} lies in {location:?}: {why}")]
    Place {
        /// The tensor.
        name: String,
        /// The file that it names.
        location: String,
        /// What is wrong with that.
        why: &'static str,
    },
}
