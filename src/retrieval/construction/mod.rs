//! Building an index, from nothing or from the one before.
//!
//! Shards are read in the order of the manifest, the next one while the last is placed. What a checkpoint is placed
//! under never changes ([`super::families`]), so the index of last night is a prefix of tonight's: its files of vectors and
//! fingerprints belong to the new one as they are, the new shards are added. A build that is interrupted commits the
//! shards that it has finished, and the next one goes on behind them.

mod growing;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use self::growing::{Growing, tag_of};
use super::codes::CODES;
use super::index::Index;
use super::measure::{self, Samples};
use super::metadata::{FOLDER, INDEX_VERSION, METADATA, Metadata};
use super::names::Names;
use super::payload::PAYLOAD;
use super::quality::Quality;
use super::segments::{Paths, is_part_of};
use super::settings::BuildSettings;
use super::vectors::VECTORS;
use crate::signals::fingerprint::{EXTRACTION_VERSION, VECTOR_DIMENSIONS};
use crate::store::manifest::IndexEntry;
use crate::store::{Database, FileEntry, RowRef, StoreError, atomic};

/// See [`memory_bound`].
const MEMORY_PER_ROW: u64 = 3_600;
const MEMORY_IN_WORK: u64 = 512_000_000;
/// Part of the checkpoints without a repository from which on an index is built from nothing.
const MOST_GONE: f64 = 0.2;
/// Parts of vectors, one for each build that added checkpoints, up to which an index is gone on with. It has up to as many
/// of codes and of fingerprints; a build has most of them open twice, and a process may often open no more than 1,024.
const MOST_PARTS: usize = 64;

/// What a build did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Built {
    /// Repositories with a fingerprint.
    pub models: usize,
    /// Distinct checkpoints.
    #[serde(rename = "contents")]
    pub checkpoints: usize,
    /// Checkpoints that stand for those near them; searches look at these.
    #[serde(rename = "heads")]
    pub representatives: usize,
    /// Families.
    pub families: usize,
    /// Checkpoints that were added to the index before; all of them in a build from nothing.
    pub added: usize,
    /// Whether it began with the index before.
    pub incremental: bool,
    /// Whether it covers all shards; an interrupted build does not.
    pub complete: bool,
    /// Whether scans use it. An interrupted build does not replace an index that covers as much.
    pub committed: bool,
    /// Measured on the finished index, and on those that it was built on.
    #[serde(flatten)]
    pub quality: Quality,
    /// Bytes of all files of the index that is in use.
    pub bytes: u64,
    /// Bytes of index and shards for each repository with a fingerprint.
    pub stored_bytes_per_model: Option<u64>,
}

/// Most memory that a build takes, bytes: what a row leaves behind in the maps and tables below, if it is a family of
/// its own, and what is in work at once.
///
/// A row of its own family takes 1,024 bytes for the vector of its representative, 128 for its code, some 700 for its
/// names and digests in three maps, 500 for its links and its part of the tables as they are written, and again half of
/// all that where a growing vector is copied.
pub fn memory_bound(db: &Database) -> u64 {
    MEMORY_IN_WORK + MEMORY_PER_ROW * db.manifest().rows()
}

