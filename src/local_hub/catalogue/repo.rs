//! A repository as the server knows it: plain data, filled in by the scan or from what was uploaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::local_hub::names::{DATASETS, is_main};
use crate::local_hub::text::escape_path;
use crate::local_hub::uploads::Log;

/// One revision of one repository; only those that clients write to have older ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repo {
    /// `org/name`, for datasets `datasets/org/name`; those of the early days have no organisation.
    pub(crate) id: String,
    /// 24 hex digits; the first 8 are the creation time in seconds.
    pub(crate) object_id: String,
    /// Commit of `main`, 40 hex digits.
    pub(crate) sha: String,
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) gated: Gated,
    pub(crate) disabled: bool,
    pub(crate) private: bool,
    pub(crate) downloads: u64,
    pub(crate) likes: u64,
    pub(crate) tags: Vec<String>,
    pub(crate) pipeline_tag: Option<String>,
    pub(crate) library_name: Option<String>,
    pub(crate) bases: Option<Bases>,
    /// Front matter of README.md.
    pub(crate) card: Map<String, Value>,
    /// What the list shows of config.json and tokenizer_config.json; shared as the files are.
    pub(crate) config: Option<Arc<Value>>,
    pub(crate) parameters: Option<Parameters>,
    /// Sorted by path; shared by all that were made up after one model.
    pub(crate) files: Arc<[RepoFile]>,
    /// Path to git tree id.
    pub(crate) folders: BTreeMap<String, String>,
    /// All commits, if clients write here; otherwise everything came with one.
    pub(crate) log: Option<Arc<Log>>,
}

/// What a name leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Repo(Arc<Repo>),
    /// The repository goes by another name or another spelling.
    Renamed(Arc<Repo>),
    Nothing,
}

#[derive(Debug, Clone)]
pub(crate) struct RepoFile {
    pub(crate) path: String,
    /// Where the bytes are; symbolic links are resolved.
    pub(crate) location: PathBuf,
    pub(crate) size: u64,
    pub(crate) blob: Blob,
}

/// What git keeps of a file, and LFS if it keeps the content.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    /// Git's sha1: of the content, or of the LFS pointer in its place.
    pub(crate) oid: String,
    pub(crate) lfs: Option<Lfs>,
}

#[derive(Debug, Clone)]
pub(crate) struct Lfs {
    pub(crate) sha256: String,
    /// Name of the content in the CDN: 64 hex digits that are not its sha256.
    pub(crate) xet_hash: String,
    pub(crate) pointer_size: u64,
}

/// Who may download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) enum Gated {
    #[default]
    No,
    Auto,
    Manual,
}

impl TryFrom<Value> for Gated {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Bool(false) => Ok(Self::No),
            Value::String(text) if text == "auto" => Ok(Self::Auto),
            Value::String(text) if text == "manual" => Ok(Self::Manual),
            other => Err(format!("gated is false, \"auto\" or \"manual\", not {other}")),
        }
    }
}

impl Serialize for Gated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Auto => serializer.serialize_str("auto"),
            Self::Manual => serializer.serialize_str("manual"),
        }
    }
}

/// Models that this one was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bases {
    pub(crate) relation: &'static str,
    pub(crate) models: Vec<String>,
}

/// Stored elements of the safetensors files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Parameters {
    /// Per dtype.
    pub(crate) parameters: BTreeMap<String, u64>,
    pub(crate) total: u64,
}

impl Repo {
    pub(crate) fn is_dataset(&self) -> bool {
        self.id.starts_with(DATASETS)
    }

    /// `org/name`, whatever the kind.
    pub(crate) fn name(&self) -> &str {
        self.id.strip_prefix(DATASETS).unwrap_or(&self.id)
    }

    /// `models/org/name` or `datasets/org/name`, escaped, as it stands in addresses of the API.
    pub(crate) fn api_name(&self) -> String {
        escape_path(&if self.is_dataset() { self.id.clone() } else { format!("models/{}", self.id) })
    }

    /// `model org/name` or `dataset org/name`, as messages say it.
    pub(crate) fn spoken(&self) -> String {
        format!("{} {}", if self.is_dataset() { "dataset" } else { "model" }, self.name())
    }

    /// Empty for repositories without an organisation.
    pub(crate) fn author(&self) -> &str {
        self.name().split_once('/').map_or("", |(author, _)| author)
    }

    pub(crate) fn file(&self, path: &str) -> Option<&RepoFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }

    /// Whether `revision` names this revision: by branch, tag, full or abbreviated sha.
    pub(crate) fn has_revision(&self, revision: &str) -> bool {
        match &self.log {
            Some(log) => log.find(revision).is_some_and(|commit| commit.sha == self.sha),
            None => is_main(revision) || (revision.len() >= 7 && self.sha.starts_with(revision)),
        }
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// Which of its files the CDN knows as `xet_hash`.
    pub(crate) fn content_at(&self, xet_hash: &str) -> Option<usize> {
        self.files.iter().position(|file| file.is_content(xet_hash))
    }
}

impl RepoFile {
    /// Whether the CDN knows it as `xet_hash`.
    pub(crate) fn is_content(&self, xet_hash: &str) -> bool {
        self.blob.lfs.as_ref().is_some_and(|lfs| lfs.xet_hash == xet_hash)
    }

    /// Names the content in resolve answers: sha256 under LFS, git's sha1 otherwise.
    pub(crate) fn etag(&self) -> &str {
        self.blob.lfs.as_ref().map_or(&self.blob.oid, |lfs| &lfs.sha256)
    }
}
