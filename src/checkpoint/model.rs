//! A MODEL of the command line, read and fingerprinted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::{Cache, Key};
use super::extract::{self, Extracted};
use super::fetch::{self, Files, Metadata, ReadError};
use super::files::{AnyFiles, FolderFiles, HubFiles};
use super::plan::{self, PlanError, PlanSettings, SmallFiles};
use super::tokenizer::Tokenizers;
use crate::formats::Limits;
use crate::hub::{Hub, HubError, InvalidId, RepoRef};
use crate::store::{StoreError, WeightFile, atomic};

/// What a MODEL argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelArg {
    /// A folder with a checkpoint.
    Folder(PathBuf),
    /// One weight file; config and tokenizer are those beside it.
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
    /// One line of advice, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Argument { .. } => Some(
                "give org/name, org/name@revision, or the path of a checkpoint folder or .safetensors file",
            ),
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
    /// The commit, for a repository.
    pub sha: Option<String>,
    /// Config and tokenizer.
    pub metadata: Metadata,
    /// What was read of the weights; why nothing, where this version cannot read them.
    pub weights: Weights,
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
    /// Tokenizers that are known already.
    pub tokenizers: Tokenizers,
    /// Where samples are kept by content.
    pub samples: Option<Cache>,
    /// Which small files are read beside the weights.
    pub small_files: SmallFiles,
    /// Leave the weights alone.
    pub metadata_only: bool,
}

/// Reads one model.
pub async fn load(text: &str, hub: &Hub, settings: &LoadSettings) -> Result<Subject, LoadError> {
    Model::open(text, hub, settings).await?.read(&settings.plan).await
}

/// A model whose weight files are open, so that it can be read in steps.
pub struct Model<'a> {
    name: String,
    sha: Option<String>,
    folder: Option<PathBuf>,
    metadata: Metadata,
    weights: Result<Opened<'a, AnyFiles>, Arc<PlanError>>,
}

impl<'a> Model<'a> {
    /// Reads the small files that are wanted, and opens the weight files.
    pub async fn open(text: &str, hub: &Hub, settings: &'a LoadSettings) -> Result<Self, LoadError> {
        let (sha, files) = find(text, hub, settings).await?;
        let folder = match &files {
            AnyFiles::Hub(_) => None,
            AnyFiles::Folder(files) => Some(files.folder().to_owned()),
        };
        let metadata = small_files(&files, None, settings).await?;
        let weights = if settings.metadata_only {
            Err(Arc::new(PlanError::NotAsked))
        } else {
            readable(open_with(files, metadata.clone(), settings).await)?
        };
        Ok(Self { name: text.to_owned(), sha, folder, metadata, weights })
    }

    /// As the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what this plan wants. What an earlier one read is not asked for again.
    pub async fn read(&mut self, plan: &PlanSettings) -> Result<Subject, LoadError> {
        let weights = match &mut self.weights {
            Ok(opened) => opened.read(plan).await?,
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
        let metadata = self.weights.as_ref().map_or(&self.metadata, |opened| &opened.metadata);
        Subject {
            name: self.name.clone(),
            sha: self.sha.clone(),
            metadata: metadata.clone(),
            weights,
            folder: self.folder.clone(),
        }
    }

    /// Whether what this plan wants was read before, and kept.
    pub fn is_kept(&self, plan: &PlanSettings) -> bool {
        let opened = self.weights.as_ref().ok();
        let entry = opened.and_then(|opened| opened.settings.samples.as_ref().zip(opened.key(plan)));
        entry.is_some_and(|(cache, key)| cache.has(&key))
    }

    /// Digest over the SHA-256 of the weight files, where the Hub states them.
    pub fn weights_digest(&self) -> Option<String> {
        extract::weights_digest(&self.weights.as_ref().ok()?.weight_files())
    }
}

/// Where a MODEL argument leads, and the commit of a repository.
async fn find(
    text: &str,
    hub: &Hub,
    settings: &LoadSettings,
) -> Result<(Option<String>, AnyFiles), LoadError> {
    let local = |files| Ok((None, AnyFiles::Folder(files)));
    match ModelArg::parse(text)? {
        ModelArg::Folder(path) => local(FolderFiles::open(&snapshot_of(&path)?)?),
        ModelArg::File(path) => local(FolderFiles::of_file(&path)?),
        ModelArg::Repo(repo) => {
            if let Some(cache) = settings.cache.as_ref().filter(|_| hub.settings().offline) {
                let folder = cache.join(format!("models--{}", repo.id.as_str().replace('/', "--")));
                return local(FolderFiles::open(&snapshot(&folder, repo.revision.as_deref())?)?);
            }
            let entry = hub.info(&repo.id, repo.revision.as_deref()).await?;
            let sha = entry.sha.or(repo.revision).unwrap_or_else(|| "main".into());
            let names = entry.siblings.unwrap_or_default();
            Ok((Some(sha.clone()), AnyFiles::Hub(HubFiles::new(hub.clone(), entry.id, sha, names))))
        }
    }
}

/// What was read of the weights of one checkpoint, or why nothing was.
pub type Weights = Result<Extracted, Arc<PlanError>>;

/// A checkpoint whose weight files are open.
pub struct Opened<'a, F: Files> {
    files: F,
    settings: &'a LoadSettings,
    /// Config and tokenizer, as far as they were read.
    pub metadata: Metadata,
    weights: fetch::Opened<F::Open>,
    headers: Option<fetch::Headers>,
}

