//! The dataset card of a publication: what the Hub's viewer and people read first.

use std::fmt::Write;

use arrow::datatypes::{DataType, TimeUnit};

use crate::retrieval::{Index, Quality};
use crate::store::manifest::Manifest;
use crate::store::{Outcome, schema};

/// What the card says beside the files.
#[derive(Clone, Debug)]
pub struct About {
    /// Its title.
    pub title: String,
    /// Licence of the database, as the Hub spells it, e.g. `cc-by-4.0`.
    pub licence: String,
    /// Where it is published.
    pub address: String,
    /// Live rows by outcome.
    pub outcomes: std::collections::BTreeMap<Outcome, u64>,
    /// Repositories that they are of.
    pub repositories: usize,
    /// Of its index, if it has one.
    pub index: Option<AboutIndex>,
}

/// What the card says of an index.
#[derive(Clone, Copy, Debug)]
pub struct AboutIndex {
    /// As measured.
    pub quality: Quality,
    /// Distinct checkpoints.
    pub distinct: usize,
    /// Families.
    pub families: usize,
}

impl AboutIndex {
    /// What an open index says of itself.
    pub fn of(index: &Index) -> Self {
        Self { quality: index.quality(), distinct: index.checkpoints(), families: index.families() }
    }
}

/// The card as Markdown with YAML in front.
pub fn card(manifest: &Manifest, about: &About, lineage: Option<&str>, key: &str) -> String {
    let models: u64 = about.outcomes.values().sum();
    let mut text = String::from("---\n");
    let _ = writeln!(text, "pretty_name: {}", quoted(&about.title));
    let _ = writeln!(text, "license: {}", quoted(&about.licence));
    let _ = writeln!(
        text,
        "tags:\n- hubprint\n- model-lineage\n- provenance\nsize_categories:\n- {}",
        size(models)
    );
    text += "configs:\n";
    config(&mut text, "models", manifest.shards.iter().map(|shard| shard.entry.file.as_str()), true);
    if let Some(lineage) = lineage {
        config(&mut text, "lineage", std::iter::once(lineage), false);
    }
    text += "dataset_info:\n- config_name: models\n  features:\n";
    for field in schema::schema().fields() {
        let _ = write!(text, "  - name: {}\n{}", field.name(), feature(field.data_type(), "    "));
    }
    text += "---\n\n";
    let _ = writeln!(text, "# {}\n", about.title);
    text += "Fingerprints of the weights of models on the Hugging Face Hub, made by hubprint: which models descend from \
             which, whatever their cards say.\n\n";
    let _ = writeln!(text, "| | |\n|---|---|");
    let _ = writeln!(text, "| database, version | {}, {} |", manifest.id, manifest.generation);
    let _ = writeln!(text, "| as of | {} |", manifest.committed_at.format("%Y-%m-%d %H:%M UTC"));
    let _ = writeln!(
        text,
        "| format, extraction | {}, {} |",
        manifest.format_version, manifest.extraction_version
    );
    let outcomes: Vec<String> = about.outcomes.iter().map(|(o, n)| format!("{n} {}", o.name())).collect();
    // A row is a checkpoint; most repositories have one.
    let of = match about.repositories as u64 {
        n if n == models => String::new(),
        n => format!("{n}, checkpoints "),
    };
    let _ = writeln!(text, "| repositories | {of}{models}: {} |", outcomes.join(", "));
    if let Some(AboutIndex { quality, distinct, families }) = &about.index {
        let _ = writeln!(text, "| distinct models, families | {distinct}, {families} |");
        let _ = writeln!(
            text,
            "| recall of the ten nearest, over {} models | {:.4} |",
            quality.queries, quality.recall_at_10
        );
        let _ = writeln!(
            text,
            "| false positive rate, over {} negatives | {} |",
            quality.negatives,
            rate(quality)
        );
    }
    let _ = writeln!(text, "| signed with the ed25519 key | {key} |\n");
    text += "`models` has rows for every crawl of a repository, one for each `component`, which is empty for the main one; of \
             one `hub_id` those with the latest `crawled_at` count, and of several of these with one component the last \
             one in the order of the list of shards. `lineage` has a row for every checkpoint in the index.\n\n";
    if about.index.is_some() {
        text += "Recall: the share of the ten models of its own family that are nearest to a model by an exact scan of all \
                 vectors that the search finds, on average over models chosen at random. False positive rate: the share \
                 of negatives, models whose values were permuted and signs changed at random, that a family is named for; at most: \
                 what it is below with 95 % confidence, which for none of n is 3/n.\n\n";
    }
    let _ =
        writeln!(text, "```console\n$ hubprint db pull {}\n$ hubprint scan org/model\n```", about.address);
    text
}

/// The false positive rate and how high it may be.
fn rate(quality: &Quality) -> String {
    let Some(bound) = quality.false_rate_at_most() else { return "not measured".into() };
    let found = quality.false_positives;
    let share = |rate: f64| format!("{:.2} %", 100.0 * rate);
    format!("{found} ({}), at most {}", share(found as f64 / quality.negatives as f64), share(bound))
}

fn config<'a>(text: &mut String, name: &str, files: impl Iterator<Item = &'a str>, default: bool) {
    let mut files = files.peekable();
    if files.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "- config_name: {name}");
    if default {
        *text += "  default: true\n";
    }
    *text += "  data_files:\n  - split: train\n    path:\n";
    for file in files {
        let _ = writeln!(text, "    - {file}");
    }
}

/// A column in the words of the `datasets` library.
fn feature(kind: &DataType, indent: &str) -> String {
    match kind {
        DataType::List(item) => format!("{indent}list: {}\n", scalar(item.data_type())),
        DataType::FixedSizeList(item, length) => {
            format!("{indent}list: {}\n{indent}length: {length}\n", scalar(item.data_type()))
        }
        scalar_kind => format!("{indent}dtype: {}\n", scalar(scalar_kind)),
    }
}

fn scalar(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "string".into(),
        DataType::Boolean => "bool".into(),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => match zone {
            Some(zone) => format!("timestamp[ms, tz={zone}]"),
            None => "timestamp[ms]".into(),
        },
        // int8, uint64, float32: as Arrow writes them, in small letters.
        other => other.to_string().to_lowercase(),
    }
}

/// The Hub's classes of size.
fn size(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "1M<n<10M",
    }
}

/// A YAML string: JSON's are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_nothing_is_not_nothing() {
        let quality = |false_positives, negatives| Quality {
            queries: 1,
            recall_at_10: 1.0,
            negatives,
            false_positives,
        };
        // The rule of three.
        assert_eq!(rate(&quality(0, 1000)), "0 (0.00 %), at most 0.30 %");
        assert_eq!(rate(&quality(2, 1000)), "2 (0.20 %), at most 0.63 %");
        assert_eq!(rate(&quality(0, 0)), "not measured");
    }
}
