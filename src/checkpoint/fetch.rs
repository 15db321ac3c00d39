//! fetch: reads what the plan asks for, from the Hub or from a folder, through one seam.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::plan::{self, Ask, Fetch, PlanError, PlanSettings, Weights};
use super::tokenizer::{KnownTokenizer, Tokenizers, Unknown};
use crate::formats::packed::{Facts, States};
use crate::formats::safetensors::{self, Decoded};
use crate::formats::shards::ShardIndexError;
use crate::formats::{Header, HeaderError, Limits, ModelConfig, ShardIndex};
use crate::hub::HubError;
use crate::signals::Role;
use crate::store::{Outcome, WeightFile};

/// Ranges of one checkpoint under way at once; the Hub client has a limit of its own for all of them.
const PARALLEL_RANGES: usize = 8;

/// A weight file that is open for ranged reads.
pub trait OpenFile: Send + Sync {
    /// Its length, bytes.
    fn size(&self) -> u64;
    /// SHA-256 of its content where that is known without reading it, lower-case hex.
    fn sha256(&self) -> Option<String>;
    /// What equal content has in common, where that is known without reading it.
    fn content_id(&self) -> Option<String>;
    /// Exactly these bytes of it.
    fn range(&self, bytes: Range<u64>) -> impl Future<Output = Result<Bytes, ReadError>> + Send;
}

/// The files of one checkpoint: a repository at one commit, or a folder.
pub trait Files: Send + Sync {
    /// An opened weight file.
    type Open: OpenFile;

    /// Names of all files.
    fn names(&self) -> &[String];
    /// A small file, of at most `cap` bytes.
    fn small(&self, path: &str, cap: u64) -> impl Future<Output = Result<Bytes, ReadError>> + Send;
    /// Opens a weight file.
    fn open(&self, path: &str) -> impl Future<Output = Result<Self::Open, ReadError>> + Send;
}

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The Hub's answer about a file, or none.
    #[error("{path}: {source}")]
    Hub {
        /// The file.
        path: String,
        /// What the Hub said.
        source: HubError,
    },
    /// A local file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A small file is larger than it may be.
    #[error("{path} has {size} bytes, at most {cap} are read")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        cap: u64,
    },
    /// The headers of several shards are larger together than one may be.
    #[error("{path}: with its header, the headers of this checkpoint have more than {cap} bytes")]
    Headers {
        /// The file whose header is too much.
        path: String,
        /// The limit.
        cap: u64,
    },
    /// A damaged or hostile safetensors header.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: String,
        /// What is wrong.
        source: HeaderError,
    },
    /// A damaged or hostile shard index.
    #[error("{path}: {source}")]
    Index {
        /// The file.
        path: String,
        /// What is wrong.
        source: ShardIndexError,
    },
    /// A config.json that is no JSON object.
    #[error("config.json: {0}")]
    Config(serde_json::Error),
    /// Nothing to read, or files missing.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl ReadError {
    /// The outcome of a repository that ended with this error.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Hub { source, .. } => outcome_of_hub_error(source),
            Self::Io { .. } => Outcome::Unreachable,
            Self::Plan(PlanError::NotAsked | PlanError::NoWeights { .. } | PlanError::NoRoles { .. }) => {
                Outcome::Unsupported
            }
            Self::TooLarge { .. }
            | Self::Headers { .. }
            | Self::Header { .. }
            | Self::Index { .. }
            | Self::Config(_)
            | Self::Plan(PlanError::MissingShards { .. }) => Outcome::Malformed,
        }
    }
}

/// What fetch hands to extract.
#[derive(Debug)]
pub struct Fetched {
    /// The weight files; size and digest are known for the opened ones.
    pub files: Vec<WeightFile>,
    /// The blocks and the bytes of their pieces.
    pub blocks: Vec<(Ask, Vec<Bytes>)>,
    /// Why weights of these roles were not read; others of the same role may have been.
    pub unreadable: BTreeMap<Role, String>,
    /// Layers of the main stack.
    pub layers: u16,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
    /// Stored elements in the opened files.
    pub parameters: u64,
    /// Bytes of weight files read.
    pub bytes_fetched: u64,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
}

