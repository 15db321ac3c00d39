//! Checkpoints on this machine: a folder, and the cache that the Hugging Face clients share.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::checkpoint::error::ReadError;
use crate::checkpoint::source::{OpenFile, RepoFiles, Source};
use crate::formats::endings;
use crate::formats::shards::ShardName;
use crate::hub::{HubError, ListQuery, Missing, Page, RepoEntry, RepoId, RepoRef};

/// Most files listed of a local folder.
const MAX_FILES: usize = 100_000;
/// How far below a folder weights are looked for.
const DEPTH: usize = 2;

/// A folder with a checkpoint: one saved by `save_pretrained`, a clone, or a snapshot of the Hugging Face cache
/// (whose files are links to blobs).
pub struct FolderFiles {
    folder: PathBuf,
    names: Vec<String>,
}

impl FolderFiles {
    /// Lists a folder, and those below where its top level has no weights of the kind that is read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let (mut names, folders) = list(folder, "")?;
        if !names.iter().any(|name| endings::is_read(name)) {
            let mut below: Vec<(String, usize)> = folders.into_iter().map(|name| (name, 1)).collect();
            while let Some((name, depth)) = below.pop() {
                // A folder that may not be looked into holds nothing.
                let Ok((files, folders)) = list(&folder.join(&name), &name) else { continue };
                names.extend(files);
                if depth < DEPTH {
                    below.extend(folders.into_iter().map(|name| (name, depth + 1)));
                }
                if names.len() > MAX_FILES || below.len() > MAX_FILES {
                    break;
                }
            }
        }
        names.sort();
        Ok(Self { folder: folder.to_owned(), names })
    }

    /// One weight file, or of a shard all that belong to it, with the small files beside.
    pub fn of_file(path: &Path) -> Result<Self, ReadError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut files = Self::open(folder)?;
        let shard = ShardName::parse(own);
        let is_other = |name: &str| shard.zip(ShardName::parse(name)).is_some_and(|(a, b)| a.is_with(&b));
        files.names.retain(|name| name == own || !endings::is_read(name) || is_other(name));
        Ok(files)
    }

    /// Opens a file of the folder; its size and its full path.
    fn file(&self, path: &str) -> Result<LocalFile, ReadError> {
        let full = self.folder.join(path).display().to_string();
        let opened = File::open(&full).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|source| ReadError::Io { path: full.clone(), source })?;
        Ok(LocalFile { path: full, file, size })
    }
}

/// The files of a folder, and the folders in it, with the path of this one in front.
fn list(folder: &Path, path: &str) -> Result<(Vec<String>, Vec<String>), ReadError> {
    let io = |source| ReadError::Io { path: folder.display().to_string(), source };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(io)?.take(MAX_FILES) {
        let entry = entry.map_err(io)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_hidden = name.starts_with('.');
        let name = if path.is_empty() { name } else { format!("{path}/{name}") };
        // Links are followed: the cache's snapshots consist of them.
        if entry.path().is_file() {
            files.push(name);
        } else if !is_hidden && entry.path().is_dir() {
            folders.push(name);
        }
    }
    Ok((files, folders))
}

impl RepoFiles for FolderFiles {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn small<'a>(&'a self, path: &'a str, cap: u64) -> BoxFuture<'a, Result<Bytes, ReadError>> {
        async move {
            let LocalFile { path: full, file, size } = self.file(path)?;
            if size > cap {
                return Err(ReadError::TooLarge { path: path.to_owned(), size, cap });
            }
            let mut content = Vec::new();
            let read = file.take(cap).read_to_end(&mut content);
            read.map_err(|source| ReadError::Io { path: full, source })?;
            Ok(content.into())
        }
        .boxed()
    }

    fn open<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn OpenFile>, ReadError>> {
        async move { Ok(Box::new(self.file(path)?) as Box<dyn OpenFile>) }.boxed()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }
}

/// An open local file.
struct LocalFile {
    path: String,
    file: File,
    size: u64,
}

