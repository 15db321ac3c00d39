//! Which repositories stand behind a node, as a Parquet file of the index.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::store::{RowRef, StoreError, atomic};

/// One repository behind a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The node.
    pub node: u32,
    /// Where its row lies.
    pub at: RowRef,
    /// Its name.
    pub repo_id: String,
    /// Digest of its weight files.
    pub weights_digest: Option<String>,
    /// Digest of its sampled bytes.
    pub sample_digest: Option<String>,
}

/// All postings, found by node and by content.
#[derive(Debug, Default)]
pub struct Postings {
    all: Vec<Posting>,
    by_node: HashMap<u32, Vec<usize>>,
    by_content: HashMap<String, u32>,
}

impl Postings {
    /// Indexes postings.
    pub fn new(all: Vec<Posting>) -> Self {
        let mut by_node: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut by_content = HashMap::new();
        for (i, posting) in all.iter().enumerate() {
            by_node.entry(posting.node).or_default().push(i);
            for digest in posting.weights_digest.iter().chain(&posting.sample_digest) {
                by_content.insert(digest.clone(), posting.node);
            }
        }
        Self { all, by_node, by_content }
    }

    /// The repositories behind a node.
    pub fn of_node(&self, node: u32) -> impl Iterator<Item = &Posting> {
        self.by_node.get(&node).into_iter().flatten().map(|&i| &self.all[i])
    }

    /// The node with this weights or sample digest.
    pub fn node_of_content(&self, digest: &str) -> Option<u32> {
        self.by_content.get(digest).copied()
    }

    /// Number of postings.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        let number = |f: fn(&Posting) -> u32| -> ArrayRef {
            Arc::new(self.all.iter().map(f).collect::<UInt32Array>())
        };
        let text = |f: fn(&Posting) -> Option<&String>| -> ArrayRef {
            Arc::new(self.all.iter().map(f).collect::<StringArray>())
        };
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("node", number(|p| p.node), false),
            ("shard", number(|p| p.at.shard), false),
            ("row", number(|p| p.at.row), false),
            ("repo_id", text(|p| Some(&p.repo_id)), false),
            ("weights_digest", text(|p| p.weights_digest.as_ref()), true),
            ("sample_digest", text(|p| p.sample_digest.as_ref()), true),
        ])
        .map_err(StoreError::damaged(path))?;
        atomic::write_with(path, |out| {
            let mut writer =
                ArrowWriter::try_new(out, batch.schema(), None).map_err(StoreError::damaged(path))?;
            writer.write(&batch).map_err(StoreError::damaged(path))?;
            writer.close().map_err(StoreError::damaged(path))?;
            Ok(())
        })
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io(path))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(StoreError::damaged(path))?;
        let mut all = Vec::new();
        for batch in reader {
            let batch = batch.map_err(StoreError::damaged(path))?;
            let missing =
                || StoreError::Damaged { path: path.to_owned(), what: "a column is missing".into() };
            let number = |name| {
                batch
                    .column_by_name(name)
                    .and_then(|c| c.as_primitive_opt::<UInt32Type>())
                    .ok_or_else(missing)
            };
            let text =
                |name| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(missing);
            let (node, shard, row) = (number("node")?, number("shard")?, number("row")?);
            let (names, weights, samples) =
                (text("repo_id")?, text("weights_digest")?, text("sample_digest")?);
            let optional = |column: &StringArray, i| {
                arrow::array::Array::is_valid(column, i).then(|| column.value(i).to_owned())
            };
            all.extend((0..batch.num_rows()).map(|i| Posting {
                node: node.value(i),
                at: RowRef { shard: shard.value(i), row: row.value(i) },
                repo_id: names.value(i).to_owned(),
                weights_digest: optional(weights, i),
                sample_digest: optional(samples, i),
            }));
        }
        Ok(Self::new(all))
    }
}
