//! When to leave a host alone, without a clock of its own.
//!
//! After a number of failures in a row the breaker *opens*: nothing is sent to the host. After a
//! pause one request goes as a *probe*. Its success closes the breaker, its failure doubles the
//! pause. A host that has been down for longer than `give_up` is given up: whoever waits fails at
//! once, and so does every later request but for the one that is due as a probe, so that a host
//! that comes back is noticed.
//!
//! Only failures of the host as a whole count: no connection, no answer in time, 5xx. Any other
//! answer is a success, whatever it says.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// When a host is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row after which nothing more is sent, at least one.
    pub failures: u32,
    /// Time until the first probe, more than zero; doubles with each probe that fails.
    pub pause: Duration,
    /// Longest time between probes, up to a quarter of jitter not counted.
    pub longest_pause: Duration,
    /// Time after which a host that is down fails its requests with
    /// [`HubErrorKind::HostDown`](super::HubErrorKind::HostDown) instead of making them wait.
    pub give_up: Duration,
}

impl Default for BreakerSettings {
    /// Eight failures; five seconds to five minutes; given up after a quarter of an hour.
    fn default() -> Self {
        Self {
            failures: 8,
            pause: Duration::from_secs(5),
            longest_pause: Duration::from_mins(5),
            give_up: Duration::from_mins(15),
        }
    }
}

impl BreakerSettings {
    /// What makes them unusable.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.failures == 0 {
            Some("`failures` is zero")
        } else if self.pause.is_zero() {
            Some("`pause` is zero") // a host that is down would be probed without end
        } else if self.longest_pause < self.pause {
            Some("`longest_pause` is shorter than `pause`")
        } else {
            None
        }
    }
}

/// The state of one host.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    rng: ChaCha8Rng,
    /// Failures in a row while closed.
    failures: u32,
    /// Times it opened.
    openings: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// Before jitter.
    pause: Duration,
    probe_due: Instant,
    probing: bool,
}

/// A request that was let in; as a probe of which opening, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    probe_of: Option<u64>,
}

/// What a request has to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It may enter now.
    Clear,
    /// Look again at this time, or when something has changed.
    Wait(Instant),
    /// The host is given up.
    Down {
        /// When the breaker opened.
        since: Instant,
    },
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings, rng: ChaCha8Rng) -> Self {
        Self { settings, rng, failures: 0, openings: 0, open: None }
    }

    /// What a request has to expect. Reserves nothing.
    pub(crate) fn look(&self, now: Instant) -> Outlook {
        let Some(open) = &self.open else { return Outlook::Clear };
        if !open.probing && now >= open.probe_due {
            return Outlook::Clear;
        }
        let given_up = after(open.since, self.settings.give_up);
        if now >= given_up {
            return Outlook::Down { since: open.since };
        }
        Outlook::Wait(if open.probing { given_up } else { given_up.min(open.probe_due) })
    }

    /// Lets a request in if the outlook is clear. Exactly one of [`Breaker::succeeded`],
    /// [`Breaker::failed`], [`Breaker::lost`] must follow.
    pub(crate) fn enter(&mut self, now: Instant) -> Option<Entry> {
        if self.look(now) != Outlook::Clear {
            return None;
        }
        let openings = self.openings;
        let probe_of = self.open.as_mut().map(|open| {
            open.probing = true;
            openings
        });
        Some(Entry { probe_of })
    }

    /// Whether this is the probe that is awaited, rather than a request from before the breaker
    /// opened, or the late probe of an opening that is over.
    fn is_probe(&self, entry: Entry) -> bool {
        self.open.is_some() && entry.probe_of == Some(self.openings)
    }

    /// The host answered. Whether that closed the breaker.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// The host failed. Whether that opened the breaker.
    pub(crate) fn failed(&mut self, now: Instant, entry: Entry) -> bool {
        let probe = self.is_probe(entry);
        match &mut self.open {
            Some(_) if !probe => false, // that is known
            Some(open) => {
                open.pause = open.pause.saturating_mul(2).min(self.settings.longest_pause);
                open.probe_due = after(now, jittered(open.pause, &mut self.rng));
                open.probing = false;
                false
            }
            None => {
                self.failures += 1;
                if self.failures < self.settings.failures {
                    return false;
                }
                (self.failures, self.openings) = (0, self.openings + 1);
                let pause = self.settings.pause;
                let probe_due = after(now, jittered(pause, &mut self.rng));
                self.open = Some(Open { since: now, pause, probe_due, probing: false });
                true
            }
        }
    }

    /// The request was given up by its caller, so nothing is known.
    pub(crate) fn lost(&mut self, entry: Entry) {
        let probe = self.is_probe(entry);
        if let Some(open) = &mut self.open {
            open.probing &= !probe;
        }
    }

    /// Whether requests are held back.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// One to one and a quarter times the pause.
fn jittered(pause: Duration, rng: &mut ChaCha8Rng) -> Duration {
    pause.saturating_add((pause / 4).mul_f64(rng.random_range(0.0..1.0)))
}

