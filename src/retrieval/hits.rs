//! What a search finds, and the nearest of it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A number and its cosine with the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Of a representative, or of a checkpoint.
    pub number: u32,
    /// -1..=1.
    pub cosine: f32,
}

impl Eq for Hit {}

impl Ord for Hit {
    /// Nearest first; of equals the one with the smaller number, so that the order is always the same.
    fn cmp(&self, other: &Self) -> Ordering {
        other.cosine.total_cmp(&self.cosine).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` nearest of some hits, nearest first.
pub fn nearest(hits: impl Iterator<Item = Hit>, k: usize) -> Vec<Hit> {
    nearest_of(hits, k, |_| true)
}

/// The same of those that are wanted, which is only asked of such as would be among them.
pub fn nearest_of(hits: impl Iterator<Item = Hit>, k: usize, is_wanted: impl Fn(&Hit) -> bool) -> Vec<Hit> {
    // The farthest of those kept is on top.
    let mut kept: BinaryHeap<Hit> = BinaryHeap::new();
    for hit in hits {
        let is_near = kept.len() < k || kept.peek().is_some_and(|farthest| hit < *farthest);
        if is_near && is_wanted(&hit) {
            kept.push(hit);
            if kept.len() > k {
                kept.pop();
            }
        }
    }
    kept.into_sorted_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_in_order() {
        let hit = |number, cosine| Hit { number, cosine };
        let hits = [hit(5, 0.5), hit(1, 0.9), hit(3, 0.5), hit(2, 0.1)];
        assert_eq!(nearest(hits.into_iter(), 3), [hit(1, 0.9), hit(3, 0.5), hit(5, 0.5)]);
        assert!(nearest(hits.into_iter(), 0).is_empty());
        assert_eq!(nearest_of(hits.into_iter(), 2, |hit| hit.number > 2), [hit(3, 0.5), hit(5, 0.5)]);
    }
}
