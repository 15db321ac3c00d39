//! What the rate limiter let through, window by window.
//!
//! A client that keeps to the limits can be told by it from one that merely survives them.

use std::collections::VecDeque;

use serde::Serialize;

/// Windows of a bucket that are remembered, the latest.
const KEPT: usize = 10_000;

/// One window of one client in one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct WindowCount {
    /// When it was opened, in seconds since the server's start.
    pub start: f64,
    /// Requests let through.
    pub admitted: u64,
    /// Requests answered 429.
    pub refused: u64,
}

/// The windows of one bucket in the order in which they were opened; those of several clients overlap.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Number of the first window that is remembered.
    first: u64,
    windows: VecDeque<WindowCount>,
}

impl History {
    /// Begins a window and numbers it.
    pub(crate) fn open(&mut self, start: f64) -> u64 {
        if self.windows.len() >= KEPT {
            self.windows.pop_front();
            self.first += 1;
        }
        self.windows.push_back(WindowCount { start, ..WindowCount::default() });
        self.first + self.windows.len() as u64 - 1
    }

    /// Counts a request in a window; one that is forgotten stays so.
    pub(crate) fn count(&mut self, window: u64, granted: bool) {
        let at = window.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(window) = at.and_then(|at| self.windows.get_mut(at)) {
            *(if granted { &mut window.admitted } else { &mut window.refused }) += 1;
        }
    }

    pub(crate) fn list(&self) -> Vec<WindowCount> {
        self.windows.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_windows_are_remembered() {
        let mut history = History::default();
        let numbers: Vec<u64> = (0..KEPT as u64 + 2).map(|start| history.open(start as f64)).collect();
        assert_eq!(numbers, (0..KEPT as u64 + 2).collect::<Vec<_>>());
        for (window, granted) in [(1, true), (2, true), (2, false), (2, false), (KEPT as u64 + 1, true)] {
            history.count(window, granted);
        }
        let windows = history.list();
        assert_eq!(windows.len(), KEPT);
        assert_eq!(windows[0], WindowCount { start: 2.0, admitted: 1, refused: 2 });
        assert_eq!(windows[KEPT - 1], WindowCount { start: KEPT as f64 + 1.0, admitted: 1, refused: 0 });
        assert!(windows[1..KEPT - 1].iter().all(|window| window.admitted + window.refused == 0));
    }
}
