//! A database folder as one value.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::manifest::{IndexEntry, Manifest, ShardEntry};
use super::schema::{Content, Key};
use super::{Outcome, Row, StoreError, atomic, shard};

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef {
    /// Number of the shard in the manifest.
    pub shard: u32,
    /// Number of the row in the shard.
    pub row: u32,
}

/// What is known of a repository without its fingerprint.
#[derive(Clone, Debug)]
pub struct Known {
    /// Commit that was read.
    pub sha: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Where its row lies.
    pub at: RowRef,
}

/// An open database. Readers see the state of the moment of opening.
#[derive(Debug)]
pub struct Database {
    folder: PathBuf,
    manifest: Manifest,
}

impl Database {
    /// Opens an existing database.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { folder: folder.to_owned(), manifest: Manifest::read(folder)? })
    }

    /// Opens a database, or makes an empty one where there is nothing. A folder with other content is refused.
    pub fn open_or_create(folder: &Path) -> Result<Self, StoreError> {
        match Self::open(folder) {
            Err(StoreError::NotADatabase { .. }) if is_empty_or_missing(folder)? => {
                let mut manifest = Manifest::default();
                manifest.commit(folder)?;
                Ok(Self { folder: folder.to_owned(), manifest })
            }
            other => other,
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds rows as one shard: durable and visible when this returns. No rows, no shard.
    pub fn append(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let file = format!("shards/{:06}.parquet", self.manifest.shards.len());
        let entry = shard::write(&self.folder, &file, rows)?;
        self.manifest.shards.push(entry);
        self.manifest.commit(&self.folder)
    }

    /// Makes an index folder the one that scans use.
    pub fn set_index(&mut self, entry: IndexEntry) -> Result<(), StoreError> {
        self.manifest.index = Some(entry);
        self.manifest.commit(&self.folder)
    }

    /// Keeps a run report beside the data; returns its path.
    pub fn keep_report(&self, name: &str, json: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.folder.join("reports").join(name);
        atomic::write(&path, json)?;
        Ok(path)
    }

    /// What the index needs of the rows of one shard, batch by batch, live or not.
    pub fn contents(
        &self,
        shard: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<(RowRef, Content)>, StoreError>>, StoreError> {
        let entry = self.shard(shard)?;
        let mut row = 0;
        Ok(shard::read_contents(&self.folder, entry)?.map(move |batch| {
            let places = batch?.into_iter().map(|content| {
                row += 1;
                (RowRef { shard: shard as u32, row: row - 1 }, content)
            });
            Ok(places.collect())
        }))
    }

    fn shard(&self, shard: usize) -> Result<&ShardEntry, StoreError> {
        self.manifest.shards.get(shard).ok_or_else(|| StoreError::Damaged {
            path: self.folder.join(super::manifest::FILE_NAME),
            what: format!("it lists no shard {shard}"),
        })
    }

    /// The live row of every repository, by its immutable id, without fingerprints.
    pub fn live(&self) -> Result<HashMap<String, Known>, StoreError> {
        let mut live = HashMap::new();
        for (shard, entry) in self.manifest.shards.iter().enumerate() {
            let mut row = 0;
            for batch in shard::read_keys(&self.folder, entry)? {
                for Key { hub_id, sha, outcome } in batch? {
                    live.insert(hub_id, Known { sha, outcome, at: RowRef { shard: shard as u32, row } });
                    row += 1;
                }
            }
        }
        Ok(live)
    }

    /// Checks the checksum of every shard and counts its rows; returns their sum.
    pub fn verify(&self) -> Result<u64, StoreError> {
        let mut rows = 0;
        for entry in &self.manifest.shards {
            let path = self.folder.join(&entry.file);
            atomic::verify(&path, entry.bytes, &entry.sha256)?;
            let mut found = 0;
            for batch in shard::read_keys(&self.folder, entry)? {
                found += batch?.len() as u64;
            }
            if found != entry.rows {
                let what = format!("it has {found} rows, the manifest says {}", entry.rows);
                return Err(StoreError::Damaged { path, what });
            }
            rows += found;
        }
        Ok(rows)
    }

    /// Live rows by outcome.
    pub fn outcomes(&self) -> Result<BTreeMap<Outcome, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        for known in self.live()?.values() {
            *counts.entry(known.outcome).or_default() += 1;
        }
        Ok(counts)
    }

    /// The rows at these places, in the order asked.
    pub fn rows(&self, places: &[RowRef]) -> Result<Vec<Row>, StoreError> {
        let mut by_shard: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for place in places {
            by_shard.entry(place.shard).or_default().push(place.row);
        }
        let mut found = HashMap::new();
        for (shard, mut rows) in by_shard {
            rows.sort_unstable();
            rows.dedup();
            let entry = self.shard(shard as usize)?;
            for (row, value) in rows.iter().zip(shard::read_rows(&self.folder, entry, &rows)?) {
                found.insert(RowRef { shard, row: *row }, value);
            }
        }
        Ok(places.iter().filter_map(|place| found.get(place).cloned()).collect())
    }
}

fn is_empty_or_missing(folder: &Path) -> Result<bool, StoreError> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(StoreError::Io { path: folder.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::testing::row;
    use super::*;
    use crate::signals::testing::Model;

    fn rows(names: &[&str]) -> Vec<Row> {
        names.iter().map(|n| row(n, Some(Model::random(1, 2, 64).fingerprint()))).collect()
    }

    #[test]
    fn later_rows_replace_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path()).unwrap();
        db.append(&rows(&["a", "b"])).unwrap();
        db.append(&[Row { sha: Some("new".into()), ..rows(&["a"]).remove(0) }]).unwrap();
        let db = Database::open(dir.path()).unwrap();
        let live = db.live().unwrap();
        assert_eq!(live.len(), 2);
        assert_eq!(live["id-a"].sha.as_deref(), Some("new"));
        let places = |id: &str| live[id].at;
        assert_eq!(places("id-a"), RowRef { shard: 1, row: 0 });
        let contents: Vec<_> = db.contents(0).unwrap().flat_map(Result::unwrap).collect();
        let found: Vec<_> = contents.iter().map(|(at, c)| (*at, c.repo_id.as_str())).collect();
        let at = |row| RowRef { shard: 0, row };
        assert_eq!(found, [(at(0), "org/a"), (at(1), "org/b")]);
        assert!(db.contents(7).is_err());
    }

    #[test]
    fn rows_are_found_by_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path()).unwrap();
        db.append(&rows(&["a", "b", "c"])).unwrap();
        db.append(&rows(&["d"])).unwrap();
        let places = [RowRef { shard: 1, row: 0 }, RowRef { shard: 0, row: 2 }, RowRef { shard: 0, row: 0 }];
        let names: Vec<_> = db.rows(&places).unwrap().into_iter().map(|r| r.repo_id).collect();
        assert_eq!(names, ["org/d", "org/c", "org/a"]);
    }

    #[test]
    fn folders_that_are_no_database() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::NotADatabase { .. })));
        assert!(matches!(Database::open(&dir.path().join("none")), Err(StoreError::NotADatabase { .. })));
        atomic::write(&dir.path().join("other.txt"), b"x").unwrap();
        assert!(matches!(Database::open_or_create(dir.path()), Err(StoreError::NotADatabase { .. })));
    }

    #[test]
    fn another_version_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path()).unwrap();
        db.append(&rows(&["a"])).unwrap();
        let shard = dir.path().join(&db.manifest().shards[0].file);
        let bytes = std::fs::read(&shard).unwrap();
        atomic::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(db.live(), Err(StoreError::Damaged { .. })));
        atomic::write(&dir.path().join("manifest.json"), br#"{"format_version": 99}"#).unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Version { found: 99, .. })));
        atomic::write(&dir.path().join("manifest.json"), b"{").unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Damaged { .. })));
        let outside = br#"{"format_version":2,"extraction_version":2,"generation":1,"index":null,"shards":[{"file":"../x","rows":1,"bytes":1,"sha256":""}]}"#;
        atomic::write(&dir.path().join("manifest.json"), outside).unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Damaged { .. })));
    }
}
