//! What can go wrong with a database, as meanings.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::owner::Owner;

/// A database that cannot be used, or a file in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder holds no manifest.
    #[error("{} is not a hubprint database: it has no manifest", path.display())]
    NotADatabase {
        /// The folder.
        path: PathBuf,
    },
    /// Made by another version.
    #[error("{} has {what} version {found}; this hubprint reads version {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Which version: of the format, or of the extraction.
        what: &'static str,
        /// What the file says.
        found: u32,
        /// What this program reads.
        supported: u32,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No index has been built, or its files are gone.
    #[error("{} has no index", path.display())]
    NoIndex {
        /// The database.
        path: PathBuf,
    },
    /// An index that was built of another database.
    #[error("{} is the index of another database: {what}", path.display())]
    ForeignIndex {
        /// The index.
        path: PathBuf,
        /// Of which one, and where it lies.
        what: String,
    },
    /// An index that was built of rows which the database no longer has.
    #[error("{} was built of something else than the database holds now: {what}", path.display())]
    StaleIndex {
        /// The index.
        path: PathBuf,
        /// What it was built of, and what is there.
        what: String,
    },
    /// Another process writes.
    #[error("{} is being written by {}", path.display(), name(owner.as_deref()))]
    Locked {
        /// The database.
        path: PathBuf,
        /// Who, if the lock file tells.
        owner: Option<Box<Owner>>,
    },
    /// A commit to a database that was opened for reading: a bug.
    #[error("{} was opened for reading", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// Another process has moved rows that this one refers to.
    #[error("{} was rearranged by another process", path.display())]
    Changed {
        /// The database.
        path: PathBuf,
    },
    /// A bucket refused, or does not answer.
    #[error("{url}: {what}")]
    Bucket {
        /// Its address.
        url: String,
        /// Which object, and why.
        what: String,
    },
    /// A name that leads out of the database, or is none.
    #[error("{name:?} is no name of a file of a database")]
    Name {
        /// The name.
        name: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn name(owner: Option<&Owner>) -> String {
    owner.map_or_else(
        || "another process".into(),
        |o| {
            let time = |t: &DateTime<Utc>| t.format("%Y-%m-%d %H:%M:%S UTC").to_string();
            format!(
                "process {} on {} since {} (claimed until {})",
                o.pid,
                o.host,
                time(&o.since),
                time(&o.expires)
            )
        },
    )
}

impl StoreError {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// For `map_err` on decoders.
    pub(crate) fn damaged<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self + '_ {
        move |what| Self::Damaged { path: path.to_owned(), what: what.to_string() }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotADatabase { .. } => "give the folder that `hubprint crawl --db` wrote, or crawl first",
            Self::NoIndex { .. } => "build it with `hubprint index --db DIR`",
            Self::Version { what: "index", found, supported, .. } if found > supported => {
                "it was built by a newer hubprint; update this one, or build it anew with `hubprint index --db DIR`"
            }
            Self::Version { what: "index", .. } | Self::ForeignIndex { .. } | Self::StaleIndex { .. } => {
                "build it anew with `hubprint index --db DIR`"
            }
            Self::Version { what: "format", found, supported, .. } if found < supported => {
                "bring it up to date with `hubprint db migrate --db DIR`"
            }
            Self::Version { what: "format", .. } => "it was written by a newer hubprint; update this one",
            Self::Version { .. } => {
                "fingerprints of two versions cannot be compared: crawl into a new folder with this one; the version \
                 that wrote it still reads this one"
            }
            Self::Damaged { path, .. } if path.components().any(|c| c.as_os_str() == "index") => {
                "rebuild it from the shards with `hubprint index --rebuild --db DIR`"
            }
            Self::Damaged { .. } => "restore the file from a copy, or crawl into a new folder",
            Self::Locked { .. } => "wait until it has ended; if its machine is lost, until its claim expires",
            Self::ReadOnly { .. } => "this is a bug in hubprint; please report it",
            Self::Changed { .. } => "run the same command again",
            Self::Bucket { .. } => {
                "check the address, the network, and the credentials in the environment (AWS_*, GOOGLE_*, AZURE_*)"
            }
            Self::Name { .. } => "somebody has changed a file of the database; restore it from a copy",
            Self::Io { .. } => "check the path, the permissions and the free space",
        }
    }
}
