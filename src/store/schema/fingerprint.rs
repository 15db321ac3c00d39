//! Fingerprints and profiles from the columns of a row.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int8Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};

use super::reader::Reader;
use crate::signals::coverage::Extent;
use crate::signals::fingerprint::{CELL_DIMENSIONS, Cell, ColumnCorrelation, VECTOR_DIMENSIONS};
use crate::signals::gram::{GRAM_DIMENSIONS, GramSketch};
use crate::signals::profile::{POINTS, Profile, TokenGram};
use crate::signals::roles::Stack;
use crate::signals::{Fingerprint, Role};
use crate::store::StoreError;

/// The columns of [`GramSketch`], which shards written before them lack.
pub(super) const PRODUCT_COLUMNS: [&str; 3] = ["products", "product_concentration", "product_rows"];

impl Reader<'_> {
    /// The profile of a row with a fingerprint.
    pub(super) fn profile(&self, i: usize) -> Result<Option<Profile>, StoreError> {
        if self.number::<UInt32Type>("hidden_size", i)?.is_none() {
            return Ok(None);
        }
        let norms = self.numbers::<Float32Type>("profile_norms", i)?;
        let roles = self.numbers::<UInt8Type>("profile_energy_role", i)?;
        let curves = self.numbers::<Float32Type>("profile_energy", i)?;
        let keys = self.numbers::<UInt64Type>("gram_keys", i)?;
        let cosines = self.numbers::<Int8Type>("gram_cosines", i)?;
        let (curves, rest) = curves.values().as_chunks::<POINTS>();
        if roles.len() != curves.len() || !rest.is_empty() {
            return Err(self.damaged(format!("energy curves of row {i} do not fit their roles")));
        }
        if cosines.len() * 2 != keys.len() * keys.len().saturating_sub(1) {
            return Err(self.damaged(format!(
                "row {i} has {} cosines of {} tokens",
                cosines.len(),
                keys.len()
            )));
        }
        let energy = roles.values().iter().zip(curves).map(|(code, curve)| Ok((self.role(*code)?, *curve)));
        Ok(Some(Profile {
            norms: norms.values().as_ref().first_chunk::<POINTS>().copied(),
            energy: energy.collect::<Result<_, StoreError>>()?,
            gram: TokenGram { keys: keys.values().to_vec(), cosines: cosines.values().to_vec() },
        }))
    }

    fn role(&self, code: u8) -> Result<Role, StoreError> {
        Role::from_code(code).ok_or_else(|| self.damaged(format!("unknown role {code}")))
    }

    /// The fingerprint of a row, with what other columns say of its extent.
    pub(super) fn fingerprint(&self, i: usize, extent: Extent) -> Result<Option<Fingerprint>, StoreError> {
        let (Some(hidden_size), Some(layers)) =
            (self.number::<UInt32Type>("hidden_size", i)?, self.number::<UInt16Type>("layers", i)?)
        else {
            return Ok(None);
        };
        let resemblance = self.numbers::<Float32Type>("resemblance", i)?;
        let &[gains, residual, inner, embedding] = resemblance.values().as_ref() else {
            return Err(self.damaged(format!("row {i} has {} resemblances, not 4", resemblance.len())));
        };
        let vector = self
            .bytes::<VECTOR_DIMENSIONS>("vector", i)?
            .ok_or_else(|| self.damaged(format!("row {i} has no vector")))?;
        Ok(Some(Fingerprint {
            hidden_size,
            layers,
            vocabulary: self.number::<UInt32Type>("vocabulary", i)?,
            extent,
            cells: self.cells(i)?,
            column_correlation: ColumnCorrelation { gains, residual, inner, embedding },
            row_gram: self.row_gram(i)?,
            vector,
        }))
    }

    fn row_gram(&self, i: usize) -> Result<Option<GramSketch>, StoreError> {
        if !PRODUCT_COLUMNS.iter().all(|name| self.has(name)) {
            return Ok(None);
        }
        let sketch = self.bytes::<GRAM_DIMENSIONS>("products", i)?;
        let concentration = self.number::<Float32Type>("product_concentration", i)?;
        let rows = self.number::<UInt16Type>("product_rows", i)?;
        match (sketch, concentration, rows) {
            (None, None, None) => Ok(None),
            (Some(sketch), Some(concentration), Some(rows)) => {
                Ok(Some(GramSketch { sketch, concentration, rows }))
            }
            _ => Err(self.damaged(format!("the products of row {i} are there in part"))),
        }
    }

    fn cells(&self, i: usize) -> Result<Vec<Cell>, StoreError> {
        let roles = self.numbers::<UInt8Type>("cell_role", i)?;
        let stacks = self.numbers::<UInt8Type>("cell_stack", i)?;
        let experts = self.numbers::<UInt16Type>("cell_expert", i)?;
        let hashes = self.numbers::<UInt64Type>("cell_hash", i)?;
        let layers = self.numbers::<UInt16Type>("cell_layer", i)?;
        let starts = self.numbers::<UInt32Type>("cell_start", i)?;
        let rows = self.numbers::<UInt16Type>("cell_rows", i)?;
        let dimensions = self.numbers::<UInt32Type>("cell_dimension", i)?;
        let residual = self.list("cell_residual", i)?;
        let residual = residual
            .as_boolean_opt()
            .ok_or_else(|| self.damaged("column cell_residual is no list of flags".into()))?;
        let sketches = self.numbers::<Int8Type>("cell_sketch", i)?;
        let (sketches, rest) = sketches.values().as_chunks::<CELL_DIMENSIONS>();
        let n = roles.len();
        let lengths = [
            stacks.len(),
            experts.len(),
            hashes.len(),
            layers.len(),
            starts.len(),
            rows.len(),
            dimensions.len(),
            residual.len(),
            sketches.len(),
        ];
        if lengths.iter().any(|l| *l != n) || !rest.is_empty() {
            return Err(self.damaged(format!("cell lists of row {i} have different lengths")));
        }
        (0..n)
            .map(|c| {
                let code = roles.value(c);
                let stack = stacks.value(c);
                Ok(Cell {
                    stack: Stack::from_code(stack)
                        .ok_or_else(|| self.damaged(format!("unknown stack {stack}")))?,
                    expert: experts.is_valid(c).then(|| experts.value(c)),
                    hash: hashes.value(c),
                    layer: layers.value(c),
                    role: self.role(code)?,
                    start: starts.value(c),
                    rows: rows.value(c),
                    dimension: dimensions.value(c),
                    residual: residual.value(c),
                    sketch: sketches[c],
                })
            })
            .collect()
    }
}
