//! What is known of every repository, in little memory: its live rows, without their fingerprints.
//!
//! A repository has one row for each of its checkpoints. All rows of one reading are made at the same moment and are
//! written in one commit; so of all the rows of a repository **those with its latest `crawled_at` are live**, and of
//! several of these with one component the one that comes last in the database. What a reading does not have any more
//! is dead with the reading before, whatever became of the writer and in whichever order databases are joined: the rule
//! looks at nothing but the rows.
//!
//! A name belongs to one repository at a time. Who was deleted and created again has a new immutable id and the old
//! name; so **of several repositories with one name in their latest rows one is live**: the one under whose name the
//! Hub was last seen to have it. It is not one that is gone while another is not; nor a name without an id, which is a
//! row of what could not be described, beside one that has an id; of the rest it is the one that was crawled last. Who
//! was renamed has another name in its latest row, so a new repository under the old name takes nothing from it.

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
    /// The oldest extraction version among its checkpoints.
    pub extraction_version: u32,
    /// Whether its name has become that of another repository: then none of its rows is live.
    pub is_superseded: bool,
    /// The main checkpoint, if it has one.
    main: Option<Checkpoint>,
}

/// One live row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// How it ended.
    pub outcome: Outcome,
    /// Of the extraction that made its row.
    pub extraction_version: u32,
    /// Where its row lies.
    pub at: RowRef,
}

