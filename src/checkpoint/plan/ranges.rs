//! Which requests cover what is asked for, within a budget.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;

use super::ask::Ask;
use crate::formats::FileRange;
use crate::signals::roles::Position;

/// Where a range begins: file and byte.
type Start = (usize, u64);

/// What is asked for so far, and what that costs.
pub(super) struct Chosen {
    gap: u64,
    /// Most bytes in all, gaps included.
    pub(super) max_bytes: u64,
    pub(super) asks: Vec<Ask>,
    /// What is asked for already.
    taken: HashSet<(Position, u64, (u64, u64))>,
    /// The ranges that cover the asks: (file, first byte) to end.
    covering: BTreeMap<Start, u64>,
    bytes: u64,
}

impl Chosen {
    pub(super) fn new(gap: u64, max_bytes: u64) -> Self {
        let (asks, taken, covering) = (Vec::new(), HashSet::new(), BTreeMap::new());
        Self { gap, max_bytes, asks, taken, covering, bytes: 0 }
    }

    /// Takes the ask unless it breaks the budget.
    pub(super) fn add(&mut self, ask: &Ask, max_ranges: usize) {
        let key = (ask.position, ask.start, ask.end());
        if self.taken.contains(&key) {
            return;
        }
        let (ranges, bytes) = (self.covering.len(), self.bytes);
        let mut undo = Vec::new();
        for piece in ask.pieces.iter().filter(|piece| piece.bytes.start < piece.bytes.end) {
            undo.push(self.cover(piece));
        }
        if self.bytes > self.max_bytes || (self.covering.len() > ranges && self.covering.len() > max_ranges) {
            for (added, replaced) in undo.into_iter().rev() {
                self.covering.remove(&added);
                self.covering.extend(replaced);
            }
            self.bytes = bytes;
        } else {
            self.taken.insert(key);
            self.asks.push(ask.clone());
        }
    }

    /// Widens the covering ranges by a piece: the range that now holds it, and those that it took the place of.
    fn cover(&mut self, piece: &FileRange) -> (Start, Vec<(Start, u64)>) {
        let Range { mut start, mut end } = piece.bytes;
        let mut replaced = Vec::new();
        let before = self.covering.range(..=(piece.file, start)).next_back().map(|(k, v)| (*k, *v));
        if let Some((key, until)) =
            before.filter(|((f, _), v)| *f == piece.file && start <= v.saturating_add(self.gap))
        {
            (start, end) = (key.1, end.max(until));
            replaced.push((key, until));
        }
        let reach = (piece.file, end.saturating_add(self.gap));
        let after = self.covering.range((Excluded((piece.file, start)), Included(reach)));
        replaced.extend(after.map(|(k, v)| (*k, *v)));
        end = replaced.iter().map(|(_, v)| *v).fold(end, u64::max);
        for (key, until) in &replaced {
            self.covering.remove(key);
            self.bytes -= until - key.1;
        }
        self.covering.insert((piece.file, start), end);
        self.bytes += end - start;
        ((piece.file, start), replaced)
    }
}

/// The requests that cover the asks.
pub(super) fn fetches(asks: &[Ask], gap: u64) -> Vec<FileRange> {
    let mut by_file: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
    for piece in asks.iter().flat_map(|ask| &ask.pieces) {
        by_file.entry(piece.file).or_default().push(piece.bytes.clone());
    }
    by_file
        .into_iter()
        .flat_map(|(file, ranges)| {
            coalesce(&ranges, gap).into_iter().map(move |bytes| FileRange { file, bytes })
        })
        .collect()
}

/// Merges ranges that touch, overlap or lie at most `gap` apart. The result is sorted and disjoint, covers
/// every ask, and never has more ranges than there are asks. Empty asks are dropped.
pub fn coalesce(asks: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = asks.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
