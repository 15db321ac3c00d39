//! The repositories that a crawl is to read, the most important first, and last those that were read by an older version
//! alone. Descriptions and names lie in two files that
//! have no name themselves, so they go with the process; in memory are 72 bytes a repository.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hub::{Gated, RepoEntry};
use crate::store::{StoreError, Waiting};

/// Which repositories come first, after those that waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Most downloads in the last 30 days.
    #[default]
    Downloads,
    /// Latest creation.
    Newest,
    /// Earliest creation.
    Oldest,
}

/// A repository to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// The Hub's description of it.
    pub entry: RepoEntry,
    /// Whether there is a fingerprint of it, of another commit or of an older version.
    pub is_known: bool,
    /// Whether nothing about it has changed, and its fingerprint is only of an older version. Those come after all
    /// others and are never left over: the next crawl finds them by their rows.
    pub is_outdated: bool,
    /// When its row was made that the new one will replace, milliseconds since 1970.
    pub replaces: Option<i64>,
    /// Since when it waits, milliseconds since 1970; `None` if it is due for the first time.
    pub since: Option<i64>,
}

/// What is to be read.
#[derive(Debug)]
pub struct Backlog {
    folder: PathBuf,
    entries: Part,
    names: Part,
    items: Vec<Item>,
    next: usize,
}

/// By what is sorted, and where the rest lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    is_outdated: bool,
    since: i64,
    rank: u64,
    /// Of those that are outdated, by their likes.
    second_rank: u64,
    entry: Place,
    name: Place,
    is_known: bool,
    replaces: i64,
}

/// Bytes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    offset: u64,
    length: u32,
}

/// A file without a name, to which pieces are added.
#[derive(Debug)]
struct Part {
    file: BufWriter<File>,
    end: u64,
}

impl Part {
    fn new(folder: &Path) -> std::io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile_in(folder)?), end: 0 })
    }

    fn add(&mut self, bytes: &[u8]) -> std::io::Result<Place> {
        self.file.write_all(bytes)?;
        let place = Place { offset: self.end, length: bytes.len() as u32 }; // a page is bounded far below 4 GB
        self.end += bytes.len() as u64;
        Ok(place)
    }

    fn read(&self, place: Place) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.length as usize];
        self.file.get_ref().read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }
}

/// `since` of a repository that does not wait yet, and `replaces` of one that has no row.
const NEVER: i64 = i64::MAX;

impl Backlog {
    /// An empty one, whose files take room in `folder`. It is made if it is not there, as for a bucket of which
    /// nothing was read yet.
    pub fn new(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        let part = || Part::new(folder).map_err(StoreError::io(folder));
        let (entries, names) = (part()?, part()?);
        Ok(Self { folder: folder.to_owned(), entries, names, items: Vec::new(), next: 0 })
    }

    /// Adds a repository.
    pub fn push(&mut self, due: &Due, order: Order) -> Result<(), StoreError> {
        let entry = &due.entry;
        let created = entry.created_at.map_or(0, |t| t.timestamp_millis().cast_unsigned());
        let fewer = |n: Option<u64>| u64::MAX - n.unwrap_or(0);
        let (rank, second_rank) = match order {
            // What was readable once and is gated now would take its turn every night in vain.
            _ if due.is_outdated && matches!(entry.gated, Some(Gated::Auto | Gated::Manual)) => {
                (u64::MAX, fewer(entry.downloads))
            }
            _ if due.is_outdated => (fewer(entry.downloads), fewer(entry.likes)),
            Order::Downloads => (fewer(entry.downloads), 0),
            Order::Newest => (u64::MAX - created, 0),
            Order::Oldest => (created, 0),
        };
        let json = serde_json::to_vec(entry).map_err(StoreError::damaged(&self.folder))?;
        let name = format!("{}\n{}", entry.object_id, entry.id);
        let io = |e| StoreError::io(&self.folder)(e);
        let (name, entry) =
            (self.names.add(name.as_bytes()).map_err(io)?, self.entries.add(&json).map_err(io)?);
        let Due { is_known, is_outdated, .. } = *due;
        let since = due.since.filter(|_| !is_outdated).unwrap_or(NEVER);
        let replaces = due.replaces.unwrap_or(NEVER);
        self.items.push(Item { is_outdated, since, rank, second_rank, entry, name, is_known, replaces });
        Ok(())
    }

