//! What a client may still cost.
//!
//! Every request takes its part before it waits for anything, retries, redirects and pages of the list included, and
//! a ranged one its bytes, too. So a limit holds whatever goes wrong; what was taken and not used goes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::HubErrorKind;

/// Most that a client may cost from now on; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests to the Hub; the CDN's are not counted.
    pub requests: Option<u64>,
    /// Bytes of bodies.
    pub bytes: Option<u64>,
}

/// What an allowance is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Requests to the Hub.
    Requests,
    /// Bytes of bodies.
    Bytes,
}

/// An allowance, and what is gone of it.
#[derive(Debug, Default)]
pub(crate) struct Purse(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    most: Allowance,
    requests: u64,
    bytes: u64,
}

/// What one request has taken; the part that it did not use goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    purse: Arc<Purse>,
    requests: u64,
    bytes: u64,
}

impl Purse {
    /// Begins a new allowance, of which nothing is gone.
    pub(crate) fn fill(&self, most: Allowance) {
        *self.lock() = Taken { most, ..Taken::default() };
    }

    /// Takes so many requests and bytes.
    pub(crate) fn hold(self: &Arc<Self>, requests: u64, bytes: u64) -> Result<Hold, HubErrorKind> {
        self.take(requests, bytes)?;
        Ok(Hold { purse: Arc::clone(self), requests, bytes })
    }

    fn take(&self, requests: u64, bytes: u64) -> Result<(), HubErrorKind> {
        let mut taken = self.lock();
        let new = (taken.requests.saturating_add(requests), taken.bytes.saturating_add(bytes));
        for (what, most, new, wanted) in [
            (Means::Requests, taken.most.requests, new.0, requests),
            (Means::Bytes, taken.most.bytes, new.1, bytes),
        ] {
            if let Some(most) = most.filter(|most| wanted > 0 && new > *most) {
                return Err(HubErrorKind::Spent { what, most });
            }
        }
        (taken.requests, taken.bytes) = new;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // numbers cannot be half written
    }
}

impl Hold {
    /// The request is sent: it is used.
    pub(crate) fn sent(&mut self) {
        self.requests = 0;
    }

    /// So many bytes are announced.
    pub(crate) fn announced(&mut self, bytes: u64) -> Result<(), HubErrorKind> {
        let more = bytes.saturating_sub(self.bytes);
        self.purse.take(0, more)?;
        self.bytes += more;
        Ok(())
    }

    /// So many bytes have come. More than were announced may be too many.
    pub(crate) fn came(&mut self, bytes: u64) -> Result<(), HubErrorKind> {
        let announced = self.bytes.min(bytes);
        self.bytes -= announced;
        self.purse.take(0, bytes - announced)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut taken = self.purse.lock();
        // A new allowance may have begun since.
        taken.requests = taken.requests.saturating_sub(self.requests);
        taken.bytes = taken.bytes.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent<T>(result: Result<T, HubErrorKind>) -> Option<Means> {
        match result {
            Ok(_) => None,
            Err(HubErrorKind::Spent { what, .. }) => Some(what),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_used_goes_back() {
        let purse = Arc::new(Purse::default());
        purse.fill(Allowance { requests: Some(2), bytes: Some(100) });
        let mut first = purse.hold(1, 60).unwrap();
        assert_eq!(spent(purse.hold(1, 41)), Some(Means::Bytes));
        let second = purse.hold(1, 40).unwrap();
        assert_eq!(spent(purse.hold(1, 0)), Some(Means::Requests));
        assert!(purse.hold(0, 0).is_ok(), "what takes nothing is never too much");
        drop(second);
        first.sent();
        first.came(50).unwrap();
        drop(first);
        let mut rest = purse.hold(1, 50).unwrap();
        rest.came(50).unwrap();
        assert_eq!(spent(rest.came(1)), Some(Means::Bytes), "more than was announced");
        drop(rest);
        assert_eq!(spent(purse.hold(2, 0)), Some(Means::Requests));
        purse.fill(Allowance::default());
        assert!(purse.hold(u64::MAX, u64::MAX).is_ok());
    }

    #[test]
    fn announced_bytes_are_taken_once() {
        let purse = Arc::new(Purse::default());
        purse.fill(Allowance { requests: None, bytes: Some(10) });
        let mut hold = purse.hold(1, 6).unwrap();
        hold.announced(6).unwrap();
        hold.announced(10).unwrap();
        assert_eq!(spent(hold.announced(11)), Some(Means::Bytes));
        hold.came(10).unwrap();
        assert_eq!(spent(purse.hold(1, 1)), Some(Means::Bytes));
    }
}
