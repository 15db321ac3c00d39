//! The stream that `torch.save` wrote before version 1.6, and still does with `_use_new_zipfile_serialization=False`.
//!
//! Five pickles follow one another: a magic number, the version of the protocol, facts of the machine, the object, and the
//! keys of the storages; then for each key the number of elements in 8 bytes and the elements (`_legacy_save` in
//! torch/serialization.py). How many elements each has, the object says too, so all places follow from the pickles.

use std::collections::HashMap;
use std::ops::Range;

use super::error::{TorchError, unsupported};
use super::held::{Held, Stop};
use super::pickle::{Graph, PickleError, Value};
use super::tensors::{Places, storages};
use crate::formats::Limits;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The only version of the protocol.
const VERSION: i64 = 1001;
/// Bytes in front of the elements of a storage.
const COUNT_BYTES: u64 = 8;
/// By how much more is read where the pickles were not whole.
const GROWTH: u64 = 4;

/// The pickles of a file, one after the other.
struct Pickles<'h> {
    held: &'h Held,
    size: u64,
    limit: u64,
    at: usize,
}

impl<'h> Pickles<'h> {
    fn next(&mut self) -> Result<Graph<'h>, Stop<TorchError>> {
        let front = self.held.front();
        let rest = front.get(self.at..).unwrap_or_default();
        match Graph::read(rest) {
            Ok(graph) => {
                self.at += graph.length;
                Ok(graph)
            }
            Err(PickleError::Truncated { needed, .. }) => {
                let (there, needed) = (front.len() as u64, needed.saturating_add(self.at as u64));
                if needed > self.size {
                    return Err(PickleError::Truncated { there: self.size, needed }.into_stop());
                }
                if needed > self.limit {
                    let what = "the pickle";
                    return Err(TorchError::TooLarge { what, claimed: needed, limit: self.limit }.into());
                }
                let end = needed.max(there.saturating_mul(GROWTH)).min(self.size).min(self.limit);
                Err(Stop::Need(there..end))
            }
            Err(error) => Err(error.into_stop()),
        }
    }
}

impl PickleError {
    fn into_stop(self) -> Stop<TorchError> {
        TorchError::from(self).into()
    }
}

/// The object of a file, and where its storages are.
pub(super) fn read<'h>(
    held: &'h Held,
    size: u64,
    limits: &Limits,
) -> Result<(Graph<'h>, Stream), Stop<TorchError>> {
    let mut pickles = Pickles { held, size, limit: limits.header_bytes, at: 0 };
    let magic = pickles.next()?;
    if !matches!(magic.get(magic.root), Value::Long(bytes) if *bytes == MAGIC) {
        return Err(unsupported("a Python pickle that torch.save did not write").into());
    }
    let version = pickles.next()?;
    if version.int(version.root) != Some(VERSION) {
        return Err(unsupported("torch.save with a protocol of another version").into());
    }
    if !is_little_endian(&pickles.next()?) {
        return Err(unsupported("torch.save on a big-endian machine").into());
    }
    let object = pickles.next()?;
    let keys = pickles.next()?;
    let stream = Stream::new(&object, &keys, pickles.at as u64, size)?;
    Ok((object, stream))
}

fn is_little_endian(facts: &Graph<'_>) -> bool {
    let Value::Dict(items) = facts.get(facts.root) else { return true };
    let stated = items.iter().find(|(key, _)| facts.text(*key) == Some("little_endian"));
    stated.is_none_or(|(_, value)| !matches!(facts.get(*value), Value::Bool(false)))
}

/// Where the storages are, by their keys.
#[derive(Debug)]
pub(super) struct Stream(HashMap<String, Range<u64>>);

impl Stream {
    fn new(object: &Graph<'_>, keys: &Graph<'_>, begin: u64, size: u64) -> Result<Self, TorchError> {
        let Value::List(list) = keys.get(keys.root) else {
            return Err(TorchError::Content("there is no list of storages"));
        };
        let mut sizes: HashMap<&str, u64> = HashMap::new();
        for storage in storages(object) {
            let bytes = storage.bytes().ok_or(TorchError::Content("a storage of no known size"))?;
            if sizes.insert(storage.key, bytes).is_some_and(|before| before != bytes) {
                return Err(TorchError::Content("a storage has two sizes"));
            }
        }
        let mut places = HashMap::with_capacity(list.len());
        let mut at = begin;
        for key in list {
            let key = keys.text(*key).ok_or(TorchError::Content("a storage without a key"))?;
            let bytes = *sizes.get(key).ok_or(TorchError::Content("a storage that nothing uses"))?;
            let start = at.saturating_add(COUNT_BYTES);
            at = start.saturating_add(bytes);
            if places.insert(key.to_owned(), start..at).is_some() {
                return Err(TorchError::Content("a storage is listed twice"));
            }
        }
        if at != size {
            return Err(TorchError::Size { expected: at, actual: size });
        }
        Ok(Self(places))
    }
}

impl Places for Stream {
    fn place(&self, key: &str) -> Result<Option<Range<u64>>, TorchError> {
        Ok(self.0.get(key).cloned())
    }
}
