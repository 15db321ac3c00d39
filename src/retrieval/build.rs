//! Building an index, from nothing or from the one before.
//!
//! Shards are read in the order of the manifest, the next one while the last is placed. What a content is placed
//! under never changes ([`super::family`]), so the index of last night is a prefix of tonight's: its files of vectors and
//! fingerprints belong to the new one as they are, the new shards are added. A build that is interrupted commits the
//! shards that it has finished, and the next one goes on behind them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::codes::{self, CODES};
use super::family::{Families, Place};
use super::index::{CONTENTS, FAMILIES, HEADS, INDEX_VERSION, Index, LINEAGE, METADATA, Metadata, POSTINGS};
use super::lineage;
use super::members::difference;
use super::names::Names;
use super::payload::{PAYLOAD, PayloadWriter};
use super::quality::{self, Quality, Samples};
use super::root::{self, Facts, Member, Root};
use super::segments::{Paths, is_part_of};
use super::tables::{self, Content, Family, Posting};
use super::vector::Code;
use super::vectors::{VECTORS, VectorsWriter};
use crate::signals::Fingerprint;
use crate::signals::fingerprint::{EXTRACTION_VERSION, VECTOR_DIMENSIONS};
use crate::store::manifest::IndexEntry;
use crate::store::schema;
use crate::store::{Database, FileEntry, RowRef, StoreError, Tag, atomic};

/// Folder of the files of indexes.
pub(super) const FOLDER: &str = "index";
/// Contents placed at once; their fingerprints are some 15 KB each.
const BATCH: usize = 2048;
/// See [`memory_bound`].
const MEMORY_PER_ROW: u64 = 3_600;
const MEMORY_IN_WORK: u64 = 512_000_000;
/// Batches that are read ahead.
const AHEAD: usize = 2;
/// One in so many of the samples is measured after an addition.
const NIGHTLY_SAMPLE: usize = 10;
/// Part of the contents without a repository from which on an index is built from nothing.
const MOST_GONE: f64 = 0.2;

/// How to build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildSettings {
    /// Contents that recall is measured on.
    pub recall_queries: usize,
    /// Made-up strangers that the rate of false families is measured on.
    pub strangers: usize,
    /// Seed of both samples.
    pub seed: u64,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self { recall_queries: 200, strangers: 10_000, seed: 1 }
    }
}

/// What a build did.
#[derive(Clone, Debug, Serialize)]
pub struct Built {
    /// Repositories with a fingerprint.
    pub models: usize,
    /// Distinct contents.
    pub contents: usize,
    /// Contents that stand for those near them; searches look at these.
    pub heads: usize,
    /// Families.
    pub families: usize,
    /// Contents that were added to the index before; all of them in a build from nothing.
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

/// What grows while shards are read.
struct Growing {
    families: Families,
    /// By content.
    places: Vec<Place>,
    facts: Vec<Facts>,
    /// How contents differ from their heads.
    codes: Vec<Code>,
    postings: Vec<Posting>,
    /// By the tag of the digest of the content.
    known: HashMap<Tag, u32>,
    /// (content, base that a card declares), to be counted when all names are known.
    declared: Vec<(u32, String)>,
    payload: PayloadWriter,
    vectors: VectorsWriter,
    /// The name of each family: the start of its founder's digest.
    ids: Vec<String>,
}

/// Most memory that a build takes, bytes: what a row leaves behind in the maps and tables below, if it is a family of
/// its own, and what is in work at once.
///
/// A row of its own family takes 1,024 bytes for the vector of its head, 128 for its code, some 700 for its names and
/// digests in three maps, 500 for its links and its part of the tables as they are written, and again half of all
/// that where a growing vector is copied.
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
    let goes_on = !from_nothing && in_use.as_ref().is_some_and(|index| is_reusable(index, settings, &live));
    let (previous, names) = match in_use {
        Some(index) if goes_on => (Some(index), Names::default()),
        Some(index) => (None, names_of(index)),
        None => (None, Names::default()),
    };
    let folder = atomic::temporary_folder(&db.folder().join(FOLDER))?;