/// A time that is never reached stands for one that cannot be represented.
fn after(time: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    time.checked_add(wait).unwrap_or_else(|| time + FAR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    const REQUEST: Entry = Entry { probe_of: None };
    const PROBE: Entry = Entry { probe_of: Some(1) };
    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings::default(), ChaCha8Rng::seed_from_u64(42))
    }

    /// A breaker that has opened just now.
    fn open() -> (Breaker, Instant) {
        let (mut breaker, now) = (breaker(), Instant::now());
        let opened: Vec<bool> = (0..8).map(|_| breaker.failed(now, REQUEST)).collect();
        assert_eq!(opened.iter().position(|opened| *opened), Some(7));
        (breaker, now)
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..5 {
            assert!((0..7).all(|_| !breaker.failed(now, REQUEST)));
            assert!(!breaker.succeeded());
        }
        assert_eq!(breaker.enter(now), Some(REQUEST));
    }

    #[test]
    fn one_probe_after_the_pause() {
        let (mut breaker, now) = open();
        let Outlook::Wait(due) = breaker.look(now) else { panic!("{breaker:?}") };
        assert!(due >= now + 5 * SECOND && due < now + 7 * SECOND);
        assert_eq!(breaker.enter(now + 4 * SECOND), None);
        assert_eq!(breaker.enter(due), Some(PROBE));
        assert_eq!(breaker.enter(due), None);
        breaker.lost(PROBE);
        assert_eq!(breaker.enter(due), Some(PROBE), "a cancelled probe is replaced");
        assert!(!breaker.failed(due, REQUEST), "a straggler");
        assert_eq!(breaker.enter(due), None, "is not the probe");
        assert!(breaker.succeeded());
        assert_eq!((breaker.enter(due), breaker.is_open()), (Some(REQUEST), false));
        for _ in 0..8 {
            breaker.failed(due, REQUEST);
        }
        let Outlook::Wait(due) = breaker.look(due) else { panic!("{breaker:?}") };
        let probe = breaker.enter(due).unwrap();
        breaker.lost(PROBE);
        assert_eq!(breaker.enter(due), None, "that was the probe of the first opening");
        breaker.lost(probe);
        assert!(breaker.enter(due).is_some());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut breaker, mut now) = open();
        breaker.settings.give_up = Duration::MAX;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let Outlook::Wait(due) = breaker.look(now) else { panic!("{breaker:?}") };
            pauses.push((due - now).as_secs_f64());
            now = due;
            assert_eq!(breaker.enter(now), Some(PROBE));
            breaker.failed(now, PROBE);
        }
        let expected = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0];
        assert!(
            pauses.iter().zip(expected).all(|(got, base)| (base..=base * 1.25).contains(got)),
            "{pauses:?}"
        );
        assert_ne!(pauses[6], pauses[7], "jitter");
    }

    #[test]
    fn a_host_that_stays_down_is_given_up_and_still_probed() {
        let (mut breaker, began) = open();
        let late = began + Duration::from_mins(15);
        assert_eq!(breaker.look(late), Outlook::Clear, "the probe is long due");
        assert_eq!(breaker.enter(late), Some(PROBE));
        assert_eq!(breaker.look(late), Outlook::Down { since: began });
        assert_eq!(breaker.look(began + 899 * SECOND), Outlook::Wait(late), "waiters wake to be told");
        breaker.failed(late, PROBE);
        assert_eq!(breaker.look(late), Outlook::Down { since: began });
        assert_eq!(breaker.enter(late + 13 * SECOND), Some(PROBE));
        breaker.succeeded();
        assert_eq!(breaker.look(late), Outlook::Clear);
    }

    #[test]
    fn settings_that_cannot_work() {
        let good = BreakerSettings::default();
        assert_eq!(good.fault(), None);
        for bad in [
            BreakerSettings { failures: 0, ..good },
            BreakerSettings { pause: Duration::ZERO, ..good },
            BreakerSettings { longest_pause: SECOND, ..good },
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }

    proptest! {
        /// Requests come and go at random. While it is open at most one is let in at a time, never
        /// before the pause is over; it opens after exactly the failures set; and waiting ends.
        #[test]
        fn plays(failures in 1..10_u32, seed in any::<u64>(), events in proptest::collection::vec((0..4_u8, 0..20_000_u64), 1..300)) {
            let settings = BreakerSettings { failures, ..BreakerSettings::default() };
            let mut breaker = Breaker::new(settings, ChaCha8Rng::seed_from_u64(seed));
            let mut now = Instant::now();
            let (mut inside, mut row, mut quiet_until) = (Vec::new(), 0, now);
            for (event, ms) in events {
                now += Duration::from_millis(ms);
                let was_open = breaker.is_open();
                match (event, inside.pop()) {
                    (1, Some(_)) => {
                        prop_assert_eq!(breaker.succeeded(), was_open);
                        row = 0;
                    }
                    (2, Some(entry)) => {
                        let probe = breaker.is_probe(entry);
                        let opened = breaker.failed(now, entry);
                        row = if was_open { 0 } else { row + 1 };
                        prop_assert_eq!(opened, row == failures);
                        if opened || probe {
                            (row, quiet_until) = (0, now + settings.pause);
                        }
                    }
                    (3, Some(entry)) => breaker.lost(entry),
                    (_, back) => {
                        inside.extend(back);
                        let outlook = breaker.look(now);
                        let entered = breaker.enter(now);
                        prop_assert_eq!(entered.is_some(), outlook == Outlook::Clear);
                        if let Outlook::Wait(until) = outlook {
                            prop_assert!(until > now && until <= now + settings.give_up);
                        }
                        if let Some(entry) = entered {
                            prop_assert_eq!(breaker.is_probe(entry), was_open);
                            prop_assert!(!was_open || now >= quiet_until, "probed too early");
                            inside.push(entry);
                        }
                        let probes = inside.iter().filter(|entry| breaker.is_probe(**entry)).count();
                        prop_assert!(probes <= 1, "{} probes", probes);
                    }
                }
            }
        }
    }
}
