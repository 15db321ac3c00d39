//! What is known of every repository, in little memory: the live row of each, without its fingerprint.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::Outcome;
use super::database::RowRef;
use super::schema::Key;

/// The first 16 bytes of a text's SHA-256: ids, commits and contents in a third of their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; 16]);

impl Tag {
    /// The tag of a text.
    pub fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        Self(std::array::from_fn(|i| digest[i]))
    }
}

/// The live row of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of its name.
    pub name: Tag,
    /// Of the commit that was read.
    pub sha: Option<Tag>,
    /// Of `gated`.
    pub gated: Tag,
    /// When the row was made, milliseconds since 1970.
    pub crawled_at: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the Hub lists it no more.
    pub gone: bool,
    /// Where its row lies.
    pub at: RowRef,
}

/// All live rows, by the tag of the repository's immutable id, and the readings among them.
#[derive(Debug, Default)]
pub struct Live {
    /// By [`Tag`] of `hub_id`.
    pub repos: HashMap<Tag, Known>,
    /// A row with a fingerprint for each distinct reading; see [`super::Row::reading`].
    pub readings: HashMap<Tag, RowRef>,
}

impl Live {
    /// Takes a row into account; later rows replace earlier ones.
    pub fn add(&mut self, key: &Key, at: RowRef) {
        if let Some(reading) = key.reading.as_deref().filter(|_| key.outcome == Outcome::Indexed) {
            self.readings.insert(Tag::of(reading), at);
        }
        let known = Known {
            name: Tag::of(&key.repo_id),
            sha: key.sha.as_deref().map(Tag::of),
            gated: Tag::of(&key.gated),
            crawled_at: key.crawled_at,
            outcome: key.outcome,
            gone: key.is_gone,
            at,
        };
        self.repos.insert(Tag::of(&key.hub_id), known);
    }

    /// The live row of a repository.
    pub fn of(&self, hub_id: &str) -> Option<&Known> {
        self.repos.get(&Tag::of(hub_id))
    }

    /// Where the live rows lie.
    pub fn places(&self) -> impl Iterator<Item = RowRef> {
        self.repos.values().map(|known| known.at)
    }
}
