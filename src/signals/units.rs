//! Samples as centred unit columns, in a basis of the hidden dimensions.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::blocks::{Block, Blocks};
use super::columns::{degrees_of_freedom, standardise};
use super::roles::{Position, Role};

/// How the hidden dimensions of a model are looked at.
#[derive(Clone, Debug)]
pub(super) enum Basis {
    /// As they are stored.
    Own,
    /// These of them, in this order.
    Dimensions(Vec<usize>),
    /// Their inner products with the embedding of some tokens: what a rotation does not change.
    Tokens {
        /// Whitened embedding rows, n x d.
        rows: Array2<f32>,
        /// Dimension of the space that they span evenly, at most n.
        freedom: f64,
    },
}

/// Fewest rows of a matrix in a basis of tokens. What neurons have in common (most are silent on rare tokens,
/// in any model) is their mean over the block, which is taken out; that needs some rows.
const LEAST_ROWS_BY_TOKENS: usize = 8;

impl Basis {
    /// Numbered rows in this basis. Those of tokens are one matrix product, ten times as fast as row by row.
    fn apply<'a>(&self, rows: impl Iterator<Item = (u64, &'a [f32])>) -> Vec<(u64, Vec<f32>)> {
        let pick =
            |row: &[f32], chosen: &[usize]| chosen.iter().filter_map(|i| row.get(*i).copied()).collect();
        match self {
            Self::Own => rows.map(|(number, row)| (number, row.to_vec())).collect(),
            Self::Dimensions(chosen) => rows.map(|(number, row)| (number, pick(row, chosen))).collect(),
            Self::Tokens { rows: tokens, .. } => {
                let (numbers, rows): (Vec<u64>, Vec<&[f32]>) =
                    rows.filter(|(_, row)| row.len() == tokens.ncols()).unzip();
                let Ok(table) = Array2::from_shape_vec((rows.len(), tokens.ncols()), rows.concat()) else {
                    return Vec::new();
                };
                let products = table.dot(&tokens.t());
                numbers.into_iter().zip(products.rows()).map(|(number, row)| (number, row.to_vec())).collect()
            }
        }
    }

    /// Length and degrees of freedom of a row of `d` entries after [`Basis::apply`].
    fn shape(&self, d: usize) -> (usize, f64) {
        match self {
            Self::Own => (d, degrees_of_freedom(d)),
            Self::Dimensions(chosen) => (chosen.len(), degrees_of_freedom(chosen.len())),
            Self::Tokens { rows, freedom } => (rows.nrows(), degrees_of_freedom(rows.nrows()).min(*freedom)),
        }
    }
}

/// The rows of one tensor, by row number; rows without information are left out.
#[derive(Clone, Debug)]
pub(super) struct UnitBlock {
    /// Length of a row.
    pub(super) dimension: usize,
    /// Its degrees of freedom.
    pub(super) freedom: f64,
    /// Whether the rows run over the hidden dimension.
    pub(super) residual: bool,
    /// The rows.
    pub(super) rows: BTreeMap<u64, Vec<f32>>,
    /// Numbers of the canonical rows, which every layer has; where more was read, some have others too.
    pub(super) canonical: Vec<u64>,
}

/// One model's samples, standardised.
#[derive(Clone, Debug)]
pub(super) struct Units {
    /// Norm gains and matrices.
    pub(super) blocks: BTreeMap<Position, UnitBlock>,
    /// Embedding rows, by token id.
    pub(super) embedding: BTreeMap<u64, Vec<f32>>,
}

impl Units {
    /// Standardises every row. In a basis of tokens there are no gains: they are no vectors of the hidden
    /// space.
    pub(super) fn new(samples: &Blocks, basis: &Basis) -> Self {
        let mut blocks: BTreeMap<Position, UnitBlock> = BTreeMap::new();
        let mut embedding = BTreeMap::new();
        for block in &samples.blocks {
            let role = block.position.role;
            let residual = block.position.row_is_residual() && block.columns == samples.hidden_size;
            let by_tokens = residual && matches!(basis, Basis::Tokens { .. });
            if by_tokens && role.is_norm() {
                continue;
            }
            let basis = if residual { basis } else { &Basis::Own };
            // Only keys and values are read whole, so only they are searched for rows in another order; of the
            // others the canonical rows are enough where a basis is tried.
            let whole =
                matches!(basis, Basis::Own) || matches!(role, Role::Key | Role::Value | Role::Embedding);
            let mut rows =
                if whole { unit_rows(block.rows(), basis) } else { unit_rows(canonical_rows(block), basis) };
            if by_tokens && !centre(&mut rows) {
                continue;
            }
            if role == Role::Embedding {
                embedding.extend(rows);
            } else {
                let (dimension, freedom) = basis.shape(block.columns);
                let empty = || UnitBlock {
                    dimension,
                    freedom,
                    residual,
                    rows: BTreeMap::new(),
                    canonical: Vec::new(),
                };
                let entry = blocks.entry(block.position).or_insert_with(empty);
                entry.rows.extend(rows);
                for (start, values) in block.canonical() {
                    entry.canonical.extend(start..start + (values.len() / block.columns) as u64);
                }
            }
        }
        Self { blocks, embedding }
    }
}

fn canonical_rows(block: &Block) -> impl Iterator<Item = (u64, &[f32])> {
    let parts = block.canonical().into_iter();
    parts.flat_map(|(start, values)| (start..).zip(values.chunks_exact(block.columns)))
}

fn unit_rows<'a>(rows: impl Iterator<Item = (u64, &'a [f32])>, basis: &Basis) -> Vec<(u64, Vec<f32>)> {
    let mut rows = basis.apply(rows);
    rows.retain_mut(|(_, row)| standardise(row));
    rows
}

/// Takes the mean row out of a block; `false` where it has too few rows.
fn centre(rows: &mut Vec<(u64, Vec<f32>)>) -> bool {
    if rows.len() < LEAST_ROWS_BY_TOKENS {
        return false;
    }
    let n = rows.len() as f32;
    let mut mean = vec![0.0f32; rows[0].1.len()];
    for (_, row) in rows.iter() {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
    }
    rows.retain_mut(|(_, row)| {
        row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        standardise(row)
    });
    true
}
