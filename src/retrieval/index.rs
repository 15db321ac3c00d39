//! An open index: immutable files of one folder, found by the database's manifest.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build::BuildSettings;
use super::codes::{self, CODES};
use super::controls::Controls;
use super::family::{CANDIDATES, Families};
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
use crate::store::manifest::{IndexEntry, Manifest};
use crate::store::{Database, FileEntry, RowRef, StoreError, Tag};

/// Version of the files of an index.
pub const INDEX_VERSION: u32 = 7;
/// Name of the file that says what an index is.
pub const METADATA: &str = "index.json";
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
/// Heads that are judged in one search: as many as when families are made while none is confirmed, fewer from then on.
const MOST_IN_VAIN: usize = CANDIDATES;
const MOST_JUDGED: usize = 8;
/// Heads of one family whose members are looked at in any case; of the others those that may have a nearer member.
const HEADS_OF_FAMILY: usize = 4;
/// Members whose exact cosine is computed for each that is asked for, and fewest of them.
const REFINED_PER_MEMBER: usize = 16;
const LEAST_REFINED: usize = 64;

/// Longest metadata that is read, bytes: 70 for each shard.
pub const MOST_METADATA: u64 = 64 << 20;

/// `index.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) index_version: u32,
    pub(super) extraction_version: u32,
    pub(super) little_endian: bool,
    pub(super) dimensions: usize,
    /// The database that it was built of.
    pub(super) database: String,
    /// Rows of the tables.
    pub(super) postings: usize,
    pub(super) contents: usize,
    pub(super) heads: usize,
    pub(super) families: usize,
    /// Whether it covered all shards when it was built; one that was interrupted did not.
    pub(super) complete: bool,
    pub(super) settings: BuildSettings,
    /// SHA-256 of the shards that it covers, in the order of the manifest.
    pub(super) shards: Vec<String>,
    pub(super) quality: Quality,
}

impl Metadata {
    /// Whether it was built of this database, as it is; `path` is for errors.
    pub(super) fn check(
        &self,
        manifest: &Manifest,
        entry: &IndexEntry,
        path: &Path,
    ) -> Result<(), StoreError> {
        if self.database != manifest.id {
            let of: String = self.database.chars().take(64).collect();
            let what = format!("of {of}, and it lies in {}", manifest.id);
            return Err(StoreError::ForeignIndex { path: path.to_owned(), what });
        }
        let stale = |what| Err(StoreError::StaleIndex { path: path.to_owned(), what });
        if self.extraction_version != EXTRACTION_VERSION {
            let found = self.extraction_version;
            return stale(format!("fingerprints of version {found}, and they are of {EXTRACTION_VERSION}"));
        }
        if self.shards.len() != entry.shards {
            return stale(format!("{} shards, and the manifest says {}", self.shards.len(), entry.shards));
        }
        let mut pairs = (0..).zip(self.shards.iter().zip(&manifest.shards));
        if let Some((n, (_, shard))) = pairs.find(|(_, (sha256, shard))| **sha256 != shard.entry.sha256) {
            return stale(format!("another shard {n} than {}", shard.entry.file));
        }
        let rows: u64 = manifest.shards.iter().take(entry.shards).map(|shard| shard.rows).sum();
        if self.postings as u64 > rows {
            return stale(format!("{} repositories, and its shards have {rows}", self.postings));
        }
        Ok(())
    }
}

/// How hard to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Sign codes first.
    #[default]
    Usual,
    /// Every head by its whole vector, and every member of the families found.
    Exact,
}

/// What is searched for. Without digests only the vector leads to it.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Its fingerprint.
    pub fingerprint: &'a Fingerprint,
    /// Of the digest of its weight files.
    pub weights: Option<Tag>,
    /// Of the digest of its sampled bytes.
    pub samples: Option<Tag>,
    /// The repository of the index that it is, which is no relative of its own: what nobody else holds is not found.
    pub but: Option<&'a str>,
}

