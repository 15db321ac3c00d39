//! The columns of a shard, and rows to and from Arrow.
//!
//! | column | type | unit and meaning |
//! |---|---|---|
//! | repo_id, hub_id | string | name at crawl time; the Hub's immutable id |
//! | sha | string? | commit |
//! | created_at, last_modified, crawled_at, gone_at | timestamp(ms, UTC) | crawled_at is never null; gone_at is null while the Hub lists the repository |
//! | outcome, reason | string, string? | see [`super::Outcome`]; reason is null when indexed |
//! | gated | string | false, auto, manual |
//! | downloads, likes | uint64? | |
//! | pipeline_tag, library_name, license | string? | from the listing |
//! | declared_bases | `list<string>` | `base_model:` tags |
//! | model_type, architecture, quantization | string? | from config.json |
//! | config | string? | what screening needs of config.json, as JSON |
//! | tokenizer | string? | features and vocabulary sketch, as JSON; rows with one tokenizer share one value |
//! | dtype, parameters | string?, uint64? | from the tensors |
//! | weight_file_path, weight_file_size, weight_file_sha256 | lists of equal length | |
//! | bytes_in_repo, bytes_fetched | uint64 | bytes |
//! | weights_digest, reading, sample_digest | string? | hex SHA-256 |
//! | hidden_size, layers, vocabulary | uint32?, uint16?, uint32? | from the tensors |
//! | profile_norms | `list<float32>` | 16 quantiles of embedding norms; empty where unknown |
//! | profile_energy_role, profile_energy | `list<uint8>`, `list<float32>` | 16 values a role: weight size over depth |
//! | gram_keys, gram_cosines | `list<uint64>`, `list<int8>` | n tokens, n(n-1)/2 cosines in 1/127 |
//! | resemblance | `list<float32>` | gains, residual, inner, embedding; empty without fingerprint |
//! | cell_role .. cell_residual | lists of equal length n | see [`crate::signals::fingerprint::Cell`] |
//! | cell_sketch | `list<int8>` | 32 n bytes |
//! | products | `fixed_size_list<int8>[512]?` | sketch of the products of rows; null where too few were read |
//! | product_concentration, product_rows | float32?, uint16? | see [`GramSketch`] |
//! | vector | `fixed_size_list<int8>[1024]?` | retrieval vector |

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBuilder, FixedSizeListBuilder, Int8Builder,
    ListBuilder, PrimitiveArray, PrimitiveBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray, new_null_array,
};
use arrow::datatypes::{
    DataType, Field, Float32Type, Int8Type, Schema, TimeUnit, TimestampMillisecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Outcome, Row, StoreError, Waiting, WeightFile};
use crate::signals::fingerprint::{CELL_DIMENSIONS, Cell, ColumnCorrelation, VECTOR_DIMENSIONS};
use crate::signals::gram::{GRAM_DIMENSIONS, GramSketch};
use crate::signals::profile::{POINTS, Profile, TokenGram};
use crate::signals::roles::Stack;
use crate::signals::{Fingerprint, Role};