/// The small files of a checkpoint: what screening looks at.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// config.json; empty where the repository has none.
    pub config: ModelConfig,
    /// What config.json says of packed weights.
    pub facts: Facts,
    /// The tokenizer, or why it is not known.
    pub tokenizer: Result<Arc<KnownTokenizer>, Unknown>,
    /// Bytes of small files read, the index of shards among them.
    pub bytes_fetched: u64,
}

/// Reads config and tokenizer.
pub async fn metadata<F: Files>(
    files: &F,
    limits: &Limits,
    tokenizers: &Tokenizers,
) -> Result<Metadata, ReadError> {
    let metadata = Metadata::listed(None).with_config(files, limits).await?;
    let read = tokenizers.of(files, limits).await?;
    let bytes_fetched = metadata.bytes_fetched + read.bytes;
    Ok(Metadata { tokenizer: read.tokenizer, bytes_fetched, ..metadata })
}

impl Metadata {
    /// What the list says, `config` being its part of config.json; no file is read.
    pub fn listed(config: Option<&serde_json::Value>) -> Self {
        Self {
            config: config.map(ModelConfig::listed).unwrap_or_default(),
            facts: Facts::default(),
            tokenizer: Err("the weights are read without it".into()),
            bytes_fetched: 0,
        }
    }

    /// Reads config.json, if there is one.
    pub async fn with_config<F: Files>(self, files: &F, limits: &Limits) -> Result<Self, ReadError> {
        if !files.names().iter().any(|n| n == "config.json") {
            return Ok(self);
        }
        let json = files.small("config.json", limits.config_bytes).await?;
        let facts = serde_json::from_slice(&json).map(|value| Facts::parse(&value));
        Ok(Self {
            config: ModelConfig::parse(&json).map_err(ReadError::Config)?,
            facts: facts.map_err(ReadError::Config)?,
            bytes_fetched: self.bytes_fetched + json.len() as u64,
            ..self
        })
    }
}

/// The weight files of a checkpoint, open.
pub struct Opened<O> {
    paths: Vec<String>,
    chosen: Vec<String>,
    files: Vec<O>,
    index: Option<ShardIndex>,
    /// Bytes of the index of shards, where it was read.
    pub index_bytes: u64,
    /// What was read of the files, headers apart.
    pieces: Vec<(Fetch, Bytes)>,
}

impl<O: OpenFile> Opened<O> {
    /// All weight files; size and digest are known for the opened ones.
    pub fn weight_files(&self) -> Vec<WeightFile> {
        let file = |path: &String| {
            let file = self.chosen.iter().position(|p| p == path).map(|i| &self.files[i]);
            let sha256 = file.and_then(OpenFile::sha256);
            WeightFile { path: path.clone(), size: file.map(OpenFile::size), sha256 }
        };
        self.paths.iter().map(file).collect()
    }

    /// Those that are read.
    pub fn opened_paths(&self) -> &[String] {
        &self.chosen
    }

    /// Whether that is all of them.
    pub fn is_whole(&self) -> bool {
        self.chosen.len() == self.paths.len()
    }
}

/// Chooses the weight files and opens them.
pub async fn open<F: Files>(
    files: &F,
    settings: &PlanSettings,
    limits: &Limits,
) -> Result<Opened<F::Open>, ReadError> {
    let mut index_bytes = 0;
    let (paths, chosen, index) = match plan::weights(files.names())? {
        Weights::Files(paths) => {
            // The ends of the model, where embedding and final norm usually are, before what lies between.
            let ends = [paths.first(), paths.last()].into_iter().flatten().cloned();
            let chosen = plan::thin(&paths, ends, settings);
            (paths, chosen, None)
        }
        Weights::Index(path) => {
            let json = files.small(&path, limits.index_bytes).await?;
            index_bytes = json.len() as u64;
            let index =
                ShardIndex::parse(&json, limits).map_err(|source| ReadError::Index { path, source })?;
            (index.shards(), plan::shards(&index, files.names(), settings)?, Some(index))
        }
    };
    let opened =
        stream::iter(&chosen).map(|path| files.open(path)).buffered(PARALLEL_RANGES).try_collect().await?;
    Ok(Opened { paths, chosen, files: opened, index, index_bytes, pieces: Vec::new() })
}

/// The headers of the opened files.
pub struct Headers {
    /// One a file.
    pub headers: Vec<Header>,
    bytes_fetched: u64,
}

