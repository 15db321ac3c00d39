//! A snapshot with its card, listed and signed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::card::{self, About};
use super::error::PublicationError;
use super::key::{Key, PublicKey};
use super::list::{self, Publication};
use super::trust::PUBLICATION_VERSION;
use crate::retrieval::{Index, LINEAGE};
use crate::store::checksum::sha256;
use crate::store::layout::manifest_name;
use crate::store::{Database, FileEntry};

/// How to publish.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishSettings {
    /// `hf://datasets/org/name`, a folder, or the address of a bucket.
    pub to: String,
    /// File with the key to sign with. Default: `HUBPRINT_SIGNING_KEY`.
    pub key: Option<PathBuf>,
    /// Title of the card.
    pub title: String,
    /// Licence of the database.
    pub licence: String,
    /// Publications that stay on the remote.
    pub keep: usize,
    /// Whether another database, an older version, or another content of the same version may take the place of what
    /// is there.
    pub replace: bool,
    /// Whether a remote that is signed with another key may be signed with this one.
    pub new_key: bool,
    /// Whether a database is published whose index is missing or behind.
    pub any_index: bool,
    /// Whether a dataset that is made is one that only its owner sees.
    pub private: bool,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self {
            to: String::new(),
            key: None,
            title: "Weight fingerprints of the Hugging Face Hub".into(),
            licence: "cc-by-4.0".into(),
            keep: 2,
            replace: false,
            new_key: false,
            any_index: false,
            private: false,
        }
    }
}

/// Everything of a publication, ready to be sent.
pub struct Prepared {
    /// The list.
    pub publication: Publication,
    /// The small files of its own by name, in the order in which they are to be written; the last one makes the
    /// publication visible.
    pub own: Vec<(String, Vec<u8>)>,
    /// The card, for the copy where the Hub shows it.
    pub card: Vec<u8>,
    /// The key that the signature is to be held against.
    pub key: PublicKey,
}

/// Makes card, list and signature of a database's snapshot.
pub fn prepare(db: &Database, key: &Key, settings: &PublishSettings) -> Result<Prepared, PublicationError> {
    let manifest = db.manifest();
    let lack = match (&manifest.index, manifest.shards_not_indexed()) {
        (None, _) => Some("no index".to_owned()),
        (Some(_), 0) => None,
        (Some(_), behind) => Some(format!("{behind} shards that its index does not cover")),
    };
    if let Some(what) = lack.filter(|_| !settings.any_index) {
        return Err(PublicationError::NotIndexed { place: db.location().to_string(), what });
    }
    let index = manifest.index.as_ref().map(|_| Index::open(db)).transpose()?;
    let live = db.live()?;
    let about = About {
        title: settings.title.clone(),
        licence: settings.licence.clone(),
        address: settings.to.clone(),
        outcomes: live.outcomes(),
        repositories: live.repositories().count(),
        index: index.as_ref().map(card::AboutIndex::of),
    };
    let lineage = manifest.index.as_ref().and_then(|index| index.files.get(LINEAGE)).map(|e| e.file.as_str());
    let public = key.public();
    let card = card::card(manifest, &about, lineage, &public.fingerprint()).into_bytes();
    let text = manifest.to_text();
    let version = manifest.generation;
    let entry =
        |file: String, bytes: &[u8]| FileEntry { file, bytes: bytes.len() as u64, sha256: sha256(bytes) };
    let files: BTreeSet<FileEntry> = manifest.files().cloned().collect();
    let publication = Publication {
        publication_version: PUBLICATION_VERSION,
        database: manifest.id.clone(),
        version,
        published_at: Utc::now(),
        card: entry(list::card_name(version), &card),
        manifest: entry(manifest_name(version), &text),
        files: files.into_iter().collect(),
    };
    let list = publication.to_text();
    let signature = key.sign(&list).to_vec();
    let own = vec![
        (publication.manifest.file.clone(), text),
        (publication.card.file.clone(), card.clone()),
        (list::key_name(version), public.to_pem()?.into_bytes()),
        (list::signature_name(version), signature),
        (list::name(version), list),
    ];
    Ok(Prepared { publication, own, card, key: public })
}
