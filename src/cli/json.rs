//! The JSON that commands print. Keys are stable: they are only ever added.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::Serialize;

use crate::pipeline::RunReport;
use crate::retrieval::Built;
use crate::signals::Signal;
use crate::stages::compare::Comparison;
use crate::stages::model::Subject;
use crate::stages::scan::{Answer, Candidate};

/// One signal: `value` is the mean matched correlation (-1 to 1), `z` its distance from 0 in standard
/// deviations of independent models, `n` the blocks compared; or `reason` why it is absent.
#[derive(Debug, Serialize)]
pub(super) struct SignalJson {
    value: Option<f64>,
    z: Option<f64>,
    n: Option<usize>,
    reason: Option<String>,
}

/// The verdict of one pair, as `compare` and each scan candidate have it.
#[derive(Debug, Serialize)]
pub(super) struct VerdictJson {
    verdict: &'static str,
    related: Option<bool>,
    relation: Option<&'static str>,
    score: f64,
    p_value: f64,
    why: String,
    signals: BTreeMap<&'static str, SignalJson>,
    /// (layer of a, layer of b, z) of the best order-keeping match.
    layer_map: Vec<(u16, u16, f64)>,
}

/// `compare --json`.
#[derive(Debug, Serialize)]
pub(super) struct CompareJson<'a> {
    a: &'a str,
    b: &'a str,
    #[serde(flatten)]
    verdict: VerdictJson,
    bytes_fetched: u64,
    seconds: f64,
}

/// One line of `scan --json`.
#[derive(Debug, Serialize)]
pub(super) struct ScanJson<'a> {
    query: &'a str,
    sha: Option<&'a str>,
    /// Distinct contents searched.
    searched: usize,
    /// Related models found; `candidates` has at most `--top-k` of them.
    related: usize,
    candidates: Vec<CandidateJson<'a>>,
    /// The nearest model that was judged unrelated or undecided.
    closest_rejected: Option<CandidateJson<'a>>,
    bytes_fetched: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct CandidateJson<'a> {
    repo_id: &'a str,
    sha: Option<&'a str>,
    created_at: Option<String>,
    license: Option<&'a str>,
    declared_bases: &'a [String],
    /// Other repositories with the same content.
    copies: &'a [String],
    /// Mean matched correlation of the weights: what candidates are ordered by.
    similarity: Option<f64>,
    #[serde(flatten)]
    verdict: VerdictJson,
}

/// A query that failed.
#[derive(Debug, Serialize)]
pub(super) struct ScanErrorJson<'a> {
    pub(super) query: &'a str,
    pub(super) error: String,
    pub(super) hint: Option<&'a str>,
}

/// `db info --json`.
#[derive(Debug, Serialize)]
pub(super) struct InfoJson {
    /// Repositories with a row.
    pub(super) models: u64,
    /// Repositories with a fingerprint.
    pub(super) indexed: u64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) shards: usize,
    pub(super) bytes: u64,
    pub(super) bytes_per_model: Option<u64>,
    pub(super) format_version: u32,
    pub(super) extraction_version: u32,
    pub(super) has_index: bool,
    /// Shards that the index does not cover yet.
    pub(super) shards_not_indexed: usize,
}

/// `run --json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct RunJson {
    pub(super) crawl: Option<RunReport>,
    pub(super) index: Option<Built>,
    pub(super) scan: Vec<serde_json::Value>,
}

pub(super) fn verdict(comparison: &Comparison) -> VerdictJson {
    let Comparison { evidence, verdict } = comparison;
    let signals = evidence.signals().into_iter().map(|(name, signal)| {
        let json = match signal {
            Signal::Present(effect) => SignalJson {
                value: Some(effect.value),
                z: Some(effect.z()),
                n: Some(effect.cells),
                reason: None,
            },
            Signal::Absent(reason) => {
                SignalJson { value: None, z: None, n: None, reason: Some(reason.clone()) }
            }
        };
        (name, json)
    });
    VerdictJson {
        verdict: verdict.kind.name(),
        related: verdict.kind.related(),
        relation: verdict.relation.map(crate::signals::verdict::Relation::name),
        score: verdict.score,
        p_value: verdict.p_value,
        why: verdict.why.clone(),
        signals: signals.collect(),
        layer_map: evidence.matched_layers.clone(),
    }
}

pub(super) fn compare<'a>(
    a: &'a Subject,
    b: &'a Subject,
    comparison: &Comparison,
    seconds: f64,
) -> CompareJson<'a> {
    let bytes_fetched = a.extracted.bytes_fetched + b.extracted.bytes_fetched;
    CompareJson { a: &a.name, b: &b.name, verdict: verdict(comparison), bytes_fetched, seconds }
}

pub(super) fn scan<'a>(query: &'a Subject, answer: &'a Answer, seconds: f64) -> ScanJson<'a> {
    ScanJson {
        query: &query.name,
        sha: query.sha.as_deref(),
        searched: answer.searched,
        related: answer.related,
        candidates: answer.candidates.iter().map(candidate).collect(),
        closest_rejected: answer.closest_rejected.as_ref().map(candidate),
        bytes_fetched: query.extracted.bytes_fetched,
        seconds,
    }
}

fn candidate(candidate: &Candidate) -> CandidateJson<'_> {
    let row = &candidate.row;
    CandidateJson {
        repo_id: &row.repo_id,
        sha: row.sha.as_deref(),
        created_at: row.created_at.and_then(DateTime::from_timestamp_millis).map(|t| t.to_rfc3339()),
        license: row.license.as_deref(),
        declared_bases: &row.declared_bases,
        copies: &candidate.copies,
        similarity: candidate.comparison.evidence.body_effect(),
        verdict: verdict(&candidate.comparison),
    }
}
