//! Names of model repositories and of revisions in them.
//!
//! A [`RepoId`] in hand is safe to place in a URL path as it is: ASCII letters, digits, `.`, `_`
//! and `-`, one slash at most, no dot segments. The check is deliberately wider than the rule for
//! *new* repositories (which also refuses `--` and a leading dash), because a crawler must be able
//! to name whatever the Hub already lists.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest owner or model name, in bytes.
pub const MAX_PART_LEN: usize = 96;

/// Longest revision, in bytes. Git allows more; no real branch needs it.
pub const MAX_REVISION_LEN: usize = 255;

/// First path segments that are routes of the Hub, not owners of models.
const ROUTES: [&str; 4] = ["api", "datasets", "models", "spaces"];

/// What stands before the name of a dataset.
const DATASETS: &str = "datasets/";

/// A model repository: `org/name`, or the legacy form `name`. Or a dataset, see [`RepoId::dataset`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoId(String);

/// Why a text is not a [`RepoId`] or a [`RepoRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// More than one slash.
    #[error("{id:?} has {slashes} slashes, a model is `org/name` or `name`")]
    Slashes {
        /// The text, cut to a printable length.
        id: String,
        /// Slashes found.
        slashes: usize,
    },
    /// An empty owner or name.
    #[error("{id:?} has an empty part")]
    Empty {
        /// The text, cut to a printable length.
        id: String,
    },
    /// An owner or name over [`MAX_PART_LEN`] bytes, or a revision over [`MAX_REVISION_LEN`].
    #[error("a part of {id:?} has {len} bytes, the limit is {limit}")]
    TooLong {
        /// The text, cut to a printable length.
        id: String,
        /// Length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character outside letters, digits, `.`, `_`, `-`, or a part `.` or `..`.
    #[error("{id:?} has a part that is no repository name (letters, digits, '.', '_', '-')")]
    Characters {
        /// The text, cut to a printable length.
        id: String,
    },
    /// `datasets/...`, `spaces/...`, `api/...`: not a model.
    #[error("{id:?} is not a model: `{route}/` is a route of the Hub")]
    NotAModel {
        /// The text, cut to a printable length.
        id: String,
        /// The reserved first part.
        route: &'static str,
    },
    /// Something after `@` that git would not accept as a revision.
    #[error("{id:?} has an unusable revision after '@'")]
    Revision {
        /// The text, cut to a printable length.
        id: String,
    },
}

impl RepoId {
    /// A dataset repository by its `org/name`. Its text is `datasets/org/name`, as the Hub writes it in addresses.
    pub fn dataset(id: &str) -> Result<Self, InvalidId> {
        check(id)?;
        Ok(Self(format!("{DATASETS}{id}")))
    }

    /// Whether it is a dataset.
    pub fn is_dataset(&self) -> bool {
        self.0.starts_with(DATASETS)
    }

    /// The id as text, `org/name` or `name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The owner, absent in the legacy form.
    pub fn owner(&self) -> Option<&str> {
        self.plain().split_once('/').map(|(owner, _)| owner)
    }

    /// The name without the owner.
    pub fn name(&self) -> &str {
        self.plain().split_once('/').map_or(self.plain(), |(_, name)| name)
    }

    /// Without what tells the kind.
    fn plain(&self) -> &str {
        self.0.strip_prefix(DATASETS).unwrap_or(&self.0)
    }
}

fn check(id: &str) -> Result<(), InvalidId> {
    let slashes = id.matches('/').count();
    if slashes > 1 {
        return Err(InvalidId::Slashes { id: shown(id), slashes });
    }
    for part in id.split('/') {
        if part.is_empty() {
            return Err(InvalidId::Empty { id: shown(id) });
        }
        if part.len() > MAX_PART_LEN {
            return Err(InvalidId::TooLong { id: shown(id), len: part.len(), limit: MAX_PART_LEN });
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if part == "." || part == ".." || !part.bytes().all(legal) {
            return Err(InvalidId::Characters { id: shown(id) });
        }
    }
    let first = id.split('/').next().unwrap_or(id);
    match ROUTES.iter().find(|route| route.eq_ignore_ascii_case(first)) {
        Some(route) => Err(InvalidId::NotAModel { id: shown(id), route }),
        None => Ok(()),
    }
}

/// At most 120 characters of an outside text, for error messages.
fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

impl FromStr for RepoId {
    type Err = InvalidId;

    fn from_str(id: &str) -> Result<Self, InvalidId> {
        check(id)?;
        Ok(Self(id.to_owned()))
    }
}

impl TryFrom<String> for RepoId {
    type Error = InvalidId;

    fn try_from(id: String) -> Result<Self, InvalidId> {
        check(&id)?;
        Ok(Self(id))
    }
}

impl From<RepoId> for String {
    fn from(id: RepoId) -> Self {
        id.0
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoId({})", self.0)
    }
}

/// A repository, and optionally the branch, tag, pull request ref or commit wanted in it.
///
/// Written `org/name` or `org/name@revision`:
/// ```
/// use hubprint::hub::RepoRef;
/// let wanted: RepoRef = "org/model@refs/pr/3".parse()?;
/// assert_eq!(wanted.id.as_str(), "org/model");
/// assert_eq!(wanted.revision.as_deref(), Some("refs/pr/3"));
/// # Ok::<(), hubprint::hub::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoRef {
    /// The repository.
    pub id: RepoId,
    /// The revision; `None` means the default branch.
    pub revision: Option<String>,
}

