//! Files that appear whole or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::checksum::{checksum, checksum_of};
use super::entry::FileEntry;
use super::error::StoreError;
use super::layout::hashed_name;

/// How names of unfinished files begin.
const TEMPORARY: &str = ".tmp-";

/// The folder of a file; of a bare name, the one we are in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes `path` by filling a temporary file beside it, syncing and renaming; then syncs the folder, so that
/// the name itself survives a power loss. Readers see the old file or the new one.
pub fn write_with<T, E: From<StoreError>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let folder = folder_of(path);
    let (temporary, value) = fill_temporary(folder, fill)?;
    temporary.persist(path).map_err(|e| StoreError::Io { path: path.to_owned(), source: e.error })?;
    sync_folder(folder)?;
    Ok(value)
}

/// Writes `path` unless there is one, whatever another process does at the same moment; returns whether it did.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
    let folder = folder_of(path);
    let (temporary, ()) = fill_temporary(folder, |file| file.write_all(bytes).map_err(StoreError::io(path)))?;
    match temporary.persist_noclobber(path) {
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(StoreError::Io { path: path.to_owned(), source: e.error }),
        Ok(_) => sync_folder(folder)?,
    }
    Ok(true)
}

/// Writes a file under a name that its content gives it: `folder/HASH.extension` under `root`.
pub fn write_hashed(
    root: &Path,
    folder: &str,
    extension: &str,
    fill: impl FnOnce(&mut File) -> Result<(), StoreError>,
) -> Result<FileEntry, StoreError> {
    let (mut temporary, ()) = fill_temporary(&root.join(folder), fill)?;
    let path = temporary.path().to_owned();
    let (bytes, sha256) = checksum_of(temporary.as_file_mut(), &path)?;
    let entry = FileEntry { file: hashed_name(folder, &sha256, extension), bytes, sha256 };
    let path = root.join(&entry.file);
    temporary.persist(&path).map_err(|e| StoreError::Io { path, source: e.error })?;
    sync_folder(&root.join(folder))?;
    Ok(entry)
}

/// Gives a finished file such a name.
pub fn adopt(path: &Path, root: &Path, folder: &str, extension: &str) -> Result<FileEntry, StoreError> {
    let (bytes, sha256) = checksum(path)?;
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io(path))?;
    let entry = FileEntry { file: hashed_name(folder, &sha256, extension), bytes, sha256 };
    std::fs::create_dir_all(root.join(folder)).map_err(StoreError::io(root))?;
    std::fs::rename(path, root.join(&entry.file)).map_err(StoreError::io(path))?;
    sync_folder(&root.join(folder))?;
    Ok(entry)
}

/// A folder beside the files of `folder`, for what is not finished; removed when dropped.
pub fn temporary_folder(folder: &Path) -> Result<tempfile::TempDir, StoreError> {
    std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
    tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder).map_err(StoreError::io(folder))
}

/// An unfinished file beside its place; removed when dropped.
pub fn temporary_file(folder: &Path) -> Result<NamedTempFile, StoreError> {
    fill_temporary(folder, |_| Ok(())).map(|(file, ())| file)
}

/// [`write_with`] for a file of which length and checksum are stated; one that is something else does not appear.
pub fn write_checked(
    path: &Path,
    entry: &FileEntry,
    fill: impl FnOnce(&mut File) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (temporary, ()) = fill_temporary(folder_of(path), fill)?;
    place_checked(temporary, entry, path)
}

/// Gives a filled file its name if it is what is stated of it.
pub fn place_checked(mut temporary: NamedTempFile, entry: &FileEntry, path: &Path) -> Result<(), StoreError> {
    let (bytes, sha256) = checksum_of(temporary.as_file_mut(), path)?;
    entry.is(path, bytes, &sha256)?;
    temporary.as_file().sync_all().map_err(StoreError::io(path))?;
    temporary.persist(path).map_err(|e| StoreError::Io { path: path.to_owned(), source: e.error })?;
    sync_folder(folder_of(path))
}

fn fill_temporary<T, E: From<StoreError>>(
    folder: &Path,
    fill: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<(NamedTempFile, T), E> {
    std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
    // As any other new file: others may read it if the umask lets them. The default is a private file.
    let like_any = std::fs::Permissions::from_mode(0o666);
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(like_any)
        .tempfile_in(folder)
        .map_err(StoreError::io(folder))?;
    let value = fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(StoreError::io(folder))?;
    Ok((temporary, value))
}

/// Whether a file of this name is one that [`write_with`] had not finished.
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(TEMPORARY)
}

/// Removes what was not finished when its process died, as far as it has not changed for so long. Others that are at
/// work in the folder need to be given time.
pub fn clean(folder: &Path, least_age: Duration) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::io(folder))?;
        let age = || entry.metadata()?.modified().map(|time| time.elapsed().unwrap_or_default());
        // One that is gone by now is nobody's trouble.
        if !is_temporary(&entry.file_name()) || !age().is_ok_and(|age| age >= least_age) {
            continue;
        }
        let path = entry.path();
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(StoreError::io(&path))?;
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
        let entry = |bytes, sha256: &str| FileEntry { file: "f".into(), bytes, sha256: sha256.into() };
        assert!(entry(3, expected).verify(&path).is_ok());
        for wrong in [entry(4, expected), entry(3, "00")] {
            assert!(matches!(wrong.verify(&path), Err(StoreError::Damaged { .. })));
        }
        let adopted = adopt(&path, dir.path(), "files", "txt").unwrap();
        assert_eq!(adopted.file, format!("files/{}.txt", &expected[..32]));
        let fill = |file: &mut File| file.write_all(b"abc").map_err(StoreError::io(Path::new("x")));
        assert_eq!(write_hashed(dir.path(), "files", "txt", fill).unwrap(), adopted);
        assert_eq!(std::fs::read_dir(dir.path().join("files")).unwrap().count(), 1);
    }

    #[test]
    fn of_many_creators_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|i| {
                    scope.spawn({
                        let path = &path;
                        move || create(path, &[i]).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|t| usize::from(t.join().unwrap())).sum()
        });
        assert_eq!(won, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