/// Builds the index of all live fingerprints and makes it the database's. `progress` gets (done, in all): rows that are
/// placed, then searches that are measured. Once `stop` says so, what was finished is committed where that is more than
/// what the index in use covers, and nothing is changed where it is not.
pub fn build(
    db: &mut Database,
    settings: &BuildSettings,
    from_nothing: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Built, StoreError> {
    let live: HashSet<RowRef> = db.live()?.places().collect();
    // Whatever is wrong with it, building from nothing puts it right.
    let in_use = Index::open(db).ok();
    let in_use_covers = in_use.as_ref().map_or(0, |index| index.metadata.shards.len());
    let goes_on = !from_nothing && in_use.as_ref().is_some_and(|index| is_reusable(index, &live));
    // Of an index that is not gone on with, it stays what families are called and which rows are not new.
    let (previous, names, settled) = match in_use {
        Some(index) if goes_on => (Some(index), Names::default(), HashSet::new()),
        Some(index) => {
            let settled = index.settled();
            (None, names_of(index), settled)
        }
        None => (None, Names::default(), HashSet::new()),
    };
    let folder = atomic::temporary_folder(&db.folder().join(FOLDER))?;

    let begin = previous.as_ref().map_or(0, |p| p.metadata.shards.len());
    let incremental = previous.is_some();
    let before = previous.as_ref().map_or(0, Index::checkpoints);
    let changed_from = before as u32;
    let old_table = previous.as_ref().map(|p| p.table.clone()).unwrap_or_default();
    // The parts that are gone on with.
    let (mut paths, mut entries) = (Paths::new(), BTreeMap::new());
    if let (Some(index), Some(entry)) = (&previous, &db.manifest().index) {
        paths.extend(index.paths.clone().into_iter().filter(|(name, _)| is_segment(name)));
        entries.extend(entry.files.clone().into_iter().filter(|(name, _)| is_segment(name)));
    }
    let before_quality = quality_before(previous.as_ref(), settings);
    let mut growing = match previous {
        Some(index) => Growing::resume(index, &paths, folder.path(), &live)?,
        None => Growing::new(settled, folder.path())?,
    };
    let samples = Samples::after(&before_quality, settings);
    let rows: u64 = db.manifest().shards[begin..].iter().map(|s| s.rows).sum();
    let all = rows + samples.count();
    let covered = growing.read(db, begin, &live, &|done| progress(done, all), stop)?;
    let complete = covered == db.manifest().shards.len();
    if !incremental {
        growing.inherit(&names);
    }
    let hub_ids = db.hub_ids(&growing.postings.iter().map(|posting| posting.at).collect())?;
    let parts = growing.finish(&paths, folder.path(), changed_from, &old_table, &hub_ids)?;

    let shards = db.manifest().shards[..covered].iter().map(|s| s.entry.sha256.clone()).collect();
    let mut metadata = Metadata {
        index_version: INDEX_VERSION,
        extraction_version: EXTRACTION_VERSION,
        little_endian: cfg!(target_endian = "little"),
        dimensions: VECTOR_DIMENSIONS,
        database: db.manifest().id.clone(),
        postings: parts.models,
        checkpoints: parts.checkpoints,
        representatives: parts.representatives,
        families: parts.families,
        complete,
        settings: settings.clone(),
        shards,
        quality: Quality::default(),
    };
    let built = paths_in(folder.path())?;
    if complete {
        paths.extend(built.clone());
        let index = Index::assemble(metadata.clone(), paths)?;
        metadata.quality = before_quality;
        // The same checkpoints again would be no new evidence.
        if parts.checkpoints > before || !before_quality.covers(settings) {
            let measured = measure::measure(&index, samples, &|done| progress(rows + done, all), stop)?;
            metadata.quality = before_quality.with(measured);
        }
    }
    let committed = complete || covered > in_use_covers;
    if committed {
        let adopted = built.into_par_iter().map(|(name, path)| {
            let extension = if name.ends_with(".parquet") { "parquet" } else { "bin" };
            Ok((name, db.files().adopt(&path, FOLDER, extension)?))
        });
        entries.extend(adopted.collect::<Result<Vec<(String, FileEntry)>, StoreError>>()?);
        entries.insert(METADATA.to_owned(), metadata.write(db)?);
        db.set_index(&IndexEntry { shards: covered, files: entries })?;
    }
    let bytes =
        db.manifest().index.iter().flat_map(|index| index.files.values()).map(|file| file.bytes).sum();
    let in_shards: u64 = db.manifest().shards[..covered].iter().map(|s| s.entry.bytes).sum();
    Ok(Built {
        models: parts.models,
        checkpoints: parts.checkpoints,
        representatives: parts.representatives,
        families: parts.families,
        added: parts.checkpoints - before,
        incremental,
        complete,
        committed,
        quality: metadata.quality,
        bytes,
        stored_bytes_per_model: (bytes + in_shards).checked_div(parts.models as u64),
    })
}

/// Whether an index can be gone on with: most of its checkpoints are still there, and its files are not too many.
fn is_reusable(index: &Index, live: &HashSet<RowRef>) -> bool {
    let held: HashSet<u32> =
        index.postings.all().iter().filter(|p| live.contains(&p.at)).map(|p| p.checkpoint).collect();
    let gone = index.checkpoints() - held.len();
    let parts = index.paths.keys().filter(|name| is_part_of(name, VECTORS)).count();
    gone as f64 <= MOST_GONE * index.checkpoints() as f64 && parts <= MOST_PARTS
}

/// What was measured with these settings.
fn quality_before(index: Option<&Index>, settings: &BuildSettings) -> Quality {
    index.filter(|index| index.metadata.settings == *settings).map(Index::quality).unwrap_or_default()
}

/// What the families of an index are called.
fn names_of(index: Index) -> Names {
    let tags = index.postings.all().iter().map(|p| (tag_of(p), index.family_of(p.checkpoint)));
    Names { of: tags.collect(), names: index.table.into_iter().map(|family| family.id).collect() }
}

/// Whether a file is one of the parts that stay from night to night.
fn is_segment(file: &str) -> bool {
    [PAYLOAD, VECTORS, CODES].iter().any(|name| is_part_of(file, name))
}

/// The files of a folder.
fn paths_in(folder: &Path) -> Result<Paths, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io(folder))?;
    let path = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(StoreError::io(folder))?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    entries.map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::tests::databases::{built, database};

    #[test]
    fn an_index_of_many_parts_is_not_gone_on_with() {
        let (_dir, mut db) = database();
        built(&mut db, true);
        let live = db.live().unwrap().places().collect();
        let mut index = Index::open(&db).unwrap();
        let part = index.paths["vectors-0000.bin"].clone();
        for n in 0..=MOST_PARTS {
            index.paths.insert(format!("{VECTORS}-{n:04}.bin"), part.clone());
            assert_eq!(is_reusable(&index, &live), n < MOST_PARTS, "{} parts", n + 1);
        }
    }
}
