//! scan: which families of the database share weights with this model, and who is closest.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::compare::Comparison;
use super::query::{Query, QueryError};
use crate::checkpoint::model::Model;
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;
use crate::retrieval::hits::Hit;
use crate::retrieval::judge::Judge;
use crate::retrieval::tables::Posting;
use crate::retrieval::{Index, Quality, Related, SearchMode, SearchQuery};
use crate::signals::profile::Population;
use crate::signals::verdict::{Context, VerdictKind};
use crate::store::{Database, Row, RowRef, StoreError, Tag};

/// Repositories of one content that an answer names.
const MAX_COPIES: usize = 64;
/// Rows of the database from which the population mean of the token cosines is taken.
const BACKGROUND: usize = 48;

/// One model of the database, judged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The oldest repository of this content, or the one with exactly the query's files.
    pub row: Row,
    /// Other repositories with the same content.
    pub copies: Vec<String>,
    /// Cosine of the retrieval vectors: what members are ranked by.
    pub closeness: f32,
    /// The evidence, query first.
    pub comparison: Comparison,
}

/// A related family.
#[derive(Clone, Debug)]
pub struct FamilyAnswer {
    /// Never changes, whatever is added.
    pub id: String,
    /// Distinct contents in it.
    pub contents: u32,
    /// The likeliest ancestor.
    pub root: Candidate,
    /// Why it is the likeliest ancestor.
    pub root_evidence: String,
    /// The closest contents that the verdict confirms, best first; the root may be among them.
    pub members: Vec<Candidate>,
}

/// The answer to one query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Related families, nearest first.
    pub families: Vec<FamilyAnswer>,
    /// The closest model that was proposed and judged unrelated or undecided, for context.
    pub closest_rejected: Option<Candidate>,
    /// Distinct contents that were searched.
    pub searched: usize,
    /// How often searches of this index are right.
    pub quality: Quality,
}

/// A family in the answer of a bulk scan: no row of the database is read for it, unless the query is a head of it.
#[derive(Clone, Debug)]
pub struct Brief {
    /// As found in the index; where the head that was found is the query itself, judged on the closest other.
    pub related: Related,
    /// The family's name.
    pub id: String,
    /// The oldest repository of the root.
    pub root: Option<String>,
    /// The repository that the verdict is on: of that content the oldest, or one with exactly the query's files.
    pub judged: Option<String>,
    /// The closest contents, each by such a repository, with cosines.
    pub closest: Vec<(String, f32)>,
}

/// An open database with its index.
pub struct Scanner {
    db: Database,
    index: Index,
    /// The mean token cosines of some models, read when they are first needed.
    population: OnceLock<Population>,
}

impl Scanner {
    /// Opens both.
    pub fn open(db: Database) -> Result<Self, StoreError> {
        let index = Index::open(&db)?;
        Ok(Self { db, index, population: OnceLock::new() })
    }

