//! What a remote offers, and whether it is taken: whose signature it has, and what it would replace.

use std::path::Path;

use super::check::same;
use super::copy::{STATE, State};
use super::error::PublicationError;
use super::key::PublicKey;
use super::list::{self, CARD, MARKER, MARKER_TEXT, MOST_BYTES, MOST_CARD, Publication, SMALL};
use super::remote::Remote;
use crate::retrieval::metadata::{METADATA, MOST_METADATA, check_version};
use crate::store::checksum::sha256;
use crate::store::manifest::Manifest;
use crate::store::{DatabaseFiles, FileEntry};

/// What may be accepted.
#[derive(Clone, Debug, Default)]
pub struct PullSettings {
    /// This publication instead of the latest.
    pub version: Option<u64>,
    /// The key to trust. Without one, the key that was trusted before; at the first pull the one that comes along.
    pub key: Option<PublicKey>,
    /// Whether a key other than the one trusted before is accepted.
    pub accept_key: bool,
    /// Whether an older publication than the one here is accepted.
    pub accept_rollback: bool,
    /// Whether another database may take the place of the one here.
    pub replace: bool,
    /// Whether an index that this version cannot read is accepted: for other tools, and for building another.
    pub any_index: bool,
}

/// A publication whose signature was checked with a key that is trusted.
pub(super) struct Trusted {
    pub(super) publication: Publication,
    pub(super) key: PublicKey,
    /// Whether the key is trusted for the first time, because it came along.
    pub(super) key_is_new: bool,
    /// Key, signature and list as they were read, in the order in which they are written.
    pub(super) own: [(String, Vec<u8>); 3],
}

pub(super) async fn trusted(
    remote: &Remote,
    version: u64,
    state: Option<&State>,
    settings: &PullSettings,
) -> Result<Trusted, PublicationError> {
    let missing = |file: String| PublicationError::Tampered { file, what: "it is not there".into() };
    let read = async |name: String, most| remote.read(&name, most).await?.ok_or_else(|| missing(name));
    let text = read(list::name(version), MOST_BYTES).await?;
    let signature = read(list::signature_name(version), SMALL).await?;
    let offered = read(list::key_name(version), SMALL).await?;
    let name = list::key_name(version);
    let key = PublicKey::from_pem(&String::from_utf8_lossy(&offered), &name)?;
    if key.to_pem()?.as_bytes() != offered {
        let what = "it is a key, and not written as one is published".to_owned();
        return Err(PublicationError::Tampered { file: name, what });
    }
    let offered = key;
    let pinned = state.map(|state| PublicKey::from_pem(&state.key, STATE)).transpose()?;
    let foreign = |trusted: &PublicKey, offered: &PublicKey| PublicationError::ForeignKey {
        place: remote.place().to_owned(),
        offered: offered.fingerprint(),
        trusted: trusted.fingerprint(),
    };
    let key = match (&settings.key, &pinned) {
        (Some(given), Some(pinned)) if given != pinned && !settings.accept_key => {
            return Err(foreign(pinned, given));
        }
        (Some(given), _) => given.clone(),
        (None, Some(_)) if settings.accept_key => offered.clone(),
        (None, Some(pinned)) => pinned.clone(),
        (None, None) => offered.clone(),
    };
    if key != offered {
        return Err(foreign(&key, &offered));
    }
    let key_is_new = settings.key.is_none() && pinned.as_ref() != Some(&key);
    let publication = Publication::verified(&text, &signature, &key, version)?;
    let own = [
        (name, key.to_pem()?.into_bytes()),
        (list::signature_name(version), signature),
        (list::name(version), text),
    ];
    Ok(Trusted { publication, key, key_is_new, own })
}

