//! What a crawl would do, what it would cost and how long it would take: a sweep, and arithmetic.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::budget::BudgetSettings;
use super::process::peak_memory_bytes;
use super::report::Experience;
use super::settings::CrawlSettings;
use super::sweep::{Listed, Sweep};
use crate::checkpoint::container::ComponentFiles;
use crate::checkpoint::error::in_full;
use crate::checkpoint::reading::{ReadSettings, Reader};
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
    /// Repositories that would wait, because the budget ends before; without those of an older extraction version.
    pub waiting: u64,
    /// Repositories of an older extraction version.
    pub outdated: OutdatedForecast,
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

/// What it takes to read again the repositories whose fingerprints are of an older extraction version: after all else,
/// the most wanted first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutdatedForecast {
    /// Repositories in all.
    pub repositories: u64,
    /// Those that this crawl would read; they are among its `repositories`.
    pub read: u64,
    /// Requests to the Hub for the files of all of them.
    pub requests: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Crawls with this budget that it takes, where nothing else is due; null where the budget leaves nothing for it, or
    /// the settings do not want it.
    pub nights: Option<u64>,
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
        let mut outdated = Need::default();
        let (mut probed, mut is_spent) = (false, false);
        while let Some(due) = backlog.pop()? {
            let names = due.entry.siblings.as_deref().unwrap_or_default();
            let cost = correction * reader.requests(names) as f64;
            let weight = bytes_of(&due.entry, &settings.read) as f64;
            if due.is_outdated {
                outdated.add(cost, weight);
            }
            let over = |most: Option<u64>, sum: f64| most.is_some_and(|most| sum > most as f64);
            is_spent |= over(budget.max_requests, sweep_requests as f64 + requests + cost)
                || over(budget.max_bytes, bytes + weight);
            if is_spent {
                forecast.waiting += u64::from(!due.is_outdated);
                continue;
            }
            if !probed {
                probed = probe(hub, &due.entry, &reader).await;
            }
            requests += cost;
            bytes += weight;
            forecast.repositories += 1;
            forecast.outdated.read += u64::from(due.is_outdated);
        }
        forecast.requests = requests.round() as u64;
        forecast.bytes = bytes.round() as u64;
        forecast.allowed = hub.rate_of_resolvers().map(|rate| (rate.requests, rate.window.as_secs_f64()));
        let each = seconds_per_repo(last, settings.repos_in_flight);
        let limited = |requests| hub.rate_of_resolvers().map_or(0.0, |rate| seconds_at(rate, requests));
        let reading = forecast.repositories as f64 * each;
        let again = limited(outdated.requests).max(outdated.repositories * each);
        let limited = limited(requests);
        forecast.bound_by = if limited > reading { Bound::RateLimit } else { Bound::Reading };
        forecast.peak_memory_bytes = peak_memory_bytes();
        forecast.outdated = OutdatedForecast {
            repositories: listed.outdated,
            requests: outdated.requests.round() as u64,
            bytes: outdated.bytes.round() as u64,
            // Where they are not wanted, none of them was in the backlog.
            nights: (outdated.repositories > 0.0 || listed.outdated == 0)
                .then(|| outdated.nights(budget, sweep_requests as f64, sweep_seconds, again))
                .flatten(),
            ..forecast.outdated
        };
        forecast.cut(sweep_seconds, limited.max(reading), budget.deadline);
        Ok(forecast)
    }

    /// Takes the time, or as much of the work as the deadline allows.
    fn cut(&mut self, sweep: f64, reading: f64, deadline: Option<Duration>) {
        self.seconds = sweep + reading;
        let Some(deadline) = deadline.map(|d| d.as_secs_f64()).filter(|d| *d < self.seconds) else { return };
        let share = ((deadline - sweep) / reading).clamp(0.0, 1.0);
        let part = |n: u64| (n as f64 * share) as u64;
        let left = self.repositories - part(self.repositories);
        // Those of an older version come last, and do not wait.
        let left_outdated = left.min(self.outdated.read);
        self.outdated.read -= left_outdated;
        self.waiting += left - left_outdated;
        self.repositories -= left;
        self.requests = part(self.requests);
        self.bytes = part(self.bytes);
        self.seconds = deadline.max(sweep);
        self.bound_by = Bound::Deadline;
    }
}

