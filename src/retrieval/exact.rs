//! The exact scan: what every other search is held against.

use rayon::prelude::*;

use super::hits::{self, Hit};
use super::vector::{Vector, dot, norm};
use super::vectors::Vectors;
use crate::store::StoreError;

/// The `k` nearest of all vectors to each query, block by block.
pub fn exact_scan(vectors: &Vectors, queries: &[Vector], k: usize) -> Result<Vec<Vec<Hit>>, StoreError> {
    let mut best: Vec<Vec<Hit>> = vec![Vec::new(); queries.len()];
    let norms: Vec<f32> = queries.iter().map(norm).collect();
    vectors.for_each_block(|first, block| {
        let of_block: Vec<f32> = block.iter().map(norm).collect();
        best.par_iter_mut().zip(queries.par_iter().zip(&norms)).for_each(|(best, (query, of_query))| {
            let hits = block.iter().zip(&of_block).enumerate().map(|(i, (vector, of_vector))| Hit {
                number: first + i as u32,
                cosine: dot(query, vector) as f32 / (of_query * of_vector),
            });
            *best = hits::nearest(best.iter().copied().chain(hits), k);
        });
        Ok(())
    })?;
    Ok(best)
}
