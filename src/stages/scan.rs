//! scan: which models of the database share weights with this one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::compare::Comparison;
use super::extract::Extracted;
use super::model::Subject;
use super::plan::PlanError;
use crate::retrieval::Index;
use crate::signals::evidence::{Evidence, Tests};
use crate::signals::fingerprint::FingerprintError;
use crate::signals::named::{self, Named, Tokens};
use crate::signals::profile::{Population, Profile, STORED_TOKENS};
use crate::signals::screen::{self, Screening};
use crate::signals::verdict::{self, Context, VerdictKind};
use crate::signals::{Fingerprint, stored};
use crate::store::{Database, Row, RowRef, StoreError};

/// Nodes that the index proposes for each one that is asked for: the vector ranks roughly, the cells decide.
const PROPOSALS_PER_ANSWER: usize = 8;
/// Fewest proposals.
const LEAST_PROPOSALS: usize = 64;
/// Most repositories of one content that are read to find the oldest.
const MAX_COPIES: usize = 64;
/// Effects closer than this are equal: the resolution of the sketches. Among equals the oldest comes first.
const RESOLUTION: f64 = 1e-3;

/// Models of the database that a query is held against to see what unrelated ones give.
const BACKGROUND: usize = 48;
/// Posterior up to which a model of the background counts as unrelated.
const UNRELATED: f64 = 0.05;

/// One related model of the database.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The oldest repository of this content.
    pub row: Row,
    /// Other repositories with the same content.
    pub copies: Vec<String>,
    /// The evidence, query first.
    pub comparison: Comparison,
}

/// The answer to one query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Related models, best first, at most as many as asked for.
    pub candidates: Vec<Candidate>,
    /// Related models found in all.
    pub related: usize,
    /// The closest model that was proposed and judged unrelated or undecided, for context.
    pub closest_rejected: Option<Candidate>,
    /// Distinct contents that were searched.
    pub searched: usize,
}

/// An open database with its index.
pub struct Scanner {
    db: Database,
    index: Index,
    /// Some of its models, read when they are first needed.
    sample: OnceLock<Vec<Row>>,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Its weights are in no form that this version reads.
    #[error(transparent)]
    Unreadable(Arc<PlanError>),
    /// Its weights tell nothing.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// The database or a local file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scanner {
    /// Opens both.
    pub fn open(db: Database) -> Result<Self, StoreError> {
        let index = Index::open(&db)?;
        Ok(Self { db, index, sample: OnceLock::new() })
    }

    /// Whether rows were written after the index was built.
    pub fn is_stale(&self) -> bool {
        let manifest = self.db.manifest();
        manifest.index.as_ref().is_some_and(|i| i.shards < manifest.shards.len())
    }

