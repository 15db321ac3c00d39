//! The truth of a made-up population: a tab-separated table beside its database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the table.
pub const TRUTH: &str = "truth.tsv";
/// Its first line.
pub(super) const HEAD: &str = "repo_id\tfamily\troot\tparent\trelation\tr\n";
/// Relation of a model that has the weights of its parent.
pub const COPY: &str = "copy";
/// Relation of a model whose hidden dimensions are in another order than its parent's.
pub const MOVED: &str = "moved";
/// Relation of a model that descends from none.
pub const STRANGER: &str = "stranger";

/// What is true of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Its family; empty where it has none.
    pub family: String,
    /// The first model of the family.
    pub root: String,
    /// The model that it was made of.
    pub parent: String,
    /// How.
    pub relation: String,
    /// Correlation of its weights with the parent's, 0 to 1.
    pub r: f64,
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is something else.
    #[error("{}: no line of a truth: {line:?}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: String,
    },
}

/// Reads a table: what is true of each model, by name.
pub fn read(path: &Path) -> Result<BTreeMap<String, Truth>, TruthError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| TruthError::Io { path: path.to_owned(), source })?;
    let models = text.lines().skip(1).map(|line| {
        parse(line).ok_or_else(|| TruthError::Line { path: path.to_owned(), line: line.to_owned() })
    });
    models.collect()
}

fn parse(line: &str) -> Option<(String, Truth)> {
    let [name, family, root, parent, relation, r] = line.split('\t').collect::<Vec<_>>()[..] else {
        return None;
    };
    let r = r.parse().ok()?;
    let [family, root, parent, relation] = [family, root, parent, relation].map(str::to_owned);
    Some((name.to_owned(), Truth { family, root, parent, relation, r }))
}