impl FromStr for RepoRef {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let Some((id, revision)) = text.split_once('@') else {
            return Ok(Self { id: text.parse()?, revision: None });
        };
        if revision.len() > MAX_REVISION_LEN {
            let (len, limit) = (revision.len(), MAX_REVISION_LEN);
            return Err(InvalidId::TooLong { id: shown(text), len, limit });
        }
        if !is_revision(revision) {
            return Err(InvalidId::Revision { id: shown(text) });
        }
        Ok(Self { id: id.parse()?, revision: Some(revision.to_owned()) })
    }
}

impl fmt::Display for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

impl From<RepoId> for RepoRef {
    fn from(id: RepoId) -> Self {
        Self { id, revision: None }
    }
}

/// Whether git would take this as a ref or commit, as far as a URL cares: no `..`, no control or
/// space, not empty, not a single dot.
pub(crate) fn is_revision(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_REVISION_LEN
        && text != "."
        && !text.contains("..")
        && !text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '?' | '*' | '~' | '^' | ':'))
}

/// Whether a revision is a full commit sha: 40 lower-case hex digits.
pub fn is_commit_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_the_hub_lists() {
        for id in ["gpt2", "org/name", "Qwen/Qwen3-235B-A22B", "a/b--c", "a_b/c.d-", "0/1"] {
            assert_eq!(id.parse::<RepoId>().unwrap().to_string(), id);
        }
        let id: RepoId = "org/name".parse().unwrap();
        assert_eq!((id.owner(), id.name()), (Some("org"), "name"));
        let legacy: RepoId = "gpt2".parse().unwrap();
        assert_eq!((legacy.owner(), legacy.name()), (None, "gpt2"));
    }

    #[test]
    fn refuses_what_would_leave_the_path() {
        for id in
            ["", "/", "a/", "/b", "a/b/c", "..", "a/..", "./a", "a b", "a?b", "a#b", "a%2Fb", "ä/b", "a\\b"]
        {
            assert!(id.parse::<RepoId>().is_err(), "{id:?}");
        }
        assert!("x".repeat(MAX_PART_LEN).parse::<RepoId>().is_ok());
        assert!(matches!("x".repeat(97).parse::<RepoId>(), Err(InvalidId::TooLong { len: 97, .. })));
        let dataset = RepoId::dataset("org/prints").unwrap();
        assert_eq!((dataset.as_str(), dataset.is_dataset()), ("datasets/org/prints", true));
        assert_eq!((dataset.owner(), dataset.name()), (Some("org"), "prints"));
        assert!(RepoId::dataset("../models").is_err() && RepoId::dataset("a/b/c").is_err());
        assert!(matches!(
            "datasets/squad".parse::<RepoId>(),
            Err(InvalidId::NotAModel { route: "datasets", .. })
        ));
    }

    #[test]
    fn serde_validates() {
        assert!(serde_json::from_str::<RepoId>("\"org/name\"").is_ok());
        assert!(serde_json::from_str::<RepoId>("\"org/../name\"").is_err());
    }

    #[test]
    fn references() {
        let with: RepoRef = "a/b@refs/pr/1".parse().unwrap();
        assert_eq!((with.id.as_str(), with.revision.as_deref()), ("a/b", Some("refs/pr/1")));
        assert_eq!(with.to_string(), "a/b@refs/pr/1");
        assert_eq!("a/b".parse::<RepoRef>().unwrap().revision, None);
        for bad in ["a/b@", "a/b@a..b", "a/b@x y", "@main"] {
            assert!(bad.parse::<RepoRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn commit_shas() {
        assert!(is_commit_sha(&"0a".repeat(20)));
        assert!(!is_commit_sha(&"0A".repeat(20)));
        assert!(!is_commit_sha("main"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_the_identity(text in "\\PC{0,200}") {
            if let Ok(id) = text.parse::<RepoId>() {
                prop_assert_eq!(id.as_str(), &text);
                let url = url::Url::parse(&format!("https://h/{id}/resolve/x")).unwrap();
                prop_assert_eq!(url.path(), format!("/{id}/resolve/x"));
            }
        }
    }
}
