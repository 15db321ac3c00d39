//! What is there of a publication, and what is to be done about it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::address::Address;
use super::error::PublicationError;
use super::key::PublicKey;
use super::list::{self, CARD, Publication};
use super::prepare::{Prepared, PublishSettings};
use crate::store::FileEntry;
use crate::store::layout::{CONTENT_FOLDERS, MANIFESTS};

/// What a remote has, as far as publishing must know.
#[derive(Clone, Debug, Default)]
pub struct There {
    /// The names of all content files, manifests and publications.
    pub names: BTreeSet<String>,
    /// Those of the files to be published that are there, and are what they should be.
    pub same: BTreeSet<String>,
    /// All publications, the latest last.
    pub publications: Vec<Publication>,
    /// The public key of the latest one.
    pub key: Option<Vec<u8>>,
    /// Whether it says that it is a remote.
    pub has_marker: bool,
    /// Some file that a place which is no remote yet should not have.
    pub foreign: Option<String>,
    /// Whether the files of the publication itself, of the version that is to be published, are all there and signed
    /// with the same key.
    pub is_signed: bool,
    /// Whether it has a card where the Hub shows it.
    pub has_card: bool,
}

/// Gives the text of a small file of the remote; `None` where there is none.
type Reader<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, PublicationError> + 'a;

