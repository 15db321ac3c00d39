//! Why a checkpoint was not written.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::plan::PlanError;
use crate::formats::TokenizerError;
use crate::formats::shards::ShardIndexError;

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
    /// A shape and a format that do not go together.
    #[error("{shape} is not written as {format}")]
    Format {
        /// Its name.
        shape: &'static str,
        /// The format.
        format: &'static str,
    },
    /// A weight file that is not read again.
    #[error("{file} was written and is not read: {source}")]
    Damaged {
        /// The weight file.
        file: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
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
