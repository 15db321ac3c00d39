//! Lines of text of bounded length.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Why a scan of many models ended.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The database, the list or the file of answers could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line is longer than any of such a file is.
    #[error("{} has a line of more than {most} bytes", place.display())]
    LongLine {
        /// The file.
        place: PathBuf,
        /// Bytes.
        most: u64,
    },
    /// A line is no text.
    #[error("{} has a line that is not UTF-8", place.display())]
    NotText {
        /// The file.
        place: PathBuf,
    },
    /// The file that answers are to be added to holds something else.
    #[error("{} has lines that are no answers", path.display())]
    NotAnswers {
        /// The file.
        path: PathBuf,
    },
    /// Answers could not be written.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

impl BulkError {
    /// One line of advice, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => Some(error.hint()),
            Self::LongLine { .. } => Some("give a list with one model a line"),
            Self::NotAnswers { .. } => {
                Some("name a file that is not there yet, or one that `scan --out` wrote")
            }
            Self::NotText { .. } | Self::Output(_) => None,
        }
    }
}

/// The next line with its end, of at most so many bytes; `None` at the end of the text.
pub(super) fn line_of(text: &mut impl BufRead, most: u64, place: &Path) -> Result<Option<String>, BulkError> {
    let mut bytes = Vec::new();
    text.by_ref().take(most).read_until(b'\n', &mut bytes).map_err(StoreError::io(place))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 == most && !bytes.ends_with(b"\n") {
        return Err(BulkError::LongLine { place: place.to_owned(), most });
    }
    let line = String::from_utf8(bytes);
    line.map(Some).map_err(|_| BulkError::NotText { place: place.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_text() {
        let place = Path::new("list");
        let mut text: &[u8] = b"a/b\n\nc";
        let mut next = || line_of(&mut text, 5, place).unwrap();
        assert_eq!(
            [next(), next(), next(), next()],
            [Some("a/b\n".into()), Some("\n".into()), Some("c".into()), None]
        );
        let error = |mut text: &[u8]| line_of(&mut text, 5, place).unwrap_err();
        assert!(matches!(error(b"abcdefg\n"), BulkError::LongLine { most: 5, .. }));
        assert!(matches!(error(b"\xff\n"), BulkError::NotText { .. }));
        assert_eq!(line_of(&mut &b"abcd\n"[..], 5, place).unwrap().as_deref(), Some("abcd\n"));
    }
}
