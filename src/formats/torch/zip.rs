//! The directory of a zip archive, read from its end, and where its members are.
//!
//! Layouts are those of APPNOTE 6.3.10 (PKWARE): the end of the central directory (4.3.16) with its form of 64 bits
//! (4.3.14, 4.3.15), the central directory (4.3.12), local headers (4.3.7). A member's data begins behind its local
//! header, whose length only that header tells. To read one of each tensor would cost a request each, so where it was
//! not read the place follows from how torch writes, and has to fill the room to the next header to the byte: torch pads
//! every header so that data begins at a multiple of 64 (`PyTorchStreamWriter::writeRecord`, caffe2/serialize).

use std::collections::HashMap;
use std::ops::Range;

use super::error::{TorchError, unsupported};
use super::held::{Held, Stop};
use crate::formats::Limits;

/// What a local header begins with.
pub(super) const LOCAL: &[u8; 4] = b"PK\x03\x04";
pub(super) const CENTRAL: &[u8; 4] = b"PK\x01\x02";
pub(super) const END: &[u8; 4] = b"PK\x05\x06";
pub(super) const END_64: &[u8; 4] = b"PK\x06\x06";
pub(super) const LOCATOR_64: &[u8; 4] = b"PK\x06\x07";

const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
pub(super) const END_64_BYTES: usize = 56;
const LOCATOR_64_BYTES: usize = 20;

/// First read from the end of a file, bytes: the directory of 700 members, and whatever comment there may be.
const TAIL: u64 = (1 << 16) + END_BYTES as u64;
/// What data is aligned to.
pub(super) const ALIGNMENT: u64 = 64;
/// Bytes of an extra field before its content, and so of the least padding that torch writes.
const EXTRA_HEAD: u64 = 4;
/// Where a number of 32 bits stands for one of 64 that is elsewhere.
pub(super) const ELSEWHERE: u64 = 0xffff_ffff;

/// A member as the central directory has it.
#[derive(Debug)]
pub(super) struct Member {
    name_bytes: u64,
    /// Where its local header begins.
    pub(super) local: u64,
    /// Bytes of its content.
    pub(super) size: u64,
    stored: u64,
    method: u16,
    flags: u16,
    extra_bytes: u64,
    /// Where the next local header begins, or the central directory.
    pub(super) next: u64,
}

/// The members of an archive by name.
pub(super) type Members<'h> = HashMap<&'h str, Member>;

fn damaged(what: &'static str) -> TorchError {
    TorchError::Zip(what)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b).into())
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// Where the central directory is and how many members it lists.
struct Directory {
    bytes: Range<u64>,
    members: u64,
}

/// The members of an archive.
pub(super) fn members<'h>(
    held: &'h Held,
    size: u64,
    limits: &Limits,
) -> Result<Members<'h>, Stop<TorchError>> {
    let Directory { bytes, members: stated } = directory(held, size)?;
    let length = bytes.end - bytes.start;
    if length > limits.header_bytes {
        let what = "the central directory";
        return Err(TorchError::TooLarge { what, claimed: length, limit: limits.header_bytes }.into());
    }
    let end = bytes.end;
    let mut rest = held.get(bytes.clone())?;
    // A member of a directory takes at least so much.
    if stated > length / CENTRAL_BYTES as u64 {
        return Err(damaged("the central directory lists fewer members than it says").into());
    }
    let mut found = Members::with_capacity(stated as usize);
    while !rest.is_empty() {
        let (name, member, behind) = entry(rest).ok_or_else(|| damaged("the central directory"))??;
        rest = behind;
        if member.local >= bytes.start {
            return Err(damaged("a member begins behind the others").into());
        }
        if found.insert(name, member).is_some() {
            return Err(TorchError::Twice(name.chars().take(80).collect()).into());
        }
    }
    if found.len() as u64 != stated {
        return Err(damaged("the central directory lists more or fewer members than it says").into());
    }
    let mut begins: Vec<u64> = found.values().map(|member| member.local).collect();
    begins.sort_unstable();
    for member in found.values_mut() {
        let behind = begins.partition_point(|begin| *begin <= member.local);
        member.next = begins.get(behind).copied().unwrap_or(end - length);
    }
    Ok(found)
}