    /// Brings all that was added into order and begins at the first.
    pub fn sort(&mut self) -> Result<(), StoreError> {
        for part in [&mut self.entries, &mut self.names] {
            part.file.flush().map_err(StoreError::io(&self.folder))?;
        }
        self.items.sort_unstable();
        self.next = 0;
        let Self { items, names, folder, .. } = self;
        let first = items.partition_point(|item| !item.is_outdated);
        let outdated = items.get_mut(first..).unwrap_or_default();
        let ties = outdated.chunk_by_mut(|a, b| (a.rank, a.second_rank) == (b.rank, b.second_rank));
        for equals in ties.filter(|equals| equals.len() > 1) {
            let name = |item: &Item| names.read(item.name).map(|text| (name_of(&text).to_vec(), *item));
            let named: std::io::Result<Vec<(Vec<u8>, Item)>> = equals.iter().map(name).collect();
            let mut named = named.map_err(StoreError::io(folder))?;
            named.sort_unstable();
            equals.iter_mut().zip(named).for_each(|(item, (_, next))| *item = next);
        }
        Ok(())
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Result<Option<Due>, StoreError> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let json = self.entries.read(item.entry).map_err(StoreError::io(&self.folder))?;
        let entry = serde_json::from_slice(&json).map_err(StoreError::damaged(&self.folder))?;
        let time = |t: i64| (t != NEVER).then_some(t);
        let (since, replaces) = (time(item.since), time(item.replaces));
        let Item { is_known, is_outdated, .. } = *item;
        let due = Due { entry, is_known, is_outdated, replaces, since };
        self.next += 1;
        Ok(Some(due))
    }

    /// What is left of it as what waits for the next crawl, when this one is at `now`; read as it is taken. Without
    /// those that are outdated.
    pub fn waiting(&self, now: i64) -> impl Iterator<Item = Result<Waiting, StoreError>> {
        let mut left: Vec<Item> = self.left().iter().filter(|item| !item.is_outdated).copied().collect();
        // One after the other through the file: there may be millions, and little time.
        left.sort_unstable_by_key(|item| item.name);
        left.into_iter().map(move |item| {
            let text = self.names.read(item.name).map_err(StoreError::io(&self.folder))?;
            let text = String::from_utf8(text).map_err(StoreError::damaged(&self.folder))?;
            let (hub_id, repo_id) = text.split_once('\n').unwrap_or_default();
            let since = if item.since == NEVER { now } else { item.since };
            Ok(Waiting { hub_id: hub_id.to_owned(), repo_id: repo_id.to_owned(), since })
        })
    }

    fn left(&self) -> &[Item] {
        self.items.get(self.next..).unwrap_or_default()
    }

    /// Repositories from the next one on.
    pub fn len(&self) -> usize {
        self.left().len()
    }

