//! What keeps a database small: compaction, vacuum, and joining several into one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::{Database, RowRef};
use super::files::{CONTENT_FOLDERS, FileEntry, manifest_name};
use super::known::Live;
use super::lock::Lock;
use super::manifest::{FORMAT_VERSION, IndexEntry, Manifest, OLD_MANIFEST, Reads, ShardEntry};
use super::{Files, Partition, StoreError, Task, Waiting, atomic, shard};
use crate::signals::fingerprint::EXTRACTION_VERSION;

/// A database with fewer shards, not yet committed.
#[derive(Debug)]
pub struct Compacted {
    /// The shards after it.
    pub shards: Vec<ShardEntry>,
    /// By shard before: the places of its rows after it; none for a row that is replaced by a later one.
    places: Vec<Vec<Option<RowRef>>>,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Compaction {
    /// Shards before.
    pub shards_before: usize,
    /// Shards after.
    pub shards: usize,
    /// Rows that a later one had replaced.
    pub rows_dropped: u64,
    /// Bytes of the shards before.
    pub bytes_before: u64,
    /// Bytes of the shards after.
    pub bytes: u64,
}

impl Compacted {
    /// Where a row lies after it.
    pub fn place(&self, before: RowRef) -> Option<RowRef> {
        *self.places.get(before.shard as usize)?.get(before.row as usize)?
    }
}

/// Writes neighbouring shards that together have at most `rows` live rows as one, and those anew of which more than half
/// the rows were replaced by later ones; what was replaced is left out. `None` where that would touch fewer than
/// `least` shards. `progress` gets (rows done, rows in all).
pub fn compact(
    db: &Database,
    rows: u64,
    least: usize,
    progress: &dyn Fn(u64, u64),
) -> Result<Option<Compacted>, StoreError> {
    let before = &db.manifest().shards;
    let live: HashSet<RowRef> = db.live()?.places().collect();
    let mut live_rows = vec![0; before.len()];
    for place in &live {
        live_rows[place.shard as usize] += 1;
    }
    let runs = runs(&live_rows, rows.max(1));
    let is_kept = |run: &[usize]| matches!(run, [only] if 2 * live_rows[*only] >= before[*only].rows);
    let touched: usize = runs.iter().filter(|run| !is_kept(run)).map(Vec::len).sum();
    if touched < least.max(1) {
        return Ok(None);
    }
    let all = db.manifest().rows();
    let mut done = 0;
    let mut shards: Vec<ShardEntry> = Vec::new();
    let mut places = vec![Vec::new(); before.len()];
    for run in runs {
        let number = shards.len() as u32;
        if let Some(&only) = run.first().filter(|_| is_kept(&run)) {
            shard::check(db.files(), &before[only])?;
            places[only] =
                (0..before[only].rows as u32).map(|row| Some(RowRef { shard: number, row })).collect();
            shards.push(before[only].clone());
            done += before[only].rows;
            continue;
        }
        let mut next = 0;
        // Opened one after the other: there may be more than a process may have open.
        let batches = run.iter().flat_map(|&shard| {
            let (batches, error) = match shard::read_batches(db.files(), &before[shard]) {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            batches.into_iter().flatten().chain(error).map(move |batch| (shard, batch))
        });
        let kept = batches.map(|(shard, batch)| {
            let batch = batch?;
            let first = places[shard].len() as u32;
            let keep: BooleanArray = (0..batch.num_rows() as u32)
                .map(|row| Some(live.contains(&RowRef { shard: shard as u32, row: first + row })))
                .collect();
            places[shard].extend(keep.iter().map(|keep| {
                (keep == Some(true)).then(|| {
                    next += 1;
                    RowRef { shard: number, row: next - 1 }
                })
            }));
            done += batch.num_rows() as u64;
            progress(done, all);
            filter_record_batch(&batch, &keep).map_err(StoreError::damaged(db.folder()))
        });
        let entry = shard::write_batches(db.files(), kept)?;
        // All of it may have been replaced.
        if entry.rows > 0 {
            shards.push(entry);
        }
    }
    Ok(Some(Compacted { shards, places }))
}

/// Neighbouring shards, by the live rows of each, that together have at most so many.
fn runs(live_rows: &[u64], most: u64) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut sum = u64::MAX;
    for (i, &rows) in live_rows.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if sum.saturating_add(rows) <= most => {
                run.push(i);
                sum += rows;
            }
            _ => {
                runs.push(vec![i]);
                sum = rows;
            }
        }
    }
    runs
}

