//! The files of a repository: which hold weights, which of those are opened, what that costs.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::spread::spread;
use super::{PlanError, PlanSettings};
use crate::checkpoint::container::ComponentFiles;
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
pub fn requests<'a>(
    files: &[String],
    components: impl Iterator<Item = &'a ComponentFiles>,
    settings: &PlanSettings,
    small: SmallFiles,
) -> u64 {
    let has = |name: &str| files.iter().any(|f| f == name);
    let most = settings.max_shards.max(1);
    let (mut weights, mut is_whole) = (0, true);
    for component in components {
        let (index, shards) = match component {
            ComponentFiles::Named(paths) => (0, paths.len()),
            ComponentFiles::Index(index) => (1, shards_beside(index, files)),
        };
        weights += index + shards.min(most) as u64;
        is_whole &= shards <= most;
    }
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let tokenizer = 2 * files_to_read(&names).into_iter().filter(|name| has(name)).count() as u64;
    let beside = match small {
        SmallFiles::All => u64::from(has("config.json")) + tokenizer,
        SmallFiles::Needed => u64::from(!is_whole && has("config.json")),
    };
    weights + beside
}

/// Files that may be shards of this index: `model.safetensors.index.json` lists `*-of-*.safetensors`.
fn shards_beside(index: &str, files: &[String]) -> usize {
    let listed = index.strip_suffix(".index.json").unwrap_or(index);
    let ending = listed.rfind('.').map_or(listed, |dot| &listed[dot..]);
    files.iter().filter(|file| file.contains("-of-") && file.ends_with(ending)).count()
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
    let naming = naming(index.weight_map.keys().map(String::as_str));
    let ends = index.weight_map.iter().filter_map(|(tensor, shard)| {
        let role = naming.position(tensor)?.role;
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

/// How the tensors with these names, packed or not, are named.
fn naming<'a>(names: impl Iterator<Item = &'a str>) -> Naming {
    let both: Vec<Cow<'a, str>> =
        names.flat_map(|name| [Cow::Borrowed(name), Cow::Owned(packed::plain_name(name))]).collect();
    Naming::of(both.iter().map(|name| &**name))
}

/// The number of layers that tensor names tell of.
pub fn layers<'a>(names: impl Iterator<Item = &'a str>) -> u16 {
    naming(names).depth().unwrap_or(0)
}
