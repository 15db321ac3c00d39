//! Databases of formats that are not read as they are.

use std::path::Path;

use serde::Deserialize;

use crate::store::atomic;
use crate::store::entry::FileEntry;
use crate::store::error::StoreError;
use crate::store::files::DatabaseFiles;
use crate::store::layout::{OLD_MANIFEST, SHARDS, WAITING, hashed_name};
use crate::store::lock::Lock;
use crate::store::manifest::{FORMAT_VERSION, Manifest, ShardEntry, check_extraction};
use crate::store::task::{Partition, Task};

/// Brings a database of format 3 to this format: its shards are as they were, the index has to be built anew. Those of
/// later formats need nothing: the next commit brings them here.
pub fn migrate(folder: &Path) -> Result<Manifest, StoreError> {
    let files = DatabaseFiles::open(folder.into())?;
    if files.get(OLD_MANIFEST)?.is_none() {
        return Manifest::latest(&files);
    }
    let _lock = Lock::acquire(&files, Task::Maintenance)?;
    let path = folder.join(OLD_MANIFEST);
    let Some(text) = files.get(OLD_MANIFEST)? else { return Manifest::latest(&files) };
    let old: OldManifest = serde_json::from_slice(&text).map_err(StoreError::damaged(&path))?;
    if old.format_version != 3 {
        let (found, supported) = (old.format_version, FORMAT_VERSION);
        return Err(StoreError::Version { path, what: "format", found, supported });
    }
    check_extraction(old.extraction_version, &path)?;
    // What it names is removed in the end, so it can only name what format 3 wrote.
    let shards = old.shards.iter().map(|shard| (&shard.entry.file, "shards/", ".parquet"));
    let waiting = old.waiting.iter().map(|list| (&list.entry.file, "waiting/", ".parquet"));
    let index = old.index.iter().map(|index| (&index.folder, "index/", ""));
    let is_numbered = |(file, begin, end): &(&String, &str, &str)| {
        let number = file.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        number.is_some_and(|n| n.len() >= 6 && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let Some((file, ..)) = shards.chain(waiting).chain(index).find(|named| !is_numbered(named)) {
        return Err(StoreError::damaged(&path)(format!("{file:?} is no name that format 3 gave")));
    }
    // Where it was made already, what is left to do is to remove the old one.
    if files.generations()?.is_empty() {
        let mut manifest = Manifest::new();
        manifest.generation = 1;
        for shard in &old.shards {
            manifest.shards.push(renamed(&files, shard, SHARDS)?);
        }
        if let Some(waiting) = &old.waiting {
            let whole = Partition::WHOLE.to_string();
            manifest.waiting.insert(whole, renamed(&files, waiting, WAITING)?);
        }
        if !files.create_manifest(1, &manifest.to_text())? {
            return Err(StoreError::Changed { path: folder.to_owned() });
        }
    }
    let manifest = Manifest::latest(&files)?;
    for old in old.shards.iter().chain(&old.waiting) {
        files.remove(&old.entry.file)?;
    }
    if let Some(index) = old.index.map(|index| folder.join(index.folder)).filter(|index| index.is_dir()) {
        std::fs::remove_dir_all(&index).map_err(StoreError::io(&index))?;
    }
    files.remove("writer.lock")?;
    files.remove(OLD_MANIFEST)?;
    Ok(manifest)
}

/// The manifest of format 3.
#[derive(Deserialize)]
struct OldManifest {
    format_version: u32,
    extraction_version: u32,
    shards: Vec<ShardEntry>,
    waiting: Option<ShardEntry>,
    index: Option<OldIndex>,
}

#[derive(Deserialize)]
struct OldIndex {
    folder: String,
}

/// A file under the name of its content, beside the old one: until the commit the old database stays as it is.
fn renamed(files: &DatabaseFiles, shard: &ShardEntry, to: &str) -> Result<ShardEntry, StoreError> {
    let from = files.folder().join(&shard.entry.file);
    shard.entry.verify(&from)?;
    let name = hashed_name(to, &shard.entry.sha256, "parquet");
    let entry = FileEntry { file: name, ..shard.entry.clone() };
    let path = files.folder().join(&entry.file);
    std::fs::create_dir_all(files.folder().join(to)).map_err(StoreError::io(&path))?;
    // A link where the file system has them; what lies there of a migration that was cut short may be half a file.
    if entry.verify(&path).is_err() && std::fs::hard_link(&from, &path).is_err() {
        files.import(&from, &entry)?;
    }
    atomic::sync_folder(&files.folder().join(to))?;
    Ok(ShardEntry { entry, rows: shard.rows })
}
