//! Lists of pairs with known answers.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One pair with its known answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pair {
    /// A model: repository id, path, or folder below the root.
    pub a: String,
    /// Another one.
    pub b: String,
    /// Whether they share weights.
    #[serde(deserialize_with = "flag")]
    pub related: bool,
    /// In what way, in the list's own words.
    #[serde(default)]
    pub relation: String,
}

/// `true`, `false`, 1 or 0.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(u64),
        Text(String),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Bool(value) => Ok(value),
        Flag::Number(value) if value < 2 => Ok(value == 1),
        Flag::Text(text) => parse_flag(&text).ok_or_else(|| serde::de::Error::custom("related is 1 or 0")),
        Flag::Number(_) => Err(serde::de::Error::custom("related is 1 or 0")),
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "true" | "yes" => Some(true),
        "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the JSON that is expected.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A line or the head of a table.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// Reads a list: tab-separated with a head that names at least a, b and related; or JSON, an array of such
/// objects or an object with one under `pairs`.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>, PairsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| PairsError::Io { path: path.to_owned(), source })?;
    if text.trim_start().starts_with(['[', '{']) {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum List {
            Plain(Vec<Pair>),
            Under { pairs: Vec<Pair> },
        }
        let list: List = serde_json::from_str(&text)
            .map_err(|source| PairsError::Json { path: path.to_owned(), source })?;
        return Ok(match list {
            List::Plain(pairs) | List::Under { pairs } => pairs,
        });
    }
    let error = |line: usize, what: String| PairsError::Line { path: path.to_owned(), line: line + 1, what };
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
    let (number, head) = lines.next().ok_or_else(|| error(0, "the list is empty".into()))?;
    let names: Vec<&str> = head.split('\t').collect();
    let column = |name: &str| names.iter().position(|n| n.trim() == name);
    let required =
        |name: &str| column(name).ok_or_else(|| error(number, format!("the head has no column {name}")));
    let (a, b, related, relation) =
        (required("a")?, required("b")?, required("related")?, column("relation"));
    lines
        .map(|(number, line)| {
            let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
            let cell = |i: usize| cells.get(i).copied().unwrap_or_default();
            if cell(a).is_empty() || cell(b).is_empty() {
                return Err(error(number, "a or b is empty".into()));
            }
            let related = parse_flag(cell(related))
                .ok_or_else(|| error(number, format!("related is {:?}, not 1 or 0", cell(related))))?;
            let relation = relation.map_or("", cell).to_owned();
            Ok(Pair { a: cell(a).to_owned(), b: cell(b).to_owned(), related, relation })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, text: &str) -> Result<Vec<Pair>, PairsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        crate::store::atomic::write(&path, text.as_bytes()).unwrap();
        read_pairs(&path)
    }

    #[test]
    fn tables_and_json_say_the_same() {
        let tsv =
            list("x.tsv", "# note\na\tnote\tb\trelated\trelation\nx/1\t-\tx/2\t1\tsft\nx/1\t\tx/3\t0\t\n")
                .unwrap();
        let json = list(
            "x.json",
            r#"{"pairs":[{"a":"x/1","b":"x/2","related":true,"relation":"sft"},{"a":"x/1","b":"x/3","related":0}]}"#,
        );
        assert_eq!(tsv, json.unwrap());
        assert_eq!(tsv.len(), 2);
        assert!(tsv[0].related && !tsv[1].related);
    }

    #[test]
    fn a_bad_line_is_named() {
        let message = |text: &str| list("x.tsv", text).unwrap_err().to_string();
        assert!(message("a\tb\n").contains("no column related"));
        assert!(message("a\tb\trelated\nx\ty\tmaybe\n").contains("line 2: related is \"maybe\""));
        assert!(message("").contains("empty"));
        assert!(list("x.json", "{").is_err());
    }
}
