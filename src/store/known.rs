//! What is known of every repository, in little memory: the live row of each, without its fingerprint.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::database::RowRef;
use super::schema::Key;
use super::{Outcome, Waiting};

/// The first 16 bytes of a text's SHA-256: ids, commits and contents in a third of their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; 16]);

impl Tag {
    /// The tag of a text.
    pub fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        Self(std::array::from_fn(|i| digest[i]))
    }

    /// Its bytes, to be stored.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The tag with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its first eight bytes as a number.
    pub fn first_word(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
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
    /// Takes a row into account. Of two rows of a repository the one that was made later is live; of two made at the
    /// same moment the one that comes later in the database, which says more about the same reading.
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
        match self.repos.entry(Tag::of(&key.hub_id)) {
            Entry::Occupied(before) if before.get().crawled_at > known.crawled_at => {}
            Entry::Occupied(mut before) => drop(before.insert(known)),
            Entry::Vacant(none) => drop(none.insert(known)),
        }
    }

    /// The live row of a repository.
    pub fn of(&self, hub_id: &str) -> Option<&Known> {
        self.repos.get(&Tag::of(hub_id))
    }

    /// Whether something still waits: a crawl that was killed has not crossed off what it had read.
    pub fn still_waits(&self, waiting: &Waiting) -> bool {
        self.of(&waiting.hub_id).is_none_or(|known| known.crawled_at < waiting.since)
    }

    /// How many ended how.
    pub fn outcomes(&self) -> BTreeMap<Outcome, u64> {
        let mut counts = BTreeMap::new();
        for known in self.repos.values() {
            *counts.entry(known.outcome).or_default() += 1;
        }
        counts
    }

    /// Repositories with a fingerprint.
    pub fn fingerprints(&self) -> u64 {
        self.repos.values().filter(|known| known.outcome == Outcome::Indexed).count() as u64
    }

    /// Where the live rows lie.
    pub fn places(&self) -> impl Iterator<Item = RowRef> {
        self.repos.values().map(|known| known.at)
    }
}
