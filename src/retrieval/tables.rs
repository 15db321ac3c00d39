//! The tables of an index, one Parquet file each: open to other tools, and read whole when the index is opened.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray,
    RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    Float32Type, Float64Type, Int64Type, TimestampMillisecondType, UInt16Type, UInt32Type, UInt64Type,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::candidates::features::GramSigns;
use super::representatives::{Link, Place, Representative};
use super::root::CheckpointFacts;
use crate::store::schema::{numbers, text, time};
use crate::store::shard::write_batch;
use crate::store::{RowRef, StoreError, Tag, checkpoint_name};

/// Rows decoded at once.
const BATCH_ROWS: usize = 1 << 13;
/// Most bytes of a row in memory, on the average: names are short, and evidence is a sentence or two.
const MOST_ROW_BYTES: usize = 4096;

/// A checkpoint: one distinct set of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where it belongs.
    pub place: Place,
    /// What is known of it.
    pub facts: CheckpointFacts,
}

/// A repository behind a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The checkpoint.
    pub checkpoint: u32,
    /// Where its row lies.
    pub at: RowRef,
    /// Its name.
    pub repo_id: String,
    /// Which of its checkpoints; empty for the main one.
    pub component: String,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// Of the digest of its weight files.
    pub weights: Option<Tag>,
    /// Of the digest of its sampled bytes.
    pub samples: Option<Tag>,
    /// Of the extraction that made its row.
    pub extraction_version: u32,
    /// Whether its row came after the last complete build before the one that wrote this.
    pub is_new: bool,
}

impl Posting {
    /// What people call its checkpoint.
    pub fn name(&self) -> String {
        checkpoint_name(&self.repo_id, &self.component)
    }

    /// Whether that is the name.
    pub fn is_called(&self, name: &str) -> bool {
        if self.component.is_empty() { self.repo_id == name } else { self.name() == name }
    }
}

/// A family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyRow {
    /// The start of the digest of the checkpoint that founded it; never changes.
    pub id: String,
    /// The checkpoint of the likeliest ancestor.
    pub root: u32,
    /// Checkpoints in it.
    pub checkpoints: u32,
    /// Why that is the root.
    pub evidence: String,
}

/// Writes checkpoints.
pub fn write_checkpoints(path: &Path, all: &[Checkpoint]) -> Result<(), StoreError> {
    let columns = [
        ("head", numbers::<UInt32Type>(all.iter().map(|c| Some(c.place.representative)))),
        ("cosine", numbers::<Float32Type>(all.iter().map(|c| Some(c.place.cosine)))),
        ("effect", numbers::<Float32Type>(all.iter().map(|c| Some(c.place.effect)))),
        ("created_at", numbers::<Int64Type>(all.iter().map(|c| c.facts.created_at))),
        ("quantised", Arc::new(all.iter().map(|c| Some(c.facts.quantised)).collect::<BooleanArray>())),
        ("hidden_size", numbers::<UInt32Type>(all.iter().map(|c| Some(c.facts.hidden_size)))),
        ("layers", numbers::<UInt16Type>(all.iter().map(|c| Some(c.facts.layers)))),
        ("declared_by", numbers::<UInt32Type>(all.iter().map(|c| Some(c.facts.declared_by)))),
    ];
    write(path, columns)
}

