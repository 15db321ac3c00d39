//! An open index: immutable files of one folder, found by the database's manifest.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::build::BuildSettings;
use super::codes::{self, CODES};
use super::family::Families;
use super::heads::{self, Hit};
use super::judge::Judge;
use super::members::{Members, difference};
use super::payload::Payload;
use super::postings::Postings;
use super::quality::Quality;
use super::segments::{Paths, is_part_of};
use super::tables::{self, Content, Family, Posting};
use super::vector::{Vector, cosine};
use super::vectors::Vectors;
use crate::signals::evidence::Evidence;
use crate::signals::fingerprint::{EXTRACTION_VERSION, VECTOR_DIMENSIONS};
use crate::signals::verdict::Context;
use crate::signals::{Fingerprint, Verdict};
use crate::store::{Database, FileEntry, StoreError};

/// Version of the files of an index.
pub const INDEX_VERSION: u32 = 4;
pub(super) const METADATA: &str = "index.json";
pub(super) const CONTENTS: &str = "contents.parquet";
pub(super) const HEADS: &str = "heads.parquet";
pub(super) const FAMILIES: &str = "families.parquet";
pub(super) const POSTINGS: &str = "postings.parquet";
/// For people and other tools: searches do not read it.
pub const LINEAGE: &str = "lineage.parquet";
/// Files that are read whole when an index is opened, and so verified then. Vectors and records of the payload have
/// checksums of their own; `verify` looks at everything.
fn is_read_at_opening(name: &str) -> bool {
    [METADATA, CONTENTS, HEADS, FAMILIES, POSTINGS].contains(&name) || is_part_of(name, CODES)
}

/// Nearest heads that a search looks at. A family may have thousands that are near, and must not hide another.
pub(super) const HEAD_HITS: usize = 4096;
/// Heads that are judged in one search.
const MOST_JUDGED: usize = 8;
/// Heads of one family whose members are looked at.
const HEADS_OF_FAMILY: usize = 4;
/// Members whose exact cosine is computed for each that is asked for, and fewest of them.
const REFINED_PER_MEMBER: usize = 16;
const LEAST_REFINED: usize = 64;

/// `index.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) index_version: u32,
    pub(super) extraction_version: u32,
    pub(super) little_endian: bool,
    pub(super) dimensions: usize,
    pub(super) contents: usize,
    pub(super) heads: usize,
    pub(super) families: usize,
    /// Contents of the index that it was built on.
    pub(super) before: usize,
    pub(super) settings: BuildSettings,
    /// SHA-256 of the shards that it covers, in the order of the manifest.
    pub(super) shards: Vec<String>,
    pub(super) quality: Quality,
}

/// How hard to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// Sign codes first.
    #[default]
    Usual,
    /// Every head by its whole vector, and every member of the families found.
    Exact,
}