impl OpenFile for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    /// Unknown: a file's name in the cache claims a digest, but only reading the file proves it.
    fn sha256(&self) -> Option<&str> {
        None
    }

    fn content_id(&self) -> Option<&str> {
        None
    }

    fn range(&self, bytes: Range<u64>) -> BoxFuture<'_, Result<Bytes, ReadError>> {
        async move {
            let io = |source| ReadError::Io { path: self.path.clone(), source };
            if bytes.start > bytes.end || bytes.end > self.size {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let length = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
            let mut content = vec![0; length];
            self.file.read_exact_at(&mut content, bytes.start).map_err(io)?;
            Ok(content.into())
        }
        .boxed()
    }
}

/// The cache of the Hugging Face clients: `models--org--name/{refs,snapshots,blobs}`.
pub struct CacheFolder(PathBuf);

impl CacheFolder {
    /// The folder that `HF_HUB_CACHE` names.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where a repository is, if it is there.
    pub fn repo(&self, id: &RepoId) -> PathBuf {
        self.0.join(format!("models--{}", id.as_str().replace('/', "--")))
    }

    fn entry(&self, repo: &RepoRef) -> Result<RepoEntry, HubError> {
        let folder = self.repo(&repo.id);
        let missing = if folder.is_dir() { Missing::Revision } else { Missing::Repo };
        let snapshot =
            snapshot(&folder, repo.revision.as_deref()).ok_or_else(|| self.missing(&repo.id, missing))?;
        let files = FolderFiles::open(&snapshot).map_err(|_| self.missing(&repo.id, missing))?;
        let commit = snapshot.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(RepoEntry { sha: commit, siblings: Some(files.names), ..RepoEntry::named(repo.id.clone()) })
    }

    fn missing(&self, id: &RepoId, what: Missing) -> HubError {
        HubError::not_found(self.repo(id).display().to_string(), what)
    }

    fn ids(&self) -> Vec<RepoId> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten().take(MAX_FILES);
        let mut ids: Vec<RepoId> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix("models--")?.replacen("--", "/", 1).parse().ok()
            })
            .collect();
        ids.sort();
        ids
    }
}

impl Source for CacheFolder {
    /// In the order of their names; filters are the Hub's affair, and say nothing here.
    fn list(&self, query: ListQuery) -> BoxStream<'_, Result<Page, HubError>> {
        let by_owner = |id: &RepoId| query.author.is_none() || query.author.as_deref() == id.owner();
        let ids: Vec<RepoId> = self.ids().into_iter().filter(by_owner).collect();
        let pages: Vec<_> = ids.chunks(query.page_size.max(1) as usize).map(<[RepoId]>::to_vec).collect();
        let page = |ids: Vec<RepoId>| {
            let entries = ids.into_iter().filter_map(|id| self.entry(&id.into()).ok());
            Ok(Page { repos: entries.collect(), rejected: Vec::new(), cursor: None, next: None })
        };
        stream::iter(pages).map(page).boxed()
    }

    fn info<'a>(&'a self, repo: &'a RepoRef) -> BoxFuture<'a, Result<RepoEntry, HubError>> {
        async move { self.entry(repo) }.boxed()
    }

    fn files(&self, id: &RepoId, commit: &str, names: Vec<String>) -> Arc<dyn RepoFiles> {
        Arc::new(FolderFiles { folder: self.repo(id).join("snapshots").join(commit), names })
    }
}

/// The snapshot of a revision in the cache folder of a repository: by its ref (`refs/main` by default) or full commit.
pub fn snapshot(folder: &Path, revision: Option<&str>) -> Option<PathBuf> {
    let revision = revision.unwrap_or("main");
    let commit = std::fs::read_to_string(folder.join("refs").join(revision));
    let snapshot = folder.join("snapshots").join(commit.as_deref().map_or(revision, str::trim));
    snapshot.is_dir().then_some(snapshot)
}
