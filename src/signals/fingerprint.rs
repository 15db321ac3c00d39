//! The fingerprint: what the database keeps of a model's weights.
//!
//! A model is a list of [`Cell`]s, one for each sampled block: a norm gain, the first or last rows of a
//! matrix, sixteen embedding rows. A cell is 32 signed bytes whose cosine with the same cell of another
//! model estimates the mean correlation of the matched rows. Cells are compared one by one, so two models
//! need not have all of them. Beside them stands one vector for retrieval.

use std::collections::BTreeMap;

use super::columns::{Columns, standardise};
use super::roles::{Position, Role};
use super::sketch::{self, Sketch};

/// Version of everything that decides a fingerprint's bytes: positions, statistics, hashes. Fingerprints of
/// different versions are not compared.
pub const EXTRACTION_VERSION: u32 = 1;
/// Bytes of a cell's sketch.
pub const CELL_DIMENSIONS: usize = 32;
/// Entries of the retrieval vector: gains, matrices and embedding have a part each.
pub const VECTOR_DIMENSIONS: usize = GAIN_PART + MATRIX_PART + EMBEDDING_PART;
const GAIN_PART: usize = 256;
const MATRIX_PART: usize = 512;
const EMBEDDING_PART: usize = 256;
/// Embedding rows in one cell.
const EMBEDDING_CELL_ROWS: usize = 16;
/// Relative depth is cut into this many bins for retrieval across depths.
const DEPTH_BINS: u64 = 16;

/// One sampled block, decoded.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where the tensor sits.
    pub position: Position,
    /// First row of the block in its tensor.
    pub start: u64,
    /// Length of a row.
    pub columns: usize,
    /// Rows one after the other.
    pub values: Vec<f32>,
}

/// The sketch of one sampled block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Layer number, 0 outside the layers.
    pub layer: u16,
    /// Role of the tensor.
    pub role: Role,
    /// First row of the block.
    pub start: u32,
    /// Rows that carried information; each is one column of the test.
    pub rows: u16,
    /// Length of a row: the dimension that the null hypothesis permutes.
    pub dimension: u32,
    /// Whether the rows run over the residual dimension, which all layers share.
    pub residual: bool,
    /// The sketch.
    pub sketch: [i8; CELL_DIMENSIONS],
}

/// Mean squared correlation between different columns of one model, a value in 0..=1 for each group; see
/// [`Columns::resemblance`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resemblance {
    /// Between norm gains.
    pub gains: f32,
    /// Between matrix rows over the residual dimension.
    pub residual: f32,
    /// Between matrix rows over an inner dimension, within one block.
    pub inner: f32,
    /// Between embedding rows.
    pub embedding: f32,
}

/// What the weights of one model look like from a few megabytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    /// Width of the residual stream, from the tensors.
    pub hidden_size: u32,
    /// Layers of the main stack, from the tensors.
    pub layers: u16,
    /// Rows of the token embedding, where it is known.
    pub vocabulary: Option<u32>,
    /// Sketches, ordered by role, layer and start.
    pub cells: Vec<Cell>,
    /// Inner likeness of the columns.
    pub resemblance: Resemblance,
    /// The retrieval vector; only its direction means something.
    pub vector: [i8; VECTOR_DIMENSIONS],
}

/// Why no fingerprint could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// No tensor has a known role and usable values.
    #[error("no tensor with a known role holds usable values")]
    Nothing,
}

impl Fingerprint {
    /// Sketches the sampled blocks of one model.
    ///
    /// `layers` and `vocabulary` are taken from the tensors. Blocks whose values are not finite or constant
    /// are left out; a model without any is an error.
    pub fn new(layers: u16, vocabulary: Option<u32>, blocks: &[Block]) -> Result<Self, FingerprintError> {
        let hidden_size = hidden_size(blocks).ok_or(FingerprintError::Nothing)?;
        let mut builder = Builder::new(hidden_size, layers);
        for block in blocks {
            builder.add(block);
        }
        builder.finish(vocabulary)
    }
}

/// The commonest row length among blocks over the residual dimension.
fn hidden_size(blocks: &[Block]) -> Option<usize> {
    let mut votes = BTreeMap::new();
    for block in blocks.iter().filter(|b| b.position.row_is_residual()) {
        *votes.entry(block.columns).or_insert(0usize) += 1;
    }
    votes.into_iter().max_by_key(|&(columns, count)| (count, columns)).map(|(columns, _)| columns)
}

