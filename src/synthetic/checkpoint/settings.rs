//! What is written.

use std::sync::Arc;

use super::shapes::Shape;
use crate::checkpoint::container::Container;
use crate::checkpoint::containers::gguf::Gguf;
use crate::checkpoint::containers::safetensors::Safetensors;
use crate::checkpoint::containers::torch::Torch;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointSettings {
    /// Whose layout.
    pub shape: &'static Shape,
    /// In which files.
    pub format: Format,
    /// Decides the values.
    pub seed: u64,
    /// Seed of a checkpoint to which this one is related, and the correlation of the weights, 0 to 1.
    pub from: Option<(u64, f64)>,
}

/// The files of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As transformers saves today.
    #[default]
    Safetensors,
    /// What `torch.save` writes.
    PyTorch,
    /// What llama.cpp reads.
    Gguf(FileType),
}

/// As what the matrices of a GGUF file are stored: llama.cpp's types of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// As halves.
    F16,
    /// In 8 bits.
    Q8_0,
    /// In 4 bits.
    Q4_0,
    /// In 4 bits, with about half of the values and of the down projections in 6.
    Q4KM,
}

impl FileType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F16, Self::Q8_0, Self::Q4_0, Self::Q4KM];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4KM => "Q4_K_M",
        }
    }

    /// The type with this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its number in a header (`LLAMA_FTYPE_*`).
    pub(super) fn number(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Q4_0 => 2,
            Self::Q4KM => 15,
        }
    }
}

impl Format {
    /// Its reader.
    pub(super) fn container(self) -> Arc<dyn Container> {
        match self {
            Self::Safetensors => Arc::new(Safetensors),
            Self::PyTorch => Arc::new(Torch),
            Self::Gguf(_) => Arc::new(Gguf),
        }
    }
}
