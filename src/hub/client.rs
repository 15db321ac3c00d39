//! The client itself: a handle to shared connections. Its operations are one file each.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    allowance::Allowance,
    capability::Capabilities,
    http::Http,
    rate::{Bucket, RateOf},
    settings::{HubSettings, SettingsError},
    usage::Usage,
};

/// A Hub. Clones share connections, rate limits, what is known of the endpoint, and the counters,
/// so one process should make one and clone it.
///
/// ```no_run
/// use futures_util::TryStreamExt as _;
/// use hubprint::hub::{Hub, HubSettings, ListQuery};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new(HubSettings::from_env(|name| std::env::var(name).ok())?)?;
/// let query = ListQuery { filters: vec!["safetensors".into()], ..ListQuery::default() };
/// let mut pages = std::pin::pin!(hub.list(query));
/// while let Some(page) = pages.try_next().await? {
///     for repo in &page.repos {
///         let Some(sha) = &repo.sha else { continue };
///         let file = hub.open(&repo.id, sha, "model.safetensors").await?;
///         let head = hub.read_range(&file, 0..file.size().min(65_536)).await?;
///         assert_eq!(head.len() as u64, file.size().min(65_536));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Hub {
    pub(crate) http: Arc<Http>,
    learnt: Arc<Mutex<Capabilities>>,
}

impl Hub {
    /// Builds a client. Sends nothing.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings contradict themselves or TLS cannot be set up.
    pub fn new(settings: HubSettings) -> Result<Self, SettingsError> {
        let learnt = Arc::new(Mutex::new(settings.capabilities));
        Ok(Self { http: Arc::new(Http::new(settings)?), learnt })
    }

    /// The settings it was built from.
    pub fn settings(&self) -> &HubSettings {
        self.http.settings()
    }

    /// Requests, bytes, retries and waiting so far.
    pub fn usage(&self) -> Usage {
        self.http.usage().snapshot(self.http.limits())
    }

    /// Limits what this client and its clones cost from now on. What is over the limit ends as
    /// [`HubErrorKind::Spent`](super::HubErrorKind::Spent).
    pub fn allow(&self, allowance: Allowance) {
        self.http.quota().fill(allowance);
    }

    /// How many requests for files the Hub allows, as far as its answers have said so.
    pub fn rate_of_resolvers(&self) -> Option<RateOf> {
        self.http.rate(Bucket::Resolvers)
    }

    /// What is known of the endpoint so far; worth saving for the next run.
    pub fn capabilities(&self) -> Capabilities {
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn learn_ranges(&self) {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).ranges = Some(true);
    }

    pub(crate) fn learn_resolve_cache(&self, works: bool) {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).resolve_cache = Some(works);
    }
}
