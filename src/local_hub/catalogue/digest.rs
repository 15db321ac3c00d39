//! Content hashes, computed once per state of a file.
//!
//! The cache is keyed by path, size and modification time, so a rescan reads only what changed. A
//! blob of a Hugging Face cache is named by its sha256, and the name is believed: hashing a
//! company's whole store before the first answer would take hours, and clients verify anyway.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::repo::{Blob, Lfs};
use super::walk::FolderFile;
use crate::local_hub::text::{hex, is_hex};

/// Suffixes that git leaves to LFS on the Hub.
pub(crate) const LFS_SUFFIXES: [&str; 20] = [
    "safetensors",
    "bin",
    "gguf",
    "onnx",
    "pt",
    "h5",
    "msgpack",
    "pth",
    "ckpt",
    "parquet",
    "arrow",
    "npy",
    "npz",
    "gz",
    "zst",
    "xz",
    "bz2",
    "zip",
    "tar",
    "7z",
];
/// Larger files go to LFS whatever their name.
const LFS_SIZE: u64 = 10_000_000;

#[derive(Debug, PartialEq, Eq, Hash)]
struct State {
    location: PathBuf,
    size: u64,
    modified: SystemTime,
    lfs: bool,
}

#[derive(Debug, Default)]
pub(crate) struct DigestCache(Mutex<HashMap<State, Blob>>);

impl DigestCache {
    /// What git and LFS call the file. Reads it at most once per state.
    pub(super) fn blob(&self, file: &FolderFile) -> io::Result<Blob> {
        let lfs = goes_to_lfs(&file.path, file.size);
        let state = State { location: file.location.clone(), size: file.size, modified: file.modified, lfs };
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&state) {
            return Ok(known.clone());
        }
        let blob =
            if lfs { lfs_blob(file)? } else { Blob { oid: git_oid(&file.location, file.size)?, lfs: None } };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(state, blob.clone());
        Ok(blob)
    }
}

/// Whether LFS keeps a file of this name and size.
pub(crate) fn goes_to_lfs(path: &str, size: u64) -> bool {
    let suffix = Path::new(path).extension().and_then(|suffix| suffix.to_str()).unwrap_or("");
    size > LFS_SIZE || LFS_SUFFIXES.contains(&suffix)
}

/// The text that git keeps in place of a file under LFS.
pub(crate) fn pointer(sha256: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

fn lfs_blob(file: &FolderFile) -> io::Result<Blob> {
    let sha256 = match named_by_cache(&file.location) {
        Some(name) => name.to_owned(),
        None => hex(&hash::<Sha256>(Sha256::new(), &file.location, file.size)?),
    };
    Ok(lfs_named(sha256, file.size))
}

/// A file under LFS whose content has this name.
pub(crate) fn lfs_named(sha256: String, size: u64) -> Blob {
    let pointer = pointer(&sha256, size);
    let oid = hex(&blob_hasher(pointer.len() as u64).chain_update(&pointer).finalize());
    let xet_hash = hex(&Sha256::new().chain_update("xet").chain_update(&sha256).finalize());
    Blob { oid, lfs: Some(Lfs { sha256, xet_hash, pointer_size: pointer.len() as u64 }) }
}

/// What git calls the content of a file of this size.
pub(crate) fn git_oid(location: &Path, size: u64) -> io::Result<String> {
    Ok(hex(&hash(blob_hasher(size), location, size)?))
}

/// Git hashes a blob with its length before it.
fn blob_hasher(size: u64) -> Sha1 {
    Sha1::new().chain_update(format!("blob {size}\0"))
}

/// `models--org--name/blobs/<sha256>`, and so for datasets
fn named_by_cache(location: &Path) -> Option<&str> {
    let name = location.file_name()?.to_str()?;
    let folder = location.parent()?;
    let cache = folder.parent()?.file_name()?.to_str()?;
    let is_blob =
        folder.file_name()? == "blobs" && (cache.starts_with("models--") || cache.starts_with("datasets--"));
    (is_blob && is_hex(name, 64)).then_some(name)
}

fn hash<D: Digest>(mut hasher: D, location: &Path, expected: u64) -> io::Result<Vec<u8>> {
    let mut source = File::open(location)?;
    let mut chunk = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        match source.read(&mut chunk)? {
            0 => break,
            n => {
                hasher.update(&chunk[..n]);
                size += n as u64;
            }
        }
    }
    if size != expected {
        return Err(io::Error::other(format!("{} changed while it was read", location.display())));
    }
    Ok(hasher.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn found(dir: &Path, path: &str, content: &[u8]) -> FolderFile {
        let location = dir.join(path);
        File::create(&location).unwrap().write_all(content).unwrap();
        let modified = location.metadata().unwrap().modified().unwrap();
        FolderFile { path: path.to_owned(), location, size: content.len() as u64, modified }
    }

    #[test]
    fn hashes_are_those_of_git_and_lfs() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DigestCache::default();
        let text = cache.blob(&found(dir.path(), "a.txt", b"hello\n")).unwrap();
        assert_eq!(text.oid, "ce013625030ba8dba906f756967f9e9ca394464a", "git hash-object");
        assert!(text.lfs.is_none());

        let weights = cache.blob(&found(dir.path(), "a.bin", b"hello\n")).unwrap();
        let lfs = weights.lfs.unwrap();
        assert_eq!(lfs.sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(lfs.pointer_size as usize, pointer(&lfs.sha256, 6).len());
        assert_ne!(lfs.xet_hash, lfs.sha256);
    }

    #[test]
    fn only_blobs_of_a_model_cache_are_believed() {
        let name = "5".repeat(64);
        let named = |folder: &str| named_by_cache(&Path::new(folder).join(&name)).is_some();
        assert!(named("/hub/models--org--name/blobs"));
        assert!(!named("/hub/models/org/blobs"), "a file that happens to be called like this");
        assert!(!named("/hub/blobs/55"), "the cache-wide store is named by Xet hashes");
    }
}