/// Makes a compaction the state of the database, with the index that fits it.
pub fn commit_compacted(
    db: &mut Database,
    compacted: &Compacted,
    index: Option<&IndexEntry>,
) -> Result<Compaction, StoreError> {
    let before = db.manifest().clone();
    let path = db.folder().to_owned();
    db.commit(|manifest| {
        if manifest.shards != before.shards || manifest.index != before.index {
            return Err(StoreError::Changed { path: path.clone() });
        }
        manifest.shards.clone_from(&compacted.shards);
        manifest.index = index.cloned();
        Ok(())
    })?;
    let bytes = |manifest: &Manifest| manifest.shards.iter().map(|s| s.entry.bytes).sum();
    Ok(Compaction {
        shards_before: before.shards.len(),
        shards: compacted.shards.len(),
        rows_dropped: before.rows() - db.manifest().rows(),
        bytes_before: bytes(&before),
        bytes: bytes(db.manifest()),
    })
}

/// Removes all but the latest run reports, two files a crawl; returns how many it removed.
pub fn forget_reports(db: &Database, keep: usize) -> Result<usize, StoreError> {
    let names = db.report_names()?;
    let old = names.iter().skip(keep.max(1));
    for name in old.clone() {
        db.files().remove(name)?;
        db.files().remove(&format!("{}.md", name.trim_end_matches(".json")))?;
    }
    Ok(old.count())
}

/// Which snapshots a vacuum keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// So many of the latest, at least one.
    pub latest: usize,
    /// And all that were the latest within this time, because somebody may be reading them; files younger than this
    /// are kept as well, because a writer may be about to commit them.
    pub younger: Duration,
}

/// What a vacuum did, or would do.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Vacuumed {
    /// Snapshots kept.
    pub snapshots: usize,
    /// Snapshots removed.
    pub snapshots_removed: usize,
    /// Other files removed.
    pub files_removed: usize,
    /// Bytes of these.
    pub bytes_removed: u64,
}

/// Removes old snapshots and the files that none of those kept names. Manifests go first, so that a vacuum that dies
/// leaves snapshots whole.
pub fn vacuum(db: &Database, keep: Keep, dry_run: bool) -> Result<Vacuumed, StoreError> {
    let files = db.files();
    let generations = files.generations()?;
    let written: BTreeMap<String, SystemTime> =
        files.list("manifests")?.into_iter().map(|present| (present.file, present.modified)).collect();
    let oldest_kept = generations.len().saturating_sub(keep.latest.max(1));
    let now = SystemTime::now();
    // By the clock of another machine it may even be of tomorrow.
    let is_young = |time: SystemTime| now.duration_since(time).map_or(true, |age| age <= keep.younger);
    let mut vacuumed = Vacuumed::default();
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut old = Vec::new();
    for (i, generation) in generations.iter().enumerate() {
        // Of whatever version: what it names stays as long as it does.
        let Some(text) = files.manifest(*generation)? else { continue };
        let replaced = generations.get(i + 1).and_then(|next| written.get(&manifest_name(*next)));
        if i < oldest_kept && replaced.is_some_and(|time| !is_young(*time)) {
            old.push(*generation);
            continue;
        }
        vacuumed.snapshots += 1;
        named.extend(Manifest::names_in(&text));
    }
    vacuumed.snapshots_removed = old.len();
    if !dry_run {
        for generation in old {
            files.remove(&manifest_name(generation))?;
        }
    }
    for folder in CONTENT_FOLDERS {
        for present in files.list(folder)? {
            if named.contains(&present.file) || is_young(present.modified) {
                continue;
            }
            vacuumed.files_removed += 1;
            vacuumed.bytes_removed += present.bytes;
            if !dry_run {
                files.remove(&present.file)?;
            }
        }
        // What was fetched of a bucket and is not there any more.
        if files.bucket().is_some() && !dry_run {
            for present in files.list_mirror(folder)? {
                if !named.contains(&present.file) {
                    files.remove_from_mirror(&present.file)?;
                }
            }
        }
    }
    Ok(vacuumed)
}

