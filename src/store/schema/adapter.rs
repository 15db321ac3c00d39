//! What an adapter changes, to and from columns.

use arrow::array::ArrayRef;
use arrow::datatypes::UInt32Type;

use super::arrays::{numbers, text, texts};
use super::reader::Reader;
use crate::store::StoreError;
use crate::store::row::{AdapterFacts, Row};

/// How the names of the columns begin, which shards of formats up to 5 lack.
const PREFIX: &str = "adapter_";
/// The column that says whether the others do.
pub(super) const RANK: &str = "adapter_rank";

/// The columns; null and empty for all but adapters.
pub(super) fn adapter_columns(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let facts = || rows.iter().map(|row| row.adapter.as_ref());
    vec![
        (RANK, numbers::<UInt32Type>(facts().map(|facts| Some(facts?.rank)))),
        (
            "adapter_targets",
            texts(facts().map(|facts| facts.into_iter().flat_map(|f| &f.targets).map(|t| Some(t.as_str())))),
        ),
        ("adapter_base", text(facts().map(|facts| facts?.base.as_ref()))),
        ("adapter_revision", text(facts().map(|facts| facts?.revision.as_ref()))),
    ]
}

/// Whether it is one of these columns.
pub(super) fn is_of_adapter(column: &str) -> bool {
    column.starts_with(PREFIX)
}

impl Reader<'_> {
    /// The rank of the adapter of a row; `None` for a model, and of shards from before there were any.
    pub(super) fn rank(&self, i: usize) -> Result<Option<u32>, StoreError> {
        if self.has(RANK) { self.number::<UInt32Type>(RANK, i) } else { Ok(None) }
    }

    /// What the adapter of a row changes; `None` for a model.
    pub(super) fn adapter(&self, i: usize) -> Result<Option<AdapterFacts>, StoreError> {
        let Some(rank) = self.rank(i)? else { return Ok(None) };
        Ok(Some(AdapterFacts {
            rank,
            targets: self.texts("adapter_targets", i)?.into_iter().flatten().collect(),
            base: self.text("adapter_base", i)?,
            revision: self.text("adapter_revision", i)?,
        }))
    }
}