/// Rows to a batch whose columns are named and ordered as in the table above.
pub fn to_batch(rows: &[Row]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let fingerprints = || rows.iter().map(|r| r.fingerprint.as_ref());
    let cells = || rows.iter().map(|r| r.fingerprint.as_ref().map_or(&[][..], |f| f.cells.as_slice()));
    let products = || fingerprints().map(|f| f?.row_gram.as_ref());
    let profiles = || rows.iter().map(|r| r.profile.as_ref());
    let files = || rows.iter().map(|r| r.weight_files.as_slice());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("repo_id", text(rows.iter().map(|r| Some(&r.repo_id)))),
        ("hub_id", text(rows.iter().map(|r| Some(&r.hub_id)))),
        ("sha", text(rows.iter().map(|r| r.sha.as_ref()))),
        ("created_at", time(rows.iter().map(|r| r.created_at))),
        ("last_modified", time(rows.iter().map(|r| r.last_modified))),
        ("crawled_at", time(rows.iter().map(|r| Some(r.crawled_at)))),
        ("gone_at", time(rows.iter().map(|r| r.gone_at))),
        ("outcome", text(rows.iter().map(|r| Some(r.outcome.name())))),
        ("reason", text(rows.iter().map(|r| r.reason.as_ref()))),
        ("gated", text(rows.iter().map(|r| Some(&r.gated)))),
        ("downloads", numbers::<UInt64Type>(rows.iter().map(|r| r.downloads))),
        ("likes", numbers::<UInt64Type>(rows.iter().map(|r| r.likes))),
        ("pipeline_tag", text(rows.iter().map(|r| r.pipeline_tag.as_ref()))),
        ("library_name", text(rows.iter().map(|r| r.library_name.as_ref()))),
        ("license", text(rows.iter().map(|r| r.license.as_ref()))),
        ("declared_bases", texts(rows.iter().map(|r| r.declared_bases.iter().map(|b| Some(b.as_str()))))),
        ("model_type", text(rows.iter().map(|r| r.model_type.as_ref()))),
        ("architecture", text(rows.iter().map(|r| r.architecture.as_ref()))),
        ("quantization", text(rows.iter().map(|r| r.quantization.as_ref()))),
        ("config", json(rows.iter().map(|r| r.config.as_ref()))?),
        ("tokenizer", json(rows.iter().map(|r| r.tokenizer.as_ref()))?),
        ("dtype", text(rows.iter().map(|r| r.dtype.as_ref()))),
        ("parameters", numbers::<UInt64Type>(rows.iter().map(|r| r.parameters))),
        ("weight_file_path", texts(files().map(|f| f.iter().map(|w| Some(w.path.as_str()))))),
        ("weight_file_size", lists::<UInt64Type, _>(files().map(|f| f.iter().map(|w| w.size)))),
        ("weight_file_sha256", texts(files().map(|f| f.iter().map(|w| w.sha256.as_deref())))),
        ("bytes_in_repo", numbers::<UInt64Type>(rows.iter().map(|r| Some(r.bytes_in_repo)))),
        ("bytes_fetched", numbers::<UInt64Type>(rows.iter().map(|r| Some(r.bytes_fetched)))),
        ("weights_digest", text(rows.iter().map(|r| r.weights_digest.as_ref()))),
        ("reading", text(rows.iter().map(|r| r.reading.as_ref()))),
        ("sample_digest", text(rows.iter().map(|r| r.sample_digest.as_ref()))),
        ("hidden_size", numbers::<UInt32Type>(fingerprints().map(|f| Some(f?.hidden_size)))),
        ("layers", numbers::<UInt16Type>(fingerprints().map(|f| Some(f?.layers)))),
        ("vocabulary", numbers::<UInt32Type>(fingerprints().map(|f| f?.vocabulary))),
        (
            "profile_norms",
            lists::<Float32Type, _>(
                profiles().map(|p| p.and_then(|p| p.norms).into_iter().flatten().map(Some)),
            ),
        ),
        (
            "profile_energy_role",
            lists::<UInt8Type, _>(
                profiles().map(|p| p.into_iter().flat_map(|p| p.energy.keys().map(|role| Some(*role as u8)))),
            ),
        ),
        (
            "profile_energy",
            lists::<Float32Type, _>(
                profiles().map(|p| p.into_iter().flat_map(|p| p.energy.values().flatten().map(|v| Some(*v)))),
            ),
        ),
        (
            "gram_keys",
            lists::<UInt64Type, _>(
                profiles().map(|p| p.into_iter().flat_map(|p| p.gram.keys.iter().map(|k| Some(*k)))),
            ),
        ),
        (
            "gram_cosines",
            lists::<Int8Type, _>(
                profiles().map(|p| p.into_iter().flat_map(|p| p.gram.cosines.iter().map(|c| Some(*c)))),
            ),
        ),
        (
            "resemblance",
            lists::<Float32Type, _>(fingerprints().map(|f| {
                f.into_iter().flat_map(|f| {
                    let r = f.column_correlation;
                    [r.gains, r.residual, r.inner, r.embedding].map(Some)
                })
            })),
        ),
        ("cell_role", lists::<UInt8Type, _>(cells().map(|c| c.iter().map(|c| Some(c.role as u8))))),
        ("cell_stack", lists::<UInt8Type, _>(cells().map(|c| c.iter().map(|c| Some(c.stack as u8))))),
        ("cell_expert", lists::<UInt16Type, _>(cells().map(|c| c.iter().map(|c| c.expert)))),
        ("cell_hash", lists::<UInt64Type, _>(cells().map(|c| c.iter().map(|c| Some(c.hash))))),
        ("cell_layer", lists::<UInt16Type, _>(cells().map(|c| c.iter().map(|c| Some(c.layer))))),
        ("cell_start", lists::<UInt32Type, _>(cells().map(|c| c.iter().map(|c| Some(c.start))))),
        ("cell_rows", lists::<UInt16Type, _>(cells().map(|c| c.iter().map(|c| Some(c.rows))))),
        ("cell_dimension", lists::<UInt32Type, _>(cells().map(|c| c.iter().map(|c| Some(c.dimension))))),
        ("cell_residual", flags(cells().map(|c| c.iter().map(|c| c.residual)))),
        ("cell_sketch", lists::<Int8Type, _>(cells().map(|c| c.iter().flat_map(|c| c.sketch).map(Some)))),
        ("products", bytes(products().map(|p| Some(&p?.sketch)))),
        ("product_concentration", numbers::<Float32Type>(products().map(|p| Some(p?.concentration)))),
        ("product_rows", numbers::<UInt16Type>(products().map(|p| Some(p?.rows)))),
        ("vector", bytes(fingerprints().map(|f| Some(&f?.vector)))),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            let required = matches!(*name, "repo_id" | "hub_id" | "crawled_at" | "outcome" | "gated")
                || name.starts_with("bytes_");
            Field::new(*name, array.data_type().clone(), !required)
        })
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
}

