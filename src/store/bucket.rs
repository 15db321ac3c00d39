//! A prefix in a bucket, behind calls that block: the store is used from threads that may wait.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, WriteMultipart};
use tokio::runtime::Runtime;
use url::Url;

use super::StoreError;
use super::atomic::Checksum;
use super::files::{FileEntry, MOST_SMALL};
use crate::formats::text::without_queries;

/// Bytes of a part of a large upload.
const PART: usize = 8 << 20;
/// Bytes that are asked for at once.
const PIECE: u64 = 16 << 20;
/// Parts of one upload that are on the way at once.
const PARTS_AT_ONCE: usize = 4;
/// Beginnings of the names of settings in the environment.
const SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Its own threads, so that a caller may wait wherever it is.
static RUNTIME: LazyLock<Result<Runtime, std::io::Error>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("bucket").enable_all().build()
});

/// A prefix in a bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
}

/// An object of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Name below the prefix.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// What tells one state of an object from the next.
pub type Version = UpdateVersion;

impl Bucket {
    /// A prefix by its address. Credentials, region and endpoint come from the environment, by the names that the
    /// tools of the providers use (`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` ...).
    pub fn open(url: &Url) -> Result<Self, StoreError> {
        let settings = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let value = value.into_string().ok()?;
            SETTINGS.iter().any(|s| name.starts_with(s)).then(|| (name.to_ascii_lowercase(), value))
        });
        let (store, root) =
            object_store::parse_url_opts(url, settings).map_err(|error| failed(url, "", &error))?;
        Ok(Self { store: Arc::from(store), root, url: url.clone() })
    }

    /// A small object and its version; `None` where there is none.
    pub fn get(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        self.get_bounded(name, MOST_SMALL)
    }

    /// An object of at most so many bytes and its version; `None` where there is none.
    pub fn get_bounded(&self, name: &str, most: u64) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        let (store, path) = self.at(name);
        let got = wait(async move {
            let answer = store.get(&path).await?;
            let version =
                UpdateVersion { e_tag: answer.meta.e_tag.clone(), version: answer.meta.version.clone() };
            if answer.meta.size > most {
                return Ok(Err(answer.meta.size));
            }
            Ok(Ok((answer.bytes().await?.to_vec(), version)))
        });
        match got {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(size)) => Err(StoreError::Bucket {
                url: self.url.to_string(),
                what: format!("{name} has {size} bytes, at most {most} are read"),
            }),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// Writes a small object.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_if(name, bytes, PutMode::Overwrite).map(drop)
    }

    /// Writes a small object unless there is one; returns whether it did.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        self.put_if(name, bytes, PutMode::Create)
    }

    /// Replaces a small object if it is still at this version; returns whether it did.
    pub fn replace(&self, name: &str, bytes: &[u8], version: &Version) -> Result<bool, StoreError> {
        self.put_if(name, bytes, PutMode::Update(version.clone()))
    }

    fn put_if(&self, name: &str, bytes: &[u8], mode: PutMode) -> Result<bool, StoreError> {
        let (store, path) = self.at(name);
        let payload = bytes.to_vec().into();
        let options = PutOptions::from(mode);
        match wait(async move { store.put_opts(&path, payload, options).await }) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// Writes a file, in parts where it is long.
    pub fn upload(&self, name: &str, from: &FilePath) -> Result<(), StoreError> {
        let io = StoreError::io;
        let mut file = File::open(from).map_err(io(from))?;
        let length = file.metadata().map_err(io(from))?.len();
        if length <= PART as u64 {
            let mut bytes = Vec::with_capacity(length as usize);
            file.read_to_end(&mut bytes).map_err(io(from))?;
            return self.put(name, &bytes);
        }
        let (store, path) = self.at(name);
        let sent = wait(async move {
            let mut parts = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, PART);
            let mut bytes = vec![0; PART];
            loop {
                let read = match file.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => {
                        parts.abort().await?;
                        return Ok(Err(error));
                    }
                };
                parts.wait_for_capacity(PARTS_AT_ONCE).await?;
                parts.write(&bytes[..read]);
            }
            parts.finish().await?;
            Ok(Ok(()))
        });
        sent.map_err(|error| self.failed(name, &error))?.map_err(io(from))
    }

    /// Copies an object of so many bytes to a file.
    pub fn download(&self, name: &str, to: &mut File, bytes: u64) -> Result<(), StoreError> {
        let to = to.try_clone().map_err(StoreError::io(FilePath::new(name)))?;
        self.copy(name, to, bytes).map(drop)
    }

    /// Reads an object and holds it against what is stated of it.
    pub fn verify(&self, entry: &FileEntry) -> Result<(), StoreError> {
        let (bytes, sha256) = self.copy(&entry.file, Checksum::default(), entry.bytes)?.finish();
        entry.is(&self.address(&entry.file), bytes, &sha256)
    }

    /// Copies an object of so many bytes, piece by piece: each has its own time limit and its own retries.
    fn copy<W: Write + Send + 'static>(&self, name: &str, mut to: W, bytes: u64) -> Result<W, StoreError> {
        let (store, path) = self.at(name);
        let got = wait(async move {
            let size = store.head(&path).await?.size;
            if size != bytes {
                return Ok(Err(Err(size)));
            }
            let mut at = 0;
            while at < bytes {
                let end = bytes.min(at + PIECE);
                if let Err(error) = to.write_all(&store.get_range(&path, at..end).await?) {
                    return Ok(Err(Ok(error)));
                }
                at = end;
            }
            Ok(Ok(to))
        });
        match got {
            Ok(Ok(to)) => Ok(to),
            Ok(Err(Err(size))) => Err(StoreError::Damaged {
                path: self.address(name),
                what: format!("it has {size} bytes, stated are {bytes}"),
            }),
            Ok(Err(Ok(source))) => Err(StoreError::Io { path: name.into(), source }),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// The address of an object, for errors.
    fn address(&self, name: &str) -> PathBuf {
        format!("{}/{name}", self.url.as_str().trim_end_matches('/')).into()
    }

    /// What lies below a folder of the prefix.
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let (store, path) = self.at(folder);
        let root = self.root.clone();
        let listed = wait(async move {
            let mut all = Vec::new();
            let mut objects = store.list(Some(&path));
            while let Some(object) = objects.next().await {
                let object = object?;
                all.push(Listed {
                    name: below(&root, &object.location).to_owned(),
                    bytes: object.size,
                    modified: object.last_modified,
                });
            }
            Ok(all)
        });
        listed.map_err(|error| self.failed(folder, &error))
    }

    /// The name of some object below the prefix that is not in a folder, or under a name, of this kind.
    pub fn stranger(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError> {
        let (store, root) = (Arc::clone(&self.store), self.root.clone());
        let found = wait(async move {
            let mut objects = store.list(Some(&root));
            while let Some(object) = objects.next().await {
                let object = object?;
                let name = below(&root, &object.location);
                if !is_ours(name.split('/').next().unwrap_or_default()) {
                    return Ok(Some(name.to_owned()));
                }
            }
            Ok(None)
        });
        found.map_err(|error| self.failed("", &error))
    }

    /// Removes an object; that it is not there is no error.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let (store, path) = self.at(name);
        match wait(async move { store.delete(&path).await }) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    fn at(&self, name: &str) -> (Arc<dyn ObjectStore>, Path) {
        let parts = name.split('/').filter(|part| !part.is_empty());
        let path = parts.fold(self.root.clone(), Path::join);
        (Arc::clone(&self.store), path)
    }

    fn failed(&self, name: &str, error: &Error) -> StoreError {
        failed(&self.url, name, error)
    }
}

/// The name of an object below a prefix.
fn below<'a>(root: &Path, object: &'a Path) -> &'a str {
    let name = object.as_ref();
    name.strip_prefix(root.as_ref()).unwrap_or(name).trim_start_matches('/')
}

fn failed(url: &Url, name: &str, error: &Error) -> StoreError {
    StoreError::Bucket {
        url: url.to_string(),
        what: format!("{name}: {}", without_queries(&error.to_string())),
    }
}

/// Runs on the bucket's own threads and waits for the end.
fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let generic = |what: &str| Error::Generic { store: "bucket", source: what.to_owned().into() };
    let runtime = RUNTIME.as_ref().map_err(|error| generic(&error.to_string()))?;
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Nobody waits any more only if the caller is gone.
        let _ = send.send(work.await);
    });
    receive.recv().map_err(|_| generic("the request was given up"))?
}