    /// Finds and judges the relatives of a model.
    pub fn scan(&self, query: &Subject, top_k: usize) -> Result<Answer, ScanError> {
        let _span = tracing::info_span!("scan").entered();
        let query = Query::new(query)?;
        let proposals = (top_k.saturating_mul(PROPOSALS_PER_ANSWER)).max(LEAST_PROPOSALS);
        let mut nodes: Vec<u32> =
            self.index.nearest(&query.fingerprint.vector, proposals).into_iter().map(|hit| hit.0).collect();
        let content = [Some(&query.weights.sample_digest), query.weights.weights_digest.as_ref()];
        for node in content.into_iter().flatten().filter_map(|d| self.index.postings().node_of_content(d)) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let mut judged = self.judge(&query, &nodes)?;
        let effect = |c: &Candidate| c.comparison.evidence.body_effect().unwrap_or(0.0);
        judged.sort_by(|a, b| effect(b).total_cmp(&effect(a)));
        let (mut related, rejected): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|c| c.comparison.verdict.kind.related() == Some(true));
        related.sort_by_cached_key(|c| {
            let identical = c.comparison.verdict.kind == VerdictKind::Identical;
            let steps = (effect(c) / RESOLUTION).round() as i64;
            (Reverse(identical), Reverse(steps), c.row.created_at.unwrap_or(i64::MAX), c.row.repo_id.clone())
        });
        let found = related.len();
        related.truncate(top_k);
        Ok(Answer {
            candidates: related,
            related: found,
            closest_rejected: rejected.into_iter().next(),
            searched: self.index.nodes(),
        })
    }

    fn judge(&self, query: &Query<'_>, nodes: &[u32]) -> Result<Vec<Candidate>, StoreError> {
        let places: Vec<RowRef> = nodes
            .iter()
            .flat_map(|node| self.index.postings().of_node(*node).take(MAX_COPIES).map(|p| p.at))
            .collect();
        let rows: HashMap<RowRef, Row> = places.iter().copied().zip(self.db.rows(&places)?).collect();
        let background = self.background(query)?;
        let mut query_digest: Option<Option<String>> = None;
        let mut candidates = Vec::with_capacity(nodes.len());
        for node in nodes {
            let mut copies: Vec<&Row> =
                self.index.postings().of_node(*node).filter_map(|p| rows.get(&p.at)).collect();
            let same_samples = |row: &Row| row.sample_digest.as_ref() == Some(&query.weights.sample_digest);
            if copies.iter().any(|row| same_samples(row)) && query_digest.is_none() {
                // At most one node has the query's samples, so local files are hashed at most once.
                query_digest = Some(query.subject.weights_digest()?);
            }
            // `None` where a digest is unknown on one side.
            let same_content = |row: &Row| match (&query_digest, &row.weights_digest) {
                _ if !same_samples(row) => Some(false),
                (Some(Some(ours)), Some(stored)) => Some(ours == stored),
                _ => None,
            };
            copies.sort_by_key(|row| {
                (same_content(row) != Some(true), row.created_at.unwrap_or(i64::MAX), &row.repo_id)
            });
            let Some((oldest, fingerprint)) =
                copies.first().and_then(|row| Some((*row, row.fingerprint.as_ref()?)))
            else {
                continue;
            };
            let mut evidence = stored::compare(&query.fingerprint, fingerprint);
            evidence.in_place.hold_against(&background.controls);
            let screening = query.screening(oldest);
            let same_content = same_content(oldest);
            let context = Context { same_content, searched: self.index.nodes(), tier: screening.tier };
            let verdict = verdict::judge(&evidence, context);
            let named = query.named(oldest, &screening, &evidence, &background.population);
            let others = copies.iter().skip(1).map(|row| row.repo_id.clone()).collect();
            candidates.push(Candidate {
                row: (*oldest).clone(),
                copies: others,
                comparison: Comparison { screening, evidence, verdict, named, merge: None },
            });
        }
        Ok(candidates)
    }

    /// Holds the query against some models of the database that are not related to it.
    fn background(&self, query: &Query<'_>) -> Result<Background, StoreError> {
        let rows = if let Some(rows) = self.sample.get() {
            rows
        } else {
            let nodes = self.index.nodes();
            let n = nodes.min(BACKGROUND);
            let places: Vec<RowRef> = (0..n)
                .filter_map(|i| Some(self.index.postings().of_node((i * nodes / n) as u32).next()?.at))
                .collect();
            let rows = self.db.rows(&places)?;
            self.sample.get_or_init(|| rows)
        };
        let mut background = Background::default();
        for row in rows {
            let Some(fingerprint) = &row.fingerprint else { continue };
            let evidence = stored::compare(&query.fingerprint, fingerprint);
            let context = Context { searched: 1, ..Context::default() };
            if verdict::judge(&evidence, context).score > UNRELATED {
                continue;
            }
            if let Some(profile) = &row.profile {
                background.population.add(&profile.gram);
            }
            if fingerprint.hidden_size == query.fingerprint.hidden_size {
                background.controls.push(evidence.in_place);
            }
        }
        Ok(background)
    }
}

/// What models look like that are not related to the query.
#[derive(Default)]
struct Background {
    controls: Vec<Tests>,
    population: Population,
}

/// A query with what is computed of it once.
struct Query<'a> {
    subject: &'a Subject,
    weights: &'a Extracted,
    fingerprint: Fingerprint,
    profile: Profile,
}

impl<'a> Query<'a> {
    fn new(subject: &'a Subject) -> Result<Self, ScanError> {
        let weights = subject.weights.as_ref().map_err(|error| ScanError::Unreadable(Arc::clone(error)))?;
        let fingerprint = Fingerprint::new(&weights.samples)?;
        let profile = Profile::new(&weights.samples, STORED_TOKENS);
        Ok(Self { subject, weights, fingerprint, profile })
    }

    fn screening(&self, row: &Row) -> Screening {
        let own = &self.subject.metadata;
        let prints = own.tokenizer.as_ref().ok().map(|known| &known.print).zip(row.tokenizer.as_ref());
        let config = row.config.clone().unwrap_or_default();
        screen::screen(&own.config, &config, prints)
    }

    fn named(
        &self,
        row: &Row,
        screening: &Screening,
        evidence: &Evidence,
        population: &Population,
    ) -> Vec<Named> {
        let tokenizers = match (&self.subject.metadata.tokenizer, &row.tokenizer) {
            (Ok(own), Some(print)) => {
                Ok((Tokens { print: &own.print, keys: None }, Tokens { print, keys: None }))
            }
            (Err(reason), _) => Err(reason.clone()),
            (_, None) => Err("the database has no tokenizer of this model".into()),
        };
        let profiles = row.profile.as_ref().map(|profile| (&self.profile, profile));
        named::named(screening, tokenizers, profiles, evidence, Some(population))
    }
}