/// The columns of a shard.
pub fn schema() -> Schema {
    // Of no rows there is nothing that could fail.
    to_batch(&[]).map_or_else(|_| Schema::empty(), |batch| batch.schema().as_ref().clone())
}

/// Columns that shards written before may lack: nothing is known of them there.
const ADDED_COLUMNS: [&str; 3] = ["products", "product_concentration", "product_rows"];

/// A batch of any shard with the columns of [`schema()`]: those that were added since are null. `path` is for errors.
pub fn complete(batch: &RecordBatch, path: &Path) -> Result<RecordBatch, StoreError> {
    let schema = Arc::new(schema());
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => Ok(Arc::clone(column)),
        None if ADDED_COLUMNS.contains(&field.name().as_str()) => {
            Ok(new_null_array(field.data_type(), batch.num_rows()))
        }
        None => Err(missing(field.name(), path)),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, StoreError>>()?;
    RecordBatch::try_new(schema, columns).map_err(StoreError::damaged(path))
}

/// A batch back to rows. Columns are found by name; `path` is for errors.
pub fn from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Row>, StoreError> {
    let reader = Reader { batch, path };
    (0..batch.num_rows()).map(|i| reader.row(i)).collect()
}

/// The columns of a [`Content`].
pub const CONTENT_COLUMNS: [&str; 25] = [
    "repo_id",
    "hub_id",
    "created_at",
    "declared_bases",
    "quantization",
    "weights_digest",
    "sample_digest",
    "hidden_size",
    "layers",
    "vocabulary",
    "resemblance",
    "cell_role",
    "cell_stack",
    "cell_expert",
    "cell_hash",
    "cell_layer",
    "cell_start",
    "cell_rows",
    "cell_dimension",
    "cell_residual",
    "cell_sketch",
    "products",
    "product_concentration",
    "product_rows",
    "vector",
];

/// What the index needs of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Name.
    pub repo_id: String,
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// What the card claims.
    pub declared_bases: Vec<String>,
    /// Whether config.json states a quantisation.
    pub quantised: bool,
    /// Digest of the weight files.
    pub weights_digest: Option<String>,
    /// Digest of the sampled bytes.
    pub sample_digest: Option<String>,
    /// The fingerprint, if indexed.
    pub fingerprint: Option<Fingerprint>,
}

