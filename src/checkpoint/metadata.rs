//! The small files of a checkpoint: config.json and the tokenizer.

use std::sync::Arc;

use serde_json::Value;

use super::container::Tensors;
use super::error::ReadError;
use super::plan::{self, PlanSettings};
use super::source::RepoFiles;
use super::tokenizer::{KnownTokenizer, Tokenizers, Unknown};
use crate::formats::adapter_config::{ADAPTER_CONFIG, AdapterConfig};
use crate::formats::packed::QuantConfig;
use crate::formats::{Limits, ModelConfig, json};
use crate::store::AdapterFacts;

/// What screening looks at, and what says how weights are packed.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// config.json, else what the weight files say; empty where neither does.
    pub config: ModelConfig,
    /// What config.json says of packed weights.
    pub quantization: QuantConfig,
    /// The tokenizer, or why it is not known.
    pub tokenizer: Result<Arc<KnownTokenizer>, Unknown>,
    /// Which model an adapter in the same folder was trained on, as far as it says.
    pub adapter: AdapterConfig,
    /// The repositories that the weight files name as what the model was made from.
    pub declared_bases: Vec<String>,
    /// Bytes of small files read, the index of shards among them.
    pub bytes_fetched: u64,
}

impl Metadata {
    /// Reads config and tokenizer of weights in this folder: those beside them, else those at the top.
    pub async fn read(
        files: &dyn RepoFiles,
        folder: &str,
        limits: &Limits,
        tokenizers: &Tokenizers,
    ) -> Result<Self, ReadError> {
        let metadata = Self::listed(None).with_config(files, folder, limits).await?;
        let read = tokenizers.of(files, folder, limits).await?;
        let (adapter, bytes_of_adapter) = adapter(files, folder, limits).await?;
        let bytes_fetched = metadata.bytes_fetched + read.bytes + bytes_of_adapter;
        Ok(Self { tokenizer: read.tokenizer, adapter, bytes_fetched, ..metadata })
    }

    /// What an adapter changes, with the model that its config names.
    pub fn named(&self, facts: AdapterFacts) -> AdapterFacts {
        let AdapterConfig { base, revision } = self.adapter.clone();
        AdapterFacts { base, revision, ..facts }
    }

    /// The tokens that any two vocabularies have in common, which are read where more detail is wanted.
    pub fn anchors(&self, settings: &PlanSettings) -> Vec<u64> {
        let wanted = settings.detail.as_ref().map_or(0, |detail| detail.tokens);
        let anchors = self.tokenizer.as_ref().map_or_else(|_| Vec::new(), |t| t.keys.anchors(wanted));
        anchors.into_iter().map(|(_, id)| u64::from(id)).collect()
    }

    /// What the list says, `config` being its part of config.json; no file is read.
    pub fn listed(config: Option<&serde_json::Value>) -> Self {
        Self {
            config: config.map(ModelConfig::listed).unwrap_or_default(),
            quantization: QuantConfig::default(),
            tokenizer: Err("the weights are read without it".into()),
            adapter: AdapterConfig::default(),
            declared_bases: Vec::new(),
            bytes_fetched: 0,
        }
    }

    /// Takes what the weight files say of themselves. How they are quantised config.json says of other files.
    pub(super) fn learn(&mut self, tensors: &dyn Tensors) {
        if let Some(own) = tensors.config() {
            let quantization = own.quantization.clone();
            let config = std::mem::take(&mut self.config).or(own);
            self.config = ModelConfig { quantization, ..config };
        }
        self.declared_bases = tensors.declared_bases();
    }

    /// Reads config.json, if there is one.
    pub async fn with_config(
        self,
        files: &dyn RepoFiles,
        folder: &str,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let Some(path) = plan::config_file(files.names(), folder) else { return Ok(self) };
        let json = files.small(&path, limits.config_bytes).await?;
        let object = json::parse(&json).map_err(|source| ReadError::Config { path, source })?;
        let value = Value::Object(object);
        Ok(Self {
            config: ModelConfig::listed(&value),
            quantization: QuantConfig::parse(&value),
            bytes_fetched: self.bytes_fetched + json.len() as u64,
            ..self
        })
    }
}

/// The config of an adapter in this folder, and its bytes; nothing of one that is damaged, whose weights say what they are.
async fn adapter(
    files: &dyn RepoFiles,
    folder: &str,
    limits: &Limits,
) -> Result<(AdapterConfig, u64), ReadError> {
    let path = format!("{folder}{ADAPTER_CONFIG}");
    if !files.names().contains(&path) {
        return Ok((AdapterConfig::default(), 0));
    }
    match files.small(&path, limits.config_bytes).await {
        Ok(json) => Ok((AdapterConfig::parse(&json).unwrap_or_default(), json.len() as u64)),
        Err(error) if error.is_passing() => Err(error),
        Err(_) => Ok((AdapterConfig::default(), 0)),
    }
}
