//! The files of a repository: which hold weights, which of those are opened, what that costs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::spread::spread;
use super::{PlanError, PlanSettings};
use crate::formats::packed;
use crate::formats::tokenizer::files_to_read;
use crate::formats::{Header, ShardIndex, TensorInfo};
use crate::signals::roles::{self, Role};

/// Where the weights of a repository are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// These files, in the order of the model.
    Files(Vec<String>),
    /// Whatever this index file lists.
    Index(String),
}

/// Which of the small files beside the weights are read. Each costs one or two counted requests, and reading
/// config.json is counted by the Hub as a download of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmallFiles {
    /// config.json and the tokenizer.
    #[default]
    All,
    /// config.json, where the weights are packed or not all shards are opened: it says how, and how deep the model is.
    /// Else dimensions come from the tensors, the type of the model from the list.
    Needed,
}

/// Chooses the weight files from a repository's file names. An index is named only where the names leave open which
/// files belong together: it costs a request, and of the largest models it is larger than all that is read of them.
pub fn weights(files: &[String]) -> Result<Weights, PlanError> {
    let has = |name: &str| files.iter().any(|f| f == name);
    if has("model.safetensors") {
        return Ok(Weights::Files(vec!["model.safetensors".into()]));
    }
    // Other names at the top level: an index, shards, or one file. Adapters hold deltas, not weights.
    let top = || files.iter().filter(|f| !f.contains('/') && !f.starts_with("adapter_"));
    let index = Some("model.safetensors.index.json".to_owned())
        .filter(|name| has(name))
        .or_else(|| top().find(|f| f.ends_with(".safetensors.index.json")).cloned());
    if let Some(index) = index {
        let prefix = index.strip_suffix(".safetensors.index.json").unwrap_or_default();
        return Ok(complete_set(files, prefix).map_or(Weights::Index(index), Weights::Files));
    }
    let mut found: Vec<String> = top().filter(|f| f.ends_with(".safetensors")).cloned().collect();
    found.sort();
    let shards: Vec<String> = found.iter().filter(|f| f.contains("-of-")).cloned().collect();
    if !shards.is_empty() {
        return Ok(Weights::Files(shards));
    }
    if let Some(first) = found.into_iter().next() {
        return Ok(Weights::Files(vec![first]));
    }
    let other = [".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".onnx", ".msgpack", ".ckpt"];
    Err(PlanError::NoWeights { found: files.iter().find(|f| other.iter().any(|e| f.ends_with(e))).cloned() })
}

/// The files `PREFIX-00001-of-0000N.safetensors` to `PREFIX-0000N-of-0000N.safetensors`, where all are there, and no
/// shard of another set is.
fn complete_set(files: &[String], prefix: &str) -> Option<Vec<String>> {
    let number = |file: &String| {
        let (number, of) = file.strip_prefix(prefix)?.strip_prefix('-')?.split_once("-of-")?;
        Some((number.parse::<usize>().ok()?, of.strip_suffix(".safetensors")?.parse::<usize>().ok()?))
    };
    let mut shards: Vec<((usize, usize), &String)> =
        files.iter().filter_map(|file| Some((number(file)?, file))).collect();
    shards.sort();
    let of = shards.len();
    let is_complete = shards.iter().zip(1..).all(|((found, _), number)| *found == (number, of));
    (of > 0 && is_complete).then(|| shards.into_iter().map(|(_, file)| file.clone()).collect())
}

/// Requests to the Hub that reading a repository with these files takes, as far as their names tell: one a file, and
/// two for each of the tokenizer, which the Hub answers with a redirect to itself unless they are large.
pub fn requests(files: &[String], settings: &PlanSettings, small: SmallFiles) -> u64 {
    let has = |name: &str| files.iter().any(|f| f == name);
    let most = settings.max_shards.max(1);
    let shards = || files.iter().filter(|f| f.contains("-of-") && f.ends_with(".safetensors")).count();
    let (weights, is_whole) = match weights(files) {
        Ok(Weights::Files(paths)) => (paths.len().min(most) as u64, paths.len() <= most),
        Ok(Weights::Index(_)) => (1 + shards().min(most) as u64, shards() <= most),
        Err(_) => (0, true),
    };
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let tokenizer = 2 * files_to_read(&names).into_iter().filter(|name| has(name)).count() as u64;
    let beside = match small {
        SmallFiles::All => u64::from(has("config.json")) + tokenizer,
        SmallFiles::Needed => u64::from(!is_whole && has("config.json")),
    };
    weights + beside
}

/// Whether weights with these headers can only be read with what config.json says of how they are packed.
pub fn needs_config(headers: &[Header]) -> bool {
    // No layout packs into plain floats or into 64 bits; buffers of other types have no role.
    let is_odd = |t: &&TensorInfo| !t.dtype.is_some_and(|d| d.is_plain_float() || d.bits() >= 64);
    headers
        .iter()
        .flat_map(|header| header.tensors.iter().filter(is_odd))
        .any(|tensor| roles::position(&packed::plain_name(&tensor.name)).is_some())
}

/// Chooses the shards to open: all, or the ones with embedding and final norm and an even spread of the rest.
/// `files` are the repository's file names.
pub fn shards(
    index: &ShardIndex,
    files: &[String],
    settings: &PlanSettings,
) -> Result<Vec<String>, PlanError> {
    let all = index.shards();
    let present: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let missing: Vec<&String> = all.iter().filter(|s| !present.contains(s.as_str())).collect();
    if let Some(shard) = missing.first() {
        return Err(PlanError::MissingShards {
            shard: (*shard).clone(),
            missing: missing.len(),
            shards: all.len(),
        });
    }
    let ends = index.weight_map.iter().filter_map(|(tensor, shard)| {
        let role = roles::position(tensor)?.role;
        matches!(role, Role::Embedding | Role::FinalNorm).then(|| shard.clone())
    });
    Ok(thin(&all, ends, settings))
}

/// At most `max_shards` of the files: the first ones of `preferred`, then an even spread of the rest.
pub fn thin(all: &[String], preferred: impl Iterator<Item = String>, settings: &PlanSettings) -> Vec<String> {
    let most = settings.max_shards.max(1);
    if all.len() <= most {
        return all.to_vec();
    }
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    for file in preferred.chain(spread(all.len()).map(|i| all[i].clone())) {
        if chosen.len() == most {
            break;
        }
        chosen.insert(file);
    }
    chosen.into_iter().collect()
}

/// The number of layers that tensor names tell of.
pub fn layers<'a>(names: impl Iterator<Item = &'a str>) -> u16 {
    let position = |name| roles::position(name).or_else(|| roles::position(&packed::plain_name(name)));
    names
        .filter_map(position)
        .filter(|p| p.is_main() && p.role.is_matrix())
        .map(|p| p.layer + 1)
        .max()
        .unwrap_or(0)
}