/// Reads the small files that are wanted, and opens the weight files. `config` is what the Hub's list repeats of
/// config.json. What the files hold may be known already, by [`Opened::reading`].
pub async fn open<'a, F: Files>(
    files: F,
    config: Option<&serde_json::Value>,
    settings: &'a LoadSettings,
) -> Result<Opened<'a, F>, ReadError> {
    let metadata = small_files(&files, config, settings).await?;
    open_with(files, metadata, settings).await
}

/// What is known of a checkpoint before its weights are: all that its small files say, or what the list says.
async fn small_files<F: Files>(
    files: &F,
    config: Option<&serde_json::Value>,
    settings: &LoadSettings,
) -> Result<Metadata, ReadError> {
    match settings.small_files {
        SmallFiles::All => fetch::metadata(files, &settings.limits, &settings.tokenizers).await,
        SmallFiles::Needed => Ok(Metadata::listed(config)),
    }
}

async fn open_with<F: Files>(
    files: F,
    metadata: Metadata,
    settings: &LoadSettings,
) -> Result<Opened<'_, F>, ReadError> {
    let weights = fetch::open(&files, &settings.plan, &settings.limits).await?;
    let bytes_fetched = metadata.bytes_fetched + weights.index_bytes;
    let metadata = Metadata { bytes_fetched, ..metadata };
    let mut opened = Opened { files, settings, metadata, weights, headers: None };
    if settings.small_files == SmallFiles::Needed && !opened.weights.is_whole() {
        opened.read_config().await?;
    }
    Ok(opened)
}

/// What this version does not read is no error.
fn readable<T>(read: Result<T, ReadError>) -> Result<Result<T, Arc<PlanError>>, ReadError> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(ReadError::Plan(error @ (PlanError::NoWeights { .. } | PlanError::NoRoles { .. }))) => {
            Ok(Err(Arc::new(error)))
        }
        Err(error) => Err(error),
    }
}

impl<F: Files> Opened<'_, F> {
    async fn read_config(&mut self) -> Result<(), ReadError> {
        self.metadata = self.metadata.clone().with_config(&self.files, &self.settings.limits).await?;
        Ok(())
    }

    /// Reads the headers, and config.json where they show that the weights cannot be read without it. Whether it was:
    /// then [`Opened::reading`] is another one.
    pub async fn read_headers(&mut self) -> Result<bool, ReadError> {
        let Self { settings, weights, .. } = self;
        let headers = fetch::headers(weights, &settings.limits).await?;
        let is_listed = settings.small_files == SmallFiles::Needed && weights.is_whole();
        let needs_config = is_listed && plan::needs_config(&headers.headers);
        self.headers = Some(headers);
        if needs_config {
            self.read_config().await?;
        }
        Ok(needs_config)
    }

    fn key(&self, plan: &PlanSettings) -> Option<Key> {
        Key::of(&self.weights.weight_files(), self.weights.opened_paths(), &self.metadata, plan)
    }

    /// Equal for checkpoints that are read with the same result: the same content of the same files, read in the
    /// same way. `None` where the content of a file is not known without reading it.
    pub fn reading(&self) -> Option<String> {
        self.key(&self.settings.plan).as_ref().map(ToString::to_string)
    }

    /// The weight files; size and digest are known for the opened ones.
    pub fn weight_files(&self) -> Vec<WeightFile> {
        self.weights.weight_files()
    }

    /// The weights by this plan, from the cache where they were read before. What an earlier plan read is not asked
    /// for again.
    pub async fn read(&mut self, plan: &PlanSettings) -> Result<Weights, ReadError> {
        if self.headers.is_none() && self.settings.small_files == SmallFiles::Needed {
            // They may show that config.json is needed, which is part of what an entry of the cache is known by.
            self.read_headers().await?;
        }
        let tokens = self.metadata.tokenizer.as_ref().ok().map(|known| Arc::clone(&known.keys));
        let entry = self.settings.samples.clone().zip(self.key(plan));
        let mut turn = None;
        if let Some((cache, key)) = entry.clone() {
            turn = Some(cache.turn(&key).await);
            let tokens = tokens.clone();
            if let Some(found) = off_thread(move || cache.get(&key, tokens)).await {
                return Ok(Ok(found));
            }
        }
        let headers = match self.headers.take() {
            Some(headers) => headers,
            None => fetch::headers(&self.weights, &self.settings.limits).await?,
        };
        let headers = self.headers.insert(headers);
        let fetched = fetch::fetch(&mut self.weights, headers, &self.metadata, plan).await;
        let fetched = match readable(fetched)? {
            Ok(fetched) => fetched,
            Err(error) => return Ok(Err(error)),
        };
        let extracted = off_thread(move || {
            let extracted = extract::extract(fetched, tokens);
            if let Some((cache, key)) = &entry {
                cache.put(key, &extracted);
            }
            extracted
        });
        let extracted = extracted.await;
        drop(turn);
        Ok(Ok(extracted))
    }
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

    /// The folder, for a checkpoint on this machine.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Digest over the SHA-256 of the weight files. Local files are read whole, so ask only when it matters.
    pub fn weights_digest(&self) -> Result<Option<String>, StoreError> {
        let Ok(weights) = &self.weights else { return Ok(None) };
        let Some(folder) = &self.folder else { return Ok(weights.weights_digest.clone()) };
        let files = weights.files.iter().map(|file| {
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
