//! What a crawl would do, what it would cost and how long it would take: a sweep, and arithmetic.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::process::peak_memory_bytes;
use super::report::Experience;
use super::settings::CrawlSettings;
use super::sweep::{Listed, Sweep};
use crate::checkpoint::container::ComponentFiles;
use crate::checkpoint::error::in_full;
use crate::checkpoint::plan::PlanSettings;
use crate::checkpoint::reading::Reader;
use crate::hub::{Hub, RateOf, RepoEntry};
use crate::store::StoreError;

/// Requests from which on the last crawl's experience is believed.
const ENOUGH: u64 = 50;
/// Part of a window's requests that the client uses, and part of these that it spreads over the rest of the window;
/// see `hub::meter`.
const USED: f64 = 0.99;
const SPREAD: f64 = 0.2;
/// Seconds that reading a repository takes without experience, one after the other.
const SECONDS_PER_REPO: f64 = 0.5;

/// A forecast.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Forecast {
    /// What the sweep found.
    pub listed: Listed,
    /// Repositories that are listed no more.
    pub gone: u64,
    /// Why those that seem to have gone are not believed to.
    #[serde(rename = "doubt")]
    pub suspicious_deletion: Option<String>,
    /// Repositories that would be read.
    pub repositories: u64,
    /// Repositories that would wait, because the budget ends before.
    pub waiting: u64,
    /// Requests of the sweep, which were made, counted as `api`.
    pub sweep_requests: u64,
    /// Requests to the Hub for files, counted as `resolvers`.
    pub requests: u64,
    /// Bytes of answers.
    pub bytes: u64,
    /// Requests for files that the Hub allows in each window, if it says so, and the window's seconds.
    pub allowed: Option<(u64, f64)>,
    /// Seconds, the sweep included.
    pub seconds: f64,
    /// Seconds that the sweep took.
    pub sweep_seconds: f64,
    /// Largest resident size of this process so far, bytes; null where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// What takes the time.
    pub bound_by: Bound,
    /// Whether the listing was read to its end; otherwise the figures are of what came before.
    pub complete: bool,
    /// Why the listing broke off, if it did.
    pub error: Option<String>,
}

/// What a crawl spends most of its time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The way to and from the Hub.
    #[default]
    Reading,
    /// The Hub's rate limits.
    RateLimit,
    /// The deadline of the budget.
    Deadline,
}

impl Forecast {
    /// Of the crawl that this sweep would begin. `last` is what the last crawl on this database saw.
    ///
    /// Asks the Hub for the address of one file, because its answer states the limits.
    pub async fn new(
        hub: &Hub,
        sweep: Sweep,
        sweep_seconds: f64,
        settings: &CrawlSettings,
        last: Experience,
    ) -> Result<Self, StoreError> {
        let Sweep { listed, mut backlog, gone, suspicious_deletion, complete, error, .. } = sweep;
        let sweep_requests = hub.usage().requests.to_hub();
        let mut forecast = Self {
            listed,
            gone: gone.len() as u64,
            suspicious_deletion,
            sweep_requests,
            sweep_seconds,
            complete,
            error: error.as_ref().map(|error| in_full(error)),
            ..Self::default()
        };
        let correction = if last.expected_requests >= ENOUGH {
            last.reading_requests as f64 / last.expected_requests as f64
        } else {
            1.0
        };
        let budget = &settings.budget;
        let reader = Reader::from(settings.read.clone());
        let (mut requests, mut bytes) = (0.0, 0.0);
        let mut probed = false;
        while let Some(due) = backlog.pop()? {
            let names = due.entry.siblings.as_deref().unwrap_or_default();
            let cost = correction * reader.requests(names) as f64;
            let weight = bytes_of(&due.entry, &settings.read.plan) as f64;
            let over = |most: Option<u64>, sum: f64| most.is_some_and(|most| sum > most as f64);
            if over(budget.max_requests, sweep_requests as f64 + requests + cost)
                || over(budget.max_bytes, bytes + weight)
            {
                forecast.waiting = 1 + backlog.len() as u64;
                break;
            }
            if !probed {
                probed = probe(hub, &due.entry, &reader).await;
            }
            requests += cost;
            bytes += weight;
            forecast.repositories += 1;
        }
        forecast.requests = requests.round() as u64;
        forecast.bytes = bytes.round() as u64;
        forecast.allowed = hub.rate_of_resolvers().map(|rate| (rate.requests, rate.window.as_secs_f64()));
        let reading = forecast.repositories as f64 * seconds_per_repo(last, settings.repos_in_flight);
        let limited = hub.rate_of_resolvers().map_or(0.0, |rate| seconds_at(rate, requests));
        forecast.bound_by = if limited > reading { Bound::RateLimit } else { Bound::Reading };
        forecast.peak_memory_bytes = peak_memory_bytes();
        forecast.cut(sweep_seconds, limited.max(reading), budget.deadline);
        Ok(forecast)
    }

