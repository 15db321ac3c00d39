//! The files of a repository: which hold weights, which of those are opened, what that costs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter;

use serde::{Deserialize, Serialize};

use super::spread::spread;
use super::{PlanError, PlanSettings};
use crate::checkpoint::container::{Component, ComponentFiles};
use crate::formats::adapter_config::ADAPTER_CONFIG;
use crate::formats::tokenizer::files_to_read;
use crate::formats::{ShardIndex, packed};
use crate::signals::roles::{Naming, Role};

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

/// Requests to the Hub that reading these components of a repository takes, as far as the names of its files tell: one
/// a file, and two for each of the tokenizer, which the Hub answers with a redirect to itself unless they are large.
/// What only headers can settle is opened as well.
pub fn requests<'a>(
    files: &[String],
    components: impl Iterator<Item = &'a Component>,
    settings: &PlanSettings,
    small: SmallFiles,
) -> u64 {
    let most = settings.max_shards.max(1);
    let (mut weights, mut is_whole, mut folders) = (0, true, BTreeSet::new());
    for component in components {
        folders.insert(component.files.folder());
        for candidate in iter::once(&component.files).chain(component.unsettled().map(|rival| &rival.files)) {
            let (index, shards) = match candidate {
                ComponentFiles::Named(paths) => (0, paths.len()),
                ComponentFiles::Index(index) => (1, shards_beside(index, files)),
            };
            weights += index + shards.min(most) as u64;
            is_whole &= shards <= most;
        }
    }
    let beside = |folder: &str| {
        let config = u64::from(config_file(files, folder).is_some());
        match small {
            SmallFiles::All => {
                let adapter = files.contains(&format!("{folder}{ADAPTER_CONFIG}"));
                config + u64::from(adapter) + 2 * tokenizer_files(files, folder).len() as u64
            }
            SmallFiles::Needed => u64::from(!is_whole) * config,
        }
    };
    let beside: u64 = folders.iter().map(|folder| beside(folder)).sum();
    weights + beside
}

/// The config.json of weights in this folder, which is empty or ends in `/`: beside them, else at the top.
pub fn config_file(files: &[String], folder: &str) -> Option<String> {
    let has = |path: &String| files.contains(path);
    [format!("{folder}config.json"), "config.json".to_owned()].into_iter().find(has)
}

/// The files of the tokenizer of weights in this folder: beside them, else where a pipeline has those of its text
/// encoders, else at the top.
pub fn tokenizer_files(files: &[String], folder: &str) -> Vec<String> {
    let within = |folder: &str| -> Vec<String> {
        let names: Vec<&str> = files.iter().filter_map(|file| file.strip_prefix(folder)).collect();
        files_to_read(&names).into_iter().map(|name| format!("{folder}{name}")).collect()
    };
    let of_pipeline = folder.replace("text_encoder", "tokenizer");
    let mut folders = [folder, &of_pipeline, ""].into_iter().map(within);
    folders.find(|there| !there.is_empty()).unwrap_or_default()
}

/// How the names of an index's shards end: `model.safetensors.index.json` lists `*.safetensors`.
fn ending_of(index: &str) -> &str {
    let listed = index.strip_suffix(".index.json").unwrap_or(index);
    listed.rfind('.').and_then(|dot| listed.get(dot..)).unwrap_or(listed)
}

/// Files that may be shards of this index: `model.safetensors.index.json` lists `*-of-*.safetensors`.
fn shards_beside(index: &str, files: &[String]) -> usize {
    let ending = ending_of(index);
    files.iter().filter(|file| file.contains("-of-") && file.ends_with(ending)).count()
}

/// The shards of an index at this path that are among the files, and those that are not. A file of another format is no
/// shard of it.
pub fn there(index: &ShardIndex, path: &str, files: &[String]) -> (Vec<String>, Vec<String>) {
    let ending = ending_of(path).to_ascii_lowercase();
    let present: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let is_there =
        |shard: &String| present.contains(shard.as_str()) && shard.to_ascii_lowercase().ends_with(&ending);
    index.shards().into_iter().partition(is_there)
}

/// Chooses the shards to open of those that are there: all, or the ones with embedding and final norm and an even spread
/// of the rest. `files` are those that are there.
pub fn shards(
    index: &ShardIndex,
    files: &[String],
    settings: &PlanSettings,
) -> Result<Vec<String>, PlanError> {
    let present: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let is_there = |shard: &String| present.contains(shard.as_str());
    let (all, missing): (Vec<String>, Vec<String>) = index.shards().into_iter().partition(is_there);
    if let Some(shard) = missing.first().filter(|_| all.is_empty()) {
        return Err(PlanError::MissingShards {
            shard: shard.clone(),
            missing: missing.len(),
            shards: missing.len(),
        });
    }
    let naming = naming(index.weight_map.keys().map(String::as_str));
    let ends = index.weight_map.iter().filter_map(|(tensor, shard)| {
        let role = naming.position(tensor)?.role;
        matches!(role, Role::Embedding | Role::FinalNorm).then(|| shard.clone())
    });
    Ok(thin(&all, ends.filter(is_there), settings))
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

/// How the tensors with these names, packed or not, are named.
fn naming<'a>(names: impl Iterator<Item = &'a str>) -> Naming {
    let mut both: Vec<Cow<'a, str>> = Vec::new();
    for name in names {
        let plain = packed::plain_name(name);
        both.extend((plain != name).then_some(Cow::Owned(plain)));
        both.push(Cow::Borrowed(name));
    }
    Naming::of(both.iter().map(|name| &**name))
}

/// The number of layers that tensor names tell of.
pub fn layers<'a>(names: impl Iterator<Item = &'a str>) -> u16 {
    naming(names).depth().unwrap_or(0)
}
