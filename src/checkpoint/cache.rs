//! Samples that were read before, by content.
//!
//! The key is a digest over the SHA-256 of the weight files, the plan and the extraction version, so an entry is
//! never stale. One safetensors file an entry: the blocks as F32 tensors, everything else in its metadata.
//! Only what the Hub states a digest for is kept: a local checkpoint is read as fast as its cache entry would be.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::extract::{self, Extracted};
use super::metadata::Metadata;
use super::plan::PlanSettings;
use super::single_flight::{Flight, SingleFlight};
use crate::formats::packed::QuantConfig;
use crate::signals::blocks::{Block, Probe, le_bytes};
use crate::signals::fingerprint::EXTRACTION_VERSION;
use crate::signals::roles::{Layout, Stack};
use crate::signals::tokens::TokenKeys;
use crate::signals::{Coverage, Position, Role, Samples};
use crate::store::{AdapterFacts, StoreError, WeightFile, atomic, checksum};

/// Layout of an entry, and which rows are read for more detail; part of the key.
const ENTRY_VERSION: u32 = 4;
/// Largest entry that is read, bytes.
const MOST_BYTES: u64 = 256 << 20;
/// The metadata's key in the file.
const FACTS: &str = "hubprint";

/// A folder of entries.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    /// The contents that are being read.
    under_way: SingleFlight<String>,
}

/// What an entry says beside the values.
#[derive(Serialize, Deserialize)]
struct Contents {
    layers: u16,
    vocabulary: Option<u32>,
    quantised: bool,
    files: Vec<(String, Option<u64>, Option<String>)>,
    sample_digest: Option<String>,
    dtype: Option<String>,
    unreadable: Vec<String>,
    parameters: u64,
    bytes_in_repo: u64,
    coverage: Option<Coverage>,
    /// Entries of before there were any lack it.
    #[serde(default)]
    adapter: Option<AdapterFacts>,
    /// Name, digest and size.
    probes: Vec<(String, u64, u64)>,
    blocks: Vec<BlockFacts>,
}

#[derive(Serialize, Deserialize)]
struct BlockFacts {
    stack: u8,
    layer: u16,
    expert: Option<u16>,
    role: u8,
    layout: u8,
    start: u64,
    tensor_rows: u64,
    columns: usize,
}

/// Names one content and the way it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// `None` where a file's digest is not known.
    pub(super) fn of(
        files: &[WeightFile],
        opened: &[String],
        metadata: &Metadata,
        plan: &PlanSettings,
    ) -> Option<Self> {
        let mut hasher = Sha256::new();
        hasher.update(EXTRACTION_VERSION.to_le_bytes());
        hasher.update(ENTRY_VERSION.to_le_bytes());
        // In these words for good: a database knows its rows by it.
        let QuantConfig { method, version, bits, group_size, block, layers } = &metadata.quantization;
        hasher.update(format!(
            "{plan:?} Facts {{ method: {method:?}, version: {version:?}, bits: {bits:?}, group_size: {group_size:?}, \
             block: {block:?} }}"
        ));
        for layer in layers {
            hasher.update(format!("{layer:?}"));
        }
        // Which rows of the embedding are read beside the canonical ones, and which tokens they are.
        for token in metadata.anchors(plan) {
            hasher.update(token.to_le_bytes());
        }
        let tokenizer = metadata.tokenizer.as_ref().ok().map(|known| &known.print);
        hasher.update(serde_json::to_vec(&tokenizer).ok()?);
        for path in opened {
            let digest = files.iter().find(|file| file.path == *path)?.sha256.as_ref()?;
            hasher.update(digest);
        }
        Some(Self(checksum::hex(&hasher.finalize())))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Cache {
    /// A cache in this folder, which is made when something is kept.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, under_way: SingleFlight::default() }
    }

    /// Waits while somebody else reads this content, whose entry is then there: two copies of one model that are
    /// compared are read once.
    pub(super) async fn turn(&self, key: &Key) -> Flight {
        self.under_way.enter(key.0.clone()).await
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.safetensors", key.0))
    }

    /// Whether there is an entry, which may be damaged.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.path(key).is_file()
    }

    /// An entry; `None` where there is none. A damaged one is as good as none.
    pub(super) fn get(&self, key: &Key, tokens: Option<Arc<TokenKeys>>) -> Option<Extracted> {
        let path = self.path(key);
        if std::fs::metadata(&path).ok()?.len() > MOST_BYTES {
            return None;
        }
        let found = read(&std::fs::read(&path).ok()?, tokens);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "a damaged cache entry is not used");
        }
        found
    }

    /// Keeps an entry. A cache that cannot be written to is not worth an error.
    pub(super) fn put(&self, key: &Key, extracted: &Extracted) {
        let path = self.path(key);
        if let Err(error) = std::fs::create_dir_all(&self.folder)
            .map_err(StoreError::io(&self.folder))
            .and_then(|()| write(&path, extracted))
        {
            tracing::warn!(%error, "samples were not cached");
        }
    }
}

