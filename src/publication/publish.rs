//! publish: a snapshot onto a shelf, signed.
//!
//! All files are named by their content, so what lies there already is not sent again, once it was read and is what it
//! should be; a publication that was cut short is gone on with by the next. The signed list comes last: until then the
//! shelf offers what it did before. Whatever is not ours is left alone, and a place that is not ours is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::Utc;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::card::{self, About};
use super::list::{self, CARD, Key, PUBLICATION_VERSION, PublicKey, Publication};
use super::remote::{Address, ShelfError, is_leftover};
use crate::retrieval::{Index, LINEAGE};
use crate::store::files::{CONTENT_FOLDERS, manifest_name};
use crate::store::lock::Lock;
use crate::store::{Database, FileEntry, Files, StoreError, Task, atomic};

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
    /// Publications that stay on the shelf.
    pub keep: usize,
    /// Whether another database, an older version, or another content of the same version may take the place of what
    /// is there.
    pub replace: bool,
    /// Whether a shelf that is signed with another key may be signed with this one.
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
pub fn prepare(db: &Database, key: &Key, settings: &PublishSettings) -> Result<Prepared, ShelfError> {
    let manifest = db.manifest();
    let lack = match (&manifest.index, manifest.shards_not_indexed()) {
        (None, _) => Some("no index".to_owned()),
        (Some(_), 0) => None,
        (Some(_), behind) => Some(format!("{behind} shards that its index does not cover")),
    };
    if let Some(what) = lack.filter(|_| !settings.any_index) {
        return Err(ShelfError::NotIndexed { place: db.location().to_string(), what });
    }
    let index = manifest.index.as_ref().map(|_| Index::open(db)).transpose()?;
    let about = About {
        title: settings.title.clone(),
        licence: settings.licence.clone(),
        address: settings.to.clone(),
        outcomes: db.live()?.outcomes(),
        index: index.map(|index| (index.quality(), index.checkpoints(), index.families())),
    };
    let lineage = manifest.index.as_ref().and_then(|index| index.files.get(LINEAGE)).map(|e| e.file.as_str());
    let public = key.public();
    let card = card::card(manifest, &about, lineage, &public.fingerprint()).into_bytes();
    let text = manifest.to_text();
    let version = manifest.generation;
    let entry = |file: String, bytes: &[u8]| FileEntry {
        file,
        bytes: bytes.len() as u64,
        sha256: atomic::sha256(bytes),
    };
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

/// What a shelf has, as far as publishing must know.
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
    /// Whether it says that it is a shelf.
    pub has_marker: bool,
    /// Some file that a place which is no shelf yet should not have.
    pub foreign: Option<String>,
    /// Whether the files of the publication itself, of the version that is to be published, are all there and signed
    /// with the same key.
    pub is_signed: bool,
    /// Whether it has a card where the Hub shows it.
    pub has_card: bool,
}

/// Gives the text of a small file of the shelf; `None` where there is none.
type Reader<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, ShelfError> + 'a;

impl There {
    /// Fails where a place is no shelf, and would not become one without somebody else's files.
    fn is_ours_or_empty(&self, address: &Address) -> Result<(), ShelfError> {
        match &self.foreign {
            Some(file) if !self.has_marker => Err(ShelfError::Foreign {
                place: address.to_string(),
                expected: "publications",
                file: file.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes in the small files of a version, by the endings of their names.
    pub fn look_at(&mut self, prepared: &Prepared, read: &mut Reader<'_>) -> Result<(), ShelfError> {
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
) -> Result<Plan, ShelfError> {
    let ours = &prepared.publication;
    there.is_ours_or_empty(address)?;
    let last = there.publications.last();
    let same_database = last.is_none_or(|last| last.database == ours.database);
    if !same_database && !settings.replace {
        let here = last.map(|last| last.database.clone()).unwrap_or_default();
        return Err(ShelfError::OtherDatabase {
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
        return Err(ShelfError::Rollback { place: "this database".into(), offered, here });
    }
    let equal = |p: &Publication| (&p.files, &p.manifest) == (&ours.files, &ours.manifest);
    let other = there.publications.iter().find(|p| p.version == ours.version && !equal(p));
    if other.is_some() && !settings.replace {
        return Err(ShelfError::SameVersion {
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
            return Err(ShelfError::OtherKey { place: address.to_string(), there, ours });
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
    CONTENT_FOLDERS.into_iter().chain(["manifests", list::FOLDER])
}

/// Publishes into a folder or a bucket. Without `execute` nothing is written. `progress` gets (bytes done, bytes in
/// all).
pub fn publish_files(
    db: &Database,
    prepared: &Prepared,
    to: &Files,
    settings: &PublishSettings,
    execute: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Published, ShelfError> {
    let address = Address::Files(to.location().clone());
    let mut there = There {
        has_marker: to.get(list::MARKER)?.as_deref() == Some(list::MARKER_TEXT),
        foreign: to.stranger(is_leftover)?,
        ..There::default()
    };
    // Before anything is written, be it a lock.
    there.is_ours_or_empty(&address)?;
    let lock = if execute { Some(Lock::acquire(to, Task::Maintenance)?) } else { None };
    let mut lengths = BTreeMap::new();
    for folder in folders() {
        lengths.extend(to.list(folder)?.into_iter().map(|present| (present.file, present.bytes)));
    }
    there.same = same(to, &prepared.publication.files, &lengths)?;
    there.names = lengths.into_keys().collect();
    there.look_at(prepared, &mut |name| Ok(to.get(name)?))?;
    let plan = plan(&address, prepared, &there, settings)?;
    if let Some(lock) = lock {
        db.files().verify(plan.send.iter(), &|_, _| {})?;
        if !there.has_marker {
            to.put(list::MARKER, list::MARKER_TEXT)?;
        }
        let all = plan.send.iter().map(|entry| entry.bytes).sum();
        let mut done = 0;
        for entry in &plan.send {
            to.import(&db.files().local(entry)?, entry)?;
            done += entry.bytes;
            progress(done, all);
        }
        lock.check()?;
        if !there.is_signed {
            for (name, text) in &prepared.own {
                to.put(name, text)?;
            }
        }
        to.put(CARD, &prepared.card)?;
        for name in &plan.remove {
            to.remove(name)?;
        }
    }
    Ok(published(prepared, &plan, execute))
}

/// Those of the files that are there and are what is stated of them: all of it is read.
fn same(
    to: &Files,
    files: &[FileEntry],
    lengths: &BTreeMap<String, u64>,
) -> Result<BTreeSet<String>, StoreError> {
    let there = files.par_iter().filter(|entry| lengths.get(&entry.file) == Some(&entry.bytes));
    let same = there.map(|entry| match to.verify_one(entry) {
        Ok(()) => Ok(Some(entry.file.clone())),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(other) => Err(other),
    });
    Ok(same.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
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

/// Writes a new key into a file that only its owner can read, and the public one beside it, `FILE.pub`. What is there
/// already stays.
pub fn write_key(path: &Path) -> Result<String, ShelfError> {
    use std::os::unix::fs::OpenOptionsExt;

    let key = Key::generate();
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    let public = Path::new(&public);
    if !atomic::create(public, key.public().to_pem()?.as_bytes())? {
        return Err(StoreError::io(public)(std::io::ErrorKind::AlreadyExists.into()).into());
    }
    let pem = key.to_pem()?;
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()));
    if let Err(error) = written {
        // The key that it belongs to is nowhere.
        let _ = std::fs::remove_file(public);
        return Err(StoreError::io(path)(error).into());
    }
    Ok(key.public().fingerprint())
}
