//! Admission to one bucket: waits until the [`Meter`] lets a request go.
//!
//! There is one governor per bucket of a [`super::Hub`], so one per token and bucket as long as
//! clones of one `Hub` are used. Waiters are served in the order they came. A [`Permit`] dropped
//! without an answer counts as a lost request.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    meter::{Meter, Verdict},
    rate::{RateLimit, RateOf},
};

/// Waits longer than this are logged.
const WORTH_A_LINE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Governor {
    name: &'static str,
    turn: tokio::sync::Mutex<()>,
    meter: Mutex<Meter>,
    changed: Notify,
}

impl Governor {
    pub(crate) fn new(name: &'static str, meter: Meter) -> Arc<Self> {
        let (turn, meter) = (tokio::sync::Mutex::default(), Mutex::new(meter));
        Arc::new(Self { name, turn, meter, changed: Notify::new() })
    }

    /// Waits for permission to send one request. Also returns the time spent waiting for a
    /// window or a slot in it; waiting for others' answers is not counted.
    pub(crate) async fn admit(self: &Arc<Self>) -> (Permit, Duration) {
        let _turn = self.turn.lock().await;
        let mut waited = Duration::ZERO;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable(); // before asking, or an answer in between is missed
            let now = Instant::now();
            let verdict = self.meter().ask(now);
            match verdict {
                Verdict::Go { probe } => {
                    let governor = Arc::clone(self);
                    return (Permit { governor, probe, settled: false }, waited);
                }
                Verdict::AfterAnswer => changed.await,
                Verdict::At(time) => {
                    let pause = time.saturating_duration_since(now);
                    if pause > WORTH_A_LINE && waited.is_zero() {
                        tracing::info!(
                            bucket = self.name,
                            seconds = pause.as_secs(),
                            "waiting for the rate limit of {}",
                            self.name
                        );
                    }
                    tokio::select! {
                        () = tokio::time::sleep_until(time.into()) => {}
                        () = changed => {}
                    }
                    waited += now.elapsed();
                }
            }
        }
    }

    /// Takes note of a limit stated in an answer to another bucket's request.
    pub(crate) fn observe(&self, limit: &RateLimit) {
        self.meter().observe(Instant::now(), limit);
        self.changed.notify_waiters();
    }

    /// The limit as last stated.
    pub(crate) fn stated(&self) -> Option<RateOf> {
        self.meter().stated()
    }

    /// Nothing is sent for this long.
    pub(crate) fn quiet(&self, pause: Duration) {
        self.meter().quiet(Instant::now() + pause);
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        // Each method of the meter leaves it whole, so a panic elsewhere has not broken it.
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send one request.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as a lost request"]
pub(crate) struct Permit {
    governor: Arc<Governor>,
    probe: bool,
    settled: bool,
}

impl Permit {
    /// The request was answered; see [`Meter::answered`].
    pub(crate) fn answered(mut self, limit: Option<&RateLimit>, decisive: bool) {
        self.settled = true;
        self.governor.meter().answered(Instant::now(), self.probe, limit, decisive);
        self.governor.changed.notify_waiters();
    }

    /// The request never reached the server.
    pub(crate) fn unsent(mut self) {
        self.settled = true;
        self.governor.meter().unsent(self.probe);
        self.governor.changed.notify_waiters();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.governor.meter().lost(self.probe);
            self.governor.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(remaining: u64, t: u64) -> RateLimit {
        RateLimit {
            name: "api".into(),
            remaining,
            resets_in: Duration::from_secs(t),
            quota: Some(3),
            window: Some(Duration::from_secs(1)),
        }
    }

    #[tokio::test]
    async fn one_probe_then_the_rest() {
        let governor = Governor::new("api", Meter::new(0.0));
        let (probe, _) = governor.admit().await;
        let mut second = tokio::spawn({
            let governor = Arc::clone(&governor);
            async move { governor.admit().await }
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(30), &mut second).await.is_err(),
            "waits for the probe"
        );
        probe.answered(Some(&limit(2, 60)), true);
        let (permit, _) = second.await.unwrap();
        permit.answered(Some(&limit(1, 60)), true);
    }

    #[tokio::test]
    async fn a_cancelled_probe_does_not_block_the_bucket() {
        let governor = Governor::new("api", Meter::new(0.0));
        drop(governor.admit().await);
        let (permit, waited) = governor.admit().await;
        assert_eq!(waited, Duration::ZERO);
        permit.unsent();
    }

    #[tokio::test]
    async fn sleeps_out_an_empty_window() {
        let governor = Governor::new("api", Meter::new(0.0));
        let (probe, _) = governor.admit().await;
        probe.answered(Some(&limit(0, 0)), true); // ends within the second
        let (_permit, waited) = governor.admit().await;
        assert!(waited >= Duration::from_millis(990), "{waited:?}");
    }
}
