//! The arithmetic of one rate-limit bucket, without a clock of its own.
//!
//! The limits are fixed windows of `q` requests, and every answer states how many are left and
//! when the window ends. The meter keeps a *lower bound* of what is left:
//!
//! * a request is subtracted before it is sent;
//! * an answer's `r` counts only after subtracting the requests still in flight, which the server
//!   may not have seen yet; within one window the bound never rises;
//! * until the first answer of a window one single request may be in flight, so that the limit is
//!   learnt before it can be exceeded;
//! * when little is left it is spread evenly over the rest of the window, and a hundredth of the
//!   quota is left to the other programs of the account.
//!
//! Invariant: as long as the server keeps its word and nobody else uses the account, it never
//! counts more than `q` of our requests in a window. A property test below plays this against a
//! simulated server.

use std::time::{Duration, Instant};

use super::rate::{RateLimit, RateOf};

/// The pace is slowed when less than one in `LOW` requests of the window is left.
const LOW: u64 = 5;

/// What counts as little when the server does not state its quota.
const LOW_OF_UNKNOWN: u64 = 100;

/// One in `SPARE` requests of each window is never used.
const SPARE: u64 = 100;

/// `t` is in whole seconds, possibly rounded down.
const ROUNDING: Duration = Duration::from_secs(1);

/// Length of a window when the server does not state it.
const USUAL_WINDOW: Duration = Duration::from_mins(5);

/// The state of one bucket.
#[derive(Debug)]
pub(crate) struct Meter {
    learnt: Learnt,
    in_flight: u64,
    probing: bool,
    next_slot: Option<Instant>,
    quiet_until: Option<Instant>,
    jitter: Duration,
}

#[derive(Debug)]
enum Learnt {
    /// No answer in this window yet.
    Nothing,
    /// The server states no limits.
    Unmetered,
    /// A window, and the lower bound of what is left in it.
    Window(Window),
}

#[derive(Debug, Clone)]
struct Window {
    left: u64,
    ends: Instant,
    quota: Option<u64>,
    length: Duration,
}

/// The answer to "may I send now?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes, and the request is already subtracted. A probe is alone until its answer arrives.
    Go {
        /// Whether this request is to teach us the limit.
        probe: bool,
    },
    /// Ask again at this time, or when an answer has arrived.
    At(Instant),
    /// Ask again when an answer has arrived.
    AfterAnswer,
}

impl Meter {
    /// A meter that knows nothing. `jitter` is added to the end of each window, so that many
    /// clients do not come back in the same instant.
    pub(crate) fn new(jitter: Duration) -> Self {
        let learnt = Learnt::Nothing;
        Self { learnt, in_flight: 0, probing: false, next_slot: None, quiet_until: None, jitter }
    }

    /// A meter of a server that is known to state no limits.
    pub(crate) fn unmetered() -> Self {
        Self { learnt: Learnt::Unmetered, ..Self::new(Duration::ZERO) }
    }

    /// The limit of the current window, where the server has stated its quota.
    pub(crate) fn stated(&self) -> Option<RateOf> {
        let Learnt::Window(Window { quota, length, .. }) = &self.learnt else { return None };
        quota.map(|requests| RateOf { requests, window: *length })
    }

    /// Whether a request may be sent now. `Go` reserves it: exactly one of [`Meter::answered`],
    /// [`Meter::lost`], [`Meter::unsent`] must follow.
    pub(crate) fn ask(&mut self, now: Instant) -> Verdict {
        if let Some(until) = self.quiet_until.filter(|until| now < *until) {
            return Verdict::At(until);
        }
        if matches!(&self.learnt, Learnt::Window(window) if window.ends <= now) {
            self.learnt = Learnt::Nothing;
            self.next_slot = None;
        }
        let mut probe = false;
        match &mut self.learnt {
            Learnt::Unmetered => {}
            Learnt::Nothing if self.probing => return Verdict::AfterAnswer,
            Learnt::Nothing => {
                self.probing = true;
                probe = true;
            }
            Learnt::Window(window) => {
                let usable = window.left.saturating_sub(window.quota.unwrap_or(0) / SPARE);
                if usable == 0 {
                    return Verdict::At(window.ends);
                }
                if usable <= window.quota.map_or(LOW_OF_UNKNOWN, |quota| quota / LOW) {
                    if let Some(slot) = self.next_slot.filter(|slot| now < *slot) {
                        return Verdict::At(slot);
                    }
                    let share = (window.ends - now) / u32::try_from(usable).unwrap_or(u32::MAX);
                    self.next_slot = Some(now + share);
                }
                window.left -= 1;
            }
        }
        self.in_flight += 1;
        Verdict::Go { probe }
    }

