//! Files whose headers are found each by itself: one loop for all formats.

use std::mem;
use std::ops::Range;

use crate::checkpoint::container::{Damaged, Decoder, Step, Tensors};
use crate::formats::FileRange;

/// What is wrong with a file.
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A file while its header is found: a push decoder.
pub(super) trait Opening: Send {
    /// What it is in the end.
    type Found: Send;

    /// What it needs next, or what the file holds. It asks for no bytes beyond the file's end, nor for any twice.
    fn step(&mut self) -> Result<Opened<Self::Found>, Fault>;

    /// The bytes of a range that it asked for.
    fn give(&mut self, range: &Range<u64>, bytes: &[u8]);

    /// That the headers of all files are larger together than this, which is what one may have.
    fn together(limit: u64) -> Fault;
}

/// What a file answers.
pub(super) enum Opened<T> {
    /// These bytes of it are needed.
    Need(Range<u64>),
    /// Done.
    Done(T),
}

enum File<O: Opening> {
    Opening(O),
    Found(O::Found),
}

/// The decoder of several files, which have one limit for the bytes of their headers: one for each alone would be one
/// for eight shards, times the repositories under way.
pub(super) struct Each<O: Opening, F> {
    files: Vec<File<O>>,
    /// Bytes that may still be asked for.
    left: u64,
    limit: u64,
    ready: F,
}

impl<O: Opening, F> Each<O, F> {
    /// `limit` is what a report says that all headers may have, `first` what of the first reads of the files does not count
    /// for it, and `ready` makes what the files hold of what was found in each.
    pub(super) fn new(files: impl Iterator<Item = O>, limit: u64, first: u64, ready: F) -> Self {
        let files: Vec<File<O>> = files.map(File::Opening).collect();
        let left = limit.saturating_add(first.saturating_mul(files.len() as u64));
        Self { files, left, limit, ready }
    }
}

impl<O, F> Decoder for Each<O, F>
where
    O: Opening,
    F: FnMut(Vec<O::Found>) -> Result<Box<dyn Tensors>, Damaged> + Send,
{
    fn step(&mut self) -> Result<Step, Damaged> {
        let mut needed = Vec::new();
        for (file, state) in self.files.iter_mut().enumerate() {
            let File::Opening(opening) = state else { continue };
            match opening.step().map_err(|source| Damaged { file, source })? {
                Opened::Done(found) => *state = File::Found(found),
                Opened::Need(bytes) => {
                    let range = FileRange { file, bytes };
                    let left = self.left.checked_sub(range.len());
                    self.left = left.ok_or_else(|| Damaged { file, source: O::together(self.limit) })?;
                    needed.push(range);
                }
            }
        }
        if !needed.is_empty() {
            return Ok(Step::Need(needed));
        }
        let found = mem::take(&mut self.files).into_iter().filter_map(|file| match file {
            File::Found(found) => Some(found),
            File::Opening(_) => None,
        });
        (self.ready)(found.collect()).map(Step::Ready)
    }

    fn give(&mut self, range: &FileRange, bytes: &[u8]) {
        if let Some(File::Opening(opening)) = self.files.get_mut(range.file) {
            opening.give(&range.bytes, bytes);
        }
    }
}
