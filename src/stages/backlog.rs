//! The repositories that a crawl is to read, the most important first. Descriptions lie in a file that has no name,
//! so it goes with the process; in memory are 32 bytes a repository.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hub::RepoEntry;
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
    /// Since when it waits, milliseconds since 1970; `None` if it is due for the first time.
    pub since: Option<i64>,
}

/// What is to be read.
#[derive(Debug)]
pub struct Backlog {
    folder: PathBuf,
    file: BufWriter<File>,
    end: u64,
    items: Vec<Item>,
    next: usize,
}

/// By what is sorted, and where the description lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    since: i64,
    rank: u64,
    offset: u64,
    length: u32,
}

/// `since` of a repository that does not wait yet.
const NEVER: i64 = i64::MAX;

impl Backlog {
    /// An empty one, whose file takes room in `folder`.
    pub fn new(folder: &Path) -> Result<Self, StoreError> {
        let file = tempfile::tempfile_in(folder).map_err(StoreError::io(folder))?;
        Ok(Self { folder: folder.to_owned(), file: BufWriter::new(file), end: 0, items: Vec::new(), next: 0 })
    }

    /// Adds a repository.
    pub fn push(&mut self, due: &Due, order: Order) -> Result<(), StoreError> {
        let entry = &due.entry;
        let created = entry.created_at.map_or(0, |t| t.timestamp_millis().cast_unsigned());
        let rank = match order {
            Order::Downloads => u64::MAX - entry.downloads.unwrap_or(0),
            Order::Newest => u64::MAX - created,
            Order::Oldest => created,
        };
        let json = serde_json::to_vec(entry).map_err(StoreError::damaged(&self.folder))?;
        self.file.write_all(&json).map_err(StoreError::io(&self.folder))?;
        let length = json.len() as u32; // a page is bounded far below 4 GB
        self.items.push(Item { since: due.since.unwrap_or(NEVER), rank, offset: self.end, length });
        self.end += u64::from(length);
        Ok(())
    }

    /// Brings all that was added into order and begins at the first.
    pub fn sort(&mut self) -> Result<(), StoreError> {
        self.file.flush().map_err(StoreError::io(&self.folder))?;
        self.items.sort_unstable();
        self.next = 0;
        Ok(())
    }

    /// The next one.
    pub fn next(&mut self) -> Result<Option<Due>, StoreError> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let mut json = vec![0; item.length as usize];
        self.file.get_ref().read_exact_at(&mut json, item.offset).map_err(StoreError::io(&self.folder))?;
        let entry = serde_json::from_slice(&json).map_err(StoreError::damaged(&self.folder))?;
        self.next += 1;
        Ok(Some(Due { entry, since: (item.since != NEVER).then_some(item.since) }))
    }

    /// Repositories from the next one on.
    pub fn len(&self) -> usize {
        self.items.len() - self.next
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Due {
    /// As what is left for the next crawl, if it is not read in this one, which is at `now`.
    pub fn waiting(&self, now: i64) -> Waiting {
        Waiting {
            hub_id: self.entry.object_id.clone(),
            repo_id: self.entry.id.as_str().to_owned(),
            since: self.since.unwrap_or(now),
        }
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
            "siblings": [{"rfilename": "model.safetensors"}], "tags": ["license:mit"], "gated": "auto"});
        Due { entry: RepoEntry::read(value, 1 << 10).unwrap(), since }
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
            all.iter().for_each(|due| backlog.push(due, order).unwrap());
            backlog.sort().unwrap();
            let mut found = Vec::new();
            while let Some(next) = backlog.next().unwrap() {
                assert!(all.contains(&next), "nothing is lost on the way: {next:?}");
                found.push(next.entry.object_id);
            }
            assert_eq!(found, expected, "{order:?}");
            assert!(backlog.is_empty());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        }
    }
}
