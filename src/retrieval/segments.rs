//! A long file in parts, each written once: a night's additions are a new part, and the parts before belong to the new
//! index as they are. Places are counted over all parts, and nothing that is read crosses from one into the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Where the files of an index lie, by the names that it knows them by.
pub(super) type Paths = BTreeMap<String, PathBuf>;

/// The parts of one file, to be read.
#[derive(Debug)]
pub(super) struct Segments {
    parts: Vec<Part>,
    length: u64,
}

#[derive(Debug)]
struct Part {
    begin: u64,
    file: File,
    path: PathBuf,
}

/// A new part.
pub(super) struct SegmentWriter {
    out: BufWriter<File>,
    path: PathBuf,
    length: u64,
    /// The new part among the others, readable as far as it was flushed.
    all: Segments,
}

/// The name of a part.
fn part_name(name: &str, number: usize) -> String {
    format!("{name}-{number:04}.bin")
}

/// Whether a file of the folder is a part of `name`.
pub(super) fn is_part_of(file: &str, name: &str) -> bool {
    file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".bin"))
}

impl Segments {
    /// Opens the parts of `name`, as many as there are.
    pub(super) fn open(paths: &Paths, name: &str) -> Result<Self, StoreError> {
        Self::open_records(paths, name, 1)
    }

    /// The same of parts that hold records of so many bytes, each a whole number of them.
    pub(super) fn open_records(paths: &Paths, name: &str, record: usize) -> Result<Self, StoreError> {
        let mut all = Self { parts: Vec::new(), length: 0 };
        while let Some(path) = paths.get(&part_name(name, all.parts.len())) {
            let length = all.add(path.clone())?;
            if !length.is_multiple_of(record as u64) {
                let what = format!("{length} bytes are no whole number of records of {record}");
                return Err(StoreError::Damaged { path: path.clone(), what });
            }
        }
        Ok(all)
    }

    /// Adds a part; returns its length.
    fn add(&mut self, path: PathBuf) -> Result<u64, StoreError> {
        let file = File::open(&path).map_err(StoreError::io(&path))?;
        let length = file.metadata().map_err(StoreError::io(&path))?.len();
        self.parts.push(Part { begin: self.length, file, path });
        self.length += length;
        Ok(length)
    }

    /// Bytes of all parts.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fills `bytes` from the place `at`.
    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), StoreError> {
        let part = self.part(at)?;
        part.file.read_exact_at(bytes, at - part.begin).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => {
                let what = format!("it has no {} bytes at {}", bytes.len(), at - part.begin);
                StoreError::Damaged { path: part.path.clone(), what }
            }
            _ => StoreError::Io { path: part.path.clone(), source },
        })
    }

    /// The file that the place `at` lies in.
    pub(super) fn path(&self, at: u64) -> Result<&Path, StoreError> {
        Ok(&self.part(at)?.path)
    }

    fn part(&self, at: u64) -> Result<&Part, StoreError> {
        let number = self.parts.partition_point(|part| part.begin <= at);
        let missing = || StoreError::Damaged {
            path: self.parts.first().map(|p| p.path.clone()).unwrap_or_default(),
            what: format!("nothing is stored at {at}"),
        };
        number.checked_sub(1).and_then(|i| self.parts.get(i)).ok_or_else(missing)
    }

    /// All parts from the beginning, in pieces of `size` bytes; the last piece of a part may be shorter.
    pub(super) fn for_each_piece(
        &self,
        size: usize,
        mut visit: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut bytes = vec![0u8; size];
        for part in &self.parts {
            // Its own handle: the position of the shared one is nobody's.
            let mut file = File::open(&part.path).map_err(StoreError::io(&part.path))?;
            loop {
                let mut filled = 0;
                while filled < bytes.len() {
                    match file.read(&mut bytes[filled..]).map_err(StoreError::io(&part.path))? {
                        0 => break,
                        n => filled += n,
                    }
                }
                if filled == 0 {
                    break;
                }
                visit(&bytes[..filled])?;
            }
        }
        Ok(())
    }
}

impl SegmentWriter {
    /// A new part in a folder, behind those that there are.
    pub(super) fn open(before: &Paths, folder: &Path, name: &str) -> Result<Self, StoreError> {
        let mut all = Segments::open(before, name)?;
        let length = all.length;
        let path = folder.join(part_name(name, all.parts.len()));
        let file = File::create_new(&path).map_err(StoreError::io(&path))?;
        all.add(path.clone())?;
        Ok(Self { out: BufWriter::with_capacity(1 << 20, file), path, length, all })
    }

    /// Adds bytes; returns the place where they begin.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let at = self.length;
        self.out.write_all(bytes).map_err(StoreError::io(&self.path))?;
        self.length += bytes.len() as u64;
        Ok(at)
    }

    /// Makes what was added readable.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.out.flush().map_err(StoreError::io(&self.path))
    }

    /// All parts, the new one as far as it was flushed.
    pub(super) fn reader(&self) -> &Segments {
        &self.all
    }

    /// Ends the new part; one that is empty goes.
    pub(super) fn finish(mut self) -> Result<Segments, StoreError> {
        self.flush()?;
        if self.length == self.all.length {
            self.all.parts.pop();
            std::fs::remove_file(&self.path).map_err(StoreError::io(&self.path))?;
        }
        Ok(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        let mut paths = Paths::new();
        for part in 0..3u8 {
            let mut writer = SegmentWriter::open(&paths, dir.path(), "x").unwrap();
            places.push(writer.add(&[part; 10]).unwrap());
            places.push(writer.add(&[part + 100; 5]).unwrap());
            writer.flush().unwrap();
            let mut bytes = [9; 5];
            writer.reader().read(&mut bytes, places[places.len() - 1]).unwrap();
            assert_eq!(bytes, [part + 100; 5]);
            writer.finish().unwrap();
            let name = part_name("x", part.into());
            paths.insert(name.clone(), dir.path().join(name));
        }
        SegmentWriter::open(&paths, dir.path(), "x").unwrap().finish().unwrap();
        assert!(!dir.path().join(part_name("x", 3)).exists(), "nothing was added");
        assert_eq!(places, [0, 10, 15, 25, 30, 40]);
        let all = Segments::open(&paths, "x").unwrap();
        assert_eq!((all.length, all.parts.len()), (45, 3));
        let mut bytes = [0; 10];
        all.read(&mut bytes, 15).unwrap();
        assert_eq!(bytes, [1; 10]);
        assert!(all.read(&mut bytes, 40).is_err(), "it ends within");
        let mut pieces = Vec::new();
        all.for_each_piece(8, |piece| {
            pieces.push(piece.len());
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces, [8, 7, 8, 7, 8, 7]);
        assert!(Segments::open(&paths, "none").unwrap().read(&mut bytes, 0).is_err());
        assert!(is_part_of("x-0001.bin", "x") && !is_part_of("xy-0001.bin", "x"));
    }
}
