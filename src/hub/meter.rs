//! The arithmetic of one rate-limit bucket, without a clock of its own.
//!
//! The limits are fixed windows of `q` requests, and every answer states how many are left and
//! when the window ends. The meter keeps a *lower bound* of what is left:
//!
//! * the lowest `r` of the window is that of the request the server counted last, of those that were
//!   answered. So what is left is this `r`, less the requests still in flight, which may have been
//!   counted after it, less those whose answer was lost or said no more than that `r`;
//! * until the first answer of a window one single request may be in flight, so that the limit is
//!   learnt before it can be exceeded;
//! * when little is left it is spread evenly over the rest of the window, and a hundredth of the
//!   quota is left to the other programs of the account.
//!
//! And it keeps an *upper bound* of the window's end. `t` is in whole seconds, and nobody says
//! whether they are rounded up or down. Each answer bounds the end by the time it was received plus
//! `t` plus a second; the lowest bound is that of an answer just after `t` had changed, so with many
//! answers only the rounding remains unknown. If the server rounds up, the window ends a second
//! before the bound; so at that time the meter *knocks*: it sends one request out of the hundredth
//! that is left over. Either the answer is of the new window, or the server does not round up and
//! the bound is waited for.
//!
//! Invariant: as long as the server keeps its word and nobody else uses the account, it never
//! counts more than `q` of our requests in a window. A property test below plays this against a
//! simulated server.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use super::rate::{RateLimit, RateOf};

/// The pace is slowed when less than one in `LOW` requests of the window is left.
const LOW: u64 = 5;

/// What counts as little when the server does not state its quota.
const LOW_OF_UNKNOWN: u64 = 100;

/// One in `SPARE` requests of each window is never used.
const SPARE: u64 = 100;

/// `t` is in whole seconds, rounded up or down.
const ROUNDING: Duration = Duration::from_secs(1);

/// Length of a window when the server does not state it.
const USUAL_WINDOW: Duration = Duration::from_mins(5);

/// Jitter is up to one in `JITTER` of a window.
const JITTER: f64 = 1000.0;

/// The state of one bucket.
#[derive(Debug)]
pub(crate) struct Meter {
    learnt: Learnt,
    in_flight: u64,
    probing: bool,
    next_slot: Option<Instant>,
    quiet_until: Option<Instant>,
    /// Share of the jitter, 0 to 1.
    jitter: f64,
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
    /// The lowest stated.
    remaining: u64,
    /// Requests answered since with no higher a number: a server that counts exactly states each
    /// number once, another may have counted them later.
    level: u64,
    /// Requests without an answer, which may have been counted since.
    lost: u64,
    /// The end, if the server rounds `t` up.
    ends_early: Instant,
    quota: Option<u64>,
    length: Duration,
    /// Whether it was tried if the window had ended early.
    knocked: bool,
}

impl Window {
    /// Requests that can be sent and will be granted, whatever happens to those in flight.
    fn left(&self, in_flight: u64) -> u64 {
        self.remaining.saturating_sub(self.level).saturating_sub(self.lost).saturating_sub(in_flight)
    }

    /// The end at the latest, by which it is over however the server rounds.
    fn ends(&self) -> Instant {
        self.ends_early + ROUNDING
    }
}

/// The answer to "may I send now?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes, and the request is already subtracted. Until the answer to a probe arrives there is no other.
    Go {
        /// Whether this request is to teach us the limit, or whether there is a new window.
        probe: bool,
    },
    /// Ask again at this time, or when an answer has arrived.
    At(Instant),
    /// Ask again when an answer has arrived.
    AfterAnswer,
}

impl Meter {
    /// A meter that knows nothing. A thousandth of the window, times `jitter`, which is 0 to 1, is
    /// added to its end, so that many clients do not come back in the same instant.
    pub(crate) fn new(jitter: f64) -> Self {
        let learnt = Learnt::Nothing;
        Self { learnt, in_flight: 0, probing: false, next_slot: None, quiet_until: None, jitter }
    }

