//! The fingerprint: what the database keeps of a model's weights.
//!
//! A model is a list of [`Cell`]s, one for each sampled block: a norm gain, the first or last rows of a
//! matrix, sixteen embedding rows. A cell is 32 signed bytes whose cosine with the same cell of another
//! model estimates the mean correlation of the matched rows. Cells are compared one by one, so two models
//! need not have all of them. Beside them stands one vector for retrieval.

use sha2::{Digest, Sha256};

use super::blocks::le_bytes;
use super::buckets::Buckets;
use super::columns::Columns;
use super::coverage::Extent;
use super::gram::{GramSketch, RowGram};
use super::hash;
use super::roles::{Position, Role, Stack};
use super::samples::Samples;
use super::sketch::{self, Sketch};
use crate::formats::tokenizer::leading_bytes;

/// Version of everything that decides a fingerprint: which tensors are read, positions, statistics, hashes.
///
/// Since 3 more names and packings are read, the files of a model are chosen better, and each row states its coverage.
/// What 2 has read of a model has the same bytes; how much of the model that is, it did not say.
pub const EXTRACTION_VERSION: u32 = 3;
/// The oldest version whose fingerprints are compared with those of [`EXTRACTION_VERSION`].
pub const COMPARABLE_SINCE: u32 = 2;

/// Whether fingerprints of a version are compared with those of [`EXTRACTION_VERSION`].
pub fn is_comparable(version: u32) -> bool {
    (COMPARABLE_SINCE..=EXTRACTION_VERSION).contains(&version)
}

/// Whether fingerprints of a version may have seen less of a model than reading it again would.
pub fn is_outdated(version: u32) -> bool {
    version < EXTRACTION_VERSION
}

/// Bytes of a cell's sketch.
pub const CELL_DIMENSIONS: usize = 32;
/// Entries of the retrieval vector: gains, matrices and embedding have a part each.
pub const VECTOR_DIMENSIONS: usize = GAIN_PART + MATRIX_PART + EMBEDDING_PART;
const GAIN_PART: usize = 256;
const MATRIX_PART: usize = 512;
const EMBEDDING_PART: usize = 256;
/// Embedding rows in one cell.
const EMBEDDING_CELL_ROWS: usize = 16;

/// The sketch of one sampled block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Stack of layers.
    pub stack: Stack,
    /// Layer number, 0 outside the layers.
    pub layer: u16,
    /// Expert of the layer, as in [`Position`].
    pub expert: Option<u16>,
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
    /// First eight bytes of the SHA-256 of the block's values: equal for blocks that were reused as they are.
    pub hash: u64,
    /// The sketch.
    pub sketch: [i8; CELL_DIMENSIONS],
}

impl Cell {
    /// What cells are ordered and found by.
    pub fn key(&self) -> (Role, Stack, u16, Option<u16>, u32) {
        (self.role, self.stack, self.layer, self.expert, self.start)
    }
}

/// Mean squared correlation between different columns of one model, a value in 0..=1 for each group; see
/// [`Columns::mean_squared_correlation`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ColumnCorrelation {
    /// Between norm gains.
    pub gains: f32,
    /// Between matrix rows over the residual dimension.
    pub residual: f32,
    /// Between matrix rows over an inner dimension, within one block.
    pub inner: f32,
    /// Between rows of embedding and output head.
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
    /// What of its model it stands for.
    pub extent: Extent,
    /// Sketches, ordered by role, layer and start.
    pub cells: Vec<Cell>,
    /// How far the columns correlate with each other.
    pub column_correlation: ColumnCorrelation,
    /// The row Gram matrix, the same in any basis of the hidden space; `None` where too few rows were read, and in
    /// fingerprints that were stored before it was known.
    pub row_gram: Option<GramSketch>,
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
    /// Sketches the canonical blocks of one model.
    ///
    /// Blocks whose values are not finite or constant are left out; a model without any is an error.
    pub fn new(samples: &Samples) -> Result<Self, FingerprintError> {
        let mut builder = Builder::new(samples.hidden_size, samples.layers);
        for block in &samples.blocks {
            for (start, values) in block.canonical() {
                builder.add(block.position, block.columns, start, values);
            }
        }
        builder.finish(samples)
    }
}

struct Builder {
    hidden_size: usize,
    cells: Vec<Cell>,
    gains: Columns,
    residual: Columns,
    embedding: Columns,
    /// Correlation of the columns of each block that does not run over the residual dimension.
    inner: Vec<f32>,
    vector: Vector,
}

impl Builder {
    fn new(hidden_size: usize, layers: u16) -> Self {
        Self {
            hidden_size,
            cells: Vec::new(),
            gains: Columns::new(hidden_size),
            residual: Columns::new(hidden_size),
            embedding: Columns::new(hidden_size),
            inner: Vec::new(),
            vector: Vector {
                hidden_size,
                layers,
                gains: Sketch::default(),
                matrices: Sketch::default(),
                embedding: Sketch::default(),
            },
        }
    }

    fn add(&mut self, position: Position, columns: usize, start: u64, values: &[f32]) {
        let chunk = if position.role == Role::Embedding { EMBEDDING_CELL_ROWS } else { usize::MAX };
        let rows_in_cell = chunk.min(values.len() / columns).max(1);
        for (c, values) in values.chunks(rows_in_cell * columns).enumerate() {
            self.add_cell(position, columns, start + (c * rows_in_cell) as u64, values);
        }
    }

