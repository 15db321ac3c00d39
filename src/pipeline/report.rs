//! The run report of a crawl: what came of every repository, and what it cost.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::Spent;
use super::sweep::{Listed, Sweep};
use crate::checkpoint::error::in_full;
use crate::hub::{HubError, HubErrorKind, Requests, Retries, Usage};
use crate::store::{Outcome, Row};

/// Most failures listed by name; all are rows of the database.
const LISTED_FAILURES: usize = 1000;

/// A crawl's totals, also kept in the database's `reports/`, there as Markdown, too.
///
/// Repositories by outcome, unchanged ones, filtered ones, those of which only the metadata was updated, those that
/// wait and those that are left outdated add up to `models`; those with an outcome, updated or gone, and further components, to `rows_written` and
/// `rows_kept`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct RunReport {
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// Repositories enumerated.
    pub models: u64,
    /// The same by what the listing says of them.
    pub listed: Listed,
    /// Whether the listing was read to its end.
    pub sweep_complete: bool,
    /// Whether that was a listing of the whole Hub.
    pub whole_hub: bool,
    /// Seconds until then.
    pub sweep_seconds: f64,
    /// Repositories by outcome of this run.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Repositories skipped, because the database has this commit with a final outcome.
    pub unchanged: u64,
    /// Repositories that the settings leave out, private ones included.
    pub filtered: u64,
    /// Rows written anew with another name or access, without reading files.
    #[serde(rename = "relabelled")]
    pub metadata_updated: u64,
    /// Repositories that are listed no more, now marked so.
    pub gone: u64,
    /// Why repositories that seem to have gone were not marked.
    #[serde(rename = "doubt")]
    pub suspicious_deletion: Option<String>,
    /// Repositories of this listing that are left for the next crawl.
    pub waiting: u64,
    /// Repositories with a fingerprint of an older extraction version that were tried again; they are among `outcomes`.
    pub reread: u64,
    /// Those that were not, because the budget or the settings left no room for them: their rows stay, and the next
    /// crawls go on with them.
    pub outdated: u64,
    /// Repositories that waited before, were not in this listing, and wait on.
    pub waiting_unlisted: u64,
    /// Which limit of the budget was reached.
    pub spent: Option<Spent>,
    /// Repositories whose weights were known from another commit or repository, so that none were read.
    pub known_contents: u64,
    /// Requests to the Hub that reading was expected to take, from the names of the files.
    pub expected_requests: u64,
    /// Requests to the Hub that it took.
    pub reading_requests: u64,
    /// Rows written.
    pub rows_written: u64,
    /// Repositories that could not be read again and keep their row, with the fingerprint of another commit or
    /// of an older version.
    pub rows_kept: u64,
    /// Rows, written or kept, of further checkpoints of repositories that have several; the first ones are among
    /// `outcomes`, `relabelled` and `gone`.
    pub further_components: u64,
    /// Bytes of the database, the index of the last build included, for each repository with a fingerprint.
    pub stored_bytes_per_model: Option<u64>,
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
    /// Times that a host was left alone because it kept failing.
    pub breaker_openings: u64,
    /// Seconds waited for such hosts, summed over concurrent requests.
    pub host_wait_seconds: f64,
    /// Times that fewer requests were kept in flight because a host could not bear more.
    pub limit_decreases: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seconds of processor time of the process, all threads together; null where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident size of the process, bytes; null where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Repositories that failed, the first thousand.
    pub failures: Vec<Failure>,
    /// Whether the run was asked to stop before the end.
    pub interrupted: bool,
    /// Why the listing broke off, if it did.
    pub error: Option<String>,
    /// Whether it may work later without anybody's doing.
    pub is_temporary: bool,
    /// What can be done about it.
    pub hint: Option<&'static str>,
}

/// One repository that has no fingerprint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Failure {
    /// Its name.
    pub repo: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

