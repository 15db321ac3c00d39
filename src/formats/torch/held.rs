//! What is held of a file: the ranges that were read of it so far.

use std::collections::BTreeMap;
use std::ops::Range;

/// Why it does not go on.
#[derive(Debug)]
pub(super) enum Stop<E> {
    /// These bytes must be read first.
    Need(Range<u64>),
    /// The file is not read.
    Failed(E),
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

/// Ranges of a file, none of which begins where another ends.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<u64, Vec<u8>>);

impl Held {
    /// The bytes of a range of the file, or what must be read for them: nothing that is held at its ends.
    pub(super) fn get<E>(&self, range: Range<u64>) -> Result<&[u8], Stop<E>> {
        let Range { mut start, mut end } = range;
        if start >= end {
            return Ok(&[]);
        }
        if let Some((at, bytes)) = self.0.range(..=start).next_back() {
            let (from, to) = (start - at, end.saturating_sub(*at));
            let within = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            if let Some(bytes) = within.and_then(|(from, to)| bytes.get(from..to)) {
                return Ok(bytes);
            }
            start = start.max(at + bytes.len() as u64);
        }
        if let Some((at, bytes)) = self.0.range(start..end).next_back()
            && at + bytes.len() as u64 >= end
        {
            end = *at;
        }
        Err(Stop::Need(start..end))
    }

    /// What is held from the begin of the file on.
    pub(super) fn front(&self) -> &[u8] {
        self.0.get(&0).map_or(&[], Vec::as_slice)
    }

    /// Takes the bytes that begin there.
    pub(super) fn give(&mut self, start: u64, bytes: &[u8]) {
        let before = self.0.range(..start).next_back().map(|(at, held)| (*at, held.len() as u64));
        let at = before.filter(|(at, length)| at + length == start).map_or(start, |(at, _)| at);
        let held = self.0.entry(at).or_default();
        held.extend_from_slice(bytes);
        let end = at + held.len() as u64;
        if let Some(behind) = self.0.remove(&end)
            && let Some(held) = self.0.get_mut(&at)
        {
            held.extend_from_slice(&behind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_for_twice() {
        let mut held = Held::default();
        let get = |held: &Held, range| match held.get::<()>(range) {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(Stop::Need(range)) => Err(range),
            Err(Stop::Failed(())) => unreachable!(),
        };
        assert_eq!(get(&held, 2..6), Err(2..6));
        held.give(0, &[0, 1, 2]);
        held.give(5, &[5, 6]);
        assert_eq!(get(&held, 1..7), Err(3..5));
        assert_eq!(get(&held, 1..4), Err(3..4));
        assert_eq!(get(&held, 4..6), Err(4..5));
        assert_eq!(get(&held, 5..9), Err(7..9));
        assert_eq!(get(&held, 1..3), Ok(vec![1, 2]));
        held.give(3, &[3, 4]);
        assert_eq!(get(&held, 1..7), Ok(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(held.front(), [0, 1, 2, 3, 4, 5, 6]);
    }
}