    let begin = previous.as_ref().map_or(0, |p| p.metadata.shards.len());
    let incremental = previous.is_some();
    let before = previous.as_ref().map_or(0, Index::contents);
    let changed_from = before as u32;
    let old_table = previous.as_ref().map(|p| p.table.clone()).unwrap_or_default();
    // The parts that are gone on with.
    let (mut paths, mut entries) = (Paths::new(), BTreeMap::new());
    if let (Some(index), Some(entry)) = (&previous, &db.manifest().index) {
        paths.extend(index.paths.clone().into_iter().filter(|(name, _)| is_segment(name)));
        entries.extend(entry.files.clone().into_iter().filter(|(name, _)| is_segment(name)));
    }
    let before_quality = previous.as_ref().map(Index::quality).unwrap_or_default();
    let mut growing = match previous {
        Some(index) => Growing::resume(index, &paths, folder.path(), &live)?,
        None => Growing::new(folder.path())?,
    };
    // A night changes little, and its build must not spend its time on measuring. One that was interrupted before has
    // measured nothing.
    let part = if before_quality.strangers > 0 { NIGHTLY_SAMPLE } else { 1 };
    let samples = Samples {
        queries: settings.recall_queries.div_ceil(part),
        strangers: settings.strangers.div_ceil(part),
        // Every night others.
        seed: settings.seed ^ begin as u64,
    };
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
        contents: parts.contents,
        heads: parts.heads,
        families: parts.families,
        before,
        settings: settings.clone(),
        shards,
        quality: Quality::default(),
    };
    let built = paths_in(folder.path())?;
    if complete {
        paths.extend(built.clone());
        let index = Index::assemble(metadata.clone(), paths)?;
        let measured = quality::measure(&index, samples, &|done| progress(rows + done, all), stop)?;
        metadata.quality = before_quality.with(measured);
    }
    let committed = complete || covered > in_use_covers;
    if committed {
        let adopted = built.into_par_iter().map(|(name, path)| {
            let extension = if name.ends_with(".parquet") { "parquet" } else { "bin" };
            Ok((name, db.files().adopt(&path, FOLDER, extension)?))
        });
        entries.extend(adopted.collect::<Result<Vec<(String, FileEntry)>, StoreError>>()?);
        entries.insert(METADATA.to_owned(), write_metadata(db, &metadata)?);
        db.set_index(&IndexEntry { shards: covered, files: entries })?;
    }
    let bytes =
        db.manifest().index.iter().flat_map(|index| index.files.values()).map(|file| file.bytes).sum();
    let in_shards: u64 = db.manifest().shards[..covered].iter().map(|s| s.entry.bytes).sum();
    Ok(Built {
        models: parts.models,
        contents: parts.contents,
        heads: parts.heads,
        families: parts.families,
        added: parts.contents - before,
        incremental,
        complete,
        committed,
        quality: metadata.quality,
        bytes,
        stored_bytes_per_model: (bytes + in_shards).checked_div(parts.models as u64),
    })
}

/// Whether an index can be gone on with: built with these settings, and most of its contents are still there.
fn is_reusable(index: &Index, settings: &BuildSettings, live: &HashSet<RowRef>) -> bool {
    let held: HashSet<u32> =
        index.postings.all().iter().filter(|p| live.contains(&p.at)).map(|p| p.content).collect();
    let gone = index.contents() - held.len();
    index.metadata.settings == *settings && gone as f64 <= MOST_GONE * index.contents() as f64
}

/// What the families of an index are called.
fn names_of(index: Index) -> Names {
    let tags = index.postings.all().iter().map(|p| (tag_of(p), index.family_of(p.content)));
    Names { of: tags.collect(), names: index.table.into_iter().map(|family| family.id).collect() }
}

/// Of the digest that tells the contents apart.
fn tag_of(posting: &Posting) -> Tag {
    posting.samples.unwrap_or_else(|| Tag::of(&posting.repo_id))
}

