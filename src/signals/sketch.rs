//! Count sketches: a few signed bytes that stand for thousands of weights.
//!
//! Every entry of a unit column is added, with a pseudo-random sign, to one of `D` buckets chosen by a hash
//! of its key. For two models sketched with the same keys the inner product of the sketches estimates the
//! inner product of the columns without bias, with variance about `1/D` (Charikar, Chen, Farach-Colton 2002;
//! Weinberger et al. 2009, feature hashing). Only directions are kept: cosines are all that is asked later,
//! so a sketch is scaled to its own largest entry and stored in bytes.

use super::buckets::Buckets;

/// A sketch being filled.
pub struct Sketch<const D: usize> {
    buckets: [f32; D],
}

impl<const D: usize> Default for Sketch<D> {
    fn default() -> Self {
        Self { buckets: [0.0; D] }
    }
}

impl<const D: usize> Sketch<D> {
    /// Adds a vector, each entry to its bucket.
    pub fn add(&mut self, buckets: &Buckets, values: &[f32]) {
        for ((bucket, turn), v) in buckets.iter::<D>().zip(values) {
            // As a branch the sign would be mispredicted every other time, which costs three times as much as all the
            // rest.
            self.buckets[bucket] += f32::from_bits(v.to_bits() ^ turn);
        }
    }

    /// The buckets scaled to unit length; all zero stays zero.
    pub fn unit(mut self) -> [f32; D] {
        let norm = self.buckets.iter().map(|v| v * v).sum::<f32>().sqrt();
        if norm > 0.0 {
            self.buckets.iter_mut().for_each(|v| *v /= norm);
        }
        self.buckets
    }

    /// The buckets in bytes, the largest as 127.
    pub fn quantise(self) -> [i8; D] {
        quantise(&self.buckets)
    }
}

/// Scales so that the largest entry is 127 and rounds. All zero stays zero.
pub fn quantise<const D: usize>(values: &[f32; D]) -> [i8; D] {
    let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    if largest <= 0.0 {
        return [0; D];
    }
    std::array::from_fn(|i| (values[i] / largest * 127.0).round() as i8)
}

/// Cosine of two stored sketches, 0 when either is empty.
pub fn cosine(a: &[i8], b: &[i8]) -> f64 {
    // At most 2^17 entries, which no sketch comes near, stay below i32::MAX.
    let (mut ab, mut aa, mut bb) = (0i32, 0i32, 0i32);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (i32::from(*x), i32::from(*y));
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa == 0 || bb == 0 { 0.0 } else { f64::from(ab) / (f64::from(aa) * f64::from(bb)).sqrt() }
}

/// Inner product of two stored sketches of fewer than 2^17 entries.
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(i16::from(*x) * i16::from(*y))).sum()
}

/// Length of a stored sketch.
pub fn norm(a: &[i8]) -> f64 {
    f64::from(dot(a, a)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::hash::{key, mix};
    use super::*;

    fn noise(seed: u64, n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| (mix(seed.wrapping_mul(977).wrapping_add(i as u64)) >> 32) as f32 / 2e9 - 1.0)
            .collect()
    }

    #[test]
    fn unrelated_cosines_have_the_stated_spread() {
        // Standard deviation 1/sqrt(D) around 0.
        let n = 400;
        let values: Vec<f64> = (0..n)
            .map(|s| {
                let (mut a, mut b) = (Sketch::<64>::default(), Sketch::<64>::default());
                a.add(&Buckets::new(7, 2000), &noise(2 * s, 2000));
                b.add(&Buckets::new(7, 2000), &noise(2 * s + 1, 2000));
                cosine(&a.quantise(), &b.quantise())
            })
            .collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((sd * 8.0 - 1.0).abs() < 0.12, "{sd}");
    }

    #[test]
    fn the_cosine_of_related_vectors_is_kept() {
        let a = noise(1, 5000);
        let b: Vec<f32> = a.iter().zip(noise(2, 5000)).map(|(x, y)| x + 0.5 * y).collect();
        let (mut sa, mut sb) = (Sketch::<1024>::default(), Sketch::<1024>::default());
        sa.add(&Buckets::new(1, a.len()), &a);
        sb.add(&Buckets::new(1, b.len()), &b);
        let truth = 1.0 / 1.25f64.sqrt();
        assert!((cosine(&sa.quantise(), &sb.quantise()) - truth).abs() < 0.03);
    }

    #[test]
    fn other_keys_are_other_sketches() {
        let a = noise(1, 5000);
        let (mut sa, mut sb) = (Sketch::<1024>::default(), Sketch::<1024>::default());
        sa.add(&Buckets::new(key(&[1, 2]), a.len()), &a);
        sb.add(&Buckets::new(key(&[2, 1]), a.len()), &a);
        assert!(cosine(&sa.quantise(), &sb.quantise()).abs() < 0.15);
    }
}
