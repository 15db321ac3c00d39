//! A database as one value.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::error::StoreError;
use super::files::DatabaseFiles;
use super::layout::{CONTENT_FOLDERS, LOCKS, MANIFESTS, manifest_name};
use super::live::Live;
use super::location::Location;
use super::lock::{self, Lock};
use super::manifest::{FORMAT_VERSION, IndexEntry, Manifest, Reads, ShardEntry};
use super::owner::Owner;
use super::row::{Row, RowRef};
use super::schema::IndexRow;
use super::task::Task;
use super::{atomic, shard};
use crate::signals::fingerprint::EXTRACTION_VERSION;

/// An open database. Readers see the snapshot of the moment of opening, whatever is committed since.
#[derive(Debug)]
pub struct Database {
    files: DatabaseFiles,
    manifest: Manifest,
    /// Only a writer has one.
    lock: Option<Lock>,
}

impl Database {
    /// Opens the latest snapshot for reading.
    pub fn open(location: impl Into<Location>) -> Result<Self, StoreError> {
        let files = DatabaseFiles::open(location.into())?;
        let manifest = Manifest::latest(&files)?;
        Ok(Self { files, manifest, lock: None })
    }

    /// Opens an existing database for writing in a task.
    pub fn open_to_write(location: impl Into<Location>, task: Task) -> Result<Self, StoreError> {
        let files = DatabaseFiles::open(location.into())?;
        Manifest::latest(&files)?;
        let lock = Lock::acquire(&files, task)?;
        // Read again: another writer may have committed while we waited for the lock.
        let manifest = Manifest::latest(&files)?;
        Ok(Self { files, manifest, lock: Some(lock) })
    }

    /// Opens a database for writing, or makes an empty one where there is nothing. A folder with other content is
    /// refused.
    pub fn open_or_create(location: impl Into<Location>, task: Task) -> Result<Self, StoreError> {
        let location = location.into();
        match Self::open_to_write(&location, task) {
            Err(StoreError::NotADatabase { .. })
                if is_empty_or_missing(&DatabaseFiles::open(location.clone())?)? =>
            {
                let folder = location.folder();
                std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
                let files = DatabaseFiles::open(location)?;
                let lock = Lock::acquire(&files, task)?;
                let mut db = Self { files, manifest: Manifest::new(), lock: Some(lock) };
                // Another one may have made it in the meantime: then that is the one.
                match Manifest::latest(&db.files) {
                    Err(StoreError::NotADatabase { .. }) => match db.commit(|_| Ok(())) {
                        Err(StoreError::Changed { .. }) => db.manifest = Manifest::latest(&db.files)?,
                        made => made?,
                    },
                    manifest => db.manifest = manifest?,
                }
                Ok(db)
            }
            other => other,
        }
    }

