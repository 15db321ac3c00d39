//! What the server has done so far: the numbers a test or a demo asserts on.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::limits::Bucket;

/// A number for each rate-limit bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PerBucket {
    /// `/api/...`, apart from resolve-cache.
    pub api: u64,
    /// `/resolve/`, `/raw/` and `/api/resolve-cache/`.
    pub resolvers: u64,
    /// Everything else.
    pub pages: u64,
}

impl PerBucket {
    pub(crate) fn of(&mut self, bucket: Bucket) -> &mut u64 {
        match bucket {
            Bucket::Api => &mut self.api,
            Bucket::Resolvers => &mut self.resolvers,
            Bucket::Pages => &mut self.pages,
        }
    }
}

/// Faults that were really shown to a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FaultCounts {
    /// 500, 502, 503 or 504, heavy pages included.
    pub error_5xx: u64,
    /// Bodies cut short.
    pub truncate: u64,
    /// Ranges ignored.
    pub ignore_range: u64,
    /// 403 before the address had expired.
    pub expire: u64,
    /// 429 without RateLimit headers.
    pub too_many: u64,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests to the hub origin, the refused ones included, without the edge's 429.
    pub requests: PerBucket,
    /// Requests to the CDN origin.
    pub cdn_requests: u64,
    /// Bytes of file content handed to the network, by either origin.
    pub bytes_sent: u64,
    /// 429 answered by the rate limiter.
    pub too_many_requests: u64,
    /// Most requests that any one client sent within one window, the refused ones included.
    pub max_in_window: PerBucket,
    /// Faults by kind.
    pub faults: FaultCounts,
}

/// The shared, growing version of [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counters>);

impl Tally {
    pub(crate) fn add(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn read(&self) -> Counters {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
