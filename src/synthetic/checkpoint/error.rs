//! Why a checkpoint was not written.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::plan::PlanError;
use crate::formats::shards::ShardIndexError;
use crate::formats::{HeaderError, TokenizerError};

/// Why a checkpoint was not written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being written.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// Something lies where the checkpoint should.
    #[error("{} is there already and not empty", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// No correlation.
    #[error("a correlation of {0} is not between 0 and 1")]
    Correlation(f64),
    /// The safetensors library refuses a header.
    #[error("a header: {0}")]
    Header(#[from] safetensors::SafeTensorError),
    /// A document cannot be written as JSON.
    #[error("a document: {0}")]
    Json(#[from] serde_json::Error),
    /// A header that is not read again.
    #[error("a header that was written is not read: {0}")]
    Decode(#[from] HeaderError),
    /// The same, because it is not complete.
    #[error("the header of {file} does not end where it says")]
    HeaderTooLong {
        /// The weight file.
        file: String,
    },
    /// An index that is not read again.
    #[error("an index that was written is not read: {0}")]
    Index(#[from] ShardIndexError),
    /// A tokenizer that is not read again.
    #[error("a tokenizer that was written is not read: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// A checkpoint of which nothing would be read.
    #[error("nothing of it would be read: {0}")]
    Plan(#[from] PlanError),
}

impl CheckpointError {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}
