//! The HNSW graph: building, proving, saving and loading.
//!
//! hnsw_rs writes two files in the byte order of the machine and panics on files that it cannot read. So the
//! index metadata holds their checksums and the byte order, and a file reaches hnsw_rs only when both are right.

use std::path::Path;

use hnsw_rs::api::AnnT;
use hnsw_rs::hnsw::Hnsw;
use hnsw_rs::hnswio::HnswIo;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::distance::{ByteCosine, Vector};
use super::exact::{self, Hit};
use super::index::BuildSettings;
use crate::store::StoreError;

/// Name of the two graph files before their extensions.
pub const BASE_NAME: &str = "graph";
/// Layers of the graph; hnsw_rs allows 16.
const LAYERS: usize = 16;
/// Nodes inserted between two reports of progress.
const CHUNK: usize = 512;
/// How far a node's search for itself looks before the node counts as unreachable.
const PROOF_HITS: usize = 64;
/// Candidate list of that search.
const PROOF_EF: usize = 512;
/// Neighbours that recall is measured on.
pub const RECALL_AT: usize = 10;

/// A graph in memory.
pub struct Graph {
    hnsw: Hnsw<'static, i8, ByteCosine>,
}

impl Graph {
    /// Inserts all vectors in a shuffled order: near-duplicates that follow each other, as a crawl lists them,
    /// cut nodes off.
    pub fn build(vectors: &[Vector], settings: &BuildSettings, progress: &(dyn Fn(u64) + Sync)) -> Self {
        let hnsw = Hnsw::new(
            settings.connections,
            vectors.len().max(1),
            LAYERS,
            settings.ef_construction,
            ByteCosine,
        );
        let mut order: Vec<usize> = (0..vectors.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(settings.seed));
        for chunk in order.chunks(CHUNK) {
            let items: Vec<(&[i8], usize)> = chunk.iter().map(|&i| (vectors[i].as_slice(), i)).collect();
            hnsw.parallel_insert_slice(&items);
            progress(chunk.len() as u64);
        }
        Self { hnsw }
    }

    /// Nodes whose search for their own vector does not find them.
    pub fn unreachable(&self, vectors: &[Vector]) -> Vec<u32> {
        let finds_itself = |node: usize| {
            self.hnsw.search(&vectors[node], PROOF_HITS, PROOF_EF).iter().any(|hit| hit.d_id == node)
        };
        (0..vectors.len()).into_par_iter().filter(|&node| !finds_itself(node)).map(|n| n as u32).collect()
    }

    /// Mean recall at [`RECALL_AT`] against the exact scan, over `sample` nodes as queries. A hit counts when it
    /// is as near as the exact one, whichever of equals it is.
    pub fn recall(&self, vectors: &[Vector], sample: usize, ef: usize, seed: u64) -> f64 {
        let mut queries: Vec<usize> = (0..vectors.len()).collect();
        queries.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        queries.truncate(sample);
        if queries.is_empty() {
            return 1.0;
        }
        let total: f64 = queries
            .iter()
            .map(|&q| {
                let truth = exact::nearest(vectors, &vectors[q], RECALL_AT);
                let worst = truth.last().map_or(0.0, |hit| hit.1);
                let hits = self.nearest(&vectors[q], RECALL_AT, ef);
                hits.iter().filter(|hit| hit.1 <= worst).count() as f64 / truth.len() as f64
            })
            .sum();
        total / queries.len() as f64
    }

    /// The `k` nearest nodes that the graph finds.
    pub fn nearest(&self, query: &Vector, k: usize, ef: usize) -> Vec<Hit> {
        self.hnsw.search(query, k, ef.max(k)).into_iter().map(|hit| (hit.d_id as u32, hit.distance)).collect()
    }

    /// Writes the two files into an existing folder.
    pub fn save(&self, folder: &Path) -> Result<(), StoreError> {
        self.hnsw.file_dump(folder, BASE_NAME).map_err(StoreError::damaged(folder))?;
        Ok(())
    }

    /// Loads the two files; the caller has verified them.
    pub fn load(folder: &Path) -> Result<Self, StoreError> {
        // The graph borrows from its reader for as long as it lives, which is the rest of the process:
        // an index is opened once. The reader itself is a path and a few flags.
        let reader: &'static HnswIo = Box::leak(Box::new(HnswIo::new(folder, BASE_NAME)));
        let hnsw = reader.load_hnsw_with_dist(ByteCosine).map_err(StoreError::damaged(folder))?;
        Ok(Self { hnsw })
    }
}
