//! How many requests of one bucket may be in flight: as many as the host bears.
//!
//! Additive increase, multiplicative decrease. The limit begins at half of what the settings allow
//! and grows by one after as many successes in a row as it is high; a sign of overload halves it.
//! One overload shows in many requests at once, so failures of requests that were sent before the
//! last decrease do not count again.
//!
//! Waiters are served in the order they came. A slot comes back when it is dropped, so a cancelled
//! operation or an answer that nobody reads holds nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limit, without the waiting.
#[derive(Debug)]
struct Limit {
    at: usize,
    most: usize,
    successes: usize,
    /// Decreases so far.
    round: u64,
}

impl Limit {
    fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { at: most.div_ceil(2), most, successes: 0, round: 0 }
    }

    fn succeeded(&mut self) {
        self.successes += 1;
        if self.successes >= self.at {
            self.successes = 0;
            self.at = (self.at + 1).min(self.most);
        }
    }

    /// A request that was sent in `round` met an overloaded host. Whether the limit fell.
    fn failed(&mut self, round: u64) -> bool {
        self.successes = 0;
        if round < self.round {
            return false;
        }
        self.round += 1;
        let before = self.at;
        self.at = (self.at / 2).max(1);
        self.at < before
    }
}

/// The slots of one bucket.
#[derive(Debug)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// Permits that exist, free or taken. More than the limit only until enough slots came back.
    permits: usize,
}

impl Slots {
    /// Slots for at most `most` requests, at least one.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let limit = Limit::new(most.min(Semaphore::MAX_PERMITS));
        let permits = limit.at;
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(permits)),
            state: Mutex::new(State { limit, permits }),
        })
    }

    /// Waits for a slot.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok(); // never closed, so always `Some`
        let round = self.state().limit.round;
        Slot { slots: Arc::clone(self), permit, round }
    }

    /// Requests that may be in flight at present.
    pub(crate) fn limit(&self) -> usize {
        self.state().limit.at
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole when the lock is let go, so a panic elsewhere has not broken it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one request.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
    round: u64,
}

impl Slot {
    /// The request is sent now; it may have waited for other permissions since it got its slot.
    pub(crate) fn sent(&mut self) {
        self.round = self.slots.state().limit.round;
    }

    /// The host bore the request.
    pub(crate) fn succeeded(&self) {
        let mut state = self.slots.state();
        state.limit.succeeded();
        if state.permits < state.limit.at {
            state.permits += 1;
            self.slots.semaphore.add_permits(1);
        }
    }

    /// The host did not bear it: refused, failed, stood still or broke off. Whether the limit fell.
    pub(crate) fn failed(&self) -> bool {
        let mut state = self.slots.state();
        let fell = state.limit.failed(self.round);
        let surplus = state.permits.saturating_sub(state.limit.at);
        state.permits -= self.slots.semaphore.forget_permits(surplus);
        fell
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        if state.permits > state.limit.at
            && let Some(permit) = self.permit.take()
        {
            state.permits -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grows_by_one_a_round_and_halves() {
        let mut limit = Limit::new(8);
        assert_eq!(limit.at, 4);
        let mut grown = Vec::new();
        for _ in 0..4 + 5 + 6 + 7 + 20 {
            limit.succeeded();
            grown.push(limit.at);
        }
        assert_eq!((grown[2], grown[3], grown[7], grown[8], grown[21], grown[41]), (4, 5, 5, 6, 8, 8));
        assert!(limit.failed(0));
        assert_eq!(limit.at, 4);
        assert!(!limit.failed(0), "sent before the decrease");
        assert_eq!(limit.at, 4);
        assert!(limit.failed(1) && limit.failed(2) && !limit.failed(3), "never below one");
        assert_eq!(limit.at, 1);
        limit.succeeded();
        assert_eq!(limit.at, 2);
        limit.succeeded();
        limit.failed(0); // an old failure breaks the row all the same
        limit.succeeded();
        assert_eq!(limit.at, 2);
    }

    #[test]
    fn small_maxima() {
        assert_eq!([0, 1, 2, 3].map(|most| Limit::new(most).at), [1, 1, 1, 2]);
    }

    /// Takes as many slots as there are.
    fn take_all(slots: &Arc<Slots>) -> Vec<Slot> {
        std::iter::from_fn(|| slots.take().now_or_never()).collect()
    }

    #[test]
    fn a_decrease_takes_effect_as_slots_come_back() {
        let slots = Slots::new(16);
        let mut held = take_all(&slots);
        assert_eq!(held.len(), 8);
        assert!(held[0].failed());
        held.truncate(4);
        assert!(slots.take().now_or_never().is_none(), "four are out, four are allowed");
        held.pop();
        assert!(slots.take().now_or_never().is_some());
        drop(held);
        assert_eq!(take_all(&slots).len(), 4);
    }

    #[tokio::test]
    async fn waiters_are_served_in_order_and_may_leave() {
        let slots = Slots::new(1);
        let held = slots.take().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..4)
            .map(|n| {
                let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
                tokio::spawn(async move {
                    let _slot = slots.take().await;
                    order.lock().unwrap().push(n);
                    tokio::task::yield_now().await;
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await; // all four have begun to wait
        waiters[1].abort();
        drop(held);
        for waiter in waiters {
            let _ = waiter.await;
        }
        assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
        assert_eq!(take_all(&slots).len(), 1, "nothing was lost");
    }

    proptest! {
        /// Whatever happens in whatever order, when all slots are back just as many can be taken
        /// as the limit says, and it stays within its bounds.
        #[test]
        fn no_slot_is_lost_or_made(most in 1..20_usize, events in proptest::collection::vec(0..5_u8, 0..200)) {
            let slots = Slots::new(most);
            let mut held: Vec<Slot> = Vec::new();
            for event in events {
                match event {
                    0 | 1 => held.extend(slots.take().now_or_never()),
                    2 => { held.pop(); }
                    3 => held.iter().for_each(Slot::succeeded),
                    _ => {
                        let before = slots.limit();
                        held.first_mut().into_iter().for_each(Slot::sent);
                        let fell = held.iter().filter(|slot| slot.failed()).count();
                        prop_assert!(fell <= 1, "once a round");
                        prop_assert!(slots.limit() >= before / 2);
                    }
                }
                prop_assert!((1..=most).contains(&slots.limit()));
            }
            drop(held);
            prop_assert_eq!(take_all(&slots).len(), slots.limit());
        }
    }
}
