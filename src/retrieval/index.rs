//! An open index: immutable files of one folder, found by the database's manifest.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use super::candidates::Sources;
use super::codes::{self, CODES};
use super::controls::Controls;
use super::families::Families;
use super::members::Members;
use super::metadata::{CHECKPOINTS, FAMILIES, METADATA, Metadata, POSTINGS, REPRESENTATIVES};
use super::payload::Payload;
use super::postings::Postings;
use super::quality::Quality;
use super::segments::{Paths, is_part_of};
use super::tables::{self, Checkpoint, FamilyRow, Posting};
use super::vector::{Vector, cosine};
use super::vectors::Vectors;
use crate::signals::Fingerprint;
use crate::signals::fingerprint::is_outdated;
use crate::store::{Database, FileEntry, RowRef, StoreError, Tag};

/// Files that are read whole when an index is opened, and so verified then. Vectors and records of the payload have
/// checksums of their own; `verify` looks at everything.
fn is_read_at_opening(name: &str) -> bool {
    [METADATA, CHECKPOINTS, REPRESENTATIVES, FAMILIES, POSTINGS].contains(&name) || is_part_of(name, CODES)
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    pub(super) metadata: Metadata,
    pub(super) paths: Paths,
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) families: Families,
    pub(super) table: Vec<FamilyRow>,
    pub(super) postings: Postings,
    pub(super) members: Members,
    pub(super) payload: Payload,
    pub(super) vectors: Vectors,
}

impl Index {
    /// Opens the database's index after checking its version, its byte order and every file that it reads.
    pub fn open(db: &Database) -> Result<Self, StoreError> {
        let Some(entry) = &db.manifest().index else {
            return Err(StoreError::NoIndex { path: db.location().to_string().into() });
        };
        let local = |(name, entry): (&String, &FileEntry)| {
            let path = db.files().local(entry)?;
            if is_read_at_opening(name) {
                entry.verify(&path)?;
            } else {
                entry.verify_length(&path)?;
            }
            Ok((name.clone(), path))
        };
        let paths = entry.files.par_iter().map(local).collect::<Result<Paths, StoreError>>()?;
        let metadata_path = path(&paths, METADATA)?;
        let metadata = Metadata::read(metadata_path)?;
        metadata.check(db.manifest(), entry, metadata_path)?;
        Self::assemble(metadata, paths)
    }

    /// Opens files that are as they were written.
    pub(super) fn assemble(metadata: Metadata, paths: Paths) -> Result<Self, StoreError> {
        let Metadata { postings, checkpoints, representatives, families, .. } = metadata;
        // Room is made for as many rows as it says: there must be a vector of each checkpoint, and all else is less.
        let vectors = Vectors::open(&paths)?.count();
        if vectors != checkpoints as u64 || representatives > checkpoints || families > representatives {
            let what = format!(
                "its metadata says {checkpoints} checkpoints, {representatives} representatives and {families} families, \
                 and there are {vectors} vectors"
            );
            return Err(damaged(&paths, &what));
        }
        let (postings, rest) = rayon::join(
            || {
                let all = tables::read_postings(path(&paths, POSTINGS)?, postings)?;
                Ok(Postings::new(all, checkpoints))
            },
            || Self::without_postings(&metadata, &paths),
        );
        let (postings, rest): (Postings, Self) = (postings?, rest?);
        if !postings.all().iter().all(|p| (p.checkpoint as usize) < checkpoints) {
            return Err(damaged(&paths, "its tables name rows that are not there"));
        }
        Ok(Self { metadata, paths, postings, ..rest })
    }

    fn without_postings(metadata: &Metadata, paths: &Paths) -> Result<Self, StoreError> {
        let checkpoints = tables::read_checkpoints(path(paths, CHECKPOINTS)?, metadata.checkpoints)?;
        let representatives =
            tables::read_representatives(path(paths, REPRESENTATIVES)?, metadata.representatives)?;
        let table = tables::read_families(path(paths, FAMILIES)?, metadata.families)?;
        let codes = codes::read(paths)?;
        let founders = representatives.iter().filter(|representative| representative.link.is_none()).count();
        if codes.len() != checkpoints.len() || founders != table.len() {
            let what = format!(
                "it has {} codes of {} checkpoints, and {founders} founders of {} families",
                codes.len(),
                checkpoints.len(),
                table.len()
            );
            return Err(damaged(paths, &what));
        }
        let in_range = checkpoints.iter().all(|c| (c.place.representative as usize) < representatives.len())
            && representatives.iter().all(|r| {
                (r.checkpoint as usize) < checkpoints.len()
                    && (r.family as usize) < table.len()
                    && r.link.is_none_or(|l| (l.representative as usize) < representatives.len())
            })
            && table.iter().all(|f| (f.root as usize) < checkpoints.len());
        if !in_range {
            return Err(damaged(paths, "its tables name rows that are not there"));
        }
        let payload = Payload::open(paths)?;
        let vectors = Vectors::open(paths)?;
        let members = Members::new(checkpoints.iter().map(|c| c.place), representatives.len(), &codes);
        let layers: Vec<u16> = checkpoints.iter().map(|c| c.facts.layers).collect();
        let families = Families::resume(
            Sources::default(),
            representatives,
            &layers,
            |checkpoint| vectors.read(checkpoint),
            |representative, vector| payload.read(representative.payload, vector),
        )?;
        Ok(Self {
            metadata: metadata.clone(),
            paths: Paths::new(),
            checkpoints,
            families,
            table,
            postings: Postings::default(),
            members,
            payload,
            vectors,
        })
    }

