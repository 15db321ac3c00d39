//! `model.safetensors.index.json`: which tensor lies in which shard.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Limits;
use super::json::{self, JsonError};

/// The shard index of a checkpoint.
#[derive(Clone, Debug)]
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
    Json(#[from] JsonError),
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
    /// Whatever there is: `null` and lists occur.
    #[serde(default)]
    metadata: serde_json::Value,
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Parses and checks an index file.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, ShardIndexError> {
        let mut raw: Raw = json::parse(json)?;
        // Python's paths do not mind where a name begins.
        for name in raw.weight_map.values_mut() {
            let plain = name.trim_start_matches("./").trim_start_matches(".\\").len();
            name.drain(..name.len() - plain);
        }
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
        Ok(Self {
            weight_map: raw.weight_map,
            total_size: raw.metadata.get("total_size").and_then(serde_json::Value::as_u64),
        })
    }

    /// The same with the paths of the shards, where the index lies in a folder: empty, or with a `/` at its end.
    #[must_use]
    pub fn in_folder(mut self, folder: &str) -> Self {
        for shard in self.weight_map.values_mut() {
            shard.insert_str(0, folder);
        }
        self
    }

    /// The distinct shard files, in name order.
    pub fn shards(&self) -> Vec<String> {
        self.weight_map.values().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The name of a shard: `model-00001-of-00003.safetensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardName<'a> {
    before: &'a str,
    digits: &'a str,
    /// Which shard it is, usually counted from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// From the `-of-` to the end.
    after: &'a str,
}

impl<'a> ShardName<'a> {
    /// Reads a name; `None` where it is none of a shard.
    pub fn parse(name: &'a str) -> Option<Self> {
        let between = name.rfind("-of-").or_else(|| name.rfind("_of_"))?;
        let (head, after) = name.split_at(between);
        let before = head.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = head.strip_prefix(before)?;
        let rest = after.get("-of-".len()..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, of) = (digits.parse().ok()?, rest.get(..end)?.parse().ok()?);
        Some(Self { before, digits, number, of, after })
    }

    /// What all shards of a set have in common, e.g. `model`.
    pub fn stem(&self) -> &'a str {
        self.before.trim_end_matches(['-', '_', '.'])
    }

    /// What follows the numbers, e.g. `.safetensors`.
    pub fn ending(&self) -> &'a str {
        self.after.trim_start_matches(|c: char| c != '.')
    }

    /// Whether both are shards of one set.
    pub fn is_with(&self, other: &Self) -> bool {
        (self.before, self.of, self.after) == (other.before, other.of, other.after)
    }

    /// The name of another shard of the set.
    fn sibling(&self, number: usize) -> String {
        format!("{}{number:0width$}{}", self.before, self.after, width = self.digits.len())
    }
}

/// Shards of the set of these files that are not among them, by name. Of a set that claims more than `most` shards none
/// is named.
pub fn missing(files: &[String], most: usize) -> Vec<String> {
    // A folder may have such a name, too.
    let shards: Vec<(&str, ShardName<'_>)> = files
        .iter()
        .filter_map(|file| {
            let (folder, name) = file.split_at(file.rfind('/').map_or(0, |slash| slash + 1));
            Some((folder, ShardName::parse(name)?))
        })
        .collect();
    let Some((folder, first)) = shards.first().filter(|(_, first)| first.of <= most) else {
        return Vec::new();
    };
    let there: BTreeSet<usize> = shards.iter().map(|(_, shard)| shard.number).collect();
    let start = usize::from(!there.contains(&0));
    let absent = (start..).take(first.of).filter(|number| !there.contains(number));
    absent.map(|number| format!("{folder}{}", first.sibling(number))).collect()
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
    fn reads_what_python_reads() {
        let map = r#""weight_map":{"a":"./m-1.safetensors","b":"m-1.safetensors","c":".\\m-1.safetensors"}"#;
        for json in [
            format!(r#"{{"metadata":null,{map}}}"#),
            format!("{{{map}}}"),
            format!(r#"{{"metadata":{{"total_size":Infinity}},{map}}}"#),
            format!(r#"{{"metadata":{{"total_size":NaN,"x":-Infinity}},{map}}}"#),
        ] {
            let index = ShardIndex::parse(json.as_bytes(), &Limits::default()).unwrap();
            assert_eq!((index.shards(), index.total_size), (vec!["m-1.safetensors".to_owned()], None));
        }
    }

    #[test]
    fn refuses_an_empty_map_and_other_json() {
        let limits = Limits::default();
        assert!(matches!(ShardIndex::parse(br#"{"weight_map":{}}"#, &limits), Err(ShardIndexError::Empty)));
        assert!(matches!(ShardIndex::parse(b"[1,2]", &limits), Err(ShardIndexError::Json(_))));
    }

    #[test]
    fn names_of_shards() {
        let parse = |name| {
            ShardName::parse(name).map(|n| (n.stem().to_owned(), n.number, n.of, n.ending().to_owned()))
        };
        let of =
            |stem: &str, number, of, ending: &str| Some((stem.to_owned(), number, of, ending.to_owned()));
        assert_eq!(parse("model-00002-of-00003.safetensors"), of("model", 2, 3, ".safetensors"));
        assert_eq!(parse("a/model.fp16-2-of-3.safetensors"), of("a/model.fp16", 2, 3, ".safetensors"));
        assert_eq!(parse("model-00002-of-00003.fp16.safetensors"), of("model", 2, 3, ".fp16.safetensors"));
        assert_eq!(parse("consolidated.00_of_02.safetensors"), of("consolidated", 0, 2, ".safetensors"));
        for name in [
            "model.safetensors",
            "best-of-breed.safetensors",
            "x-1-of-.safetensors",
            "-of-",
            "1-of-99999999999999999999999",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn shards_that_are_not_there() {
        let of = |files: &[&str]| missing(&files.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>(), 10_000);
        assert_eq!(
            of(&["m-00001-of-00004.x", "m-00003-of-00004.x"]),
            ["m-00002-of-00004.x", "m-00004-of-00004.x"]
        );
        assert_eq!(of(&["m-0-of-2.x"]), ["m-1-of-2.x"]);
        assert!(
            of(&["m-1-of-1.x"]).is_empty() && of(&["m.x"]).is_empty() && of(&["m-1-of-99999.x"]).is_empty()
        );
    }

    proptest! {
        #[test]
        fn a_set_and_what_is_missing_of_it_are_all(of in 1usize..40, there in prop::collection::btree_set(1usize..40, 1..40)) {
            let there: Vec<String> =
                there.into_iter().filter(|n| *n <= of).map(|n| format!("m-{n:05}-of-{of:05}.x")).collect();
            let mut all = missing(&there, 100);
            if !there.is_empty() {
                all.extend(there);
                all.sort();
                prop_assert_eq!(all, (1..=of).map(|n| format!("m-{n:05}-of-{of:05}.x")).collect::<Vec<_>>());
            }
        }

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
