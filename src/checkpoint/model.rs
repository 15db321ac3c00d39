//! A MODEL of the command line, read and fingerprinted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ReadError;
use super::extract;
use super::metadata::Metadata;
use super::plan::{PlanError, PlanSettings};
use super::reading::{OfComponent, Reader, Reading, Weights, readable};
use super::source::{RepoFiles, Source};
use super::sources::folder::{CacheFolder, FolderFiles, snapshot};
use crate::hub::{Hub, HubError, HubErrorKind, InvalidId, RepoEntry, RepoRef};
use crate::store::{AdapterFacts, StoreError, WeightFile, checkpoint_name, checksum};

/// What a MODEL argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelArg {
    /// A folder with a checkpoint.
    Folder(PathBuf),
    /// One weight file, or a shard for all of its set; config and tokenizer are those beside it.
    File(PathBuf),
    /// A repository on the Hub.
    Repo(RepoRef),
}

/// Why a model could not be fingerprinted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither a folder nor a repository id.
    #[error("{text:?} is neither a checkpoint on this machine nor a repository id: {source}")]
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
}

impl LoadError {
    /// Whether it is not on this machine, and the Hub was not to be asked.
    pub fn is_offline(&self) -> bool {
        match self {
            Self::NoSnapshot { .. } => true,
            Self::Hub(error) => matches!(error.kind(), HubErrorKind::Offline),
            Self::Argument { .. } | Self::Read(_) => false,
        }
    }

    /// One line of advice, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Argument { .. } => {
                Some("give org/name, org/name@revision, or the path of a checkpoint folder or weight file")
            }
            Self::Hub(error) | Self::Read(ReadError::Hub { source: error, .. }) => error.hint(),
            Self::Read(error) if error.foreign().is_some() => error.foreign()?.0.hint(),
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
        if path.is_file() {
            return Ok(Self::File(path.to_owned()));
        }
        if path.is_dir() || text.starts_with(['/', '.', '~']) {
            return Ok(Self::Folder(path.to_owned()));
        }
        match text.parse() {
            Ok(repo) => Ok(Self::Repo(repo)),
            Err(source) => Err(LoadError::Argument { text: text.to_owned(), source }),
        }
    }
}

/// A model that was read.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As the user named it.
    pub name: String,
    component: String,
    /// The commit, for a repository.
    pub sha: Option<String>,
    /// Config and tokenizer.
    pub metadata: Metadata,
    /// What was read of the weights; why nothing, where this version cannot read them.
    pub weights: Weights,
    folder: Option<PathBuf>,
}

/// Reads one model.
pub async fn load(text: &str, hub: &Hub, reader: &Reader) -> Result<Subject, LoadError> {
    Model::open(text, hub, reader).await?.read(&reader.settings.plan).await
}

/// A model whose weight files are open, so that it can be read in steps.
pub struct Model<'a> {
    name: String,
    component: String,
    sha: Option<String>,
    folder: Option<PathBuf>,
    metadata: Metadata,
    weights: Result<Reading<'a>, Arc<PlanError>>,
}

impl<'a> Model<'a> {
    /// Reads the small files that are wanted, and opens the weight files. Of a repository with several checkpoints it is
    /// the main one, or the one that is named: `org/name[text_encoder]`.
    pub async fn open(text: &str, hub: &Hub, reader: &'a Reader) -> Result<Self, LoadError> {
        let (model, component) = split_component(text);
        let (sha, files) = find(model, hub, reader).await?;
        let metadata = reader.metadata(&*files, None).await?;
        let weights = if reader.metadata_only {
            Err(Arc::new(PlanError::NotAsked))
        } else {
            readable(Box::pin(reader.open_one(&files, &metadata, component)).await)?
        };
        let (folder, component) = (files.folder().map(Path::to_owned), component.unwrap_or_default().into());
        Ok(Self { name: text.to_owned(), component, sha, folder, metadata, weights })
    }

