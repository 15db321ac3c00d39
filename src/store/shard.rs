//! One Parquet shard: written once, never changed.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::manifest::{FORMAT_VERSION, ShardEntry};
use super::schema::{self, Content, Key};
use super::{Row, StoreError, Waiting, atomic};
use crate::signals::fingerprint::EXTRACTION_VERSION;

/// Rows decoded at once. A row is about 10 KB, so a batch is some 10 MB.
const BATCH_ROWS: usize = 1024;
/// Key of the format version in the file metadata.
const FORMAT_KEY: &str = "hubprint.format_version";
/// Key of the extraction version in the file metadata.
const EXTRACTION_KEY: &str = "hubprint.extraction_version";

/// Writes rows as `folder/file`; the file is not part of the database until the manifest lists the entry.
pub fn write(folder: &Path, file: &str, rows: &[Row]) -> Result<ShardEntry, StoreError> {
    let path = folder.join(file);
    let batch = schema::to_batch(rows).map_err(StoreError::damaged(&path))?;
    let version = |key: &str, value: u32| KeyValue::new(key.to_owned(), value.to_string());
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(BATCH_ROWS)).set_key_value_metadata(
            Some(vec![version(FORMAT_KEY, FORMAT_VERSION), version(EXTRACTION_KEY, EXTRACTION_VERSION)]),
        );
    write_batch(&path, &batch, properties)?;
    entry(&path, file, rows.len())
}

/// Writes what waits as `folder/file`, under the same condition.
pub fn write_waiting(folder: &Path, file: &str, waiting: &[Waiting]) -> Result<ShardEntry, StoreError> {
    let path = folder.join(file);
    let batch = schema::waiting_to_batch(waiting).map_err(StoreError::damaged(&path))?;
    write_batch(&path, &batch, WriterProperties::builder())?;
    entry(&path, file, waiting.len())
}

/// What waits, batch by batch.
pub fn read_waiting(
    folder: &Path,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<Waiting>, StoreError>>, StoreError> {
    open(folder, entry)?.batches(None, schema::waiting_from_batch)
}

fn entry(path: &Path, file: &str, rows: usize) -> Result<ShardEntry, StoreError> {
    let (bytes, sha256) = atomic::checksum(path)?;
    Ok(ShardEntry { file: file.to_owned(), rows: rows as u64, bytes, sha256 })
}

/// Writes one batch as a Parquet file.
pub(crate) fn write_batch(
    path: &Path,
    batch: &RecordBatch,
    properties: WriterPropertiesBuilder,
) -> Result<(), StoreError> {
    let properties = properties.set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    atomic::write_with(path, |out| {
        let mut writer =
            ArrowWriter::try_new(out, batch.schema(), Some(properties)).map_err(StoreError::damaged(path))?;
        writer.write(batch).map_err(StoreError::damaged(path))?;
        writer.close().map_err(StoreError::damaged(path))?;
        Ok(())
    })
}

/// The keys of all rows, batch by batch; their columns alone are read.
pub fn read_keys(
    folder: &Path,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<Key>, StoreError>>, StoreError> {
    let mut opened = open(folder, entry)?;
    let mask = ProjectionMask::columns(opened.builder.parquet_schema(), schema::KEY_COLUMNS);
    opened.builder = opened.builder.with_projection(mask);
    opened.batches(None, schema::keys_from_batch)
}

/// What the index needs of all rows, batch by batch.
pub fn read_contents(
    folder: &Path,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<Content>, StoreError>>, StoreError> {
    let mut opened = open(folder, entry)?;
    let mask = ProjectionMask::columns(opened.builder.parquet_schema(), schema::CONTENT_COLUMNS);
    opened.builder = opened.builder.with_projection(mask);
    opened.batches(None, schema::contents_from_batch)
}

/// Some rows of a shard by their numbers (sorted, distinct), in that order.
pub fn read_rows(folder: &Path, entry: &ShardEntry, rows: &[u32]) -> Result<Vec<Row>, StoreError> {
    let mut selectors = Vec::with_capacity(2 * rows.len());
    let mut next = 0;
    for &row in rows {
        let row = row as usize;
        selectors.push(RowSelector::skip(row.saturating_sub(next)));
        selectors.push(RowSelector::select(1));
        next = row + 1;
    }
    let mut found = Vec::with_capacity(rows.len());
    for batch in open(folder, entry)?.batches(Some(RowSelection::from(selectors)), schema::from_batch)? {
        found.extend(batch?);
    }
    if found.len() == rows.len() {
        Ok(found)
    } else {
        let what = format!("{} of {} rows asked for are there", found.len(), rows.len());
        Err(StoreError::Damaged { path: folder.join(&entry.file), what })
    }
}

struct Opened {
    path: PathBuf,
    builder: ParquetRecordBatchReaderBuilder<File>,
}

fn open(folder: &Path, entry: &ShardEntry) -> Result<Opened, StoreError> {
    let path = folder.join(&entry.file);
    let file = File::open(&path).map_err(StoreError::io(&path))?;
    let length = file.metadata().map_err(StoreError::io(&path))?.len();
    if length != entry.bytes {
        let what = format!("it has {length} bytes, the manifest says {}", entry.bytes);
        return Err(StoreError::Damaged { path, what });
    }
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(StoreError::damaged(&path))?;
    Ok(Opened { builder: builder.with_batch_size(BATCH_ROWS), path })
}

impl Opened {
    fn batches<T>(
        self,
        selection: Option<RowSelection>,
        decode: fn(&RecordBatch, &Path) -> Result<Vec<T>, StoreError>,
    ) -> Result<impl Iterator<Item = Result<Vec<T>, StoreError>>, StoreError> {
        let Self { path, builder } = self;
        let builder = match selection {
            Some(selection) => builder.with_row_selection(selection),
            None => builder,
        };
        let reader = builder.build().map_err(StoreError::damaged(&path))?;
        Ok(reader.map(move |batch| decode(&batch.map_err(StoreError::damaged(&path))?, &path)))
    }
}
