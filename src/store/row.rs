//! One crawled repository.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::ModelConfig;
use crate::signals::profile::Profile;
use crate::signals::tokenizer::TokenizerPrint;
use crate::signals::{Coverage, Fingerprint};

/// How an enumerated repository ended. Every repository has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has a fingerprint.
    Indexed,
    /// Its weights need an access grant that this token does not have.
    Gated,
    /// The Hub has disabled it.
    Disabled,
    /// It, its revision or a needed file is not there.
    Missing,
    /// Nothing that this version reads: no weights in a format that is read, or no tensor with a known role.
    Unsupported,
    /// Its files contradict themselves or the Hub.
    Malformed,
    /// The network or the Hub failed beyond the retry budget.
    Unreachable,
}

impl Outcome {
    /// Every outcome, the good one first.
    pub const ALL: [Self; 7] = [
        Self::Indexed,
        Self::Gated,
        Self::Disabled,
        Self::Missing,
        Self::Unsupported,
        Self::Malformed,
        Self::Unreachable,
    ];

    /// The name in reports and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Gated => "gated",
            Self::Disabled => "disabled",
            Self::Missing => "missing",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Unreachable => "unreachable",
        }
    }

    /// The outcome with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }

    /// Whether a later crawl of the same commit would end the same way. What may heal by itself (an access
    /// grant, the network) is tried again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Indexed | Self::Unsupported | Self::Malformed)
    }

    /// Whether the run should be reported as incomplete: the repository ought to have been readable.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Missing | Self::Malformed | Self::Unreachable)
    }
}

/// One weight file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WeightFile {
    /// Path in the repository.
    pub path: String,
    /// Bytes, where the file was opened.
    pub size: Option<u64>,
    /// SHA-256 of the content (the LFS object id), lower-case hex, where the Hub states it.
    pub sha256: Option<String>,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef {
    /// Number of the shard in the manifest.
    pub shard: u32,
    /// Number of the row in the shard.
    pub row: u32,
}

/// What people call a checkpoint: `org/name`, and `org/name[unet]` where it is a component of a repository.
pub fn checkpoint_name(repo_id: &str, component: &str) -> String {
    if component.is_empty() { repo_id.to_owned() } else { format!("{repo_id}[{component}]") }
}

/// What an adapter changes, and of which model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdapterFacts {
    /// The rank of most of its differences.
    pub rank: u32,
    /// The modules that it changes, e.g. `q_proj`.
    pub targets: Vec<String>,
    /// The model that adapter_config.json names, where that was read.
    pub base: Option<String>,
    /// The revision of it.
    pub revision: Option<String>,
}

impl fmt::Display for AdapterFacts {
    /// `an adapter of rank 16 to q_proj, v_proj; its config names org/base`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an adapter of rank {} to {}", self.rank, self.targets.join(", "))?;
        self.base.as_ref().map_or(Ok(()), |base| write!(f, "; its config names {base}"))
    }
}

/// One checkpoint of a crawled repository. Field by field the columns of a shard; see [`super::schema`]. All rows of one
/// reading of a repository have the same `crawled_at`, and are live together.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `org/name` at the time of the crawl.
    pub repo_id: String,
    /// The Hub's immutable id; the key of a repository. The name, where the Hub gives none.
    pub hub_id: String,
    /// Which of its checkpoints: `unet`, `text_encoder` ...; empty for the main one, and where there is one row only.
    /// With `hub_id` the key of a checkpoint.
    pub component: String,
    /// Commit that was read.
    pub sha: Option<String>,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// Head commit, milliseconds since 1970.
    pub last_modified: Option<i64>,
    /// When the rows of this repository were made, milliseconds since 1970.
    pub crawled_at: i64,
    /// When a sweep of the whole Hub no longer listed it, milliseconds since 1970. What was known of it stays.
    pub gone_at: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless indexed.
    pub reason: Option<String>,
    /// `false`, `auto` or `manual`.
    pub gated: String,
    /// Downloads of the last 30 days.
    pub downloads: Option<u64>,
    /// Likes.
    pub likes: Option<u64>,
    /// Task tag.
    pub pipeline_tag: Option<String>,
    /// Library tag.
    pub library_name: Option<String>,
    /// From the `license:` tag.
    pub license: Option<String>,
    /// From the `base_model:` tags: what the card claims; else what the weight files name.
    pub declared_bases: Vec<String>,
    /// `model_type` of config.json; without one what the weight files say, here and below.
    pub model_type: Option<String>,
    /// First of `architectures`.
    pub architecture: Option<String>,
    /// Quantisation method of config.json.
    pub quantization: Option<String>,
    /// What screening needs of config.json.
    pub config: Option<ModelConfig>,
    /// The tokenizer's features and a sketch of its vocabulary.
    pub tokenizer: Option<TokenizerPrint>,
    /// Dtype of most sampled tensors.
    pub dtype: Option<String>,
    /// Stored elements of the opened weight files.
    pub parameters: Option<u64>,
    /// The weight files.
    pub weight_files: Vec<WeightFile>,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
    /// Bytes of response bodies read for this repository.
    pub bytes_fetched: u64,
    /// Digest over the SHA-256 of all weight files: equal content, whatever the names. Lower-case hex.
    pub weights_digest: Option<String>,
    /// Digest over the SHA-256 of the opened files and all else that decides what is read of them and how: a
    /// checkpoint with the same one has the same fingerprint. Lower-case hex. Its column is called `reading`.
    pub extraction_key: Option<String>,
    /// Digest over the sampled bytes, independent of file layout. Lower-case hex.
    pub sample_digest: Option<String>,
    /// What it changes of which model, where it is an adapter.
    pub adapter: Option<AdapterFacts>,
    /// Version of the extraction that made the row: [`EXTRACTION_VERSION`](crate::signals::fingerprint::EXTRACTION_VERSION)
    /// of its day.
    pub extraction_version: u32,
    /// How much of the weights was read. Rows of versions before 3 do not say.
    pub coverage: Option<Coverage>,
    /// Curves and cosines that support a verdict.
    pub profile: Option<Profile>,
    /// The fingerprint, if indexed.
    pub fingerprint: Option<Fingerprint>,
}

impl Row {
    /// What people call its checkpoint.
    pub fn name(&self) -> String {
        checkpoint_name(&self.repo_id, &self.component)
    }
}

/// A repository that a crawl left for the next one, because it did not fit into the budget or the run was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Its name.
    pub repo_id: String,
    /// When it was first left over, milliseconds since 1970.
    pub since: i64,
}