/// Reads checkpoints, of which there must be so many.
pub fn read_checkpoints(path: &Path, rows: usize) -> Result<Vec<Checkpoint>, StoreError> {
    let table = Table::read(path, Some(rows))?;
    let (representative, cosine) =
        (table.numbers::<UInt32Type>("head")?, table.numbers::<Float32Type>("cosine")?);
    let (effect, created) =
        (table.numbers::<Float32Type>("effect")?, table.numbers::<Int64Type>("created_at")?);
    let (width, layers) =
        (table.numbers::<UInt32Type>("hidden_size")?, table.numbers::<UInt16Type>("layers")?);
    let votes = table.numbers::<UInt32Type>("declared_by")?;
    let quantised = table.flags("quantised")?;
    Ok((0..table.rows())
        .map(|i| Checkpoint {
            place: Place {
                representative: representative.value(i),
                cosine: cosine.value(i),
                effect: effect.value(i),
            },
            facts: CheckpointFacts {
                created_at: created.is_valid(i).then(|| created.value(i)),
                quantised: quantised.value(i),
                hidden_size: width.value(i),
                layers: layers.value(i),
                declared_by: votes.value(i),
            },
        })
        .collect())
}

/// Writes representatives.
pub fn write_representatives(path: &Path, all: &[Representative]) -> Result<(), StoreError> {
    let columns = [
        ("content", numbers::<UInt32Type>(all.iter().map(|h| Some(h.checkpoint)))),
        ("family", numbers::<UInt32Type>(all.iter().map(|h| Some(h.family)))),
        ("hidden_size", numbers::<UInt32Type>(all.iter().map(|h| Some(h.hidden_size)))),
        ("payload", numbers::<UInt64Type>(all.iter().map(|h| Some(h.payload)))),
        ("products", signs(all.iter().map(|h| h.gram)).map_err(StoreError::damaged(path))?),
        ("link_head", numbers::<UInt32Type>(all.iter().map(|h| Some(h.link?.representative)))),
        ("link_effect", numbers::<Float32Type>(all.iter().map(|h| Some(h.link?.effect)))),
        ("link_p_value", numbers::<Float64Type>(all.iter().map(|h| Some(h.link?.p_value)))),
    ];
    write(path, columns)
}

/// Reads representatives, of which there must be so many.
pub fn read_representatives(path: &Path, rows: usize) -> Result<Vec<Representative>, StoreError> {
    let table = Table::read(path, Some(rows))?;
    let (checkpoint, family) =
        (table.numbers::<UInt32Type>("content")?, table.numbers::<UInt32Type>("family")?);
    let (width, payload) =
        (table.numbers::<UInt32Type>("hidden_size")?, table.numbers::<UInt64Type>("payload")?);
    let (representative, effect) =
        (table.numbers::<UInt32Type>("link_head")?, table.numbers::<Float32Type>("link_effect")?);
    let p_value = table.numbers::<Float64Type>("link_p_value")?;
    let gram = table.binary("products", size_of::<GramSigns>())?;
    Ok((0..table.rows())
        .map(|i| Representative {
            checkpoint: checkpoint.value(i),
            family: family.value(i),
            hidden_size: width.value(i),
            payload: payload.value(i),
            gram: gram.is_valid(i).then(|| signs_from(gram.value(i))),
            link: representative.is_valid(i).then(|| Link {
                representative: representative.value(i),
                effect: effect.value(i),
                p_value: p_value.value(i),
            }),
        })
        .collect())
}

/// Writes families.
pub fn write_families(path: &Path, all: &[FamilyRow]) -> Result<(), StoreError> {
    let columns = [
        ("id", text(all.iter().map(|f| Some(f.id.as_str())))),
        ("root", numbers::<UInt32Type>(all.iter().map(|f| Some(f.root)))),
        ("contents", numbers::<UInt32Type>(all.iter().map(|f| Some(f.checkpoints)))),
        ("evidence", text(all.iter().map(|f| Some(f.evidence.as_str())))),
    ];
    write(path, columns)
}

/// Reads families, of which there must be so many.
pub fn read_families(path: &Path, rows: usize) -> Result<Vec<FamilyRow>, StoreError> {
    let table = Table::read(path, Some(rows))?;
    let (id, evidence) = (table.text("id")?, table.text("evidence")?);
    let (root, checkpoints) =
        (table.numbers::<UInt32Type>("root")?, table.numbers::<UInt32Type>("contents")?);
    Ok((0..table.rows())
        .map(|i| FamilyRow {
            id: id.value(i).to_owned(),
            root: root.value(i),
            checkpoints: checkpoints.value(i),
            evidence: evidence.value(i).to_owned(),
        })
        .collect())
}

