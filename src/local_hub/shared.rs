//! What both origins know.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::StatusCode;
use axum::response::Response;

use super::catalogue::{Catalogue, DigestCache};
use super::counters::Tally;
use super::faults::Faults;
use super::heard::Heard;
use super::limits::Limiter;
use super::line::Line;
use super::reply;
use super::settings::Settings;
use super::signing::Signer;
use super::uploads::Store;

/// State of the server; of it the settings never change.
pub(crate) struct Shared {
    pub(super) settings: Settings,
    pub(super) folder: PathBuf,
    pub(super) digests: DigestCache,
    pub(super) catalogue: RwLock<Arc<Catalogue>>,
    /// What clients write, if they may.
    pub(super) store: Option<Arc<Store>>,
    pub(super) limiter: Limiter,
    pub(super) line: Arc<Line>,
    pub(super) faults: Faults,
    pub(super) signer: Signer,
    pub(super) tally: Arc<Tally>,
    pub(super) heard: Heard,
    pub(super) hub_url: String,
    pub(super) cdn_url: String,
}

impl Shared {
    /// The present snapshot.
    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// 429 from in front of the hub, where nobody knows of quotas.
    pub(super) fn edge_429(&self) -> Response {
        self.tally.add(|counters| counters.faults.too_many += 1);
        reply::html(StatusCode::TOO_MANY_REQUESTS, "<html><body>Too many requests</body></html>\n".to_owned())
    }

    pub(super) fn server_error(&self, status: StatusCode) -> Response {
        self.tally.add(|counters| counters.faults.error_5xx += 1);
        reply::html(status, format!("<html><body>{status}</body></html>\n"))
    }
}
