//! A file of answers that grows: a scan that was stopped goes on with it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use serde::Deserialize;

use super::answer::BulkLine;
use super::lines::{BulkError, line_of};
use crate::store::{StoreError, Tag, atomic};

/// Longest line of a file of answers, bytes: an answer names a few repositories of each family.
const LONGEST_ANSWER: u64 = 16 << 20;

/// A file of answers, one a line.
#[derive(Debug)]
pub struct AnswersFile {
    file: BufWriter<File>,
}

/// What is read of a line; other versions may have written it.
#[derive(Deserialize)]
struct Written {
    query: String,
    error: Option<String>,
}

impl AnswersFile {
    /// Opens a file, or makes it, and says which queries it answers already.
    ///
    /// Answers are kept; failed queries are to be tried again, and so is one whose line was cut when the scan before
    /// was killed. A file with any other line is somebody else's, and refused as it is.
    pub fn open(path: &Path) -> Result<(Self, HashSet<Tag>), BulkError> {
        let mut answered = HashSet::new();
        if path.exists() {
            let mut lines = BufReader::new(File::open(path).map_err(StoreError::io(path))?);
            atomic::write_with(path, |kept| {
                let mut kept = BufWriter::new(kept);
                while let Some(text) = line_of(&mut lines, LONGEST_ANSWER, path)? {
                    let Some(whole) = text.strip_suffix('\n') else { break };
                    let line: Written = serde_json::from_str(whole)
                        .map_err(|_| BulkError::NotAnswers { path: path.to_owned() })?;
                    if line.error.is_none() && answered.insert(Tag::of(&line.query)) {
                        kept.write_all(text.as_bytes()).map_err(StoreError::io(path))?;
                    }
                }
                kept.flush().map_err(StoreError::io(path))?;
                Ok::<(), BulkError>(())
            })?;
        }
        let file = File::options().append(true).create(true).open(path).map_err(StoreError::io(path))?;
        Ok((Self { file: BufWriter::new(file) }, answered))
    }

    /// Adds lines, and does not return before the file has them.
    pub fn add(&mut self, lines: &[BulkLine]) -> io::Result<()> {
        for line in lines {
            serde_json::to_writer(&mut self.file, line)?;
            self.file.write_all(b"\n")?;
        }
        self.file.flush()
    }
}
