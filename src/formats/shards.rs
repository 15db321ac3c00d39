//! `model.safetensors.index.json`: which tensor lies in which shard.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Limits;

/// The shard index of a checkpoint.
#[derive(Debug)]
pub struct ShardIndex {
    /// Tensor name to shard file name.
    pub weight_map: BTreeMap<String, String>,
    /// Bytes of all tensors, as the file claims; self-reported, used for the report only.
    pub total_size: Option<u64>,
}

/// Why an index file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ShardIndexError {
    /// Not the JSON that the format asks for.
    #[error("not a shard index: {0}")]
    Json(#[from] serde_json::Error),
    /// The index maps no tensor.
    #[error("the shard index maps no tensor")]
    Empty,
    /// More shards or tensors than [`Limits`] allows.
    #[error("{what}: {found}, at most {limit} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many the file has.
        found: usize,
        /// How many are read.
        limit: usize,
    },
    /// A shard name that is not a plain file name beside the index.
    #[error("shard name {0:?} is not a plain file name")]
    ShardName(String),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: RawMetadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct RawMetadata {
    #[serde(default)]
    total_size: serde_json::Value,
}

impl ShardIndex {
    /// Parses and checks an index file.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, ShardIndexError> {
        let raw: Raw = serde_json::from_slice(json)?;
        let tensors = raw.weight_map.len();
        if tensors == 0 {
            return Err(ShardIndexError::Empty);
        }
        if tensors > limits.tensors {
            return Err(ShardIndexError::TooMany {
                what: "tensors in the index",
                found: tensors,
                limit: limits.tensors,
            });
        }
        let shards: BTreeSet<&str> = raw.weight_map.values().map(String::as_str).collect();
        if shards.len() > limits.shards {
            return Err(ShardIndexError::TooMany {
                what: "shards",
                found: shards.len(),
                limit: limits.shards,
            });
        }
        for name in shards {
            // The name becomes part of a path and of a URL.
            let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
            if !plain || name.len() > limits.name_bytes {
                return Err(ShardIndexError::ShardName(name.chars().take(80).collect()));
            }
        }
        Ok(Self { weight_map: raw.weight_map, total_size: raw.metadata.total_size.as_u64() })
    }

    /// The distinct shard files, in name order.
    pub fn shards(&self) -> Vec<String> {
        self.weight_map.values().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_an_index() {
        let json = br#"{"metadata":{"total_size":12,"total_parameters":"3"},"weight_map":{"a":"m-00001-of-00002.safetensors","b":"m-00002-of-00002.safetensors","c":"m-00001-of-00002.safetensors"}}"#;
        let index = ShardIndex::parse(json, &Limits::default()).unwrap();
        assert_eq!(index.shards(), ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]);
        assert_eq!(index.total_size, Some(12));
    }

    #[test]
    fn refuses_names_that_leave_the_folder() {
        for name in ["../x.safetensors", "/etc/passwd", "a/b", "", ".hidden", "a\\\\b"] {
            let json = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
            assert!(
                matches!(
                    ShardIndex::parse(json.as_bytes(), &Limits::default()),
                    Err(ShardIndexError::ShardName(_))
                ),
                "{name:?} was accepted"
            );
        }
    }

    #[test]
    fn refuses_an_empty_map_and_other_json() {
        let limits = Limits::default();
        assert!(matches!(ShardIndex::parse(br#"{"weight_map":{}}"#, &limits), Err(ShardIndexError::Empty)));
        assert!(matches!(ShardIndex::parse(b"[1,2]", &limits), Err(ShardIndexError::Json(_))));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ShardIndex::parse(&bytes, &Limits::default());
        }

        #[test]
        fn never_panics_on_json_like_input(json in r#"\{("(metadata|weight_map|x)":(\{("(a|total_size)":("[a./]{0,4}"|-?[0-9]{1,30}|\[\]),?){0,3}\}|\[\]|null),?){0,3}\}"#) {
            let _ = ShardIndex::parse(json.as_bytes(), &Limits::default());
        }

        #[test]
        fn an_accepted_shard_stays_in_its_folder(names in prop::collection::vec(r"[ab./\\~\x00]{0,6}", 1..4)) {
            let map: BTreeMap<usize, &String> = names.iter().enumerate().collect();
            let json = serde_json::json!({ "weight_map": map }).to_string();
            if let Ok(index) = ShardIndex::parse(json.as_bytes(), &Limits::default()) {
                for shard in index.shards() {
                    let parts: Vec<_> = Path::new(&shard).components().collect();
                    prop_assert!(matches!(parts[..], [Component::Normal(part)] if part == shard.as_str()));
                }
            }
        }
    }
}