/// Writes postings.
pub fn write_postings(path: &Path, all: &[Posting]) -> Result<(), StoreError> {
    let columns = [
        ("content", numbers::<UInt32Type>(all.iter().map(|p| Some(p.checkpoint)))),
        ("shard", numbers::<UInt32Type>(all.iter().map(|p| Some(p.at.shard)))),
        ("row", numbers::<UInt32Type>(all.iter().map(|p| Some(p.at.row)))),
        ("repo_id", text(all.iter().map(|p| Some(p.repo_id.as_str())))),
        ("component", text(all.iter().map(|p| Some(p.component.as_str())))),
        ("created_at", numbers::<Int64Type>(all.iter().map(|p| p.created_at))),
        ("weights", tags(all.iter().map(|p| p.weights.as_ref())).map_err(StoreError::damaged(path))?),
        ("samples", tags(all.iter().map(|p| p.samples.as_ref())).map_err(StoreError::damaged(path))?),
        ("is_new", Arc::new(all.iter().map(|p| Some(p.is_new)).collect::<BooleanArray>())),
        ("extraction_version", numbers::<UInt32Type>(all.iter().map(|p| Some(p.extraction_version)))),
    ];
    write(path, columns)
}

/// Reads postings, of which there must be so many.
pub fn read_postings(path: &Path, rows: usize) -> Result<Vec<Posting>, StoreError> {
    let table = Table::read(path, Some(rows))?;
    let checkpoint = table.numbers::<UInt32Type>("content")?;
    let (shard, row) = (table.numbers::<UInt32Type>("shard")?, table.numbers::<UInt32Type>("row")?);
    let created = table.numbers::<Int64Type>("created_at")?;
    let (names, components) = (table.text("repo_id")?, table.added_text("component")?);
    let (weights, samples) = (table.tags("weights")?, table.tags("samples")?);
    let is_new = table.flags("is_new")?;
    let versions = table.numbers::<UInt32Type>("extraction_version")?;
    let tag = |column: &FixedSizeBinaryArray, i| {
        column.value(i).try_into().ok().filter(|_| column.is_valid(i)).map(Tag::from_bytes)
    };
    Ok((0..table.rows())
        .map(|i| Posting {
            checkpoint: checkpoint.value(i),
            at: RowRef { shard: shard.value(i), row: row.value(i) },
            repo_id: names.value(i).to_owned(),
            component: components.map_or("", |column| column.value(i)).to_owned(),
            created_at: created.is_valid(i).then(|| created.value(i)),
            weights: tag(weights, i),
            samples: tag(samples, i),
            is_new: is_new.value(i),
            extraction_version: versions.value(i),
        })
        .collect())
}

/// A checkpoint, by a name that people know and one that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Name when the index was built.
    pub repo_id: String,
    /// The Hub's immutable id.
    pub hub_id: String,
    /// Which of the repository's checkpoints; empty for the main one.
    pub component: String,
}

/// A checkpoint in its family, for people and other tools.
#[derive(Clone, Debug, PartialEq)]
pub struct Lineage {
    /// Which one.
    pub this: Named,
    /// Creation on the Hub, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// Name of the family.
    pub family: String,
    /// The oldest repository of the likeliest ancestor of the family.
    pub root: Option<Named>,
    /// The oldest repository with the same checkpoint, if that is another one.
    pub copy_of: Option<Named>,
    /// The oldest repository of the checkpoint by which it was placed in the family; none for the one that founded it.
    pub linked_to: Option<Named>,
    /// Mean correlation of the weights with that one.
    pub correlation: Option<f32>,
    /// Of that link, corrected; none where only the vectors were held against each other.
    pub p_value: Option<f64>,
}

