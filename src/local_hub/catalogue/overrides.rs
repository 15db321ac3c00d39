//! What cannot be read off files: `.hub.json` of a model and `hub.json` of the folder.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::repo::Gated;

/// `.hub.json` beside the files of a model; everything in it is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ModelOverrides {
    pub(super) created_at: Option<String>,
    pub(super) last_modified: Option<String>,
    pub(super) gated: Gated,
    pub(super) disabled: bool,
    pub(super) private: bool,
    pub(super) downloads: u64,
    pub(super) likes: u64,
    pub(super) tags: Vec<String>,
    #[serde(rename = "pipeline_tag")]
    pub(super) pipeline_tag: Option<String>,
    #[serde(rename = "library_name")]
    pub(super) library_name: Option<String>,
}

/// `hub.json` at the top of the folder.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FolderOverrides {
    /// Former id to present id.
    pub(super) renames: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gated_has_three_forms() {
        let gated = |text: &str| serde_json::from_str::<ModelOverrides>(text).map(|o| o.gated);
        assert_eq!(gated("{}").unwrap(), Gated::No);
        assert_eq!(gated(r#"{"gated":false}"#).unwrap(), Gated::No);
        assert_eq!(gated(r#"{"gated":"manual"}"#).unwrap(), Gated::Manual);
        assert!(gated(r#"{"gated":true}"#).is_err());
        assert!(gated(r#"{"gate":false}"#).is_err());
    }
}
