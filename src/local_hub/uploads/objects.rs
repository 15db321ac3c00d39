//! Contents by SHA-256. A file appears under its name when all of it is on disk, or never.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::local_hub::text::hex;

/// How names of unfinished files begin.
const TEMPORARY: &str = ".tmp-";

#[derive(Debug, Clone)]
pub(crate) struct Objects {
    folder: PathBuf,
}

/// A content on its way in; dropped, it leaves nothing behind.
pub(crate) struct Incoming {
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

impl Objects {
    /// Opens the folder, and removes what a process that died had not finished.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        clean(&folder)?;
        Ok(Self { folder })
    }

    /// Where the content of this name is, or would be. The name must be hexadecimal.
    pub(crate) fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256.get(..2).unwrap_or_default()).join(sha256)
    }

    /// The size of a content that is here.
    pub(crate) fn size(&self, sha256: &str) -> Option<u64> {
        let found = fs::metadata(self.path(sha256)).ok()?;
        found.is_file().then_some(found.len())
    }

    pub(crate) fn begin(&self) -> io::Result<Incoming> {
        Ok(Incoming { file: temporary(&self.folder)?, hasher: Sha256::new(), size: 0 })
    }

    /// Gives the content its name, and says it. One that is here already stays.
    pub(crate) fn keep(&self, incoming: Incoming) -> io::Result<String> {
        let sha256 = hex(&incoming.hasher.finalize());
        if self.size(&sha256) != Some(incoming.size) {
            let path = self.path(&sha256);
            persist(incoming.file, &path)?;
            sync(&self.folder)?;
        }
        Ok(sha256)
    }
}

impl Incoming {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The name that what has come so far would get.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file without a name of its own yet, which others may read as far as the umask lets them.
pub(super) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let like_any = Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(TEMPORARY).permissions(like_any).tempfile_in(folder)
}

/// Syncs a file, renames it to `path`, and syncs the name.
pub(super) fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync(folder)
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes unfinished files.
pub(super) fn clean(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(TEMPORARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn contents_get_their_names_and_halves_go() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path().join("objects")).unwrap();
        for _ in 0..2 {
            let mut incoming = objects.begin().unwrap();
            incoming.write_all(b"hello\n").unwrap();
            assert_eq!((incoming.size(), incoming.sha256().as_str()), (6, HELLO));
            assert_eq!(objects.keep(incoming).unwrap(), HELLO);
            assert_eq!(objects.size(HELLO), Some(6));
        }
        assert_eq!(objects.size(&HELLO.replace('5', "6")), None);

        let mut dropped = objects.begin().unwrap();
        dropped.write_all(b"hel").unwrap();
        drop(dropped);
        let (_, left) = objects.begin().unwrap().file.keep().unwrap();
        assert!(left.exists());
        Objects::open(dir.path().join("objects")).unwrap();
        let names: Vec<_> =
            fs::read_dir(dir.path().join("objects")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["58"]);
    }
}
