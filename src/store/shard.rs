//! One Parquet shard: written once, never changed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::atomic;
use super::error::StoreError;
use super::files::DatabaseFiles;
use super::layout::{SHARDS, WAITING};
use super::manifest::{FORMAT_VERSION, ShardEntry};
use super::row::{Row, Waiting};
use super::schema::{self, IndexRow, Key, Summary};

/// Rows decoded at once. A row is about 10 KB, so a batch is some 10 MB.
const BATCH_ROWS: usize = 1024;
/// Repositories that wait, written at once: some 100 bytes each.
const BATCH_WAITING: usize = 1 << 16;
/// Key of the format version in the file metadata.
const FORMAT_KEY: &str = "hubprint.format_version";
/// Key of the extraction version in the file metadata of formats up to 5, where all rows of a shard have one.
const EXTRACTION_KEY: &str = "hubprint.extraction_version";

/// Writes rows; the file is not part of the database until a manifest lists the entry.
pub fn write(files: &DatabaseFiles, rows: &[Row]) -> Result<ShardEntry, StoreError> {
    let batch = schema::to_batch(rows).map_err(StoreError::damaged(files.folder()))?;
    write_batches(files, std::iter::once(Ok(batch)))
}

/// Writes batches of a shard's schema as one shard, under the same condition. There must be at least one.
pub fn write_batches(
    files: &DatabaseFiles,
    batches: impl Iterator<Item = Result<RecordBatch, StoreError>>,
) -> Result<ShardEntry, StoreError> {
    write_file(files, SHARDS, properties(), batches)
}

fn write_file(
    files: &DatabaseFiles,
    folder: &str,
    properties: WriterProperties,
    mut batches: impl Iterator<Item = Result<RecordBatch, StoreError>>,
) -> Result<ShardEntry, StoreError> {
    let mut rows = 0;
    let entry = files.add(folder, "parquet", |out| {
        let error = |e| unwritten(files.folder(), e);
        let Some(first) = batches.next().transpose()? else {
            return Err(StoreError::damaged(files.folder())("a file without rows"));
        };
        let mut writer = ArrowWriter::try_new(out, first.schema(), Some(properties)).map_err(error)?;
        for batch in std::iter::once(Ok(first)).chain(batches) {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            writer.write(&batch).map_err(error)?;
        }
        writer.close().map_err(error)?;
        Ok(())
    })?;
    Ok(ShardEntry { entry, rows })
}

fn properties() -> WriterProperties {
    let version = KeyValue::new(FORMAT_KEY.to_owned(), FORMAT_VERSION.to_string());
    compressed(
        WriterProperties::builder()
            .set_max_row_group_row_count(Some(BATCH_ROWS))
            .set_key_value_metadata(Some(vec![version])),
    )
}

fn compressed(properties: WriterPropertiesBuilder) -> WriterProperties {
    properties.set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

/// Writes what waits, under the same condition, batch by batch; nothing where nothing does.
pub fn write_waiting(
    files: &DatabaseFiles,
    mut waiting: impl Iterator<Item = Result<Waiting, StoreError>>,
) -> Result<Option<ShardEntry>, StoreError> {
    let mut batches = std::iter::from_fn(|| {
        let some: Result<Vec<Waiting>, StoreError> = waiting.by_ref().take(BATCH_WAITING).collect();
        let batch =
            |some: Vec<Waiting>| schema::waiting_to_batch(&some).map_err(StoreError::damaged(files.folder()));
        if matches!(&some, Ok(some) if some.is_empty()) { None } else { Some(some.and_then(batch)) }
    })
    .peekable();
    if batches.peek().is_none() {
        return Ok(None);
    }
    write_file(files, WAITING, compressed(WriterProperties::builder()), batches).map(Some)
}

/// What waits, batch by batch.
pub fn read_waiting(
    files: &DatabaseFiles,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<Waiting>, StoreError>>, StoreError> {
    open(files, entry)?.batches(None, schema::waiting_from_batch)
}

/// Writes one batch as a Parquet file.
pub(crate) fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), StoreError> {
    atomic::write_with(path, |out| write_to(out, batch, path))
}

/// Writes one batch as Parquet; `path` is for errors.
pub(crate) fn write_to(
    out: &mut (impl Write + Send),
    batch: &RecordBatch,
    path: &Path,
) -> Result<(), StoreError> {
    let properties = compressed(WriterProperties::builder());
    let error = |e| unwritten(path, e);
    let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties)).map_err(error)?;
    writer.write(batch).map_err(error)?;
    writer.close().map_err(error)?;
    Ok(())
}

/// What writing Parquet ended with: a fault of the disk, or of what is written.
fn unwritten(path: &Path, error: ParquetError) -> StoreError {
    match error {
        ParquetError::External(source) => match source.downcast() {
            Ok(source) => StoreError::io(path)(*source),
            Err(source) => StoreError::damaged(path)(source),
        },
        error => StoreError::damaged(path)(error),
    }
}