/// A batch of [`CONTENT_COLUMNS`] to what the index needs; `path` is for errors.
pub fn contents_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Content>, StoreError> {
    let reader = Reader { batch, path };
    let content = |i| {
        Ok(Content {
            repo_id: reader.required("repo_id", i)?,
            hub_id: reader.required("hub_id", i)?,
            created_at: reader.time("created_at", i)?,
            declared_bases: reader.texts("declared_bases", i)?.into_iter().flatten().collect(),
            quantised: reader.text("quantization", i)?.is_some(),
            weights_digest: reader.text("weights_digest", i)?,
            sample_digest: reader.text("sample_digest", i)?,
            fingerprint: reader.fingerprint(i)?,
        })
    };
    (0..batch.num_rows()).map(content).collect()
}

/// The columns of a [`Key`].
pub const KEY_COLUMNS: [&str; 8] =
    ["repo_id", "hub_id", "sha", "crawled_at", "gone_at", "outcome", "gated", "reading"];

/// What tells whether a repository must be crawled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Its name.
    pub repo_id: String,
    /// Commit that was read.
    pub sha: Option<String>,
    /// When the row was made, milliseconds since 1970.
    pub crawled_at: i64,
    /// Whether the Hub lists it no more.
    pub is_gone: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// `false`, `auto` or `manual`.
    pub gated: String,
    /// Tells equal readings; see [`Row::reading`].
    pub reading: Option<String>,
}

/// A batch of [`KEY_COLUMNS`] to keys; `path` is for errors.
pub fn keys_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Key>, StoreError> {
    let reader = Reader { batch, path };
    let key = |i| {
        Ok(Key {
            hub_id: reader.required("hub_id", i)?,
            repo_id: reader.required("repo_id", i)?,
            sha: reader.text("sha", i)?,
            crawled_at: reader.time("crawled_at", i)?.unwrap_or_default(),
            is_gone: reader.time("gone_at", i)?.is_some(),
            outcome: reader.outcome(i)?,
            gated: reader.required("gated", i)?,
            reading: reader.text("reading", i)?,
        })
    };
    (0..batch.num_rows()).map(key).collect()
}

/// The columns of a [`Fact`].
pub const FACT_COLUMNS: [&str; 11] = [
    "hub_id",
    "repo_id",
    "crawled_at",
    "created_at",
    "license",
    "declared_bases",
    "quantization",
    "dtype",
    "parameters",
    "bytes_in_repo",
    "bytes_fetched",
];

/// What the counts and the export say of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Name.
    pub repo_id: String,
    /// When the row was made, milliseconds since 1970.
    pub crawled_at: i64,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// From the `license:` tag.
    pub license: Option<String>,
    /// What the card claims.
    pub declared_bases: Vec<String>,
    /// Quantisation method of config.json.
    pub quantization: Option<String>,
    /// Dtype of most sampled tensors.
    pub dtype: Option<String>,
    /// Stored elements of the opened weight files.
    pub parameters: Option<u64>,
    /// Bytes of all weight files.
    pub bytes_in_repo: u64,
    /// Bytes of response bodies read for it.
    pub bytes_fetched: u64,
}

/// A batch of [`FACT_COLUMNS`] to facts; `path` is for errors.
pub fn facts_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Fact>, StoreError> {
    let reader = Reader { batch, path };
    let fact = |i| {
        Ok(Fact {
            hub_id: reader.required("hub_id", i)?,
            repo_id: reader.required("repo_id", i)?,
            crawled_at: reader.time("crawled_at", i)?.unwrap_or_default(),
            created_at: reader.time("created_at", i)?,
            license: reader.text("license", i)?,
            declared_bases: reader.texts("declared_bases", i)?.into_iter().flatten().collect(),
            quantization: reader.text("quantization", i)?,
            dtype: reader.text("dtype", i)?,
            parameters: reader.number::<UInt64Type>("parameters", i)?,
            bytes_in_repo: reader.number::<UInt64Type>("bytes_in_repo", i)?.unwrap_or_default(),
            bytes_fetched: reader.number::<UInt64Type>("bytes_fetched", i)?.unwrap_or_default(),
        })
    };
    (0..batch.num_rows()).map(fact).collect()
}

