//! The JSON of a repository, field by field.
//!
//! List and single answers differ in which fields they show and which may be asked for with
//! `expand`, not in what a field looks like. A field without a value is left out.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::catalogue::{Bases, Catalogue, Repo, RepoFile, object_id};
use super::refusal::Refusal;
use super::text::timestamp;

/// What `expand` takes on the list; its own error message is this list.
const EXPAND: [&str; 30] = [
    "author",
    "baseModels",
    "cardData",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "downloadsAllTime",
    "evalResults",
    "gated",
    "inference",
    "inferenceProviderMapping",
    "lastModified",
    "library_name",
    "likes",
    "mask_token",
    "model-index",
    "pipeline_tag",
    "private",
    "safetensors",
    "sha",
    "siblings",
    "spaces",
    "tags",
    "transformersInfo",
    "trendingScore",
    "widgetData",
    "gguf",
    "resourceGroup",
    "xetEnabled",
];
/// What it takes in addition on a single model.
const EXPAND_SINGLE: [&str; 2] = ["childrenModelCount", "usedStorage"];

/// Fields of an item of the list without `expand`.
pub(crate) const LISTED: [&str; 9] = [
    "likes",
    "trendingScore",
    "private",
    "downloads",
    "tags",
    "pipeline_tag",
    "library_name",
    "createdAt",
    "modelId",
];
/// What `full=true` adds.
pub(crate) const FULL: [&str; 5] = ["author", "gated", "lastModified", "sha", "siblings"];
/// Fields of a single model without `expand`. `baseModels` and `childrenModelCount` are not among
/// them: a typed client in use cannot decode them.
pub(crate) const SINGLE: [&str; 19] = [
    "modelId",
    "author",
    "private",
    "disabled",
    "gated",
    "sha",
    "lastModified",
    "createdAt",
    "pipeline_tag",
    "library_name",
    "tags",
    "downloads",
    "likes",
    "cardData",
    "config",
    "siblings",
    "spaces",
    "safetensors",
    "usedStorage",
];

/// Fields of a single dataset without `expand`.
pub(crate) const DATASET: [&str; 13] = [
    "author",
    "private",
    "disabled",
    "gated",
    "sha",
    "lastModified",
    "createdAt",
    "tags",
    "downloads",
    "likes",
    "cardData",
    "siblings",
    "usedStorage",
];

/// What `securityStatus=true` adds to a single model.
pub(crate) const SECURITY: &str = "securityRepoStatus";

/// Which of the two answers is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    List,
    Single,
}

/// Checks the names in `expand`; one unknown name fails the request.
pub(crate) fn check<'a>(names: impl Iterator<Item = &'a str>, scope: Scope) -> Result<Vec<&'a str>, Refusal> {
    let further: &[&str] = if scope == Scope::Single { &EXPAND_SINGLE } else { &[] };
    let allowed = || EXPAND.iter().chain(further);
    let mut checked = Vec::new();
    for name in names {
        if !allowed().any(|known| *known == name) {
            let all: Vec<String> = allowed().map(|known| format!("\"{known}\"")).collect();
            return Err(Refusal::BadRequest(format!("✖ Invalid option: expected one of {}", all.join("|"))));
        }
        if !checked.contains(&name) {
            checked.push(name);
        }
    }
    Ok(checked)
}

/// What a field may depend on besides the repository.
pub(crate) struct View<'a> {
    pub(crate) catalogue: &'a Catalogue,
    /// Siblings with sizes and hashes.
    pub(crate) blobs: bool,
    pub(crate) xet: bool,
}

/// A model as an answer shows it: `_id`, `id` and the named fields that have a value. It is written
/// straight from the repository; a page of a thousand would take most of its time to build up and
/// tear down as a tree of values.
pub(crate) struct Item<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) repo: Cow<'a, Repo>,
    pub(crate) names: &'a [&'a str],
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut item = serializer.serialize_map(None)?;
        item.serialize_entry("_id", &self.repo.object_id)?;
        item.serialize_entry("id", self.repo.name())?;
        for name in self.names {
            self.view.write(&mut item, &self.repo, name)?;
        }
        item.end()
    }
}

/// A file among the siblings of an item.
#[derive(Serialize)]
struct Sibling<'a> {
    rfilename: &'a str,
    #[serde(flatten)]
    blob: Option<SiblingBlob<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SiblingBlob<'a> {
    size: u64,
    blob_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs: Option<SiblingLfs<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SiblingLfs<'a> {
    sha256: &'a str,
    size: u64,
    pointer_size: u64,
}

