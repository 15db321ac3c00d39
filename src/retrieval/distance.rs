//! Distance between retrieval vectors.

use hnsw_rs::anndists::dist::distances::Distance;

use crate::signals::fingerprint::VECTOR_DIMENSIONS;

/// A retrieval vector.
pub type Vector = [i8; VECTOR_DIMENSIONS];

/// `1 - cosine`, in 0..=2. An all-zero vector is at distance 1 from everything.
///
/// The name is part of the graph file; hnsw_rs refuses a graph of another distance.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteCosine;

impl Distance<i8> for ByteCosine {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        // 1024 products of at most 127 * 127 stay far below i32::MAX.
        let (mut ab, mut aa, mut bb) = (0i32, 0i32, 0i32);
        for (x, y) in a.iter().zip(b) {
            let (x, y) = (i32::from(*x), i32::from(*y));
            ab += x * y;
            aa += x * x;
            bb += y * y;
        }
        if aa == 0 || bb == 0 {
            return 1.0;
        }
        // Rounding must not make it negative: hnsw_rs treats that as an error.
        (1.0 - f64::from(ab) / (f64::from(aa) * f64::from(bb)).sqrt()).max(0.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes() {
        let mut a = [0i8; VECTOR_DIMENSIONS];
        assert_eq!(ByteCosine.eval(&a, &a), 1.0);
        a.fill(-127);
        assert_eq!(ByteCosine.eval(&a, &a), 0.0);
        let b = a.map(|v| -v);
        assert_eq!(ByteCosine.eval(&a, &b), 2.0);
    }
}
