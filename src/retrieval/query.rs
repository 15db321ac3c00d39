//! What a search is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::signals::Fingerprint;
use crate::store::Tag;

/// How much a search looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// What short codes let through.
    #[default]
    Usual,
    /// Every representative by all that is kept of it, and every member of the families found.
    Exact,
}

/// What is searched for. Without digests only the fingerprint leads to it.
#[derive(Clone, Copy, Debug)]
pub struct SearchQuery<'a> {
    /// Its fingerprint.
    pub fingerprint: &'a Fingerprint,
    /// Of the digest of its weight files.
    pub weights: Option<Tag>,
    /// Of the digest of its sampled bytes.
    pub samples: Option<Tag>,
    /// The repository of the index that it is, which is no relative of its own: what nobody else holds is not found.
    pub but: Option<&'a str>,
}

impl<'a> From<&'a Fingerprint> for SearchQuery<'a> {
    fn from(fingerprint: &'a Fingerprint) -> Self {
        Self { fingerprint, weights: None, samples: None, but: None }
    }
}
