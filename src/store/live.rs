//! What is known of every repository, in little memory: its live rows, without their fingerprints.
//!
//! A repository has one row for each of its checkpoints. All rows of one reading are made at the same moment and are
//! written in one commit; so of all the rows of a repository **those with its latest `crawled_at` are live**, and of
//! several of these with one component the one that comes last in the database. What a reading does not have any more
//! is dead with the reading before, whatever became of the writer and in whichever order databases are joined: the rule
//! looks at nothing but the rows.

use std::collections::{BTreeMap, HashMap};

use super::row::{Outcome, RowRef, Waiting};
use super::schema::Key;
use super::tag::Tag;

/// A repository as its live rows have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of its name.
    pub name: Tag,
    /// Of the commit that was read.
    pub sha: Option<Tag>,
    /// Of `gated`.
    pub gated: Tag,
    /// When the rows were made, milliseconds since 1970.
    pub crawled_at: i64,
    /// Whether the Hub lists it no more.
    pub gone: bool,
    /// How it ended: the best outcome of its checkpoints.
    pub outcome: Outcome,
    /// The worst one: what may be tried again.
    pub worst: Outcome,
    /// The main checkpoint, if it has one.
    main: Option<Checkpoint>,
}

/// One live row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// How it ended.
    pub outcome: Outcome,
    /// Where its row lies.
    pub at: RowRef,
}

/// All live rows, and the extraction keys among them.
#[derive(Debug, Default)]
pub struct Live {
    /// By [`Tag`] of `hub_id`.
    pub repos: HashMap<Tag, Known>,
    /// The checkpoints beside the main ones, by the same and by component. Few repositories have any.
    components: HashMap<Tag, BTreeMap<String, Checkpoint>>,
    /// A row with a fingerprint for each distinct [`extraction key`](super::Row::extraction_key).
    pub extraction_keys: HashMap<Tag, RowRef>,
}

impl Live {
    /// Takes a row into account.
    pub fn add(&mut self, key: &Key, at: RowRef) {
        if let Some(text) = key.extraction_key.as_deref().filter(|_| key.outcome == Outcome::Indexed) {
            self.extraction_keys.insert(Tag::of(text), at);
        }
        let id = Tag::of(&key.hub_id);
        let before = self.repos.get(&id).map(|known| known.crawled_at);
        if before.is_some_and(|before| before > key.crawled_at) {
            return;
        }
        let is_of_one_reading = before == Some(key.crawled_at);
        if !is_of_one_reading {
            self.components.remove(&id);
        }
        let checkpoint = Checkpoint { outcome: key.outcome, at };
        let mut main = self.repos.get(&id).and_then(|known| known.main).filter(|_| is_of_one_reading);
        if key.component.is_empty() {
            main = Some(checkpoint);
        } else {
            self.components.entry(id).or_default().insert(key.component.clone(), checkpoint);
        }
        let outcomes = main.into_iter().chain(self.components_of(id)).map(|checkpoint| checkpoint.outcome);
        let (outcome, worst) = outcomes.fold((key.outcome, key.outcome), |(best, worst), outcome| {
            (best.min(outcome), worst.max(outcome))
        });
        let known = Known {
            name: Tag::of(&key.repo_id),
            sha: key.sha.as_deref().map(Tag::of),
            gated: Tag::of(&key.gated),
            crawled_at: key.crawled_at,
            gone: key.is_gone,
            outcome,
            worst,
            main,
        };
        self.repos.insert(id, known);
    }

    /// Whether a row would be live, and is newer than what is known: of the same reading it has what that lacks.
    pub fn lacks(&self, key: &Key) -> bool {
        let id = Tag::of(&key.hub_id);
        let Some(known) = self.repos.get(&id) else { return true };
        let is_known = match key.component.as_str() {
            "" => known.main.is_some(),
            component => self.components.get(&id).is_some_and(|all| all.contains_key(component)),
        };
        known.crawled_at < key.crawled_at || (known.crawled_at == key.crawled_at && !is_known)
    }

    /// What is known of a repository.
    pub fn of(&self, hub_id: &str) -> Option<&Known> {
        self.repos.get(&Tag::of(hub_id))
    }

    /// The live rows of a repository, by the tag of its immutable id: the main checkpoint first, then by component.
    pub fn checkpoints_of(&self, id: Tag) -> impl Iterator<Item = Checkpoint> {
        self.repos.get(&id).and_then(|known| known.main).into_iter().chain(self.components_of(id))
    }