/// A family that shares weights with a query.
#[derive(Clone, Debug)]
pub struct Related {
    /// Number of the family.
    pub family: u32,
    /// The head that the verdict was made on.
    pub head: u32,
    /// Query first.
    pub evidence: Evidence,
    /// Of the query and the head.
    pub verdict: Verdict,
    /// The closest contents of the family, nearest first.
    pub closest: Vec<Hit>,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Related families, nearest first.
    pub related: Vec<Related>,
    /// The nearest head that the verdict did not confirm.
    pub rejected: Option<Hit>,
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    pub(super) metadata: Metadata,
    pub(super) paths: Paths,
    pub(super) contents: Vec<Content>,
    pub(super) families: Families,
    pub(super) table: Vec<Family>,
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
        let metadata = path(&paths, METADATA)?;
        Self::assemble(read_metadata(metadata)?, paths)
    }

    /// Opens files that are as they were written.
    pub(super) fn assemble(metadata: Metadata, paths: Paths) -> Result<Self, StoreError> {
        // Room is made for as many contents as it says: there must be a vector of each.
        if Vectors::open(&paths)?.count() != metadata.contents as u64 {
            return Err(damaged(&paths, "its vectors are of another number than its metadata says"));
        }
        let (postings, rest) = rayon::join(
            || Ok(Postings::new(tables::read_postings(path(&paths, POSTINGS)?)?, metadata.contents)),
            || Self::without_postings(&metadata, &paths),
        );
        let (postings, rest): (Postings, Self) = (postings?, rest?);
        if !postings.all().iter().all(|p| (p.content as usize) < metadata.contents) {
            return Err(damaged(&paths, "its tables name rows that are not there"));
        }
        Ok(Self { metadata, paths, postings, ..rest })
    }

    fn without_postings(metadata: &Metadata, paths: &Paths) -> Result<Self, StoreError> {
        let contents = tables::read_contents(path(paths, CONTENTS)?)?;
        let heads = tables::read_heads(path(paths, HEADS)?)?;
        let table = tables::read_families(path(paths, FAMILIES)?)?;
        let codes = codes::read(paths)?;
        let counts = (metadata.contents, metadata.contents, metadata.heads, metadata.families);
        if counts != (contents.len(), codes.len(), heads.len(), table.len()) {
            return Err(damaged(paths, "its tables have other lengths than its metadata says"));
        }
        let in_range = contents.iter().all(|c| (c.place.head as usize) < heads.len())
            && heads.iter().all(|h| {
                (h.content as usize) < contents.len()
                    && (h.family as usize) < table.len()
                    && h.link.is_none_or(|l| (l.head as usize) < heads.len())
            })
            && table.iter().all(|f| (f.root as usize) < contents.len());
        if !in_range {
            return Err(damaged(paths, "its tables name rows that are not there"));
        }
        let payload = Payload::open(paths)?;
        let vectors = Vectors::open(paths)?;
        let members = Members::new(contents.iter().map(|c| c.place), heads.len(), &codes);
        let families = Families::resume(
            heads,
            contents.len() as u32,
            |content| vectors.read(content),
            |head, vector| payload.read(head.payload, vector),
        )?;
        Ok(Self {
            metadata: metadata.clone(),
            paths: Paths::new(),
            contents,
            families,
            table,
            postings: Postings::default(),
            members,
            payload,
            vectors,
        })
    }

    /// The vectors of all contents.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// The content and the vector of every head.
    pub fn head_vectors(&self) -> impl Iterator<Item = (u32, &Vector)> {
        let heads = self.families.heads.iter().zip(0..);
        heads.map(|(head, number)| (head.content, self.families.search().vector(number)))
    }

    /// Number of distinct contents.
    pub fn contents(&self) -> usize {
        self.contents.len()
    }

    /// Number of contents that stand for those near them.
    pub fn heads(&self) -> usize {
        self.families.heads.len()
    }

    /// Number of families.
    pub fn families(&self) -> usize {
        self.table.len()
    }

    /// A family by its number.
    pub fn family(&self, number: u32) -> &Family {
        &self.table[number as usize]
    }

    /// The family of a content.
    pub fn family_of(&self, content: u32) -> u32 {
        self.families.heads[self.contents[content as usize].place.head as usize].family
    }

    /// The repositories behind a content, oldest first.
    pub fn repositories(&self, content: u32) -> &[Posting] {
        self.postings.of(content)
    }

    /// Every repository, ordered by content.
    pub fn all_repositories(&self) -> &[Posting] {
        self.postings.all()
    }

    /// The repositories of the contents that the last build added.
    pub fn added_last(&self) -> impl Iterator<Item = &Posting> {
        self.postings.all().iter().filter(|p| p.content as usize >= self.metadata.before)
    }

    /// The content with this weights or sample digest.
    pub fn content_of(&self, digest: &str) -> Option<u32> {
        self.postings.content_of(digest)
    }

    /// How well searches do.
    pub fn quality(&self) -> Quality {
        self.metadata.quality
    }

    /// Founders of families of this hidden size: models that are unrelated to most queries.
    pub fn controls(&self, hidden_size: u32) -> &[Fingerprint] {
        self.families.controls(hidden_size)
    }

    /// Families that share weights with a fingerprint, each with up to `k` of its closest contents.
    ///
    /// Heads are judged from the nearest on. Further heads of a confirmed family are not judged, but their members
    /// are looked at as well.
    pub fn find(&self, query: &Fingerprint, k: usize, look: Look) -> Result<Found, StoreError> {
        let exact = look == Look::Exact;
        let most = if exact { usize::MAX } else { HEAD_HITS };
        let mut hits = self.families.search().nearest(query.hidden_size, &query.vector, most, exact);
        hits.retain(|hit| self.is_live(hit.number));
        let context = Context { searched: self.contents.len().max(1), ..Context::default() };
        let mut found = Found::default();
        let mut of_family: BTreeMap<u32, Vec<Hit>> = BTreeMap::new();
        let mut judged = 0;
        let judge = Judge::new(query, self.families.controls(query.hidden_size));
        for hit in hits {
            let family = self.families.heads[hit.number as usize].family;
            if let Some(confirmed) = of_family.get_mut(&family) {
                if confirmed.len() < HEADS_OF_FAMILY || exact {
                    confirmed.push(hit);
                }
                continue;
            }
            if judged == MOST_JUDGED && !exact {
                continue;
            }
            judged += 1;
            let candidate = self.fingerprint(hit.number)?;
            let (evidence, verdict) = judge.judge(&candidate, context);
            if verdict.kind.related() == Some(true) {
                of_family.insert(family, vec![hit]);
                found.related.push(Related {
                    family,
                    head: hit.number,
                    evidence,
                    verdict,
                    closest: Vec::new(),
                });
            } else if found.rejected.is_none() {
                found.rejected = Some(hit);
            }
        }
        for related in &mut found.related {
            related.closest = self.closest(&query.vector, &of_family[&related.family], k, look)?;
        }
        Ok(found)
    }

    /// A head is found as long as a repository holds it or a content that it stands for.
    fn is_live(&self, head: u32) -> bool {
        self.members.of(head).iter().any(|content| !self.postings.of(*content).is_empty())
    }

    /// The content of a head.
    pub fn content_of_head(&self, head: u32) -> u32 {
        self.families.heads[head as usize].content
    }

    /// Cosine of a content with a query.
    pub fn cosine(&self, query: &Vector, content: u32) -> Result<f32, StoreError> {
        Ok(cosine(query, &self.vectors.read(content)?))
    }

    /// The fingerprint of a head.
    pub fn fingerprint(&self, head: u32) -> Result<Fingerprint, StoreError> {
        self.payload.read(self.families.heads[head as usize].payload, self.families.search().vector(head))
    }

    /// The contents nearest to a query among the members of some heads.
    pub(super) fn closest(
        &self,
        query: &Vector,
        heads: &[Hit],
        k: usize,
        look: Look,
    ) -> Result<Vec<Hit>, StoreError> {
        let refined = match look {
            Look::Usual => k.saturating_mul(REFINED_PER_MEMBER).max(LEAST_REFINED),
            Look::Exact => usize::MAX,
        };
        let mut near = Vec::new();
        for hit in heads {
            let difference = difference(self.families.search().vector(hit.number), query);
            near.extend(self.members.nearest(hit.number, hit.cosine, &difference, refined));
        }
        near.retain(|hit| !self.postings.of(hit.number).is_empty());
        let exact = heads::nearest(near.into_iter(), refined)
            .into_iter()
            .map(|hit| Ok(Hit { cosine: self.cosine(query, hit.number)?, ..hit }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(heads::nearest(exact.into_iter(), k))
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

pub(super) fn read_metadata(path: &Path) -> Result<Metadata, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        index_version: u32,
    }
    let json = std::fs::read(path).map_err(StoreError::io(path))?;
    // The version alone first: another version may have other fields.
    let Version { index_version: found } =
        serde_json::from_slice(&json).map_err(StoreError::damaged(path))?;
    let version =
        |found, supported| StoreError::Version { path: path.to_owned(), what: "index", found, supported };
    if found != INDEX_VERSION {
        return Err(version(found, INDEX_VERSION));
    }
    let metadata: Metadata = serde_json::from_slice(&json).map_err(StoreError::damaged(path))?;
    if metadata.extraction_version != EXTRACTION_VERSION {
        return Err(version(metadata.extraction_version, EXTRACTION_VERSION));
    }
    let damaged = |what: &str| Err(StoreError::Damaged { path: path.to_owned(), what: what.to_owned() });
    if metadata.little_endian != cfg!(target_endian = "little") {
        return damaged("it was built on a machine of the other byte order");
    }
    if metadata.dimensions != VECTOR_DIMENSIONS {
        return damaged("its vectors have another length");
    }
    Ok(metadata)
}
