//! ONNX: a graph of nodes, and the weights that they use, as one protobuf message.
//!
//! | module | owns |
//! |---|---|
//! | `window` | the bytes that are held of the file |
//! | `walk` | a push decoder of the message that passes over the values of weights |
//! | `node`, `graph` | nodes: which use which weight, and in which module of the model |
//! | `names` | what a weight is called in the model, where the exporter gave it a name of its own |
//! | `info`, `stored` | how its values lie in the file, or in another one that it names |
//! | `encoding` | numbers in one field, 8-bit numbers with a scale, and `MatMulNBits` |
//!
//! Field numbers are those of `onnx.proto3`. Values are those that the Python package `onnx` computes.

mod encoding;
mod error;
mod graph;
mod info;
mod names;
mod node;
mod stored;
mod walk;
mod window;

#[cfg(test)]
mod tests;

pub use self::error::OnnxError;
pub use self::info::Place;
pub use self::stored::Stored;
pub use self::walk::{Decoded, Decoder};

use std::collections::BTreeMap;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Model {
    /// Its weights.
    pub weights: Vec<Stored>,
    /// What it says of itself.
    pub metadata: BTreeMap<String, String>,
}