impl<'a> From<&'a Fingerprint> for Sought<'a> {
    fn from(fingerprint: &'a Fingerprint) -> Self {
        Self { fingerprint, weights: None, samples: None, but: None }
    }
}

/// A family that shares weights with a query.
#[derive(Clone, Debug)]
pub struct Related {
    /// Number of the family.
    pub family: u32,
    /// The content that the verdict was made on: a head, or the query's own. Where only the query holds it, the verdict
    /// tells the family and nothing more.
    pub judged: u32,
    /// Query first.
    pub evidence: Evidence,
    /// Of the query and what was judged.
    pub verdict: Verdict,
    /// The closest contents of the family that somebody but the query holds, nearest first. Where hidden dimensions were
    /// moved, those behind the head that was judged, with the correlation of the products of rows as their cosine.
    pub closest: Vec<Hit>,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Related families, nearest first; that of the query's own content before all others.
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
        let metadata_path = path(&paths, METADATA)?;
        let metadata = read_metadata(metadata_path)?;
        metadata.check(db.manifest(), entry, metadata_path)?;
        Self::assemble(metadata, paths)
    }

    /// Opens files that are as they were written.
    pub(super) fn assemble(metadata: Metadata, paths: Paths) -> Result<Self, StoreError> {
        let Metadata { postings, contents, heads, families, .. } = metadata;
        // Room is made for as many rows as it says: there must be a vector of each content, and all else is less.
        let vectors = Vectors::open(&paths)?.count();
        if vectors != contents as u64 || heads > contents || families > heads {
            let what = format!(
                "its metadata says {contents} contents, {heads} heads and {families} families, and there are {vectors} \
                 vectors"
            );
            return Err(damaged(&paths, &what));
        }
        let (postings, rest) = rayon::join(
            || Ok(Postings::new(tables::read_postings(path(&paths, POSTINGS)?, postings)?, contents)),
            || Self::without_postings(&metadata, &paths),
        );
        let (postings, rest): (Postings, Self) = (postings?, rest?);
        if !postings.all().iter().all(|p| (p.content as usize) < contents) {
            return Err(damaged(&paths, "its tables name rows that are not there"));
        }
        Ok(Self { metadata, paths, postings, ..rest })
    }

    fn without_postings(metadata: &Metadata, paths: &Paths) -> Result<Self, StoreError> {
        let contents = tables::read_contents(path(paths, CONTENTS)?, metadata.contents)?;
        let heads = tables::read_heads(path(paths, HEADS)?, metadata.heads)?;
        let table = tables::read_families(path(paths, FAMILIES)?, metadata.families)?;
        let codes = codes::read(paths)?;
        let founders = heads.iter().filter(|head| head.link.is_none()).count();
        if codes.len() != contents.len() || founders != table.len() {
            let what = format!(
                "it has {} codes of {} contents, and {founders} founders of {} families",
                codes.len(),
                contents.len(),
                table.len()
            );
            return Err(damaged(paths, &what));
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
        let layers: Vec<u16> = contents.iter().map(|c| c.facts.layers).collect();
        let families = Families::resume(
            heads,
            &layers,
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

    /// The same without one of them.
    pub fn others<'a>(
        &'a self,
        content: u32,
        but: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Posting> + Clone {
        self.repositories(content).iter().filter(move |p| but != Some(p.repo_id.as_str()))
    }

    /// Every repository, ordered by content.
    pub fn all_repositories(&self) -> &[Posting] {
        self.postings.all()
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

    /// The content with this weights or sample digest.
    pub fn content_of(&self, digest: Tag) -> Option<u32> {
        self.postings.content_of(digest)
    }

    /// How well searches do.
    pub fn quality(&self) -> Quality {
        self.metadata.quality
    }

    /// Models that stand for unrelated ones.
    pub fn controls(&self) -> &Controls {
        self.families.controls()
    }

    /// Families that share weights with a query, each with up to `k` of its closest contents.
    ///
    /// The content with the query's own digests is found by them, whatever the test can say of it. Heads are judged from
    /// the nearest on. Further heads of a confirmed family are not judged, but their members are looked at as well. Where
    /// none is confirmed, those are judged whose row Gram matrix is like that of the query.
    pub fn find<'q>(&self, sought: impl Into<Sought<'q>>, k: usize, look: Look) -> Result<Found, StoreError> {
        let sought = sought.into();
        let query = sought.fingerprint;
        let exact = look == Look::Exact;
        let most = if exact { usize::MAX } else { HEAD_HITS };
        let hits = self.families.search().nearest(query.hidden_size, &query.vector, most, exact);
        let context = Context { searched: self.contents.len().max(1), ..Context::default() };
        let mut judge = Judge::new(query, self.controls());
        let mut found = Found::default();
        let mut of_family: BTreeMap<u32, Vec<Hit>> = BTreeMap::new();
        let twin = self.twin(&sought);
        if let Some((content, same_content)) = twin {
            // Its fingerprint is the query's own.
            let (evidence, verdict) = judge.judge(query, Context { same_content, ..context });
            let family = self.family_of(content);
            of_family.insert(family, Vec::new());
            found.related.push(Related { family, judged: content, evidence, verdict, closest: Vec::new() });
        }
        let mut judged = 0;
        for hit in hits {
            let family = self.families.heads[hit.number as usize].family;
            if let Some(confirmed) = of_family.get_mut(&family) {
                confirmed.push(hit);
                continue;
            }
            let most = if found.related.is_empty() { MOST_IN_VAIN } else { MOST_JUDGED };
            if (judged >= most && !exact) || !self.is_live(hit.number, sought.but) {
                continue;
            }
            judged += 1;
            let candidate = self.fingerprint(hit.number)?;
            let (evidence, verdict) = judge.judge(&candidate, context);
            if verdict.kind.related() == Some(true) {
                of_family.insert(family, vec![hit]);
                let judged = self.content_of_head(hit.number);
                found.related.push(Related { family, judged, evidence, verdict, closest: Vec::new() });
            } else if found.rejected.is_none() {
                found.rejected = Some(hit);
            }
        }
        for related in &mut found.related {
            let heads = &of_family[&related.family];
            related.closest = self.closest(&query.vector, heads, k, look, sought.but)?;
        }
        if found.related.is_empty() {
            found.related = self.moved(&sought, &mut judge, context, k, exact)?;
        }
        if let (Some((content, _)), Some(first)) = (twin, found.related.first_mut())
            && !first.closest.iter().any(|hit| hit.number == content)
        {
            let cosine = self.cosine(&query.vector, content)?;
            first.closest.insert(0, Hit { number: content, cosine });
            first.closest.truncate(k.max(1));
        }
        Ok(found)
    }

    /// Families of which a head is the query with its hidden dimensions moved.
    fn moved(
        &self,
        sought: &Sought<'_>,
        judge: &mut Judge<'_>,
        context: Context,
        k: usize,
        exact: bool,
    ) -> Result<Vec<Related>, StoreError> {
        let most = if exact { usize::MAX } else { MOST_IN_VAIN };
        let hits = self.families.search().nearest_moved(sought.fingerprint.row_gram.as_ref(), most, exact);
        let mut related: Vec<Related> = Vec::new();
        for hit in hits {
            let family = self.families.heads[hit.number as usize].family;
            if !self.is_live(hit.number, sought.but) || related.iter().any(|r| r.family == family) {
                continue;
            }
            let (evidence, verdict) = judge.judge(&self.fingerprint(hit.number)?, context);
            if verdict.kind.related() == Some(true) {
                let held = self.members.of(hit.number).iter().filter(|c| self.is_held(**c, sought.but));
                let closest = held.take(k).map(|c| Hit { number: *c, ..hit }).collect();
                let judged = self.content_of_head(hit.number);
                related.push(Related { family, judged, evidence, verdict, closest });
            }
        }
        Ok(related)
    }

    /// The content with the query's digests, as long as somebody but the query holds it, and whether all of its bytes are
    /// known to be equal: those that were sampled are.
    fn twin(&self, sought: &Sought<'_>) -> Option<(u32, Option<bool>)> {
        let of = |digest: Option<Tag>| self.content_of(digest?);
        let content = of(sought.weights).or_else(|| of(sought.samples))?;
        let mut others = self.others(content, sought.but).peekable();
        others.peek()?;
        let has_its_files = others.any(|p| p.weights.is_some() && p.weights == sought.weights);
        Some((content, has_its_files.then_some(true)))
    }

    /// A head is found as long as a repository holds it or a content that it stands for.
    fn is_live(&self, head: u32, but: Option<&str>) -> bool {
        self.members.of(head).iter().any(|content| self.is_held(*content, but))
    }

    fn is_held(&self, content: u32, but: Option<&str>) -> bool {
        self.others(content, but).next().is_some()
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

    /// The contents nearest to a query among the members of some heads, which come nearest first; without those that
    /// nobody `but` one repository holds.
    pub(super) fn closest(
        &self,
        query: &Vector,
        heads: &[Hit],
        k: usize,
        look: Look,
        but: Option<&str>,
    ) -> Result<Vec<Hit>, StoreError> {
        if look == Look::Exact {
            return self.nearest_members(query, heads, k, usize::MAX, but);
        }
        let refined = k.saturating_mul(REFINED_PER_MEMBER).max(LEAST_REFINED);
        let (first, others) = heads.split_at(heads.len().min(HEADS_OF_FAMILY));
        let near = self.nearest_members(query, first, k, refined, but)?;
        // A copy of a member far from these heads must not be lost among them.
        let least = near.get(k.saturating_sub(1)).map_or(f32::NEG_INFINITY, |hit| hit.cosine);
        let may_be_nearer = |hit: &&Hit| self.members.most(hit.number, hit.cosine) > least;
        let others: Vec<Hit> = others.iter().filter(may_be_nearer).copied().collect();
        let farther = self.nearest_members(query, &others, k, refined, but)?;
        Ok(heads::nearest(near.into_iter().chain(farther), k))
    }

    /// The nearest members of some heads, by the exact cosines of those `refined` that seem nearest.
    fn nearest_members(
        &self,
        query: &Vector,
        heads: &[Hit],
        k: usize,
        refined: usize,
        but: Option<&str>,
    ) -> Result<Vec<Hit>, StoreError> {
        let mut near = Vec::new();
        for hit in heads {
            let difference = difference(self.families.search().vector(hit.number), query);
            near.extend(self.members.nearest(hit.number, hit.cosine, &difference, refined));
        }
        let is_held = |hit: &Hit| self.is_held(hit.number, but);
        let exact = heads::nearest_of(near.into_iter(), refined, is_held)
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

/// Whether this version reads an index with these [`METADATA`]. `path` is for errors: [`StoreError::Version`], or
/// [`StoreError::Damaged`] where they name no version.
pub fn check_version(metadata: &[u8], path: &Path) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Version {
        index_version: u32,
    }
    let Version { index_version: found } =
        serde_json::from_slice(metadata).map_err(StoreError::damaged(path))?;
    if found == INDEX_VERSION {
        return Ok(());
    }
    Err(StoreError::Version { path: path.to_owned(), what: "index", found, supported: INDEX_VERSION })
}

pub(super) fn read_metadata(path: &Path) -> Result<Metadata, StoreError> {
    let mut json = Vec::new();
    let file = File::open(path).map_err(StoreError::io(path))?;
    file.take(MOST_METADATA).read_to_end(&mut json).map_err(StoreError::io(path))?;
    // First: another version may have other fields.
    check_version(&json, path)?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(StoreError::damaged(path))?;
    let damaged = |what: &str| Err(StoreError::Damaged { path: path.to_owned(), what: what.to_owned() });
    if metadata.little_endian != cfg!(target_endian = "little") {
        return damaged("it was built on a machine of the other byte order");
    }
    if metadata.dimensions != VECTOR_DIMENSIONS {
        return damaged("its vectors have another length");
    }
    Ok(metadata)
}
