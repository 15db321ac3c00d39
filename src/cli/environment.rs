//! The environment, read in one place: the Hub client and the cache of the Hugging Face tools.

use std::path::PathBuf;

use crate::hub::{Hub, HubSettings};
use crate::stages::cache::Cache;
use crate::stages::model::LoadSettings;
use crate::stages::plan::PlanSettings;

use super::failure::Failure;

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The Hub client of the environment; `endpoint` overrides `HF_ENDPOINT`.
pub(super) fn hub(endpoint: Option<&str>) -> Result<Hub, Failure> {
    hub_with(endpoint, &[])
}

/// The same, with further hosts that files may be served from.
pub(super) fn hub_with(endpoint: Option<&str>, cdn_hosts: &[String]) -> Result<Hub, Failure> {
    let lookup = |name: &str| match (name, endpoint) {
        ("HF_ENDPOINT", Some(url)) => Some(url.to_owned()),
        _ => var(name),
    };
    let mut settings = HubSettings::from_env(lookup).map_err(Failure::usage)?;
    settings.cdn_hosts.extend_from_slice(cdn_hosts);
    Hub::new(settings).map_err(Failure::usage)
}

/// How models of the command line are read. Samples are kept below `XDG_CACHE_HOME`, or `~/.cache`; an empty
/// `HUBPRINT_CACHE` turns that off, any other is the folder.
pub(super) fn load_settings() -> LoadSettings {
    LoadSettings {
        cache: cache(var),
        plan: PlanSettings::detailed(),
        samples: samples(|name| std::env::var(name).ok()).map(Cache::new),
        ..LoadSettings::default()
    }
}

fn samples(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(folder) = var("HUBPRINT_CACHE") {
        (!folder.is_empty()).then(|| folder.into())
    } else {
        let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(base.join("hubprint/samples"))
    }
}

/// Where the Hugging Face tools keep downloaded models.
fn cache(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let home = || {
        let base = var("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")))?;
        Some(base.join("huggingface"))
    };
    let explicit = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
    explicit.or_else(|| Some(var("HF_HOME").map(PathBuf::from).or_else(home)?.join("hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_kept_where_caches_are() {
        let with = |set: &[(&str, &str)]| {
            samples(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.cache/hubprint/samples".into()));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/hubprint/samples".into()));
        assert_eq!(with(&[("HOME", "/h"), ("HUBPRINT_CACHE", "/k")]), Some("/k".into()));
        assert_eq!(with(&[("HOME", "/h"), ("HUBPRINT_CACHE", "")]), None);
    }

    #[test]
    fn the_cache_is_where_the_python_client_has_it() {
        let with = |set: &[(&str, &str)]| {
            cache(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.cache/huggingface/hub".into()));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/huggingface/hub".into()));
        assert_eq!(with(&[("HOME", "/h"), ("HF_HOME", "/f")]), Some("/f/hub".into()));
        assert_eq!(with(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/k")]), Some("/k".into()));
    }
}
