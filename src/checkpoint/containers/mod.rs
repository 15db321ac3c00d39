//! The file formats of weights, one file each, and the table of them.

use std::sync::Arc;

use super::container::Containers;

mod dialect;
pub mod gguf;
mod number_formats;
pub mod safetensors;
pub(crate) mod sets;
pub mod torch;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod toy;

impl Default for Containers {
    /// All formats that this version reads: one row registers one. Where a repository has its weights in several, the
    /// first one is read; GGUF comes last, because what is in it was most often made from the others.
    fn default() -> Self {
        Self::new(vec![Arc::new(safetensors::Safetensors), Arc::new(torch::Torch), Arc::new(gguf::Gguf)])
    }
}