/// The directory, from the end of the file.
fn directory(held: &Held, size: u64) -> Result<Directory, Stop<TorchError>> {
    let start = size.saturating_sub(TAIL);
    let tail = held.get(start..size)?;
    // Its comment ends the file.
    let is_end = |at: &usize| {
        tail.get(*at..).is_some_and(|end| {
            let comment = u16_at(end, 20).map(usize::from);
            end.starts_with(END) && comment.is_some_and(|comment| END_BYTES + comment == end.len())
        })
    };
    let at = (0..tail.len().saturating_sub(END_BYTES - 1)).rev().find(is_end);
    let at = at.ok_or_else(|| damaged("it has no end: the file may be cut off"))?;
    let read = || {
        let end = tail.get(at..)?;
        Some((u16_at(end, 4)?, u16_at(end, 10)?, u32_at(end, 12)?, u32_at(end, 16)?))
    };
    let (disk, members, length, begin) = read().ok_or_else(|| damaged("its end"))?;
    let of_64 = at.checked_sub(LOCATOR_64_BYTES).and_then(|locator| {
        let locator = tail.get(locator..at)?;
        if locator.starts_with(LOCATOR_64) { u64_at(locator, 8) } else { None }
    });
    let end = start + at as u64;
    let Some(place) = of_64 else {
        if disk != 0 {
            return Err(unsupported("an archive in several parts").into());
        }
        return Ok(Directory { bytes: within(begin, length, end)?, members: members.into() });
    };
    let last = (end - LOCATOR_64_BYTES as u64).checked_sub(END_64_BYTES as u64);
    if last != Some(place) {
        return Err(damaged("the end of 64 bits is not where it should be").into());
    }
    let end_64 = held.get(place..place + END_64_BYTES as u64)?;
    let read = || Some((u64_at(end_64, 32)?, u64_at(end_64, 40)?, u64_at(end_64, 48)?));
    let (members, length, begin) =
        read().filter(|_| end_64.starts_with(END_64)).ok_or_else(|| damaged("its end of 64 bits"))?;
    Ok(Directory { bytes: within(begin, length, place)?, members })
}

/// A directory that ends where what follows it begins.
fn within(begin: u64, length: u64, end: u64) -> Result<Range<u64>, TorchError> {
    if begin.checked_add(length) == Some(end) {
        Ok(begin..end)
    } else {
        Err(damaged("the central directory is not where its end says"))
    }
}

type Entry<'h> = (&'h str, Member, &'h [u8]);

/// The first entry of the central directory, and what is behind it.
fn entry(bytes: &[u8]) -> Option<Result<Entry<'_>, TorchError>> {
    let head = bytes.get(..CENTRAL_BYTES).filter(|head| head.starts_with(CENTRAL))?;
    let (name, extra, comment) = (u16_at(head, 28)?, u16_at(head, 30)?, u16_at(head, 32)?);
    let rest = bytes.get(CENTRAL_BYTES..)?;
    let (name, rest) = rest.split_at_checked(name.into())?;
    let (extra, rest) = rest.split_at_checked(extra.into())?;
    let rest = rest.get(usize::from(comment)..)?;
    let (mut size, mut stored, mut local) = (u32_at(head, 24)?, u32_at(head, 20)?, u32_at(head, 42)?);
    // In this order, those that have no room.
    let mut wide = extra_of_64(extra).unwrap_or_default();
    for number in [&mut size, &mut stored, &mut local] {
        if *number == ELSEWHERE {
            let (first, behind) = wide.split_first_chunk()?;
            (*number, wide) = (u64::from_le_bytes(*first), behind);
        }
    }
    let Ok(text) = std::str::from_utf8(name) else {
        return Some(Err(damaged("the name of a member is not UTF-8")));
    };
    let member = Member {
        name_bytes: name.len() as u64,
        local,
        size,
        stored,
        method: u16_at(head, 10)?,
        flags: u16_at(head, 8)?,
        extra_bytes: extra.len() as u64,
        next: 0,
    };
    Some(Ok((text, member, rest)))
}

