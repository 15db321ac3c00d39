//! An index whose rows lie elsewhere after a compaction.

use crate::store::maintenance::Compacted;
use crate::store::manifest::IndexEntry;
use crate::store::{Database, StoreError, atomic};

use super::metadata::{FOLDER, METADATA, Metadata, POSTINGS};
use super::tables::{self, Posting};

/// The index of a database for its shards after a compaction. What it says of checkpoints, families and links does not
/// change; its postings name the new places. `None` where there is no index, or where it does not cover all shards:
/// then it is to be built first.
pub fn relocate(db: &Database, compacted: &Compacted) -> Result<Option<IndexEntry>, StoreError> {
    let manifest = db.manifest();
    let Some(entry) = manifest.index.as_ref().filter(|_| manifest.shards_not_indexed() == 0) else {
        return Ok(None);
    };
    let missing = || StoreError::NoIndex { path: db.location().to_string().into() };
    let file = |name: &str| db.files().local(entry.files.get(name).ok_or_else(missing)?);
    let path = file(METADATA)?;
    let mut metadata = Metadata::read(&path)?;
    metadata.check(manifest, entry, &path)?;
    let postings = tables::read_postings(&file(POSTINGS)?, metadata.postings)?;
    let mut relocated: Vec<Posting> = postings
        .into_iter()
        // A row that is gone was replaced by a later one, which has a posting of its own.
        .filter_map(|posting| Some(Posting { at: compacted.place(posting.at)?, ..posting }))
        .collect();
    relocated.sort_by_key(|p| (p.checkpoint, p.at));
    metadata.postings = relocated.len();
    metadata.shards = compacted.shards.iter().map(|shard| shard.entry.sha256.clone()).collect();
    let folder = atomic::temporary_folder(&db.folder().join(FOLDER))?;
    let path = folder.path().join(POSTINGS);
    tables::write_postings(&path, &relocated)?;
    let mut files = entry.files.clone();
    files.insert(POSTINGS.to_owned(), db.files().adopt(&path, FOLDER, "parquet")?);
    files.insert(METADATA.to_owned(), metadata.write(db)?);
    Ok(Some(IndexEntry { shards: compacted.shards.len(), files }))
}