/// What joining did.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Merged {
    /// Databases that were joined.
    pub sources: usize,
    /// Shards that were added; those that were there already count not.
    pub shards: usize,
    /// Rows in them.
    pub rows: u64,
}

/// Adds the rows of other databases, and what waits in them, in one commit. Of a repository that several hold, the row
/// that was made last is live. A row is added only if it is newer than what is there, so that nothing is added twice,
/// however the shards were cut since; a shard of new rows is taken as it is.
pub fn merge(
    into: &mut Database,
    sources: &[Database],
    progress: &dyn Fn(u64, u64),
) -> Result<Merged, StoreError> {
    let mut live = into.live()?;
    let mut shards: Vec<ShardEntry> = Vec::new();
    let mut waiting = Vec::new();
    let all = sources.iter().map(|source| source.manifest().rows()).sum();
    let mut done = 0;
    for source in sources {
        for shard in &source.manifest().shards {
            let newer = newer(&mut live, source.files(), shard)?;
            if newer.iter().all(|newer| *newer) {
                into.files().import(&source.files().local(&shard.entry)?, &shard.entry)?;
                shards.push(shard.clone());
            } else if newer.contains(&true) {
                shards.push(copy_rows(source.files(), shard, &newer, into.files())?);
            }
            done += shard.rows;
            progress(done, all);
        }
        waiting.extend(source.waiting(Partition::WHOLE)?);
    }
    waiting.extend(into.waiting(Partition::WHOLE)?);
    let waiting = still_waiting(&live, waiting);
    let list = shard::write_waiting(into.files(), waiting.into_iter().map(Ok))?;
    if !shards.is_empty() || list.is_some() || !into.manifest().waiting.is_empty() {
        into.commit(|manifest| {
            manifest.shards.extend(shards.iter().cloned());
            // The rows may be of an older version than the crawls into this database.
            manifest.reads = Reads::default();
            manifest.waiting.clear();
            manifest.waiting.extend(list.clone().map(|list| (Partition::WHOLE.to_string(), list)));
            Ok(())
        })?;
    }
    let rows = shards.iter().map(|shard| shard.rows).sum();
    Ok(Merged { sources: sources.len(), shards: shards.len(), rows })
}

/// By row of a shard, whether it is newer than what is known of its repository; from then on it is known.
fn newer(live: &mut Live, files: &Files, shard: &ShardEntry) -> Result<Vec<bool>, StoreError> {
    let mut newer = Vec::new();
    for batch in shard::read_keys(files, shard)? {
        for key in batch? {
            let is_newer = live.of(&key.hub_id).is_none_or(|known| known.crawled_at < key.crawled_at);
            if is_newer {
                // Where the rows lie does not matter here.
                live.add(&key, RowRef { shard: 0, row: 0 });
            }
            newer.push(is_newer);
        }
    }
    Ok(newer)
}

/// Some rows of a shard as a shard of another database.
fn copy_rows(from: &Files, shard: &ShardEntry, rows: &[bool], to: &Files) -> Result<ShardEntry, StoreError> {
    let mut next = 0;
    let kept = shard::read_batches(from, shard)?.map(|batch| {
        let batch = batch?;
        let rows = rows.iter().skip(next).take(batch.num_rows());
        next += batch.num_rows();
        let keep: BooleanArray = rows.map(|keep| Some(*keep)).collect();
        filter_record_batch(&batch, &keep).map_err(StoreError::damaged(from.folder()))
    });
    shard::write_batches(to, kept)
}

/// What waits of several databases: each repository once, and none that was read elsewhere since.
fn still_waiting(live: &Live, mut waiting: Vec<Waiting>) -> Vec<Waiting> {
    waiting.retain(|w| live.still_waits(w));
    waiting.sort_by(|a, b| (&a.hub_id, a.since).cmp(&(&b.hub_id, b.since)));
    waiting.dedup_by(|a, b| a.hub_id == b.hub_id);
    waiting
}