    /// The vectors of all checkpoints.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// The checkpoint and the vector of every representative.
    pub fn representative_vectors(&self) -> impl Iterator<Item = (u32, &Vector)> {
        let representatives = self.families.representatives.iter().zip(0..);
        representatives.map(|(representative, number)| {
            (representative.checkpoint, self.families.sources().vector(number))
        })
    }

    /// Number of distinct checkpoints.
    pub fn checkpoints(&self) -> usize {
        self.checkpoints.len()
    }

    /// Number of checkpoints that stand for those near them.
    pub fn representatives(&self) -> usize {
        self.families.representatives.len()
    }

    /// Number of families.
    pub fn families(&self) -> usize {
        self.table.len()
    }

    /// A family by its number.
    pub fn family(&self, number: u32) -> &FamilyRow {
        &self.table[number as usize]
    }

    /// The family of a checkpoint.
    pub fn family_of(&self, checkpoint: u32) -> u32 {
        self.families.representatives[self.checkpoints[checkpoint as usize].place.representative as usize]
            .family
    }

    /// The repositories behind a checkpoint, oldest first.
    pub fn repositories(&self, checkpoint: u32) -> &[Posting] {
        self.postings.of(checkpoint)
    }

    /// The same without one of them.
    pub fn others<'a>(
        &'a self,
        checkpoint: u32,
        but: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Posting> + Clone {
        self.repositories(checkpoint).iter().filter(move |p| !but.is_some_and(|but| p.is_called(but)))
    }

    /// Every repository, ordered by checkpoint.
    pub fn all_repositories(&self) -> &[Posting] {
        self.postings.all()
    }

    /// Number of checkpoints that only older versions of the extraction have read: how much of them that is, is not
    /// known.
    pub fn outdated(&self) -> usize {
        let is_outdated = |p: &Posting| is_outdated(p.extraction_version);
        let of_checkpoint = self.postings.all().chunk_by(|a, b| a.checkpoint == b.checkpoint);
        of_checkpoint.filter(|postings| postings.iter().all(is_outdated)).count()
    }

    /// The repositories whose rows the last complete build before this one did not have.
    pub fn added_last(&self) -> impl Iterator<Item = &Posting> {
        self.postings.all().iter().filter(|p| p.is_new)
    }

    /// Rows that are not new to the build that follows: all, if this one is complete.
    pub(super) fn settled(&self) -> HashSet<RowRef> {
        let old = self.postings.all().iter().filter(|p| self.metadata.complete || !p.is_new);
        old.map(|p| p.at).collect()
    }

    /// The checkpoint with this weights or sample digest.
    pub fn checkpoint_of(&self, digest: Tag) -> Option<u32> {
        self.postings.checkpoint_of(digest)
    }

    /// How well searches do.
    pub fn quality(&self) -> Quality {
        self.metadata.quality
    }

    /// Models that stand for unrelated ones.
    pub fn controls(&self) -> &Controls {
        self.families.controls()
    }

    /// The checkpoint of a representative.
    pub fn checkpoint_of_representative(&self, representative: u32) -> u32 {
        self.families.representatives[representative as usize].checkpoint
    }

    /// Cosine of a checkpoint with a query.
    pub fn cosine(&self, query: &Vector, checkpoint: u32) -> Result<f32, StoreError> {
        Ok(cosine(query, &self.vectors.read(checkpoint)?))
    }

    /// The fingerprint of a representative.
    pub fn fingerprint(&self, representative: u32) -> Result<Fingerprint, StoreError> {
        self.payload.read(
            self.families.representatives[representative as usize].payload,
            self.families.sources().vector(representative),
        )
    }
}

/// Where a file lies.
fn path<'a>(paths: &'a Paths, name: &str) -> Result<&'a Path, StoreError> {
    paths.get(name).map(AsRef::as_ref).ok_or_else(|| damaged(paths, &format!("it has no {name}")))
}

fn damaged(paths: &Paths, what: &str) -> StoreError {
    let path = paths.get(METADATA).cloned().unwrap_or_else(|| "index".into());
    StoreError::Damaged { path, what: what.to_owned() }
}
