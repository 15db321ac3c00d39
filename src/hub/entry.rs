//! One model as the Hub describes it, in a list or alone.
//!
//! Reading is tolerant: only `_id` and `id` are required, because without them a model cannot be
//! told apart from others. Any other field may be missing, and a field of an unexpected shape is
//! left out and *named* in [`RepoEntry::odd_fields`], so a change of the API shows up in the
//! reports instead of failing a thousand models or passing unseen.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::{InvalidId, RepoId, is_commit_sha};
use crate::formats::text::printable;

/// One model repository. Serialised, it lacks `odd_fields`, which serve the reader of the list only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepoEntry {
    /// `_id`: stays the same when the model is renamed. Names are re-used, this is not.
    pub object_id: String,
    /// The current name.
    pub id: RepoId,
    /// Head commit of the default branch (or of the revision asked for): 40 hex digits.
    pub sha: Option<String>,
    /// When the repository was created.
    pub created_at: Option<DateTime<Utc>>,
    /// Date of the head commit. A push with an old date may move this into the past.
    pub last_modified: Option<DateTime<Utc>>,
    /// Only its owner's tokens can read it.
    pub private: Option<bool>,
    /// Whether files can be read only after access was granted.
    pub gated: Option<Gated>,
    /// Closed by the Hub.
    pub disabled: Option<bool>,
    /// All tags, among them `license:...`, `base_model:...`, `region:...`.
    pub tags: Vec<String>,
    /// Task, e.g. `text-generation`.
    pub pipeline_tag: Option<String>,
    /// e.g. `transformers`.
    pub library_name: Option<String>,
    /// Downloads in the last 30 days.
    pub downloads: Option<u64>,
    /// Likes.
    pub likes: Option<u64>,
    /// Paths of all files; `None` when they were not asked for.
    pub siblings: Option<Vec<String>>,
    /// The Hub's own reading of the safetensors headers.
    pub safetensors: Option<Parameters>,
    /// The part of `config.json` the Hub keeps, without the tokenizer's, whose chat template may be
    /// larger than all the rest of the entry; `None` also when it is over the limit, which is then an
    /// odd field.
    pub config: Option<Value>,
    /// Declared parents, from `baseModels`, else from the tags.
    pub base_models: Vec<BaseModel>,
    /// Fields whose value was not of the shape described here, and were left out.
    #[serde(skip)]
    pub odd_fields: Vec<&'static str>,
}

/// Access to the files of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gated {
    /// Open to all who can see it.
    False,
    /// Granted to everybody who asks.
    Auto,
    /// Granted by the owner, one by one.
    Manual,
}

/// Elements stored in a model's safetensors files. Packed 4-bit weights count as their carriers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Elements by dtype name.
    pub by_dtype: BTreeMap<String, u64>,
    /// Elements in total, as stated.
    pub total: Option<u64>,
}

/// A declared parent. Self-reported by the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseModel {
    /// The parent's name as declared; it may not exist.
    pub id: String,
    /// `finetune`, `adapter`, `quantized`, `merge`, where it is known.
    pub relation: Option<String>,
}

/// An item of a list that describes no model we could name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// Not a JSON object.
    #[error("not an object")]
    NotAnObject,
    /// `_id` is missing, not a text, or empty.
    #[error("no usable _id (id {id:?})")]
    NoObjectId {
        /// The name, if it has one.
        id: Option<String>,
    },
    /// `id` is missing or not a text.
    #[error("no id (_id {object_id:?})")]
    NoId {
        /// Its `_id`.
        object_id: String,
    },
    /// `id` is not a repository name.
    #[error("bad id (_id {object_id:?})")]
    BadId {
        /// Its `_id`.
        object_id: String,
        /// What is wrong.
        source: InvalidId,
    },
}

impl RepoEntry {
    /// A repository of which nothing is known but its name, which stands for its immutable id, too.
    pub fn named(id: RepoId) -> Self {
        Self {
            object_id: id.as_str().to_owned(),
            id,
            sha: None,
            created_at: None,
            last_modified: None,
            private: None,
            gated: None,
            disabled: None,
            tags: Vec::new(),
            pipeline_tag: None,
            library_name: None,
            downloads: None,
            likes: None,
            siblings: None,
            safetensors: None,
            config: None,
            base_models: Vec::new(),
            odd_fields: Vec::new(),
        }
    }