/// What some repositories take.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    repositories: f64,
    requests: f64,
    bytes: f64,
}

impl Need {
    fn add(&mut self, requests: f64, bytes: f64) {
        self.repositories += 1.0;
        self.requests += requests;
        self.bytes += bytes;
    }

    /// Crawls that it takes within a budget, of which a sweep takes its part each time; `seconds` is what it takes
    /// without one.
    fn nights(
        &self,
        budget: &BudgetSettings,
        sweep_requests: f64,
        sweep_seconds: f64,
        seconds: f64,
    ) -> Option<u64> {
        let nights = |need: f64, most: Option<f64>| match most {
            _ if need <= 0.0 => Some(0.0),
            None => Some(1.0),
            Some(most) => (most > 0.0).then(|| (need / most).ceil()),
        };
        let limits = [
            nights(self.repositories, None)?,
            nights(self.requests, budget.max_requests.map(|most| most as f64 - sweep_requests))?,
            nights(self.bytes, budget.max_bytes.map(|most| most as f64))?,
            nights(seconds, budget.deadline.map(|most| most.as_secs_f64() - sweep_seconds))?,
        ];
        Some(limits.into_iter().fold(0.0, f64::max) as u64)
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

/// Bytes that are read of a repository: of the weights of each checkpoint at most what the plan allows, and as much where
/// the Hub does not say how many it has.
pub(super) fn bytes_of(entry: &RepoEntry, settings: &ReadSettings) -> u64 {
    let width = |dtype: &str| match dtype {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    };
    let stored = entry.safetensors.as_ref().map_or(u64::MAX, |p| {
        p.by_dtype.iter().fold(0u64, |sum, (dtype, n)| sum.saturating_add(n.saturating_mul(width(dtype))))
    });
    let files = entry.siblings.as_deref().unwrap_or_default();
    let checkpoints = settings.containers.components(files).len().max(1) as u64;
    stored.min(settings.plan.max_bytes.saturating_mul(checkpoints))
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
    fn what_is_outdated_is_cut_first_and_does_not_wait() {
        let outdated = OutdatedForecast { repositories: 900, read: 300, ..OutdatedForecast::default() };
        let mut forecast = Forecast { repositories: 1000, outdated, ..Forecast::default() };
        forecast.cut(0.0, 100.0, Some(Duration::from_secs(80)));
        assert_eq!((forecast.repositories, forecast.outdated.read, forecast.waiting), (800, 100, 0));
        forecast.cut(0.0, 100.0, Some(Duration::from_secs(50)));
        assert_eq!((forecast.repositories, forecast.outdated.read, forecast.waiting), (400, 0, 300));
        assert_eq!(forecast.outdated.repositories, 900, "in all");
    }

    #[test]
    fn nights_follow_from_the_tightest_limit() {
        let mut need = Need::default();
        let nights = |need: &Need, budget| need.nights(&budget, 10.0, 5.0, 300.0);
        let free = BudgetSettings::default();
        assert_eq!(Need::default().nights(&free, 10.0, 5.0, 0.0), Some(0));
        for _ in 0..100 {
            need.add(2.0, 1000.0);
        }
        assert_eq!(nights(&need, free), Some(1));
        assert_eq!(nights(&need, BudgetSettings { max_requests: Some(60), ..free }), Some(4));
        let tight = BudgetSettings { max_requests: Some(60), max_bytes: Some(9_000), ..free };
        assert_eq!(nights(&need, tight), Some(12));
        let late = BudgetSettings { deadline: Some(Duration::from_secs(15)), ..tight };
        assert_eq!(nights(&need, late), Some(30));
        // The sweep alone takes it all.
        assert_eq!(nights(&need, BudgetSettings { max_requests: Some(10), ..free }), None);
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