/// Reads the headers.
pub async fn headers<O: OpenFile>(opened: &Opened<O>, limits: &Limits) -> Result<Headers, ReadError> {
    // A limit for each alone would be one for eight shards, times the repositories under way.
    let first = safetensors::FIRST_READ * opened.chosen.len() as u64;
    let left = AtomicU64::new(limits.header_bytes.saturating_add(first));
    let read: Vec<(Header, u64)> = stream::iter(opened.chosen.iter().zip(&opened.files))
        .map(|(path, file)| read_header(file, path, limits, &left))
        .buffered(PARALLEL_RANGES)
        .try_collect()
        .await?;
    let bytes_fetched = read.iter().map(|(_, bytes)| bytes).sum();
    Ok(Headers { headers: read.into_iter().map(|(header, _)| header).collect(), bytes_fetched })
}

/// Reads the small tensors that say how others are packed.
pub async fn states<O: OpenFile>(
    opened: &mut Opened<O>,
    headers: &Headers,
    facts: &Facts,
    settings: &PlanSettings,
) -> Result<States, ReadError> {
    let states = plan::states(&headers.headers, facts, settings);
    read(opened, &states).await?;
    let read = states.into_iter().filter_map(|f| Some(((f.file, f.bytes.start), slice(&opened.pieces, &f)?)));
    Ok(read.collect())
}

/// The tokens that any two vocabularies have in common, which are read where more detail is wanted.
pub fn anchors(metadata: &Metadata, settings: &PlanSettings) -> Vec<u64> {
    let wanted = settings.detail.as_ref().map_or(0, |detail| detail.tokens);
    let anchors = metadata.tokenizer.as_ref().map_or_else(|_| Vec::new(), |t| t.keys.anchors(wanted));
    anchors.into_iter().map(|(_, id)| u64::from(id)).collect()
}

/// Reads what is sampled of the weights of one checkpoint, but for what was read of them before.
pub async fn fetch<O: OpenFile>(
    opened: &mut Opened<O>,
    headers: &Headers,
    metadata: &Metadata,
    settings: &PlanSettings,
) -> Result<Fetched, ReadError> {
    let states = states(opened, headers, &metadata.facts, settings).await?;
    let Headers { headers, bytes_fetched } = headers;
    let tokens = anchors(metadata, settings);
    let plan = tracing::info_span!("plan")
        .in_scope(|| plan::sample(headers, &metadata.facts, &states, settings, &tokens))?;
    read(opened, &plan.fetches).await?;
    let pieces = &opened.pieces;
    let sampled: u64 = pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let blocks = plan.asks.into_iter().filter_map(|ask| {
        let bytes = ask.pieces.iter().map(|piece| slice(pieces, piece)).collect::<Option<_>>()?;
        Some((ask, bytes))
    });
    let blocks = blocks.collect();

    let known: u64 = opened.files.iter().map(OpenFile::size).sum();
    let stated = opened.index.as_ref().and_then(|i| i.total_size).unwrap_or(0);
    let names: Vec<&str> = match &opened.index {
        Some(index) => index.weight_map.keys().map(String::as_str).collect(),
        None => headers.iter().flat_map(|h| &h.tensors).map(|t| t.name.as_str()).collect(),
    };
    let mut layers = plan::layers(names.into_iter());
    if opened.index.is_none() && !opened.is_whole() {
        // The last layers may be in a shard that was not opened.
        let stated = metadata.config.layers.or(metadata.config.decoder_layers);
        layers = stated.and_then(|n| u16::try_from(n).ok()).map_or(layers, |stated| layers.max(stated));
    }
    Ok(Fetched {
        layers,
        vocabulary: plan.vocabulary,
        parameters: headers.iter().flat_map(|h| &h.tensors).fold(0, |n, t| t.elements().saturating_add(n)),
        files: opened.weight_files(),
        blocks,
        unreadable: plan.unreadable,
        bytes_fetched: bytes_fetched + sampled,
        bytes_in_repo: known.max(stated),
    })
}

