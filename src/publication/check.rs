//! Whether files are what a publication says of them.

use super::error::PublicationError;
use super::list::{self, Publication};
use crate::store::checksum::sha256;
use crate::store::layout::manifest_name;
use crate::store::manifest::Manifest;
use crate::store::{DatabaseFiles, FileEntry, StoreError};

/// A signed list is trusted, and yet it can only name the places of files of a database.
pub(super) fn check_names(publication: &Publication) -> Result<(), PublicationError> {
    let wrong = |entry: &FileEntry| PublicationError::Tampered {
        file: entry.file.clone(),
        what: "that is no place of a file of a database".into(),
    };
    if let Some(entry) = publication.files.iter().find(|entry| !entry.is_content()) {
        return Err(wrong(entry));
    }
    if publication.manifest.file != manifest_name(publication.version) {
        return Err(wrong(&publication.manifest));
    }
    if publication.card.file != list::card_name(publication.version) {
        return Err(wrong(&publication.card));
    }
    Ok(())
}

/// Whether a manifest is one of the publication's database, and names its files and no others.
pub(super) fn check_manifest(
    files: &DatabaseFiles,
    publication: &Publication,
    text: &[u8],
) -> Result<Manifest, PublicationError> {
    let file = publication.manifest.file.clone();
    let manifest = Manifest::parse(text, files, &file)?;
    let sorted = |entries: Vec<&FileEntry>| {
        let mut entries: Vec<FileEntry> = entries.into_iter().cloned().collect();
        entries.sort_unstable();
        entries.dedup();
        entries
    };
    if (manifest.generation, &manifest.id) != (publication.version, &publication.database)
        || sorted(manifest.files().collect()) != sorted(publication.files.iter().collect())
    {
        let what = "it is the manifest of another database or version".to_owned();
        return Err(PublicationError::Tampered { file, what });
    }
    Ok(manifest)
}

/// A text, if it is the one that is stated.
pub(super) fn same(entry: &FileEntry, text: Vec<u8>) -> Result<Vec<u8>, PublicationError> {
    match entry.is(entry.file.as_ref(), text.len() as u64, &sha256(&text)) {
        Ok(()) => Ok(text),
        Err(StoreError::Damaged { what, .. }) => {
            Err(PublicationError::Tampered { file: entry.file.clone(), what })
        }
        Err(other) => Err(other.into()),
    }
}
