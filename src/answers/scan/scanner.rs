//! An open database, and the search in it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Instant;

use chrono::DateTime;

use super::answer::{AdapterBase, Candidate, FamilyAnswer, ScanAnswer};
use super::query::Query;
use crate::answers::compare::comparison::Comparison;
use crate::answers::judgement::Judgement;
use crate::retrieval::hits::Hit;
use crate::retrieval::judge::Judge;
use crate::retrieval::tables::Posting;
use crate::retrieval::{Index, SearchMode};
use crate::signals::fingerprint::is_outdated;
use crate::signals::profile::Population;
use crate::signals::stored;
use crate::signals::verdict::{self, Context, VerdictKind};
use crate::store::{Database, Names, Row, RowRef, StoreError, Tag};

/// Repositories of one checkpoint that an answer names.
const MAX_COPIES: usize = 64;
/// Rows of the database from which the population mean of the token cosines is taken.
const BACKGROUND: usize = 48;

/// One checkpoint of the database, with the evidence that members are ordered by.
#[derive(Clone)]
struct Judged {
    row: Row,
    copies: Vec<String>,
    comparison: Comparison,
}

/// An open database with its index.
pub struct Scanner {
    db: Database,
    index: Index,
    /// See [`Index::outdated`].
    outdated: usize,
    /// The mean token cosines of some models, read when they are first needed.
    population: OnceLock<Population>,
    /// The rows of the database by name, in the same way.
    names: OnceLock<Names>,
}

impl Scanner {
    /// Opens both.
    pub fn open(db: Database) -> Result<Self, StoreError> {
        let index = Index::open(&db)?;
        let outdated = index.outdated();
        Ok(Self { db, index, outdated, population: OnceLock::new(), names: OnceLock::new() })
    }