struct Builder {
    hidden_size: usize,
    layers: u16,
    cells: Vec<Cell>,
    gains: Columns,
    residual: Columns,
    embedding: Columns,
    inner: Vec<f32>,
    gain_part: Sketch<GAIN_PART>,
    matrix_part: Sketch<MATRIX_PART>,
    embedding_part: Sketch<EMBEDDING_PART>,
}

impl Builder {
    fn new(hidden_size: usize, layers: u16) -> Self {
        Self {
            hidden_size,
            layers,
            cells: Vec::new(),
            gains: Columns::new(hidden_size),
            residual: Columns::new(hidden_size),
            embedding: Columns::new(hidden_size),
            inner: Vec::new(),
            gain_part: Sketch::default(),
            matrix_part: Sketch::default(),
            embedding_part: Sketch::default(),
        }
    }

    fn add(&mut self, block: &Block) {
        if block.columns == 0 {
            return;
        }
        let role = block.position.role;
        let chunk = if role == Role::Embedding { EMBEDDING_CELL_ROWS } else { usize::MAX };
        let rows_in_cell = chunk.min(block.values.len() / block.columns).max(1);
        for (c, values) in block.values.chunks(rows_in_cell * block.columns).enumerate() {
            self.add_cell(block, block.start + (c * rows_in_cell) as u64, values);
        }
    }

    fn add_cell(&mut self, block: &Block, start: u64, values: &[f32]) {
        let Position { layer, role, .. } = block.position;
        let residual = block.position.row_is_residual() && block.columns == self.hidden_size;
        let mut sketch = Sketch::<CELL_DIMENSIONS>::default();
        let mut own = Columns::new(block.columns);
        let mut rows = 0u16;
        let mut row = vec![0.0f32; block.columns];
        for (r, raw) in values.chunks_exact(block.columns).enumerate() {
            row.copy_from_slice(raw);
            if !standardise(&mut row) {
                continue;
            }
            rows += 1;
            sketch.add(cell_key(role, layer, start, r as u64), &row);
            self.add_to_vector(role, layer, start, r as u64, &row);
            match (role, residual) {
                (role, true) if role.is_norm() => self.gains.push(&row),
                (Role::Embedding, true) => self.embedding.push(&row),
                (_, true) => self.residual.push(&row),
                (_, false) => own.push(&row),
            }
        }
        if rows == 0 {
            return;
        }
        if !own.is_empty() {
            self.inner.push(own.resemblance());
        }
        self.cells.push(Cell {
            layer,
            role,
            start: u32::try_from(start).unwrap_or(u32::MAX),
            rows,
            dimension: u32::try_from(block.columns).unwrap_or(u32::MAX),
            residual,
            sketch: sketch.quantise(),
        });
    }

    /// The retrieval vector is keyed by hidden size and *relative* depth, so that models of other widths are
    /// orthogonal and depth-pruned ones stay near.
    fn add_to_vector(&mut self, role: Role, layer: u16, start: u64, row: u64, values: &[f32]) {
        let depth = u64::from(layer) * DEPTH_BINS / u64::from(self.layers.max(1));
        let d = self.hidden_size as u64;
        let code = u64::from(role as u8);
        if role.is_norm() {
            self.gain_part.add(sketch::key(&[1, d, code, depth]), values);
        } else if role == Role::Embedding {
            self.embedding_part.add(sketch::key(&[2, d, start, row]), values);
        } else {
            self.matrix_part.add(sketch::key(&[3, d, code, depth, row]), values);
        }
    }