    /// A meter of a server that is known to state no limits.
    pub(crate) fn unmetered() -> Self {
        Self { learnt: Learnt::Unmetered, ..Self::new(0.0) }
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
        if matches!(&self.learnt, Learnt::Window(window) if window.ends() <= now) {
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
                let left = window.left(self.in_flight);
                let usable = left.saturating_sub(window.quota.unwrap_or(0) / SPARE);
                if usable == 0 {
                    let may_knock = left > 0 && !window.knocked && !self.probing;
                    if !may_knock {
                        return Verdict::At(window.ends());
                    }
                    if now < window.ends_early {
                        return Verdict::At(window.ends_early);
                    }
                    window.knocked = true;
                    self.probing = true;
                    probe = true;
                } else if usable <= window.quota.map_or(LOW_OF_UNKNOWN, |quota| quota / LOW) {
                    if let Some(slot) = self.next_slot.filter(|slot| now < *slot) {
                        return Verdict::At(slot);
                    }
                    let time = window.ends_early.saturating_duration_since(now);
                    let share = time / u32::try_from(usable).unwrap_or(u32::MAX);
                    self.next_slot = Some(now + share);
                }
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
            Some(limit) => self.learn(now, limit, true),
            None if matches!(self.learnt, Learnt::Window(_)) => self.missed(),
            None if decisive && matches!(self.learnt, Learnt::Nothing) => self.learnt = Learnt::Unmetered,
            None => {}
        }
    }

    /// A reserved request got no answer. The server may have counted it.
    pub(crate) fn lost(&mut self, probe: bool) {
        self.settle(probe);
        self.missed();
    }

    /// A reserved request never reached the server.
    pub(crate) fn unsent(&mut self, probe: bool) {
        self.settle(probe);
    }

    /// Takes note of a limit, stated in an answer to a request of whichever bucket.
    pub(crate) fn observe(&mut self, now: Instant, limit: &RateLimit) {
        self.learn(now, limit, false);
    }

