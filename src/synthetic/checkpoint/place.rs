//! Where the files of a checkpoint go, under names of their own until all are there.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::digest::Digests;
use super::error::CheckpointError;
use crate::hub::RepoId;
use crate::store::checksum::hex;

/// A folder that is being filled.
pub(super) struct Place {
    temporary: TempDir,
    /// What it is called in the end.
    target: PathBuf,
    /// How the cache of huggingface_hub names things, where it is one.
    cache: Option<Digests>,
}

impl Place {
    /// The folder itself, or in it the cache of a repository.
    pub(super) fn new(
        folder: &Path,
        repo: Option<&RepoId>,
        digests: Digests,
    ) -> Result<Self, CheckpointError> {
        let at = |path: &Path| CheckpointError::io(path);
        let (target, cache) = match repo {
            None => (folder.to_owned(), None),
            Some(id) => (folder.join(format!("models--{}", id.as_str().replace('/', "--"))), Some(digests)),
        };
        match fs::read_dir(&target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(CheckpointError::Exists { path: target });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CheckpointError::Io { path: target, source: error }),
        }
        // Beside its place, so that it can be renamed; a server passes over names with a dot.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&parent).map_err(at(&parent))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tmp-").permissions(Permissions::from_mode(0o755));
        let temporary = builder.tempdir_in(&parent).map_err(at(&parent))?;
        let place = Self { temporary, target, cache };
        if let Some(digests) = &place.cache {
            place.write(Path::new("refs/main"), digests.commit().as_bytes())?;
            for name in ["blobs".into(), format!("snapshots/{}", digests.commit())] {
                let path = place.temporary.path().join(name);
                fs::create_dir_all(&path).map_err(at(&path))?;
            }
        }
        Ok(place)
    }

    /// A weight file of this length, all of it a hole.
    pub(super) fn weights(&self, name: &str, bytes: u64) -> Result<File, CheckpointError> {
        let path = match &self.cache {
            None => self.temporary.path().join(name),
            Some(digests) => self.linked(name, &digests.file(name))?,
        };
        folder_of(&path)?;
        let file = File::create_new(&path).map_err(CheckpointError::io(&path))?;
        file.set_len(bytes).map_err(CheckpointError::io(&path))?;
        Ok(file)
    }

    /// A small file.
    pub(super) fn document(&self, name: &str, content: &[u8]) -> Result<(), CheckpointError> {
        if self.cache.is_none() {
            return self.write(Path::new(name), content);
        }
        // The name that git has for it.
        let hasher = Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content);
        let path = self.linked(name, &hex(&hasher.finalize()))?;
        self.write(&path, content)
    }

    /// The path of a blob that the snapshot has under this name.
    fn linked(&self, name: &str, blob: &str) -> Result<PathBuf, CheckpointError> {
        if let Some(digests) = &self.cache {
            let link = self.temporary.path().join("snapshots").join(digests.commit()).join(name);
            folder_of(&link)?;
            let up = "../".repeat(name.matches('/').count());
            symlink(format!("{up}../../blobs/{blob}"), &link).map_err(CheckpointError::io(&link))?;
        }
        Ok(self.temporary.path().join("blobs").join(blob))
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
        let path = self.temporary.path().join(path);
        folder_of(&path)?;
        let mut file = File::create(&path).map_err(CheckpointError::io(&path))?;
        file.write_all(content).map_err(CheckpointError::io(&path))
    }

    /// Gives the folder its name.
    pub(super) fn finish(self) -> Result<(), CheckpointError> {
        // Takes the place of an empty folder, and of nothing else.
        fs::rename(self.temporary.path(), &self.target).map_err(CheckpointError::io(&self.target))?;
        let _ = self.temporary.keep();
        Ok(())
    }
}

/// Makes the folder of a file.
fn folder_of(path: &Path) -> Result<(), CheckpointError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(CheckpointError::io(folder))
}
