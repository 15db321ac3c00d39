//! Whole rows to and from Arrow.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Float32Type, Int8Type, Schema, UInt8Type, UInt16Type, UInt32Type, UInt64Type};

use super::adapter::{adapter_columns, is_of_adapter};
use super::arrays::{bytes, flags, json, lists, numbers, text, texts, time};
use super::coverage::{coverage_columns, is_of_coverage};
use super::fingerprint::PRODUCT_COLUMNS;
use super::reader::{COMPONENT, EXTRACTION_VERSION, Reader, missing};
use crate::store::StoreError;
use crate::store::row::{Row, WeightFile};

/// Rows to a batch whose columns are named and ordered as in the table above.
pub fn to_batch(rows: &[Row]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let fingerprints = || rows.iter().map(|r| r.fingerprint.as_ref());
    let cells = || rows.iter().map(|r| r.fingerprint.as_ref().map_or(&[][..], |f| f.cells.as_slice()));
    let products = || fingerprints().map(|f| f?.row_gram.as_ref());
    let profiles = || rows.iter().map(|r| r.profile.as_ref());
    let files = || rows.iter().map(|r| r.weight_files.as_slice());
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("repo_id", text(rows.iter().map(|r| Some(&r.repo_id)))),
        ("hub_id", text(rows.iter().map(|r| Some(&r.hub_id)))),
        ("component", text(rows.iter().map(|r| Some(&r.component)))),
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
        ("reading", text(rows.iter().map(|r| r.extraction_key.as_ref()))),
        ("sample_digest", text(rows.iter().map(|r| r.sample_digest.as_ref()))),
        (EXTRACTION_VERSION, numbers::<UInt32Type>(rows.iter().map(|r| Some(r.extraction_version)))),
    ];
    let more: Vec<(&str, ArrayRef)> = vec![
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
    columns.extend(coverage_columns(rows));
    columns.extend(adapter_columns(rows));
    columns.extend(more);
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            let required =
                matches!(*name, "repo_id" | "hub_id" | "component" | "crawled_at" | "outcome" | "gated")
                    || *name == EXTRACTION_VERSION
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

/// A batch of any shard with the columns of [`schema()`]: of those that were added since, components are the main one
/// and all else is null. `path` is for errors.
pub fn complete(batch: &RecordBatch, path: &Path) -> Result<RecordBatch, StoreError> {
    let schema = Arc::new(schema());
    let rows = batch.num_rows();
    let column = |field: &Arc<Field>| match (batch.column_by_name(field.name()), field.name().as_str()) {
        (Some(column), _) => Ok(Arc::clone(column)),
        (None, COMPONENT) => Ok(text(std::iter::repeat_n(Some(""), rows))),
        (None, name) if PRODUCT_COLUMNS.contains(&name) || is_of_coverage(name) || is_of_adapter(name) => {
            Ok(new_null_array(field.data_type(), rows))
        }
        (None, name) => Err(missing(name, path)),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, StoreError>>()?;
    RecordBatch::try_new(schema, columns).map_err(StoreError::damaged(path))
}

/// A batch of a shard that states one extraction version for all of its rows, with that in a column, as shards have had
/// it since format 6.
pub fn of_version(batch: RecordBatch, version: u32, path: &Path) -> Result<RecordBatch, StoreError> {
    if batch.column_by_name(EXTRACTION_VERSION).is_some() {
        return Ok(batch);
    }
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(EXTRACTION_VERSION, UInt32Type::DATA_TYPE, false)));
    let mut columns = batch.columns().to_vec();
    columns.push(numbers::<UInt32Type>(std::iter::repeat_n(Some(version), batch.num_rows())));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(StoreError::damaged(path))
}

/// A batch back to rows. Columns are found by name; `path` is for errors.
pub fn from_batch(batch: &RecordBatch, path: &Path) -> Result<Vec<Row>, StoreError> {
    let reader = Reader { batch, path };
    (0..batch.num_rows()).map(|i| reader.row(i)).collect()
}

impl Reader<'_> {
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
        let coverage = self.coverage(i)?;
        let adapter = self.adapter(i)?;
        let extent = self.extent(i, coverage.as_ref())?;
        Ok(Row {
            repo_id: self.required("repo_id", i)?,
            hub_id: self.required("hub_id", i)?,
            component: self.component(i)?,
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
            extraction_key: self.text("reading", i)?,
            sample_digest: self.text("sample_digest", i)?,
            extraction_version: self.extraction_version(i)?,
            coverage,
            adapter,
            profile: self.profile(i)?,
            fingerprint: self.fingerprint(i, extent)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::signals::coverage::Extent;
    use crate::signals::testing::Model;

    #[test]
    fn rows_round_trip() {
        let a = testing::adapter_row("a", Model::random(1, 3, 64).fingerprint());
        let rows = [Row { component: "unet".into(), ..a.clone() }, a, testing::row("b", None)];
        let batch = to_batch(&rows).unwrap();
        assert_eq!(batch.schema(), to_batch(&[]).unwrap().schema());
        assert_eq!(from_batch(&batch, Path::new("x")).unwrap(), rows);
    }

    #[test]
    fn shards_from_before_components_row_products_and_coverage_are_read_and_completed() {
        let fingerprint = Model::random(1, 6, 64).fingerprint();
        assert!(fingerprint.row_gram.is_some());
        let row = testing::row("a", Some(fingerprint));
        let batch = to_batch(std::slice::from_ref(&row)).unwrap();
        let old: Vec<usize> = (0..batch.num_columns())
            .filter(|i| {
                let schema = batch.schema();
                let name = schema.field(*i).name();
                let is_of_format_6 =
                    name == EXTRACTION_VERSION || is_of_coverage(name) || is_of_adapter(name);
                name != COMPONENT && !PRODUCT_COLUMNS.contains(&name.as_str()) && !is_of_format_6
            })
            .collect();
        let old = batch.project(&old).unwrap();
        let path = Path::new("x");
        assert!(from_batch(&old, path).unwrap_err().to_string().contains(EXTRACTION_VERSION));
        let old = of_version(old, 2, path).unwrap();
        let mut expected = Row { extraction_version: 2, coverage: None, adapter: None, ..row };
        let fingerprint = expected.fingerprint.as_mut().unwrap();
        (fingerprint.row_gram, fingerprint.extent) = (None, Extent::default());
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