    /// Opens every checkpoint of a repository, or the one that is named; each with what it is called.
    pub async fn open_each(
        text: &str,
        hub: &Hub,
        reader: &'a Reader,
    ) -> Result<Vec<(String, Result<Self, LoadError>)>, LoadError> {
        if split_component(text).1.is_some() {
            return Ok(vec![(text.to_owned(), Self::open(text, hub, reader).await)]);
        }
        let (sha, files) = find(text, hub, reader).await?;
        let folder = files.folder().map(Path::to_owned);
        let metadata = reader.metadata(&*files, None).await?;
        let opened = match readable(Box::pin(reader.open(&files, &metadata)).await)? {
            Ok(opened) => opened,
            Err(error) => vec![(String::new(), Err(PlanError::clone(&error).into()))],
        };
        let model = |(component, reading): OfComponent<Reading<'a>>| {
            let name = checkpoint_name(text, &component);
            let (sha, folder, metadata) = (sha.clone(), folder.clone(), metadata.clone());
            let model = readable(reading).map(|weights| Self {
                name: name.clone(),
                component,
                sha,
                folder,
                metadata,
                weights,
            });
            (name, model.map_err(LoadError::from))
        };
        Ok(opened.into_iter().map(model).collect())
    }

    /// The further whole models in the files that are open.
    pub async fn parts(&mut self) -> Result<Vec<Self>, LoadError> {
        let Ok(reading) = &mut self.weights else { return Ok(Vec::new()) };
        let parts = reading.parts().await?;
        let repo = self.name.strip_suffix(&format!("[{}]", self.component)).unwrap_or(&self.name);
        let part = |part: Reading<'a>| Self {
            name: checkpoint_name(repo, &part.component),
            component: part.component.clone(),
            sha: self.sha.clone(),
            folder: self.folder.clone(),
            metadata: part.metadata.clone(),
            weights: Ok(part),
        };
        Ok(parts.into_iter().map(part).collect())
    }

    /// As the user named it, with the component where it is not the main one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what this plan wants. What an earlier one read is not asked for again.
    pub async fn read(&mut self, plan: &PlanSettings) -> Result<Subject, LoadError> {
        let weights = match &mut self.weights {
            // Boxed, because whatever waits for it would be as large.
            Ok(reading) => Box::pin(reading.read(plan)).await?,
            Err(error) => Err(Arc::clone(error)),
        };
        Ok(self.with(weights))
    }

    /// What is known of it beside its weights, which are not read.
    pub fn unread(&self) -> Subject {
        self.with(Err(Arc::new(PlanError::NotAsked)))
    }

    fn with(&self, weights: Weights) -> Subject {
        // More of the small files may have been read since.
        let metadata = self.weights.as_ref().map_or(&self.metadata, |reading| &reading.metadata);
        Subject {
            name: self.name.clone(),
            component: self.component.clone(),
            sha: self.sha.clone(),
            metadata: metadata.clone(),
            weights,
            folder: self.folder.clone(),
        }
    }

    /// Whether what this plan wants was read before, and kept.
    pub fn is_kept(&self, plan: &PlanSettings) -> bool {
        self.weights.as_ref().is_ok_and(|reading| reading.is_kept(plan))
    }

    /// Digest over the SHA-256 of the weight files, where the Hub states them.
    pub fn weights_digest(&self) -> Option<String> {
        self.weights.as_ref().ok()?.weights_digest()
    }
}

/// A MODEL argument, and the component that it names: `org/name[text_encoder]`. What is a path is no more than that.
pub fn split_component(text: &str) -> (&str, Option<&str>) {
    let named = text.strip_suffix(']').and_then(|text| text.rsplit_once('['));
    match named.filter(|(model, name)| !model.is_empty() && !name.is_empty() && !Path::new(text).exists()) {
        Some((model, name)) => (model, Some(name)),
        None => (text, None),
    }
}

/// The commit of a repository, and its files.
fn commit_of(
    source: &dyn Source,
    entry: RepoEntry,
    revision: Option<String>,
) -> (String, Arc<dyn RepoFiles>) {
    let sha = entry.sha.or(revision).unwrap_or_else(|| "main".into());
    let files = source.files(&entry.id, &sha, entry.siblings.unwrap_or_default());
    (sha, files)
}

