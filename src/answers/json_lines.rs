//! Small files with a JSON object a line, read whole.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JsonLinesError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{}, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// The lines of a file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, JsonLinesError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| JsonLinesError::Io { path: path.to_owned(), source })?;
    let parse = |(line, text)| {
        serde_json::from_str(text).map_err(|source| JsonLinesError::Line {
            path: path.to_owned(),
            line,
            source,
        })
    };
    (1..).zip(text.lines()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let read_text = |text: &str| {
            crate::store::atomic::write(&path, text.as_bytes()).unwrap();
            read::<u64>(&path)
        };
        assert_eq!(read_text("1\n2").unwrap(), [1, 2]);
        assert!(matches!(read_text("1\nx\n"), Err(JsonLinesError::Line { line: 2, .. })));
        let missing = read::<u64>(&dir.path().join("none"));
        assert!(matches!(missing, Err(JsonLinesError::Io { .. })));
    }
}
