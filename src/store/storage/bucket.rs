//! Files below a prefix in a bucket, behind calls that block: the store is used from threads that may wait.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use futures_util::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, WriteMultipart};
use tokio::runtime::Runtime;
use url::Url;

use super::contract::{Present, Storage, Version, check_name, missing, of_other_length, too_long};
use crate::formats::text::without_queries;
use crate::store::entry::FileEntry;
use crate::store::error::StoreError;

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
    root: Key,
    /// For people.
    url: String,
}

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
            object_store::parse_url_opts(url, settings).map_err(|error| failed(url.as_str(), "", &error))?;
        Ok(Self { store: Arc::from(store), root, url: url.to_string() })
    }

    /// A prefix in any object store; `url` is for people.
    #[cfg(test)]
    pub(crate) fn of(store: Arc<dyn ObjectStore>, prefix: &str, url: &str) -> Self {
        Self { store, root: Key::from(prefix), url: url.to_owned() }
    }

    fn put_if(&self, name: &str, bytes: &[u8], mode: PutMode) -> Result<bool, StoreError> {
        let (store, key) = self.at(name)?;
        let payload = bytes.to_vec().into();
        let is_update = matches!(mode, PutMode::Update(_));
        let options = PutOptions::from(mode);
        match wait(async move { store.put_opts(&key, payload, options).await }) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(Error::NotFound { .. }) if is_update => Ok(false),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// Writes a file, in parts where it is long.
    fn upload(&self, name: &str, from: &Path) -> Result<(), StoreError> {
        let io = StoreError::io;
        let mut file = File::open(from).map_err(io(from))?;
        let length = file.metadata().map_err(io(from))?.len();
        if length <= PART as u64 {
            let mut bytes = Vec::with_capacity(length as usize);
            file.read_to_end(&mut bytes).map_err(io(from))?;
            return self.put(name, &bytes);
        }
        let (store, key) = self.at(name)?;
        let sent = wait(async move {
            let mut parts = WriteMultipart::new_with_chunk_size(store.put_multipart(&key).await?, PART);
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

    fn at(&self, name: &str) -> Result<(Arc<dyn ObjectStore>, Key), StoreError> {
        check_name(name)?;
        let key = name.split('/').fold(self.root.clone(), Key::join);
        Ok((Arc::clone(&self.store), key))
    }

    fn failed(&self, name: &str, error: &Error) -> StoreError {
        failed(&self.url, name, error)
    }
}

impl Storage for Bucket {
    fn read(&self, name: &str, most: u64) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        let (store, key) = self.at(name)?;
        let got = wait(async move {
            let answer = store.get(&key).await?;
            let version = Version { tag: answer.meta.e_tag.clone(), number: answer.meta.version.clone() };
            if answer.meta.size > most {
                return Ok(None);
            }
            Ok(Some((answer.bytes().await?.to_vec(), version)))
        });
        match got {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) => Err(too_long(self.address(name), most)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// Each piece has its own time limit and its own retries.
    fn copy(&self, name: &str, bytes: u64, to: &mut dyn Write) -> Result<(), StoreError> {
        let (store, key) = self.at(name)?;
        let failed = |error| match error {
            Error::NotFound { .. } => missing(self.address(name)),
            error => self.failed(name, &error),
        };
        let head = wait({
            let (store, key) = (Arc::clone(&store), key.clone());
            async move { store.head(&key).await }
        });
        let found = head.map_err(failed)?.size;
        if found != bytes {
            return Err(of_other_length(self.address(name), found, bytes));
        }
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + PIECE);
            let piece = wait({
                let (store, key) = (Arc::clone(&store), key.clone());
                async move { store.get_range(&key, at..end).await }
            });
            to.write_all(&piece.map_err(failed)?).map_err(StoreError::io(Path::new(name)))?;
            at = end;
        }
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_if(name, bytes, PutMode::Overwrite).map(drop)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        self.put_if(name, bytes, PutMode::Create)
    }

    fn replace(&self, name: &str, bytes: &[u8], version: &Version) -> Result<bool, StoreError> {
        if *version == Version::default() {
            return self.at(name).map(|_| false);
        }
        let Version { tag, number } = version.clone();
        self.put_if(name, bytes, PutMode::Update(UpdateVersion { e_tag: tag, version: number }))
    }

    fn import(&self, entry: &FileEntry, from: &Path) -> Result<(), StoreError> {
        check_name(&entry.file)?;
        entry.verify(from)?;
        self.upload(&entry.file, from)
    }

    fn list(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        let (store, key) = self.at(folder)?;
        let root = self.root.clone();
        let listed = wait(async move {
            let mut all = Vec::new();
            let mut objects = store.list(Some(&key));
            while let Some(object) = objects.next().await {
                let object = object?;
                if below(&key, &object.location).contains('/') {
                    continue;
                }
                all.push(Present {
                    file: below(&root, &object.location).to_owned(),
                    bytes: object.size,
                    modified: object.last_modified.into(),
                });
            }
            Ok(all)
        });
        listed.map_err(|error| self.failed(folder, &error))
    }

    fn foreign(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError> {
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

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let (store, key) = self.at(name)?;
        match wait(async move { store.delete(&key).await }) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn address(&self, name: &str) -> PathBuf {
        format!("{}/{name}", self.url.trim_end_matches('/')).into()
    }
}

/// The name of an object below a prefix.
fn below<'a>(root: &Key, object: &'a Key) -> &'a str {
    let name = object.as_ref();
    name.strip_prefix(root.as_ref()).unwrap_or(name).trim_start_matches('/')
}

fn failed(url: &str, name: &str, error: &Error) -> StoreError {
    StoreError::Bucket {
        url: url.to_owned(),
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
