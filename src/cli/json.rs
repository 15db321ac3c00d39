//! The JSON that commands print. Keys are stable: they are only ever added.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::answers::compare::Comparison;
use crate::answers::eval::{Evaluation, Merit};
use crate::answers::query::Query;
use crate::answers::scan::{Answer, Brief, Candidate, FamilyAnswer};
use crate::checkpoint::full::Whole;
use crate::checkpoint::model::Subject;
use crate::pipeline::RunReport;
use crate::pipeline::maintain::Maintained;
use crate::publication::copy::Copy;
use crate::publication::plan::Published;
use crate::retrieval::{Built, Quality, Verified};
use crate::signals::Signal;
use crate::signals::evidence::Tests;
use crate::signals::named::{Named, Significance};
use crate::signals::screen::{Difference, Screening};
use crate::signals::verdict::Relation;
use crate::store::statistics::Statistics;

/// One test: `value` is a mean matched correlation (-1 to 1) or a share of matches (0 to 1), `z` its distance
/// from 0 in standard deviations of independent models, `n` what was compared; or `reason` why it is absent.
#[derive(Debug, Serialize)]
struct TestJson {
    value: Option<f64>,
    z: Option<f64>,
    n: Option<usize>,
    reason: Option<String>,
}

/// One of the eight named signals; `z` where it has a null distribution, `error` where it is an estimate.
#[derive(Debug, Serialize)]
struct SignalJson {
    value: Option<f64>,
    n: Option<usize>,
    z: Option<f64>,
    error: Option<f64>,
    reason: Option<String>,
}

/// What config and tokenizer say; never a claim of descent.
#[derive(Debug, Serialize)]
pub(super) struct ScreeningJson {
    tier: &'static str,
    score: Option<f64>,
    fields_compared: usize,
    differing: Vec<DifferenceJson>,
    text: String,
}

#[derive(Debug, Serialize)]
struct DifferenceJson {
    field: &'static str,
    a: String,
    b: String,
}

/// The tests after hidden dimensions were brought into correspondence.
#[derive(Debug, Serialize)]
struct RealignedJson {
    by: &'static str,
    dimensions: TestJson,
    tests: BTreeMap<&'static str, TestJson>,
}

/// The verdict of one pair, as `compare` and each scan candidate have it.
#[derive(Debug, Serialize)]
pub(super) struct VerdictJson {
    verdict: &'static str,
    related: Option<bool>,
    relation: Option<&'static str>,
    direction: &'static str,
    score: f64,
    p_value: f64,
    why: String,
    screening: ScreeningJson,
    signals: BTreeMap<&'static str, SignalJson>,
    tests: BTreeMap<&'static str, TestJson>,
    /// Empty unless the tensors in place left the question open.
    realigned: Vec<RealignedJson>,
    /// Ways of descent that could not be looked for.
    not_ruled_out: Vec<&'static str>,
    /// Mean correlation of each kind of matrix.
    roles: BTreeMap<&'static str, f64>,
    /// Blocks of equal values, of those that both have.
    equal_blocks: usize,
    common_blocks: usize,
    /// Rank of the difference, where blocks were read in detail, and the rows that bound it.
    delta_rank: Option<usize>,
    delta_rows: Option<usize>,
    /// (layer of a, layer of b, z) of the best order-keeping match.
    layer_map: Vec<(u16, u16, f64)>,
    /// With `--with`: the shares of b and of the others in a.
    merge: Option<MergeJson>,
}

/// The shares of suspected parents, in the order given; or `reason` why there are none.
#[derive(Debug, Serialize)]
struct MergeJson {
    shares: Option<Vec<f64>>,
    unexplained: Option<f64>,
    reason: Option<String>,
}

/// `compare --json`.
#[derive(Debug, Serialize)]
pub(super) struct CompareJson<'a> {
    a: &'a str,
    b: &'a str,
    #[serde(flatten)]
    verdict: VerdictJson,
    /// What of the weights of each could not be read, and why.
    not_read: [Vec<String>; 2],
    /// With `--full`: whole tensors, by role.
    whole: Option<BTreeMap<&'static str, WholeJson>>,
    bytes_fetched: u64,
    seconds: f64,
}

/// One role: mean correlation of all rows, the sampled one, and how far that may lie off.
#[derive(Debug, Serialize)]
struct WholeJson {
    rows: u64,
    mean: f64,
    sampled: Option<f64>,
    error: f64,
    agrees: bool,
}

