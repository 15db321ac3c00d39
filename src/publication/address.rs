//! The address of a remote.

use crate::hub::{InvalidId, RepoId};
use crate::store::{Location, LocationError};

/// What a dataset's address begins with.
const DATASETS: &str = "hf://datasets/";

/// The address of a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A folder or a bucket.
    Files(Location),
    /// A dataset on the Hub.
    Dataset(RepoId),
}

/// An address that names no remote.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No dataset.
    #[error("{text}: {source}; a dataset is hf://datasets/org/name")]
    Dataset {
        /// The text.
        text: String,
        /// Why.
        source: InvalidId,
    },
    /// Something else on the Hub.
    #[error("{0}: a published database is hf://datasets/org/name")]
    NotADataset(String),
    /// No folder and no bucket.
    #[error(transparent)]
    Location(#[from] LocationError),
}

impl Address {
    /// Reads a folder, an address of a bucket, or `hf://datasets/org/name`. `location` reads the first two.
    pub fn parse(
        text: &str,
        location: impl Fn(&str) -> Result<Location, LocationError>,
    ) -> Result<Self, AddressError> {
        match text.strip_prefix(DATASETS) {
            Some(id) => RepoId::dataset(id.trim_end_matches('/'))
                .map(Self::Dataset)
                .map_err(|source| AddressError::Dataset { text: text.to_owned(), source }),
            None if text.starts_with("hf:") => Err(AddressError::NotADataset(text.to_owned())),
            None => Ok(Self::Files(location(text)?)),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files(location) => location.fmt(f),
            Self::Dataset(id) => write!(f, "hf://{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn addresses() {
        let parse = |text| Address::parse(text, |text| Location::parse(text, Path::new("/m")));
        let dataset = parse("hf://datasets/org/prints").unwrap();
        assert_eq!(dataset, Address::Dataset(RepoId::dataset("org/prints").unwrap()));
        assert_eq!(dataset.to_string(), "hf://datasets/org/prints");
        assert!(matches!(parse("published").unwrap(), Address::Files(Location::Folder(_))));
        assert!(matches!(parse("s3://bucket/x").unwrap(), Address::Files(Location::Bucket { .. })));
        for wrong in ["hf://org/model", "hf://datasets/a/b/c", "hf://datasets/../x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