/// Where a MODEL argument leads, and the commit of a repository.
async fn find(
    text: &str,
    hub: &Hub,
    reader: &Reader,
) -> Result<(Option<String>, Arc<dyn RepoFiles>), LoadError> {
    match ModelArg::parse(text)? {
        ModelArg::Folder(path) => Ok((None, Arc::new(FolderFiles::open(&snapshot_of(&path)?)?))),
        ModelArg::File(path) => Ok((None, Arc::new(FolderFiles::of_file(&path)?))),
        ModelArg::Repo(repo) => {
            if let Some(cache) = reader.hub_cache.as_ref().filter(|_| hub.settings().offline) {
                let cache = CacheFolder::new(cache.clone());
                let missing = |_| LoadError::NoSnapshot { path: cache.repo(&repo.id) };
                let entry = Source::info(&cache, &repo).await.map_err(missing)?;
                return Ok((None, commit_of(&cache, entry, repo.revision).1));
            }
            let entry = Source::info(hub, &repo).await?;
            let (sha, files) = commit_of(hub, entry, repo.revision);
            Ok((Some(sha), files))
        }
    }
}

/// A folder of the cache (`models--org--name`) stands for its newest snapshot; any other is itself.
fn snapshot_of(path: &Path) -> Result<PathBuf, LoadError> {
    if path.join("snapshots").is_dir() && path.join("blobs").is_dir() {
        snapshot(path, None).ok_or_else(|| LoadError::NoSnapshot { path: path.to_owned() })
    } else {
        Ok(path.to_owned())
    }
}

impl Subject {
    /// Bytes of file content read.
    pub fn bytes_fetched(&self) -> u64 {
        self.metadata.bytes_fetched + self.weights.as_ref().map_or(0, |w| w.bytes_fetched)
    }

    /// Bytes that the samples take in memory, and again as unit columns.
    pub fn memory(&self) -> usize {
        self.weights
            .as_ref()
            .map_or(0, |w| 2 * w.samples.blocks.iter().map(|b| 4 * b.values.len()).sum::<usize>())
    }

    /// The weight files on this machine, where they are.
    pub fn local_files(&self) -> Option<Vec<PathBuf>> {
        let folder = self.folder.as_ref()?;
        Some(self.weights.as_ref().ok()?.files.iter().map(|file| folder.join(&file.path)).collect())
    }

    /// Which checkpoint of its repository, where it is not the main one.
    pub fn component(&self) -> Option<&str> {
        Some(&*self.component).filter(|name| !name.is_empty())
    }

    /// What it changes, where it is an adapter.
    pub fn adapter(&self) -> Option<AdapterFacts> {
        Some(self.metadata.named(self.weights.as_ref().ok()?.adapter.clone()?))
    }

    /// The folder, for a checkpoint on this machine.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Digest over the SHA-256 of the weight files. Local files are read whole, so ask only when it matters.
    pub fn weights_digest(&self) -> Result<Option<String>, StoreError> {
        let Ok(weights) = &self.weights else { return Ok(None) };
        let Some(folder) = &self.folder else { return Ok(weights.weights_digest.clone()) };
        let files = weights.files.iter().map(|file| {
            let (size, sha256) = checksum::checksum(&folder.join(&file.path))?;
            Ok(WeightFile { path: file.path.clone(), size: Some(size), sha256: Some(sha256) })
        });
        let files = files.collect::<Result<Vec<_>, StoreError>>()?;
        Ok(extract::weights_digest(&files, weights.part.as_deref()))
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
        crate::store::atomic::write(&dir.path().join("refs/main"), b"abc\n").unwrap();
        assert_eq!(snapshot_of(dir.path()).unwrap(), dir.path().join("snapshots/abc"));
        assert_eq!(snapshot(dir.path(), Some("abc")).unwrap(), dir.path().join("snapshots/abc"));
        assert_eq!(snapshot(dir.path(), Some("zzz")), None);
        let plain = dir.path().join("snapshots/abc");
        assert_eq!(snapshot_of(&plain).unwrap(), plain);
    }
}
