//! What the server has done so far: the numbers a test or a demo asserts on.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::bucket::PerBucket;

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

/// What clients sent to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Files whose content came, by an upload of their own or within a commit; those that were
    /// refused included.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits made.
    pub commits: u64,
}

impl Received {
    pub(crate) fn count(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
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
    /// What came in by writing.
    pub received: Received,
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
