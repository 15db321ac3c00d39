//! Why a file of torch is not read.

use super::pickle::PickleError;
use crate::formats::{Foreign, Unsupported};

/// Why a file of torch is not read.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// Another kind of file.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// A kind of it that is not read.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The archive contradicts itself.
    #[error("the zip archive is damaged: {0}")]
    Zip(&'static str),
    /// Two members of one name.
    #[error("the zip archive has member {0:?} twice")]
    Twice(String),
    /// A pickle is not read.
    #[error("the pickle is not valid: {0}")]
    Pickle(#[from] PickleError),
    /// A pickle holds something else than torch writes there.
    #[error("the file is damaged: {0}")]
    Content(&'static str),
    /// A tensor of which no shape, strides and offset are said.
    #[error("tensor {name:?} has no shape, strides or offset")]
    Shapeless {
        /// The tensor.
        name: String,
    },
    /// Two tensors have one name.
    #[error("two tensors are called {0:?}")]
    SameName(String),
    /// A tensor lies outside its storage, or its storage is not there.
    #[error("tensor {name:?} of shape {shape:?} is not inside its storage {storage:?}")]
    Outside {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// The key of the storage.
        storage: String,
    },
    /// The file is shorter or longer than its storages.
    #[error("the storages end at byte {expected} of a file of {actual}")]
    Size {
        /// End of the last storage.
        expected: u64,
        /// Size of the file.
        actual: u64,
    },
    /// A part of the file that is read whole is larger than that may be.
    #[error("{what} has {claimed} bytes; {limit} are read at most")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its size.
        claimed: u64,
        /// The limit.
        limit: u64,
    },
    /// The pickles of several shards are larger together than one may be.
    #[error("with its pickle, those of this checkpoint have more than {limit} bytes")]
    Together {
        /// The limit.
        limit: u64,
    },
    /// More tensors, or a longer name or shape, than is read.
    #[error("{what}: {found}, at most {limit} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many the file has.
        found: usize,
        /// How many are read.
        limit: usize,
    },
}

/// A kind of file that is not read.
pub(super) fn unsupported(what: impl Into<String>) -> TorchError {
    Unsupported(what.into()).into()
}