    fn finish(mut self, vocabulary: Option<u32>) -> Result<Fingerprint, FingerprintError> {
        if self.cells.is_empty() {
            return Err(FingerprintError::Nothing);
        }
        self.cells.sort_by_key(|c| (c.role, c.layer, c.start));
        let inner = self.inner.iter().sum::<f32>() / self.inner.len().max(1) as f32;
        let mut vector = [0.0f32; VECTOR_DIMENSIONS];
        let (gains, rest) = vector.split_at_mut(GAIN_PART);
        let (matrices, embedding) = rest.split_at_mut(MATRIX_PART);
        gains.copy_from_slice(&self.gain_part.unit());
        matrices.copy_from_slice(&self.matrix_part.unit());
        embedding.copy_from_slice(&self.embedding_part.unit());
        Ok(Fingerprint {
            hidden_size: u32::try_from(self.hidden_size).unwrap_or(u32::MAX),
            layers: self.layers,
            vocabulary,
            cells: self.cells,
            resemblance: Resemblance {
                gains: self.gains.resemblance(),
                residual: self.residual.resemblance(),
                inner,
                embedding: self.embedding.resemblance(),
            },
            vector: sketch::quantise(&vector),
        })
    }
}

/// Gains are keyed by their layer, because gains of different layers resemble each other and one key would
/// make their sketch errors add up. Matrix rows are not, so that any layer can be held against any other.
fn cell_key(role: Role, layer: u16, start: u64, row: u64) -> u64 {
    let code = u64::from(role as u8);
    if role.is_norm() {
        sketch::key(&[code, u64::from(layer)])
    } else if role == Role::Embedding {
        sketch::key(&[code, start + row])
    } else {
        sketch::key(&[code, row])
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

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

    fn block(
        role: Role,
        layer: u16,
        rows: usize,
        columns: usize,
        rng: &mut ChaCha8Rng,
        scale: &[f32],
    ) -> Block {
        let values = (0..rows * columns).map(|i| gaussian(rng) * scale[i % columns]).collect();
        Block { position: Position::main(role, layer), start: 0, columns, values }
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
                    // Gains of neighbouring layers resemble each other.
                    let values = base.iter().map(|b| 1.0 + b + 0.1 * gaussian(rng)).collect();
                    blocks.push(Block {
                        position: Position::main(role, layer),
                        start: 0,
                        columns: d,
                        values,
                    });
                }
                blocks
            };
            let stack = (0..layers).map(|l| make(l, &mut rng)).collect();
            let mut embedding = block(Role::Embedding, 0, 64, d, &mut rng, &scale);
            embedding.start = 128;
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

        pub(crate) fn fingerprint(&self) -> Fingerprint {
            let blocks: Vec<Block> = self.layers.iter().flatten().chain(&self.outside).cloned().collect();
            Fingerprint::new(self.layers.len() as u16, Some(1000), &blocks).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Model;
    use super::*;

    #[test]
    fn is_a_pure_function_of_the_blocks() {
        let model = Model::random(1, 4, 96);
        assert_eq!(model.fingerprint(), model.fingerprint());
        assert_eq!(model.fingerprint().hidden_size, 96);
    }

    #[test]
    fn order_of_the_blocks_does_not_matter() {
        let model = Model::random(1, 4, 96);
        let mut blocks: Vec<Block> = model.layers.iter().flatten().chain(&model.outside).cloned().collect();
        let forward = Fingerprint::new(4, None, &blocks).unwrap();
        blocks.reverse();
        let backward = Fingerprint::new(4, None, &blocks).unwrap();
        assert_eq!(forward.cells, backward.cells);
    }

    #[test]
    fn vectors_of_other_widths_are_orthogonal() {
        let (a, b) = (Model::random(1, 4, 96).fingerprint(), Model::random(1, 4, 128).fingerprint());
        assert!(sketch::cosine(&a.vector, &b.vector).abs() < 0.15);
    }

    #[test]
    fn vectors_of_a_pruned_stack_stay_near() {
        let model = Model::random(1, 8, 96);
        let pruned = model.keep_layers(&[0, 2, 4, 6]);
        assert!(sketch::cosine(&model.fingerprint().vector, &pruned.fingerprint().vector) > 0.6);
    }

    #[test]
    fn nothing_usable_is_an_error() {
        let mut model = Model::random(1, 1, 96);
        model.layers[0].iter_mut().chain(&mut model.outside).for_each(|b| b.values.fill(1.0));
        let blocks: Vec<Block> = model.layers.into_iter().flatten().collect();
        assert_eq!(Fingerprint::new(1, None, &blocks), Err(FingerprintError::Nothing));
        assert_eq!(Fingerprint::new(1, None, &[]), Err(FingerprintError::Nothing));
    }
}
