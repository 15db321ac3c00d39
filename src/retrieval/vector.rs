//! Retrieval vectors, and the kernels that every search spends its time in.
//!
//! They are plain loops that the compiler turns into vector instructions; on x86-64 they are compiled a
//! second time for AVX2, which halves the time of the product and quarters that of the code distance. Whatever
//! the machine, the results are the same integers.

use crate::signals::fingerprint::VECTOR_DIMENSIONS;
use crate::signals::hash::mix;

/// A retrieval vector; only its direction means something.
pub type Vector = [i8; VECTOR_DIMENSIONS];

/// Words of a [`Code`].
const WORDS: usize = VECTOR_DIMENSIONS / 64;
/// The sign of every entry, one bit each.
pub type Code = [u64; WORDS];

/// Inner product; at most 1024 * 127 * 127, far below `i32::MAX`.
pub fn dot(a: &Vector, b: &Vector) -> i32 {
    dispatch::dot(a, b)
}

/// Length, at least a tiny number, so that the zero vector has cosine 0 with everything.
pub fn norm(a: &Vector) -> f32 {
    (dot(a, a) as f32).sqrt().max(f32::MIN_POSITIVE)
}

/// Cosine of two vectors.
pub fn cosine(a: &Vector, b: &Vector) -> f32 {
    dot(a, b) as f32 / (norm(a) * norm(b))
}

/// Number of signs that differ.
pub fn distance(a: &Code, b: &Code) -> u32 {
    dispatch::distance(a, b)
}

/// Which of many codes differ from one in at most `farthest` signs, and in how many.
pub fn near<const N: usize>(code: &[u64; N], others: &[[u64; N]], farthest: u32) -> Vec<(u32, u32)> {
    dispatch::near(code, others, farthest)
}

/// The signs of `values`. The sign of a zero is drawn from `seed`: parts of a model that were not read must agree
/// by chance with those of another, and not because both are missing.
pub fn signs<const N: usize>(values: impl Iterator<Item = f32>, seed: u64) -> [u64; N] {
    let mut signs = [0u64; N];
    for (i, value) in values.take(64 * N).enumerate() {
        let set = if value == 0.0 { mix(seed ^ i as u64) >> 63 == 1 } else { value > 0.0 };
        signs[i / 64] |= u64::from(set) << (i % 64);
    }
    signs
}

/// What the signs of a vector's zeros are drawn from.
pub fn seed(vector: &Vector) -> u64 {
    let (words, _) = vector.as_chunks::<8>();
    words.iter().fold(0, |seed, word| mix(seed ^ u64::from_le_bytes(word.map(i8::cast_unsigned))))
}

/// The code of a vector itself.
pub fn code_of(vector: &Vector) -> Code {
    signs(vector.iter().map(|v| f32::from(*v)), seed(vector))
}

/// Correlation of two Gaussian vectors that differ in `distance` of so many signs: the signs of two variables of
/// correlation `r` agree with probability `1/2 + asin(r)/pi` (Goemans and Williamson 1995).
pub fn correlation(distance: u32, of: usize) -> f32 {
    let disagree = distance as f32 / of as f32;
    (std::f32::consts::PI * (0.5 - disagree)).sin()
}

#[allow(clippy::inline_always, reason = "must be compiled into both builds of the kernel")]
#[inline(always)]
fn dot_loop(a: &Vector, b: &Vector) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(i16::from(*x) * i16::from(*y))).sum()
}

#[allow(clippy::inline_always, reason = "must be compiled into both builds of the kernel")]
#[inline(always)]
fn distance_loop<const N: usize>(a: &[u64; N], b: &[u64; N]) -> u32 {
    a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum()
}

#[allow(clippy::inline_always, reason = "must be compiled into both builds of the kernel")]
#[inline(always)]
fn near_loop<const N: usize>(code: &[u64; N], others: &[[u64; N]], farthest: u32) -> Vec<(u32, u32)> {
    // A loop of its own: what `collect` runs is compiled once, for any machine.
    let mut near = Vec::new();
    for (i, other) in (0..).zip(others) {
        let distance = distance_loop(code, other);
        if distance <= farthest {
            near.push((i, distance));
        }
    }
    near
}

#[cfg(target_arch = "x86_64")]
mod dispatch {
    use super::{Code, Vector, distance_loop, dot_loop, near_loop};