impl Growing {
    fn new(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            families: Families::default(),
            places: Vec::new(),
            facts: Vec::new(),
            codes: Vec::new(),
            postings: Vec::new(),
            known: HashMap::new(),
            declared: Vec::new(),
            payload: PayloadWriter::open(&Paths::new(), folder)?,
            vectors: VectorsWriter::open(&Paths::new(), folder)?,
            ids: Vec::new(),
        })
    }

    fn resume(
        index: Index,
        before: &Paths,
        folder: &Path,
        live: &HashSet<RowRef>,
    ) -> Result<Self, StoreError> {
        let known = index.postings.all().iter().map(|p| (tag_of(p), p.content)).collect();
        let postings = index.postings.all().iter().filter(|p| live.contains(&p.at)).cloned().collect();
        Ok(Self {
            families: index.families,
            places: index.contents.iter().map(|c| c.place).collect(),
            facts: index.contents.iter().map(|c| c.facts).collect(),
            codes: codes::read(before)?,
            postings,
            known,
            declared: Vec::new(),
            payload: PayloadWriter::open(before, folder)?,
            vectors: VectorsWriter::open(before, folder)?,
            ids: index.table.iter().map(|f| f.id.clone()).collect(),
        })
    }

    /// Reads the shards from `begin` on; returns how many are covered in the end. `progress` gets the rows done.
    fn read(
        &mut self,
        db: &Database,
        begin: usize,
        live: &HashSet<RowRef>,
        progress: &dyn Fn(u64),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<usize, StoreError> {
        let shards = &db.manifest().shards;
        let mut done = 0;
        progress(done);
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(AHEAD);
            scope.spawn(move || {
                for shard in begin..shards.len() {
                    let batches = match db.contents(shard) {
                        Ok(batches) => batches,
                        Err(error) => {
                            let _ = send.send(Err(error));
                            return;
                        }
                    };
                    // Whoever receives has stopped when sending fails.
                    for batch in batches {
                        if send.send(batch.map(|rows| (rows, false))).is_err() {
                            return;
                        }
                    }
                    if send.send(Ok((Vec::new(), true))).is_err() {
                        return;
                    }
                }
            });
            let mut covered = begin;
            let mut waiting: Vec<(RowRef, schema::Content)> = Vec::new();
            for message in receive {
                let (rows, shard_ends): (Vec<(RowRef, schema::Content)>, bool) = message?;
                done += rows.len() as u64;
                waiting.extend(rows.into_iter().filter(|(at, _)| live.contains(at)));
                if shard_ends || waiting.len() >= BATCH {
                    self.add(std::mem::take(&mut waiting))?;
                    progress(done);
                }
                if shard_ends {
                    covered += 1;
                    if stop() {
                        break;
                    }
                }
            }
            Ok(covered)
        })
    }

    /// Adds some live rows.
    fn add(&mut self, rows: Vec<(RowRef, schema::Content)>) -> Result<(), StoreError> {
        let (mut fresh, mut digests): (Vec<Fingerprint>, Vec<String>) = (Vec::new(), Vec::new());
        for (at, row) in rows {
            let Some(fingerprint) = row.fingerprint else { continue };
            let next = self.facts.len() as u32;
            let digest = row.sample_digest.clone().unwrap_or_else(|| row.repo_id.clone());
            let content = *self.known.entry(Tag::of(&digest)).or_insert(next);
            if content == next {
                self.facts.push(Facts {
                    created_at: row.created_at,
                    quantised: row.quantised,
                    layers: fingerprint.layers,
                    declared_by: 0,
                });
                digests.push(digest);
                fresh.push(fingerprint);
            }
            let created_at = &mut self.facts[content as usize].created_at;
            *created_at = match (*created_at, row.created_at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            self.declared.extend(row.declared_bases.into_iter().map(|base| (content, base)));
            let (weights, samples) =
                (row.weights_digest.as_deref().map(Tag::of), row.sample_digest.as_deref().map(Tag::of));
            let (repo_id, created_at) = (row.repo_id, row.created_at);
            self.postings.push(Posting { content, at, repo_id, created_at, weights, samples });
        }
        let first = self.places.len() as u32;
        let places = self.families.place(&fresh, &mut self.payload)?;
        for (((content, place), fingerprint), digest) in (first..).zip(&places).zip(&fresh).zip(&digests) {
            self.vectors.add(&fingerprint.vector)?;
            let head = &self.families.heads[place.head as usize];
            if head.content == content && head.link.is_none() {
                // 16 characters of a SHA-256 tell more families apart than there will be models.
                self.ids.push(digest.chars().take(16).collect());
            }
        }
        let heads = self.families.search();
        let differences = places.par_iter().zip(&fresh);
        self.codes.par_extend(differences.map(|(place, f)| difference(heads.vector(place.head), &f.vector)));
        self.places.extend(places);
        Ok(())
    }

    /// Lets families keep the names that they had.
    fn inherit(&mut self, names: &Names) {
        let Self { families, places, ids, known, .. } = self;
        let family_of = |content: u32| families.heads[places[content as usize].head as usize].family;
        names.inherit(ids, known.iter().map(|(tag, content)| (*tag, family_of(*content))));
    }

    /// Writes the files.
    fn finish(
        self,
        before: &Paths,
        folder: &Path,
        changed_from: u32,
        old: &[Family],
        hub_ids: &HashMap<RowRef, String>,
    ) -> Result<Parts, StoreError> {
        let Self {
            families, places, mut facts, codes, mut postings, declared, payload, vectors, ids, ..
        } = self;
        payload.finish()?;
        let vectors = vectors.finish()?;
        codes::write(before, folder, &codes[changed_from as usize..])?;
        let family_of = |content: u32| families.heads[places[content as usize].head as usize].family;
        let by_name: HashMap<&str, u32> = postings.iter().map(|p| (p.repo_id.as_str(), p.content)).collect();
        for (content, base) in &declared {
            if let Some(base) = by_name.get(base.as_str()).copied()
                && base != *content
                && family_of(base) == family_of(*content)
            {
                facts[base as usize].declared_by += 1;
            }
        }
        let held: HashSet<u32> = postings.iter().map(|p| p.content).collect();
        let mut members: Vec<Vec<Member>> = vec![Vec::new(); families.count as usize];
        let mut grown = vec![false; families.count as usize];
        for (content, facts) in (0..).zip(&facts) {
            let family = family_of(content) as usize;
            grown[family] |= content >= changed_from;
            if held.contains(&content) {
                members[family].push(Member { content, facts: *facts });
            }
        }
        let founders = families.heads.iter().filter(|h| h.link.is_none()).map(|h| h.content);
        let all: Vec<_> = founders.zip(members).zip(ids).zip(grown).enumerate().collect();
        let table = all
            .into_par_iter()
            .map(|(number, (((founder, members), id), grown))| {
                let contents = members.len() as u32;
                let is_same =
                    |family: &&Family| !grown && family.contents == contents && held.contains(&family.root);
                if let Some(family) = old.get(number).filter(is_same) {
                    return Ok(family.clone());
                }
                let root = root::root(&members, |content| vectors.read(content))?;
                let gone = || Root { content: founder, evidence: "all its repositories are gone".into() };
                let Root { content, evidence } = root.unwrap_or_else(gone);
                Ok(Family { id, root: content, contents, evidence })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let contents: Vec<Content> =
            places.into_iter().zip(facts).map(|(place, facts)| Content { place, facts }).collect();
        tables::write_contents(&folder.join(CONTENTS), &contents)?;
        tables::write_heads(&folder.join(HEADS), &families.heads)?;
        tables::write_families(&folder.join(FAMILIES), &table)?;
        postings.sort_by_key(|p| (p.content, p.at));
        tables::write_postings(&folder.join(POSTINGS), &postings)?;
        let lineages = lineage::of(&contents, &families.heads, &table, &postings, hub_ids);
        tables::write_lineage(&folder.join(LINEAGE), &lineages)?;
        Ok(Parts {
            models: postings.len(),
            contents: contents.len(),
            heads: families.heads.len(),
            families: table.len(),
        })
    }
}

/// Whether a file is one of the parts that stay from night to night.
fn is_segment(file: &str) -> bool {
    [PAYLOAD, VECTORS, CODES].iter().any(|name| is_part_of(file, name))
}

/// What was finished.
struct Parts {
    models: usize,
    contents: usize,
    heads: usize,
    families: usize,
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

pub(super) fn write_metadata(db: &Database, metadata: &Metadata) -> Result<FileEntry, StoreError> {
    let json = serde_json::to_vec_pretty(metadata).map_err(StoreError::damaged(db.folder()))?;
    db.files().add(FOLDER, "json", |file| {
        std::io::Write::write_all(file, &json).map_err(StoreError::io(db.folder()))
    })
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::index::{Look, Sought};
    use super::super::segments::Segments;
    use super::super::verify::verify;
    use super::*;
    use crate::signals::testing::Model;
    use crate::signals::verdict::VerdictKind;
    use crate::store::schema::testing::row;
    use crate::store::{Outcome, Row, Task};

    fn settings() -> BuildSettings {
        BuildSettings { recall_queries: 20, strangers: 20, ..BuildSettings::default() }
    }

    fn built(db: &mut Database, from_nothing: bool) -> Built {
        build(db, &settings(), from_nothing, &|_, _| {}, &|| false).unwrap()
    }

    fn named(names: &[&str], models: &[&Model]) -> Vec<Row> {
        names.iter().zip(models).map(|(name, model)| row(name, Some(model.fingerprint()))).collect()
    }

    /// Four shards of three families: bases, children near and far, and a copy.
    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let bases: Vec<Model> = (0..3).map(|s| Model::random(s, 4, 64)).collect();
        db.append(&named(&["a", "b", "c"], &bases.iter().collect::<Vec<_>>())).unwrap();
        let (near, far) = (bases[0].tuned(0.98, 5), bases[0].tuned(0.6, 6));
        db.append(&named(&["a-near", "a-far"], &[&near, &far])).unwrap();
        let mut copy = row("a-copy", Some(bases[0].fingerprint()));
        copy.sample_digest = Some("s-a".into());
        db.append(&[copy]).unwrap();
        db.append(&named(&["a-far-near", "b-near"], &[&far.tuned(0.97, 7), &bases[1].tuned(0.99, 8)]))
            .unwrap();
        (dir, db)
    }

    /// Every file of the index in use, by checksum.
    fn tables_of(db: &Database) -> Vec<(&'static str, String)> {
        let entries = &db.manifest().index.as_ref().unwrap().files;
        let tables = [CONTENTS, FAMILIES, HEADS, LINEAGE, POSTINGS];
        let mut all: Vec<(&'static str, String)> =
            tables.iter().map(|name| (*name, entries[*name].sha256.clone())).collect();
        let paths = paths_of(db);
        for name in [CODES, PAYLOAD, VECTORS] {
            let mut hasher = sha2::Sha256::new();
            let parts = Segments::open(&paths, name).unwrap();
            parts
                .for_each_piece(100, |piece| {
                    hasher.update(piece);
                    Ok(())
                })
                .unwrap();
            all.push((name, atomic::hex(&hasher.finalize())));
        }
        all
    }

    fn paths_of(db: &Database) -> Paths {
        let entries = &db.manifest().index.as_ref().unwrap().files;
        entries.iter().map(|(name, e)| (name.clone(), db.files().local(e).unwrap())).collect()
    }

    #[test]
    fn families_heads_and_copies() {
        let (_dir, mut db) = database();
        let whole = built(&mut db, true);
        assert_eq!((whole.models, whole.contents, whole.families), (8, 7, 3));
        assert_eq!(whole.heads, 4, "the far child stands for itself and what is near it");
        assert!(whole.complete && !whole.incremental && whole.quality.false_families == 0);
        assert!(whole.quality.recall_at_10 > 0.99);
        let index = Index::open(&db).unwrap();
        let query = Model::random(0, 4, 64).tuned(0.6, 6).tuned(0.95, 99).fingerprint();
        for look in [Look::Usual, Look::Exact] {
            let found = index.find(&query, 3, look).unwrap();
            let names: Vec<&str> = found.related[0]
                .closest
                .iter()
                .map(|hit| index.repositories(hit.number)[0].repo_id.as_str())
                .collect();
            assert_eq!(found.related.len(), 1);
            assert_eq!(names[0], "org/a-far");
        }
        let content = index.content_of(Tag::of("s-a")).unwrap();
        assert_eq!(index.repositories(content).len(), 2);
        assert_eq!(index.family(index.family_of(content)).contents, 4);
        let stranger = index.find(&Model::random(77, 4, 64).fingerprint(), 3, Look::Exact).unwrap();
        assert!(stranger.related.is_empty());
        assert!(verify(&db, false, &|_, _| {}).unwrap().is_whole());
    }

    #[test]
    fn night_by_night_gives_the_index_of_one_build() {
        let (dir, mut db) = database();
        built(&mut db, true);
        let at_once = tables_of(&db);
        let (other_dir, mut other) = database();
        let all = other.manifest().shards.clone();
        for n in 1..=all.len() {
            other
                .commit(|manifest| {
                    manifest.shards = all[..n].to_vec();
                    Ok(())
                })
                .unwrap();
            let night = built(&mut other, false);
            assert_eq!((night.incremental, night.complete), (n > 1, true));
        }
        assert_eq!(tables_of(&Database::open(other_dir.path()).unwrap()), at_once);
        drop(dir);
    }

    #[test]
    fn an_interrupted_build_is_gone_on_with() {
        let (_dir, mut db) = database();
        let part = build(&mut db, &settings(), true, &|_, _| {}, &|| true).unwrap();
        assert!(!part.complete && part.committed && part.contents == 3);
        assert_eq!(db.manifest().index.as_ref().unwrap().shards, 1);
        let rest = built(&mut db, false);
        assert!(rest.complete && rest.incremental && rest.added == 4);
        assert_eq!(rest.quality.strangers, settings().strangers);
        let (_other_dir, mut other) = database();
        built(&mut other, true);
        assert_eq!(tables_of(&db), tables_of(&other));
    }

    #[test]
    fn an_interrupted_build_leaves_a_fuller_index_as_it_is() {
        let (_dir, mut db) = database();
        built(&mut db, true);
        let before = db.manifest().clone();
        let part = build(&mut db, &settings(), true, &|_, _| {}, &|| true).unwrap();
        assert!(!part.complete && !part.committed);
        assert_eq!(*db.manifest(), before);
        let files = fs::read_dir(db.folder().join(FOLDER)).unwrap().count();
        assert_eq!(files, before.index.unwrap().files.len(), "nothing is left behind");
        assert!(verify(&db, false, &|_, _| {}).unwrap().is_whole());
    }

    #[test]
    fn a_build_is_measured_until_it_is_stopped() {
        let (_dir, mut db) = database();
        let shards = db.manifest().shards.len() as u64;
        let (asked, last) = (AtomicU64::new(0), std::sync::Mutex::new((0, 0)));
        let progress = |done, all| *last.lock().unwrap() = (done, all);
        // After the last shard.
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= shards;
        let part = build(&mut db, &settings(), true, &progress, &stop).unwrap();
        assert!(part.complete && part.committed);
        assert_eq!((part.quality.queries, part.quality.strangers), (0, 0));
        let whole = build(&mut db, &settings(), true, &progress, &|| false).unwrap();
        assert_eq!((whole.quality.queries, whole.quality.strangers), (7, 20));
        let (_, all) = *last.lock().unwrap();
        assert_eq!(all, 8 + 40);
    }

    #[test]
    fn nights_add_to_what_was_measured() {
        let (_dir, mut db) = database();
        let first = built(&mut db, true).quality;
        db.append(&named(&["d"], &[&Model::random(9, 4, 64)])).unwrap();
        let night = built(&mut db, false).quality;
        assert_eq!((night.queries, night.strangers), (first.queries + 2, first.strangers + 2));
    }

    #[test]
    fn what_is_gone_is_not_found_and_families_keep_their_names() {
        let (_dir, mut db) = database();
        built(&mut db, true);
        let id = |db: &Database| {
            let index = Index::open(db).unwrap();
            let content = index.content_of(Tag::of("s-a-near")).unwrap();
            index.family(index.family_of(content)).id.clone()
        };
        let before = id(&db);
        // Both repositories of the founder's content end otherwise today.
        let gone = |name: &str| Row { outcome: Outcome::Missing, ..row(name, None) };
        db.append(&[gone("a"), gone("a-copy")]).unwrap();
        assert!(built(&mut db, false).incremental);
        assert_eq!(id(&db), before);
        let index = Index::open(&db).unwrap();
        assert!(index.content_of(Tag::of("s-a")).is_none());
        let found = index.find(&Model::random(0, 4, 64).fingerprint(), 9, Look::Usual).unwrap();
        let [family] = &found.related[..] else { panic!("{found:?}") };
        assert_eq!(family.closest.len(), 3);
        assert_ne!(index.repositories(index.family(family.family).root), []);
        assert!(verify(&db, true, &|_, _| {}).unwrap().is_whole());
        // A build from nothing does not know the founder, whose digest the name comes from.
        assert!(!built(&mut db, true).incremental);
        assert_eq!(id(&db), before);
    }

    #[test]
    fn an_equal_content_is_found_by_its_digests_alone() {
        let (_dir, mut db) = database();
        built(&mut db, true);
        let index = Index::open(&db).unwrap();
        let empty = Fingerprint {
            cells: Vec::new(),
            vector: [0; VECTOR_DIMENSIONS],
            ..Model::random(5, 4, 64).fingerprint()
        };
        assert!(index.find(&empty, 3, Look::Usual).unwrap().related.is_empty());
        let (weights, samples) = (Some(Tag::of("w-a-copy")), Some(Tag::of("s-a-near")));
        let by_weights = Sought { fingerprint: &empty, weights, samples: None };
        let by_samples = Sought { fingerprint: &empty, weights: Some(Tag::of("w-else")), samples };
        for (sought, name, kind) in [
            (by_weights, "org/a", VerdictKind::Identical),
            (by_samples, "org/a-near", VerdictKind::NoWeightEvidence),
        ] {
            for look in [Look::Usual, Look::Exact] {
                let found = index.find(sought, 1, look).unwrap();
                let [related] = &found.related[..] else { panic!("{found:?}") };
                assert_eq!(related.verdict.kind, kind);
                let [closest] = &related.closest[..] else { panic!("{found:?}") };
                assert_eq!(index.repositories(closest.number)[0].repo_id, name);
            }
        }
    }

    #[test]
    fn a_copy_of_a_member_far_from_the_nearest_heads_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let base = Model::random(0, 2, 64);
        // Heads of one family, each with near members; what lies between two of them is near both.
        let heads: Vec<Model> = (0..12).map(|seed| base.tuned(0.75, 100 + seed)).collect();
        let mut models = vec![base.clone()];
        for (head, seed) in heads.iter().zip(1000..) {
            models.push(head.clone());
            models.extend((0..8).map(|i| head.tuned(0.93, 100 * seed + i)));
        }
        let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
        let whole = built(&mut db, true);
        assert!(whole.families == 1 && whole.heads > 5, "{whole:?}");
        let index = Index::open(&db).unwrap();
        for (name, model) in names.iter().zip(&models) {
            for k in [1, 5] {
                let found = index.find(&model.fingerprint(), k, Look::Usual).unwrap();
                let nearest = found.related[0].closest[0];
                assert_eq!(index.repositories(nearest.number)[0].repo_id, format!("org/{name}"));
            }
        }
    }

    /// Puts other metadata in the place of the index's own.
    fn with_metadata(db: &mut Database, change: impl Fn(&mut serde_json::Value)) {
        let mut entry = db.manifest().index.clone().unwrap();
        let path = db.files().local(&entry.files[METADATA]).unwrap();
        let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        change(&mut value);
        let write = |file: &mut fs::File| {
            std::io::Write::write_all(file, value.to_string().as_bytes())
                .map_err(StoreError::io(Path::new("")))
        };
        entry.files.insert(METADATA.into(), db.files().add(FOLDER, "json", write).unwrap());
        db.set_index(&entry).unwrap();
    }

    #[test]
    fn foreign_stale_newer_and_lying_indexes_are_told_apart() {
        use serde_json::{Value, json};
        type Change = fn(&mut Value);
        type Is = fn(&StoreError) -> bool;
        let (_dir, mut db) = database();
        built(&mut db, true);
        let good = db.manifest().index.clone().unwrap();
        let cases: [(&str, Change, Is, &str); 12] = [
            (
                "foreign",
                |m| m["database"] = json!("0123"),
                |e| matches!(e, StoreError::ForeignIndex { .. }),
                "anew",
            ),
            (
                "shards",
                |m| m["shards"][1] = json!("00"),
                |e| matches!(e, StoreError::StaleIndex { .. }),
                "anew",
            ),
            ("fewer", |m| m["shards"] = json!([]), |e| matches!(e, StoreError::StaleIndex { .. }), "anew"),
            (
                "extraction",
                |m| m["extraction_version"] = json!(0),
                |e| matches!(e, StoreError::StaleIndex { .. }),
                "anew",
            ),
            ("older", |m| m["index_version"] = json!(4), |e| matches!(e, StoreError::Version { .. }), "anew"),
            (
                "newer",
                |m| m["index_version"] = json!(99),
                |e| matches!(e, StoreError::Version { .. }),
                "newer hubprint",
            ),
            (
                "contents",
                |m| m["contents"] = json!(1u64 << 60),
                |e| matches!(e, StoreError::Damaged { .. }),
                "index",
            ),
            (
                "heads",
                |m| m["heads"] = json!(1u64 << 60),
                |e| matches!(e, StoreError::Damaged { .. }),
                "index",
            ),
            ("families", |m| m["families"] = json!(2), |e| matches!(e, StoreError::Damaged { .. }), "index"),
            ("postings", |m| m["postings"] = json!(7), |e| matches!(e, StoreError::Damaged { .. }), "index"),
            (
                "many",
                |m| m["postings"] = json!(1u64 << 60),
                |e| matches!(e, StoreError::StaleIndex { .. }),
                "anew",
            ),
            ("no number", |m| m["heads"] = json!("x"), |e| matches!(e, StoreError::Damaged { .. }), "index"),
        ];
        for (name, change, is, hint) in cases {
            with_metadata(&mut db, change);
            let error = Index::open(&db).unwrap_err();
            assert!(is(&error), "{name}: {error}");
            assert!(
                error.hint().contains(hint) && error.hint().contains("hubprint index"),
                "{name}: {}",
                error.hint()
            );
            db.set_index(&good).unwrap();
        }
        assert!(Index::open(&db).is_ok());
        // Whatever is wrong, a build puts it right.
        with_metadata(&mut db, |m| m["database"] = json!("0123"));
        assert!(!built(&mut db, false).incremental);
        assert!(Index::open(&db).is_ok());
    }

    #[test]
    fn damage_and_other_versions_are_refused_with_advice() {
        let (_dir, mut db) = database();
        assert!(matches!(Index::open(&db), Err(StoreError::NoIndex { .. })));
        built(&mut db, true);
        let paths = paths_of(&db);
        for (name, path) in &paths {
            let bytes = fs::read(path).unwrap();
            let mut flipped = bytes.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            atomic::write(path, &flipped).unwrap();
            let error = verify(&db, false, &|_, _| {}).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
            assert!(error.hint().contains("hubprint index"), "{name}");
            atomic::write(path, &bytes[..bytes.len() - 1]).unwrap();
            assert!(matches!(Index::open(&db), Err(StoreError::Damaged { .. })), "{name} cut");
            atomic::write(path, &bytes).unwrap();
        }
        assert!(Index::open(&db).is_ok());
        let mut entries = db.manifest().index.clone().unwrap();
        let other = |file: &mut fs::File| {
            std::io::Write::write_all(file, br#"{"index_version": 7}"#).map_err(StoreError::io(Path::new("")))
        };
        let entry = db.files().add(FOLDER, "json", other).unwrap();
        entries.files.insert(METADATA.into(), entry);
        db.set_index(&entries).unwrap();
        let error = Index::open(&db).unwrap_err();
        assert!(matches!(error, StoreError::Version { found: 7, .. }), "{error}");
        assert!(error.hint().contains("hubprint index"));
        // And put right by building again.
        assert!(!built(&mut db, false).incremental);
        assert!(Index::open(&db).is_ok());
    }

    #[test]
    fn an_empty_database_has_an_empty_index() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        assert_eq!(built(&mut db, false).contents, 0);
        let query = Model::random(1, 2, 64).fingerprint();
        assert!(Index::open(&db).unwrap().find(&query, 5, Look::Usual).unwrap().related.is_empty());
    }

    #[test]
    fn a_crowd_of_near_duplicates_is_found_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let models: Vec<Model> = (0..3)
            .flat_map(|s| {
                let base = Model::random(s, 1, 32);
                (0..60).map(move |i| base.tuned(0.99, 1000 + i)).collect::<Vec<_>>()
            })
            .collect();
        let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
        assert_eq!(built(&mut db, true).families, 3);
        let index = Index::open(&db).unwrap();
        for (name, model) in names.iter().zip(&models) {
            let found = index.find(&model.fingerprint(), 1, Look::Usual).unwrap();
            let nearest = found.related[0].closest[0];
            assert_eq!(index.repositories(nearest.number)[0].repo_id, format!("org/{name}"));
        }
    }
}