impl View<'_> {
    fn write<M: SerializeMap>(&self, item: &mut M, repo: &Repo, name: &str) -> Result<(), M::Error> {
        match name {
            "modelId" => item.serialize_entry(name, &repo.id),
            "author" if !repo.author().is_empty() => item.serialize_entry(name, repo.author()),
            "sha" => item.serialize_entry(name, &repo.sha),
            "createdAt" => item.serialize_entry(name, &timestamp(repo.created)),
            "lastModified" => item.serialize_entry(name, &timestamp(repo.modified)),
            "private" => item.serialize_entry(name, &repo.private),
            "gated" => item.serialize_entry(name, &repo.gated),
            "disabled" => item.serialize_entry(name, &repo.disabled),
            "downloads" | "downloadsAllTime" => item.serialize_entry(name, &repo.downloads),
            // Nobody watches trends here; likes stand in, so that the default order means something.
            "likes" | "trendingScore" => item.serialize_entry(name, &repo.likes),
            "tags" => item.serialize_entry(name, &repo.tags),
            "pipeline_tag" => optional(item, name, repo.pipeline_tag.as_ref()),
            "library_name" => optional(item, name, repo.library_name.as_ref()),
            "cardData" if !repo.card.is_empty() => item.serialize_entry(name, &repo.card),
            "config" => optional(item, name, repo.config.as_deref()),
            "safetensors" => optional(item, name, repo.parameters.as_ref()),
            "siblings" => item.serialize_entry(name, &self.siblings(repo)),
            "baseModels" => optional(item, name, repo.bases.as_ref().map(|bases| self.base_models(bases))),
            "childrenModelCount" => item.serialize_entry(name, &self.children(repo)),
            "usedStorage" => item.serialize_entry(name, &repo.stored_bytes()),
            "spaces" => item.serialize_entry(name, &json!([])),
            "xetEnabled" => item.serialize_entry(name, &self.xet),
            SECURITY => item.serialize_entry(name, &json!({ "scansDone": false, "filesWithIssues": [] })),
            _ => Ok(()),
        }
    }

    fn siblings<'r>(&self, repo: &'r Repo) -> Vec<Sibling<'r>> {
        let blob = |file: &'r RepoFile| {
            let lfs = file.blob.lfs.as_ref().map(|lfs| SiblingLfs {
                sha256: &lfs.sha256,
                size: file.size,
                pointer_size: lfs.pointer_size,
            });
            SiblingBlob { size: file.size, blob_id: &file.blob.oid, lfs }
        };
        let files = repo.files.iter();
        files.map(|file| Sibling { rfilename: &file.path, blob: self.blobs.then(|| blob(file)) }).collect()
    }

    fn base_models(&self, bases: &Bases) -> Value {
        let model = |id: &String| {
            let known = self.catalogue.repo(id).map(|repo| repo.object_id.clone());
            json!({ "_id": known.unwrap_or_else(|| object_id(id, 0)), "id": id })
        };
        json!({ "relation": bases.relation, "models": bases.models.iter().map(model).collect::<Value>() })
    }

    fn children(&self, repo: &Repo) -> Value {
        let count = |relation: &str| {
            let is_child = |bases: &Bases| bases.relation == relation && bases.models.contains(&repo.id);
            self.catalogue.repos.iter().filter(|other| other.bases.as_ref().is_some_and(is_child)).count()
        };
        json!({
            "adapter": count("adapter"), "merge": count("merge"),
            "quantized": count("quantized"), "finetune": count("finetune"),
        })
    }
}

fn optional<M: SerializeMap, T: Serialize>(
    item: &mut M,
    name: &str,
    value: Option<T>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| item.serialize_entry(name, &value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expand_names() {
        let names = ["sha", "tags", "sha"];
        assert_eq!(check(names.into_iter(), Scope::List).unwrap(), ["sha", "tags"]);
        for (name, list, single) in
            [("usedStorage", false, true), ("_id", false, false), ("cardData.license", false, false)]
        {
            assert_eq!(check([name].into_iter(), Scope::List).is_ok(), list, "{name}");
            assert_eq!(check([name].into_iter(), Scope::Single).is_ok(), single, "{name}");
        }
        let error = check(["x"].into_iter(), Scope::List).unwrap_err().to_string();
        assert!(
            error.starts_with("✖ Invalid option: expected one of \"author\"|\"baseModels\"|\"cardData\"")
        );
        assert!(error.ends_with("|\"xetEnabled\""));
    }
}
