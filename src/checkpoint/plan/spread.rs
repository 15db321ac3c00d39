//! Even choices among many.

use std::collections::BTreeSet;

/// `0..n` in an order whose every prefix is spread evenly: bit-reversed counting.
pub(super) fn spread(n: usize) -> impl Iterator<Item = usize> {
    let bits = usize::BITS - n.saturating_sub(1).leading_zeros();
    (0..1usize << bits)
        .map(move |i| if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) })
        .filter(move |i| *i < n)
}

/// At most `n` evenly spaced items, the first among them. Depends on the count alone, so that two models of one
/// depth are sampled alike.
pub(super) fn evenly<T>(items: Vec<T>, n: usize) -> Vec<T> {
    let all = items.len();
    if all <= n {
        return items;
    }
    let keep: BTreeSet<usize> = (0..n).map(|i| i * all / n).collect();
    items.into_iter().enumerate().filter(|(i, _)| keep.contains(i)).map(|(_, item)| item).collect()
}
