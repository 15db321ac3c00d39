//! When to try again, and for how long in total: a [`Budget`] is one operation's allowance.
//!
//! Ordinary failures (overload, broken connections, timeouts, cut bodies) share a small number of
//! retries with exponential back-off and full jitter. Refusals by the rate limit are no failures:
//! they wait out the window the server states and have their own, larger allowance. Everything
//! else is final. While a host is down its breaker decides when to try again, and its failures cost
//! nothing here. The budget decides; it neither sleeps nor logs.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::error::HubError;
use super::error_kind::{HubErrorKind, Phase};

/// How patient one operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Retries after ordinary failures.
    pub retries: u32,
    /// Upper bound of the first pause; doubles with each retry.
    pub base: Duration,
    /// Upper bound of any pause that the server has not asked for.
    pub cap: Duration,
    /// Waits for a rate limit, which do not count as retries.
    pub rate_waits: u32,
    /// Longest wait the server may ask for. A longer one fails the operation at once.
    pub longest_wait: Duration,
}

impl Default for RetrySettings {
    /// Five retries within about a minute; twelve windows, which is an hour on the real Hub.
    fn default() -> Self {
        Self {
            retries: 5,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            rate_waits: 12,
            longest_wait: Duration::from_mins(15),
        }
    }
}

/// What is left of one operation's patience.
#[derive(Debug)]
pub(crate) struct Budget {
    settings: RetrySettings,
    rng: ChaCha8Rng,
    started: Instant,
    failures: u32,
    rate_waits: u32,
    excused: u32,
    waited: Duration,
}

/// How a failure is retried.
enum Retry {
    Never,
    Ordinary,
    RateLimit(Option<Duration>),
}

impl Budget {
    pub(crate) fn new(settings: RetrySettings, rng: ChaCha8Rng) -> Self {
        let (started, waited) = (Instant::now(), Duration::ZERO);
        Self { settings, rng, started, failures: 0, rate_waits: 0, excused: 0, waited }
    }

    /// The pause before the next attempt, or `None` when this failure is final.
    pub(crate) fn next(&mut self, error: &HubError) -> Option<Duration> {
        if error.host_is_down() && is_of_the_host(error.kind()) {
            self.excused += 1;
            return Some(Duration::ZERO); // the next attempt waits for the host
        }
        match retry(error.kind()) {
            Retry::Never => None,
            Retry::Ordinary => {
                self.failures += 1;
                (self.failures <= self.settings.retries).then(|| self.backoff(self.failures))
            }
            Retry::RateLimit(reset) => {
                self.rate_waits += 1;
                if self.rate_waits > self.settings.rate_waits {
                    return None;
                }
                let pause = match reset {
                    Some(reset) if reset > self.settings.longest_wait => return None,
                    // `t` is rounded to seconds; the jitter keeps many clients apart.
                    Some(reset) => reset + Duration::from_millis(1000 + self.rng.random_range(0..250)),
                    None => self.backoff(self.rate_waits),
                };
                self.waited += pause;
                Some(pause)
            }
        }
    }

    /// The error as the operation's last word: with attempts, elapsed and waited time.
    pub(crate) fn sum_up(&self, error: HubError) -> HubError {
        let waits = self.rate_waits.min(self.settings.rate_waits);
        let retries = self.failures.min(self.settings.retries);
        error.after(1 + waits + retries + self.excused, self.started.elapsed(), self.waited)
    }

    /// Uniform in zero to `base * 2^(n-1)`, at most `cap`.
    fn backoff(&mut self, n: u32) -> Duration {
        let factor = 2_u32.saturating_pow(n.saturating_sub(1));
        let most = self.settings.base.saturating_mul(factor).min(self.settings.cap);
        most.mul_f64(self.rng.random_range(0.0..1.0))
    }
}

/// Whether a failure may be one of the host as a whole rather than of this request. A 500 is not among
/// them: it is how one broken repository shows, and the operation on it must come to an end.
fn is_of_the_host(kind: &HubErrorKind) -> bool {
    matches!(
        kind,
        HubErrorKind::Unreachable { .. }
            | HubErrorKind::Stalled { phase: Phase::Connect | Phase::Answer, .. }
            | HubErrorKind::Server { status: 502..=504 }
    )
}