/// The numbers of 64 bits among the extra fields (4.5.3).
fn extra_of_64(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (kind, length) = (u16_at(extra, 0)?, u16_at(extra, 2)?);
        let (content, rest) = extra.get(EXTRA_HEAD as usize..)?.split_at_checked(length.into())?;
        if kind == 1 {
            return Some(content);
        }
        extra = rest;
    }
}

impl Member {
    /// Where its content is in the file.
    pub(super) fn data(&self, name: &str, held: &Held) -> Result<Range<u64>, TorchError> {
        let unsupported = |what: &str| unsupported(format!("an archive whose member {name:?} {what}"));
        if self.flags & 1 != 0 || self.flags & (1 << 6) != 0 {
            return Err(unsupported("is encrypted"));
        }
        if self.method != 0 {
            return Err(unsupported("is compressed"));
        }
        if self.stored != self.size {
            return Err(damaged("a member is not as large as it says"));
        }
        let begin = match self.begin_by_header(name, held)? {
            Some(begin) => Some(begin),
            None => self.begin_by_rule(),
        };
        let begin = begin.ok_or_else(|| unsupported("is not where torch would have it"))?;
        match begin.checked_add(self.size) {
            Some(end) if end <= self.next => Ok(begin..end),
            _ => Err(damaged("a member reaches into the next one")),
        }
    }

    /// Where it begins by its own header, if that is held.
    fn begin_by_header(&self, name: &str, held: &Held) -> Result<Option<u64>, TorchError> {
        let named = self.local.saturating_add(LOCAL_BYTES).saturating_add(self.name_bytes);
        let Ok(header) = held.get::<TorchError>(self.local..named) else { return Ok(None) };
        let read = || Some((u16_at(header, 6)?, u16_at(header, 26)?, u16_at(header, 28)?));
        let is_own = header.starts_with(LOCAL) && header.ends_with(name.as_bytes());
        match read().filter(|(_, length, _)| is_own && u64::from(*length) == self.name_bytes) {
            Some((_, _, extra)) => Ok(named.checked_add(extra.into())),
            None => Err(damaged("a member has another header than the directory says")),
        }
    }

    /// Where it begins as torch or Python write, if it fills the room to the next header exactly.
    fn begin_by_rule(&self) -> Option<u64> {
        let named = self.local.checked_add(LOCAL_BYTES)?.checked_add(self.name_bytes)?;
        let is_described = self.flags & (1 << 3) != 0;
        let fills = |begin: u64| {
            let behind = self.next.checked_sub(begin.checked_add(self.size)?)?;
            // What describes the data behind it has a signature, a checksum and two lengths (4.3.9).
            let fits = if is_described { [16, 24].contains(&behind) } else { behind == 0 };
            fits.then_some(begin)
        };
        let wide = |number: u64| number >= ELSEWHERE;
        let of_64 = if wide(self.size) || wide(self.local) {
            EXTRA_HEAD + 16 * u64::from(wide(self.size)) + 8 * u64::from(wide(self.local))
        } else {
            0
        };
        let padded = named.checked_add(of_64 + EXTRA_HEAD)?.checked_next_multiple_of(ALIGNMENT)?;
        // Python writes no padding, and has the extra fields of the directory in the header, or those for 64 bits.
        let python = [0, self.extra_bytes, EXTRA_HEAD + 16];
        fills(padded).or_else(|| python.iter().find_map(|extra| fills(named.checked_add(*extra)?)))
    }
}
