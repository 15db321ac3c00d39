//! The run report of a crawl: what came of every repository, and what it cost.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::hub::{Requests, Retries, Usage};
use crate::store::Outcome;

/// Most failures listed by name; all are rows of the database.
const LISTED_FAILURES: usize = 1000;

/// A crawl's totals. `outcomes` plus `unchanged` add up to `models`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunReport {
    /// Repositories enumerated.
    pub models: u64,
    /// Repositories by outcome of this run.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Repositories skipped, because the database has this commit with a final outcome.
    pub unchanged: u64,
    /// Rows written.
    pub rows_written: u64,
    /// Bytes of file content that fingerprints were made of.
    pub bytes_fetched: u64,
    /// Bytes of the weight files of the same repositories.
    pub bytes_in_repos: u64,
    /// Bytes of all response bodies, listing and failed attempts included.
    pub bytes_received: u64,
    /// Requests by bucket of the Hub's rate limits; `cdn` is not limited.
    pub requests: Requests,
    /// Attempts made again, by the failure before.
    pub retries: Retries,
    /// Signed URLs that had expired and were resolved again.
    pub expired_urls: u64,
    /// Ranged requests that were answered with the whole file.
    pub ranges_ignored: u64,
    /// Seconds that requests were held back by rate limits, summed over concurrent ones.
    pub rate_limit_wait_seconds: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Largest resident size of the process, bytes; null where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Repositories that failed, the first thousand.
    pub failures: Vec<Failure>,
    /// Whether the run was asked to stop before the end.
    pub interrupted: bool,
    /// Why the listing broke off, if it did.
    pub error: Option<String>,
    /// What can be done about it.
    pub hint: Option<&'static str>,
}

/// One repository that has no fingerprint.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Its name.
    pub repo: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

impl RunReport {
    /// Counts one repository.
    pub fn count(&mut self, repo: &str, outcome: Outcome, reason: Option<&str>) {
        self.models += 1;
        *self.outcomes.entry(outcome.name()).or_default() += 1;
        if outcome != Outcome::Indexed && self.failures.len() < LISTED_FAILURES {
            let reason = reason.unwrap_or_default().to_owned();
            self.failures.push(Failure { repo: repo.to_owned(), outcome, reason });
        }
    }

    /// Takes over what the Hub client has counted.
    pub fn add_usage(&mut self, usage: &Usage) {
        self.bytes_received = usage.bytes_received;
        self.requests = usage.requests;
        self.retries = usage.retries;
        self.expired_urls = usage.expired_urls;
        self.ranges_ignored = usage.ranges_ignored;
        self.rate_limit_wait_seconds = usage.waited_for_rate.as_secs_f64();
    }

    /// Whether every enumerated repository is accounted for.
    pub fn adds_up(&self) -> bool {
        let ended: u64 = self.outcomes.values().sum();
        ended == self.rows_written && ended + self.unchanged == self.models
    }
}

/// An error with its causes, in one line. Only the Hub's own words and addresses, never a secret: see
/// [`crate::hub::SafeUrl`].
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// Largest resident size of this process so far, bytes.
pub fn peak_memory_bytes() -> Option<u64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    // Linux counts kilobytes, macOS bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.max_rss()).ok().map(|n| n * unit)
}