/// Writes lineages.
pub fn write_lineage(path: &Path, all: &[Lineage]) -> Result<(), StoreError> {
    let name = |of: fn(&Lineage) -> Option<&Named>| text(all.iter().map(|l| of(l).map(|n| &n.repo_id)));
    let id = |of: fn(&Lineage) -> Option<&Named>| text(all.iter().map(|l| of(l).map(|n| &n.hub_id)));
    let component =
        |of: fn(&Lineage) -> Option<&Named>| text(all.iter().map(|l| of(l).map(|n| &n.component)));
    let columns = [
        ("repo_id", name(|l| Some(&l.this))),
        ("hub_id", id(|l| Some(&l.this))),
        ("component", component(|l| Some(&l.this))),
        ("created_at", time(all.iter().map(|l| l.created_at))),
        ("family", text(all.iter().map(|l| Some(&l.family)))),
        ("root", name(|l| l.root.as_ref())),
        ("root_hub_id", id(|l| l.root.as_ref())),
        ("root_component", component(|l| l.root.as_ref())),
        ("copy_of", name(|l| l.copy_of.as_ref())),
        ("copy_of_hub_id", id(|l| l.copy_of.as_ref())),
        ("copy_of_component", component(|l| l.copy_of.as_ref())),
        ("linked_to", name(|l| l.linked_to.as_ref())),
        ("linked_to_hub_id", id(|l| l.linked_to.as_ref())),
        ("linked_to_component", component(|l| l.linked_to.as_ref())),
        ("correlation", numbers::<Float32Type>(all.iter().map(|l| l.correlation))),
        ("p_value", numbers::<Float64Type>(all.iter().map(|l| l.p_value))),
    ];
    write(path, columns)
}

/// Names, immutable ids and components.
type NamedColumns<'a> = (&'a StringArray, &'a StringArray, Option<&'a StringArray>);

/// Reads lineages.
pub fn read_lineage(path: &Path) -> Result<Vec<Lineage>, StoreError> {
    let table = Table::read(path, None)?;
    let named = |name: &str, id: &str, component: &str| {
        Ok::<_, StoreError>((table.text(name)?, table.text(id)?, table.added_text(component)?))
    };
    let this = named("repo_id", "hub_id", "component")?;
    let root = named("root", "root_hub_id", "root_component")?;
    let copy = named("copy_of", "copy_of_hub_id", "copy_of_component")?;
    let linked = named("linked_to", "linked_to_hub_id", "linked_to_component")?;
    let family = table.text("family")?;
    let created = table.numbers::<TimestampMillisecondType>("created_at")?;
    let (correlation, p_value) =
        (table.numbers::<Float32Type>("correlation")?, table.numbers::<Float64Type>("p_value")?);
    let at = |(names, ids, components): NamedColumns<'_>, i| Named {
        repo_id: names.value(i).to_owned(),
        hub_id: ids.value(i).to_owned(),
        component: components.map_or("", |column| column.value(i)).to_owned(),
    };
    let optional = |columns: NamedColumns<'_>, i| columns.1.is_valid(i).then(|| at(columns, i));
    Ok((0..table.rows())
        .map(|i| Lineage {
            this: at(this, i),
            created_at: created.is_valid(i).then(|| created.value(i)),
            family: family.value(i).to_owned(),
            root: optional(root, i),
            copy_of: optional(copy, i),
            linked_to: optional(linked, i),
            correlation: correlation.is_valid(i).then(|| correlation.value(i)),
            p_value: p_value.is_valid(i).then(|| p_value.value(i)),
        })
        .collect())
}

fn tags<'a>(values: impl Iterator<Item = Option<&'a Tag>>) -> Result<ArrayRef, arrow::error::ArrowError> {
    let bytes = values.map(|tag| tag.map(Tag::bytes));
    Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 16)?))
}