impl There {
    /// Fails where a place is no remote, and would not become one without somebody else's files.
    pub fn is_ours_or_empty(&self, address: &Address) -> Result<(), PublicationError> {
        match &self.foreign {
            Some(file) if !self.has_marker => Err(PublicationError::Foreign {
                place: address.to_string(),
                expected: "publications",
                file: file.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes in the small files of a version, by the endings of their names.
    pub fn look_at(&mut self, prepared: &Prepared, read: &mut Reader<'_>) -> Result<(), PublicationError> {
        let versions: Vec<u64> = self.names.iter().filter_map(|name| list::version_of(name)).collect();
        for version in versions {
            // What we once put there; whoever pulls checks signatures. One that cannot be read is not written over:
            // it may be a newer hubprint's.
            if let Some(text) = read(&list::name(version))? {
                self.publications.push(Publication::parse(&text, version)?);
            }
        }
        self.publications.sort_by_key(|p| p.version);
        self.key = match self.publications.last() {
            Some(last) => read(&list::key_name(last.version))?,
            None => None,
        };
        self.has_card = read(CARD)?.is_some();
        let version = prepared.publication.version;
        let mut text = |name: String| read(&name);
        let (list, signature, key) = (
            text(list::name(version))?,
            text(list::signature_name(version))?,
            text(list::key_name(version))?,
        );
        let (card, manifest) = (
            text(prepared.publication.card.file.clone())?,
            text(prepared.publication.manifest.file.clone())?,
        );
        let verified = list.zip(signature).and_then(|(list, signature)| {
            Publication::verified(&list, &signature, &prepared.key, version).ok()
        });
        let own = |name: &str| prepared.own.iter().find(|(own, _)| own == name).map(|(_, text)| text);
        self.is_signed = verified.is_some_and(|found| {
            (&found.files, &found.card, &found.manifest)
                == (&prepared.publication.files, &prepared.publication.card, &prepared.publication.manifest)
        }) && key.as_ref() == own(&list::key_name(version))
            && card.as_ref() == own(&prepared.publication.card.file)
            && manifest.as_ref() == own(&prepared.publication.manifest.file);
        Ok(())
    }
}

/// What to do.
pub struct Plan {
    /// Files to be sent.
    pub send: Vec<FileEntry>,
    /// Names to be removed in the end.
    pub remove: Vec<String>,
    /// What was there before.
    pub before: Option<u64>,
}

/// Compares what is to be published with what is there.
pub fn plan(
    address: &Address,
    prepared: &Prepared,
    there: &There,
    settings: &PublishSettings,
) -> Result<Plan, PublicationError> {
    let ours = &prepared.publication;
    there.is_ours_or_empty(address)?;
    let last = there.publications.last();
    let same_database = last.is_none_or(|last| last.database == ours.database);
    if !same_database && !settings.replace {
        let here = last.map(|last| last.database.clone()).unwrap_or_default();
        return Err(PublicationError::OtherDatabase {
            place: "this database".into(),
            offered: ours.database.clone(),
            folder: address.to_string(),
            here,
        });
    }
    if let Some(last) = last.filter(|last| same_database && last.version > ours.version)
        && !settings.replace
    {
        let (offered, here) = (ours.version, last.version);
        return Err(PublicationError::Rollback { place: "this database".into(), offered, here });
    }
    let equal = |p: &Publication| (&p.files, &p.manifest) == (&ours.files, &ours.manifest);
    let other = there.publications.iter().find(|p| p.version == ours.version && !equal(p));
    if other.is_some() && !settings.replace {
        return Err(PublicationError::SameVersion {
            place: "this database".into(),
            version: ours.version,
            other: address.to_string(),
        });
    }
    if let Some(last) = last
        && !settings.new_key
    {
        let pem = there.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let key = PublicKey::from_pem(&pem, &list::key_name(last.version))?;
        if key != prepared.key {
            let (there, ours) = (key.fingerprint(), prepared.key.fingerprint());
            return Err(PublicationError::OtherKey { place: address.to_string(), there, ours });
        }
    }
    let is_missing = |entry: &&FileEntry| !there.same.contains(&entry.file);
    let send: Vec<FileEntry> = ours.files.iter().filter(is_missing).cloned().collect();
    // Of those before, the latest stay; all others go with what only they name.
    let before =
        there.publications.iter().filter(|p| p.version < ours.version && p.database == ours.database);
    let kept: Vec<&Publication> = before.rev().take(settings.keep.max(1) - 1).collect();
    let mut needed: BTreeSet<&str> = ours.all_files().map(|e| e.file.as_str()).collect();
    needed.extend(kept.iter().flat_map(|p| p.all_files()).map(|e| e.file.as_str()));
    let own: BTreeSet<String> =
        kept.iter().map(|p| p.version).chain([ours.version]).flat_map(list::names).collect();
    let is_old = |name: &&String| !needed.contains(name.as_str()) && !own.contains(*name) && is_written(name);
    let remove = there.names.iter().filter(is_old).cloned().collect();
    Ok(Plan { send, remove, before: last.map(|last| last.version) })
}

/// Whether a file has a name that publishing gives; what else lies in its folders is somebody's.
fn is_written(name: &str) -> bool {
    let Some((folder, file)) = name.split_once('/') else { return false };
    let stem = file.split('.').next().unwrap_or_default();
    if CONTENT_FOLDERS.contains(&folder) {
        stem.len() == 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
    } else {
        stem.len() == 12 && stem.bytes().all(|byte| byte.is_ascii_digit())
    }
}

/// Folders whose files publishing looks after.
pub fn folders() -> impl Iterator<Item = &'static str> {
    CONTENT_FOLDERS.into_iter().chain([MANIFESTS, list::FOLDER])
}

/// What is to be done, or was.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Published {
    /// The version.
    pub version: u64,
    /// The one that was there before.
    pub before: Option<u64>,
    /// Fingerprint of the key.
    pub key: String,
    /// Files of the publication, its own aside.
    pub files: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Files that are not there yet.
    pub files_sent: usize,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Files that no publication there needs any more.
    pub files_removed: usize,
    /// Whether it was done, and not only reckoned.
    pub done: bool,
}

/// What a plan amounts to.
pub fn published(prepared: &Prepared, plan: &Plan, done: bool) -> Published {
    let ours = &prepared.publication;
    Published {
        version: ours.version,
        before: plan.before,
        key: prepared.key.fingerprint(),
        files: ours.files.len(),
        bytes: ours.files.iter().map(|entry| entry.bytes).sum(),
        files_sent: plan.send.len(),
        bytes_sent: plan.send.iter().map(|entry| entry.bytes).sum(),
        files_removed: plan.remove.len(),
        done,
    }
}