fn write(path: &Path, extracted: &Extracted) -> Result<(), StoreError> {
    let samples = &extracted.samples;
    let facts = Contents {
        layers: samples.layers,
        vocabulary: samples.vocabulary,
        quantised: samples.quantised,
        files: extracted.files.iter().map(|f| (f.path.clone(), f.size, f.sha256.clone())).collect(),
        sample_digest: extracted.sample_digest.clone(),
        dtype: extracted.dtype.clone(),
        unreadable: extracted.unreadable.clone(),
        parameters: extracted.parameters,
        bytes_in_repo: extracted.bytes_in_repo,
        coverage: samples.coverage.clone(),
        adapter: extracted.adapter.clone(),
        probes: samples.probes.iter().map(|(name, p)| (name.clone(), p.digest, p.size)).collect(),
        blocks: samples.blocks.iter().map(BlockFacts::of).collect(),
    };
    let values: Vec<Cow<'_, [u8]>> = samples.blocks.iter().map(|block| le_bytes(&block.values)).collect();
    let views: Result<Vec<_>, _> = values
        .iter()
        .enumerate()
        .map(|(i, bytes)| Ok((format!("{i:06}"), TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
        .collect();
    let json = serde_json::to_string(&facts).map_err(StoreError::damaged(path))?;
    let bytes = views
        .and_then(|views| serialize(views, Some(HashMap::from([(FACTS.to_owned(), json)]))))
        .map_err(StoreError::damaged(path))?;
    atomic::write(path, &bytes)
}

fn read(bytes: &[u8], tokens: Option<Arc<TokenKeys>>) -> Option<Extracted> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let facts: Contents = serde_json::from_str(metadata.metadata().as_ref()?.get(FACTS)?).ok()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let blocks: Option<Vec<Block>> = facts
        .blocks
        .iter()
        .enumerate()
        .map(|(i, block)| {
            let tensor = file.tensor(&format!("{i:06}")).ok()?;
            let values: Vec<f32> =
                tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            block.with(values)
        })
        .collect();
    let mut samples = Samples::new(facts.layers, facts.vocabulary, blocks?, tokens);
    samples.quantised = facts.quantised;
    samples.coverage = facts.coverage;
    samples.rank = facts.adapter.as_ref().map(|adapter| adapter.rank);
    samples.probes =
        facts.probes.into_iter().map(|(name, digest, size)| (name, Probe { digest, size })).collect();
    let files: Vec<WeightFile> =
        facts.files.into_iter().map(|(path, size, sha256)| WeightFile { path, size, sha256 }).collect();
    Some(Extracted {
        weights_digest: extract::weights_digest(&files, None),
        part: None,
        adapter: facts.adapter,
        files,
        samples,
        sample_digest: facts.sample_digest,
        dtype: facts.dtype,
        unreadable: facts.unreadable,
        parameters: facts.parameters,
        bytes_fetched: 0,
        bytes_in_repo: facts.bytes_in_repo,
    })
}

const LAYOUTS: [Layout; 4] = [Layout::Linear, Layout::Interleaved, Layout::Conv1d, Layout::UpFirst];

impl BlockFacts {
    fn of(block: &Block) -> Self {
        let Position { stack, layer, expert, role, layout } = block.position;
        let layout = LAYOUTS.iter().position(|l| *l == layout).unwrap_or(0) as u8;
        let Block { start, tensor_rows, columns, .. } = *block;
        Self { stack: stack as u8, layer, expert, role: role as u8, layout, start, tensor_rows, columns }
    }

    fn with(&self, values: Vec<f32>) -> Option<Block> {
        let position = Position {
            stack: Stack::from_code(self.stack)?,
            layer: self.layer,
            expert: self.expert,
            role: Role::from_code(self.role)?,
            layout: *LAYOUTS.get(usize::from(self.layout))?,
        };
        let Self { start, tensor_rows, columns, .. } = *self;
        let whole = columns > 0 && values.len().is_multiple_of(columns);
        whole.then_some(Block { position, start, tensor_rows, columns, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ModelConfig;
    use crate::formats::adapter_config::AdapterConfig;
    use crate::signals::testing::Model;

    fn extracted(files: Vec<WeightFile>) -> Extracted {
        Extracted {
            weights_digest: extract::weights_digest(&files, None),
            part: None,
            adapter: None,
            files,
            samples: Model::random(1, 2, 64).samples(),
            sample_digest: Some("s".into()),
            dtype: Some("BF16".into()),
            unreadable: Vec::new(),
            parameters: 7,
            bytes_fetched: 100,
            bytes_in_repo: 900,
        }
    }

    fn file(sha256: Option<&str>) -> WeightFile {
        WeightFile { path: "m".into(), size: Some(9), sha256: sha256.map(str::to_owned) }
    }

    fn key(sha256: Option<&str>, plan: &PlanSettings) -> Option<Key> {
        let (config, quantization) = (ModelConfig::default(), QuantConfig::default());
        let tokenizer = Err("none".into());
        let metadata = Metadata {
            config,
            quantization,
            tokenizer,
            adapter: AdapterConfig::default(),
            declared_bases: Vec::new(),
            bytes_fetched: 7,
        };
        Key::of(&[file(sha256)], &["m".into()], &metadata, plan)
    }

    #[test]
    fn what_was_kept_comes_back_and_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("new"));
        let kept = extracted(vec![file(Some("aa"))]);
        let key = key(Some("aa"), &PlanSettings::default()).unwrap();
        assert!(cache.get(&key, None).is_none());
        cache.put(&key, &kept);
        let back = cache.get(&key, None).unwrap();
        assert_eq!(back.bytes_fetched, 0);
        assert_eq!(
            (back.sample_digest, back.weights_digest, back.files),
            (kept.sample_digest, kept.weights_digest, kept.files)
        );
        let fingerprint = |s: &Samples| crate::signals::Fingerprint::new(s).unwrap();
        assert_eq!(fingerprint(&back.samples), fingerprint(&kept.samples));
    }

    #[test]
    fn a_key_names_content_and_plan() {
        let plan = PlanSettings::default();
        let one = key(Some("aa"), &plan);
        assert!(one.is_some() && key(None, &plan).is_none());
        assert_ne!(one, key(Some("ab"), &plan));
        assert_ne!(one, key(Some("aa"), &PlanSettings::detailed()));
    }

    #[test]
    fn the_key_of_a_content_changes_with_the_version_alone() {
        let plan = "PlanSettings { max_ranges: 80, max_bytes: 6000000, gap_bytes: 32768, max_shards: 8, matrix_layers: 16, \
                    detail: None }";
        let config = "Facts { method: None, version: None, bits: None, group_size: None, block: None }";
        let mut hasher = Sha256::new();
        hasher.update([3, 0, 0, 0, 4, 0, 0, 0]);
        hasher.update(format!("{plan} {config}nullaa"));
        let expected = checksum::hex(&hasher.finalize());
        assert_eq!(key(Some("aa"), &PlanSettings::default()).unwrap().to_string(), expected);
    }

    #[test]
    fn a_damaged_entry_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        let kept = extracted(vec![file(Some("aa"))]);
        let key = key(Some("aa"), &PlanSettings::default()).unwrap();
        cache.put(&key, &kept);
        let bytes = std::fs::read(cache.path(&key)).unwrap();
        for end in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            atomic::write(&cache.path(&key), &bytes[..end]).unwrap();
            assert!(cache.get(&key, None).is_none(), "{end}");
        }
    }
}
