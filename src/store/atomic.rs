//! Files that appear whole or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::StoreError;

/// How names of unfinished files begin.
const TEMPORARY: &str = ".tmp-";

/// Writes `path` by filling a temporary file beside it, syncing and renaming; then syncs the folder, so that
/// the name itself survives a power loss. Readers see the old file or the new one.
pub fn write_with<T>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
    // As any other new file: others may read it if the umask lets them. The default is a private file.
    let like_any = std::fs::Permissions::from_mode(0o666);
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(like_any)
        .tempfile_in(folder)
        .map_err(StoreError::io(folder))?;
    let value = fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(StoreError::io(path))?;
    temporary.persist(path).map_err(|e| StoreError::Io { path: path.to_owned(), source: e.error })?;
    sync_folder(folder)?;
    Ok(value)
}

/// Whether a file of this name is one that [`write_with`] had not finished.
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(TEMPORARY)
}

/// Removes what [`write_with`] had not finished when its process died. Only for the one writer of the folder.
pub fn clean(folder: &Path) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io(folder))?,
    };
    for entry in entries {
        let path = entry.map_err(StoreError::io(folder))?.path();
        if path.file_name().is_some_and(is_temporary) {
            std::fs::remove_file(&path).map_err(StoreError::io(&path))?;
        }
    }
    Ok(())
}

/// [`write_with`] for bytes at hand.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_with(path, |file| file.write_all(bytes).map_err(StoreError::io(path)))
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(StoreError::io(folder))
}

/// Length and SHA-256 (lower-case hex) of a file, read in pieces.
pub fn checksum(path: &Path) -> Result<(u64, String), StoreError> {
    let mut file = File::open(path).map_err(StoreError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut length = 0;
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer).map_err(StoreError::io(path))?;
        if n == 0 {
            return Ok((length, hex(&hasher.finalize())));
        }
        length += n as u64;
        hasher.update(&buffer[..n]);
    }
}

/// Checks length and SHA-256 of a file against what is stated of it.
pub fn verify(path: &Path, bytes: u64, sha256: &str) -> Result<(), StoreError> {
    let found = checksum(path)?;
    if (found.0, found.1.as_str()) == (bytes, sha256) {
        return Ok(());
    }
    let what = format!("{} bytes with SHA-256 {}, stated are {bytes} with {sha256}", found.0, found.1);
    Err(StoreError::Damaged { path: path.to_owned(), what })
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"half").unwrap();
            Err::<(), _>(StoreError::NotADatabase { path: path.clone() })
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn checksum_of_known_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(checksum(&path).unwrap(), (3, expected.into()));
        assert!(verify(&path, 3, expected).is_ok());
        for (bytes, sha256) in [(4, expected), (3, "00")] {
            assert!(matches!(verify(&path, bytes, sha256), Err(StoreError::Damaged { .. })));
        }
    }
}
