//! The files of a database, in a folder or in a bucket.
//!
//! All but manifests, locks and reports are named by their content and never change. So a bucket is mirrored file by
//! file, as they are needed, and whatever reads works on local files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::{Location, StoreError, atomic};

/// Folder of signed publications, which others write.
pub const PUBLICATIONS: &str = "publications";
/// Folders of files that are named by their content.
pub const CONTENT_FOLDERS: [&str; 3] = ["shards", "waiting", "index"];
/// Longest small file: a manifest of a million files.
pub(super) const MOST_SMALL: u64 = 256 << 20;
/// Folder of the manifests.
const MANIFESTS: &str = "manifests";

/// A file of the database as its manifest states it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path under the database folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it, lower-case hex.
    pub sha256: String,
}

/// A file that is there.
#[derive(Clone, Debug)]
pub struct Present {
    /// Path under the database folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// Reads and writes the files.
#[derive(Clone, Debug)]
pub struct Files {
    location: Location,
    bucket: Option<Bucket>,
}

impl Files {
    /// The files at a place; nothing is read yet.
    pub fn open(location: Location) -> Result<Self, StoreError> {
        let bucket = match &location {
            Location::Folder(_) => None,
            Location::Bucket { url, .. } => Some(Bucket::open(url)?),
        };
        Ok(Self { location, bucket })
    }

    /// Where they are.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The bucket, where it is one.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        self.location.folder()
    }

