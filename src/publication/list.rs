//! What is published: a snapshot with its card, listed with checksums and signed.
//!
//! A publication is a small JSON file beside the database, `publications/NNNNNNNNNNNN.json`, with a detached ed25519
//! signature over its bytes in a file of the same name and `.sig`, 64 bytes. It names every file of the snapshot with
//! length and SHA-256. Whoever trusts the key can trust all of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::key::PublicKey;
use super::trust::{PUBLICATION_VERSION, TrustError};
use crate::store::FileEntry;
pub use crate::store::layout::PUBLICATIONS as FOLDER;

/// A copy of the card of the latest publication, where the Hub shows it.
pub const CARD: &str = "README.md";
/// Says that a place is a remote: it holds publications and nothing else, so that old files may be removed. Whoever has
/// published and pulled knows it by this name.
pub const MARKER: &str = "shelf.txt";
/// What it says.
pub const MARKER_TEXT: &[u8] =
    b"Publications of a hubprint database. `hubprint publish` removes what is old here.\n";
/// Longest signature and longest key file.
pub(super) const SMALL: u64 = 4096;
/// Longest card.
pub(super) const MOST_CARD: u64 = 1 << 20;
/// Longest publication that is read: a million files.
pub const MOST_BYTES: u64 = 256 << 20;

/// The signed list of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// [`PUBLICATION_VERSION`] of the writer.
    pub publication_version: u32,
    /// The id of the database.
    pub database: String,
    /// The generation of its manifest; later publications have higher ones.
    pub version: u64,
    /// When.
    pub published_at: DateTime<Utc>,
    /// What the database is, for people.
    pub card: FileEntry,
    /// The manifest.
    pub manifest: FileEntry,
    /// Every file that the manifest names.
    pub files: Vec<FileEntry>,
}

/// The name of a publication.
pub fn name(version: u64) -> String {
    format!("{FOLDER}/{version:012}.json")
}

/// The name of its signature.
pub fn signature_name(version: u64) -> String {
    name(version) + ".sig"
}

/// The name of the public key that comes along with a publication; to be trusted by whoever chooses to.
pub fn key_name(version: u64) -> String {
    name(version) + ".pem"
}

/// The name of its card.
pub fn card_name(version: u64) -> String {
    format!("{FOLDER}/{version:012}.md")
}

/// The version in the name of a publication.
pub fn version_of(file: &str) -> Option<u64> {
    let number = file.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// The names of the files of a publication itself, its card and its manifest aside.
pub fn names(version: u64) -> [String; 3] {
    [name(version), signature_name(version), key_name(version)]
}

impl Publication {
    /// Its bytes, to be signed.
    pub fn to_text(&self) -> Vec<u8> {
        // Plain values: there is nothing that could fail to be written.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads a publication after checking its signature, and nothing of it before.
    pub fn verified(
        text: &[u8],
        signature: &[u8],
        key: &PublicKey,
        version: u64,
    ) -> Result<Self, TrustError> {
        let file = name(version);
        let error = || TrustError::Signature { file: file.clone(), key: key.fingerprint() };
        if !key.has_signed(text, signature) {
            return Err(error());
        }
        Self::parse(text, version)
    }

    /// Reads a publication whoever signed it: what it says of others is not to be believed.
    pub fn parse(text: &[u8], version: u64) -> Result<Self, TrustError> {
        // The form alone first: another one may have other fields.
        #[derive(Deserialize)]
        struct Form {
            publication_version: u64,
        }
        let file = name(version);
        let wrong = |what: String| TrustError::NotAPublication { file: file.clone(), what };
        let form: Form = serde_json::from_slice(text).map_err(|e| wrong(e.to_string()))?;
        let found = form.publication_version;
        if found > u64::from(PUBLICATION_VERSION) {
            return Err(TrustError::Newer { file, found });
        }
        if found != u64::from(PUBLICATION_VERSION) {
            return Err(wrong(format!("it has form {found}")));
        }
        let publication: Self = serde_json::from_slice(text).map_err(|e| wrong(e.to_string()))?;
        if publication.version != version {
            return Err(wrong(format!("it is publication {} under another name", publication.version)));
        }
        Ok(publication)
    }

    /// All files, the card and the manifest last.
    pub fn all_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain([&self.card, &self.manifest])
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Key;
    use super::*;

    fn publication(version: u64) -> Publication {
        let entry = |file: &str| FileEntry { file: file.into(), bytes: 1, sha256: "00".into() };
        Publication {
            publication_version: PUBLICATION_VERSION,
            database: "db".into(),
            version,
            published_at: Utc::now(),
            card: entry(&card_name(version)),
            manifest: entry("manifests/000000000007.json"),
            files: vec![entry("shards/a.parquet")],
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let key = Key::generate();
        let text = publication(7).to_text();
        let signature = key.sign(&text);
        let verified = |text: &[u8], signature: &[u8], version| {
            Publication::verified(text, signature, &key.public(), version)
        };
        assert_eq!(verified(&text, &signature, 7).unwrap().to_text(), text);
        for i in 0..text.len() {
            let mut changed = text.clone();
            changed[i] ^= 1;
            assert!(matches!(verified(&changed, &signature, 7), Err(TrustError::Signature { .. })), "{i}");
        }
        for i in 0..signature.len() {
            let mut changed = signature;
            changed[i] ^= 1;
            assert!(matches!(verified(&text, &changed, 7), Err(TrustError::Signature { .. })), "{i}");
        }
        assert!(verified(&text, &signature[..63], 7).is_err());
        // An old publication under a new name.
        assert!(matches!(verified(&text, &signature, 8), Err(TrustError::NotAPublication { .. })));
        let other = Key::generate();
        let error = Publication::verified(&text, &signature, &other.public(), 7).unwrap_err();
        assert!(error.to_string().contains(&other.public().fingerprint()), "{error}");
    }

    #[test]
    fn a_name_has_one_form() {
        assert_eq!(version_of(&name(12)), Some(12));
        assert_eq!(version_of(&signature_name(12)), None);
        assert_eq!(version_of("publications/12.json"), None);
    }

    #[test]
    fn a_newer_form_is_told_before_anything_else_of_it_is_read() {
        let key = Key::generate();
        let newer = br#"{"publication_version": 2, "files": "elsewhere"}"#;
        let error = Publication::verified(newer, &key.sign(newer), &key.public(), 7).unwrap_err();
        assert!(matches!(error, TrustError::Newer { found: 2, .. }), "{error}");
        for no_publication in [&br#"{"publication_version": 0}"#[..], b"{}", b"[", b""] {
            let error = Publication::parse(no_publication, 7).unwrap_err();
            assert!(matches!(error, TrustError::NotAPublication { .. }), "{error}");
        }
    }
}
