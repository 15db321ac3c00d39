//! The rate limiter: fixed windows, one for each bucket and client.
//!
//! A window opens with the first request of a client and closes `window_seconds` later. Every
//! request counts, refused ones too, and every answer says what is left. The headers speak of whole
//! seconds: what is left of a window and its length are rounded up there, and the length is at least 1.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header::HeaderName};

use super::bucket::{Bucket, PerBucket};
use super::history::{History, WindowCount};
use super::settings::RateLimits;

/// Announced where there is no limit: clients that plan with the header never slow down.
const UNLIMITED: u64 = 1_000_000_000;
/// Clients whose windows are kept; beyond it the closed ones are forgotten.
const MAX_WINDOWS: usize = 10_000;

/// What the answer to one request says about its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaState {
    pub(crate) bucket: Bucket,
    pub(crate) granted: bool,
    pub(crate) left: u64,
    /// Seconds to the end of the window, rounded up.
    pub(crate) reset: u64,
    pub(crate) limit: u64,
    /// Length of the window in seconds, rounded up.
    pub(crate) window: u64,
    /// Requests of this client in this window, this one included.
    pub(crate) seen: u64,
}

impl QuotaState {
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let name = self.bucket.name();
        let rows = [
            ("ratelimit", format!("\"{name}\";r={};t={}", self.left, self.reset)),
            ("ratelimit-policy", format!("\"fixed window\";\"{name}\";q={};w={}", self.limit, self.window)),
        ];
        for (header, text) in rows {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(HeaderName::from_static(header), value);
            }
        }
    }
}

#[derive(Debug)]
struct Window {
    opened: Instant,
    seen: u64,
    /// Its number in the history of the bucket.
    number: u64,
}

/// The windows that are open, and all that were.
#[derive(Debug, Default)]
struct Windows {
    open: HashMap<(Bucket, String), Window>,
    history: PerBucket<History>,
}

#[derive(Debug)]
pub(crate) struct Limiter {
    limits: RateLimits,
    length: Duration,
    started: Instant,
    windows: Mutex<Windows>,
}

impl Limiter {
    pub(crate) fn new(limits: RateLimits) -> Self {
        // The settings were checked: there is such a duration.
        let length = Duration::try_from_secs_f64(limits.window_seconds).unwrap_or(Duration::MAX);
        Self { limits, length, started: Instant::now(), windows: Mutex::default() }
    }

    /// The windows so far, the latest of each bucket.
    pub(crate) fn windows(&self) -> PerBucket<Vec<WindowCount>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).history.map(History::list)
    }

    /// Counts a request of `client`; one that is `free` only reads the state of the window.
    pub(crate) fn take(&self, bucket: Bucket, client: &str, free: bool, now: Instant) -> QuotaState {
        let limit = match bucket {
            Bucket::Api => self.limits.api,
            Bucket::Resolvers => self.limits.resolvers,
            Bucket::Pages => self.limits.pages,
        };
        let limit = if limit == 0 { UNLIMITED } else { limit };

        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Windows { open, history } = &mut *windows;
        let history = history.of(bucket);
        let is_open = |window: &Window| now.duration_since(window.opened) < self.length;
        if open.len() >= MAX_WINDOWS {
            open.retain(|_, window| is_open(window));
        }
        let mut fresh = || {
            let start = now.duration_since(self.started).as_secs_f64();
            Window { opened: now, seen: 0, number: history.open(start) }
        };
        let window = open.entry((bucket, client.to_owned())).or_insert_with(&mut fresh);
        if !is_open(window) {
            *window = fresh();
        }
        window.seen += u64::from(!free);
        let granted = free || window.seen <= limit;
        if !free {
            history.count(window.number, granted);
        }
        QuotaState {
            bucket,
            granted,
            left: limit.saturating_sub(window.seen),
            reset: whole_seconds(self.length.saturating_sub(now.duration_since(window.opened))),
            limit,
            window: whole_seconds(self.length),
            seen: window.seen,
        }
    }
}

/// Rounded up, so that whoever waits so long has waited long enough.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_down_refuses_and_starts_again() {
        let limiter = Limiter::new(RateLimits { api: 2, window_seconds: 10.0, ..RateLimits::default() });
        let start = Instant::now();
        let at = |seconds| limiter.take(Bucket::Api, "ip", false, start + Duration::from_secs(seconds));
        let seen: Vec<_> = [0, 1, 9, 10].map(at).iter().map(|q| (q.granted, q.left, q.reset)).collect();
        assert_eq!(seen, [(true, 1, 10), (true, 0, 9), (false, 0, 1), (true, 1, 10)]);
    }

    #[test]
    fn windows_shorter_than_a_second_are_announced_in_whole_ones_and_remembered() {
        let limiter = Limiter::new(RateLimits { api: 2, window_seconds: 0.25, ..RateLimits::default() });
        let start = limiter.started;
        let at = |millis| limiter.take(Bucket::Api, "ip", false, start + Duration::from_millis(millis));
        let taken = [0, 10, 249, 500, 760].map(at);
        assert_eq!(taken.map(|quota| quota.granted), [true, true, false, true, true]);
        assert!(taken.iter().all(|quota| (quota.reset, quota.window) == (1, 1)));
        assert!(limiter.take(Bucket::Pages, "ip", true, start).granted);

        let counted = |start, admitted, refused| WindowCount { start, admitted, refused };
        let windows = limiter.windows();
        assert_eq!(windows.api, [counted(0.0, 2, 1), counted(0.5, 1, 0), counted(0.76, 1, 0)]);
        assert_eq!(windows.pages, [counted(0.0, 0, 0)], "a free request opens a window and counts in none");
        assert_eq!(windows.resolvers, []);
    }

    #[test]
    fn clients_and_buckets_are_apart_and_free_requests_are_free() {
        let limiter = Limiter::new(RateLimits { api: 1, ..RateLimits::default() });
        let now = Instant::now();
        assert!(limiter.take(Bucket::Api, "a", false, now).granted);
        assert!(limiter.take(Bucket::Api, "a", true, now).granted);
        assert!(limiter.take(Bucket::Api, "b", false, now).granted);
        assert!(!limiter.take(Bucket::Api, "a", false, now).granted);
        assert_eq!(limiter.take(Bucket::Pages, "a", false, now).limit, UNLIMITED);
    }
}