fn retry(kind: &HubErrorKind) -> Retry {
    match kind {
        HubErrorKind::RateLimited { reset, .. } => Retry::RateLimit(*reset),
        HubErrorKind::Server { status: 408 | 500 | 502 | 503 | 504 }
        | HubErrorKind::Unreachable { .. }
        | HubErrorKind::Stalled { .. }
        | HubErrorKind::Truncated { .. }
        | HubErrorKind::Expired
        | HubErrorKind::RangeIgnored { .. }
        | HubErrorKind::WrongRange { .. } => Retry::Ordinary,
        _ => Retry::Never,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use reqwest::{StatusCode, header::HeaderMap};
    use url::Url;

    use super::*;
    use crate::hub::{
        error_kind::Missing,
        rate::Bucket,
        status::{Asked, meaning},
    };

    fn error(kind: HubErrorKind) -> HubError {
        HubError::new(&Url::parse("https://h/").unwrap(), kind)
    }

    fn budget() -> Budget {
        Budget::new(RetrySettings::default(), ChaCha8Rng::seed_from_u64(42))
    }

    fn limited(seconds: Option<u64>) -> HubError {
        let reset = seconds.map(Duration::from_secs);
        error(HubErrorKind::RateLimited { bucket: Bucket::Api, reset, waited: Duration::ZERO })
    }

    #[test]
    fn retried_statuses() {
        let asked = Asked { thing: Missing::File, with_token: true, bucket: Bucket::Resolvers };
        let retried: Vec<u16> = (100..=599)
            .filter(|code| {
                let status = StatusCode::from_u16(*code).unwrap();
                budget().next(&error(meaning(status, &HeaderMap::new(), asked))).is_some()
            })
            .collect();
        assert_eq!(retried, [408, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn ordinary_failures_run_out() {
        let mut budget = budget();
        let failure = || error(HubErrorKind::Server { status: 503 });
        for n in 0..5_u32 {
            let pause = budget.next(&failure()).unwrap();
            assert!(pause < Duration::from_secs(2_u64.pow(n)), "{n}: {pause:?}");
        }
        assert_eq!(budget.next(&failure()), None);
        assert_eq!(budget.sum_up(failure()).attempts(), 6);
    }

    #[test]
    fn stated_windows_are_waited_out_and_cost_no_retry() {
        let mut budget = budget();
        for _ in 0..12 {
            let pause = budget.next(&limited(Some(7))).unwrap();
            assert!((8.0..8.25).contains(&pause.as_secs_f64()), "{pause:?}");
        }
        assert!(budget.next(&error(HubErrorKind::Server { status: 500 })).is_some(), "retries are untouched");
        assert_eq!(budget.next(&limited(Some(7))), None, "but there is a cap");
        let end = budget.sum_up(limited(Some(7)));
        let HubErrorKind::RateLimited { waited, .. } = end.kind() else { panic!("{end}") };
        assert!(*waited >= Duration::from_secs(96));
        assert_eq!(end.attempts(), 14);
    }

    #[test]
    fn refusals_without_window_back_off() {
        let mut budget = budget();
        let pauses: Vec<_> = (0..12).map(|_| budget.next(&limited(None)).unwrap()).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(30)));
        assert!(pauses[5..].iter().any(|pause| *pause > Duration::from_secs(8)), "{pauses:?}");
    }

    #[test]
    fn failures_of_a_host_that_is_down_cost_nothing() {
        let mut budget = budget();
        let down = |status| error(HubErrorKind::Server { status }).while_host_is_down(true);
        for _ in 0..100 {
            assert_eq!(budget.next(&down(503)), Some(Duration::ZERO));
        }
        assert!((0..5).all(|_| budget.next(&down(500)).is_some()), "retries are untouched");
        assert_eq!(budget.next(&down(500)), None, "but one that may be of this request costs one");
        assert_eq!(budget.sum_up(down(500)).attempts(), 106);
    }

    #[test]
    fn absurd_waits_are_refused() {
        assert_eq!(budget().next(&limited(Some(86_400))), None);
    }

    #[test]
    fn the_seed_decides() {
        let pauses = |seed| {
            let mut budget = Budget::new(RetrySettings::default(), ChaCha8Rng::seed_from_u64(seed));
            [(); 4].map(|()| budget.next(&error(HubErrorKind::Server { status: 502 })))
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }
}
