//! Fingerprints stay what they are, bit by bit: digests of all that the database keeps of the weights, of every demo
//! model and every shape of `dev checkpoint`, in `tests/fixtures/fingerprints`.
//!
//! Everything goes through the command line and the columns on disk, so that no change of the code in between needs a
//! change here. Who changes a fingerprint on purpose raises `EXTRACTION_VERSION` and records anew, with
//! `INSTA_UPDATE=always cargo test --test it fingerprints::`.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hubprint::synthetic::checkpoint::SHAPES;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::support::{Cli, Hub, demo_hub, files_below, is_as_recorded, nobody, temp};

/// What the database keeps of a model's files, each group with a digest of its own.
const GROUPS: [(&str, &[&str]); 8] = [
    ("sampled", &["sample_digest", "parameters", "dtype", "hidden_size", "layers", "vocabulary"]),
    (
        "cells",
        &[
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
            "resemblance",
        ],
    ),
    ("vector", &["vector"]),
    ("products", &["products", "product_concentration", "product_rows"]),
    ("curves", &["profile_norms", "profile_energy_role", "profile_energy"]),
    ("gram", &["gram_keys", "gram_cosines"]),
    ("tokenizer", &["tokenizer"]),
    ("config", &["config", "model_type", "architecture", "quantization"]),
];

/// The rows of a database as a table of digests, ordered by name.
fn digests(db: &Path) -> String {
    let mut lines = Vec::new();
    for path in files_below(&db.join("shards")) {
        let batches = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        for batch in batches.build().unwrap() {
            let batch = batch.unwrap();
            let names = batch.column_by_name("repo_id").unwrap();
            let names = names.as_any().downcast_ref::<StringArray>().unwrap();
            lines.extend((0..batch.num_rows()).map(|row| {
                let digests = GROUPS.map(|(_, columns)| digest(&batch, columns, row)).join(" ");
                format!("{:<40} {digests}", names.value(row))
            }));
        }
    }
    lines.sort_unstable();
    lines.insert(0, format!("{:<40} {}", "model", GROUPS.map(|(name, _)| format!("{name:<12}")).join(" ")));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Twelve digits over these columns of a row. Numbers are written so that they can be read back exactly.
fn digest(batch: &RecordBatch, columns: &[&str], row: usize) -> String {
    let options = FormatOptions::default().with_null("-");
    let mut hasher = Sha256::new();
    for name in columns {
        let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
        let value = ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
        hasher.update((value.len() as u64).to_le_bytes());
        hasher.update(value);
    }
    let first = hasher.finalize()[..8].try_into().unwrap();
    format!("{:012x}", u64::from_be_bytes(first) >> 16)
}

/// Holds what a crawl of a folder keeps against what is recorded.
fn holds(name: &str, folder: &Path, args: &[&str]) {
    let hub = Hub::serve(folder, &[]);
    let cli = Cli::new(hub.url());
    cli.run(&[&["crawl", "--db", "DB"], args].concat());
    is_as_recorded(&format!("fixtures/fingerprints/{name}"), &digests(&cli.db()));
}

#[test]
fn of_demo_models() {
    holds("demo", &demo_hub(), &["--all-small-files"]);
}

#[test]
fn of_demo_models_without_their_small_files() {
    holds("demo-weights", &demo_hub(), &[]);
}

#[test]
fn of_every_shape() {
    let folder = temp();
    let to = folder.path().display().to_string();
    let cli = Cli::new(&nobody());
    for shape in SHAPES {
        let name = format!("shape/{}", shape.name);
        cli.expect(0, &["dev", "checkpoint", shape.name, "--to", &to, "--as", &name]);
    }
    // One of them in the other formats: of halves nothing differs but what was rounded.
    for format in ["pytorch", "gguf"] {
        let name = format!("shape/qwen2.5-0.5b-{format}");
        cli.expect(0, &["dev", "checkpoint", "qwen2.5-0.5b", "--format", format, "--to", &to, "--as", &name]);
    }
    holds("shapes", folder.path(), &["--all-small-files"]);
}
