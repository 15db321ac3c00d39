//! Where a database is: a folder, a prefix in a bucket, or memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::error::StoreError;
use super::storage::{Bucket, Folder, Memory, Storage};

/// Schemes of buckets.
const BUCKETS: [&str; 3] = ["s3", "gs", "az"];

/// A folder, or another place with a folder that mirrors it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder.
    Folder(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    Bucket {
        /// Its address; never with a secret in it.
        url: Url,
        /// Where copies of its files lie on this machine. They never change, so a copy stays good.
        mirror: PathBuf,
    },
    /// The memory of this process.
    Memory {
        /// The files.
        files: Memory,
        /// Where copies of them lie on this machine.
        mirror: PathBuf,
    },
}

impl Location {
    /// Reads a folder or an address. `mirrors` is the folder for the mirrors of buckets.
    pub fn parse(text: &str, mirrors: &Path) -> Result<Self, LocationError> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Folder(text.into())) };
        let error = |what| LocationError { text: scheme.to_owned() + "://...", what };
        if !BUCKETS.contains(&scheme) {
            return Err(error("a database is a folder, or an s3://, gs:// or az:// address"));
        }
        let url = Url::parse(text).map_err(|_| error("it is no address"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(error("it names no bucket"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(error("credentials belong into the environment, not into the address"));
        }
        // Two addresses must not share a mirror: what stands for the slash is itself written otherwise.
        let name = rest.trim_end_matches('/').replace('%', "%25").replace('+', "%2B").replace('/', "+");
        Ok(Self::Bucket { url, mirror: mirrors.join(format!("{scheme}+{name}")) })
    }

    /// Whether two of them are one place.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(a), Self::Folder(b)) => {
                let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
                real(a) == real(b)
            }
            (Self::Bucket { mirror: a, .. }, Self::Bucket { mirror: b, .. }) => a == b,
            (Self::Memory { files: a, .. }, Self::Memory { files: b, .. }) => a == b,
            _ => false,
        }
    }

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder)
            | Self::Bucket { mirror: folder, .. }
            | Self::Memory { mirror: folder, .. } => folder,
        }
    }

    /// The place for its files.
    pub(super) fn storage(&self) -> Result<Arc<dyn Storage>, StoreError> {
        Ok(match self {
            Self::Folder(folder) => Arc::new(Folder::new(folder)),
            Self::Bucket { url, .. } => Arc::new(Bucket::open(url)?),
            Self::Memory { files, .. } => Arc::new(files.clone()),
        })
    }
}

/// A text that names no database.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}: {what}")]
pub struct LocationError {
    text: String,
    what: &'static str,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket { url, .. } => url.fmt(f),
            Self::Memory { .. } => f.write_str("memory"),
        }
    }
}

impl From<&Path> for Location {
    fn from(folder: &Path) -> Self {
        Self::Folder(folder.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(folder: &PathBuf) -> Self {
        Self::Folder(folder.clone())
    }
}

impl From<&Self> for Location {
    fn from(location: &Self) -> Self {
        location.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets() {
        let parse = |text| Location::parse(text, Path::new("/m"));
        assert_eq!(parse("a/b").unwrap(), Location::Folder("a/b".into()));
        let bucket = parse("s3://org-models/nightly/").unwrap();
        assert_eq!(bucket.folder(), Path::new("/m/s3+org-models+nightly"));
        assert_eq!(bucket.to_string(), "s3://org-models/nightly/");
        for (one, other) in [("s3://b/x+y", "s3://b/x/y"), ("s3://b/x%2By", "s3://b/x+y")] {
            assert!(!parse(one).unwrap().is_same(&parse(other).unwrap()), "{one} {other}");
        }
        for wrong in ["ftp://x/y", "s3://", "s3://key:secret@bucket/x", "az://c/x?sig=secret"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
