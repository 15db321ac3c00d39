//! Values from Arrow columns.

use std::path::Path;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, TimeUnit, TimestampMillisecondType, UInt32Type};
use serde::de::DeserializeOwned;

use crate::store::StoreError;
use crate::store::manifest::check_extraction;
use crate::store::row::Outcome;

/// The column that shards of formats up to 4 lack.
pub(super) const COMPONENT: &str = "component";

/// The column that shards of formats up to 5 lack: they state one for all of their rows.
pub(super) const EXTRACTION_VERSION: &str = "extraction_version";

pub(super) fn missing(column: &str, path: &Path) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: format!("column {column} is missing") }
}

/// Typed access to one batch; a missing or differently typed column is a damaged file.
pub(super) struct Reader<'a> {
    pub(super) batch: &'a RecordBatch,
    pub(super) path: &'a Path,
}

impl Reader<'_> {
    pub(super) fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.to_owned(), what }
    }

    fn column(&self, name: &str, is_right: fn(&DataType) -> bool) -> Result<&ArrayRef, StoreError> {
        let column = self.batch.column_by_name(name).ok_or_else(|| missing(name, self.path))?;
        if is_right(column.data_type()) {
            Ok(column)
        } else {
            Err(self.damaged(format!("column {name} has type {}", column.data_type())))
        }
    }

    pub(super) fn text(&self, name: &str, i: usize) -> Result<Option<String>, StoreError> {
        let column = self.column(name, |t| *t == DataType::Utf8)?.as_string::<i32>();
        Ok(column.is_valid(i).then(|| column.value(i).to_owned()))
    }

    pub(super) fn required(&self, name: &str, i: usize) -> Result<String, StoreError> {
        self.text(name, i)?.ok_or_else(|| self.damaged(format!("column {name} is null in row {i}")))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, name: &str, i: usize) -> Result<Option<T>, StoreError> {
        let Some(text) = self.text(name, i)? else { return Ok(None) };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).map_err(|error| self.damaged(format!("column {name} of row {i}: {error}")))
    }

    pub(super) fn number<T: ArrowPrimitiveType>(
        &self,
        name: &str,
        i: usize,
    ) -> Result<Option<T::Native>, StoreError> {
        let column = self.column(name, |t| *t == T::DATA_TYPE)?.as_primitive::<T>();
        Ok(column.is_valid(i).then(|| column.value(i)))
    }

    pub(super) fn time(&self, name: &str, i: usize) -> Result<Option<i64>, StoreError> {
        let column = self
            .column(name, |t| matches!(t, DataType::Timestamp(TimeUnit::Millisecond, _)))?
            .as_primitive::<TimestampMillisecondType>();
        Ok(column.is_valid(i).then(|| column.value(i)))
    }

    pub(super) fn list(&self, name: &str, i: usize) -> Result<ArrayRef, StoreError> {
        let column = self.column(name, |t| matches!(t, DataType::List(_)))?.as_list::<i32>();
        Ok(column.value(i))
    }

    pub(super) fn texts(&self, name: &str, i: usize) -> Result<Vec<Option<String>>, StoreError> {
        let list = self.list(name, i)?;
        let list = list
            .as_string_opt::<i32>()
            .ok_or_else(|| self.damaged(format!("column {name} is no list of strings")))?;
        Ok(list.iter().map(|v| v.map(str::to_owned)).collect())
    }

    pub(super) fn numbers<T: ArrowPrimitiveType>(
        &self,
        name: &str,
        i: usize,
    ) -> Result<PrimitiveArray<T>, StoreError> {
        let list = self.list(name, i)?;
        list.as_primitive_opt::<T>()
            .cloned()
            .ok_or_else(|| self.damaged(format!("column {name} is no list of {}", T::DATA_TYPE)))
    }

    pub(super) fn bytes<const N: usize>(&self, name: &str, i: usize) -> Result<Option<[i8; N]>, StoreError> {
        let column = self.column(name, |t| matches!(t, DataType::FixedSizeList(_, n) if *n as usize == N))?;
        let column = column.as_fixed_size_list();
        if column.is_null(i) {
            return Ok(None);
        }
        let value = column.value(i);
        let bytes = value.as_primitive_opt::<Int8Type>().and_then(|v| v.values().as_ref().first_chunk::<N>());
        let bytes =
            bytes.copied().ok_or_else(|| self.damaged(format!("column {name} is no list of bytes")))?;
        Ok(Some(bytes))
    }

    pub(super) fn outcome(&self, i: usize) -> Result<Outcome, StoreError> {
        let name = self.required("outcome", i)?;
        Outcome::from_name(&name).ok_or_else(|| self.damaged(format!("unknown outcome {name:?}")))
    }

    /// The component of a row; of shards from before there were any, the main one.
    pub(super) fn component(&self, i: usize) -> Result<String, StoreError> {
        if self.has(COMPONENT) { self.required(COMPONENT, i) } else { Ok(String::new()) }
    }

    /// The extraction version of a row.
    pub(super) fn extraction_version(&self, i: usize) -> Result<u32, StoreError> {
        let version = self.number::<UInt32Type>(EXTRACTION_VERSION, i)?;
        let version = version.ok_or_else(|| self.damaged(format!("row {i} has no extraction version")))?;
        check_extraction(version, self.path)?;
        Ok(version)
    }

    /// Whether the batch has a column of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.batch.column_by_name(name).is_some()
    }
}