/// Whether the publication may take the place of what is here.
pub(super) fn admissible(
    remote: &Remote,
    folder: &Path,
    publication: &Publication,
    state: Option<&State>,
    settings: &PullSettings,
) -> Result<(), PublicationError> {
    let Some(state) = state else { return Ok(()) };
    if state.database != publication.database {
        return if settings.replace {
            Ok(())
        } else {
            Err(PublicationError::OtherDatabase {
                place: remote.place().to_owned(),
                offered: publication.database.clone(),
                folder: folder.display().to_string(),
                here: state.database.clone(),
            })
        };
    }
    if publication.version < state.version && !settings.accept_rollback {
        let (offered, here) = (publication.version, state.version);
        return Err(PublicationError::Rollback { place: remote.place().to_owned(), offered, here });
    }
    if publication.version == state.version
        && publication.manifest.sha256 != state.manifest
        && !settings.replace
    {
        return Err(PublicationError::SameVersion {
            place: remote.place().to_owned(),
            version: publication.version,
            other: folder.display().to_string(),
        });
    }
    Ok(())
}

/// Whether a folder holds nothing but what was pulled: commits of its own would be lost.
pub(super) fn is_a_copy(
    files: &DatabaseFiles,
    latest: Option<&str>,
    state: Option<&State>,
    settings: &PullSettings,
) -> Result<(), PublicationError> {
    let Some(latest) = latest else { return Ok(()) };
    let is_pulled = |state: &State| {
        settings.replace || state.manifest == latest || state.before.as_deref() == Some(latest)
    };
    let folder = files.folder().display().to_string();
    match state {
        Some(state) if is_pulled(state) => Ok(()),
        Some(_) => Err(PublicationError::ChangedCopy { folder }),
        None => Err(PublicationError::NotACopy { folder }),
    }
}

/// Whether the card that the Hub shows is the signed one: of the latest publication, or, while that is being made, of
/// the one before.
pub(super) async fn check_card(
    remote: &Remote,
    publication: &Publication,
    card: &[u8],
    key: &PublicKey,
    there: &[u64],
    settings: &PullSettings,
) -> Result<(), PublicationError> {
    if remote.read(MARKER, SMALL).await?.as_deref() != Some(MARKER_TEXT) {
        let what = "it is not there, or says something else".to_owned();
        return Err(PublicationError::Tampered { file: MARKER.into(), what });
    }
    if settings.version.is_some_and(|version| there.last() != Some(&version)) {
        return Ok(());
    }
    let shown = remote.read(CARD, MOST_CARD).await?;
    if shown.as_deref() == Some(card) {
        return Ok(());
    }
    let before = there.iter().rev().find(|version| **version < publication.version).copied();
    if let (Some(version), Some(shown)) = (before, shown)
        && let Some(text) = remote.read(&list::name(version), MOST_BYTES).await?
        && let Some(signature) = remote.read(&list::signature_name(version), SMALL).await?
        && let Ok(before) = Publication::verified(&text, &signature, key, version)
        && before.card.sha256 == sha256(&shown)
    {
        return Ok(());
    }
    let what = "it is not the card of the latest publication".to_owned();
    Err(PublicationError::Tampered { file: CARD.into(), what })
}

/// Whether scans will be able to use the index of a publication, before any of it is fetched.
pub(super) async fn check_index(
    remote: &Remote,
    manifest: &Manifest,
    version: u64,
) -> Result<(), PublicationError> {
    let Some(entry) = manifest.index.as_ref().and_then(|index| index.files.get(METADATA)) else {
        return Ok(());
    };
    let metadata = small(remote, entry, MOST_METADATA).await?;
    check_version(&metadata, entry.file.as_ref()).map_err(|source| PublicationError::OtherIndex {
        place: remote.place().to_owned(),
        version,
        source,
    })
}

/// A small file, checked.
pub(super) async fn small(
    remote: &Remote,
    entry: &FileEntry,
    most: u64,
) -> Result<Vec<u8>, PublicationError> {
    let tampered = |what: String| PublicationError::Tampered { file: entry.file.clone(), what };
    let text = remote.read(&entry.file, most).await?.ok_or_else(|| tampered("it is not there".into()))?;
    same(entry, text)
}
