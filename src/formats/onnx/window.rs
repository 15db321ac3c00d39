//! The bytes that are held of a file which is read from its begin to its end, with gaps.

use std::ops::Range;

/// First read of a file, bytes.
const FIRST: u64 = 64 * 1024;
/// Most that is read at once.
const MOST: u64 = 1 << 20;
/// What is read behind a gap: the next tensors, some of which are small enough to lie in it.
const BEHIND: u64 = 16 * 1024;
/// Gaps that are read, because they cost less than a range.
const GAP: u64 = 64 * 1024;

/// Some bytes of a file.
#[derive(Debug)]
pub(super) struct Window {
    /// Size of the file.
    pub(super) size: u64,
    start: u64,
    bytes: Vec<u8>,
    /// How much is read next.
    next: u64,
}

impl Window {
    pub(super) fn new(size: u64) -> Self {
        Self { size, start: 0, bytes: Vec::new(), next: FIRST }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is held of the file from this byte on.
    pub(super) fn from(&self, at: u64) -> &[u8] {
        let from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| self.bytes.get(from..)).unwrap_or_default()
    }

    /// What must be read so that more is held from this byte on; it lies in the file and was not read before. What is in
    /// front of it is forgotten.
    pub(super) fn need(&mut self, at: u64) -> Range<u64> {
        let end = self.end();
        if at > end.saturating_add(GAP) {
            (self.start, self.next) = (at, BEHIND);
            self.bytes = Vec::new();
        } else {
            let done = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
            self.bytes.drain(..done.min(self.bytes.len()));
            self.start = end - self.bytes.len() as u64;
        }
        let start = self.end();
        // A gap that is read, and as much again.
        let length = at.saturating_sub(start).saturating_add(self.next);
        self.next = (self.next * 2).min(MOST);
        start..start.saturating_add(length).min(self.size)
    }

    /// Takes the bytes that were needed.
    pub(super) fn give(&mut self, at: u64, bytes: &[u8]) {
        if at == self.end() {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gaps_are_read_and_large_ones_are_not() {
        let mut window = Window::new(1 << 30);
        assert_eq!(window.need(0), 0..FIRST);
        window.give(0, &vec![7; FIRST as usize]);
        assert_eq!(window.from(FIRST - 3), [7; 3]);
        let near = FIRST + 100;
        assert_eq!(window.need(near), FIRST..near + 2 * FIRST);
        window.give(FIRST, &vec![8; (2 * FIRST + 100) as usize]);
        assert_eq!(window.from(near)[..2], [8, 8]);
        assert_eq!(window.need(1 << 20), 1 << 20..(1 << 20) + BEHIND);
        assert!(window.from(0).is_empty() && window.from(1 << 20).is_empty());
        let mut short = Window::new(10);
        assert_eq!(short.need(0), 0..10);
    }
}