    #[target_feature(enable = "avx2")]
    fn dot_avx2(a: &Vector, b: &Vector) -> i32 {
        dot_loop(a, b)
    }

    #[target_feature(enable = "avx2,popcnt")]
    fn distance_avx2(a: &Code, b: &Code) -> u32 {
        distance_loop(a, b)
    }

    pub(super) fn dot(a: &Vector, b: &Vector) -> i32 {
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the only condition of the call is that the machine has AVX2, which was just looked up. The
            // function is safe code compiled for it.
            #[allow(unsafe_code, reason = "see SAFETY")]
            unsafe {
                dot_avx2(a, b)
            }
        } else {
            dot_loop(a, b)
        }
    }

    #[target_feature(enable = "avx2,popcnt")]
    fn near_avx2<const N: usize>(code: &[u64; N], others: &[[u64; N]], farthest: u32) -> Vec<(u32, u32)> {
        near_loop(code, others, farthest)
    }

    pub(super) fn near<const N: usize>(
        code: &[u64; N],
        others: &[[u64; N]],
        farthest: u32,
    ) -> Vec<(u32, u32)> {
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("popcnt") {
            // SAFETY: as for `dot`, with POPCNT.
            #[allow(unsafe_code, reason = "see SAFETY")]
            unsafe {
                near_avx2(code, others, farthest)
            }
        } else {
            near_loop(code, others, farthest)
        }
    }

    pub(super) fn distance(a: &Code, b: &Code) -> u32 {
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("popcnt") {
            // SAFETY: as for `dot`, with POPCNT.
            #[allow(unsafe_code, reason = "see SAFETY")]
            unsafe {
                distance_avx2(a, b)
            }
        } else {
            distance_loop(a, b)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod dispatch {
    pub(super) use super::{distance_loop as distance, dot_loop as dot, near_loop as near};
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::signals::testing::gaussian;

    fn vector(rng: &mut ChaCha8Rng) -> Vector {
        std::array::from_fn(|_| (gaussian(rng) * 30.0).clamp(-127.0, 127.0) as i8)
    }

    #[test]
    fn both_builds_of_the_kernels_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let (a, b) = (vector(&mut rng), vector(&mut rng));
            assert_eq!(dot(&a, &b), dot_loop(&a, &b));
            assert_eq!(distance(&code_of(&a), &code_of(&b)), distance_loop(&code_of(&a), &code_of(&b)));
        }
        let codes: Vec<[u64; 4]> =
            (0..200).map(|_| std::array::from_fn(|i| code_of(&vector(&mut rng))[i])).collect();
        assert_eq!(near(&codes[0], &codes, 120), near_loop(&codes[0], &codes, 120));
        assert_eq!(near(&codes[0], &codes, 0), [(0, 0)]);
        let extreme = [-127i8; VECTOR_DIMENSIONS];
        assert_eq!(dot(&extreme, &extreme), 1024 * 127 * 127);
        assert!((cosine(&extreme, &extreme) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&extreme, &[0; VECTOR_DIMENSIONS]), 0.0);
    }

    #[test]
    fn codes_tell_the_correlation() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for r in [0.0f32, 0.3, 0.7, 0.95] {
            let mut sum = 0.0;
            for _ in 0..50 {
                let a: [f32; VECTOR_DIMENSIONS] = std::array::from_fn(|_| gaussian(&mut rng));
                let b = a.map(|x| r * x + (1.0 - r * r).sqrt() * gaussian(&mut rng));
                sum += correlation(
                    distance(&signs(a.into_iter(), 1), &signs(b.into_iter(), 2)),
                    VECTOR_DIMENSIONS,
                );
            }
            assert!((sum / 50.0 - r).abs() < 0.03, "{r}: {}", sum / 50.0);
        }
    }

    #[test]
    fn what_is_missing_in_both_does_not_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut half = || {
            let mut v = vector(&mut rng);
            v[512..].fill(0);
            code_of(&v)
        };
        let distances: Vec<u32> = (0..40).map(|_| distance(&half(), &half())).collect();
        let mean = distances.iter().sum::<u32>() as f32 / 40.0;
        assert!((mean - 512.0).abs() < 12.0, "{mean}");
    }
}
