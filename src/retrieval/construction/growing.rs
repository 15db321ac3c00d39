//! What a build has in memory while it reads shards, and how it becomes the files of an index.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use super::super::codes;
use super::super::families::Families;
use super::super::index::Index;
use super::super::lineage;
use super::super::members::difference;
use super::super::metadata::{CHECKPOINTS, FAMILIES, LINEAGE, POSTINGS, REPRESENTATIVES};
use super::super::names::Names;
use super::super::payload::PayloadWriter;
use super::super::representatives::Place;
use super::super::root::{self, CheckpointFacts, Member, Root};
use super::super::segments::Paths;
use super::super::tables::{self, Checkpoint, FamilyRow, Posting};
use super::super::vector::Code;
use super::super::vectors::VectorsWriter;
use crate::signals::Fingerprint;
use crate::store::schema;
use crate::store::{Database, RowRef, StoreError, Tag, checkpoint_name};

/// Checkpoints placed at once; their fingerprints are some 15 KB each.
const BATCH: usize = 2048;
/// Batches that are read ahead.
const AHEAD: usize = 2;

/// What grows while shards are read.
pub(super) struct Growing {
    families: Families,
    /// By checkpoint.
    places: Vec<Place>,
    facts: Vec<CheckpointFacts>,
    /// How checkpoints differ from their representatives.
    codes: Vec<Code>,
    pub(super) postings: Vec<Posting>,
    /// How many of them are of the index before.
    taken_over: usize,
    /// Rows that are not new, because the last complete build had them.
    settled: HashSet<RowRef>,
    /// By the tag of the digest of the checkpoint.
    known: HashMap<Tag, u32>,
    /// (checkpoint, its component, base that a card declares), to be counted when all names are known.
    declared: Vec<(u32, String, String)>,
    payload: PayloadWriter,
    vectors: VectorsWriter,
    /// The name of each family: the start of its founder's digest.
    ids: Vec<String>,
}

/// What was finished.
pub(super) struct Parts {
    pub(super) models: usize,
    pub(super) checkpoints: usize,
    pub(super) representatives: usize,
    pub(super) families: usize,
}

