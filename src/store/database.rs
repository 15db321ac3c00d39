//! A database folder as one value.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::lock::{self, Lock, Owner};
use super::manifest::{IndexEntry, Manifest, ShardEntry};
use super::schema::Content;
use super::{Live, Outcome, Row, StoreError, Waiting, atomic, shard};

/// Folder of the lists of what waits.
const WAITING: &str = "waiting";

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef {
    /// Number of the shard in the manifest.
    pub shard: u32,
    /// Number of the row in the shard.
    pub row: u32,
}

/// An open database. Readers see the state of the moment of opening.
#[derive(Debug)]
pub struct Database {
    folder: PathBuf,
    manifest: Manifest,
    /// Only a writer has one.
    lock: Option<Lock>,
}

impl Database {
    /// Opens an existing database for reading.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { folder: folder.to_owned(), manifest: Manifest::read(folder)?, lock: None })
    }

    /// Opens an existing database for writing, as the only one.
    pub fn open_to_write(folder: &Path) -> Result<Self, StoreError> {
        Manifest::read(folder)?;
        let lock = Lock::acquire(folder)?;
        // Read again: the writer before may have committed while we waited for its lock.
        let manifest = Manifest::read(folder)?;
        for part in [folder.to_owned(), folder.join("shards"), folder.join(WAITING)] {
            atomic::clean(&part)?;
        }
        remove_unlisted(folder, &manifest)?;
        Ok(Self { folder: folder.to_owned(), manifest, lock: Some(lock) })
    }

    /// Opens a database for writing, or makes an empty one where there is nothing. A folder with other content is
    /// refused.
    pub fn open_or_create(folder: &Path) -> Result<Self, StoreError> {
        match Self::open_to_write(folder) {
            Err(StoreError::NotADatabase { .. }) if is_empty_or_missing(folder)? => {
                std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
                let lock = Lock::acquire(folder)?;
                // Another one may have made it while we waited.
                let mut manifest = match Manifest::read(folder) {
                    Err(StoreError::NotADatabase { .. }) => Manifest::default(),
                    manifest => manifest?,
                };
                atomic::clean(folder)?;
                if manifest.generation == 0 {
                    manifest.commit(folder)?;
                }
                Ok(Self { folder: folder.to_owned(), manifest, lock: Some(lock) })
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
        self.add_shard(rows)?;
        self.commit()
    }

    /// Adds rows and replaces what waits, in one commit.
    pub fn append_last(&mut self, rows: &[Row], waiting: &[Waiting]) -> Result<(), StoreError> {
        if rows.is_empty() && waiting.is_empty() && self.manifest.waiting.is_none() {
            return Ok(());
        }
        if !rows.is_empty() {
            self.add_shard(rows)?;
        }
        let before = self.manifest.waiting.take();
        if !waiting.is_empty() {
            let file = format!("{WAITING}/{:06}.parquet", self.manifest.generation + 1);
            self.manifest.waiting = Some(shard::write_waiting(&self.folder, &file, waiting)?);
        }
        self.commit()?;
        if before.is_some() {
            remove_unlisted(&self.folder, &self.manifest)?;
        }
        Ok(())
    }

    /// What the last crawl left for the next one.
    pub fn waiting(&self) -> Result<Vec<Waiting>, StoreError> {
        let Some(entry) = &self.manifest.waiting else { return Ok(Vec::new()) };
        let mut waiting = Vec::new();
        for batch in shard::read_waiting(&self.folder, entry)? {
            waiting.extend(batch?);
        }
        Ok(waiting)
    }

    fn add_shard(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let file = format!("shards/{:06}.parquet", self.manifest.shards.len());
        let entry = shard::write(&self.folder, &file, rows)?;
        self.manifest.shards.push(entry);
        Ok(())
    }

    /// Makes an index folder the one that scans use.
    pub fn set_index(&mut self, entry: IndexEntry) -> Result<(), StoreError> {
        self.manifest.index = Some(entry);
        self.commit()
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let lock = self.lock.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.folder.clone() })?;
        lock.check()?;
        self.manifest.commit(&self.folder)
    }

    /// Keeps a run report beside the data; returns its path.
    pub fn keep_report(&self, name: &str, text: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.folder.join("reports").join(name);
        atomic::write(&path, text)?;
        Ok(path)
    }

    /// The run reports of crawls, as they were written, the latest first. What is not JSON is left out.
    pub fn reports(&self) -> Result<Vec<serde_json::Value>, StoreError> {
        let folder = self.folder.join("reports");
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io(&folder))?,
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("crawl-") && name.ends_with(".json")
        });
        // Names begin with the time.
        paths.sort_unstable_by(|a, b| b.cmp(a));
        Ok(paths.iter().filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect())
    }

    /// Who writes at this moment.
    pub fn writer(&self) -> Option<Owner> {
        lock::holder(&self.folder)
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

    /// The live row of every repository, without fingerprints.
    pub fn live(&self) -> Result<Live, StoreError> {
        let mut live = Live::default();
        for (shard, entry) in self.manifest.shards.iter().enumerate() {
            let mut row = 0;
            for batch in shard::read_keys(&self.folder, entry)? {
                for key in batch? {
                    live.add(&key, RowRef { shard: shard as u32, row });
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
        if let Some(entry) = &self.manifest.waiting {
            atomic::verify(&self.folder.join(&entry.file), entry.bytes, &entry.sha256)?;
        }
        Ok(rows)
    }

    /// Live rows by outcome.
    pub fn outcomes(&self) -> Result<BTreeMap<Outcome, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        for known in self.live()?.repos.values() {
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

/// Removes lists of what waits that the manifest does not name.
fn remove_unlisted(folder: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let folder = folder.join(WAITING);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(StoreError::io(&folder))?.path();
        let listed = manifest.waiting.as_ref().is_some_and(|w| path.ends_with(&w.file));
        if !listed && let Err(error) = std::fs::remove_file(&path) {
            // Nothing reads it.
            tracing::warn!(path = %path.display(), %error, "an old list could not be removed");
        }
    }
    Ok(())
}

fn is_empty_or_missing(folder: &Path) -> Result<bool, StoreError> {
    match std::fs::read_dir(folder) {
        // A run that died before its first commit leaves its lock and half a manifest.
        Ok(mut entries) => Ok(entries.all(|entry| {
            let name = entry.map(|e| e.file_name()).unwrap_or_default();
            name == lock::FILE_NAME || atomic::is_temporary(&name)
        })),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(StoreError::Io { path: folder.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tag;
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
        assert_eq!(live.repos.len(), 2);
        let known = live.of("id-a").unwrap();
        assert_eq!((known.sha, known.at), (Some(Tag::of("new")), RowRef { shard: 1, row: 0 }));
        let contents: Vec<_> = db.contents(0).unwrap().flat_map(Result::unwrap).collect();
        let found: Vec<_> = contents.iter().map(|(at, c)| (*at, c.repo_id.as_str())).collect();
        let at = |row| RowRef { shard: 0, row };
        assert_eq!(found, [(at(0), "org/a"), (at(1), "org/b")]);
        assert!(db.contents(7).is_err());
    }

    #[test]
    fn what_waits_is_replaced_with_the_last_rows() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path()).unwrap();
        let waiting = |id: &str| Waiting { hub_id: id.into(), repo_id: format!("org/{id}"), since: 7 };
        let all = [waiting("x"), waiting("y")];
        db.append_last(&rows(&["a"]), &all).unwrap();
        assert_eq!(Database::open(dir.path()).unwrap().waiting().unwrap(), all);
        db.append_last(&[], &all[1..]).unwrap();
        assert_eq!(db.waiting().unwrap(), &all[1..]);
        assert_eq!(std::fs::read_dir(dir.path().join("waiting")).unwrap().count(), 1);
        db.append_last(&rows(&["y"]), &[]).unwrap();
        assert_eq!(db.waiting().unwrap(), []);
        assert_eq!(db.manifest().generation, 4);
        db.append_last(&[], &[]).unwrap();
        assert_eq!(db.manifest().generation, 4);
    }

    #[test]
    fn leftovers_of_a_dead_writer_are_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        // Killed in the very first commit.
        atomic::write(&dir.path().join(".tmp-first"), b"{").unwrap();
        atomic::write(&dir.path().join("writer.lock"), b"").unwrap();
        drop(Database::open_or_create(dir.path()).unwrap());
        for litter in [".tmp-a", "shards/.tmp-b", "waiting/.tmp-c", "waiting/000007.parquet"] {
            atomic::write(&dir.path().join(litter), b"half").unwrap();
        }
        // A shard that no manifest lists is overwritten by the next of its number.
        atomic::write(&dir.path().join("shards/000000.parquet"), b"half").unwrap();
        let mut db = Database::open_or_create(dir.path()).unwrap();
        db.append(&rows(&["a"])).unwrap();
        assert_eq!(Database::open(dir.path()).unwrap().verify().unwrap(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("waiting")).unwrap().count(), 0);
        for folder in ["", "shards"] {
            let names = std::fs::read_dir(dir.path().join(folder)).unwrap();
            let litter =
                names.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp"));
            assert_eq!(litter.count(), 0, "{folder}");
        }
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
        assert!(matches!(
            Database::open(dir.path()).unwrap().append(&rows(&["a"])),
            Err(StoreError::ReadOnly { .. })
        ));
        assert!(matches!(Database::open_to_write(dir.path()), Err(StoreError::Locked { .. })));
        db.append(&rows(&["a"])).unwrap();
        let shard = dir.path().join(&db.manifest().shards[0].file);
        let bytes = std::fs::read(&shard).unwrap();
        atomic::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(db.live(), Err(StoreError::Damaged { .. })));
        atomic::write(&dir.path().join("manifest.json"), br#"{"format_version": 99}"#).unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Version { found: 99, .. })));
        atomic::write(&dir.path().join("manifest.json"), b"{").unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Damaged { .. })));
        let outside = br#"{"format_version":3,"extraction_version":2,"generation":1,"index":null,"shards":[{"file":"../x","rows":1,"bytes":1,"sha256":""}]}"#;
        atomic::write(&dir.path().join("manifest.json"), outside).unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Damaged { .. })));
    }
}
