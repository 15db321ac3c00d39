//! What the server has done so far: the numbers a test or a demo asserts on.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::{Shared, reply};

use super::limits::Bucket;

/// Something, by default a number, for each rate-limit bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PerBucket<T = u64> {
    /// `/api/...`, apart from resolve-cache.
    pub api: T,
    /// `/resolve/`, `/raw/` and `/api/resolve-cache/`.
    pub resolvers: T,
    /// Everything else.
    pub pages: T,
}

impl<T> PerBucket<T> {
    pub(crate) fn of(&mut self, bucket: Bucket) -> &mut T {
        match bucket {
            Bucket::Api => &mut self.api,
            Bucket::Resolvers => &mut self.resolvers,
            Bucket::Pages => &mut self.pages,
        }
    }

    pub(crate) fn map<U>(&self, change: impl Fn(&T) -> U) -> PerBucket<U> {
        let Self { api, resolvers, pages } = self;
        PerBucket { api: change(api), resolvers: change(resolvers), pages: change(pages) }
    }
}

/// Where scripts ask for the counters; no part of the Hub, and itself not counted.
pub(super) const ADDRESS: &str = "/_hubprint/counters";

/// `GET /_hubprint/counters`: the totals, and the windows of each bucket.
pub(super) async fn serve(State(shared): State<Arc<Shared>>) -> Response {
    let (totals, windows) = (shared.tally.read(), shared.limiter.windows());
    reply::json(StatusCode::OK, &json!({ "totals": totals, "windows": windows }))
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
