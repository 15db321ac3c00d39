//! Where a header is being read: a window of the file, and a place in it or behind it.

use super::error::{GgufError, Shown};

/// Why reading stops.
pub(super) enum Stop {
    /// The bytes up to here are needed.
    More(u64),
    /// The file is refused.
    Bad(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Self::Bad(error)
    }
}

/// What was read, or why not.
pub(super) type Read<T> = Result<T, Stop>;

/// The bytes of the file that are at hand: of those before nothing more is asked.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl Window {
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// Forgets what lies before this byte.
    pub(super) fn forget(&mut self, before: u64) {
        let known = usize::try_from(before.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.drain(..known.min(self.bytes.len()));
        self.start = before;
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) window: &'a Window,
    pub(super) at: u64,
    /// Size of the file.
    pub(super) size: u64,
    pub(super) big_endian: bool,
}

impl<'a> Cursor<'a> {
    /// Goes so many bytes further, which need not be at hand.
    pub(super) fn skip(&mut self, bytes: u64) -> Read<()> {
        let end = self.at.checked_add(bytes);
        match end.filter(|end| *end <= self.size) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => Err(GgufError::PastEnd { end: Shown(end), size: self.size }.into()),
        }
    }

    pub(super) fn take(&mut self, bytes: u64) -> Read<&'a [u8]> {
        let begin = self.at;
        self.skip(bytes)?;
        let place = |at: u64| usize::try_from(at.checked_sub(self.window.start)?).ok();
        let found =
            place(begin).zip(place(self.at)).and_then(|(begin, end)| self.window.bytes.get(begin..end));
        found.ok_or(Stop::More(self.at))
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.iter_mut().zip(self.take(N as u64)?).for_each(|(to, from)| *to = *from);
        if self.big_endian {
            array.reverse();
        }
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned number of so many bytes, at most 8.
    pub(super) fn unsigned(&mut self, bytes: u64) -> Read<u64> {
        let taken = self.take(bytes)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(if self.big_endian { taken.iter().fold(0, add) } else { taken.iter().rev().fold(0, add) })
    }

    /// A text of at most so many bytes.
    pub(super) fn name(&mut self, what: &'static str, most: usize) -> Read<String> {
        let length = self.u64()?;
        if length > most as u64 {
            let what = if what == "key" { "bytes of a key" } else { "bytes of a tensor's name" };
            return Err(GgufError::TooMany { what, found: length, limit: most as u64 }.into());
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| GgufError::Text(what))?;
        Ok(text.to_owned())
    }
}
