//! What the Hub derives from the files of a model: tags, library, task, base models, `config`.

use serde_json::{Map, Value};

use super::card::strings;
use super::overrides::ModelOverrides;
use super::repo::Bases;
use super::walk::FolderFile;

/// Keys of config.json that the Hub repeats in its listing.
const CONFIG_KEYS: [&str; 8] = [
    "architectures",
    "model_type",
    "quantization_config",
    "auto_map",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_experts_per_tok",
];
const TOKENIZER_KEYS: [&str; 5] = ["bos_token", "eos_token", "pad_token", "unk_token", "chat_template"];

/// Suffix of a file to the tag it earns.
const FORMATS: [(&str, &str); 4] =
    [(".safetensors", "safetensors"), (".gguf", "gguf"), (".onnx", "onnx"), (".msgpack", "jax")];

/// A file of this name gives the library away.
const LIBRARIES: [(&str, &str); 4] = [
    ("model_index.json", "diffusers"),
    ("adapter_config.json", "peft"),
    ("config_sentence_transformers.json", "sentence-transformers"),
    ("config.json", "transformers"),
];

/// What is known of a model before anything is derived.
pub(super) struct Evidence<'a> {
    pub(super) files: &'a [FolderFile],
    pub(super) card: &'a Map<String, Value>,
    pub(super) config: Option<&'a Value>,
    pub(super) overrides: &'a ModelOverrides,
}

impl Evidence<'_> {
    fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    fn has_suffix(&self, suffix: &str) -> bool {
        self.files.iter().any(|file| file.path.ends_with(suffix))
    }

    fn card_text(&self, key: &str) -> Option<String> {
        self.card.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    pub(super) fn library_name(&self) -> Option<String> {
        let derived =
            || LIBRARIES.iter().find(|(file, _)| self.has(file)).map(|(_, name)| (*name).to_owned());
        self.overrides.library_name.clone().or_else(|| self.card_text("library_name")).or_else(derived)
    }

    pub(super) fn pipeline_tag(&self) -> Option<String> {
        self.overrides.pipeline_tag.clone().or_else(|| self.card_text("pipeline_tag"))
    }

    /// The card's word on the relation, else the best guess that the files allow.
    pub(super) fn bases(&self) -> Option<Bases> {
        let models = strings(self.card, "base_model");
        if models.is_empty() {
            return None;
        }
        let stated = self.card_text("base_model_relation");
        let known = ["adapter", "merge", "quantized", "finetune"];
        let quantized =
            || self.has_suffix(".gguf") || self.config.is_some_and(|c| !c["quantization_config"].is_null());
        let relation = match known.into_iter().find(|known| stated.as_deref() == Some(known)) {
            Some(relation) => relation,
            None if self.has("adapter_config.json") => "adapter",
            None if models.len() > 1 => "merge",
            None if quantized() => "quantized",
            None => "finetune",
        };
        Some(Bases { relation, models })
    }

    /// Without repeats, in the order in which the Hub tends to list them.
    pub(super) fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = self.library_name().into_iter().collect();
        tags.extend(FORMATS.iter().filter(|(end, _)| self.has_suffix(end)).map(|(_, tag)| (*tag).to_owned()));
        if self.has_suffix("pytorch_model.bin") {
            tags.push("pytorch".to_owned());
        }
        tags.extend(self.config.and_then(|c| c["model_type"].as_str()).map(str::to_owned));
        tags.extend(self.pipeline_tag());
        tags.extend(strings(self.card, "tags"));
        tags.extend(strings(self.card, "language"));
        tags.extend(strings(self.card, "datasets").iter().map(|name| format!("dataset:{name}")));
        if let Some(Bases { relation, models }) = self.bases() {
            tags.extend(models.iter().map(|model| format!("base_model:{model}")));
            tags.extend(models.iter().map(|model| format!("base_model:{relation}:{model}")));
        }
        tags.extend(strings(self.card, "license").iter().map(|name| format!("license:{name}")));
        tags.extend(self.overrides.tags.iter().cloned());
        tags.push("region:us".to_owned());
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        tags
    }
}

/// The tags of a dataset: what its card says.
pub(crate) fn card_tags(card: &Map<String, Value>) -> Vec<String> {
    Evidence { files: &[], card, config: None, overrides: &ModelOverrides::default() }.tags()
}

/// The part of config.json and tokenizer_config.json that a listing shows.
pub(super) fn config_subset(config: Option<&Value>, tokenizer: Option<&Value>) -> Option<Value> {
    let mut subset = picked(config?, &CONFIG_KEYS);
    if let Some(tokenizer) = tokenizer {
        subset.insert("tokenizer_config".to_owned(), picked(tokenizer, &TOKENIZER_KEYS).into());
    }
    Some(subset.into())
}

fn picked(from: &Value, keys: &[&str]) -> Map<String, Value> {
    keys.iter().filter_map(|key| Some(((*key).to_owned(), from.get(key)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::super::card::front_matter;
    use super::*;

    fn files(paths: &[&str]) -> Vec<FolderFile> {
        let file = |path: &&str| FolderFile {
            path: (*path).to_owned(),
            location: path.into(),
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
        };
        paths.iter().map(file).collect()
    }

    #[test]
    fn tags_of_a_fine_tune() {
        let files = files(&["README.md", "config.json", "model.safetensors"]);
        let card = front_matter(
            "---\nlicense: mit\nbase_model: org/base\ntags: [x, safetensors]\npipeline_tag: fill-mask\n---\n",
        );
        let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8});
        let overrides = ModelOverrides { tags: vec!["extra".to_owned()], ..ModelOverrides::default() };
        let evidence = Evidence { files: &files, card: &card, config: Some(&config), overrides: &overrides };
        assert_eq!(
            evidence.tags(),
            [
                "transformers",
                "safetensors",
                "llama",
                "fill-mask",
                "x",
                "base_model:org/base",
                "base_model:finetune:org/base",
                "license:mit",
                "extra",
                "region:us",
            ]
        );
        let subset = config_subset(Some(&config), Some(&json!({"eos_token": "</s>", "other": 1}))).unwrap();
        assert_eq!(
            subset,
            json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama",
                "tokenizer_config": {"eos_token": "</s>"},
            })
        );
    }

    #[test]
    fn relations() {
        let overrides = ModelOverrides::default();
        for (card, paths, relation) in [
            ("base_model: a/b\nbase_model_relation: quantized", vec!["config.json"], Some("quantized")),
            ("base_model: a/b", vec!["adapter_config.json"], Some("adapter")),
            ("base_model: [a/b, c/d]", vec![], Some("merge")),
            ("base_model: a/b", vec!["m.gguf"], Some("quantized")),
            ("base_model: a/b", vec![], Some("finetune")),
            ("license: mit", vec![], None),
        ] {
            let card = front_matter(&format!("---\n{card}\n---\n"));
            let files = files(&paths);
            let evidence = Evidence { files: &files, card: &card, config: None, overrides: &overrides };
            assert_eq!(evidence.bases().map(|bases| bases.relation), relation, "{card:?}");
        }
    }
}
