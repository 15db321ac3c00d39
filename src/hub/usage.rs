//! What a client has cost so far: requests, bytes, retries, waiting.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{error::HubError, error_kind::HubErrorKind, rate::Bucket, settings::Parallel};

/// Totals since the client was built, over all its clones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Requests sent, redirects and retries included, by bucket.
    pub requests: Requests,
    /// Bytes of bodies received.
    pub bytes_received: u64,
    /// Attempts made again, by the failure before.
    pub retries: Retries,
    /// Signed URLs that no longer served the file, each followed by a new resolve.
    pub expired_urls: u64,
    /// Ranged requests that were answered with the whole file.
    pub ranges_ignored: u64,
    /// Time requests were held back by rate limits, summed over concurrent operations.
    pub waited_for_rate: Duration,
    /// Times a host failed so often in a row that requests to it were held back.
    pub breaker_openings: u64,
    /// Time requests waited for such a host to come back, summed over concurrent operations.
    pub waited_for_host: Duration,
    /// Times the number of requests in flight was reduced, because the host did not bear it.
    pub limit_decreases: u64,
    /// Requests that may be in flight at present.
    pub limits: Parallel,
}

/// Requests sent, by bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Requests {
    /// API.
    pub api: u64,
    /// Files on the Hub.
    pub resolvers: u64,
    /// Other requests to the Hub.
    pub pages: u64,
    /// CDN.
    pub cdn: u64,
}

/// Attempts made again, by the failure before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Retries {
    /// 429.
    pub rate_limited: u64,
    /// 5xx and 408.
    pub server: u64,
    /// No connection, or a broken one.
    pub unreachable: u64,
    /// Timeouts.
    pub stalled: u64,
    /// Bodies that ended early.
    pub cut_body: u64,
}

impl Requests {
    /// Those that the Hub itself answers and counts.
    pub fn to_hub(&self) -> u64 {
        self.api + self.resolvers + self.pages
    }
}

/// The running totals.
#[derive(Debug, Default)]
pub(crate) struct SharedUsage(Mutex<Usage>);

impl SharedUsage {
    /// The totals; the limits at present are the caller's to add.
    pub(crate) fn snapshot(&self, limits: Parallel) -> Usage {
        Usage { limits, ..self.lock().clone() }
    }

    pub(crate) fn request(&self, bucket: Bucket) {
        let requests = &mut self.lock().requests;
        *match bucket {
            Bucket::Api => &mut requests.api,
            Bucket::Resolvers => &mut requests.resolvers,
            Bucket::Pages => &mut requests.pages,
            Bucket::Cdn => &mut requests.cdn,
        } += 1;
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.lock().bytes_received += bytes as u64;
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.lock().waited_for_rate += time;
    }

    pub(crate) fn waited_for_host(&self, time: Duration) {
        self.lock().waited_for_host += time;
    }

    pub(crate) fn breaker_opened(&self) {
        self.lock().breaker_openings += 1;
    }

    pub(crate) fn limit_decreased(&self) {
        self.lock().limit_decreases += 1;
    }

    pub(crate) fn expired_url(&self) {
        self.lock().expired_urls += 1;
    }

    pub(crate) fn range_ignored(&self) {
        self.lock().ranges_ignored += 1;
    }

    /// An attempt is made again after `pause`.
    pub(crate) fn retry(&self, after: &HubError, pause: Duration) {
        let mut usage = self.lock();
        let retries = &mut usage.retries;
        match after.kind() {
            HubErrorKind::RateLimited { .. } => {
                retries.rate_limited += 1;
                usage.waited_for_rate += pause;
            }
            HubErrorKind::Server { .. } => retries.server += 1,
            HubErrorKind::Unreachable { .. } => retries.unreachable += 1,
            HubErrorKind::Stalled { .. } => retries.stalled += 1,
            HubErrorKind::Truncated { .. } => retries.cut_body += 1,
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // numbers cannot be half written
    }
}