    /// `own`: the answer is to a request of this bucket, which is no longer in flight.
    fn learn(&mut self, now: Instant, limit: &RateLimit, own: bool) {
        let length = limit.window.unwrap_or(USUAL_WINDOW);
        let seen = Window {
            remaining: limit.remaining,
            level: 0,
            lost: 0,
            ends_early: now + limit.resets_in + length.mul_f64(self.jitter / JITTER),
            quota: limit.quota,
            length,
            knocked: false,
        };
        match &mut self.learnt {
            Learnt::Window(known) if seen.ends_early + known.length / 2 < known.ends_early => {} // late news of an old window
            Learnt::Window(known) if seen.ends_early < known.ends_early + known.length / 2 => {
                match seen.remaining.cmp(&known.remaining) {
                    Ordering::Less => (known.remaining, known.level) = (seen.remaining, 0),
                    Ordering::Equal => known.level += u64::from(own),
                    Ordering::Greater => {} // counted before the one that told the lowest
                }
                known.ends_early = known.ends_early.min(seen.ends_early);
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

    /// A request may have been counted, and no answer says so.
    fn missed(&mut self) {
        if let Learnt::Window(window) = &mut self.learnt {
            window.lost += 1;
        }
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
        let mut meter = Meter::new(0.0);
        let now = Instant::now();
        assert_eq!(meter.ask(now), PROBE);
        meter.answered(now, true, Some(&limit(remaining, t, quota, 300)), true);
        (meter, now)
    }

    #[test]
    fn the_first_request_is_alone() {
        let mut meter = Meter::new(0.0);
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

    fn left(meter: &Meter) -> u64 {
        let Learnt::Window(window) = &meter.learnt else { panic!("{meter:?}") };
        window.left(meter.in_flight)
    }

    #[test]
    fn requests_in_flight_count() {
        let (mut meter, now) = learnt(900, 100, 1000);
        let answer = |meter: &mut Meter, r| meter.answered(now, false, Some(&limit(r, 100, 1000, 300)), true);
        for _ in 0..10 {
            assert_eq!(meter.ask(now), GO);
        }
        // The server has seen two of the ten; eight may still arrive.
        answer(&mut meter, 898);
        assert_eq!(left(&meter), 889, "for all we know, nine");
        answer(&mut meter, 899);
        assert_eq!(left(&meter), 890, "this was the other one");
        answer(&mut meter, 898);
        assert_eq!(left(&meter), 890, "a number that was stated before tells nothing");
        meter.lost(false);
        assert_eq!(left(&meter), 890, "it may have been counted");
        meter.unsent(false);
        assert_eq!(left(&meter), 891, "it was not");
        meter.answered(now, false, None, false);
        assert_eq!(left(&meter), 891, "a machine in between may have answered, or not");
        answer(&mut meter, 893);
        assert_eq!(left(&meter), 893 - 2 - 3, "two lost, three in flight");
        meter.observe(now, &limit(893, 100, 1000, 300));
        assert_eq!(left(&meter), 888, "the answer to another bucket's request is none to ours");
    }

    #[test]
    fn knocks_once_when_the_window_may_be_over() {
        let (mut meter, now) = learnt(10, 60, 1000); // ten are the spare hundredth
        let (early, late) = (now + Duration::from_mins(1), now + Duration::from_secs(61));
        assert_eq!(meter.ask(now), Verdict::At(early));
        assert_eq!(meter.ask(early), PROBE);
        assert_eq!(meter.ask(early), Verdict::At(late));
        meter.answered(early, true, Some(&limit(9, 0, 1000, 300)), true); // t is rounded down here
        assert_eq!(meter.ask(early), Verdict::At(late));
        assert_eq!(meter.ask(late), PROBE);
        assert_eq!(meter.ask(late), Verdict::AfterAnswer);

        let (mut meter, now) = learnt(10, 60, 1000);
        let early = now + Duration::from_mins(1);
        assert_eq!(meter.ask(early), PROBE);
        meter.answered(early, true, Some(&limit(999, 300, 1000, 300)), true); // it was over
        assert_eq!(meter.ask(early), GO);
    }

    #[test]
    fn never_knocks_on_the_last_request() {
        let (mut meter, now) = learnt(0, 60, 1000);
        assert_eq!(meter.ask(now), Verdict::At(now + Duration::from_secs(61)));
    }

    #[test]
    fn a_small_quota_is_used_whole() {
        let (mut meter, now) = learnt(2, 9, 3);
        assert_eq!((meter.ask(now), meter.ask(now)), (GO, GO));
        assert_eq!(meter.ask(now), Verdict::At(now + Duration::from_secs(10)));
    }

    #[test]
    fn spreads_what_is_left() {
        let (mut meter, now) = learnt(110, 100, 1000); // 100 usable requests for 100 seconds
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

    /// A server on a virtual clock in milliseconds.
    #[derive(Debug, Clone)]
    struct Server {
        quota: u64,
        /// Length of a window.
        window: u64,
        /// How old the first window is when we come; `None` for windows that the first request in them opens.
        phase: Option<u64>,
        /// How the rest of a window becomes `t`.
        seconds: fn(u64) -> u64,
        /// Start and requests of all windows so far.
        windows: Vec<(u64, u64)>,
    }

    impl Server {
        fn answer(&mut self, now: u64) -> RateLimit {
            let now = now + self.phase.unwrap_or(0);
            let open = self.windows.last().filter(|(start, _)| now < start + self.window);
            if open.is_none() {
                let start = if self.phase.is_some() { now - now % self.window } else { now };
                self.windows.push((start, 0));
            }
            let (start, count) = self.windows.last_mut().unwrap();
            *count += 1;
            let rest = *start + self.window - now;
            limit(self.quota.saturating_sub(*count), (self.seconds)(rest), self.quota, self.window / 1000)
        }

        /// Requests over those allowed, in all windows but the last.
        fn share(&self) -> f64 {
            let (last, whole) = self.windows.split_last().unwrap();
            let used: u64 = whole.iter().map(|(_, count)| count).sum();
            used as f64 / (self.quota * (last.0 - whole[0].0)) as f64 * self.window as f64
        }
    }

    /// Eager clients of a server, until a time. `latencies` are there and back.
    fn play(server: &mut Server, slots: u64, latencies: &[(u64, u64)], end: u64) {
        enum Event {
            Arrives { back: u64, probe: bool },
            Answered { limit: RateLimit, probe: bool },
        }
        let epoch = Instant::now();
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let mut meter = Meter::new(0.5);
        let mut queue = BTreeMap::<(u64, u64), Event>::new();
        let mut serial = 0;
        let mut push = |queue: &mut BTreeMap<_, _>, time, event| {
            serial += 1;
            queue.insert((time, serial), event);
        };
        let mut sent = 0;
        let mut wake = Some(0);
        loop {
            let next = queue.first_key_value().map(|((time, _), _)| *time);
            let Some(now) = next.into_iter().chain(wake).min().filter(|now| *now <= end) else { return };
            wake = wake.filter(|wake| *wake > now);
            if next == Some(now) {
                match queue.pop_first() {
                    Some((_, Event::Arrives { back, probe })) => {
                        let limit = server.answer(now);
                        push(&mut queue, now + back, Event::Answered { limit, probe });
                    }
                    Some((_, Event::Answered { limit, probe })) => {
                        meter.answered(at(now), probe, Some(&limit), true);
                    }
                    None => {}
                }
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
                        wake = Some(ms.max(now + 1));
                        break;
                    }
                    Verdict::AfterAnswer => break,
                }
            }
        }
    }

    const ROUNDINGS: [fn(u64) -> u64; 3] = [|ms| ms / 1000, |ms| ms.div_ceil(1000), |ms| (ms + 500) / 1000];

    /// The Hub's windows and plans, with latencies of a transatlantic line, and the short windows of
    /// the local Hub in tests.
    #[test]
    fn uses_what_it_may() {
        let far = [(60, 70), (90, 60), (50, 400), (70, 80)];
        let near = [(1, 1), (1, 3), (2, 1)];
        for (quota, seconds, latencies, least) in [
            (5000, 300, &far[..], 0.985),
            (1000, 300, &far[..], 0.985),
            (500, 300, &far[..], 0.985),
            (250, 10, &near[..], 0.94),
            (250, 3, &near[..], 0.84), // half a second is lost where `t` is rounded to the nearest
        ] {
            for phase in [None, Some(1234)] {
                for rounding in ROUNDINGS {
                    let window = seconds * 1000;
                    let mut server = Server { quota, window, phase, seconds: rounding, windows: Vec::new() };
                    play(&mut server, 8, latencies, 12 * window);
                    let (share, most) =
                        (server.share(), server.windows.iter().map(|(_, n)| *n).max().unwrap());
                    assert!(most <= quota, "{server:?}");
                    assert!(share >= least, "{share} of {server:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_exceeds_the_limit(
            quota in 1..400_u64,
            slots in 1..100_u64,
            window in 10..120_u64,
            phase in proptest::option::of(0..10_000_u64),
            rounding in 0..3_usize,
            latencies in proptest::collection::vec((0..1500_u64, 0..1500_u64), 1..20),
        ) {
            let window = window * 1000;
            let mut server = Server { quota, window, phase, seconds: ROUNDINGS[rounding], windows: Vec::new() };
            play(&mut server, slots, &latencies, 8 * window);
            for (start, count) in &server.windows {
                prop_assert!(*count <= quota, "window at {start}: {count} of {quota}");
            }
        }
    }
}