/// `compare --screen --json`.
#[derive(Debug, Serialize)]
pub(super) struct ScreenJson<'a> {
    pub(super) a: &'a str,
    pub(super) b: &'a str,
    pub(super) screening: ScreeningJson,
    pub(super) bytes_fetched: u64,
    pub(super) seconds: f64,
}

/// One line of `scan --json`.
/// What an index build did, and what it took.
#[derive(Debug, Serialize)]
pub(super) struct IndexJson {
    #[serde(flatten)]
    pub(super) built: Built,
    pub(super) seconds: f64,
    /// What was stated before it began.
    pub(super) memory_bound_bytes: u64,
    /// Largest resident size of the process.
    pub(super) peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct ScanJson<'a> {
    query: &'a str,
    sha: Option<&'a str>,
    /// See [`Query::known_from`].
    known_from: Option<String>,
    /// Distinct contents searched.
    searched: usize,
    /// Related families, nearest first.
    families: Vec<FamilyJson<'a>>,
    /// The nearest model that was judged unrelated or undecided.
    closest_rejected: Option<CandidateJson<'a>>,
    /// See [`Quality::false_rate_at_most`].
    false_rate_at_most: Option<f64>,
    bytes_fetched: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct FamilyJson<'a> {
    /// Never changes, whatever is added to the database.
    family: &'a str,
    /// Distinct contents in it.
    contents: u32,
    /// The likeliest ancestor, and why.
    root: CandidateJson<'a>,
    root_evidence: &'a str,
    /// The closest contents that the verdict confirms, best first.
    members: Vec<CandidateJson<'a>>,
}

/// One line of a bulk scan.
#[derive(Debug, Serialize)]
pub(super) struct BriefJson<'a> {
    query: &'a str,
    families: Vec<BriefFamilyJson<'a>>,
    /// See [`Quality::false_rate_at_most`].
    false_rate_at_most: Option<f64>,
}

#[derive(Debug, Serialize)]
struct BriefFamilyJson<'a> {
    family: &'a str,
    root: Option<&'a str>,
    verdict: &'static str,
    relation: Option<&'static str>,
    score: f64,
    p_value: f64,
    /// Mean matched correlation with `judged`, which the verdict is on.
    similarity: Option<f64>,
    judged: Option<&'a str>,
    /// The nearest contents, each by its oldest repository, or by one with exactly the query's files.
    closest: Vec<CloseJson<'a>>,
}

#[derive(Debug, Serialize)]
struct CloseJson<'a> {
    repo_id: &'a str,
    /// Of the retrieval vectors.
    cosine: f32,
}

#[derive(Debug, Serialize)]
struct CandidateJson<'a> {
    repo_id: &'a str,
    /// Which of the repository's checkpoints; left out for the main one.
    #[serde(skip_serializing_if = "str::is_empty")]
    component: &'a str,
    sha: Option<&'a str>,
    created_at: Option<String>,
    /// Since when the Hub lists it no more.
    gone_at: Option<String>,
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

/// `db verify --json`.
#[derive(Debug, Serialize)]
pub(super) struct VerifiedJson<'a> {
    #[serde(flatten)]
    pub(super) verified: &'a Verified,
    /// The publication of which the database is a copy.
    pub(super) copy: Option<Copy>,
}

/// `db info --json`.
#[derive(Debug, Serialize)]
pub(super) struct InfoJson {
    /// Checkpoints with a row.
    pub(super) models: u64,
    /// Repositories that they are of.
    pub(super) repositories: usize,
    /// Checkpoints with a fingerprint.
    pub(super) indexed: u64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) shards: usize,
    pub(super) bytes: u64,
    pub(super) bytes_per_model: Option<u64>,
    pub(super) generation: u64,
    pub(super) committed_at: DateTime<Utc>,
    pub(super) format_version: u32,
    pub(super) extraction_version: u32,
    /// By format, by size, age.
    #[serde(flatten)]
    pub(super) statistics: Statistics,
    /// Families of the index, distinct models in it, and the largest families by name, root and distinct models.
    pub(super) families: usize,
    pub(super) contents: usize,
    pub(super) largest_families: Vec<LargestJson>,
    pub(super) has_index: bool,
    /// Shards that the index does not cover yet.
    pub(super) shards_not_indexed: usize,
}