    /// Its files.
    pub fn files(&self) -> &DatabaseFiles {
        &self.files
    }

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        self.files.folder()
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        self.files.location()
    }

    /// The files it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds rows as one shard: durable and visible when this returns. Returns the number of the shard. No rows, no
    /// shard.
    pub fn append(&mut self, rows: &[Row]) -> Result<Option<u32>, StoreError> {
        if rows.is_empty() {
            return Ok(None);
        }
        let entry = shard::write(&self.files, rows)?;
        self.commit(|manifest| {
            manifest.shards.push(entry.clone());
            Ok(())
        })?;
        Ok(Some(self.manifest.shards.len() as u32 - 1))
    }

    /// Since when this database is crawled by a version that reads so much, milliseconds since 1970; not until `now`,
    /// where it was another.
    pub fn reads_since(&self, version: u32, now: i64) -> i64 {
        let reads = self.manifest.reads;
        if reads.version == version { reads.since } else { now }
    }

    /// Writes down that from `now` on it is, if it is not written down yet.
    pub fn set_reads(&mut self, version: u32, now: i64) -> Result<(), StoreError> {
        if self.manifest.reads.version == version {
            return Ok(());
        }
        self.commit(|manifest| {
            manifest.reads = Reads { version, since: now };
            Ok(())
        })
    }

    /// Makes an index the one that scans use.
    pub fn set_index(&mut self, entry: &IndexEntry) -> Result<(), StoreError> {
        self.commit(|manifest| {
            manifest.index = Some(entry.clone());
            Ok(())
        })
    }

    /// Makes a change to the latest state, whoever else commits at the same time: the change is made again on what
    /// another has committed first. When this returns, it is durable and visible.
    pub fn commit(
        &mut self,
        change: impl Fn(&mut Manifest) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = || PathBuf::from(self.files.location().to_string());
        let lock = self.lock.as_ref().ok_or_else(|| StoreError::ReadOnly { path: path() })?;
        lock.check()?;
        loop {
            let mut next = self.manifest.clone();
            change(&mut next)?;
            next.format_version = FORMAT_VERSION;
            next.extraction_version = EXTRACTION_VERSION;
            next.generation += 1;
            next.committed_at = Utc::now();
            let text = next.to_text();
            let is_ours = self.files.create_manifest(next.generation, &text)?
                // A store may have done it and said that it failed; the second try then finds our own.
                || self.files.manifest(next.generation)?.as_deref() == Some(&text);
            if is_ours && self.is_the_line(&next)? {
                self.manifest = next;
                return Ok(());
            }
            let latest = Manifest::latest(&self.files)?;
            // Who refers to rows by their place relies on shards staying where they are; locks see to it.
            if latest.id != self.manifest.id || !latest.shards.starts_with(&self.manifest.shards) {
                return Err(StoreError::Changed { path: path() });
            }
            self.manifest = latest;
        }
    }

    /// Whether those that came after a manifest, if any, build on it. They do not where we were held up for so long
    /// that its number was used, and removed again.
    fn is_the_line(&self, manifest: &Manifest) -> Result<bool, StoreError> {
        let Some(next) = self.files.generations()?.into_iter().find(|g| *g > manifest.generation) else {
            return Ok(true);
        };
        let builds_on =
            Manifest::read(&self.files, next)?.is_none_or(|m| m.shards.starts_with(&manifest.shards));
        if !builds_on {
            self.files.remove(&manifest_name(manifest.generation))?;
        }
        Ok(builds_on)
    }

    /// Who writes at this moment.
    pub fn writers(&self) -> Result<Vec<Owner>, StoreError> {
        lock::holders(&self.files)
    }

    /// What the index needs of the rows of one shard, batch by batch, live or not.
    pub fn index_rows(
        &self,
        shard: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<(RowRef, IndexRow)>, StoreError>>, StoreError> {
        let entry = self.shard(shard)?;
        let mut row = 0;
        Ok(shard::read_index_rows(&self.files, entry)?.map(move |batch| {
            let places = batch?.into_iter().map(|read| {
                row += 1;
                (RowRef { shard: shard as u32, row: row - 1 }, read)
            });
            Ok(places.collect())
        }))
    }

    fn shard(&self, shard: usize) -> Result<&ShardEntry, StoreError> {
        self.manifest.shards.get(shard).ok_or_else(|| StoreError::Damaged {
            path: self.files.folder().join(manifest_name(self.manifest.generation)),
            what: format!("it lists no shard {shard}"),
        })
    }

    /// The live rows of every repository, without fingerprints.
    pub fn live(&self) -> Result<Live, StoreError> {
        let mut live = Live::default();
        for (shard, entry) in self.manifest.shards.iter().enumerate() {
            let mut row = 0;
            for batch in shard::read_keys(&self.files, entry)? {
                for key in batch? {
                    live.add(&key, RowRef { shard: shard as u32, row });
                    row += 1;
                }
            }
        }
        Ok(live.settled())
    }

    /// The immutable ids of the repositories whose rows lie at these places.
    pub fn hub_ids(&self, places: &HashSet<RowRef>) -> Result<HashMap<RowRef, String>, StoreError> {
        let mut ids = HashMap::with_capacity(places.len());
        for (shard, entry) in (0..).zip(&self.manifest.shards) {
            let mut at = RowRef { shard, row: 0 };
            for batch in shard::read_keys(&self.files, entry)? {
                for key in batch? {
                    if places.contains(&at) {
                        ids.insert(at, key.hub_id);
                    }
                    at.row += 1;
                }
            }
        }
        Ok(ids)
    }

    /// Checks the checksum of every file and counts the rows; returns their sum. `progress` gets (bytes done, bytes
    /// in all).
    pub fn verify(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<u64, StoreError> {
        self.files.verify(self.manifest.files(), progress)?;
        let mut rows = 0;
        for shard in &self.manifest.shards {
            let mut found = 0;
            for batch in shard::read_keys(&self.files, shard)? {
                found += batch?.len() as u64;
            }
            if found != shard.rows {
                let path = self.files.folder().join(&shard.entry.file);
                let what = format!("it has {found} rows, the manifest says {}", shard.rows);
                return Err(StoreError::Damaged { path, what });
            }
            rows += found;
        }
        Ok(rows)
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
            for (row, value) in rows.iter().zip(shard::read_rows(&self.files, entry, &rows)?) {
                found.insert(RowRef { shard, row: *row }, value);
            }
        }
        Ok(places.iter().filter_map(|place| found.get(place).cloned()).collect())
    }
}

