//! A folder that holds a publication: what is known of it, and whether it is still what was signed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{check_manifest, check_names, same};
use super::error::PublicationError;
use super::key::PublicKey;
use super::list::{self, CARD, MOST_BYTES, MOST_CARD, Publication, SMALL};
use super::remote::is_leftover;
use crate::store::checksum::sha256;
use crate::store::layout::manifest_name;
use crate::store::{DatabaseFiles, FileEntry, StoreError};

/// What is known of the publication that a folder is a copy of.
pub(super) const STATE: &str = "pulled.json";

/// `pulled.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) from: String,
    pub(super) database: String,
    pub(super) version: u64,
    pub(super) key: String,
    /// SHA-256 of the manifest.
    pub(super) manifest: String,
    /// That of the one before, which is still the latest if the pull ended before it wrote its own.
    pub(super) before: Option<String>,
}

pub(super) fn read_state(files: &DatabaseFiles) -> Result<Option<State>, StoreError> {
    let path = files.folder().join(STATE);
    files
        .get(STATE)?
        .map(|text| serde_json::from_slice(&text).map_err(StoreError::damaged(&path)))
        .transpose()
}

/// Whether a folder is a copy, or free to become one.
pub(super) fn is_ours_or_empty(files: &DatabaseFiles) -> Result<(), PublicationError> {
    if read_state(files)?.is_some() {
        return Ok(());
    }
    let folder = files.folder().display().to_string();
    if !files.generations()?.is_empty() {
        return Err(PublicationError::NotACopy { folder });
    }
    match files.foreign(is_leftover)? {
        None => Ok(()),
        Some(file) => {
            Err(PublicationError::Foreign { place: folder, expected: "a copy of a publication", file })
        }
    }
}

/// What a copy was checked against.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Copy {
    /// The publication.
    pub version: u64,
    /// Fingerprint of the key that signed it.
    pub key: String,
    /// The publication that a pull began to bring, and did not finish.
    pub unfinished: Option<u64>,
}

/// Holds the latest snapshot of a copy against the signed list that came with it, and the key that was trusted; the
/// files that the list names are those of the manifest, whose checksums are another matter. `None` where the database
/// was not pulled.
pub fn verify_copy(files: &DatabaseFiles) -> Result<Option<Copy>, PublicationError> {
    if files.is_mirrored() {
        return Ok(None);
    }
    let Some(state) = read_state(files)? else { return Ok(None) };
    let key = PublicKey::from_pem(&state.key, STATE)?;
    let missing =
        |file: &str| PublicationError::Tampered { file: file.to_owned(), what: "it is not there".into() };
    let read = |file: &str, most| files.get_bounded(file, most)?.ok_or_else(|| missing(file));
    let checked = |entry: &FileEntry, most| same(entry, read(&entry.file, most)?);
    let version = files.generations()?.pop().ok_or_else(|| missing(&manifest_name(state.version)))?;
    let verified = |version: u64| -> Result<Publication, PublicationError> {
        let list = read(&list::name(version), MOST_BYTES)?;
        let signature = read(&list::signature_name(version), SMALL)?;
        Ok(Publication::verified(&list, &signature, &key, version)?)
    };
    let unfinished = (version != state.version).then_some(state.version);
    let manifest = sha256(&read(&manifest_name(version), MOST_BYTES)?);
    if unfinished.is_some() && state.before != Some(manifest) {
        return Err(PublicationError::NotACopy { folder: files.folder().display().to_string() });
    }
    let publication = verified(version)?;
    check_names(&publication)?;
    let name = list::key_name(version);
    if read(&name, SMALL)? != key.to_pem()?.into_bytes() {
        return Err(PublicationError::Tampered {
            file: name,
            what: "it is not the key that is trusted".into(),
        });
    }
    check_manifest(files, &publication, &checked(&publication.manifest, MOST_BYTES)?)?;
    checked(&publication.card, MOST_CARD)?;
    // Of a pull that died before its last steps it is the next one's already, whose list is here by then.
    let card = sha256(&read(CARD, MOST_CARD)?);
    let lists = files.list(list::FOLDER)?;
    let mut signed = lists.iter().filter_map(|p| verified(list::version_of(&p.file)?).ok());
    if !signed.any(|publication| publication.card.sha256 == card) {
        let what = "it is not the card of the publication".to_owned();
        return Err(PublicationError::Tampered { file: CARD.into(), what });
    }
    Ok(Some(Copy { version, key: key.fingerprint(), unfinished }))
}