    /// Path of a file on this machine. It is fetched and checked first where it lies in a bucket only.
    pub fn local(&self, entry: &FileEntry) -> Result<PathBuf, StoreError> {
        let path = self.folder().join(&entry.file);
        let Some(bucket) = &self.bucket else { return Ok(path) };
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == entry.bytes) {
            return Ok(path);
        }
        atomic::write_checked(&path, entry, |file| bucket.download(&entry.file, file, entry.bytes))?;
        Ok(path)
    }

    /// Writes a file that is named by its content.
    pub fn add(
        &self,
        folder: &str,
        extension: &str,
        fill: impl FnOnce(&mut File) -> Result<(), StoreError>,
    ) -> Result<FileEntry, StoreError> {
        let entry = atomic::write_hashed(self.folder(), folder, extension, fill)?;
        self.send(&entry)?;
        Ok(entry)
    }

    /// Makes a finished file, on the file system of the database, one that is named by its content.
    pub fn adopt(&self, path: &Path, folder: &str, extension: &str) -> Result<FileEntry, StoreError> {
        let entry = atomic::adopt(path, self.folder(), folder, extension)?;
        self.send(&entry)?;
        Ok(entry)
    }

    /// Brings in a finished file of another place under its stated name, checking it on the way.
    pub fn import(&self, path: &Path, entry: &FileEntry) -> Result<(), StoreError> {
        if let Some(bucket) = &self.bucket {
            entry.verify(path)?;
            return bucket.upload(&entry.file, path);
        }
        atomic::write_checked(&self.folder().join(&entry.file), entry, |out| {
            let mut source = File::open(path).map_err(StoreError::io(path))?;
            std::io::copy(&mut source, out).map_err(StoreError::io(path)).map(drop)
        })
    }

    /// Copies a file to `to`; not more than its stated length.
    pub fn export(&self, entry: &FileEntry, to: &mut File) -> Result<(), StoreError> {
        if let Some(bucket) = &self.bucket {
            return bucket.download(&entry.file, to, entry.bytes);
        }
        let path = self.folder().join(&entry.file);
        let source = File::open(&path).map_err(StoreError::io(&path))?;
        // One byte more shows that it is too long.
        let copied = std::io::copy(&mut source.take(entry.bytes.saturating_add(1)), to);
        copied.map_err(StoreError::io(&path)).map(drop)
    }

    fn send(&self, entry: &FileEntry) -> Result<(), StoreError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        bucket.upload(&entry.file, &self.folder().join(&entry.file))
    }

    /// The numbers of all manifests, the latest last.
    pub fn generations(&self) -> Result<Vec<u64>, StoreError> {
        let number = |file: &str| file.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        let present = self.list(MANIFESTS)?;
        let mut numbers: Vec<u64> = present.iter().filter_map(|p| number(&p.file)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A manifest's text; `None` where there is none of this number.
    pub fn manifest(&self, generation: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(&manifest_name(generation))
    }

    /// Writes a manifest unless there is one of its number: the commit. Returns whether it did.
    pub fn create_manifest(&self, generation: u64, text: &[u8]) -> Result<bool, StoreError> {
        let name = manifest_name(generation);
        match &self.bucket {
            Some(bucket) => bucket.create(&name, text),
            None => atomic::create(&self.folder().join(name), text),
        }
    }

    /// A small file's text; `None` where there is none.
    pub fn get(&self, file: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_bounded(file, MOST_SMALL)
    }

    /// The text of a file of at most so many bytes; `None` where there is none.
    pub fn get_bounded(&self, file: &str, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(bucket) = &self.bucket {
            return Ok(bucket.get_bounded(file, most)?.map(|(text, _)| text));
        }
        let path = self.folder().join(file);
        let read = || {
            let mut text = Vec::new();
            File::open(&path)?.take(most.saturating_add(1)).read_to_end(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        match read() {
            Ok(text) if text.len() as u64 > most => {
                let what = format!("it has more than {most} bytes, the longest that such a file may have");
                Err(StoreError::Damaged { path, what })
            }
            Ok(text) => Ok(Some(text)),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    /// Writes a small file under a name of its own.
    pub fn put(&self, file: &str, text: &[u8]) -> Result<(), StoreError> {
        match &self.bucket {
            Some(bucket) => bucket.put(file, text),
            None => atomic::write(&self.folder().join(file), text),
        }
    }

    /// The files in a folder of the database; unfinished ones are left out.
    pub fn list(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        if let Some(bucket) = &self.bucket {
            let present = |l: super::bucket::Listed| Present {
                file: l.name,
                bytes: l.bytes,
                modified: l.modified.into(),
            };
            return Ok(bucket.list(folder)?.into_iter().map(present).collect());
        }
        list_folder(self.folder(), folder)
    }

    /// The name of something that lies here under no name of this kind; of what is in folders, their names count.
    pub fn stranger(&self, is_ours: fn(&str) -> bool) -> Result<Option<String>, StoreError> {
        if let Some(bucket) = &self.bucket {
            return bucket.stranger(is_ours);
        }
        let folder = self.folder();
        let entries = match std::fs::read_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(StoreError::io(folder))?,
        };
        for entry in entries {
            let name = entry.map_err(StoreError::io(folder))?.file_name().to_string_lossy().into_owned();
            if !is_ours(&name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Files on this machine alone: of a bucket, what its mirror holds.
    pub fn list_mirror(&self, folder: &str) -> Result<Vec<Present>, StoreError> {
        list_folder(self.folder(), folder)
    }

    /// Removes a file, and the copy of it in the mirror of a bucket. That it is not there is no error.
    pub fn remove(&self, file: &str) -> Result<(), StoreError> {
        if let Some(bucket) = &self.bucket {
            bucket.remove(file)?;
        }
        self.remove_from_mirror(file)
    }

    /// Removes a file from this machine.
    pub fn remove_from_mirror(&self, file: &str) -> Result<(), StoreError> {
        let path = self.folder().join(file);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::Io { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Checks length and checksum of a file where it lies: of a bucket the object is read, not the copy here.
    pub fn verify_one(&self, entry: &FileEntry) -> Result<(), StoreError> {
        let path = self.folder().join(&entry.file);
        let Some(bucket) = &self.bucket else { return entry.verify(&path) };
        bucket.verify(entry)?;
        // A copy is worth nothing once it differs; it is fetched again when it is needed.
        if path.exists() && entry.verify(&path).is_err() {
            self.remove_from_mirror(&entry.file)?;
        }
        Ok(())
    }

    /// Checks length and checksum of each file; of equal entries one is looked at. `progress` gets (bytes done,
    /// bytes in all).
    pub fn verify<'a>(
        &self,
        entries: impl Iterator<Item = &'a FileEntry>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), StoreError> {
        use rayon::prelude::*;
        use std::sync::atomic::{AtomicU64, Ordering};

        let entries: BTreeMap<&str, &FileEntry> = entries.map(|e| (e.file.as_str(), e)).collect();
        let all = entries.values().map(|e| e.bytes).sum();
        let done = AtomicU64::new(0);
        entries.par_iter().try_for_each(|(_, entry)| {
            self.verify_one(entry)?;
            progress(done.fetch_add(entry.bytes, Ordering::Relaxed) + entry.bytes, all);
            Ok(())
        })
    }
}

impl FileEntry {
    /// Checks length and SHA-256 of the file at a path.
    pub fn verify(&self, path: &Path) -> Result<(), StoreError> {
        let (bytes, sha256) = atomic::checksum(path)?;
        self.is(path, bytes, &sha256)
    }

    /// Checks the length of the file at a path.
    pub fn verify_length(&self, path: &Path) -> Result<(), StoreError> {
        let found = std::fs::metadata(path).map_err(StoreError::io(path))?.len();
        if found == self.bytes {
            return Ok(());
        }
        let what = format!("it has {found} bytes, stated are {}", self.bytes);
        Err(StoreError::Damaged { path: path.to_owned(), what })
    }

    /// Whether it is the place of a file that is named by its content.
    pub fn is_content(&self) -> bool {
        let [folder, name] = self.file.split('/').collect::<Vec<_>>()[..] else { return false };
        let stem = name.split('.').next();
        CONTENT_FOLDERS.contains(&folder) && stem.is_some() && stem == self.sha256.get(..32)
    }

    /// Whether these are the stated length and checksum; `path` is for the error.
    pub fn is(&self, path: &Path, bytes: u64, sha256: &str) -> Result<(), StoreError> {
        if (bytes, sha256) == (self.bytes, self.sha256.as_str()) {
            return Ok(());
        }
        let what =
            format!("{bytes} bytes with SHA-256 {sha256}, stated are {} with {}", self.bytes, self.sha256);
        Err(StoreError::Damaged { path: path.to_owned(), what })
    }
}

/// The name of a manifest.
pub fn manifest_name(generation: u64) -> String {
    format!("{MANIFESTS}/{generation:012}.json")
}

fn list_folder(root: &Path, folder: &str) -> Result<Vec<Present>, StoreError> {
    let path = root.join(folder);
    let entries = match std::fs::read_dir(&path) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
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
