//! What the person who starts the server may choose.
//!
//! A TOML file and dotted `key=value` overrides share one set of names. Unknown names, shares
//! outside 0..=1 and empty windows are errors: a misspelt setting must not serve silently.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A setting that cannot be used, in words for the person who wrote it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An override without `=`.
    #[error("`{0}` is not of the form key=value")]
    NotAssignment(String),
    /// An unknown name or a value of the wrong type.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// The settings could not be written as TOML, so that one of them could be replaced.
    #[error("{0}")]
    Render(#[from] toml::ser::Error),
    /// A value of the right type that makes no sense.
    #[error("{name} = {value}: {reason}")]
    Unusable {
        /// Dotted name of the setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What would be accepted.
        reason: &'static str,
    },
}

/// Everything that can be set; the default is an unlimited, faultless Hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Host name or address under which clients reach the server, if it is not the one it listens
    /// on; links and CDN addresses are made with it.
    pub public_host: Option<String>,
    /// Life of a signed CDN address in seconds.
    pub url_ttl_seconds: u64,
    /// Rows that a page of the model list has at most, whatever the client asks for.
    pub page_limit: usize,
    /// Requests a window.
    pub limits: RateLimits,
    /// Delay and speed.
    pub line: LineSettings,
    /// Access token to the gated and private repositories it may read, a dataset being
    /// `datasets/org/name`; `"*"` stands for all. `"write:org/name"`, `"write:org"` and `"write:*"`
    /// let it create and change datasets, see [`UploadSettings`], and read them. There is none by default, as
    /// a token that everybody knows protects nothing.
    pub tokens: BTreeMap<String, Vec<String>>,
    /// Misbehaviour on purpose.
    pub faults: FaultSettings,
    /// Points in which observations of the live Hub disagree.
    pub behaviour: Behaviour,
    /// Repositories beside those of the folder, to measure on.
    pub made_up: MadeUpSettings,
    /// Datasets that clients create and change.
    #[serde(rename = "write")]
    pub uploads: UploadSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_host: None,
            url_ttl_seconds: 3600,
            page_limit: 1000,
            limits: RateLimits::default(),
            line: LineSettings::default(),
            tokens: BTreeMap::new(),
            faults: FaultSettings::default(),
            behaviour: Behaviour::default(),
            made_up: MadeUpSettings::default(),
            uploads: UploadSettings::default(),
        }
    }
}

/// Requests that one token, or one anonymous address, may send in a fixed window. 0 is no limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// `/api/...`, apart from resolve-cache.
    pub api: u64,
    /// `/resolve/`, `/raw/` and `/api/resolve-cache/`.
    pub resolvers: u64,
    /// Everything else.
    pub pages: u64,
    /// Length of the window; a fraction compresses time. The headers state whole seconds, rounded
    /// up: `t=` to the end of the window, and `w=`, which is never 0.
    pub window_seconds: f64,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { api: 0, resolvers: 0, pages: 0, window_seconds: 300.0 }
    }
}

/// The line to the clients, which both origins and all connections share. 0 is a line without delay, or
/// without a limit. Uploads are not held back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LineSettings {
    /// Delay before every answer.
    pub latency_ms: u64,
    /// Bodies of answers, all of them together, in millions of bits a second; at least 0.001.
    pub mbit_per_second: f64,
}

/// Shares of requests, 0 to 1, that go wrong; drawn from `seed` and the number of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultSettings {
    /// Answered 500, 502, 503 or 504.
    pub error_5xx: f64,
    /// CDN bodies that end before their Content-Length.
    pub truncate: f64,
    /// CDN requests with a Range that are answered 200 with the whole file.
    pub ignore_range: f64,
    /// CDN requests answered 403 as if the address had expired.
    pub expire: f64,
    /// Answered 429 by the "edge": no RateLimit header, no Retry-After.
    pub too_many: f64,
    /// Pages of the model list with more rows than this and `expand` are answered 504; 0 is never.
    pub heavy_page: usize,
    /// Same seed, same order of requests, same faults.
    pub seed: u64,
}

impl Default for FaultSettings {
    fn default() -> Self {
        Self {
            error_5xx: 0.0,
            truncate: 0.0,
            ignore_range: 0.0,
            expire: 0.0,
            too_many: 0.0,
            heavy_page: 0,
            seed: 1,
        }
    }
}

/// Answer to a request for several ranges at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultiRange {
    /// 200 with the whole file, as object stores do.
    Full,
    /// 206 `multipart/byteranges`.
    Multipart,
}

