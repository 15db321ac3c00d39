//! A MODEL of the command line, read and fingerprinted.

use std::path::{Path, PathBuf};

use super::extract::{self, Extracted};
use super::fetch::{self, Files, ReadError};
use super::files::{FolderFiles, HubFiles};
use super::plan::PlanSettings;
use crate::formats::Limits;
use crate::hub::{Hub, HubError, InvalidId, RepoRef};
use crate::signals::fingerprint::FingerprintError;
use crate::store::{StoreError, WeightFile, atomic};

/// What a MODEL argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelArg {
    /// A folder with a checkpoint.
    Folder(PathBuf),
    /// A repository on the Hub.
    Repo(RepoRef),
}

/// Why a model could not be fingerprinted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a folder nor a repository id.
    #[error("{text:?} is neither a folder nor a repository id: {source}")]
    Argument {
        /// The argument.
        text: String,
        /// Why it is no id.
        source: InvalidId,
    },
    /// A folder in the layout of the Hugging Face cache without the revision asked for.
    #[error("{}: no snapshot in this cache folder", path.display())]
    NoSnapshot {
        /// The folder.
        path: PathBuf,
    },
    /// The Hub did not describe the repository.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The checkpoint could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its weights tell nothing.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
}

impl LoadError {
    /// One line of advice, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Argument { .. } => {
                Some("give org/name, org/name@revision, or the path of a checkpoint folder")
            }
            Self::Hub(error) | Self::Read(ReadError::Hub { source: error, .. }) => error.hint(),
            Self::Read(ReadError::Header { .. }) => {
                Some("the file is damaged or was not downloaded completely; fetch it again")
            }
            _ => None,
        }
    }
}

impl ModelArg {
    /// Reads an argument: an existing folder, or what looks like a path, is a folder; the rest are ids.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let path = Path::new(text);
        if path.is_dir() || text.starts_with(['/', '.', '~']) {
            return Ok(Self::Folder(path.to_owned()));
        }
        match text.parse() {
            Ok(repo) => Ok(Self::Repo(repo)),
            Err(source) => Err(LoadError::Argument { text: text.to_owned(), source }),
        }
    }
}

/// A fingerprinted model.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As the user named it.
    pub name: String,
    /// The commit, for a repository.
    pub sha: Option<String>,
    /// Everything read.
    pub extracted: Extracted,
    folder: Option<PathBuf>,
}

/// How models are read.
#[derive(Clone, Debug, Default)]
pub struct LoadSettings {
    /// What to read of each.
    pub plan: PlanSettings,
    /// What to believe of it.
    pub limits: Limits,
    /// The Hugging Face cache (`models--org--name` folders), used for repository ids when offline.
    pub cache: Option<PathBuf>,
}

/// Reads and fingerprints one model.
pub async fn load(text: &str, hub: &Hub, settings: &LoadSettings) -> Result<Subject, LoadError> {
    match ModelArg::parse(text)? {
        ModelArg::Folder(path) => from_folder(text, &snapshot_of(&path)?, settings).await,
        ModelArg::Repo(repo) => {
            let cached = settings.cache.as_ref().filter(|_| hub.settings().offline).map(|cache| {
                let folder = cache.join(format!("models--{}", repo.id.as_str().replace('/', "--")));
                snapshot(&folder, repo.revision.as_deref())
            });
            match cached {
                Some(folder) => from_folder(text, &folder?, settings).await,
                None => from_hub(text, &repo, hub, settings).await,
            }
        }
    }
}

async fn from_hub(
    text: &str,
    repo: &RepoRef,
    hub: &Hub,
    settings: &LoadSettings,
) -> Result<Subject, LoadError> {
    let entry = hub.info(&repo.id, repo.revision.as_deref()).await?;
    let sha = entry.sha.clone().or_else(|| repo.revision.clone()).unwrap_or_else(|| "main".into());
    let files = HubFiles::new(hub.clone(), entry.id.clone(), sha.clone(), entry.siblings.unwrap_or_default());
    Ok(Subject {
        name: text.to_owned(),
        sha: Some(sha),
        extracted: read(&files, settings).await?,
        folder: None,
    })
}