/// Waiting repositories to a batch with the columns `hub_id`, `repo_id` and `since`.
pub fn waiting_to_batch(waiting: &[Waiting]) -> Result<RecordBatch, arrow::error::ArrowError> {
    RecordBatch::try_from_iter([
        ("hub_id", text(waiting.iter().map(|w| Some(&w.hub_id)))),
        ("repo_id", text(waiting.iter().map(|w| Some(&w.repo_id)))),
        ("since", time(waiting.iter().map(|w| Some(w.since)))),
    ])
}

/// A batch back to waiting repositories; `path` is for errors.
pub fn waiting_from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Waiting>, StoreError> {
    let reader = Reader { batch, path };
    let waiting = |i| {
        Ok(Waiting {
            hub_id: reader.required("hub_id", i)?,
            repo_id: reader.required("repo_id", i)?,
            since: reader.time("since", i)?.unwrap_or_default(),
        })
    };
    (0..batch.num_rows()).map(waiting).collect()
}

pub(crate) fn text<S: AsRef<str>>(values: impl Iterator<Item = Option<S>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn json<'a, T: Serialize + 'a>(
    values: impl Iterator<Item = Option<&'a T>>,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let texts: Result<Vec<Option<String>>, serde_json::Error> =
        values.map(|value| value.map(serde_json::to_string).transpose()).collect();
    let texts = texts.map_err(|error| arrow::error::ArrowError::JsonError(error.to_string()))?;
    Ok(text(texts.into_iter()))
}

pub(crate) fn time(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

pub(crate) fn numbers<T: ArrowPrimitiveType>(values: impl Iterator<Item = Option<T::Native>>) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::new();
    values.for_each(|v| builder.append_option(v));
    Arc::new(builder.finish())
}

fn texts<'a, I: Iterator<Item = Option<&'a str>>>(rows: impl Iterator<Item = I>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.for_each(|v| builder.values().append_option(v));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn lists<T: ArrowPrimitiveType, I: Iterator<Item = Option<T::Native>>>(
    rows: impl Iterator<Item = I>,
) -> ArrayRef {
    let mut builder = ListBuilder::new(PrimitiveBuilder::<T>::new());
    for row in rows {
        row.for_each(|v| builder.values().append_option(v));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn flags<I: Iterator<Item = bool>>(rows: impl Iterator<Item = I>) -> ArrayRef {
    let mut builder = ListBuilder::new(BooleanBuilder::new());
    for row in rows {
        row.for_each(|v| builder.values().append_value(v));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn bytes<'a, const N: usize>(rows: impl Iterator<Item = Option<&'a [i8; N]>>) -> ArrayRef {
    let mut builder = FixedSizeListBuilder::new(Int8Builder::new(), N as i32);
    for row in rows {
        match row {
            Some(bytes) => builder.values().append_slice(bytes),
            None => builder.values().append_nulls(N),
        }
        builder.append(row.is_some());
    }
    Arc::new(builder.finish())
}

fn missing(column: &str, path: &Path) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: format!("column {column} is missing") }
}

/// Typed access to one batch; a missing or differently typed column is a damaged file.
struct Reader<'a> {
    batch: &'a RecordBatch,
    path: &'a Path,
}

impl Reader<'_> {
    fn damaged(&self, what: String) -> StoreError {
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

    fn text(&self, name: &str, i: usize) -> Result<Option<String>, StoreError> {
        let column = self.column(name, |t| *t == DataType::Utf8)?.as_string::<i32>();
        Ok(column.is_valid(i).then(|| column.value(i).to_owned()))
    }

    fn required(&self, name: &str, i: usize) -> Result<String, StoreError> {
        self.text(name, i)?.ok_or_else(|| self.damaged(format!("column {name} is null in row {i}")))
    }

    fn json<T: DeserializeOwned>(&self, name: &str, i: usize) -> Result<Option<T>, StoreError> {
        let Some(text) = self.text(name, i)? else { return Ok(None) };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).map_err(|error| self.damaged(format!("column {name} of row {i}: {error}")))
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str, i: usize) -> Result<Option<T::Native>, StoreError> {
        let column = self.column(name, |t| *t == T::DATA_TYPE)?.as_primitive::<T>();
        Ok(column.is_valid(i).then(|| column.value(i)))
    }

    fn time(&self, name: &str, i: usize) -> Result<Option<i64>, StoreError> {
        let column = self
            .column(name, |t| matches!(t, DataType::Timestamp(TimeUnit::Millisecond, _)))?
            .as_primitive::<TimestampMillisecondType>();
        Ok(column.is_valid(i).then(|| column.value(i)))
    }

    fn list(&self, name: &str, i: usize) -> Result<ArrayRef, StoreError> {
        let column = self.column(name, |t| matches!(t, DataType::List(_)))?.as_list::<i32>();
        Ok(column.value(i))
    }

    fn texts(&self, name: &str, i: usize) -> Result<Vec<Option<String>>, StoreError> {
        let list = self.list(name, i)?;
        let list = list
            .as_string_opt::<i32>()
            .ok_or_else(|| self.damaged(format!("column {name} is no list of strings")))?;
        Ok(list.iter().map(|v| v.map(str::to_owned)).collect())
    }

    fn numbers<T: ArrowPrimitiveType>(&self, name: &str, i: usize) -> Result<PrimitiveArray<T>, StoreError> {
        let list = self.list(name, i)?;
        list.as_primitive_opt::<T>()
            .cloned()
            .ok_or_else(|| self.damaged(format!("column {name} is no list of {}", T::DATA_TYPE)))
    }

    fn bytes<const N: usize>(&self, name: &str, i: usize) -> Result<Option<[i8; N]>, StoreError> {
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

    fn outcome(&self, i: usize) -> Result<Outcome, StoreError> {
        let name = self.required("outcome", i)?;
        Outcome::from_name(&name).ok_or_else(|| self.damaged(format!("unknown outcome {name:?}")))
    }

    fn row(&self, i: usize) -> Result<Row, StoreError> {
        let paths = self.texts("weight_file_path", i)?;
        let sizes = self.numbers::<UInt64Type>("weight_file_size", i)?;
        let digests = self.texts("weight_file_sha256", i)?;
        if paths.len() != sizes.len() || paths.len() != digests.len() {
            return Err(self.damaged(format!("weight file lists of row {i} have different lengths")));
        }
        let weight_files = paths
            .into_iter()
            .zip(&sizes)
            .zip(digests)
            .map(|((path, size), sha256)| WeightFile { path: path.unwrap_or_default(), size, sha256 })
            .collect();
        Ok(Row {
            repo_id: self.required("repo_id", i)?,
            hub_id: self.required("hub_id", i)?,
            sha: self.text("sha", i)?,
            created_at: self.time("created_at", i)?,
            last_modified: self.time("last_modified", i)?,
            crawled_at: self.time("crawled_at", i)?.unwrap_or_default(),
            gone_at: self.time("gone_at", i)?,
            outcome: self.outcome(i)?,
            reason: self.text("reason", i)?,
            gated: self.required("gated", i)?,
            downloads: self.number::<UInt64Type>("downloads", i)?,
            likes: self.number::<UInt64Type>("likes", i)?,
            pipeline_tag: self.text("pipeline_tag", i)?,
            library_name: self.text("library_name", i)?,
            license: self.text("license", i)?,
            declared_bases: self.texts("declared_bases", i)?.into_iter().flatten().collect(),
            model_type: self.text("model_type", i)?,
            architecture: self.text("architecture", i)?,
            quantization: self.text("quantization", i)?,
            config: self.json("config", i)?,
            tokenizer: self.json("tokenizer", i)?,
            dtype: self.text("dtype", i)?,
            parameters: self.number::<UInt64Type>("parameters", i)?,
            weight_files,
            bytes_in_repo: self.number::<UInt64Type>("bytes_in_repo", i)?.unwrap_or_default(),
            bytes_fetched: self.number::<UInt64Type>("bytes_fetched", i)?.unwrap_or_default(),
            weights_digest: self.text("weights_digest", i)?,
            reading: self.text("reading", i)?,
            sample_digest: self.text("sample_digest", i)?,
            profile: self.profile(i)?,
            fingerprint: self.fingerprint(i)?,
        })
    }

    /// The profile of a row with a fingerprint.
    fn profile(&self, i: usize) -> Result<Option<Profile>, StoreError> {
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

    fn fingerprint(&self, i: usize) -> Result<Option<Fingerprint>, StoreError> {
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
            cells: self.cells(i)?,
            column_correlation: ColumnCorrelation { gains, residual, inner, embedding },
            row_gram: self.row_gram(i)?,
            vector,
        }))
    }

    fn row_gram(&self, i: usize) -> Result<Option<GramSketch>, StoreError> {
        if ADDED_COLUMNS.iter().any(|name| self.batch.column_by_name(name).is_none()) {
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

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A row with every optional field set or, for `fingerprint: None`, unset.
    pub(crate) fn row(name: &str, fingerprint: Option<Fingerprint>) -> Row {
        let indexed = fingerprint.is_some();
        let some = |s: &str| indexed.then(|| s.to_owned());
        Row {
            repo_id: format!("org/{name}"),
            hub_id: format!("id-{name}"),
            sha: some("c0ffee"),
            created_at: indexed.then_some(1_700_000_000_000),
            last_modified: None,
            crawled_at: 1_800_000_000_000,
            gone_at: indexed.then_some(1_900_000_000_000),
            outcome: if indexed { Outcome::Indexed } else { Outcome::Gated },
            reason: (!indexed).then(|| "no access".to_owned()),
            gated: "false".into(),
            downloads: indexed.then_some(7),
            likes: None,
            pipeline_tag: some("text-generation"),
            library_name: None,
            license: some("mit"),
            declared_bases: if indexed { vec!["org/base".into()] } else { vec![] },
            model_type: some("llama"),
            architecture: some("LlamaForCausalLM"),
            quantization: None,
            config: indexed.then(Default::default),
            tokenizer: None,
            dtype: some("BF16"),
            parameters: indexed.then_some(1234),
            weight_files: vec![WeightFile {
                path: "model.safetensors".into(),
                size: Some(9),
                sha256: some("aa"),
            }],
            bytes_in_repo: 99,
            bytes_fetched: 9,
            weights_digest: some(&format!("w-{name}")),
            reading: some(&format!("r-{name}")),
            sample_digest: some(&format!("s-{name}")),
            profile: indexed.then(|| Profile {
                norms: Some([0.5; POINTS]),
                energy: [(Role::Query, [0.25; POINTS])].into(),
                gram: TokenGram { keys: vec![3, 9], cosines: vec![-5] },
            }),
            fingerprint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;

    #[test]
    fn rows_round_trip() {
        let rows =
            vec![testing::row("a", Some(Model::random(1, 3, 64).fingerprint())), testing::row("b", None)];
        let batch = to_batch(&rows).unwrap();
        assert_eq!(batch.schema(), to_batch(&[]).unwrap().schema());
        assert_eq!(from_batch(&batch, Path::new("x")).unwrap(), rows);
    }

    #[test]
    fn shards_from_before_row_products_are_read_and_completed() {
        let fingerprint = Model::random(1, 6, 64).fingerprint();
        assert!(fingerprint.row_gram.is_some());
        let row = testing::row("a", Some(fingerprint));
        let batch = to_batch(std::slice::from_ref(&row)).unwrap();
        let old: Vec<usize> = (0..batch.num_columns())
            .filter(|i| !ADDED_COLUMNS.contains(&batch.schema().field(*i).name().as_str()))
            .collect();
        let old = batch.project(&old).unwrap();
        let path = Path::new("x");
        let mut expected = row;
        expected.fingerprint.as_mut().unwrap().row_gram = None;
        assert_eq!(from_batch(&old, path).unwrap(), [expected.clone()]);
        let completed = complete(&old, path).unwrap();
        assert_eq!(completed.schema(), batch.schema());
        assert_eq!(from_batch(&completed, path).unwrap(), [expected]);
        let error = complete(&old.project(&[0, 1]).unwrap(), path).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
    }

    #[test]
    fn a_missing_column_is_named() {
        let batch = to_batch(&[testing::row("a", None)]).unwrap();
        let fewer = batch.project(&[0, 1]).unwrap();
        let error = from_batch(&fewer, Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
    }
}
