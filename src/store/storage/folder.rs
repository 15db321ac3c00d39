//! Files in a folder of this machine, or of a file system that it shares with others.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::contract::{Present, Storage, Version, check_name, missing, of_other_length, too_long};
use crate::store::atomic;
use crate::store::checksum::sha256;
use crate::store::entry::FileEntry;
use crate::store::error::StoreError;

/// A folder, which need not be there as long as nothing is written.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The files below a folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_name(name)?;
        Ok(self.root.join(name))
    }
}

impl Storage for Folder {
    fn read(&self, name: &str, most: u64) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        let path = self.path(name)?;
        let Some(file) = open(&path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(StoreError::io(&path))?;
        if bytes.len() as u64 > most {
            return Err(too_long(path, most));
        }
        let version = Version { tag: Some(sha256(&bytes)), number: None };
        Ok(Some((bytes, version)))
    }

    fn copy(&self, name: &str, bytes: u64, to: &mut dyn Write) -> Result<(), StoreError> {
        let path = self.path(name)?;
        let Some(file) = open(&path)? else { return Err(missing(path)) };
        let found = file.metadata().map_err(StoreError::io(&path))?.len();
        if found != bytes {
            return Err(of_other_length(path, found, bytes));
        }
        // Whatever happens to it in the meantime.
        let copied = std::io::copy(&mut file.take(bytes), to).map_err(StoreError::io(&path))?;
        if copied == bytes { Ok(()) } else { Err(of_other_length(path, copied, bytes)) }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        atomic::write(&self.path(name)?, bytes)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        atomic::create(&self.path(name)?, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8], version: &Version) -> Result<bool, StoreError> {
        let path = self.path(name)?;
        // Of those that replace files of one folder, one is at it at once.
        let folder = path.parent().unwrap_or(&self.root);
        let guard = match File::open(folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            guard => guard.map_err(StoreError::io(folder))?,
        };
        guard.lock().map_err(StoreError::io(folder))?;
        let is_same = match open(&path)? {
            None => false,
            Some(mut file) => {
                let mut found = Vec::new();
                file.read_to_end(&mut found).map_err(StoreError::io(&path))?;
                version.tag.as_deref() == Some(&sha256(&found))
            }
        };
        if is_same {
            atomic::write(&path, bytes)?;
        }
        Ok(is_same)
    }

    fn import(&self, entry: &FileEntry, from: &Path) -> Result<(), StoreError> {
        atomic::write_checked(&self.path(&entry.file)?, entry, |out| {
            let mut source = File::open(from).map_err(StoreError::io(from))?;
            std::io::copy(&mut source, out).map_err(StoreError::io(from)).map(drop)
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        let path = self.path(folder)?;
        let entries = match std::fs::read_dir(&path) {
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io(&path))?,
        };
        let mut present = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::io(&path))?;
            // One that another process has removed since is not there.
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name();
            if !metadata.is_file() || atomic::is_temporary(&name) {
                continue;
            }
            let modified = metadata.modified().map_err(StoreError::io(&path))?;
            let file = format!("{folder}/{}", name.to_string_lossy());
            present.push(Present { file, bytes: metadata.len(), modified });
        }
        Ok(present)
    }

    fn foreign(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(StoreError::io(&self.root))?,
        };
        for entry in entries {
            let name = entry.map_err(StoreError::io(&self.root))?.file_name().to_string_lossy().into_owned();
            if !is_ours(&name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        match std::fs::remove_file(&path) {
            Err(e) if !is_absent(&e) => Err(StoreError::io(&path)(e)),
            _ => Ok(()),
        }
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn address(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// Whether there is no such file, or not even its folder.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A file, if it is there.
fn open(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Err(e) if is_absent(&e) => Ok(None),
        file => file.map(Some).map_err(StoreError::io(path)),
    }
}
