//! Where publications lie: a folder, a bucket, or a dataset on the Hub.

use std::fs::File;
use std::io::Write;

use super::list::{self, TrustError};
use crate::hub::{Hub, HubError, InvalidId, RepoId};
use crate::store::{FileEntry, Files, Location, LocationError, StoreError, atomic, lock};

/// What a dataset's address begins with.
const DATASETS: &str = "hf://datasets/";

/// The address of a shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A folder or a bucket.
    Files(Location),
    /// A dataset on the Hub.
    Dataset(RepoId),
}

/// An address that names no shelf.
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

/// What goes wrong with publications.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The database, or a folder or bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A signature or a key.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file is not what the publication says.
    #[error("{file} is not as published: {what}")]
    Tampered {
        /// Its name.
        file: String,
        /// What is different.
        what: String,
    },
    /// There is nothing, or not this version.
    #[error("{place} has no publication{}", of_version(*.version, .there))]
    Nothing {
        /// The shelf.
        place: String,
        /// What was asked for.
        version: Option<u64>,
        /// What is there.
        there: Vec<u64>,
    },
    /// The publication is older than what is here.
    #[error(
        "{place} offers publication {offered}, here is {here}: it was put back, or somebody replays an old one"
    )]
    Rollback {
        /// The shelf.
        place: String,
        /// What it offers.
        offered: u64,
        /// What is here.
        here: u64,
    },
    /// Another key than the one that was trusted.
    #[error("{place} is signed with the key {offered}, trusted is {trusted}")]
    ForeignKey {
        /// The shelf.
        place: String,
        /// Fingerprint of the key that comes along.
        offered: String,
        /// Fingerprint of the key that was trusted.
        trusted: String,
    },
    /// A shelf of somebody else.
    #[error("{place} is signed with the key {there}, not with {ours}")]
    OtherKey {
        /// The shelf.
        place: String,
        /// Fingerprint of the key that its latest publication is signed with.
        there: String,
        /// Fingerprint of the one to sign with.
        ours: String,
    },
    /// Another database.
    #[error("{place} holds the database {offered}, {folder} the database {here}")]
    OtherDatabase {
        /// The shelf.
        place: String,
        /// The id of the database there.
        offered: String,
        /// What is written to.
        folder: String,
        /// The id of the database here.
        here: String,
    },
    /// The same version of the same database, and not the same.
    #[error("{place} is version {version} of the database, and so is {other}, with other content")]
    SameVersion {
        /// What was offered.
        place: String,
        /// Its version.
        version: u64,
        /// What is there already.
        other: String,
    },
    /// The folder has commits of its own.
    #[error("{folder} is a database of its own, not a copy of a publication")]
    NotACopy {
        /// The folder.
        folder: String,
    },
    /// The folder was pulled, and has commits of its own.
    #[error("{folder} was pulled, and has become a database of its own")]
    ChangedCopy {
        /// The folder.
        folder: String,
    },
    /// Scans of this version could not use the index.
    #[error("version {version} of {place}: {source}")]
    OtherIndex {
        /// The shelf.
        place: String,
        /// The publication.
        version: u64,
        /// The versions.
        source: StoreError,
    },
    /// There is something else.
    #[error("{place} holds other files than {expected}: {file}")]
    Foreign {
        /// The place.
        place: String,
        /// What may be there.
        expected: &'static str,
        /// One that is something else.
        file: String,
    },
    /// What is to be published cannot be searched, or not all of it.
    #[error("{place} has {what}")]
    NotIndexed {
        /// The database.
        place: String,
        /// What is wrong with its index.
        what: String,
    },
    /// The Hub, as the client that writes to it reports.
    #[error("{place}: {what}")]
    Write {
        /// The shelf.
        place: String,
        /// What happened.
        what: String,
    },
    /// This build cannot write there.
    #[error("this hubprint was built without the client that writes to the Hub")]
    NoWriter,
}

fn of_version(version: Option<u64>, there: &[u64]) -> String {
    let list = there.iter().rev().take(10).map(u64::to_string).collect::<Vec<_>>().join(", ");
    match version {
        Some(version) => format!(" {version}; there are: {}", if list.is_empty() { "none" } else { &list }),
        None => String::new(),
    }
}