/// The points that nobody outside can settle; a crawler has to work under each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// A resolve with a Range header gives an address that serves exactly this range.
    pub pin_ranges: bool,
    /// The resolve-cache path answers without the query string of the redirect.
    pub bare_resolve_cache: bool,
    /// Several ranges in one request.
    pub multi_range: MultiRange,
    /// `bytes=-N` is understood; otherwise the whole file is sent.
    pub suffix_range: bool,
    /// The resolve-cache request after a redirect counts in the resolvers bucket.
    pub count_second_hop: bool,
    /// A missing repository is 401 with `X-Error-Code: RepoNotFound` instead of a bare 401.
    pub error_code_on_missing: bool,
    /// Resolve answers 200 or 206 itself, as a caching proxy does.
    pub direct_files: bool,
    /// Xet hashes are announced. There is no Xet store behind them: clients that follow them fail.
    pub xet: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            pin_ranges: true,
            bare_resolve_cache: true,
            multi_range: MultiRange::Full,
            suffix_range: true,
            count_second_hop: true,
            error_code_on_missing: false,
            direct_files: false,
            xet: false,
        }
    }
}

/// Repositories that no folder holds: each is computed from `seed` and its number when it is asked
/// for, so they take no memory however many they are.
///
/// They are named `made-up-0042/model-0000042`, are public, and were created one after the other
/// from 2020 on. The list shows them with `sort=createdAt` only, in either direction, with
/// `filter`, `author` and the like; another order, or `search`, is answered 400.
///
/// One server after another with the same `seed` is one Hub at different times: more `repos` append
/// to the list, a larger share holds a smaller one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MadeUpSettings {
    /// How many there are, at most [`MadeUpSettings::MOST`].
    pub repos: u64,
    /// Model of the folder whose files, configuration and parameter counts they have; without it
    /// they have none. Git's files are named as in the template. Of files under LFS each states a
    /// sha256 of its own, which is not that of the bytes.
    pub template: Option<String>,
    /// Decides everything that chance decides about them.
    pub seed: u64,
    /// Share that states the LFS hashes of an earlier one.
    pub duplicates: f64,
    /// Share that has another commit, other LFS hashes and a `lastModified` of 2025-01-01.
    pub changed: f64,
    /// Share that is missing, from the list as in all other answers.
    pub gone: f64,
    /// Share that has another name, `made-up-0042/renamed-0000042`, to which the old one leads.
    pub renamed: f64,
}

impl MadeUpSettings {
    /// Most repositories that can be made up: names and ids have room for no more.
    pub const MOST: u64 = 10_000_000;
}

impl Default for MadeUpSettings {
    fn default() -> Self {
        Self { repos: 0, template: None, seed: 1, duplicates: 0.0, changed: 0.0, gone: 0.0, renamed: 0.0 }
    }
}

/// Where writing goes, and how much at once. The served folder itself is never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadSettings {
    /// Folder of the datasets that clients create, with their commits and contents; it is made if
    /// need be, and used by one server at a time. Without it nothing can be written. A token needs a
    /// grant besides, see [`Settings::tokens`].
    pub folder: Option<PathBuf>,
    /// Longest file that can be uploaded by itself.
    pub max_object_bytes: u64,
    /// Longest body of a commit. It carries the small files, and from clients that know no other way
    /// the large ones too, in base64; its longest line is held in memory.
    pub max_commit_bytes: u64,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self { folder: None, max_object_bytes: 50 << 30, max_commit_bytes: 1 << 30 }
    }
}

impl Settings {
    /// Reads a settings file; what it leaves out keeps its default.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text)?;
        settings.check()?;
        Ok(settings)
    }

    /// Replaces one setting: `limits.api=5`, `behaviour.multi_range=multipart`. The value is read
    /// as TOML, and as a plain string where it is not TOML.
    pub fn set(&mut self, assignment: &str) -> Result<(), SettingsError> {
        let (name, text) =
            assignment.split_once('=').ok_or_else(|| SettingsError::NotAssignment(assignment.to_owned()))?;
        let value = format!("v = {text}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| toml::Value::String(text.to_owned()));
        let mut all = toml::Table::try_from(&*self)?;
        insert(&mut all, name.trim(), value);
        let changed: Self = all.try_into()?;
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// Refuses values that have the right type and no meaning.
    pub fn check(&self) -> Result<(), SettingsError> {
        let shares = [
            ("faults.error_5xx", self.faults.error_5xx),
            ("faults.truncate", self.faults.truncate),
            ("faults.ignore_range", self.faults.ignore_range),
            ("faults.expire", self.faults.expire),
            ("faults.too_many", self.faults.too_many),
            ("made_up.duplicates", self.made_up.duplicates),
            ("made_up.changed", self.made_up.changed),
            ("made_up.gone", self.made_up.gone),
            ("made_up.renamed", self.made_up.renamed),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                let reason = "a share lies between 0 and 1";
                return Err(SettingsError::Unusable { name, value: share.to_string(), reason });
            }
        }
        let counts = [("page_limit", self.page_limit as u64), ("url_ttl_seconds", self.url_ttl_seconds)];
        for (name, count) in counts {
            if !(1..=1_000_000_000).contains(&count) {
                let reason = "at least 1, at most 1000000000";
                return Err(SettingsError::Unusable { name, value: count.to_string(), reason });
            }
        }
        let window = self.limits.window_seconds;
        if !(0.001..=1e9).contains(&window) {
            let (name, value) = ("limits.window_seconds", window.to_string());
            return Err(SettingsError::Unusable {
                name,
                value,
                reason: "at least 0.001, at most 1000000000",
            });
        }
        let speed = self.line.mbit_per_second;
        if speed != 0.0 && !(0.001..=1e6).contains(&speed) {
            let (name, value) = ("line.mbit_per_second", speed.to_string());
            return Err(SettingsError::Unusable {
                name,
                value,
                reason: "0, or at least 0.001, at most 1000000",
            });
        }
        if self.made_up.repos > MadeUpSettings::MOST {
            let (name, value) = ("made_up.repos", self.made_up.repos.to_string());
            return Err(SettingsError::Unusable { name, value, reason: "at most 10000000" });
        }
        Ok(())
    }
}