    /// Whether rows were written after the index was built.
    pub fn is_stale(&self) -> bool {
        self.db.manifest().shards_not_indexed() > 0
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The repositories of the database by name.
    pub(super) fn names(&self) -> Result<&Names, StoreError> {
        if let Some(known) = self.names.get() {
            return Ok(known);
        }
        let names = self.db.names()?;
        Ok(self.names.get_or_init(|| names))
    }

    /// A row with these weights, where the database has one that says what reading them would give. Of an older version
    /// it may say less.
    pub(super) fn stored(&self, weights_digest: &str) -> Result<Option<Row>, StoreError> {
        let tag = Tag::of(weights_digest);
        let Some(checkpoint) = self.index.checkpoint_of(tag) else { return Ok(None) };
        let says_all = |p: &&Posting| p.weights == Some(tag) && !is_outdated(p.extraction_version);
        let at = self.index.repositories(checkpoint).iter().find(says_all);
        let row = self.db.rows(at.map(|p| p.at).as_slice())?.into_iter().next();
        // The files of several models are read for each of them.
        Ok(row.filter(|row| row.coverage.as_ref().is_some_and(|coverage| !coverage.has_other_models())))
    }

    /// Finds and judges the relatives of a model, up to `top_k` of each family.
    pub fn scan(&self, query: &Query, top_k: usize, mode: SearchMode) -> Result<ScanAnswer, StoreError> {
        let _span = tracing::info_span!("scan").entered();
        let begun = Instant::now();
        let found = self.index.find(query.known().search_query(), top_k, mode)?;
        let mut families = Vec::with_capacity(found.related.len());
        for related in &found.related {
            families.push(self.family(query, related.family, &related.closest, top_k)?);
        }
        let closest_rejected = match found.rejected {
            Some(hit) if families.is_empty() => {
                let checkpoint = self.index.checkpoint_of_representative(hit.number);
                self.candidates(query, &[checkpoint])?.into_iter().next().map(Candidate::from)
            }
            _ => None,
        };
        let open: Vec<u32> = found
            .undecided
            .iter()
            .take(top_k)
            .map(|hit| self.index.checkpoint_of_representative(hit.number))
            .collect();
        let undecided = self.candidates(query, &open)?.into_iter().map(Candidate::from).collect();
        let quality = self.index.quality();
        Ok(ScanAnswer {
            query: query.name().to_owned(),
            sha: query.sha().map(str::to_owned),
            known_from: query.known_from(),
            adapter_base: self.adapter_base(query)?,
            adapter: query.adapter(),
            coverage: query.coverage().map(Into::into),
            searched: self.index.checkpoints(),
            outdated: self.outdated,
            families,
            undecided,
            closest_rejected,
            negatives: quality.negatives,
            false_positives: quality.false_positives,
            false_rate_at_most: quality.false_rate_at_most(),
            bytes_fetched: query.bytes_fetched(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// The model that an adapter names, held against it.
    fn adapter_base(&self, query: &Query) -> Result<Option<AdapterBase>, StoreError> {
        let Some(repo_id) = query.adapter_base() else { return Ok(None) };
        let at = self.index.all_repositories().iter().find(|p| p.is_called(&repo_id)).map(|p| p.at);
        let main = self.db.rows(at.as_slice())?.into_iter().next();
        let Some(model) = main.and_then(|row| row.fingerprint) else {
            return Ok(Some(AdapterBase { repo_id, fits: None, misfit: None }));
        };
        let misfit = verdict::misfit(&stored::shape(&query.known().fingerprint), &stored::shape(&model));
        Ok(Some(AdapterBase { repo_id, fits: Some(misfit.is_none()), misfit }))
    }

    fn family(
        &self,
        query: &Query,
        number: u32,
        closest: &[Hit],
        top_k: usize,
    ) -> Result<FamilyAnswer, StoreError> {
        let family = self.index.family(number);
        let mut checkpoints: Vec<u32> = closest.iter().map(|hit| hit.number).collect();
        if !checkpoints.contains(&family.root) {
            checkpoints.push(family.root);
        }
        let judged = self.candidates(query, &checkpoints)?;
        let is_root = |c: &Judged| {
            let name = c.row.name();
            self.index.repositories(family.root).iter().any(|p| p.is_called(&name))
        };
        let root = judged.iter().find(|c| is_root(c)).cloned();
        let mut members: Vec<Judged> =
            judged.into_iter().filter(|c| c.comparison.verdict.kind.related() == Some(true)).collect();
        let effect = |c: &Judged| c.comparison.evidence.similarity().unwrap_or(-1.0);
        members.sort_by(|a, b| {
            let identical = |c: &Judged| c.comparison.verdict.kind == VerdictKind::Identical;
            identical(b).cmp(&identical(a)).then(effect(b).total_cmp(&effect(a)))
        });
        members.truncate(top_k);
        let root = root.or_else(|| members.first().cloned()).ok_or_else(|| StoreError::Damaged {
            path: self.db.folder().to_owned(),
            what: format!("family {} has no repository", family.id),
        })?;
        Ok(FamilyAnswer {
            family: family.id.clone(),
            contents: family.checkpoints,
            root: root.into(),
            root_evidence: family.evidence.clone(),
            members: members.into_iter().map(Candidate::from).collect(),
        })
    }

    /// Reads and judges the rows of some checkpoints.
    fn candidates(&self, query: &Query, checkpoints: &[u32]) -> Result<Vec<Judged>, StoreError> {
        if checkpoints.is_empty() {
            return Ok(Vec::new());
        }
        let own_digest = OnceLock::new();
        let own_samples = query.known().samples;
        // Of each checkpoint the oldest repository; of that with the query's samples the one with its files, if any.
        let mut places = Vec::with_capacity(checkpoints.len());
        for checkpoint in checkpoints {
            // One that is in the database itself is shown who else holds its checkpoint, if anybody does.
            let all = self.index.repositories(*checkpoint);
            let others: Vec<&Posting> = self.index.others(*checkpoint, query.itself()).collect();
            let repositories = if others.is_empty() { all.iter().collect() } else { others };
            let same_samples = |p: &&Posting| own_samples.is_some() && p.samples == own_samples;
            let mut chosen = repositories.first();
            if repositories.iter().any(same_samples) {
                if own_digest.get().is_none() {
                    // At most one checkpoint has the query's samples, so local files are hashed at most once.
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
        let mut candidates = Vec::with_capacity(checkpoints.len());
        for (checkpoint, at) in checkpoints.iter().zip(places) {
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
            // An index of before its rows may hold a repository under two of its immutable ids.
            let name = row.name();
            let others = self.index.repositories(*checkpoint).iter().filter(|p| !p.is_called(&name));
            candidates.push(Judged {
                copies: others.take(MAX_COPIES).map(Posting::name).collect(),
                row: row.clone(),
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

impl From<Judged> for Candidate {
    fn from(Judged { row, copies, comparison }: Judged) -> Self {
        let time = |millis: Option<i64>| {
            millis.and_then(DateTime::from_timestamp_millis).map(|time| time.to_rfc3339())
        };
        Self {
            judgement: Judgement::new(&comparison, Vec::new()),
            similarity: comparison.evidence.similarity(),
            coverage: row.coverage.as_ref().map(Into::into),
            repo_id: row.repo_id,
            component: row.component,
            sha: row.sha,
            created_at: time(row.created_at),
            gone_at: time(row.gone_at),
            license: row.license,
            declared_bases: row.declared_bases,
            extraction_version: row.extraction_version,
            adapter: row.adapter,
            copies,
        }
    }
}
