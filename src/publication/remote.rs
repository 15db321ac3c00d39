//! Where publications lie: a folder, a bucket, or a dataset on the Hub.

use std::fs::File;
use std::io::Write;

use super::address::Address;
use super::error::PublicationError;
use super::list;
use crate::hub::{Hub, RepoId};
use crate::store::layout::LOCKS;
use crate::store::{DatabaseFiles, FileEntry, StoreError, atomic};

/// A remote, as it is at one moment.
pub struct Remote {
    place: String,
    kind: Kind,
}

enum Kind {
    Files(DatabaseFiles),
    /// At one commit, so that all files belong together.
    Dataset {
        hub: Hub,
        id: RepoId,
        sha: String,
        names: Vec<String>,
    },
}

impl Remote {
    /// Opens a remote for reading.
    pub async fn open(address: &Address, hub: &Hub) -> Result<Self, PublicationError> {
        let kind = match address {
            Address::Files(location) => Kind::Files(DatabaseFiles::open(location.clone())?),
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
    pub fn versions(&self) -> Result<Vec<u64>, PublicationError> {
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
    pub async fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, PublicationError> {
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
    pub async fn fetch(&self, entry: &FileEntry, mut to: File) -> Result<(), PublicationError> {
        match &self.kind {
            Kind::Files(files) => {
                let (files, entry) = (files.clone(), entry.clone());
                Ok(blocking(move || files.export(&entry, &mut to)).await?)
            }
            Kind::Dataset { hub, id, sha, .. } => {
                let file = hub.open(id, sha, &entry.file).await?;
                if file.size() != entry.bytes {
                    let what = format!("it has {} bytes, published are {}", file.size(), entry.bytes);
                    return Err(PublicationError::Tampered { file: entry.file.clone(), what });
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
    name == LOCKS || atomic::is_temporary(name.as_ref())
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