/// All columns of all rows, batch by batch, as they are; of a shard written before some were added, with those.
pub fn read_batches(
    files: &DatabaseFiles,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<RecordBatch, StoreError>>, StoreError> {
    let (path, batches) = open(files, entry)?.record_batches()?;
    Ok(batches.map(move |batch| schema::complete(&batch?, &path)))
}

/// The keys of all rows, batch by batch; their columns alone are read.
pub fn read_keys(
    files: &DatabaseFiles,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<Key>, StoreError>>, StoreError> {
    open(files, entry)?.only(&schema::KEY_COLUMNS).batches(None, schema::keys_from_batch)
}

/// What counts and exports say of all rows, batch by batch.
pub fn read_summaries(
    files: &DatabaseFiles,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<Summary>, StoreError>>, StoreError> {
    open(files, entry)?.only(&schema::SUMMARY_COLUMNS).batches(None, schema::summaries_from_batch)
}

/// What the index needs of all rows, batch by batch.
pub fn read_index_rows(
    files: &DatabaseFiles,
    entry: &ShardEntry,
) -> Result<impl Iterator<Item = Result<Vec<IndexRow>, StoreError>>, StoreError> {
    open(files, entry)?.only(&schema::INDEX_COLUMNS).batches(None, schema::index_rows_from_batch)
}

/// Some rows of a shard by their numbers (sorted, distinct), in that order.
pub fn read_rows(files: &DatabaseFiles, entry: &ShardEntry, rows: &[u32]) -> Result<Vec<Row>, StoreError> {
    let mut selectors = Vec::with_capacity(2 * rows.len());
    let mut next = 0;
    for &row in rows {
        let row = row as usize;
        selectors.push(RowSelector::skip(row.saturating_sub(next)));
        selectors.push(RowSelector::select(1));
        next = row + 1;
    }
    let mut found = Vec::with_capacity(rows.len());
    for batch in open(files, entry)?.batches(Some(RowSelection::from(selectors)), schema::from_batch)? {
        found.extend(batch?);
    }
    if found.len() == rows.len() {
        Ok(found)
    } else {
        let what = format!("{} of {} rows asked for are there", found.len(), rows.len());
        Err(StoreError::Damaged { path: files.folder().join(&entry.entry.file), what })
    }
}

/// A file whose length and number of rows are as stated.
struct Checked {
    path: PathBuf,
    builder: ParquetRecordBatchReaderBuilder<File>,
    /// The extraction version that it states for all of its rows.
    extraction_version: Option<u32>,
}

fn open(files: &DatabaseFiles, entry: &ShardEntry) -> Result<Checked, StoreError> {
    let path = files.local(&entry.entry)?;
    let file = File::open(&path).map_err(StoreError::io(&path))?;
    entry.entry.verify_length(&path)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(StoreError::damaged(&path))?;
    let found = builder.metadata().file_metadata().num_rows();
    if u64::try_from(found).ok() != Some(entry.rows) {
        let what = format!("it has {found} rows, the manifest says {}", entry.rows);
        return Err(StoreError::Damaged { path, what });
    }
    let stated = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let stated = stated.filter(|pair| pair.key == EXTRACTION_KEY).find_map(|pair| pair.value.as_deref());
    let extraction_version = stated.map(str::parse).transpose().map_err(StoreError::damaged(&path))?;
    Ok(Checked { builder: builder.with_batch_size(BATCH_ROWS), path, extraction_version })
}

/// Whether a file is there and has the length and the number of rows that are stated of it.
pub fn check(files: &DatabaseFiles, entry: &ShardEntry) -> Result<(), StoreError> {
    open(files, entry).map(drop)
}

impl Checked {
    /// Reads these columns and no others.
    fn only(self, columns: &[&str]) -> Self {
        let mask = ProjectionMask::columns(self.builder.parquet_schema(), columns.iter().copied());
        Self { builder: self.builder.with_projection(mask), ..self }
    }

    fn batches<T>(
        self,
        selection: Option<RowSelection>,
        decode: fn(&RecordBatch, &Path) -> Result<Vec<T>, StoreError>,
    ) -> Result<impl Iterator<Item = Result<Vec<T>, StoreError>>, StoreError> {
        let Self { path, builder, extraction_version } = self;
        let builder = match selection {
            Some(selection) => builder.with_row_selection(selection),
            None => builder,
        };
        let (path, batches) = Self { path, builder, extraction_version }.record_batches()?;
        Ok(batches.map(move |batch| decode(&batch?, &path)))
    }

    /// Its batches, each row with its extraction version if the file states any.
    fn record_batches(
        self,
    ) -> Result<(PathBuf, impl Iterator<Item = Result<RecordBatch, StoreError>>), StoreError> {
        let Self { path, builder, extraction_version } = self;
        let reader = builder.build().map_err(StoreError::damaged(&path))?;
        let of = path.clone();
        let batches = reader.map(move |batch| {
            let batch = batch.map_err(StoreError::damaged(&of))?;
            match extraction_version {
                Some(version) => schema::of_version(batch, version, &of),
                None => Ok(batch),
            }
        });
        Ok((path, batches))
    }
}
