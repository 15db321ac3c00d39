//! scan: which models of the database share weights with this one.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::compare::Comparison;
use super::model::Subject;
use crate::retrieval::Index;
use crate::signals::evidence;
use crate::signals::verdict::{self, Context, VerdictKind};
use crate::store::{Database, Row, RowRef, StoreError};

/// Nodes that the index proposes for each one that is asked for: the vector ranks roughly, the cells decide.
const PROPOSALS_PER_ANSWER: usize = 8;
/// Fewest proposals.
const LEAST_PROPOSALS: usize = 64;
/// Most repositories of one content that are read to find the oldest.
const MAX_COPIES: usize = 64;
/// Effects closer than this are equal: the resolution of the sketches. Among equals the oldest comes first.
const RESOLUTION: f64 = 1e-3;

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
}

impl Scanner {
    /// Opens both.
    pub fn open(db: Database) -> Result<Self, StoreError> {
        let index = Index::open(&db)?;
        Ok(Self { db, index })
    }

    /// Whether rows were written after the index was built.
    pub fn is_stale(&self) -> bool {
        let manifest = self.db.manifest();
        manifest.index.as_ref().is_some_and(|i| i.shards < manifest.shards.len())
    }

    /// Finds and judges the relatives of a model.
    pub fn scan(&self, query: &Subject, top_k: usize) -> Result<Answer, StoreError> {
        let _span = tracing::info_span!("scan").entered();
        let proposals = (top_k.saturating_mul(PROPOSALS_PER_ANSWER)).max(LEAST_PROPOSALS);
        let mut nodes: Vec<u32> = self
            .index
            .nearest(&query.extracted.fingerprint.vector, proposals)
            .into_iter()
            .map(|hit| hit.0)
            .collect();
        let content = [Some(&query.extracted.sample_digest), query.extracted.weights_digest.as_ref()];
        for node in content.into_iter().flatten().filter_map(|d| self.index.postings().node_of_content(d)) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let mut judged = self.judge(query, &nodes)?;
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

    fn judge(&self, query: &Subject, nodes: &[u32]) -> Result<Vec<Candidate>, StoreError> {
        let places: Vec<RowRef> = nodes
            .iter()
            .flat_map(|node| self.index.postings().of_node(*node).take(MAX_COPIES).map(|p| p.at))
            .collect();
        let rows: HashMap<RowRef, Row> = places.iter().copied().zip(self.db.rows(&places)?).collect();
        let mut query_digest: Option<Option<String>> = None;
        let mut candidates = Vec::with_capacity(nodes.len());
        for node in nodes {
            let mut copies: Vec<&Row> =
                self.index.postings().of_node(*node).filter_map(|p| rows.get(&p.at)).collect();
            let same_samples = |row: &Row| row.sample_digest.as_ref() == Some(&query.extracted.sample_digest);
            if copies.iter().any(|row| same_samples(row)) && query_digest.is_none() {
                // At most one node has the query's samples, so local files are hashed at most once.
                query_digest = Some(query.weights_digest()?);
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
            let evidence = evidence::compare(&query.extracted.fingerprint, fingerprint);
            let same_content = same_content(oldest);
            let context = Context { same_content, searched: self.index.nodes() };
            let verdict = verdict::judge(&evidence, context);
            let others = copies.iter().skip(1).map(|row| row.repo_id.clone()).collect();
            candidates.push(Candidate {
                row: (*oldest).clone(),
                copies: others,
                comparison: Comparison { evidence, verdict },
            });
        }
        Ok(candidates)
    }
}
