//! The way in to a host: waits while its [`Breaker`] is open.
//!
//! The Hub's origin is one host, each CDN host is one, whatever its port. CDN hosts come from the
//! Hub's answers, so only a bounded number is remembered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;
use url::Url;

use super::breaker::{Breaker, BreakerSettings, Entry, Outlook};

/// Most CDN hosts remembered. The public Hub has six.
const MAX_HOSTS: usize = 64;

/// The gates of all hosts.
#[derive(Debug)]
pub(crate) struct Gates {
    settings: BreakerSettings,
    hub: Arc<Gate>,
    cdns: Mutex<Cdns>,
}

#[derive(Debug)]
struct Cdns {
    seeds: ChaCha8Rng,
    by_host: HashMap<String, Arc<Gate>>,
}

impl Gates {
    pub(crate) fn new(endpoint: &Url, settings: BreakerSettings, mut seeds: ChaCha8Rng) -> Self {
        let hub = Gate::new(host(endpoint), settings, &mut seeds);
        Self { settings, hub, cdns: Mutex::new(Cdns { seeds, by_host: HashMap::new() }) }
    }

    pub(crate) fn hub(&self) -> Arc<Gate> {
        Arc::clone(&self.hub)
    }

    pub(crate) fn cdn(&self, url: &Url) -> Arc<Gate> {
        let mut cdns = self.cdns.lock().unwrap_or_else(PoisonError::into_inner); // whole between statements
        let Cdns { seeds, by_host } = &mut *cdns;
        let name = host(url);
        if let Some(gate) = by_host.get(&name) {
            return Arc::clone(gate);
        }
        if by_host.len() >= MAX_HOSTS {
            by_host.clear(); // what is forgotten is learnt again
        }
        let gate = Gate::new(name.clone(), self.settings, seeds);
        by_host.insert(name, Arc::clone(&gate));
        gate
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// The way in to one host.
#[derive(Debug)]
pub(crate) struct Gate {
    host: String,
    breaker: Mutex<Breaker>,
    changed: Notify,
}

/// A host that is given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Down {
    /// Since when nothing but probes is sent to it.
    pub(crate) since: DateTime<Utc>,
}

impl Gate {
    fn new(host: String, settings: BreakerSettings, seeds: &mut ChaCha8Rng) -> Arc<Self> {
        let rng = ChaCha8Rng::seed_from_u64(seeds.random());
        Arc::new(Self { host, breaker: Mutex::new(Breaker::new(settings, rng)), changed: Notify::new() })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Waits until a request may be let in. Others may be faster, so [`Gate::enter`] decides. Also
    /// returns the time spent waiting.
    pub(crate) async fn clear(&self) -> (Result<(), Down>, Duration) {
        let mut waited = Duration::ZERO;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable(); // before looking, or a change in between is missed
            let now = Instant::now();
            let outlook = self.breaker().look(now);
            match outlook {
                Outlook::Clear => return (Ok(()), waited),
                Outlook::Down { since } => {
                    let since = Utc::now() - now.saturating_duration_since(since);
                    return (Err(Down { since }), waited);
                }
                Outlook::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = changed => {}
                },
            }
            waited += now.elapsed();
        }
    }

    /// Lets one request in, if the breaker allows it.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let entry = self.breaker().enter(Instant::now())?;
        Some(Pass { gate: Arc::clone(self), entry, settled: false })
    }

    /// Whether requests are held back at present.
    pub(crate) fn is_shut(&self) -> bool {
        self.breaker().is_open()
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Each method of the breaker leaves it whole, so a panic elsewhere has not broken it.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send one request to a host.
#[derive(Debug)]
#[must_use = "a pass that is dropped counts as a request of unknown outcome"]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    entry: Entry,
    settled: bool,
}

impl Pass {
    /// The host answered.
    pub(crate) fn succeeded(mut self) {
        self.settled = true;
        if self.gate.breaker().succeeded() {
            tracing::info!(host = self.gate.host, "{} is back", self.gate.host);
            self.gate.changed.notify_waiters();
        }
    }

    /// The host failed. Whether that was one failure too many.
    pub(crate) fn failed(mut self) -> bool {
        self.settled = true;
        let opened = self.gate.breaker().failed(Instant::now(), self.entry);
        if opened {
            tracing::warn!(host = self.gate.host, "{} is down: requests to it wait", self.gate.host);
        }
        self.gate.changed.notify_waiters();
        opened
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.settled {
            self.gate.breaker().lost(self.entry);
            self.gate.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn gates(give_up: Duration) -> Gates {
        let (pause, longest_pause) = (Duration::from_millis(20), Duration::from_millis(40));
        let settings = BreakerSettings { failures: 1, pause, longest_pause, give_up };
        Gates::new(&url("https://hub"), settings, ChaCha8Rng::seed_from_u64(42))
    }

    #[test]
    fn hosts_have_gates_of_their_own_and_their_number_is_bounded() {
        let gates = gates(Duration::MAX);
        let one = gates.cdn(&url("https://cdn-1/f"));
        assert!(Arc::ptr_eq(&one, &gates.cdn(&url("https://cdn-1:8443/g"))));
        assert!(one.enter().unwrap().failed());
        assert!(one.is_shut() && !gates.hub().is_shut() && !gates.cdn(&url("https://cdn-2/")).is_shut());
        for n in 0..1000 {
            let _ = gates.cdn(&url(&format!("https://cdn-{n}/")));
        }
        assert!(gates.cdns.lock().unwrap().by_host.len() <= MAX_HOSTS);
    }

    #[tokio::test]
    async fn waiters_pass_when_the_probe_succeeds() {
        let gate = gates(Duration::MAX).hub();
        assert!(gate.enter().unwrap().failed());
        assert!(gate.enter().is_none());
        gate.clear().await.0.unwrap();
        let probe = gate.enter().unwrap();
        let waiter = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.clear().await.0 }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished() && gate.enter().is_none(), "one probe at a time");
        drop(probe); // cancelled
        gate.clear().await.0.unwrap();
        gate.enter().unwrap().succeeded();
        assert_eq!(waiter.await.unwrap(), Ok(()));
        assert!(!gate.is_shut());
    }

    #[tokio::test]
    async fn waiters_fail_when_the_host_is_given_up() {
        let gate = gates(Duration::from_millis(30)).hub();
        assert!(gate.enter().unwrap().failed());
        gate.clear().await.0.unwrap();
        let probe = gate.enter().unwrap(); // hangs
        let (clear, waited) = gate.clear().await;
        assert!(clear.unwrap_err().since < Utc::now() && !waited.is_zero());
        drop(probe);
    }
}
