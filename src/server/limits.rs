//! The rate limiter: fixed windows, one for each bucket and client.
//!
//! A window opens with the first request of a client and closes `window_seconds` later. Every
//! request counts, refused ones too, and every answer says what is left.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header::HeaderName};

use super::settings::Limits;

/// Announced where there is no limit: clients that plan with the header never slow down.
const UNLIMITED: u64 = 1_000_000_000;
/// Clients whose windows are kept; beyond it the closed ones are forgotten.
const MAX_WINDOWS: usize = 10_000;

/// The three quotas of the Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    Api,
    Resolvers,
    Pages,
}

impl Bucket {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Resolvers => "resolvers",
            Self::Pages => "pages",
        }
    }
}

/// What the answer to one request says about its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) bucket: Bucket,
    pub(crate) granted: bool,
    pub(crate) left: u64,
    /// Seconds to the end of the window, rounded up.
    pub(crate) reset: u64,
    pub(crate) limit: u64,
    pub(crate) window: u64,
    /// Requests of this client in this window, this one included.
    pub(crate) seen: u64,
}

impl Quota {
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
}

#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    windows: Mutex<HashMap<(Bucket, String), Window>>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, windows: Mutex::default() }
    }

    /// Counts a request of `client`; one that is `free` only reads the state of the window.
    pub(crate) fn take(&self, bucket: Bucket, client: &str, free: bool, now: Instant) -> Quota {
        let length = Duration::from_secs(self.limits.window_seconds);
        let limit = match bucket {
            Bucket::Api => self.limits.api,
            Bucket::Resolvers => self.limits.resolvers,
            Bucket::Pages => self.limits.pages,
        };
        let limit = if limit == 0 { UNLIMITED } else { limit };

        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_WINDOWS {
            windows.retain(|_, window| now.duration_since(window.opened) < length);
        }
        let window =
            windows.entry((bucket, client.to_owned())).or_insert_with(|| Window { opened: now, seen: 0 });
        if now.duration_since(window.opened) >= length {
            *window = Window { opened: now, seen: 0 };
        }
        window.seen += u64::from(!free);
        let left = (window.opened + length).saturating_duration_since(now);
        Quota {
            bucket,
            granted: free || window.seen <= limit,
            left: limit.saturating_sub(window.seen),
            reset: left.as_millis().div_ceil(1000) as u64,
            limit,
            window: self.limits.window_seconds,
            seen: window.seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_down_refuses_and_starts_again() {
        let limiter = Limiter::new(Limits { api: 2, window_seconds: 10, ..Limits::default() });
        let start = Instant::now();
        let at = |seconds| limiter.take(Bucket::Api, "ip", false, start + Duration::from_secs(seconds));
        let seen: Vec<_> = [0, 1, 9, 10].map(at).iter().map(|q| (q.granted, q.left, q.reset)).collect();
        assert_eq!(seen, [(true, 1, 10), (true, 0, 9), (false, 0, 1), (true, 1, 10)]);
    }

    #[test]
    fn clients_and_buckets_are_apart_and_free_requests_are_free() {
        let limiter = Limiter::new(Limits { api: 1, ..Limits::default() });
        let now = Instant::now();
        assert!(limiter.take(Bucket::Api, "a", false, now).granted);
        assert!(limiter.take(Bucket::Api, "a", true, now).granted);
        assert!(limiter.take(Bucket::Api, "b", false, now).granted);
        assert!(!limiter.take(Bucket::Api, "a", false, now).granted);
        assert_eq!(limiter.take(Bucket::Pages, "a", false, now).limit, UNLIMITED);
    }
}