    /// Reads one item. `config_cap` bounds `config`, in bytes of its strings and keys.
    ///
    /// # Errors
    /// [`Rejected`] when the item cannot be named.
    pub fn read(value: Value, config_cap: usize) -> Result<Self, Rejected> {
        let Value::Object(object) = value else { return Err(Rejected::NotAnObject) };
        let mut fields = Fields { object, odd: Vec::new() };
        let id = fields.take("id", text);
        let object_id = fields.take("_id", text).filter(|id| !id.is_empty());
        let Some(object_id) = object_id else {
            return Err(Rejected::NoObjectId { id: id.map(|id| printable(id.as_bytes())) });
        };
        let object_id = printable(object_id.as_bytes());
        let Some(id) = id else { return Err(Rejected::NoId { object_id }) };
        let id = match RepoId::try_from(id) {
            Ok(id) => id,
            Err(source) => return Err(Rejected::BadId { object_id, source }),
        };

        let tags = fields.take("tags", texts).unwrap_or_default();
        let declared = fields.take("baseModels", base_models);
        Ok(Self {
            sha: fields.take("sha", |v| text(v).filter(|sha| is_commit_sha(sha))),
            created_at: fields.take("createdAt", |v| date(&v)),
            last_modified: fields.take("lastModified", |v| date(&v)),
            private: fields.take("private", |v| v.as_bool()),
            gated: fields.take("gated", gated),
            disabled: fields.take("disabled", |v| v.as_bool()),
            pipeline_tag: fields.take("pipeline_tag", text),
            library_name: fields.take("library_name", text),
            downloads: fields.take("downloads", |v| v.as_u64()),
            likes: fields.take("likes", |v| v.as_u64()),
            siblings: fields.take("siblings", siblings),
            safetensors: fields.take("safetensors", |v| parameters(&v)),
            config: fields.take("config", |v| config(v).filter(|config| weight(config) <= config_cap)),
            base_models: declared.unwrap_or_else(|| parents_in_tags(&tags)),
            tags,
            odd_fields: fields.odd,
            object_id,
            id,
        })
    }
}

/// The fields of an object, taken one by one.
struct Fields {
    object: Map<String, Value>,
    odd: Vec<&'static str>,
}

impl Fields {
    /// Absent and `null` are `None`; a value `shape` cannot read is `None`, too, and is noted.
    fn take<T>(&mut self, name: &'static str, shape: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = self.object.remove(name).filter(|value| !value.is_null())?;
        let shaped = shape(value);
        if shaped.is_none() {
            self.odd.push(name);
        }
        shaped
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.into_iter().map(text).collect(),
        _ => None,
    }
}

fn date(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|date| date.to_utc())
}

fn gated(value: Value) -> Option<Gated> {
    match value {
        Value::Bool(false) => Some(Gated::False),
        Value::String(kind) if kind == "auto" => Some(Gated::Auto),
        Value::String(kind) if kind == "manual" => Some(Gated::Manual),
        _ => None,
    }
}

fn config(mut value: Value) -> Option<Value> {
    value.as_object_mut()?.remove("tokenizer_config");
    Some(value)
}

fn siblings(value: Value) -> Option<Vec<String>> {
    let Value::Array(items) = value else { return None };
    items.into_iter().map(|mut item| text(item.get_mut("rfilename")?.take())).collect()
}

fn parameters(value: &Value) -> Option<Parameters> {
    let total = value.get("total").and_then(Value::as_u64);
    let by_dtype = match value.get("parameters") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(counts)) => counts
            .iter()
            .map(|(dtype, count)| Some((dtype.clone(), count.as_u64()?)))
            .collect::<Option<_>>()?,
        Some(_) => return None,
    };
    (total.is_some() || !by_dtype.is_empty()).then_some(Parameters { by_dtype, total })
}

/// `{"relation": "...", "models": [{"id": "..."}]}`
fn base_models(mut value: Value) -> Option<Vec<BaseModel>> {
    let relation = value.get_mut("relation").map(Value::take).and_then(text);
    let Value::Array(models) = value.get_mut("models")?.take() else { return None };
    let parent = |mut model: Value| {
        let id = text(model.get_mut("id")?.take())?;
        Some(BaseModel { id, relation: relation.clone() })
    };
    models.into_iter().map(parent).collect()
}

/// `base_model:org/name` and, more precisely, `base_model:relation:org/name`.
fn parents_in_tags(tags: &[String]) -> Vec<BaseModel> {
    let mut parents = BTreeMap::<&str, Option<&str>>::new();
    for tag in tags {
        let Some(rest) = tag.strip_prefix("base_model:") else { continue };
        let (relation, id) = rest.split_once(':').map_or((None, rest), |(relation, id)| (Some(relation), id));
        let known = parents.entry(id).or_default();
        *known = relation.or(*known);
    }
    let owned = |(id, relation): (&str, Option<&str>)| BaseModel {
        id: id.into(),
        relation: relation.map(Into::into),
    };
    parents.into_iter().map(owned).collect()
}

