//! fetch: reads what the plan asks for, from the Hub or from a folder, through one seam.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::plan::{self, Ask, PlanError, PlanSettings, Weights};
use crate::formats::safetensors::{self, Decoded};
use crate::formats::shards::ShardIndexError;
use crate::formats::{Header, HeaderError, Limits, ModelConfig, ShardIndex};
use crate::hub::HubError;
use crate::store::{Outcome, WeightFile};

/// Ranges of one checkpoint under way at once; the Hub client has a limit of its own for all of them.
const PARALLEL_RANGES: usize = 8;

/// A weight file that is open for ranged reads.
pub trait OpenFile: Send + Sync {
    /// Its length, bytes.
    fn size(&self) -> u64;
    /// SHA-256 of its content where that is known without reading it, lower-case hex.
    fn sha256(&self) -> Option<String>;
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
    /// Exactly these bytes of it.
    fn range(
        &self,
        file: &Self::Open,
        bytes: Range<u64>,
    ) -> impl Future<Output = Result<Bytes, ReadError>> + Send;
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
            Self::Plan(PlanError::NoWeights { .. } | PlanError::NoRoles { .. }) => Outcome::Unsupported,
            Self::TooLarge { .. }
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
    /// config.json; empty where the repository has none.
    pub config: ModelConfig,
    /// The weight files; size and digest are known for the opened ones.
    pub files: Vec<WeightFile>,
    /// The blocks and their bytes.
    pub blocks: Vec<(Ask, Bytes)>,
    /// Layers of the main stack.
    pub layers: u16,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
    /// Stored elements in the opened files.
    pub parameters: u64,
    /// Bytes of file content read.
    pub bytes_fetched: u64,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
}

/// Reads one checkpoint: config, headers, then the sampled ranges.
pub async fn fetch<F: Files>(
    files: &F,
    settings: &PlanSettings,
    limits: &Limits,
) -> Result<Fetched, ReadError> {
    let mut fetched = 0;
    let weights = plan::weights(files.names())?;
    let config = if files.names().iter().any(|n| n == "config.json") {
        let json = files.small("config.json", limits.config_bytes).await?;
        fetched += json.len() as u64;
        ModelConfig::parse(&json).map_err(ReadError::Config)?
    } else {
        ModelConfig::default()
    };
    let (paths, to_open, index) = match weights {
        Weights::Files(paths) => {
            let to_open = plan::thin(&paths, std::iter::empty(), settings);
            (paths, to_open, None)
        }
        Weights::Index(path) => {
            let json = files.small(&path, limits.index_bytes).await?;
            fetched += json.len() as u64;
            let index =
                ShardIndex::parse(&json, limits).map_err(|source| ReadError::Index { path, source })?;
            (index.shards(), plan::shards(&index, files.names(), settings)?, Some(index))
        }
    };

    let mut opened = Vec::with_capacity(to_open.len());
    let mut headers = Vec::with_capacity(to_open.len());
    for path in &to_open {
        let file = files.open(path).await?;
        let (header, bytes) = read_header(files, &file, path, limits).await?;
        fetched += bytes;
        opened.push(file);
        headers.push(header);
    }
    let plan = tracing::info_span!("plan").in_scope(|| plan::sample(&headers, settings))?;
    let pieces: Vec<(usize, Range<u64>, Bytes)> = stream::iter(plan.fetches.iter().cloned())
        .map(|fetch| {
            let file = &opened[fetch.file];
            async move {
                Ok::<_, ReadError>((fetch.file, fetch.bytes.clone(), files.range(file, fetch.bytes).await?))
            }
        })
        .buffer_unordered(PARALLEL_RANGES)
        .try_collect()
        .await?;
    fetched += pieces.iter().map(|(_, _, bytes)| bytes.len() as u64).sum::<u64>();
    let blocks = plan.asks.into_iter().filter_map(|ask| {
        let bytes = slice(&pieces, &ask)?;
        Some((ask, bytes))
    });
    let blocks = blocks.collect();

    let known: u64 = opened.iter().map(OpenFile::size).sum();
    let stated = index.as_ref().and_then(|i| i.total_size).unwrap_or(0);
    let names: Vec<&str> = match &index {
        Some(index) => index.weight_map.keys().map(String::as_str).collect(),
        None => headers.iter().flat_map(|h| &h.tensors).map(|t| t.name.as_str()).collect(),
    };
    Ok(Fetched {
        config,
        layers: plan::layers(names.into_iter()),
        vocabulary: plan.vocabulary,
        parameters: headers.iter().flat_map(|h| &h.tensors).fold(0, |n, t| t.elements().saturating_add(n)),
        files: weight_files(paths, &to_open, &opened),
        blocks,
        bytes_fetched: fetched,
        bytes_in_repo: known.max(stated),
    })
}

/// The part of the fetched pieces that an ask lies in.
fn slice(pieces: &[(usize, Range<u64>, Bytes)], ask: &Ask) -> Option<Bytes> {
    let (_, range, bytes) = pieces
        .iter()
        .find(|(f, r, _)| *f == ask.file && r.start <= ask.bytes.start && ask.bytes.end <= r.end)?;
    let at = |offset: u64| usize::try_from(offset - range.start).ok();
    let (start, end) = (at(ask.bytes.start)?, at(ask.bytes.end)?);
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

async fn read_header<F: Files>(
    files: &F,
    file: &F::Open,
    path: &str,
    limits: &Limits,
) -> Result<(Header, u64), ReadError> {
    let mut prefix = Vec::new();
    loop {
        let decoded = safetensors::try_decode(&prefix, file.size(), limits)
            .map_err(|source| ReadError::Header { path: path.to_owned(), source })?;
        match decoded {
            Decoded::Done(header) => return Ok((header, prefix.len() as u64)),
            // The decoder never asks for more than the header limit and the file hold.
            Decoded::Need(end) => {
                let more = files.range(file, prefix.len() as u64..end).await?;
                prefix.extend_from_slice(&more);
            }
        }
    }
}

fn weight_files<O: OpenFile>(paths: Vec<String>, opened_paths: &[String], opened: &[O]) -> Vec<WeightFile> {
    paths
        .into_iter()
        .map(|path| {
            let file = opened_paths.iter().position(|p| *p == path).map(|i| &opened[i]);
            WeightFile { size: file.map(OpenFile::size), sha256: file.and_then(OpenFile::sha256), path }
        })
        .collect()
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