/// One of the largest families.
#[derive(Debug, Serialize)]
pub(super) struct LargestJson {
    pub(super) family: String,
    pub(super) root: Option<String>,
    pub(super) contents: u32,
}

/// `run --json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct RunJson {
    pub(super) crawl: Option<RunReport>,
    pub(super) index: Option<IndexJson>,
    pub(super) maintenance: Option<Maintained>,
    pub(super) scan: Vec<serde_json::Value>,
    pub(super) publish: Option<Published>,
}

fn test(signal: &Signal) -> TestJson {
    match signal {
        Signal::Present(effect) => {
            TestJson { value: Some(effect.value), z: Some(effect.z()), n: Some(effect.cells), reason: None }
        }
        Signal::Absent(reason) => TestJson { value: None, z: None, n: None, reason: Some(reason.clone()) },
    }
}

fn tests(tests: &Tests) -> BTreeMap<&'static str, TestJson> {
    tests.iter().map(|(of, signal)| (of.key, test(signal))).collect()
}

fn named(named: &Named) -> SignalJson {
    match &named.value {
        Err(reason) => {
            SignalJson { value: None, n: None, z: None, error: None, reason: Some(reason.clone()) }
        }
        Ok(value) => SignalJson {
            value: Some(value.value),
            n: Some(value.n),
            z: value.significance.and_then(Significance::z),
            error: value.significance.and_then(Significance::error),
            reason: None,
        },
    }
}

pub(super) fn screening(screening: &Screening) -> ScreeningJson {
    let difference = |d: &Difference| DifferenceJson { field: d.field, a: d.a.clone(), b: d.b.clone() };
    ScreeningJson {
        tier: screening.tier.name(),
        score: screening.score,
        fields_compared: screening.compared,
        differing: screening.differing.iter().map(difference).collect(),
        text: screening.text.clone(),
    }
}

pub(super) fn verdict(comparison: &Comparison) -> VerdictJson {
    let Comparison { evidence, verdict, screening: screened, named: signals, merge } = comparison;
    let realigned = evidence.realigned.iter().map(|r| RealignedJson {
        by: r.by.name(),
        dimensions: test(&r.dimensions),
        tests: tests(&r.tests),
    });
    VerdictJson {
        verdict: verdict.kind.name(),
        related: verdict.kind.related(),
        relation: verdict.relation.map(Relation::name),
        direction: verdict.direction.name(),
        score: verdict.score,
        p_value: verdict.p_value,
        why: verdict.why.clone(),
        screening: screening(screened),
        signals: signals.iter().map(|signal| (signal.name, named(signal))).collect(),
        tests: tests(&evidence.in_place),
        realigned: realigned.collect(),
        not_ruled_out: evidence.open.iter().map(|open| open.name()).collect(),
        roles: evidence.in_place.roles.iter().map(|(role, r)| (role.name(), *r)).collect(),
        equal_blocks: evidence.reuse.equal,
        common_blocks: evidence.reuse.of,
        delta_rank: evidence.delta.map(|d| d.rank),
        delta_rows: evidence.delta.map(|d| d.rows),
        layer_map: evidence.in_place.matched_layers.clone(),
        merge: merge.as_ref().map(|merge| match merge {
            Ok(found) => MergeJson {
                shares: Some(found.shares.clone()),
                unexplained: Some(found.unexplained),
                reason: None,
            },
            Err(reason) => MergeJson { shares: None, unexplained: None, reason: Some(reason.clone()) },
        }),
    }
}

pub(super) fn compare<'a>(
    a: &'a Subject,
    b: &'a Subject,
    comparison: &Comparison,
    whole: Option<&[Whole]>,
    seconds: f64,
) -> CompareJson<'a> {
    let role = |w: &Whole| {
        let Whole { rows, mean, sampled, error, .. } = *w;
        (w.role.name(), WholeJson { rows, mean, sampled, error, agrees: w.agrees() })
    };
    let whole = whole.map(|all| all.iter().map(role).collect());
    let not_read = [a, b].map(|s| match &s.weights {
        Ok(weights) => weights.unreadable.clone(),
        Err(error) => vec![error.to_string()],
    });
    let bytes_fetched = a.bytes_fetched() + b.bytes_fetched();
    CompareJson {
        a: &a.name,
        b: &b.name,
        verdict: verdict(comparison),
        not_read,
        whole,
        bytes_fetched,
        seconds,
    }
}

