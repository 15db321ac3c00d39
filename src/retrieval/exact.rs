//! The exact scan: the oracle that judges the graph, and the search over its side list.

use hnsw_rs::anndists::dist::distances::Distance;
use rayon::prelude::*;

use super::distance::{ByteCosine, Vector};

/// A node and its distance, nearest first by [`sort`].
pub type Hit = (u32, f32);

/// The `k` nearest of all vectors, nearest first.
pub fn nearest(vectors: &[Vector], query: &Vector, k: usize) -> Vec<Hit> {
    let mut hits: Vec<Hit> =
        vectors.par_iter().enumerate().map(|(node, v)| (node as u32, ByteCosine.eval(v, query))).collect();
    sort(&mut hits);
    hits.truncate(k);
    hits
}

/// Orders by distance, then by node, so that equal distances have one order.
pub fn sort(hits: &mut [Hit]) {
    hits.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
}