/// Brings a database of format 3 to this format: its shards are as they were, the index has to be built anew.
pub fn migrate(folder: &Path) -> Result<Manifest, StoreError> {
    let files = Files::open(folder.into())?;
    if files.get(OLD_MANIFEST)?.is_none() {
        return Manifest::latest(&files);
    }
    let _lock = Lock::acquire(&files, Task::Maintenance)?;
    let path = folder.join(OLD_MANIFEST);
    let Some(text) = files.get(OLD_MANIFEST)? else { return Manifest::latest(&files) };
    let old: Old = serde_json::from_slice(&text).map_err(StoreError::damaged(&path))?;
    let version = |what, found, supported| StoreError::Version { path: path.clone(), what, found, supported };
    if old.format_version != 3 {
        return Err(version("format", old.format_version, FORMAT_VERSION));
    }
    if old.extraction_version != EXTRACTION_VERSION {
        return Err(version("extraction", old.extraction_version, EXTRACTION_VERSION));
    }
    // What it names is removed in the end, so it can only name what format 3 wrote.
    let shards = old.shards.iter().map(|shard| (&shard.entry.file, "shards/", ".parquet"));
    let waiting = old.waiting.iter().map(|list| (&list.entry.file, "waiting/", ".parquet"));
    let index = old.index.iter().map(|index| (&index.folder, "index/", ""));
    let is_numbered = |(file, begin, end): &(&String, &str, &str)| {
        let number = file.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        number.is_some_and(|n| n.len() >= 6 && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let Some((file, ..)) = shards.chain(waiting).chain(index).find(|named| !is_numbered(named)) {
        return Err(StoreError::damaged(&path)(format!("{file:?} is no name that format 3 gave")));
    }
    // Where it was made already, what is left to do is to remove the old one.
    if files.generations()?.is_empty() {
        let mut manifest = Manifest::new();
        manifest.generation = 1;
        for shard in &old.shards {
            manifest.shards.push(renamed(&files, shard, "shards")?);
        }
        if let Some(waiting) = &old.waiting {
            let whole = Partition::WHOLE.to_string();
            manifest.waiting.insert(whole, renamed(&files, waiting, "waiting")?);
        }
        if !files.create_manifest(1, &manifest.to_text())? {
            return Err(StoreError::Changed { path: folder.to_owned() });
        }
    }
    let manifest = Manifest::latest(&files)?;
    for old in old.shards.iter().chain(&old.waiting) {
        files.remove(&old.entry.file)?;
    }
    if let Some(index) = old.index.map(|index| folder.join(index.folder)).filter(|index| index.is_dir()) {
        std::fs::remove_dir_all(&index).map_err(StoreError::io(&index))?;
    }
    files.remove("writer.lock")?;
    files.remove(OLD_MANIFEST)?;
    Ok(manifest)
}

/// The manifest of format 3.
#[derive(Deserialize)]
struct Old {
    format_version: u32,
    extraction_version: u32,
    shards: Vec<ShardEntry>,
    waiting: Option<ShardEntry>,
    index: Option<OldIndex>,
}

#[derive(Deserialize)]
struct OldIndex {
    folder: String,
}

/// A file under the name of its content, beside the old one: until the commit the old database stays as it is.
fn renamed(files: &Files, shard: &ShardEntry, to: &str) -> Result<ShardEntry, StoreError> {
    let from = files.folder().join(&shard.entry.file);
    shard.entry.verify(&from)?;
    let name = format!("{to}/{}.parquet", shard.entry.sha256.get(..32).unwrap_or_default());
    let entry = FileEntry { file: name, ..shard.entry.clone() };
    let path = files.folder().join(&entry.file);
    std::fs::create_dir_all(files.folder().join(to)).map_err(StoreError::io(&path))?;
    // A link where the file system has them; what lies there of a migration that was cut short may be half a file.
    if entry.verify(&path).is_err() && std::fs::hard_link(&from, &path).is_err() {
        files.import(&from, &entry)?;
    }
    atomic::sync_folder(&files.folder().join(to))?;
    Ok(ShardEntry { entry, rows: shard.rows })
}
