//! The JSON of a model, field by field.
//!
//! List and single answers differ in which fields they show and which may be asked for with
//! `expand`, not in what a field looks like. A field without a value is left out.

use serde_json::{Map, Value, json};

use super::catalogue::{Bases, Catalogue, Repo, object_id};
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

impl View<'_> {
    /// `_id`, `id` and the named fields that have a value.
    pub(crate) fn render<'n>(&self, repo: &Repo, names: impl IntoIterator<Item = &'n str>) -> Value {
        let mut item = Map::new();
        item.insert("_id".to_owned(), json!(repo.object_id));
        item.insert("id".to_owned(), json!(repo.id));
        for name in names {
            if let Some(value) = self.field(repo, name) {
                item.insert(name.to_owned(), value);
            }
        }
        item.into()
    }

    fn field(&self, repo: &Repo, name: &str) -> Option<Value> {
        Some(match name {
            "modelId" => json!(repo.id),
            "author" if !repo.author().is_empty() => json!(repo.author()),
            "sha" => json!(repo.sha),
            "createdAt" => json!(timestamp(repo.created)),
            "lastModified" => json!(timestamp(repo.modified)),
            "private" => json!(repo.private),
            "gated" => json!(repo.gated),
            "disabled" => json!(repo.disabled),
            "downloads" | "downloadsAllTime" => json!(repo.downloads),
            // Nobody watches trends here; likes stand in, so that the default order means something.
            "likes" | "trendingScore" => json!(repo.likes),
            "tags" => json!(repo.tags),
            "pipeline_tag" => json!(repo.pipeline_tag.as_ref()?),
            "library_name" => json!(repo.library_name.as_ref()?),
            "cardData" if !repo.card.is_empty() => json!(repo.card),
            "config" => repo.config.clone()?,
            "safetensors" => json!(repo.parameters.as_ref()?),
            "siblings" => self.siblings(repo),
            "baseModels" => self.base_models(repo.bases.as_ref()?),
            "childrenModelCount" => self.children(repo),
            "usedStorage" => json!(repo.stored_bytes()),
            "spaces" => json!([]),
            "xetEnabled" => json!(self.xet),
            _ => return None,
        })
    }

    fn siblings(&self, repo: &Repo) -> Value {
        let names = repo.files.iter().map(|file| {
            let mut sibling = json!({ "rfilename": file.path });
            if self.blobs {
                sibling["size"] = json!(file.size);
                sibling["blobId"] = json!(file.blob.oid);
                if let Some(lfs) = &file.blob.lfs {
                    sibling["lfs"] =
                        json!({ "sha256": lfs.sha256, "size": file.size, "pointerSize": lfs.pointer_size });
                }
            }
            sibling
        });
        names.collect()
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