/// `eval --json`.
#[derive(Debug, Serialize)]
pub(super) struct EvalJson<'a> {
    merit: Merit,
    models: usize,
    bytes: u64,
    reading_seconds: f64,
    comparing_seconds: f64,
    unavailable: BTreeMap<&'a str, &'a str>,
    pairs: Vec<EvalPairJson<'a>>,
}

/// One pair of a list; `error` where a model could not be read.
#[derive(Debug, Serialize)]
struct EvalPairJson<'a> {
    a: &'a str,
    b: &'a str,
    expected: bool,
    expected_relation: &'a str,
    error: Option<&'a str>,
    #[serde(flatten)]
    verdict: Option<VerdictJson>,
}

pub(super) fn evaluation(found: &Evaluation) -> EvalJson<'_> {
    let pairs = found.judged.iter().map(|judged| EvalPairJson {
        a: &judged.pair.a,
        b: &judged.pair.b,
        expected: judged.pair.related,
        expected_relation: &judged.pair.relation,
        error: judged.result.as_ref().err().map(String::as_str),
        verdict: judged.result.as_ref().ok().map(verdict),
    });
    EvalJson {
        merit: found.merit(),
        models: found.models,
        bytes: found.bytes,
        reading_seconds: found.reading.as_secs_f64(),
        comparing_seconds: found.comparing.as_secs_f64(),
        unavailable: found.unavailable.iter().map(|m| (m.name.as_str(), m.reason.as_str())).collect(),
        pairs: pairs.collect(),
    }
}

pub(super) fn scan<'a>(query: &'a Query, answer: &'a Answer, seconds: f64) -> ScanJson<'a> {
    ScanJson {
        query: query.name(),
        sha: query.sha(),
        known_from: query.known_from(),
        searched: answer.searched,
        families: answer.families.iter().map(family).collect(),
        closest_rejected: answer.closest_rejected.as_ref().map(candidate),
        false_rate_at_most: answer.quality.false_rate_at_most(),
        bytes_fetched: query.bytes_fetched(),
        seconds,
    }
}

fn family(family: &FamilyAnswer) -> FamilyJson<'_> {
    FamilyJson {
        family: &family.id,
        contents: family.contents,
        root: candidate(&family.root),
        root_evidence: &family.root_evidence,
        members: family.members.iter().map(candidate).collect(),
    }
}

pub(super) fn brief<'a>(query: &'a str, families: &'a [Brief], quality: Quality) -> BriefJson<'a> {
    let family = |brief: &'a Brief| {
        let verdict = &brief.related.verdict;
        BriefFamilyJson {
            family: &brief.id,
            root: brief.root.as_deref(),
            verdict: verdict.kind.name(),
            relation: verdict.relation.map(Relation::name),
            score: verdict.score,
            p_value: verdict.p_value,
            similarity: brief.related.evidence.body_effect(),
            judged: brief.judged.as_deref(),
            closest: brief
                .closest
                .iter()
                .map(|(repo_id, cosine)| CloseJson { repo_id, cosine: *cosine })
                .collect(),
        }
    };
    let families = families.iter().map(family).collect();
    BriefJson { query, families, false_rate_at_most: quality.false_rate_at_most() }
}

/// Milliseconds since 1970 as text.
fn time(millis: Option<i64>) -> Option<String> {
    millis.and_then(DateTime::from_timestamp_millis).map(|t| t.to_rfc3339())
}

fn candidate(candidate: &Candidate) -> CandidateJson<'_> {
    let row = &candidate.row;
    CandidateJson {
        repo_id: &row.repo_id,
        component: &row.component,
        sha: row.sha.as_deref(),
        created_at: time(row.created_at),
        gone_at: time(row.gone_at),
        license: row.license.as_deref(),
        declared_bases: &row.declared_bases,
        copies: &candidate.copies,
        similarity: candidate.comparison.evidence.body_effect(),
        verdict: verdict(&candidate.comparison),
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;
    use crate::signals::toy;

    #[test]
    fn every_test_of_the_table_has_a_key() {
        let found = tests(&toy::evidence().in_place);
        let mut keys = toy::TESTS.map(|test| test.key);
        keys.sort_unstable();
        assert!(found.keys().eq(keys.iter()), "{:?}", found.keys());
        assert_eq!(found["toy_blocks"].value, Some(1.0));
    }
}
