//! Decoders of the small files and byte ranges of a checkpoint.
//!
//! Nothing here does I/O: a decoder is given bytes and answers with a value, an error that carries its
//! evidence, or the range that it needs next. Every length is checked against [`Limits`] before memory
//! is taken for it.
//!
//! | module | reads |
//! |---|---|
//! | [`safetensors`], [`torch`], [`gguf`], [`onnx`] | headers of weight files |
//! | [`dtype`], [`packed`], [`gguf`] | values of weights: [`Encoding`] |
//! | [`shards`] | indexes and names of shards |
//! | [`config`], [`tokenizer`], [`json`] | the small files |
//! | [`foreign`] | what a file is that has another name |

pub mod adapter_config;
pub mod config;
pub mod dtype;
pub mod endings;
pub mod foreign;
pub mod gguf;
pub mod json;
pub mod limits;
pub mod low_rank;
pub mod onnx;
pub mod packed;
pub mod safetensors;
pub mod shards;
pub(crate) mod text;
pub mod tokenizer;
pub mod torch;
pub mod unsupported;
pub(crate) mod varint;
pub mod weight;

pub use config::{ModelConfig, Positions, Quantization};
pub use dtype::Dtype;
pub use foreign::Foreign;
pub use json::JsonError;
pub use limits::Limits;
pub use onnx::OnnxError;
pub use safetensors::{Header, HeaderError, TensorInfo};
pub use shards::ShardIndex;
pub use tokenizer::{Tokenizer, TokenizerError, TokenizerFiles};
pub use torch::TorchError;
pub use unsupported::Unsupported;
pub use weight::{Encoding, FileRange, Flat, Form, PartRange, Weight};