impl Growing {
    pub(super) fn new(settled: HashSet<RowRef>, folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            families: Families::default(),
            places: Vec::new(),
            facts: Vec::new(),
            codes: Vec::new(),
            postings: Vec::new(),
            taken_over: 0,
            settled,
            known: HashMap::new(),
            declared: Vec::new(),
            payload: PayloadWriter::open(&Paths::new(), folder)?,
            vectors: VectorsWriter::open(&Paths::new(), folder)?,
            ids: Vec::new(),
        })
    }

    pub(super) fn resume(
        index: Index,
        before: &Paths,
        folder: &Path,
        live: &HashSet<RowRef>,
    ) -> Result<Self, StoreError> {
        let known = index.postings.all().iter().map(|p| (tag_of(p), p.checkpoint)).collect();
        let is_new = |p: &Posting| p.is_new && !index.metadata.complete;
        let still = index.postings.all().iter().filter(|p| live.contains(&p.at));
        let postings: Vec<Posting> = still.map(|p| Posting { is_new: is_new(p), ..p.clone() }).collect();
        Ok(Self {
            families: index.families,
            places: index.checkpoints.iter().map(|c| c.place).collect(),
            facts: index.checkpoints.iter().map(|c| c.facts).collect(),
            codes: codes::read(before)?,
            taken_over: postings.len(),
            postings,
            // Of the rows that are still to be read it has none.
            settled: HashSet::new(),
            known,
            declared: Vec::new(),
            payload: PayloadWriter::open(before, folder)?,
            vectors: VectorsWriter::open(before, folder)?,
            ids: index.table.iter().map(|f| f.id.clone()).collect(),
        })
    }

    /// Reads the shards from `begin` on; returns how many are covered in the end. `progress` gets the rows done.
    pub(super) fn read(
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
                    let batches = match db.index_rows(shard) {
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
            let mut waiting: Vec<(RowRef, schema::IndexRow)> = Vec::new();
            for message in receive {
                let (rows, shard_ends): (Vec<(RowRef, schema::IndexRow)>, bool) = message?;
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
    fn add(&mut self, rows: Vec<(RowRef, schema::IndexRow)>) -> Result<(), StoreError> {
        let (mut fresh, mut digests): (Vec<Fingerprint>, Vec<String>) = (Vec::new(), Vec::new());
        for (at, row) in rows {
            let Some(fingerprint) = row.fingerprint else { continue };
            let next = self.facts.len() as u32;
            let digest =
                row.sample_digest.clone().unwrap_or_else(|| checkpoint_name(&row.repo_id, &row.component));
            let checkpoint = *self.known.entry(Tag::of(&digest)).or_insert(next);
            if checkpoint == next {
                self.facts.push(CheckpointFacts {
                    created_at: row.created_at,
                    quantised: row.quantised,
                    hidden_size: fingerprint.hidden_size,
                    layers: fingerprint.layers,
                    declared_by: 0,
                });
                digests.push(digest);
                fresh.push(fingerprint);
            }
            let created_at = &mut self.facts[checkpoint as usize].created_at;
            *created_at = match (*created_at, row.created_at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let component = &row.component;
            let bases = row.declared_bases.into_iter().map(|base| (checkpoint, component.clone(), base));
            self.declared.extend(bases);
            let (weights, samples) =
                (row.weights_digest.as_deref().map(Tag::of), row.sample_digest.as_deref().map(Tag::of));
            let extraction_version = row.extraction_version;
            let (repo_id, component, created_at) = (row.repo_id, row.component, row.created_at);
            let is_new = !self.settled.contains(&at);
            self.postings.push(Posting {
                checkpoint,
                at,
                repo_id,
                component,
                created_at,
                weights,
                samples,
                extraction_version,
                is_new,
            });
        }
        let first = self.places.len() as u32;
        let places = self.families.place(&fresh, &mut self.payload)?;
        for (((checkpoint, place), fingerprint), digest) in (first..).zip(&places).zip(&fresh).zip(&digests) {
            self.vectors.add(&fingerprint.vector)?;
            let representative = &self.families.representatives[place.representative as usize];
            if representative.checkpoint == checkpoint && representative.link.is_none() {
                // 16 characters of a SHA-256 tell more families apart than there will be models.
                self.ids.push(digest.chars().take(16).collect());
            }
        }
        let sources = self.families.sources();
        let differences = places.par_iter().zip(&fresh);
        self.codes.par_extend(
            differences.map(|(place, f)| difference(sources.vector(place.representative), &f.vector)),
        );
        self.places.extend(places);
        Ok(())
    }

    /// Lets families keep the names that they had.
    pub(super) fn inherit(&mut self, names: &Names) {
        let Self { families, places, ids, known, .. } = self;
        let family_of = |checkpoint: u32| {
            families.representatives[places[checkpoint as usize].representative as usize].family
        };
        names.inherit(ids, known.iter().map(|(tag, checkpoint)| (*tag, family_of(*checkpoint))));
    }

    /// Writes the files.
    pub(super) fn finish(
        self,
        before: &Paths,
        folder: &Path,
        changed_from: u32,
        old: &[FamilyRow],
        hub_ids: &HashMap<RowRef, String>,
    ) -> Result<Parts, StoreError> {
        let Self {
            families,
            places,
            mut facts,
            codes,
            mut postings,
            taken_over,
            declared,
            payload,
            vectors,
            ids,
            ..
        } = self;
        payload.finish()?;
        let vectors = vectors.finish()?;
        codes::write(before, folder, &codes[changed_from as usize..])?;
        let family_of = |checkpoint: u32| {
            families.representatives[places[checkpoint as usize].representative as usize].family
        };
        // A card speaks of the whole repository: of each component the one of the same name is the base.
        let name = |p: &'_ Posting| (p.repo_id.clone(), p.component.clone());
        let by_name: HashMap<(String, String), u32> =
            postings.iter().map(|p| (name(p), p.checkpoint)).collect();
        for (checkpoint, component, base) in declared {
            if let Some(base) = by_name.get(&(base, component)).copied()
                && base != checkpoint
                && family_of(base) == family_of(checkpoint)
            {
                facts[base as usize].declared_by += 1;
            }
        }
        let held: HashSet<u32> = postings.iter().map(|p| p.checkpoint).collect();
        let mut members: Vec<Vec<Member>> = vec![Vec::new(); families.count as usize];
        for (checkpoint, facts) in (0..).zip(&facts) {
            if held.contains(&checkpoint) {
                members[family_of(checkpoint) as usize].push(Member { checkpoint, facts: *facts });
            }
        }
        // A copy may be older than what was known of its checkpoint.
        let mut grown = vec![false; families.count as usize];
        for posting in &postings[taken_over..] {
            grown[family_of(posting.checkpoint) as usize] = true;
        }
        let founders = families.representatives.iter().filter(|h| h.link.is_none()).map(|h| h.checkpoint);
        let all: Vec<_> = founders.zip(members).zip(ids).zip(grown).enumerate().collect();
        let table = all
            .into_par_iter()
            .map(|(number, (((founder, members), id), grown))| {
                let checkpoints = members.len() as u32;
                let is_same = |family: &&FamilyRow| {
                    !grown && family.checkpoints == checkpoints && held.contains(&family.root)
                };
                if let Some(family) = old.get(number).filter(is_same) {
                    return Ok(family.clone());
                }
                let root = root::root(&members, |checkpoint| vectors.read(checkpoint))?;
                let gone = || Root { checkpoint: founder, evidence: "all its repositories are gone".into() };
                let Root { checkpoint, evidence } = root.unwrap_or_else(gone);
                Ok(FamilyRow { id, root: checkpoint, checkpoints, evidence })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let checkpoints: Vec<Checkpoint> =
            places.into_iter().zip(facts).map(|(place, facts)| Checkpoint { place, facts }).collect();
        tables::write_checkpoints(&folder.join(CHECKPOINTS), &checkpoints)?;
        tables::write_representatives(&folder.join(REPRESENTATIVES), &families.representatives)?;
        tables::write_families(&folder.join(FAMILIES), &table)?;
        postings.sort_by_key(|p| (p.checkpoint, p.at));
        tables::write_postings(&folder.join(POSTINGS), &postings)?;
        let lineages = lineage::of(&checkpoints, &families.representatives, &table, &postings, hub_ids);
        tables::write_lineage(&folder.join(LINEAGE), &lineages)?;
        Ok(Parts {
            models: postings.len(),
            checkpoints: checkpoints.len(),
            representatives: families.representatives.len(),
            families: table.len(),
        })
    }
}

/// Of the digest that tells the checkpoints apart.
pub(super) fn tag_of(posting: &Posting) -> Tag {
    posting.samples.unwrap_or_else(|| Tag::of(&posting.name()))
}