    /// Those of them that wait for the next crawl if this one does not read them: all but the outdated ones.
    pub fn may_wait(&self) -> usize {
        self.left().partition_point(|item| !item.is_outdated)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The repository's name in the text that a backlog keeps of it.
fn name_of(text: &[u8]) -> &[u8] {
    let end_of_id = text.iter().position(|byte| *byte == b'\n');
    end_of_id.and_then(|end| text.get(end..)).unwrap_or_default()
}

impl Due {
    /// As what is left for the next crawl, if it is not read in this one, which is at `now`; nothing of one that is
    /// outdated.
    pub fn waiting(&self, now: i64) -> Option<Waiting> {
        (!self.is_outdated).then(|| Waiting {
            hub_id: self.entry.object_id.clone(),
            repo_id: self.entry.id.as_str().to_owned(),
            since: self.since.unwrap_or(now),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn due(name: &str, downloads: u64, since: Option<i64>) -> Due {
        let day = 1 + downloads % 28;
        let created = format!("2024-01-{day:02}T00:00:00.000Z");
        let value = json!({"_id": name, "id": format!("org/{name}"), "downloads": downloads, "createdAt": created,
            "siblings": [{"rfilename": "model.safetensors"}], "tags": ["license:mit"], "gated": false});
        Due {
            entry: RepoEntry::read(value, 1 << 10).unwrap(),
            is_known: downloads == 5,
            is_outdated: false,
            replaces: since.map(|t| t + 1),
            since,
        }
    }

    #[test]
    fn who_waited_comes_first_then_the_most_important() {
        let all = [due("a", 5, None), due("b", 9, None), due("c", 1, Some(20)), due("d", 2, Some(10))];
        for (order, expected) in [
            (Order::Downloads, ["d", "c", "b", "a"]),
            (Order::Newest, ["d", "c", "b", "a"]),
            (Order::Oldest, ["d", "c", "a", "b"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut backlog = Backlog::new(dir.path()).unwrap();
            for due in &all {
                backlog.push(due, order).unwrap();
            }
            backlog.sort().unwrap();
            let left = {
                let mut other = Backlog::new(dir.path()).unwrap();
                for due in &all {
                    other.push(due, order).unwrap();
                }
                other.sort().unwrap();
                other.pop().unwrap();
                other.waiting(99).collect::<Result<Vec<Waiting>, _>>().unwrap()
            };
            let left: Vec<_> =
                left.iter().map(|w| (w.hub_id.as_str(), w.repo_id.as_str(), w.since)).collect();
            assert_eq!(left, [("a", "org/a", 99), ("b", "org/b", 99), ("c", "org/c", 20)]);
            let mut found = Vec::new();
            while let Some(next) = backlog.pop().unwrap() {
                assert!(all.contains(&next), "nothing is lost on the way: {next:?}");
                found.push(next.entry.object_id);
            }
            assert_eq!(found, expected, "{order:?}");
            assert!(backlog.is_empty());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        }
    }

    #[test]
    fn what_is_outdated_comes_last_by_gate_downloads_likes_and_name_and_never_waits() {
        let outdated = |name: &str, downloads: u64, likes: u64| {
            let due = due(name, downloads, Some(1));
            let entry = RepoEntry { likes: Some(likes), ..due.entry };
            Due { entry, is_outdated: true, ..due }
        };
        let gated = outdated("gated", 99, 99);
        let gated = Due { entry: RepoEntry { gated: Some(Gated::Manual), ..gated.entry }, ..gated };
        let all = [
            gated,
            outdated("few", 1, 9),
            outdated("many", 90, 0),
            due("new", 0, None),
            outdated("liked-b", 7, 3),
            outdated("liked-a", 7, 3),
            outdated("unliked", 7, 0),
            due("waited", 0, Some(5)),
        ];
        for order in [Order::Downloads, Order::Newest, Order::Oldest] {
            let dir = tempfile::tempdir().unwrap();
            let mut backlog = Backlog::new(dir.path()).unwrap();
            for due in &all {
                backlog.push(due, order).unwrap();
            }
            backlog.sort().unwrap();
            assert_eq!((backlog.len(), backlog.may_wait()), (8, 2));
            assert_eq!(backlog.waiting(99).count(), 2);
            let mut found = Vec::new();
            while let Some(next) = backlog.pop().unwrap() {
                assert_eq!(next.waiting(99).is_none(), next.is_outdated);
                found.push(next.entry.object_id);
            }
            let expected = ["waited", "new", "many", "liked-a", "liked-b", "unliked", "few", "gated"];
            assert_eq!(found, expected, "{order:?}");
            assert_eq!((backlog.may_wait(), backlog.waiting(99).count()), (0, 0));
        }
    }
}