/// Puts `value` under a dotted name; what is on the way and no table is replaced by one, and the
/// reader of the whole then says what is wrong with it.
fn insert(table: &mut toml::Table, name: &str, value: toml::Value) {
    match name.split_once('.') {
        None => drop(table.insert(name.to_owned(), value)),
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| toml::Table::new().into());
            if !inner.is_table() {
                *inner = toml::Table::new().into();
            }
            if let Some(inner) = inner.as_table_mut() {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let settings = Settings::default();
        settings.check().unwrap();
        assert_eq!(Settings::from_toml(&toml::to_string(&settings).unwrap()).unwrap(), settings);
    }

    #[test]
    fn dotted_overrides_reach_every_type() {
        let mut settings = Settings::default();
        for text in [
            "page_limit=3",
            "limits.api=5",
            "faults.truncate=1",
            "behaviour.pin_ranges=false",
            "behaviour.multi_range=multipart",
            "tokens.hf_reader=[\"*\"]",
            "tokens.hf_x=[\"a/b\"]",
            "public_host=hub.internal",
            "limits.window_seconds=0.5",
            "line.latency_ms=40",
            "line.mbit_per_second=100",
            "made_up.repos=3000000",
            "made_up.template=acme/tiny",
            "made_up.changed=0.01",
            "tokens.hf_writer=[\"write:acme\"]",
            "write.folder=/srv/written",
            "write.max_commit_bytes=1000",
        ] {
            settings.set(text).unwrap();
        }
        assert_eq!((settings.page_limit, settings.limits.api), (3, 5));
        assert!((settings.faults.truncate - 1.0).abs() < f64::EPSILON);
        assert!(!settings.behaviour.pin_ranges);
        assert_eq!(settings.behaviour.multi_range, MultiRange::Multipart);
        assert_eq!(settings.public_host.as_deref(), Some("hub.internal"));
        assert!((settings.limits.window_seconds - 0.5).abs() < f64::EPSILON);
        assert_eq!((settings.line.latency_ms, settings.line.mbit_per_second), (40, 100.0));
        assert_eq!((settings.made_up.repos, settings.made_up.seed), (3_000_000, 1));
        assert_eq!(settings.made_up.template.as_deref(), Some("acme/tiny"));
        assert_eq!(settings.uploads.folder.as_deref(), Some(Path::new("/srv/written")));
        assert_eq!((settings.uploads.max_commit_bytes, settings.uploads.max_object_bytes), (1000, 50 << 30));
        assert_eq!(settings.tokens["hf_writer"], ["write:acme"]);
        assert_eq!(settings.tokens["hf_x"], ["a/b"]);
        assert_eq!(settings.tokens["hf_reader"], ["*"], "an override leaves the others alone");
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let mut settings = Settings::default();
        for text in [
            "limits.api",
            "limits.apis=5",
            "limits=5",
            "limits.api=many",
            "limits.window_seconds=0",
            "limits.window_seconds=nan",
            "line.mbit_per_second=-1",
            "line.mbit_per_second=nan",
            "line.mbit_per_second=0.0001",
            "faults.latency_ms=1",
            "faults.expire=2",
            "page_limit=0",
            "made_up.repo=1",
            "made_up.repos=-1",
            "made_up.repos=10000001",
            "made_up.changed=1.1",
            "made_up.gone=-0.1",
            "write.folders=/srv",
            "write.max_object_bytes=-1",
        ] {
            assert!(settings.set(text).is_err(), "{text}");
        }
        assert_eq!(settings, Settings::default());
    }
}