/// All live rows, and the extraction keys among them.
#[derive(Debug, Default)]
pub struct Live {
    /// By [`Tag`] of `hub_id`, superseded ones included: they may be back under another name.
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
        let Key { outcome, extraction_version, .. } = *key;
        let checkpoint = Checkpoint { outcome, extraction_version, at };
        let mut main = self.repos.get(&id).and_then(|known| known.main).filter(|_| is_of_one_reading);
        if key.component.is_empty() {
            main = Some(checkpoint);
        } else {
            self.components.entry(id).or_default().insert(key.component.clone(), checkpoint);
        }
        let (mut outcome, mut worst, mut extraction_version) = (outcome, outcome, extraction_version);
        for checkpoint in main.into_iter().chain(self.components_of(id)) {
            outcome = outcome.min(checkpoint.outcome);
            worst = worst.max(checkpoint.outcome);
            extraction_version = extraction_version.min(checkpoint.extraction_version);
        }
        let name = Tag::of(&key.repo_id);
        let known = Known {
            name,
            sha: key.sha.as_deref().map(Tag::of),
            gated: Tag::of(&key.gated),
            crawled_at: key.crawled_at,
            gone: key.is_gone,
            outcome,
            worst,
            extraction_version,
            is_superseded: false,
            main,
        };
        self.repos.insert(id, known);
    }

    /// With all rows added, finds whose name has become that of another repository.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let mut by_name: Vec<(Tag, Tag)> = self.repos.iter().map(|(id, known)| (known.name, *id)).collect();
        by_name.sort_unstable();
        for namesakes in by_name.chunk_by(|(a, _), (b, _)| a == b).filter(|all| all.len() > 1) {
            // The order of ids settles what nothing else does, so that the order of the rows does not.
            let claim = |id: &Tag| {
                let known = self.repos.get(id);
                known.map(|known| (*id != known.name, !known.gone, known.crawled_at, *id))
            };
            let holder = namesakes.iter().map(|(_, id)| *id).max_by_key(claim);
            for (_, id) in namesakes {
                if let Some(known) = self.repos.get_mut(id) {
                    known.is_superseded = holder != Some(*id);
                }
            }
        }
        self
    }

    /// The repositories whose rows are live.
    pub fn repositories(&self) -> impl Iterator<Item = (Tag, &Known)> + Clone {
        self.repos.iter().filter(|(_, known)| !known.is_superseded).map(|(id, known)| (*id, known))
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

    /// The rows of a repository that are live unless it is superseded, by the tag of its immutable id: the main checkpoint first, then by component.
    pub fn checkpoints_of(&self, id: Tag) -> impl Iterator<Item = Checkpoint> {
        self.repos.get(&id).and_then(|known| known.main).into_iter().chain(self.components_of(id))
    }

    fn components_of(&self, id: Tag) -> impl Iterator<Item = Checkpoint> {
        self.components.get(&id).into_iter().flat_map(BTreeMap::values).copied()
    }

    /// All live rows.
    pub fn checkpoints(&self) -> impl Iterator<Item = Checkpoint> {
        self.repositories().flat_map(|(id, _)| self.checkpoints_of(id))
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
        self.extraction_versions().values().sum()
    }

    /// How many of them are of which extraction version.
    pub fn extraction_versions(&self) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        for checkpoint in self.checkpoints().filter(|checkpoint| checkpoint.outcome == Outcome::Indexed) {
            *counts.entry(checkpoint.extraction_version).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::fingerprint::EXTRACTION_VERSION;

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
            extraction_version: EXTRACTION_VERSION,
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

    /// Of a repository with this id and name.
    fn named(hub_id: &str, repo_id: &str, crawled_at: i64) -> Key {
        let key = key("", crawled_at, Outcome::Indexed);
        Key { hub_id: hub_id.into(), repo_id: repo_id.into(), ..key }
    }

    /// The ids that are live, whatever the order of the rows.
    fn ids(keys: &[Key]) -> Vec<String> {
        let of = |keys: &[&Key]| {
            let mut live = Live::default();
            for (row, key) in (0..).zip(keys) {
                live.add(key, RowRef { shard: 0, row });
            }
            let live = live.settled();
            let mut ids: Vec<String> = live
                .repositories()
                .map(|(id, _)| keys.iter().find(|key| Tag::of(&key.hub_id) == id).unwrap().hub_id.clone())
                .collect();
            ids.sort();
            assert_eq!(live.places().count(), ids.len());
            ids
        };
        let forth: Vec<&Key> = keys.iter().collect();
        let found = of(&forth);
        for begin in 0..keys.len() {
            let mut order = forth.clone();
            order.rotate_left(begin);
            assert_eq!(of(&order), found, "from {begin} on");
            order.reverse();
            assert_eq!(of(&order), found, "backwards from {begin} on");
        }
        found
    }

    #[test]
    fn of_who_was_deleted_and_created_again_one_entry_is_live() {
        let (old, new) = (named("1", "org/a", 5), named("2", "org/a", 7));
        assert_eq!(ids(&[old.clone(), new.clone()]), ["2"]);
        // That the old one was found gone later says nothing of the name.
        let gone = Key { is_gone: true, crawled_at: 9, ..old.clone() };
        assert_eq!(ids(&[old.clone(), new.clone(), gone.clone()]), ["2"]);
        // Nor does it matter that the new one has gone, too.
        let both = [old.clone(), gone, new.clone(), Key { is_gone: true, crawled_at: 11, ..new.clone() }];
        assert_eq!(ids(&both), ["2"]);
        // Again and again, and at the same moment.
        assert_eq!(ids(&[old.clone(), new.clone(), named("3", "org/a", 8)]), ["3"]);
        assert_eq!(ids(&[old, new, named("3", "org/a", 7)]).len(), 1);
    }

    #[test]
    fn who_was_renamed_keeps_its_entry() {
        let (a, new) = (named("1", "org/a", 5), named("2", "org/a", 7));
        // Renamed before the new one was seen, in the same night, or seen to be only later.
        for renamed in [6, 7, 9] {
            assert_eq!(ids(&[a.clone(), new.clone(), named("1", "org/b", renamed)]), ["1", "2"]);
        }
        // Two have changed names, and one has its old name back.
        let swapped = [a.clone(), named("2", "org/b", 5), named("1", "org/b", 8), named("2", "org/a", 8)];
        assert_eq!(ids(&swapped), ["1", "2"]);
        assert_eq!(ids(&[a.clone(), named("1", "org/b", 6), named("1", "org/a", 8), new.clone()]), ["1"]);
        // Others are not touched, nor are the components of one.
        let unet = Key { component: "unet".into(), ..a.clone() };
        let (found, rows) = live(&[&Key { hub_id: "id".into(), ..a }, &Key { hub_id: "id".into(), ..unet }]);
        assert_eq!((rows, found.settled().places().count()), (vec![0, 1], 2));
    }

    #[test]
    fn a_name_without_an_id_takes_nothing_from_a_repository() {
        // It was asked for by name, and the Hub did not describe it.
        let read = named("1", "org/a", 5);
        let bare = Key { outcome: Outcome::Unreachable, ..named("org/a", "org/a", 9) };
        assert_eq!(ids(&[read.clone(), bare.clone()]), ["1"]);
        assert_eq!(ids(&[Key { is_gone: true, ..read }, bare.clone()]), ["1"]);
        assert_eq!(ids(&[bare]), ["org/a"]);
    }

    proptest::proptest! {
        #[test]
        fn every_name_has_one_live_repository_in_whatever_order(
            rows in proptest::collection::vec((0u8..5, 0u8..3, 0i64..6, proptest::bool::ANY), 1..12),
        ) {
            let keys: Vec<Key> = rows
                .iter()
                .map(|(id, name, at, is_gone)| {
                    let key = named(&id.to_string(), &format!("org/{name}"), *at);
                    Key { is_gone: *is_gone, ..key }
                })
                .collect();
            let mut live = Live::default();
            for (row, key) in (0..).zip(&keys) {
                live.add(key, RowRef { shard: 0, row });
            }
            let live = live.settled();
            let mut names: Vec<Tag> = live.repositories().map(|(_, known)| known.name).collect();
            let mut all: Vec<Tag> = live.repos.values().map(|known| known.name).collect();
            for names in [&mut names, &mut all] {
                names.sort_unstable();
            }
            all.dedup();
            proptest::prop_assert_eq!(names, all);
        }
    }
}