    fn add_cell(&mut self, position: Position, columns: usize, start: u64, values: &[f32]) {
        let Position { stack, layer, expert, role, .. } = position;
        let residual = position.row_is_residual() && columns == self.hidden_size;
        let mut own = Columns::new(columns);
        let columns_of = match (role, residual) {
            (_, false) => &mut own,
            (role, true) if role.is_norm() => &mut self.gains,
            (Role::Embedding | Role::Head, true) => &mut self.embedding,
            (_, true) => &mut self.residual,
        };
        let mut sketch = Sketch::<CELL_DIMENSIONS>::default();
        let mut rows = 0u16;
        for (r, raw) in values.chunks_exact(columns).enumerate() {
            if let Some(row) = columns_of.push(raw) {
                rows += 1;
                sketch.add(&Buckets::of(cell_key(position, start, r as u64), row.len()), row);
                self.vector.add(position, start, r as u64, row);
            }
        }
        if rows == 0 {
            return;
        }
        if !own.is_empty() {
            self.inner.push(own.mean_squared_correlation());
        }
        self.cells.push(Cell {
            stack,
            layer,
            expert,
            role,
            start: u32::try_from(start).unwrap_or(u32::MAX),
            rows,
            dimension: u32::try_from(columns).unwrap_or(u32::MAX),
            residual,
            hash: hash(values),
            sketch: sketch.quantise(),
        });
    }

    fn finish(mut self, samples: &Samples) -> Result<Fingerprint, FingerprintError> {
        if self.cells.is_empty() {
            return Err(FingerprintError::Nothing);
        }
        self.cells.sort_by_key(Cell::key);
        let inner = self.inner.iter().sum::<f32>() / self.inner.len().max(1) as f32;
        Ok(Fingerprint {
            hidden_size: u32::try_from(self.hidden_size).unwrap_or(u32::MAX),
            layers: self.vector.layers,
            vocabulary: samples.vocabulary,
            extent: samples.extent(),
            cells: self.cells,
            column_correlation: ColumnCorrelation {
                gains: self.gains.mean_squared_correlation(),
                residual: self.residual.mean_squared_correlation(),
                inner,
                embedding: self.embedding.mean_squared_correlation(),
            },
            row_gram: samples.row_gram().map(RowGram::sketched),
            vector: self.vector.quantise(),
        })
    }
}

/// The retrieval vector being filled. It is keyed by hidden size and *relative* depth, so that models of other widths
/// are orthogonal and depth-pruned ones stay near.
struct Vector {
    hidden_size: usize,
    layers: u16,
    gains: Sketch<GAIN_PART>,
    matrices: Sketch<MATRIX_PART>,
    embedding: Sketch<EMBEDDING_PART>,
}

impl Vector {
    fn add(&mut self, position: Position, start: u64, row: u64, values: &[f32]) {
        let Position { stack, role, .. } = position;
        let depth = position.relative_depth(self.layers);
        let d = self.hidden_size as u64;
        let code = u64::from(role as u8) + 256 * u64::from(stack as u8);
        let buckets = |key: &[u64]| Buckets::of(hash::key(key), values.len());
        if role == Role::Head {
            // Many models have none, and relatives of theirs may: it would set them apart.
        } else if role.is_norm() {
            self.gains.add(&buckets(&[1, d, code, depth]), values);
        } else if role == Role::Embedding {
            self.embedding.add(&buckets(&[2, d, start, row]), values);
        } else {
            self.matrices.add(&buckets(&[3, d, code, depth, row]), values);
        }
    }

    fn quantise(self) -> [i8; VECTOR_DIMENSIONS] {
        let mut vector = [0.0f32; VECTOR_DIMENSIONS];
        let (gains, rest) = vector.split_at_mut(GAIN_PART);
        let (matrices, embedding) = rest.split_at_mut(MATRIX_PART);
        gains.copy_from_slice(&self.gains.unit());
        matrices.copy_from_slice(&self.matrices.unit());
        embedding.copy_from_slice(&self.embedding.unit());
        sketch::quantise(&vector)
    }
}

fn hash(values: &[f32]) -> u64 {
    leading_bytes(&Sha256::digest(le_bytes(values)).into())
}

/// Gains are keyed by their layer, because gains of different layers correlate and one key would
/// make their sketch errors add up. Matrix rows are not, so that any layer can be held against any other.
fn cell_key(position: Position, start: u64, row: u64) -> u64 {
    let Position { stack, layer, role, .. } = position;
    let code = u64::from(role as u8) + 256 * u64::from(stack as u8);
    if role.is_norm() {
        hash::key(&[code, u64::from(layer)])
    } else if role == Role::Embedding {
        hash::key(&[code, start + row])
    } else {
        hash::key(&[code, row])
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::super::testing::Model;
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
        let mut samples = model.samples();
        samples.blocks.reverse();
        let blocks = samples.blocks.clone();
        let mut backward = Samples::new(4, Some(1000), blocks, None);
        backward.coverage = samples.coverage.clone();
        let backward = Fingerprint::new(&backward).unwrap();
        assert_eq!(model.fingerprint(), backward);
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
        assert_eq!(Fingerprint::new(&model.samples()), Err(FingerprintError::Nothing));
        let empty = Samples::new(1, None, Vec::new(), None);
        assert_eq!(Fingerprint::new(&empty), Err(FingerprintError::Nothing));
    }
}
