//! Made-up models for the tests of this folder and of those below it.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::blocks::Block;
use super::coverage::Coverage;
use super::fingerprint::Fingerprint;
use super::roles::{Position, Role};
use super::samples::Samples;

/// Weights of a made-up Llama: Gaussian matrices with some shared outlier dimensions, gains with a
/// depth trend, as real models have them.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) layers: Vec<Vec<Block>>,
    pub(crate) outside: Vec<Block>,
}

pub(crate) fn gaussian(rng: &mut ChaCha8Rng) -> f32 {
    // Sum of uniforms: normal enough for correlations.
    (0..6).map(|_| rng.random::<f32>()).sum::<f32>() * 1.414 - 4.243
}

fn at(role: Role, layer: u16) -> Position {
    Position::main(role, layer)
}

fn block(role: Role, layer: u16, rows: usize, columns: usize, rng: &mut ChaCha8Rng, scale: &[f32]) -> Block {
    let values = (0..rows * columns).map(|i| gaussian(rng) * scale[i % columns]).collect();
    Block { position: at(role, layer), start: 0, tensor_rows: rows as u64, columns, values }
}

impl Model {
    pub(crate) fn random(seed: u64, layers: u16, d: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scale: Vec<f32> = (0..d).map(|_| (gaussian(&mut rng) * 0.3).exp()).collect();
        let wide = vec![1.0; 3 * d];
        let base: Vec<f32> = (0..d).map(|_| gaussian(&mut rng) * 0.2).collect();
        let make = |layer: u16, rng: &mut ChaCha8Rng| {
            let mut blocks = vec![];
            for role in [Role::Query, Role::Key, Role::Value, Role::Gate, Role::Up] {
                blocks.push(block(role, layer, 8, d, rng, &scale));
            }
            blocks.push(block(Role::Down, layer, 4, 3 * d, rng, &wide));
            for role in [Role::AttentionNorm, Role::MlpNorm] {
                // Gains of neighbouring layers correlate.
                let values = base.iter().map(|b| 1.0 + b + 0.1 * gaussian(rng)).collect();
                let position = at(role, layer);
                blocks.push(Block { position, start: 0, tensor_rows: 1, columns: d, values });
            }
            blocks
        };
        let stack = (0..layers).map(|l| make(l, &mut rng)).collect();
        let mut embedding = block(Role::Embedding, 0, 64, d, &mut rng, &scale);
        embedding.start = 128;
        embedding.tensor_rows = 192;
        Self { layers: stack, outside: vec![embedding] }
    }

    /// Adds noise so that parameters keep correlation `r`.
    pub(crate) fn tuned(&self, r: f32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let noise = (1.0 / (r * r) - 1.0).sqrt();
        let mut copy = self.clone();
        for block in copy.layers.iter_mut().flatten().chain(&mut copy.outside) {
            let n = block.values.len() as f32;
            let mean = block.values.iter().sum::<f32>() / n;
            let sd = (block.values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
            block.values.iter_mut().for_each(|v| *v += noise * sd * gaussian(&mut rng));
        }
        copy
    }

    pub(crate) fn keep_layers(&self, keep: &[usize]) -> Self {
        let layers = keep
            .iter()
            .enumerate()
            .map(|(new, &old)| {
                let mut blocks = self.layers[old].clone();
                for block in &mut blocks {
                    block.position.layer = new as u16;
                }
                blocks
            })
            .collect();
        Self { layers, outside: self.outside.clone() }
    }

    /// Keeps these hidden dimensions, in this order, wherever a row runs over them.
    pub(crate) fn with_dimensions(&self, chosen: &[usize]) -> Self {
        let mut copy = self.clone();
        for block in copy.layers.iter_mut().flatten().chain(&mut copy.outside) {
            if block.position.row_is_residual() {
                let rows = block.values.chunks(block.columns);
                block.values = rows.flat_map(|row| chosen.iter().map(|&i| row[i])).collect();
                block.columns = chosen.len();
            }
        }
        copy
    }

    /// The hidden dimensions in another order. Rows of a matrix that writes to them are permuted as well, so others
    /// are sampled.
    pub(crate) fn permuted(&self, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..self.outside[0].columns).collect();
        order.shuffle(&mut rng);
        let mut copy = self.with_dimensions(&order);
        for block in copy.layers.iter_mut().flatten().filter(|b| !b.position.row_is_residual()) {
            block.values.iter_mut().for_each(|v| *v = gaussian(&mut rng));
        }
        copy
    }

    pub(crate) fn samples(&self) -> Samples {
        let blocks: Vec<Block> = self.layers.iter().flatten().chain(&self.outside).cloned().collect();
        let mut samples = Samples::new(self.layers.len() as u16, Some(1000), blocks, None);
        samples.coverage = Some(Coverage::of_all(1, 2));
        samples
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(&self.samples()).unwrap()
    }
}
