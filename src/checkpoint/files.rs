//! The two places that checkpoints are read from: a repository on the Hub and a local folder.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::fetch::{Files, OpenFile, ReadError};
use crate::hub::{Hub, HubError, RemoteFile, RepoId};

/// Most files listed of a local folder.
const MAX_FILES: usize = 100_000;

/// A repository at one commit.
pub struct HubFiles {
    hub: Hub,
    id: RepoId,
    sha: String,
    names: Vec<String>,
}

impl HubFiles {
    /// `sha` is the full commit; `names` the repository's file names.
    pub fn new(hub: Hub, id: RepoId, sha: String, names: Vec<String>) -> Self {
        Self { hub, id, sha, names }
    }
}

/// Names the file: the address of the CDN does not.
fn about(path: &str) -> impl FnOnce(HubError) -> ReadError {
    let path = path.to_owned();
    move |source| ReadError::Hub { path, source }
}

/// An open file of a repository.
pub struct HubFile {
    hub: Hub,
    file: RemoteFile,
}

impl OpenFile for HubFile {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn sha256(&self) -> Option<String> {
        self.file.sha256().map(str::to_owned)
    }

    fn content_id(&self) -> Option<String> {
        self.file.content_id().map(str::to_owned)
    }

    async fn range(&self, bytes: Range<u64>) -> Result<Bytes, ReadError> {
        self.hub.read_range(&self.file, bytes).await.map_err(about(self.file.path()))
    }
}

impl Files for HubFiles {
    type Open = HubFile;

    fn names(&self) -> &[String] {
        &self.names
    }

    async fn small(&self, path: &str, cap: u64) -> Result<Bytes, ReadError> {
        self.hub.read_small(&self.id, &self.sha, path, cap).await.map_err(about(path))
    }

    async fn open(&self, path: &str) -> Result<HubFile, ReadError> {
        let file = self.hub.open(&self.id, &self.sha, path).await.map_err(about(path))?;
        Ok(HubFile { hub: self.hub.clone(), file })
    }
}

/// A folder with a checkpoint: one saved by `save_pretrained`, a clone, or a snapshot of the Hugging Face cache
/// (whose files are links to blobs).
pub struct FolderFiles {
    folder: PathBuf,
    names: Vec<String>,
}

/// An open local file.
pub struct LocalFile {
    path: String,
    file: Arc<File>,
    size: u64,
}

impl FolderFiles {
    /// Lists a folder. Only its top level: that is where the main model's weights are.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: folder.display().to_string(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)?.take(MAX_FILES) {
            let entry = entry.map_err(io)?;
            // Links are followed: the cache's snapshots consist of them.
            if entry.path().is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(Self { folder: folder.to_owned(), names })
    }

    /// One weight file, with the small files beside it.
    pub fn of_file(path: &Path) -> Result<Self, ReadError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut files = Self::open(folder)?;
        files.names.retain(|name| name == own || !name.contains(".safetensors"));
        Ok(files)
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl OpenFile for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    /// Unknown: a file's name in the cache claims a digest, but only reading the file proves it.
    fn sha256(&self) -> Option<String> {
        None
    }

    fn content_id(&self) -> Option<String> {
        None
    }

    async fn range(&self, bytes: Range<u64>) -> Result<Bytes, ReadError> {
        let io = |source| ReadError::Io { path: self.path.clone(), source };
        let length = usize::try_from(bytes.end.saturating_sub(bytes.start)).unwrap_or(usize::MAX);
        let mut content = vec![0; length];
        self.file.read_exact_at(&mut content, bytes.start).map_err(io)?;
        Ok(content.into())
    }
}

impl Files for FolderFiles {
    type Open = LocalFile;

    fn names(&self) -> &[String] {
        &self.names
    }

    async fn small(&self, path: &str, cap: u64) -> Result<Bytes, ReadError> {
        let io = |source| ReadError::Io { path: self.folder.join(path).display().to_string(), source };
        let file = File::open(self.folder.join(path)).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size > cap {
            return Err(ReadError::TooLarge { path: path.to_owned(), size, cap });
        }
        let mut content = Vec::new();
        file.take(cap).read_to_end(&mut content).map_err(io)?;
        Ok(content.into())
    }

    async fn open(&self, path: &str) -> Result<LocalFile, ReadError> {
        let full = self.folder.join(path);
        let io = |source| ReadError::Io { path: full.display().to_string(), source };
        let file = File::open(&full).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        Ok(LocalFile { path: full.display().to_string(), file: Arc::new(file), size })
    }
}

/// A place of either kind.
pub enum AnyFiles {
    /// On the Hub.
    Hub(HubFiles),
    /// On this machine.
    Folder(FolderFiles),
}

/// An open file of either kind.
pub enum AnyFile {
    /// On the Hub.
    Hub(HubFile),
    /// On this machine.
    Folder(LocalFile),
}

impl Files for AnyFiles {
    type Open = AnyFile;

    fn names(&self) -> &[String] {
        match self {
            Self::Hub(files) => files.names(),
            Self::Folder(files) => files.names(),
        }
    }

    async fn small(&self, path: &str, cap: u64) -> Result<Bytes, ReadError> {
        match self {
            Self::Hub(files) => files.small(path, cap).await,
            Self::Folder(files) => files.small(path, cap).await,
        }
    }

    async fn open(&self, path: &str) -> Result<AnyFile, ReadError> {
        match self {
            Self::Hub(files) => files.open(path).await.map(AnyFile::Hub),
            Self::Folder(files) => files.open(path).await.map(AnyFile::Folder),
        }
    }
}

impl OpenFile for AnyFile {
    fn size(&self) -> u64 {
        match self {
            Self::Hub(file) => file.size(),
            Self::Folder(file) => file.size(),
        }
    }

    fn sha256(&self) -> Option<String> {
        match self {
            Self::Hub(file) => file.sha256(),
            Self::Folder(file) => file.sha256(),
        }
    }

    fn content_id(&self) -> Option<String> {
        match self {
            Self::Hub(file) => file.content_id(),
            Self::Folder(file) => file.content_id(),
        }
    }

    async fn range(&self, bytes: Range<u64>) -> Result<Bytes, ReadError> {
        match self {
            Self::Hub(file) => file.range(bytes).await,
            Self::Folder(file) => file.range(bytes).await,
        }
    }
}