    /// A reserved request was answered. `limit` is what the answer states for this bucket.
    /// `decisive` is false for answers that may come from a machine in front of the server (429
    /// and 5xx): without a limit these teach nothing.
    pub(crate) fn answered(&mut self, now: Instant, probe: bool, limit: Option<&RateLimit>, decisive: bool) {
        self.settle(probe);
        match limit {
            Some(limit) => self.observe(now, limit),
            None if decisive && matches!(self.learnt, Learnt::Nothing) => self.learnt = Learnt::Unmetered,
            None => {}
        }
    }

    /// A reserved request got no answer. The server may have counted it.
    pub(crate) fn lost(&mut self, probe: bool) {
        self.settle(probe);
    }

    /// A reserved request never reached the server.
    pub(crate) fn unsent(&mut self, probe: bool) {
        self.settle(probe);
        if let Learnt::Window(window) = &mut self.learnt {
            window.left += 1;
        }
    }

    /// Takes note of a limit, stated in an answer to a request of whichever bucket.
    pub(crate) fn observe(&mut self, now: Instant, limit: &RateLimit) {
        let seen = Window {
            left: limit.remaining.saturating_sub(self.in_flight),
            ends: now + limit.resets_in + ROUNDING + self.jitter,
            quota: limit.quota,
            length: limit.window.unwrap_or(USUAL_WINDOW),
        };
        match &mut self.learnt {
            Learnt::Window(known) if seen.ends + known.length / 2 < known.ends => {} // late news of an old window
            Learnt::Window(known) if seen.ends < known.ends + known.length / 2 => {
                known.left = known.left.min(seen.left);
                known.ends = known.ends.min(seen.ends);
                known.quota = seen.quota.or(known.quota);
            }
            _ => {
                self.learnt = Learnt::Window(seen);
                self.next_slot = None;
            }
        }
    }

    /// Nothing is sent before `until`: for refusals that state no window.
    pub(crate) fn quiet(&mut self, until: Instant) {
        self.quiet_until = Some(self.quiet_until.map_or(until, |already| already.max(until)));
    }