impl ShelfError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Store(error) => error.hint(),
            Self::Hub(error) => error.hint().unwrap_or("check HF_TOKEN, HF_ENDPOINT and the network"),
            Self::Trust(TrustError::Key { .. }) => {
                "make one with `hubprint db keygen FILE`, or openssl genpkey -algorithm ed25519"
            }
            Self::Trust(TrustError::Newer { .. }) => "update hubprint",
            Self::Trust(_) => "do not use it; ask its publisher",
            Self::Tampered { .. } => {
                "do not use it; ask its publisher, or try again later if it is being published now"
            }
            Self::Nothing { .. } => "check the address, and HF_TOKEN if it is private",
            Self::Rollback { .. } => {
                "ask its publisher; --accept-rollback takes the older one, --version names one"
            }
            Self::ForeignKey { .. } => {
                "ask its publisher for the new key and give it with --key FILE --accept-key"
            }
            Self::OtherKey { .. } => {
                "sign with that key, or take its place with --new-key and tell those who pull"
            }
            Self::OtherDatabase { .. } => "use another folder, or --replace",
            Self::SameVersion { .. } => {
                "two of one database have gone separate ways, or somebody has changed one; --replace takes this one"
            }
            Self::Foreign { .. } => "use an empty place",
            Self::NotIndexed { .. } => {
                "run `hubprint index --db DB` first, or publish it so with --any-index"
            }
            Self::NotACopy { .. } => "pull into another folder with --db",
            Self::ChangedCopy { .. } => {
                "pull into another folder with --db, or give up what was added here with --replace"
            }
            Self::OtherIndex { .. } => {
                "use the hubprint that it was made for, or take an earlier one with --version; --any-index takes it \
                 without an index for scans"
            }
            Self::Write { .. } => "run the same command again: what has arrived is not sent again",
            Self::NoWriter => "build it with `cargo build --release --features hf-hub`",
        }
    }
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

/// A shelf, as it is at one moment.
pub struct Shelf {
    place: String,
    kind: Kind,
}

enum Kind {
    Files(Files),
    /// At one commit, so that all files belong together.
    Dataset {
        hub: Hub,
        id: RepoId,
        sha: String,
        names: Vec<String>,
    },
}

impl Shelf {
    /// Opens a shelf for reading.
    pub async fn open(address: &Address, hub: &Hub) -> Result<Self, ShelfError> {
        let kind = match address {
            Address::Files(location) => Kind::Files(Files::open(location.clone())?),
            Address::Dataset(id) => {
                let entry = hub.info(id, None).await?;
                let names = entry.siblings.unwrap_or_default();
                Kind::Dataset {
                    hub: hub.clone(),
                    id: id.clone(),
                    sha: entry.sha.unwrap_or_else(|| "main".into()),
                    names,
                }
            }
        };
        Ok(Self { place: address.to_string(), kind })
    }

    /// Its address.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The names of all files of a dataset.
    #[cfg(feature = "hf-hub")]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let names = match &self.kind {
            Kind::Files(_) => &[][..],
            Kind::Dataset { names, .. } => names.as_slice(),
        };
        names.iter().map(String::as_str)
    }

    /// A dataset and its commit.
    #[cfg(feature = "hf-hub")]
    pub(super) fn dataset(&self) -> Option<(&RepoId, &str)> {
        match &self.kind {
            Kind::Files(_) => None,
            Kind::Dataset { id, sha, .. } => Some((id, sha)),
        }
    }

    /// What is published, the latest last.
    pub fn versions(&self) -> Result<Vec<u64>, ShelfError> {
        let mut versions: Vec<u64> = match &self.kind {
            Kind::Files(files) => {
                let present = files.list(list::FOLDER)?;
                present.iter().filter_map(|p| list::version_of(&p.file)).collect()
            }
            Kind::Dataset { names, .. } => names.iter().filter_map(|name| list::version_of(name)).collect(),
        };
        versions.sort_unstable();
        Ok(versions)
    }

    /// A small file of at most `most` bytes; `None` where there is none.
    pub async fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, ShelfError> {
        match &self.kind {
            Kind::Files(files) => {
                let (files, name) = (files.clone(), name.to_owned());
                Ok(blocking(move || files.get_bounded(&name, most)).await?)
            }
            Kind::Dataset { names, .. } if !names.iter().any(|n| n == name) => Ok(None),
            Kind::Dataset { hub, id, sha, .. } => {
                Ok(Some(hub.read_small(id, sha, name, most).await?.to_vec()))
            }
        }
    }

    /// Copies a file to `to`. What is longer than stated is an error, or is cut behind the stated length; whoever
    /// uses it checks it.
    pub async fn fetch(&self, entry: &FileEntry, mut to: File) -> Result<(), ShelfError> {
        match &self.kind {
            Kind::Files(files) => {
                let (files, entry) = (files.clone(), entry.clone());
                Ok(blocking(move || files.export(&entry, &mut to)).await?)
            }
            Kind::Dataset { hub, id, sha, .. } => {
                let file = hub.open(id, sha, &entry.file).await?;
                if file.size() != entry.bytes {
                    let what = format!("it has {} bytes, published are {}", file.size(), entry.bytes);
                    return Err(ShelfError::Tampered { file: entry.file.clone(), what });
                }
                let piece = hub.settings().limits.range.min(PIECE);
                let mut at = 0;
                while at < entry.bytes {
                    let end = entry.bytes.min(at + piece);
                    let bytes = hub.read_range(&file, at..end).await?;
                    to.write_all(&bytes).map_err(StoreError::io(entry.file.as_ref()))?;
                    at = end;
                }
                Ok(())
            }
        }
    }
}

/// Bytes that are asked for at once.
const PIECE: u64 = 16 << 20;

/// Whether a name is of what is left where a publish or a pull died before it said whose the place is.
pub(super) fn is_leftover(name: &str) -> bool {
    name == lock::FOLDER || atomic::is_temporary(name.as_ref())
}

/// Runs what waits for disks and buckets beside the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::io("a task was given up".as_ref())(error.into())),
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
