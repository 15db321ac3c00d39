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

/// The lines of one model, which follow one another: one for each of its checkpoints.
#[derive(Default)]
struct Group {
    model: String,
    is_answered: bool,
    lines: Vec<(String, String)>,
}

impl Group {
    fn add(&mut self, line: Written, text: String) {
        model_of(&line.query).clone_into(&mut self.model);
        self.is_answered |= line.error.is_none();
        self.lines.push((line.query, text));
    }

    /// Keeps the lines, unless all of them say that it failed.
    fn keep(self, file: &mut impl Write, answered: &mut HashSet<Tag>) -> io::Result<()> {
        if !self.is_answered {
            return Ok(());
        }
        answered.insert(listed(&self.model));
        for (query, text) in self.lines {
            if answered.insert(Tag::of(&query)) {
                file.write_all(text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The model that a line is of: `org/name` of `org/name[unet]`.
fn model_of(query: &str) -> &str {
    query.strip_suffix(']').and_then(|query| query.rsplit_once('[')).map_or(query, |(model, _)| model)
}

/// How a model is known whose checkpoints are all answered.
pub(super) fn listed(model: &str) -> Tag {
    Tag::of(&format!("all of {model}"))
}

impl AnswersFile {
    /// Opens a file, or makes it, and says which queries it answers already: by their names, and by those of their
    /// repositories (`listed`).
    ///
    /// Answers are kept; what failed as a whole is to be tried again, and so is a model whose lines were cut when the scan
    /// before was killed. A file with any other line is somebody else's, and refused as it is.
    pub fn open(path: &Path) -> Result<(Self, HashSet<Tag>), BulkError> {
        let mut answered = HashSet::new();
        if path.exists() {
            let mut lines = BufReader::new(File::open(path).map_err(StoreError::io(path))?);
            atomic::write_with(path, |kept| {
                let mut kept = BufWriter::new(kept);
                let mut group = Group::default();
                while let Some(text) = line_of(&mut lines, LONGEST_ANSWER, path)? {
                    let Some(whole) = text.strip_suffix('\n') else {
                        group = Group::default();
                        break;
                    };
                    let line: Written = serde_json::from_str(whole)
                        .map_err(|_| BulkError::NotAnswers { path: path.to_owned() })?;
                    if group.model != model_of(&line.query) {
                        let before = std::mem::take(&mut group);
                        before.keep(&mut kept, &mut answered).map_err(StoreError::io(path))?;
                    }
                    group.add(line, text);
                }
                group.keep(&mut kept, &mut answered).map_err(StoreError::io(path))?;
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
