//! The environment, read in one place: the Hub client, the caches, the default database, the signing key. Buckets alone
//! take their credentials from it themselves, by the names of their providers ([`crate::store::storage`]).

use std::path::PathBuf;

use crate::checkpoint::cache::Cache;
use crate::checkpoint::plan::PlanSettings;
use crate::checkpoint::reading::{ReadSettings, Reader};
use crate::hub::{Hub, HubSettings};
use crate::pipeline::settings::HubChoice;
use crate::store::{Location, LocationError, StoreError};

use super::failure::Failure;

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The Hub client of the environment; `endpoint` overrides `HF_ENDPOINT`.
pub(super) fn hub(endpoint: Option<&str>) -> Result<Hub, Failure> {
    hub_with(endpoint, &HubChoice::default())
}

/// The same with what a pipeline says of the Hub, but for its address.
pub(super) fn hub_with(endpoint: Option<&str>, choice: &HubChoice) -> Result<Hub, Failure> {
    let lookup = |name: &str| match (name, endpoint) {
        ("HF_ENDPOINT", Some(url)) => Some(url.to_owned()),
        _ => var(name),
    };
    let mut settings = HubSettings::from_env(lookup).map_err(Failure::usage)?;
    settings.cdn_hosts.extend_from_slice(&choice.cdn_hosts);
    settings.parallel.cdn = choice.cdn_requests.unwrap_or(settings.parallel.cdn);
    Hub::new(settings).map_err(Failure::usage)
}

/// How models of the command line are read: as far as `plan` says. Samples are kept below `XDG_CACHE_HOME`, or `~/.cache`; an empty
/// `HUBPRINT_CACHE` turns that off, any other is the folder.
pub(super) fn reader(plan: PlanSettings) -> Reader {
    Reader {
        settings: ReadSettings { plan, ..ReadSettings::default() },
        hub_cache: cache(var),
        samples: samples(|name| std::env::var(name).ok()).map(Cache::new),
        ..Reader::default()
    }
}

/// A database by its folder or address. What of a bucket is on this machine lies below the caches.
pub(super) fn location(text: &str) -> Result<Location, LocationError> {
    let mirrors = caches(var).unwrap_or_else(std::env::temp_dir).join("databases");
    Location::parse(text, &mirrors)
}

/// The database that commands use which are given none: `HUBPRINT_DB`, else the one that `hubprint db pull` keeps, below
/// `XDG_DATA_HOME` or `~/.local/share`.
pub(super) fn default_database() -> Result<Location, Failure> {
    if let Some(text) = var("HUBPRINT_DB") {
        return location(&text).map_err(Failure::usage);
    }
    let set = |name: &str| var(name).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    base.map(|base| Location::Folder(base.join("hubprint/db"))).ok_or_else(|| {
        Failure::from(anyhow::anyhow!("no database is named")).with_hint("give one with --db or HUBPRINT_DB")
    })
}

/// Why a database cannot be opened; of one that nobody named, what to do about it.
pub(super) fn cannot_open(error: StoreError, is_named: bool) -> Failure {
    match error {
        error @ StoreError::NotADatabase { .. } if !is_named => Failure::from(anyhow::Error::from(error))
            .with_hint("name one with --db, or fetch one with `hubprint db pull hf://datasets/ORG/NAME`"),
        error => error.into(),
    }
}

/// The key to sign with: a file, or the key itself.
pub(super) fn signing_key() -> Option<String> {
    var("HUBPRINT_SIGNING_KEY")
}

/// The folder for what can be had again: `HUBPRINT_CACHE`, else below `XDG_CACHE_HOME` or `~/.cache`.
fn caches(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("HUBPRINT_CACHE").or_else(|| Some(base?.join("hubprint")))
}

fn samples(var: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    match var("HUBPRINT_CACHE") {
        Some(folder) => (!folder.is_empty()).then(|| folder.into()),
        None => Some(caches(var)?.join("samples")),
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
