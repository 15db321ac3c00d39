//! Files of `torch.save` and TorchScript: a pickle that names tensors, and the storages that they lie in.
//!
//! | file | where the pickle is | where the storages are |
//! |---|---|---|
//! | zip, since torch 1.6; TorchScript | member `*/data.pkl` | members `*/data/KEY`, stored as they are |
//! | stream, before 1.6 | the fourth of five at the begin of the file | behind the pickles |
//!
//! The pickle is read by a machine that builds nothing and calls nothing (`pickle`). A transposed or sliced matrix is
//! read as what it is; what a function makes that is not known here is named and not read.

mod error;
mod held;
mod legacy;
mod pickle;
mod strided;
mod tensors;
#[cfg(test)]
mod tests;
pub mod write;
mod zip;

use std::ops::Range;

pub use self::error::TorchError;
use self::error::unsupported;
use self::held::{Held, Stop};
use self::pickle::Graph;
pub use self::pickle::PickleError;
pub use self::strided::Strided;
use self::tensors::Places;
pub use self::tensors::{Other, Tensors};
use self::zip::{Member, Members};
use super::foreign::Kind;
use super::safetensors::FIRST_READ;
use super::{Foreign, Limits};

/// What a file needs, or what it holds.
#[derive(Debug)]
pub enum Step {
    /// These bytes of it are needed.
    Need(Range<u64>),
    /// Done.
    Done(Tensors),
}

/// A file while its tensors are found: a push decoder.
#[derive(Debug)]
pub struct Opening {
    size: u64,
    held: Held,
}

impl Opening {
    /// A file of this size, bytes.
    pub fn new(size: u64) -> Self {
        Self { size, held: Held::default() }
    }

    /// What it needs next, or what it holds. It never asks for bytes beyond its end, nor for any twice.
    pub fn step(&self, limits: &Limits) -> Result<Step, TorchError> {
        match read(&self.held, self.size, limits) {
            Ok(tensors) => Ok(Step::Done(tensors)),
            Err(Stop::Need(range)) => Ok(Step::Need(range)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// The bytes of a range that it asked for.
    pub fn give(&mut self, range: &Range<u64>, bytes: &[u8]) {
        self.held.give(range.start, bytes);
    }
}

/// What the bytes of a pickle of protocol 2 or later begin with.
const PROTOCOL: u8 = 0x80;
/// What a tar archive has, and where.
const TAR: (usize, &[u8]) = (257, b"ustar");

fn read(held: &Held, size: u64, limits: &Limits) -> Result<Tensors, Stop<TorchError>> {
    // Of a stream that is nearly always all, and of an archive most of the pickle.
    let head = held.get(0..size.min(FIRST_READ))?;
    let head = &head[..head.len().min(FIRST_READ as usize)];
    if head.starts_with(zip::LOCAL) {
        return of_archive(held, size, limits);
    }
    if head.first() == Some(&PROTOCOL) {
        let (object, stream) = legacy::read(held, size, limits)?;
        return Ok(tensors::read(&object, &stream, limits)?);
    }
    if head.get(TAR.0..).is_some_and(|at| at.starts_with(TAR.1)) {
        return Err(unsupported("a tar archive, as torch.save wrote it before version 0.2").into());
    }
    match Foreign::of_weights(head) {
        // Other libraries have files of these names too.
        Some(Foreign(kind @ (Kind::Gguf | Kind::Hdf5 | Kind::Gzip | Kind::Zstd))) => {
            Err(unsupported(kind.to_string()).into())
        }
        Some(foreign) => Err(TorchError::from(foreign).into()),
        None => Err(unsupported("no file of torch.save").into()),
    }
}

/// What the pickle of an archive is called.
const PICKLE: &str = "data.pkl";
/// What says in which order the bytes of a number are.
const ORDER: &str = "byteorder";
/// How far behind the pickle that is read with it.
const NEAR: u64 = 4096;

/// An archive: its directory, then the pickle.
fn of_archive(held: &Held, size: u64, limits: &Limits) -> Result<Tensors, Stop<TorchError>> {
    let members = zip::members(held, size, limits)?;
    // The folder has the name that the file had when it was written.
    let is_pickle =
        |name: &&&str| name.strip_suffix(PICKLE).is_some_and(|at| at.is_empty() || at.ends_with('/'));
    let pickles = members.keys().filter(is_pickle);
    let Some(pickle) = pickles.min_by_key(|name| (name.matches('/').count(), **name)) else {
        return Err(unsupported("a zip archive without the data.pkl of torch.save").into());
    };
    let archive =
        Archive { members: &members, folder: pickle.strip_suffix(PICKLE).unwrap_or_default(), held };
    let bytes = archive.content(PICKLE, ORDER, limits)?.unwrap_or_default();
    if archive.content(ORDER, "", limits)?.is_some_and(|order| order != b"little") {
        return Err(unsupported("torch.save on a big-endian machine").into());
    }
    let graph = Graph::read(bytes).map_err(TorchError::from)?;
    Ok(tensors::read(&graph, &archive, limits)?)
}

/// The members of an archive that are in the folder of its pickle.
struct Archive<'h> {
    members: &'h Members<'h>,
    folder: &'h str,
    held: &'h Held,
}

impl<'h> Archive<'h> {
    fn member(&self, name: &str) -> Option<(String, &'h Member)> {
        let path = format!("{}{name}", self.folder);
        let member = self.members.get(path.as_str())?;
        Some((path, member))
    }

    /// The content of a member, read with its header in front of it, and with another one that is near behind it.
    fn content(
        &self,
        name: &str,
        behind: &str,
        limits: &Limits,
    ) -> Result<Option<&'h [u8]>, Stop<TorchError>> {
        let Some((path, member)) = self.member(name) else { return Ok(None) };
        if member.size > limits.header_bytes {
            let (what, claimed, limit) = ("the pickle", member.size, limits.header_bytes);
            return Err(TorchError::TooLarge { what, claimed, limit }.into());
        }
        let end = member.data(&path, self.held)?.end;
        let near =
            self.member(behind).filter(|(_, next)| (end..end.saturating_add(NEAR)).contains(&next.local));
        let end = match near {
            Some((path, next)) if next.size < NEAR => next.data(&path, self.held)?.end,
            _ => end,
        };
        self.held.get::<TorchError>(member.local..end)?;
        // By its own header, which is there now.
        self.held.get(member.data(&path, self.held)?).map(Some)
    }
}

impl Places for Archive<'_> {
    fn place(&self, key: &str) -> Result<Option<Range<u64>>, TorchError> {
        let member = self.member(&format!("data/{key}"));
        member.map(|(path, member)| member.data(&path, self.held)).transpose()
    }
}