fn signs(values: impl Iterator<Item = Option<GramSigns>>) -> Result<ArrayRef, arrow::error::ArrowError> {
    let bytes = values.map(|signs| signs.map(|signs| signs.map(u64::to_le_bytes).concat()));
    let size = size_of::<GramSigns>() as i32;
    Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, size)?))
}

fn signs_from(bytes: &[u8]) -> GramSigns {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| words.get(i).map_or(0, |word| u64::from_le_bytes(*word)))
}

fn write<const N: usize>(path: &Path, columns: [(&str, ArrayRef); N]) -> Result<(), StoreError> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
        .map_err(StoreError::damaged(path))?;
    write_batch(path, &batch)
}

/// One file in memory.
struct Table<'a> {
    batch: RecordBatch,
    path: &'a Path,
}

impl<'a> Table<'a> {
    /// Reads a table of so many rows, where it is known how many.
    fn read(path: &'a Path, rows: Option<usize>) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io(path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(StoreError::damaged(path))?;
        let found = builder.metadata().file_metadata().num_rows();
        let damaged = |what| Err(StoreError::Damaged { path: path.to_owned(), what });
        if let Some(rows) = rows.filter(|rows| usize::try_from(found).ok() != Some(*rows)) {
            return damaged(format!("it has {found} rows, the index says {rows}"));
        }
        let schema = Arc::clone(builder.schema());
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(StoreError::damaged(path))?;
        let (mut batches, mut read, mut bytes) = (Vec::new(), 0u64, 0usize);
        for batch in reader {
            let batch = batch.map_err(StoreError::damaged(path))?;
            // A few bytes may stand for many rows, and for long texts.
            read += batch.num_rows() as u64;
            bytes += batch.get_array_memory_size();
            if u64::try_from(found).ok() < Some(read)
                || bytes / MOST_ROW_BYTES > BATCH_ROWS.max(read as usize)
            {
                return damaged(format!("{bytes} bytes in {read} of {found} rows are more than it can have"));
            }
            batches.push(batch);
        }
        let batch = concat_batches(&schema, &batches).map_err(StoreError::damaged(path))?;
        match rows.filter(|rows| batch.num_rows() != *rows) {
            Some(rows) => damaged(format!("{} rows can be read, the index says {rows}", batch.num_rows())),
            None => Ok(Self { batch, path }),
        }
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn wrong(&self, name: &str) -> StoreError {
        let what = format!("column {name} is missing or has another type");
        StoreError::Damaged { path: self.path.to_owned(), what }
    }

    fn column(&self, name: &str) -> Result<&ArrayRef, StoreError> {
        self.batch.column_by_name(name).ok_or_else(|| self.wrong(name))
    }

    fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&PrimitiveArray<T>, StoreError> {
        self.column(name)?.as_primitive_opt::<T>().ok_or_else(|| self.wrong(name))
    }

    fn flags(&self, name: &str) -> Result<&BooleanArray, StoreError> {
        self.column(name)?.as_boolean_opt().ok_or_else(|| self.wrong(name))
    }

    /// Values of so many bytes.
    fn binary(&self, name: &str, length: usize) -> Result<&FixedSizeBinaryArray, StoreError> {
        let column = self.column(name)?.as_fixed_size_binary_opt();
        column.filter(|c| c.value_length() as usize == length).ok_or_else(|| self.wrong(name))
    }

    fn tags(&self, name: &str) -> Result<&FixedSizeBinaryArray, StoreError> {
        self.binary(name, 16)
    }

    fn text(&self, name: &str) -> Result<&StringArray, StoreError> {
        self.column(name)?.as_string_opt::<i32>().ok_or_else(|| self.wrong(name))
    }

    /// A column that tables from before there were components lack.
    fn added_text(&self, name: &str) -> Result<Option<&StringArray>, StoreError> {
        self.batch.column_by_name(name).map(|_| self.text(name)).transpose()
    }
}