impl RunReport {
    /// Takes over what a sweep found.
    pub(super) fn swept(&mut self, sweep: &Sweep, usage: &Usage, time: Duration) {
        self.models = sweep.listed.listed;
        self.listed = sweep.listed;
        self.unchanged = sweep.listed.unchanged;
        self.filtered = sweep.listed.filtered + sweep.listed.private;
        self.sweep_complete = sweep.complete;
        self.whole_hub = sweep.whole;
        self.sweep_seconds = time.as_secs_f64();
        self.suspicious_deletion.clone_from(&sweep.suspicious_deletion);
        self.spent = sweep.spent;
        if let Some(error) = &sweep.error {
            self.broke_off(error);
        }
        self.reading_requests = usage.requests.to_hub();
    }

    /// The Hub did not go on.
    pub(super) fn broke_off(&mut self, error: &HubError) {
        self.error = Some(in_full(error));
        self.is_temporary = !error.is_permanent() && !matches!(error.kind(), HubErrorKind::Offline);
        self.hint = error.hint();
    }

    /// Counts one repository.
    pub fn count(&mut self, repo: &str, outcome: Outcome, reason: Option<&str>) {
        *self.outcomes.entry(outcome.name()).or_default() += 1;
        if outcome != Outcome::Indexed && self.failures.len() < LISTED_FAILURES {
            let reason = reason.unwrap_or_default().to_owned();
            self.failures.push(Failure { repo: repo.to_owned(), outcome, reason });
        }
    }

    /// Counts one repository that ended with these rows, one for each of its checkpoints: it is indexed if one of them is.
    pub(super) fn read(&mut self, rows: &[Row]) {
        let told = rows.iter().find(|row| row.outcome == Outcome::Indexed).or(rows.first());
        if let Some(row) = told {
            self.count(&row.repo_id, row.outcome, row.reason.as_deref());
        }
        self.further_components += rows.len().saturating_sub(1) as u64;
        self.bytes_fetched += rows.iter().map(|row| row.bytes_fetched).sum::<u64>();
        self.bytes_in_repos += rows.iter().map(|row| row.bytes_in_repo).sum::<u64>();
    }

    /// Takes over what the Hub client has counted.
    pub fn add_usage(&mut self, usage: &Usage) {
        // Until now it held those of the sweep.
        self.reading_requests = usage.requests.to_hub() - self.reading_requests;
        self.bytes_received = usage.bytes_received;
        self.requests = usage.requests;
        self.retries = usage.retries;
        self.expired_urls = usage.expired_urls;
        self.ranges_ignored = usage.ranges_ignored;
        self.rate_limit_wait_seconds = usage.waited_for_rate.as_secs_f64();
        self.breaker_openings = usage.breaker_openings;
        self.host_wait_seconds = usage.waited_for_host.as_secs_f64();
        self.limit_decreases = usage.limit_decreases;
    }

    /// Which totals do not add up, if any: every enumerated repository must be accounted for.
    pub fn imbalance(&self) -> Option<String> {
        let Self { models, unchanged, filtered, gone, waiting, outdated, rows_written, rows_kept, .. } = self;
        let updated = self.metadata_updated;
        let further = self.further_components;
        let ended: u64 = self.outcomes.values().sum();
        let accounted = ended + unchanged + filtered + updated + waiting + outdated;
        if accounted != *models {
            return Some(format!(
                "{models} repositories, but {ended} ended, {unchanged} unchanged, {filtered} filtered, {updated} \
                 with updated metadata, {waiting} waiting and {outdated} left outdated"
            ));
        }
        (ended + further + updated + gone != rows_written + rows_kept).then(|| {
            format!(
                "{rows_written} rows written and {rows_kept} kept, but {ended} ended with {further} further \
                 components, {updated} with updated metadata and {gone} gone"
            )
        })
    }
}

/// What the next crawl learns from the report of the last.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Experience {
    /// As in [`RunReport`].
    pub expected_requests: u64,
    /// As in [`RunReport`].
    pub reading_requests: u64,
    /// As in [`RunReport`].
    pub bytes_received: u64,
    /// As in [`RunReport`].
    pub rows_written: u64,
    /// As in [`RunReport`].
    pub seconds: f64,
    /// As in [`RunReport`].
    pub sweep_seconds: f64,
    /// As in [`RunReport`].
    pub rate_limit_wait_seconds: f64,
}