    fn settle(&mut self, probe: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.probing &= !probe;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const GO: Verdict = Verdict::Go { probe: false };
    const PROBE: Verdict = Verdict::Go { probe: true };

    fn limit(remaining: u64, t: u64, quota: u64, window: u64) -> RateLimit {
        RateLimit {
            name: "api".into(),
            remaining,
            resets_in: Duration::from_secs(t),
            quota: Some(quota),
            window: Some(Duration::from_secs(window)),
        }
    }

    fn learnt(remaining: u64, t: u64, quota: u64) -> (Meter, Instant) {
        let mut meter = Meter::new(Duration::ZERO);
        let now = Instant::now();
        assert_eq!(meter.ask(now), PROBE);
        meter.answered(now, true, Some(&limit(remaining, t, quota, 300)), true);
        (meter, now)
    }

    #[test]
    fn the_first_request_is_alone() {
        let mut meter = Meter::new(Duration::ZERO);
        let now = Instant::now();
        assert_eq!(meter.ask(now), PROBE);
        assert_eq!(meter.ask(now), Verdict::AfterAnswer);
        meter.lost(true); // taught nothing, so the next one probes
        assert_eq!(meter.ask(now), PROBE);
        meter.answered(now, true, None, false); // an edge 503 teaches nothing either
        assert_eq!(meter.ask(now), PROBE);
        meter.answered(now, true, None, true); // a server without limits
        assert_eq!((meter.ask(now), meter.ask(now)), (GO, GO));
    }

    #[test]
    fn requests_in_flight_count() {
        let (mut meter, now) = learnt(900, 100, 1000);
        for _ in 0..10 {
            assert_eq!(meter.ask(now), GO);
        }
        // The server has seen one of the ten; nine may still arrive.
        meter.answered(now, false, Some(&limit(899, 100, 1000, 300)), true);
        assert!(matches!(&meter.learnt, Learnt::Window(w) if w.left == 890), "{meter:?}");
        // Answers out of order never raise the bound.
        meter.answered(now, false, Some(&limit(899, 100, 1000, 300)), true);
        assert!(matches!(&meter.learnt, Learnt::Window(w) if w.left == 890), "{meter:?}");
        meter.unsent(false);
        assert!(matches!(&meter.learnt, Learnt::Window(w) if w.left == 891), "{meter:?}");
    }

    #[test]
    fn stops_before_zero_and_probes_after_the_window() {
        let (mut meter, now) = learnt(10, 60, 1000); // ten are the spare hundredth
        let end = now + Duration::from_secs(61);
        assert_eq!(meter.ask(now), Verdict::At(end));
        assert_eq!(meter.ask(end), PROBE);
        assert_eq!(meter.ask(end), Verdict::AfterAnswer);
    }

    #[test]
    fn a_small_quota_is_used_whole() {
        let (mut meter, now) = learnt(2, 9, 3);
        assert_eq!((meter.ask(now), meter.ask(now)), (GO, GO));
        assert_eq!(meter.ask(now), Verdict::At(now + Duration::from_secs(10)));
    }

    #[test]
    fn spreads_what_is_left() {
        let (mut meter, now) = learnt(110, 99, 1000); // 100 usable requests for 100 seconds
        assert_eq!(meter.ask(now), GO);
        assert_eq!(meter.ask(now), Verdict::At(now + Duration::from_secs(1)));
        assert_eq!(meter.ask(now + Duration::from_secs(1)), GO);
        let (mut meter, now) = learnt(900, 99, 1000);
        assert!((0..600).all(|_| meter.ask(now) == GO), "plenty left: no pacing");
    }

    #[test]
    fn news_of_another_window() {
        let (mut meter, now) = learnt(5, 3, 1000);
        assert!(matches!(meter.ask(now), Verdict::At(_)));
        meter.observe(now, &limit(1000, 300, 1000, 300));
        assert_eq!(meter.ask(now), GO);
        meter.observe(now, &limit(0, 2, 1000, 300)); // late answer of the window before
        assert_eq!(meter.ask(now), GO);
    }

    #[test]
    fn quiet_after_a_refusal_without_window() {
        let mut meter = Meter::unmetered();
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        meter.quiet(later);
        meter.quiet(now + Duration::from_secs(1));
        assert_eq!(meter.ask(now), Verdict::At(later));
        assert_eq!(meter.ask(later), GO);
    }

    /// A fixed-window server and eager clients on a virtual clock, in milliseconds. Returns the
    /// requests counted per window.
    fn play(quota: u64, slots: u64, window: u64, phase: u64, latencies: &[(u64, u64)]) -> BTreeMap<u64, u64> {
        const END: u64 = 20 * 60_000;
        enum Event {
            Arrives { back: u64, probe: bool },
            Answered { limit: RateLimit, probe: bool },
            Wakes,
        }
        let epoch = Instant::now();
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let mut meter = Meter::new(Duration::ZERO);
        let mut counted = BTreeMap::<u64, u64>::new();
        let mut queue = BTreeMap::<(u64, u64), Event>::new();
        let mut serial = 0;
        let mut push = |queue: &mut BTreeMap<_, _>, time, event| {
            serial += 1;
            queue.insert((time, serial), event);
        };
        let mut sent = 0;
        push(&mut queue, 0, Event::Wakes);
        while let Some(((now, _), event)) = queue.pop_first() {
            if now > END {
                break;
            }
            match event {
                Event::Arrives { back, probe } => {
                    let number = (now + phase) / window;
                    let count = counted.entry(number).or_default();
                    *count += 1;
                    let ends = (number + 1) * window - phase;
                    let limit =
                        limit(quota.saturating_sub(*count), (ends - now) / 1000, quota, window / 1000);
                    push(&mut queue, now + back, Event::Answered { limit, probe });
                }
                Event::Answered { limit, probe } => meter.answered(at(now), probe, Some(&limit), true),
                Event::Wakes => {}
            }
            while meter.in_flight < slots {
                match meter.ask(at(now)) {
                    Verdict::Go { probe } => {
                        let (there, back) = latencies[sent % latencies.len()];
                        sent += 1;
                        push(&mut queue, now + there, Event::Arrives { back, probe });
                    }
                    Verdict::At(time) => {
                        let ms = u64::try_from((time - epoch).as_micros()).unwrap().div_ceil(1000);
                        push(&mut queue, ms.max(now + 1), Event::Wakes);
                        break;
                    }
                    Verdict::AfterAnswer => break,
                }
            }
        }
        counted
    }

    #[test]
    fn uses_most_of_what_it_may() {
        let counted = play(500, 8, 300_000, 7_000, &[(20, 30), (200, 10), (5, 900)]);
        let full = counted.values().filter(|count| **count >= 480).count();
        assert!(full >= 3, "{counted:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_exceeds_the_limit(
            quota in 1..400_u64,
            slots in 1..100_u64,
            window in 10..120_u64,
            phase in 0..10_000_u64,
            latencies in proptest::collection::vec((0..1500_u64, 0..1500_u64), 1..20),
        ) {
            for (window, count) in play(quota, slots, window * 1000, phase, &latencies) {
                prop_assert!(count <= quota, "window {window}: {count} of {quota}");
            }
        }
    }
}