    fn components_of(&self, id: Tag) -> impl Iterator<Item = Checkpoint> {
        self.components.get(&id).into_iter().flat_map(BTreeMap::values).copied()
    }

    /// All live rows.
    pub fn checkpoints(&self) -> impl Iterator<Item = Checkpoint> {
        let components = self.components.values().flat_map(BTreeMap::values).copied();
        self.repos.values().filter_map(|known| known.main).chain(components)
    }

    /// Where the live rows lie.
    pub fn places(&self) -> impl Iterator<Item = RowRef> {
        self.checkpoints().map(|checkpoint| checkpoint.at)
    }

    /// Whether something still waits: a crawl that was killed has not crossed off what it had read.
    pub fn still_waits(&self, waiting: &Waiting) -> bool {
        self.of(&waiting.hub_id).is_none_or(|known| known.crawled_at < waiting.since)
    }

    /// How many checkpoints ended how.
    pub fn outcomes(&self) -> BTreeMap<Outcome, u64> {
        let mut counts = BTreeMap::new();
        for checkpoint in self.checkpoints() {
            *counts.entry(checkpoint.outcome).or_default() += 1;
        }
        counts
    }

    /// Checkpoints with a fingerprint.
    pub fn fingerprints(&self) -> u64 {
        self.checkpoints().filter(|checkpoint| checkpoint.outcome == Outcome::Indexed).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(component: &str, crawled_at: i64, outcome: Outcome) -> Key {
        Key {
            hub_id: "id".into(),
            component: component.into(),
            repo_id: "org/name".into(),
            sha: Some(crawled_at.to_string()),
            crawled_at,
            is_gone: false,
            outcome,
            gated: "false".into(),
            extraction_key: None,
        }
    }

    /// The live rows in the order of their components, as numbers in the list.
    fn live(keys: &[&Key]) -> (Live, Vec<u32>) {
        let mut live = Live::default();
        for (row, key) in (0..).zip(keys) {
            live.add(key, RowRef { shard: 0, row });
        }
        let rows = live.checkpoints_of(Tag::of("id")).map(|checkpoint| checkpoint.at.row).collect();
        (live, rows)
    }

    #[test]
    fn components_that_a_later_reading_does_not_have_are_dead() {
        use Outcome::{Indexed, Unsupported};
        let before = [key("", 5, Unsupported), key("unet", 5, Indexed), key("vae", 5, Indexed)];
        let after = [key("unet", 7, Indexed), key("prior", 7, Unsupported)];
        let [main, unet, vae] = &before;
        let [unet_now, prior] = &after;
        let (found, rows) = live(&[vae, main, unet]);
        assert_eq!(rows, [1, 2, 0]);
        assert_eq!((found.repos.len(), found.fingerprints()), (1, 2));
        assert_eq!(found.outcomes().into_iter().collect::<Vec<_>>(), [(Indexed, 2), (Unsupported, 1)]);
        let known = found.of("id").unwrap();
        assert_eq!((known.outcome, known.worst), (Indexed, Unsupported));
        // In whatever order databases are joined: one reading behind the other, before it, or in between.
        for (order, expected) in [
            ([main, unet, vae, unet_now, prior], [4, 3]),
            ([unet_now, prior, main, unet, vae], [1, 0]),
            ([vae, prior, unet, unet_now, main], [1, 3]),
        ] {
            let (found, rows) = live(&order);
            assert_eq!(rows, expected);
            assert_eq!(found.of("id").unwrap().sha, Some(Tag::of("7")));
            assert_eq!(found.places().count(), 2);
        }
    }

    #[test]
    fn of_two_rows_of_one_checkpoint_and_moment_the_last_counts() {
        let unet = key("unet", 5, Outcome::Indexed);
        let again = key("unet", 5, Outcome::Malformed);
        let (found, rows) = live(&[&unet, &again]);
        assert_eq!((rows, found.of("id").unwrap().outcome), (vec![1], Outcome::Malformed));
        assert!(!found.lacks(&unet) && !found.lacks(&key("unet", 4, Outcome::Indexed)));
        assert!(
            found.lacks(&key("unet", 6, Outcome::Indexed)) && found.lacks(&key("vae", 5, Outcome::Indexed))
        );
        assert!(!found.lacks(&key("vae", 4, Outcome::Indexed)), "dead before it is there");
    }
}