/// The values of one block, read by itself.
pub async fn block<O: OpenFile>(
    opened: &Opened<O>,
    ask: &Ask,
) -> Result<Result<Vec<f32>, String>, ReadError> {
    let mut pieces = Vec::with_capacity(ask.pieces.len());
    for piece in &ask.pieces {
        pieces.push(opened.files[piece.file].range(piece.bytes.clone()).await?);
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
    Ok(ask.decoding.decode(&pieces))
}

/// Reads ranges, several at once, but for those that lie in one that was read before.
async fn read<O: OpenFile>(opened: &mut Opened<O>, fetches: &[Fetch]) -> Result<(), ReadError> {
    let Opened { files, pieces, .. } = opened;
    let missing: Vec<&Fetch> = fetches.iter().filter(|fetch| slice(pieces, fetch).is_none()).collect();
    let files = &*files;
    let read: Vec<(Fetch, Bytes)> = stream::iter(missing)
        .map(|fetch| async move {
            let bytes = files[fetch.file].range(fetch.bytes.clone()).await;
            bytes.map(|bytes| (fetch.clone(), bytes))
        })
        .buffer_unordered(PARALLEL_RANGES)
        .try_collect()
        .await?;
    pieces.extend(read);
    Ok(())
}

/// The part of the fetched ranges that a piece lies in.
fn slice(fetched: &[(Fetch, Bytes)], piece: &Fetch) -> Option<Bytes> {
    let holds = |f: &Fetch| {
        f.file == piece.file && f.bytes.start <= piece.bytes.start && piece.bytes.end <= f.bytes.end
    };
    let (range, bytes) = fetched.iter().find(|(fetch, _)| holds(fetch))?;
    let at = |offset: u64| usize::try_from(offset - range.bytes.start).ok();
    let (start, end) = (at(piece.bytes.start)?, at(piece.bytes.end)?);
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

/// Reads a header, and takes its bytes from what is `left` for those of the checkpoint.
async fn read_header(
    file: &impl OpenFile,
    path: &str,
    limits: &Limits,
    left: &AtomicU64,
) -> Result<(Header, u64), ReadError> {
    let mut prefix = Vec::new();
    loop {
        let decoded = safetensors::try_decode(&prefix, file.size(), limits)
            .map_err(|source| ReadError::Header { path: path.to_owned(), source })?;
        match decoded {
            Decoded::Done(header) => return Ok((header, prefix.len() as u64)),
            // The decoder never asks for more than the header limit and the file hold.
            Decoded::Need(end) => {
                let missing = prefix.len() as u64..end;
                let bytes = missing.end - missing.start;
                left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes))
                    .map_err(|_| ReadError::Headers { path: path.to_owned(), cap: limits.header_bytes })?;
                let more = file.range(missing).await?;
                prefix.extend_from_slice(&more);
            }
        }
    }
}

/// The outcome behind a Hub error.
pub fn outcome_of_hub_error(error: &HubError) -> Outcome {
    use crate::hub::HubErrorKind as E;
    match error.kind() {
        // An anonymous caller gets 401 for a missing repository and for a private one alike.
        E::NotFound { .. } | E::Unauthorized { with_token: false } => Outcome::Missing,
        E::Gated { .. } | E::Unauthorized { .. } | E::Forbidden { .. } => Outcome::Gated,
        E::Disabled => Outcome::Disabled,
        E::OutOfFile { .. } | E::TooLarge { .. } | E::Malformed { .. } | E::Unaddressable { .. } => {
            Outcome::Malformed
        }
        _ => Outcome::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::files::FolderFiles;
    use crate::store::atomic;

    #[tokio::test]
    async fn the_headers_of_a_checkpoint_have_one_limit_together() {
        let dir = tempfile::tempdir().unwrap();
        let tensor = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let header = format!("{tensor}{}", " ".repeat(900_000));
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            atomic::write(&dir.path().join(name), &file).unwrap();
        }
        let files = FolderFiles::open(dir.path()).unwrap();
        let limits = |header_bytes| Limits { header_bytes, ..Limits::default() };
        let opened = open(&files, &PlanSettings::default(), &limits(0)).await.unwrap();
        let refused = headers(&opened, &limits(1_000_000)).await;
        assert!(matches!(refused, Err(ReadError::Headers { cap: 1_000_000, .. })));
        assert_eq!(headers(&opened, &limits(2_000_000)).await.unwrap().headers.len(), 2);
    }
}
