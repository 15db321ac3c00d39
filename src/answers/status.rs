//! What the crawls of a database did, what waits, and how old it is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::signals::fingerprint::is_outdated;
use crate::store::{Database, Known, Outcome, Owner, Partition, StoreError};

/// What a database is doing and how old it is: `status --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    /// Repositories with a row.
    pub repositories: usize,
    /// Repositories with a fingerprint.
    pub indexed: usize,
    /// Repositories that the Hub lists no more.
    pub gone: usize,
    /// Repositories that are left for the next crawl.
    pub waiting: usize,
    /// Checkpoints with a fingerprint, by the version of the extraction that made it.
    pub extraction_versions: BTreeMap<String, u64>,
    /// Repositories on the Hub that an older version has read, so that how much of the model it has seen is not known. Crawls read
    /// them again.
    pub outdated: usize,
    /// Since when the first of them waits.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Shards that the index does not cover.
    pub shards_not_indexed: usize,
    /// When the last crawl began that saw the whole listing.
    pub last_whole_sweep: Option<DateTime<Utc>>,
    /// Hours since then.
    pub hours_since: Option<f64>,
    /// The first of `writers`.
    pub writer: Option<Owner>,
    /// Who writes to the database now.
    pub writers: Vec<Owner>,
    /// Run reports as `crawl --json` prints them, of whichever version, the latest first.
    pub runs: Vec<Map<String, Value>>,
}

/// What a run report of any version says at the least.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ran {
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// Whether it saw the listing of the whole Hub.
    pub whole_hub: bool,
    /// Repositories listed.
    pub models: Option<u64>,
    /// Repositories by outcome.
    pub outcomes: Map<String, Value>,
    /// Repositories left for the next crawl.
    pub waiting: Option<u64>,
    /// Repositories found gone.
    pub gone: Option<u64>,
    /// Requests by bucket.
    pub requests: Map<String, Value>,
    /// Wall-clock seconds.
    pub seconds: Option<f64>,
    /// Why the listing broke off.
    pub error: Option<String>,
    /// Whether it was asked to stop.
    pub interrupted: bool,
    /// Which limit of the budget was reached.
    pub spent: Option<String>,
}

impl Ran {
    /// Reads a report; of one that says something else nothing is known.
    pub fn of(report: &Map<String, Value>) -> Self {
        serde_json::from_value(Value::Object(report.clone())).unwrap_or_default()
    }

    /// Repositories that were read.
    pub fn read(&self) -> u64 {
        sum(&self.outcomes)
    }

    /// Requests in all.
    pub fn all_requests(&self) -> u64 {
        sum(&self.requests)
    }
}

fn sum(counts: &Map<String, Value>) -> u64 {
    counts.values().filter_map(Value::as_u64).sum()
}

/// Looks at a database, and at its last `runs` crawls.
pub fn status(db: &Database, runs: usize) -> Result<Status, StoreError> {
    let live = db.live()?;
    let mut waiting = db.waiting(Partition::WHOLE)?;
    waiting.retain(|w| live.still_waits(w));
    let object = |report| if let Value::Object(report) = report { Some(report) } else { None };
    let all: Vec<Map<String, Value>> = db.reports()?.into_iter().filter_map(object).collect();
    let writers = db.writers()?;
    let whole = all.iter().map(Ran::of).filter(|ran| ran.whole_hub);
    let last_whole_sweep = whole.filter_map(|ran| ran.started_at).max();
    let count = |which: fn(&Known) -> bool| live.repositories().filter(|(_, known)| which(known)).count();
    Ok(Status {
        repositories: count(|_| true),
        indexed: count(|known| known.outcome == Outcome::Indexed),
        gone: count(|known| known.gone),
        extraction_versions: live.extraction_versions().iter().map(|(v, n)| (v.to_string(), *n)).collect(),
        outdated: count(|known| {
            !known.gone && known.outcome == Outcome::Indexed && is_outdated(known.extraction_version)
        }),
        waiting: waiting.len(),
        waiting_since: waiting.iter().map(|w| w.since).min().and_then(DateTime::from_timestamp_millis),
        shards_not_indexed: db.manifest().shards_not_indexed(),
        last_whole_sweep,
        hours_since: last_whole_sweep.map(|t| (Utc::now() - t).as_seconds_f64() / 3600.0),
        writer: writers.first().cloned(),
        writers,
        runs: all.into_iter().take(runs).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_of_other_versions_are_read_as_far_as_they_go() {
        let ran = |report: Value| Ran::of(report.as_object().unwrap());
        let old = ran(json!({"models": 3, "outcomes": {"indexed": 2, "gated": 1}, "new_key": [1]}));
        assert_eq!((old.models, old.read(), old.all_requests()), (Some(3), 3, 0));
        assert!(old.started_at.is_none() && !old.whole_hub);
        assert_eq!(ran(json!({"models": "three", "whole_hub": true})).models, None);
    }
}
