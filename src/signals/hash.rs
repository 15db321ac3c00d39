//! The hash behind keys and buckets: the same on every machine, today and later, because stored sketches rest on it.

/// A key from small numbers; different lists give different keys.
pub fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0x6875_6270_7269_6e74, |k, p| mix(k ^ p.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
