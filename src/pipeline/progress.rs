//! What a long run can be asked while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that the run sets and anybody may read.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    total_is_final: AtomicU64,
}

impl Progress {
    /// One more item is done.
    pub fn tick(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Items done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Sets the items done.
    pub fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// One more item is known of.
    pub fn found(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the items in all.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.total_is_final.store(1, Ordering::Relaxed);
    }

    /// Sets the items done and the items in all.
    pub fn set(&self, done: u64, all: u64) {
        self.set_total(all);
        self.set_done(done);
    }

    /// No more items will be found.
    pub fn close(&self) {
        self.total_is_final.store(1, Ordering::Relaxed);
    }

    /// Items in all, as far as known, and whether that is final.
    pub fn total(&self) -> (u64, bool) {
        (self.total.load(Ordering::Relaxed), self.total_is_final.load(Ordering::Relaxed) == 1)
    }
}
