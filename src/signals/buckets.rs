//! Which bucket of a sketch each entry of a row goes to, remembered from model to model.
//!
//! Hashing the entries of a row takes longer than adding them up, and their buckets depend on nothing but its key. The keys of a
//! fingerprint are positions: models of one shape have the same ones, and most others have a part of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::hash::mix;

/// Most bytes of all tables; those of a 7B model take 6 MB. Above, they are made anew as they are asked for.
const MOST_BYTES: usize = 24 << 20;
/// The bit that turns the sign over; those below choose the bucket.
const TURN: u16 = 1 << 15;

/// The hash buckets of the entries of one row, each with a sign.
#[derive(Debug)]
pub struct Buckets(Vec<u16>);

impl Buckets {
    /// Of `n` entries under a key; entry `i` is hashed as `(key, i)`.
    pub fn new(key: u64, n: usize) -> Self {
        let base = mix(key);
        Self((0..n).map(|i| bucket(base.wrapping_add(i as u64))).collect())
    }

    /// Of entries that have a key each.
    pub fn of_entries(keys: impl Iterator<Item = u64>) -> Self {
        Self(keys.map(bucket).collect())
    }

    /// The same, from memory if they are there.
    pub fn of(key: u64, n: usize) -> Arc<Self> {
        static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = known.tables.get(&key).filter(|buckets| buckets.0.len() >= n) {
            return Arc::clone(buckets);
        }
        drop(known);
        let buckets = Arc::new(Self::new(key, n));
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).add(key, &buckets);
        buckets
    }

    /// The bucket of each entry among `D`, a power of two of at most 2^15, and the bit of its sign that is turned over.
    pub fn iter<const D: usize>(&self) -> impl Iterator<Item = (usize, u32)> {
        const { assert!(D.is_power_of_two() && D <= TURN as usize) };
        self.0.iter().map(|bucket| (usize::from(*bucket) % D, u32::from(bucket & TURN) << 16))
    }
}

fn bucket(key: u64) -> u16 {
    let hash = mix(key);
    let turn = if hash >> 63 == 1 { TURN } else { 0 };
    (hash as u16 & (TURN - 1)) | turn
}

#[derive(Debug, Default)]
struct Known {
    tables: HashMap<u64, Arc<Buckets>>,
    bytes: usize,
}

impl Known {
    fn add(&mut self, key: u64, buckets: &Arc<Buckets>) {
        let bytes = size_of_val(&buckets.0[..]);
        if self.bytes + bytes > MOST_BYTES {
            *self = Self::default();
        }
        if bytes <= MOST_BYTES {
            let before = self.tables.insert(key, Arc::clone(buckets));
            self.bytes += bytes;
            self.bytes -= before.map_or(0, |before| size_of_val(&before.0[..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_would_be_hashed() {
        for n in [8, 4, 16] {
            let (buckets, new) = (Buckets::of(77, n), Buckets::new(77, n));
            assert!(buckets.0.len() >= n && buckets.0[..n] == new.0[..]);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = Known::default();
        for key in 0..9 {
            known.add(key, &Arc::new(Buckets::new(key, MOST_BYTES / 8)));
            known.add(key, &Arc::new(Buckets::new(key, MOST_BYTES / 7)));
            let held: usize = known.tables.values().map(|buckets| size_of_val(&buckets.0[..])).sum();
            assert!(held == known.bytes && held <= MOST_BYTES, "{held} {}", known.bytes);
        }
        known.add(100, &Arc::new(Buckets::new(1, MOST_BYTES)));
        assert!(known.tables.is_empty());
    }
}