    /// Whether rows were written after the index was built.
    pub fn is_stale(&self) -> bool {
        self.db.manifest().shards_not_indexed() > 0
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Opens a model, and reads it unless the database has exactly its weight files, by their digests, under this name
    /// or another.
    pub async fn query(&self, text: &str, hub: &Hub, reader: &Reader) -> Result<Query, QueryError> {
        let mut model = Model::open(text, hub, reader).await?;
        if let Some(digest) = model.weights_digest()
            && let Some(row) = self.stored(&digest)?
            && let Some(query) = Query::stored(model.unread(), row)
        {
            return Ok(query);
        }
        Query::read(model.read(&reader.settings.plan).await?)
    }

    /// The families of a model, with up to `closest` contents of each.
    pub fn brief(
        &self,
        sought: SearchQuery<'_>,
        closest: usize,
        look: SearchMode,
    ) -> Result<Vec<Brief>, StoreError> {
        let oldest = |content| Some(self.index.repositories(content).first()?.name());
        let named = |content| {
            let mut others = self.index.others(content, sought.but);
            let first = others.clone().next();
            let with_its_files = others.find(|p| p.weights.is_some() && p.weights == sought.weights);
            Some(with_its_files.or(first)?.name())
        };
        let mut families = Vec::new();
        for mut related in self.index.find(sought, closest, look)?.related {
            let is_itself = named(related.judged).is_none() && oldest(related.judged).is_some();
            if is_itself && !self.judge_closest(&sought, &mut related)? {
                continue;
            }
            let family = self.index.family(related.family);
            families.push(Brief {
                id: family.id.clone(),
                root: oldest(family.root),
                judged: named(related.judged),
                closest: related.closest.iter().filter_map(|h| Some((named(h.number)?, h.cosine))).collect(),
                related,
            });
        }
        Ok(families)
    }

    /// Puts the verdict on the closest content that it confirms; false where it confirms none. Of members the index has
    /// no fingerprint, so a row is read for each that is judged.
    fn judge_closest(&self, sought: &SearchQuery<'_>, related: &mut Related) -> Result<bool, StoreError> {
        let mut judge = Judge::new(sought.fingerprint, self.index.controls());
        let context = Context { searched: self.index.checkpoints(), ..Context::default() };
        for hit in &related.closest {
            let at: Vec<RowRef> = self.index.others(hit.number, sought.but).take(1).map(|p| p.at).collect();
            let row = self.db.rows(&at)?.into_iter().next();
            let Some(fingerprint) = row.and_then(|row| row.fingerprint) else { continue };
            let (evidence, verdict) = judge.judge(&fingerprint, context);
            if verdict.kind.related() == Some(true) {
                (related.judged, related.evidence, related.verdict) = (hit.number, evidence, verdict);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A row with these weights, where the database has one: what reading them would give is in it.
    fn stored(&self, weights_digest: &str) -> Result<Option<Row>, StoreError> {
        let tag = Tag::of(weights_digest);
        let Some(content) = self.index.checkpoint_of(tag) else { return Ok(None) };
        let at = self.index.repositories(content).iter().find(|p| p.weights == Some(tag));
        Ok(self.db.rows(at.map(|p| p.at).as_slice())?.into_iter().next())
    }

    /// Finds and judges the relatives of a model, up to `top_k` of each family.
    pub fn scan(&self, query: &Query, top_k: usize, look: SearchMode) -> Result<Answer, StoreError> {
        let _span = tracing::info_span!("scan").entered();
        let found = self.index.find(query.known().sought(None), top_k, look)?;
        let mut families = Vec::with_capacity(found.related.len());
        for related in &found.related {
            families.push(self.family(query, related.family, &related.closest, top_k)?);
        }
        let closest_rejected = match found.rejected {
            Some(hit) if families.is_empty() => {
                let content = self.index.checkpoint_of_representative(hit.number);
                self.candidates(query, &[(content, hit.cosine)])?.into_iter().next()
            }
            _ => None,
        };
        Ok(Answer {
            families,
            closest_rejected,
            searched: self.index.checkpoints(),
            quality: self.index.quality(),
        })
    }

    fn family(
        &self,
        query: &Query,
        number: u32,
        closest: &[Hit],
        top_k: usize,
    ) -> Result<FamilyAnswer, StoreError> {
        let family = self.index.family(number);
        let mut contents: Vec<(u32, f32)> = closest.iter().map(|hit| (hit.number, hit.cosine)).collect();
        if !contents.iter().any(|c| c.0 == family.root) {
            contents.push((family.root, self.index.cosine(&query.known().fingerprint.vector, family.root)?));
        }
        let judged = self.candidates(query, &contents)?;
        let is_root = |c: &Candidate| {
            let name = c.row.name();
            self.index.repositories(family.root).iter().any(|p| p.is_called(&name))
        };
        let root = judged.iter().find(|c| is_root(c)).cloned();
        let mut members: Vec<Candidate> =
            judged.into_iter().filter(|c| c.comparison.verdict.kind.related() == Some(true)).collect();
        let effect = |c: &Candidate| c.comparison.evidence.body_effect().unwrap_or(0.0);
        members.sort_by(|a, b| {
            let identical = |c: &Candidate| c.comparison.verdict.kind == VerdictKind::Identical;
            identical(b).cmp(&identical(a)).then(effect(b).total_cmp(&effect(a)))
        });
        members.truncate(top_k);
        let root = root.or_else(|| members.first().cloned()).ok_or_else(|| StoreError::Damaged {
            path: self.db.folder().to_owned(),
            what: format!("family {} has no repository", family.id),
        })?;
        Ok(FamilyAnswer {
            id: family.id.clone(),
            contents: family.checkpoints,
            root,
            root_evidence: family.evidence.clone(),
            members,
        })
    }

    /// Reads and judges the rows of some contents.
    fn candidates(&self, query: &Query, contents: &[(u32, f32)]) -> Result<Vec<Candidate>, StoreError> {
        let own_digest = OnceLock::new();
        let own_samples = query.known().samples;
        // Of each content the oldest repository; of the query's own content the one with the same files, if any.
        let mut places = Vec::with_capacity(contents.len());
        for (content, _) in contents {
            let repositories = self.index.repositories(*content);
            let same_samples = |p: &Posting| own_samples.is_some() && p.samples == own_samples;
            let mut chosen = repositories.first();
            if repositories.iter().any(same_samples) {
                if own_digest.get().is_none() {
                    // At most one content has the query's samples, so local files are hashed at most once.
                    let _ = own_digest.set(query.weights_digest()?);
                }
                let ours = own_digest.get().and_then(Option::as_ref).map(|digest| Tag::of(digest));
                chosen = repositories.iter().find(|p| ours.is_some() && p.weights == ours).or(chosen);
            }
            places.push(chosen.map(|p| p.at));
        }
        let wanted: Vec<RowRef> = places.iter().flatten().copied().collect();
        let rows: HashMap<RowRef, Row> = wanted.iter().copied().zip(self.db.rows(&wanted)?).collect();
        let population = self.population()?;
        let mut judge = Judge::new(&query.known().fingerprint, self.index.controls());
        let mut candidates = Vec::with_capacity(contents.len());
        for ((content, closeness), at) in contents.iter().zip(places) {
            let Some((row, fingerprint)) =
                at.and_then(|at| rows.get(&at)).and_then(|row| Some((row, row.fingerprint.as_ref()?)))
            else {
                continue;
            };
            // `None` where a digest is unknown on one side.
            let same_content = match (own_digest.get(), &row.weights_digest) {
                _ if row.sample_digest.as_deref().map(Tag::of) != own_samples => Some(false),
                (Some(Some(ours)), Some(stored)) => Some(ours == stored),
                _ => None,
            };
            let screening = query.screening(row);
            let context = Context { same_content, searched: self.index.checkpoints(), tier: screening.tier };
            let (evidence, verdict) = judge.judge(fingerprint, context);
            let named = query.named(row, &screening, &evidence, population);
            let others = self.index.repositories(*content).iter().filter(|p| Some(p.at) != at);
            candidates.push(Candidate {
                copies: others.take(MAX_COPIES).map(Posting::name).collect(),
                row: row.clone(),
                closeness: *closeness,
                comparison: Comparison { screening, evidence, verdict, named, merge: None },
            });
        }
        Ok(candidates)
    }

    /// What the token cosines of any model look like: the mean over some models of the database.
    fn population(&self) -> Result<&Population, StoreError> {
        if let Some(known) = self.population.get() {
            return Ok(known);
        }
        let all = self.index.all_repositories();
        let n = all.len().min(BACKGROUND);
        let places: Vec<RowRef> = (0..n).map(|i| all[i * all.len() / n].at).collect();
        let mut population = Population::default();
        for profile in self.db.rows(&places)?.iter().filter_map(|row| row.profile.as_ref()) {
            population.add(&profile.gram);
        }
        Ok(self.population.get_or_init(|| population))
    }
}
