//! What a client may still cost.
//!
//! Every request takes its part before it waits for anything, retries, redirects and pages of the list included, and
//! a ranged one its bytes, too. So a limit holds whatever goes wrong; what was taken and not used goes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most that a client may cost from now on; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests to the Hub; the CDN's are not counted.
    pub requests: Option<u64>,
    /// Bytes of bodies.
    pub bytes: Option<u64>,
}

/// What an allowance is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests to the Hub.
    Requests,
    /// Bytes of bodies.
    Bytes,
}

/// More than the allowance has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// What would be exceeded.
    pub(crate) what: Unit,
    /// All that there was of it.
    pub(crate) most: u64,
}

/// An allowance, and what is gone of it.
#[derive(Debug, Default)]
pub(crate) struct Quota(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    most: Allowance,
    requests: u64,
    bytes: u64,
}

/// What one request may take; the part that it did not use goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    quota: Arc<Quota>,
    requests: u64,
    bytes: u64,
}

impl Quota {
    /// Begins a new allowance, of which nothing is gone.
    pub(crate) fn fill(&self, most: Allowance) {
        *self.lock() = Taken { most, ..Taken::default() };
    }

    /// Takes so many requests and bytes.
    pub(crate) fn reserve(self: &Arc<Self>, requests: u64, bytes: u64) -> Result<Reservation, Exceeded> {
        self.take(requests, bytes)?;
        Ok(Reservation { quota: Arc::clone(self), requests, bytes })
    }

    fn take(&self, requests: u64, bytes: u64) -> Result<(), Exceeded> {
        let mut taken = self.lock();
        let new = (taken.requests.saturating_add(requests), taken.bytes.saturating_add(bytes));
        for (what, most, new, wanted) in [
            (Unit::Requests, taken.most.requests, new.0, requests),
            (Unit::Bytes, taken.most.bytes, new.1, bytes),
        ] {
            if let Some(most) = most.filter(|most| wanted > 0 && new > *most) {
                return Err(Exceeded { what, most });
            }
        }
        (taken.requests, taken.bytes) = new;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // numbers cannot be half written
    }
}

impl Reservation {
    /// The request is sent: it is used.
    pub(crate) fn sent(&mut self) {
        self.requests = 0;
    }

    /// So many bytes are announced.
    pub(crate) fn announced(&mut self, bytes: u64) -> Result<(), Exceeded> {
        let more = bytes.saturating_sub(self.bytes);
        self.quota.take(0, more)?;
        self.bytes += more;
        Ok(())
    }

    /// So many bytes have come. More than were announced may be too many.
    pub(crate) fn came(&mut self, bytes: u64) -> Result<(), Exceeded> {
        let announced = self.bytes.min(bytes);
        self.bytes -= announced;
        self.quota.take(0, bytes - announced)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.quota.lock();
        // A new allowance may have begun since.
        taken.requests = taken.requests.saturating_sub(self.requests);
        taken.bytes = taken.bytes.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceeded<T>(result: Result<T, Exceeded>) -> Option<Unit> {
        result.err().map(|exceeded| exceeded.what)
    }

    #[test]
    fn what_is_not_used_goes_back() {
        let quota = Arc::new(Quota::default());
        quota.fill(Allowance { requests: Some(2), bytes: Some(100) });
        let mut first = quota.reserve(1, 60).unwrap();
        assert_eq!(exceeded(quota.reserve(1, 41)), Some(Unit::Bytes));
        let second = quota.reserve(1, 40).unwrap();
        assert_eq!(exceeded(quota.reserve(1, 0)), Some(Unit::Requests));
        assert!(quota.reserve(0, 0).is_ok(), "what takes nothing is never too much");
        drop(second);
        first.sent();
        first.came(50).unwrap();
        drop(first);
        let mut rest = quota.reserve(1, 50).unwrap();
        rest.came(50).unwrap();
        assert_eq!(exceeded(rest.came(1)), Some(Unit::Bytes), "more than was announced");
        drop(rest);
        assert_eq!(exceeded(quota.reserve(2, 0)), Some(Unit::Requests));
        quota.fill(Allowance::default());
        assert!(quota.reserve(u64::MAX, u64::MAX).is_ok());
    }

    #[test]
    fn announced_bytes_are_taken_once() {
        let quota = Arc::new(Quota::default());
        quota.fill(Allowance { requests: None, bytes: Some(10) });
        let mut reservation = quota.reserve(1, 6).unwrap();
        reservation.announced(6).unwrap();
        reservation.announced(10).unwrap();
        assert_eq!(exceeded(reservation.announced(11)), Some(Unit::Bytes));
        reservation.came(10).unwrap();
        assert_eq!(exceeded(quota.reserve(1, 1)), Some(Unit::Bytes));
    }
}