/// Bytes of all strings and keys, and eight for each other value.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn read(value: Value) -> RepoEntry {
        RepoEntry::read(value, 1000).unwrap()
    }

    #[test]
    fn all_fields() {
        let entry = read(json!({
            "_id": "66944f1f", "id": "Qwen/Qwen3", "sha": SHA,
            "createdAt": "2025-04-27T03:52:45.000Z", "lastModified": "2025-07-26T03:45:13.000Z",
            "private": false, "gated": "auto", "disabled": false, "downloads": 7, "likes": 3,
            "tags": ["safetensors", "base_model:tag/only"], "pipeline_tag": "text-generation", "library_name": "transformers",
            "siblings": [{"rfilename": "config.json"}, {"rfilename": "a.safetensors"}],
            "safetensors": {"parameters": {"BF16": 235_093_634_560_u64}, "total": 235_093_634_560_u64},
            "config": {"model_type": "qwen3_moe", "tokenizer_config": {"chat_template": "x".repeat(5000)}},
            "baseModels": {"relation": "quantized", "models": [{"_id": "1", "id": "org/base"}]},
            "trendingScore": 9,
        }));
        assert_eq!(entry.odd_fields, [""; 0]);
        assert_eq!(
            (entry.object_id.as_str(), entry.id.as_str(), entry.sha.as_deref()),
            ("66944f1f", "Qwen/Qwen3", Some(SHA))
        );
        assert_eq!(entry.created_at.unwrap().timestamp(), 1_745_725_965);
        assert!(entry.last_modified > entry.created_at);
        assert_eq!(
            (entry.private, entry.gated, entry.disabled),
            (Some(false), Some(Gated::Auto), Some(false))
        );
        assert_eq!((entry.downloads, entry.likes), (Some(7), Some(3)));
        assert_eq!(entry.siblings.unwrap(), ["config.json", "a.safetensors"]);
        assert_eq!(entry.safetensors.unwrap().by_dtype["BF16"], 235_093_634_560);
        assert_eq!(entry.config, Some(json!({"model_type": "qwen3_moe"})));
        assert_eq!(
            entry.base_models,
            [BaseModel { id: "org/base".into(), relation: Some("quantized".into()) }]
        );
    }

    #[test]
    fn two_fields_are_enough() {
        let entry = read(json!({"_id": "1", "id": "gpt2"}));
        assert_eq!((entry.sha, entry.siblings, entry.gated, entry.downloads), (None, None, None, None));
        assert!(entry.odd_fields.is_empty() && entry.tags.is_empty());
    }

    #[test]
    fn wrong_shapes_are_named_not_fatal() {
        let entry = read(json!({
            "_id": "1", "id": "a/b", "sha": "short", "createdAt": 5, "lastModified": "yesterday", "private": "no",
            "gated": true, "disabled": 0, "tags": ["x", 1], "pipeline_tag": [], "library_name": {}, "downloads": -1,
            "likes": 1.5, "siblings": [{"name": "x"}], "safetensors": {"parameters": {"F32": "many"}}, "config": "big",
            "baseModels": ["a"],
        }));
        assert_eq!(entry.odd_fields.len(), 15, "{:?}", entry.odd_fields);
        let nulls = read(json!({"_id": "1", "id": "a/b", "sha": null, "config": null, "safetensors": null}));
        assert!(nulls.odd_fields.is_empty());
    }

    #[test]
    fn config_is_bounded() {
        let entry = read(json!({"_id": "1", "id": "a/b", "config": {"chat_template": "x".repeat(2000)}}));
        assert_eq!((entry.config, entry.odd_fields), (None, vec!["config"]));
    }

    #[test]
    fn parents_from_tags() {
        let tags = ["base_model:o/a", "base_model:finetune:o/a", "base_model:o/b", "license:mit"];
        let entry = read(json!({"_id": "1", "id": "a/b", "tags": tags}));
        let parents: Vec<_> =
            entry.base_models.iter().map(|p| (p.id.as_str(), p.relation.as_deref())).collect();
        assert_eq!(parents, [("o/a", Some("finetune")), ("o/b", None)]);
    }

    #[test]
    fn the_nameless_are_rejected() {
        let reject = |value| RepoEntry::read(value, 0).unwrap_err();
        assert_eq!(reject(json!([])), Rejected::NotAnObject);
        assert_eq!(reject(json!({"id": "a/b"})), Rejected::NoObjectId { id: Some("a/b".into()) });
        assert_eq!(reject(json!({"_id": "1"})), Rejected::NoId { object_id: "1".into() });
        assert!(matches!(reject(json!({"_id": "1", "id": "a/b/c"})), Rejected::BadId { .. }));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z:/]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key =
                prop_oneof![Just("id"), Just("models"), Just("rfilename"), Just("parameters"), Just("total")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((key, inner), 0..4).prop_map(|fields| {
                    Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_field_can_fail_an_entry(
            name in prop_oneof![
                Just("sha"), Just("createdAt"), Just("gated"), Just("tags"), Just("siblings"),
                Just("safetensors"), Just("config"), Just("baseModels"), Just("downloads")
            ],
            value in any_json(),
        ) {
            let entry = RepoEntry::read(json!({"_id": "1", "id": "a/b", name: value}), 1000);
            prop_assert!(entry.is_ok());
        }
    }
}
