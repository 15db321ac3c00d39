//! Why a checkpoint could not be read, and what that means for the repository's row.

use super::plan::PlanError;
use crate::formats::gguf::GgufError;
use crate::formats::shards::ShardIndexError;
use crate::formats::{Foreign, HeaderError, JsonError, TorchError};
use crate::hub::HubError;
use crate::store::Outcome;

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The Hub's answer about a file, or none.
    #[error("{path}: {source}")]
    Hub {
        /// The file.
        path: String,
        /// What the Hub said.
        source: HubError,
    },
    /// A local file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A small file is larger than it may be.
    #[error("{path} has {size} bytes, at most {cap} are read")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        cap: u64,
    },
    /// A damaged or hostile weight file.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A damaged or hostile shard index.
    #[error("{path}: {source}")]
    Index {
        /// The file.
        path: String,
        /// What is wrong.
        source: ShardIndexError,
    },
    /// A config.json that is no JSON object.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong.
        source: JsonError,
    },
    /// Nothing to read, or files missing.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl ReadError {
    /// What a file is that is not what its name says.
    pub fn foreign(&self) -> Option<Foreign> {
        match self {
            Self::Header { source, .. } => {
                if let Some(HeaderError::Foreign(foreign)) = source.downcast_ref() {
                    return Some(*foreign);
                }
                if let Some(GgufError::Foreign(foreign)) = source.downcast_ref() {
                    return Some(*foreign);
                }
                let Some(TorchError::Foreign(foreign)) = source.downcast_ref() else { return None };
                Some(*foreign)
            }
            Self::Config { source: JsonError::Foreign(foreign), .. }
            | Self::Index { source: ShardIndexError::Json(JsonError::Foreign(foreign)), .. } => {
                Some(*foreign)
            }
            _ => None,
        }
    }

    /// Whether to ask again may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Hub { source, .. } if !source.is_permanent())
    }

    /// The outcome of a repository that ended with this error.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Hub { source, .. } => outcome_of_hub_error(source),
            Self::Io { .. } => Outcome::Unreachable,
            Self::Plan(
                PlanError::NotAsked
                | PlanError::NoWeights { .. }
                | PlanError::Unsupported { .. }
                | PlanError::NoRoles { .. }
                | PlanError::Adapter { .. }
                | PlanError::NoComponent { .. },
            ) => Outcome::Unsupported,
            Self::TooLarge { .. }
            | Self::Header { .. }
            | Self::Index { .. }
            | Self::Config { .. }
            | Self::Plan(PlanError::MissingShards { .. }) => Outcome::Malformed,
        }
    }
}

/// The outcome behind a Hub error.
pub fn outcome_of_hub_error(error: &HubError) -> Outcome {
    use crate::hub::HubErrorKind as E;
    match error.kind() {
        // An anonymous caller gets 401 for a missing repository and for a private one alike.
        E::NotFound { .. } | E::Unauthorized { with_token: false } => Outcome::Missing,
        E::Gated { .. } | E::Unauthorized { .. } | E::Forbidden { .. } => Outcome::Gated,
        E::Disabled => Outcome::Disabled,
        E::OutOfFile { .. } | E::TooLarge { .. } | E::Malformed { .. } | E::Unaddressable { .. } => {
            Outcome::Malformed
        }
        _ => Outcome::Unreachable,
    }
}

/// An error with its causes, in one line. Only the Hub's own words and addresses, never a secret: see
/// [`crate::hub::SafeUrl`].
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
