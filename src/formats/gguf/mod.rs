//! GGUF, the files of llama.cpp: metadata, a table of tensors, and their data in the types of ggml.
//!
//! | module | owns |
//! |---|---|
//! | `header` | a push decoder of what stands in front of the data |
//! | `probe` | finding its table of tensors without reading the tokenizer in front of it |
//! | `cursor`, `values` | where it reads, and the metadata that it finds |
//! | `kinds`, `blocks` | the types of tensors, and how their blocks become values |
//! | `encoding` | rows of blocks; rows and gains as they were before they were converted |
//! | `architecture`, `bases` | what the metadata say of the model, and what was changed of it |
//! | `stored` | the weights of a checkpoint |
//! | `write`, `quantise` | headers and blocks of files that are made up |
//!
//! The format is that of version 2 and 3 of `docs/gguf.md` of ggml, in either byte order. Values are those that the
//! Python package `gguf` computes.

mod architecture;
mod bases;
mod blocks;
mod cursor;
mod encoding;
mod error;
mod header;
mod kinds;
mod probe;
mod quantise;
mod stored;
mod values;
pub mod write;

#[cfg(test)]
mod tests;

pub use self::architecture::{adds_one, alternates};
pub use self::encoding::published_row;
pub use self::error::{GgufError, Shown};
pub use self::header::{Decoded, Decoder, Header, Tensor};
pub use self::kinds::Kind;
pub use self::stored::Checkpoint;
pub use self::values::{Value, Values};