async fn from_folder(text: &str, folder: &Path, settings: &LoadSettings) -> Result<Subject, LoadError> {
    let files = FolderFiles::open(folder)?;
    let extracted = read(&files, settings).await?;
    Ok(Subject { name: text.to_owned(), sha: None, extracted, folder: Some(folder.to_owned()) })
}

/// fetch and extract of one checkpoint.
pub async fn read<F: Files>(files: &F, settings: &LoadSettings) -> Result<Extracted, LoadError> {
    let fetched = fetch::fetch(files, &settings.plan, &settings.limits).await?;
    Ok(off_thread(move || extract::extract(fetched)).await?)
}

/// Runs CPU work on rayon's threads, so that the async threads stay free for I/O.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        let _ = send.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
    });
    match receive.await {
        Ok(Ok(value)) => value,
        // A panic in our own arithmetic is a bug; it must surface where the work was asked for.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(closed) => std::panic::resume_unwind(Box::new(closed)),
    }
}

/// A folder of the cache (`models--org--name`) stands for its newest snapshot; any other is itself.
fn snapshot_of(path: &Path) -> Result<PathBuf, LoadError> {
    if path.join("snapshots").is_dir() && path.join("blobs").is_dir() {
        snapshot(path, None)
    } else {
        Ok(path.to_owned())
    }
}

/// The snapshot of a revision in a cache folder: by its ref (`refs/main` by default) or full commit.
fn snapshot(folder: &Path, revision: Option<&str>) -> Result<PathBuf, LoadError> {
    let revision = revision.unwrap_or("main");
    let commit = std::fs::read_to_string(folder.join("refs").join(revision));
    let snapshot = folder.join("snapshots").join(commit.as_deref().map_or(revision, str::trim));
    if snapshot.is_dir() { Ok(snapshot) } else { Err(LoadError::NoSnapshot { path: folder.to_owned() }) }
}

impl Subject {
    /// Digest over the SHA-256 of the weight files. For a local folder the files are read whole, so ask only
    /// when it matters.
    pub fn weights_digest(&self) -> Result<Option<String>, StoreError> {
        let Some(folder) = &self.folder else { return Ok(self.extracted.weights_digest.clone()) };
        let files = self.extracted.files.iter().map(|file| {
            let (size, sha256) = atomic::checksum(&folder.join(&file.path))?;
            Ok(WeightFile { path: file.path.clone(), size: Some(size), sha256: Some(sha256) })
        });
        Ok(extract::weights_digest(&files.collect::<Result<Vec<_>, StoreError>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let repo = |text: &str| matches!(ModelArg::parse(text), Ok(ModelArg::Repo(_)));
        let folder = |text: &str| matches!(ModelArg::parse(text), Ok(ModelArg::Folder(_)));
        assert!(repo("org/name") && repo("org/name@v1.0") && repo("gpt2"));
        assert!(folder("/tmp") && folder("./x/y") && folder("src"));
        assert!(matches!(ModelArg::parse("a/b/c"), Err(LoadError::Argument { .. })));
        assert!(matches!(ModelArg::parse("org/na me"), Err(LoadError::Argument { .. })));
    }

    #[test]
    fn cache_folders_lead_to_a_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["blobs", "refs", "snapshots/abc"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        atomic::write(&dir.path().join("refs/main"), b"abc\n").unwrap();
        assert_eq!(snapshot_of(dir.path()).unwrap(), dir.path().join("snapshots/abc"));
        assert_eq!(snapshot(dir.path(), Some("abc")).unwrap(), dir.path().join("snapshots/abc"));
        assert!(matches!(snapshot(dir.path(), Some("zzz")), Err(LoadError::NoSnapshot { .. })));
        let plain = dir.path().join("snapshots/abc");
        assert_eq!(snapshot_of(&plain).unwrap(), plain);
    }
}