    /// Takes the time, or as much of the work as the deadline allows.
    fn cut(&mut self, sweep: f64, reading: f64, deadline: Option<Duration>) {
        self.seconds = sweep + reading;
        let Some(deadline) = deadline.map(|d| d.as_secs_f64()).filter(|d| *d < self.seconds) else { return };
        let share = ((deadline - sweep) / reading).clamp(0.0, 1.0);
        let part = |n: u64| (n as f64 * share) as u64;
        self.waiting += self.repositories - part(self.repositories);
        self.repositories = part(self.repositories);
        self.requests = part(self.requests);
        self.bytes = part(self.bytes);
        self.seconds = deadline.max(sweep);
        self.bound_by = Bound::Deadline;
    }
}

/// Lets the Hub state its limits, which the answers to the listing do not.
async fn probe(hub: &Hub, entry: &RepoEntry, reader: &Reader) -> bool {
    let files = entry.siblings.as_deref().unwrap_or_default();
    let main = reader.settings.containers.components(files).into_iter().next();
    let Some(ComponentFiles::Named(paths)) = main.map(|(_, component)| component.files) else { return false };
    let Some(sha) = &entry.sha else { return false };
    // Whatever the answer is, it has the headers.
    match paths.first() {
        Some(path) => hub.open(&entry.id, sha, path).await.is_ok(),
        None => false,
    }
}

/// Bytes that are read of a repository: of its weights at most what the plan allows, and as much where the Hub does not
/// say how many it has.
pub(super) fn bytes_of(entry: &RepoEntry, plan: &PlanSettings) -> u64 {
    let width = |dtype: &str| match dtype {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    };
    let stored = entry.safetensors.as_ref().map_or(u64::MAX, |p| {
        p.by_dtype.iter().fold(0u64, |sum, (dtype, n)| sum.saturating_add(n.saturating_mul(width(dtype))))
    });
    stored.min(plan.max_bytes)
}

/// Seconds for one more repository, as the last crawl had them if nothing held it up.
fn seconds_per_repo(last: Experience, in_flight: usize) -> f64 {
    let reading = last.seconds - last.sweep_seconds;
    if last.expected_requests >= ENOUGH && last.rate_limit_wait_seconds < 0.1 * reading {
        reading / last.rows_written.max(1) as f64
    } else {
        SECONDS_PER_REPO / in_flight.max(1) as f64
    }
}

/// Seconds that a rate limit takes for so many requests. Of each window the client uses [`USED`]; the last
/// [`SPREAD`] of that it spreads to the window's end, and what comes before goes at once.
fn seconds_at(rate: RateOf, requests: f64) -> f64 {
    let windows = requests / (USED * rate.requests.max(1) as f64);
    let last = (windows.fract() - (1.0 - SPREAD)).max(0.0) / SPREAD;
    (windows.floor() + last) * rate.window.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_windows_take_their_time() {
        let rate = RateOf { requests: 5000, window: Duration::from_mins(5) };
        for (requests, seconds) in
            [(0.0, 0.0), (3900.0, 0.0), (4950.0, 300.0), (9900.0, 600.0), (4455.0, 150.0)]
        {
            assert!((seconds_at(rate, requests) - seconds).abs() < 1e-6, "{requests}");
        }
    }

    #[test]
    fn a_deadline_cuts_the_work() {
        let mut forecast = Forecast { repositories: 1000, requests: 4000, waiting: 5, ..Forecast::default() };
        forecast.cut(5.0, 100.0, Some(Duration::from_secs(30)));
        assert_eq!((forecast.repositories, forecast.requests, forecast.waiting), (250, 1000, 755));
        assert_eq!((forecast.seconds, forecast.bound_by), (30.0, Bound::Deadline));
        forecast.cut(5.0, 5.0, Some(Duration::from_secs(25)));
        assert_eq!((forecast.repositories, forecast.seconds), (250, 10.0));
        forecast.cut(5.0, 5.0, Some(Duration::from_secs(2)));
        assert_eq!((forecast.repositories, forecast.seconds), (0, 5.0));
    }

    #[test]
    fn experience_counts_when_nothing_held_it_up() {
        let last = Experience {
            expected_requests: 100,
            rows_written: 50,
            seconds: 12.0,
            sweep_seconds: 2.0,
            ..Experience::default()
        };
        assert_eq!(seconds_per_repo(last, 8), 0.2);
        assert_eq!(seconds_per_repo(Experience { rate_limit_wait_seconds: 9.0, ..last }, 8), 0.0625);
        assert_eq!(seconds_per_repo(Experience::default(), 1), 0.5);
    }
}