fn is_empty_or_missing(files: &DatabaseFiles) -> Result<bool, StoreError> {
    // A run that died before its first commit leaves its locks and, in a folder, half a manifest.
    let is_ours: fn(&str) -> bool = if files.is_mirrored() {
        |name| name == LOCKS
    } else {
        |name| {
            CONTENT_FOLDERS.contains(&name)
                || [LOCKS, MANIFESTS].contains(&name)
                || atomic::is_temporary(name.as_ref())
        }
    };
    Ok(files.foreign(is_ours)?.is_none())
}

#[cfg(test)]
mod tests {
    use super::super::schema::testing::{adapter_row, row};
    use super::super::tag::Tag;
    use super::super::task::Partition;
    use super::*;
    use crate::signals::testing::Model;

    fn rows(names: &[&str]) -> Vec<Row> {
        names.iter().map(|n| row(n, Some(Model::random(1, 2, 64).fingerprint()))).collect()
    }

    #[test]
    fn later_rows_replace_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        db.append(&rows(&["a", "b"])).unwrap();
        db.append(&[Row { sha: Some("new".into()), ..rows(&["a"]).remove(0) }]).unwrap();
        let db = Database::open(dir.path()).unwrap();
        let live = db.live().unwrap();
        assert_eq!(live.repos.len(), 2);
        let known = live.of("id-a").unwrap();
        assert_eq!(known.sha, Some(Tag::of("new")));
        assert!(live.places().any(|at| at == RowRef { shard: 1, row: 0 }));
        let rows: Vec<_> = db.index_rows(0).unwrap().flat_map(Result::unwrap).collect();
        let found: Vec<_> = rows.iter().map(|(at, row)| (*at, row.repo_id.as_str())).collect();
        let at = |row| RowRef { shard: 0, row };
        assert_eq!(found, [(at(0), "org/a"), (at(1), "org/b")]);
        assert!(db.index_rows(7).is_err());
    }

    #[test]
    fn the_index_is_given_the_fingerprints_of_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let adapter = adapter_row("b", Model::random(2, 2, 64).fingerprint());
        db.append(&[rows(&["a"]), vec![adapter]].concat()).unwrap();
        let indexed: Vec<_> = db.index_rows(0).unwrap().flat_map(Result::unwrap).collect();
        let places: Vec<RowRef> = indexed.iter().map(|(at, _)| *at).collect();
        let whole = db.rows(&places).unwrap();
        assert!(whole[1].fingerprint.as_ref().unwrap().extent.rank.is_some());
        // Not printed where they differ: they are long.
        assert!(indexed.iter().zip(&whole).all(|((_, part), row)| part.fingerprint == row.fingerprint));
    }

    #[test]
    fn writers_beside_one_another_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open_or_create(dir.path(), Task::CRAWL).unwrap());
        std::thread::scope(|scope| {
            for number in 1..=4 {
                let folder = dir.path();
                scope.spawn(move || {
                    let task = Task::Crawl(Partition { number, of: 4 });
                    let mut db = Database::open_to_write(folder, task).unwrap();
                    for i in 0..5 {
                        let name = format!("{number}-{i}");
                        let shard = db.append(&rows(&[&name])).unwrap().unwrap();
                        let row = db.rows(&[RowRef { shard, row: 0 }]).unwrap().remove(0);
                        assert_eq!(row.repo_id, format!("org/{name}"));
                    }
                });
            }
        });
        let db = Database::open(dir.path()).unwrap();
        assert_eq!((db.manifest().generation, db.live().unwrap().repos.len()), (21, 20));
        assert_eq!(db.verify(&|_, _| {}).unwrap(), 20);
    }

    #[test]
    fn of_two_rows_the_one_made_later_is_live() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let made =
            |time, sha: &str| Row { crawled_at: time, sha: Some(sha.into()), ..rows(&["a"]).remove(0) };
        for (time, sha) in [(5, "five"), (3, "three"), (5, "again")] {
            db.append(&[made(time, sha)]).unwrap();
        }
        assert_eq!(db.live().unwrap().of("id-a").unwrap().sha, Some(Tag::of("again")));
    }

    #[test]
    fn leftovers_of_a_dead_writer_are_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        // Killed in the very first commit.
        atomic::write(&dir.path().join(".tmp-first"), b"{").unwrap();
        atomic::write(&dir.path().join("locks/crawl.lock"), b"").unwrap();
        drop(Database::open_or_create(dir.path(), Task::CRAWL).unwrap());
        let litter = [".tmp-a", "shards/.tmp-b", "waiting/.tmp-c", "index/.tmp-d/x", "manifests/.tmp-e"];
        for litter in litter {
            atomic::write(&dir.path().join(litter), b"half").unwrap();
        }
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        db.append(&rows(&["a"])).unwrap();
        assert_eq!(Database::open(dir.path()).unwrap().verify(&|_, _| {}).unwrap(), 1);
        for litter in litter {
            assert!(!dir.path().join(litter).exists(), "{litter}");
        }
    }

    #[test]
    fn rows_are_found_by_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
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
        assert!(matches!(
            Database::open_or_create(dir.path(), Task::CRAWL),
            Err(StoreError::NotADatabase { .. })
        ));
    }

    #[test]
    fn who_has_lost_the_lock_commits_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        db.append(&rows(&["a"])).unwrap();
        // As another machine does once the claim has expired.
        let theirs = Owner { host: "elsewhere".into(), ..db.writers().unwrap().remove(0) };
        atomic::write(&dir.path().join("locks/crawl.lock"), &serde_json::to_vec(&theirs).unwrap()).unwrap();
        let error = db.append(&rows(&["b"])).unwrap_err();
        assert!(error.to_string().contains("elsewhere"), "{error}");
        assert_eq!(Database::open(dir.path()).unwrap().live().unwrap().repos.len(), 1);
    }

    #[test]
    fn another_version_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        assert!(matches!(
            Database::open(dir.path()).unwrap().append(&rows(&["a"])),
            Err(StoreError::ReadOnly { .. })
        ));
        assert!(matches!(Database::open_to_write(dir.path(), Task::CRAWL), Err(StoreError::Locked { .. })));
        db.append(&rows(&["a"])).unwrap();
        let shard = dir.path().join(&db.manifest().shards[0].entry.file);
        let bytes = std::fs::read(&shard).unwrap();
        atomic::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(db.live(), Err(StoreError::Damaged { .. })));
        let last = dir.path().join(manifest_name(2));
        let good = std::fs::read_to_string(&last).unwrap();
        atomic::write(&last, br#"{"format_version": 99}"#).unwrap();
        assert!(matches!(Database::open(dir.path()), Err(StoreError::Version { found: 99, .. })));
        let outside = good.replace("shards/", "../shards/");
        let other_number = good.replace("\"generation\": 2", "\"generation\": 7");
        let hidden = good.replace("shards/", "shards/.");
        for wrong in ["{", &outside, &other_number, &hidden] {
            atomic::write(&last, wrong.as_bytes()).unwrap();
            assert!(matches!(Database::open(dir.path()), Err(StoreError::Damaged { .. })), "{wrong}");
        }
        std::fs::remove_dir_all(dir.path().join("manifests")).unwrap();
        atomic::write(&dir.path().join("manifest.json"), br#"{"format_version": 3}"#).unwrap();
        let error = Database::open(dir.path()).unwrap_err();
        assert!(error.hint().contains("db migrate"), "{error}");
    }
}
