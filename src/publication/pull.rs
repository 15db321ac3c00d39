//! pull: a publication as a database on this machine.
//!
//! Files appear under names that nothing refers to yet, each checked against the signed list. The manifest comes last:
//! until then the database is what it was. A pull that is cut short is gone on with by the next. List, signature and
//! key stay beside the copy, so that it can be checked again, here and without the shelf.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list::{self, CARD, MARKER, MARKER_TEXT, MOST_BYTES, PublicKey, Publication};
use super::remote::{Shelf, ShelfError, blocking, is_leftover};
use crate::retrieval::metadata::{METADATA, MOST_METADATA, check_version};
use crate::store::files::manifest_name;
use crate::store::lock::Lock;
use crate::store::maintenance::{self, Keep};
use crate::store::manifest::Manifest;
use crate::store::{Database, FileEntry, Files, Location, StoreError, Task, atomic};

/// What is known of the publication that a folder is a copy of.
const STATE: &str = "pulled.json";
/// Files fetched at once.
const AT_ONCE: usize = 4;
/// Longest signature and longest key file.
const SMALL: u64 = 4096;
/// Longest card.
const MOST_CARD: u64 = 1 << 20;
/// Snapshots that stay readable in the folder.
const SNAPSHOTS: usize = 2;
/// For how long a snapshot stays readable after the next one came: a scan of a whole database may take hours.
const READERS: Duration = Duration::from_hours(24);

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

/// What a pull did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Pulled {
    /// The publication.
    pub version: u64,
    /// The one that was here before.
    pub before: Option<u64>,
    /// When it was published.
    pub published_at: chrono::DateTime<chrono::Utc>,
    /// Fingerprint of the key.
    pub key: String,
    /// Whether that key was trusted for the first time, because it came along.
    pub key_is_new: bool,
    /// Files of the publication.
    pub files: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Files that were fetched.
    pub files_fetched: usize,
    /// Bytes of these.
    pub bytes_fetched: u64,
}

/// `pulled.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    from: String,
    database: String,
    version: u64,
    key: String,
    /// SHA-256 of the manifest.
    manifest: String,
    /// That of the one before, which is still the latest if the pull ended before it wrote its own.
    before: Option<String>,
}

/// Brings the publication of a shelf into a folder. `progress` gets (bytes done, bytes in all).
pub async fn pull(
    shelf: &Shelf,
    folder: &Path,
    settings: &PullSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Pulled, ShelfError> {
    let files = Files::open(Location::from(folder))?;
    // Before anything is written, be it a lock.
    is_ours_or_empty(&files)?;
    std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
    let _lock = Lock::acquire(&files, Task::Maintenance)?;
    let state = read_state(&files)?;
    let latest_version = files.generations()?.pop();
    let latest = latest_version.map(|g| files.manifest(g)).transpose()?.flatten();
    let latest_sha256 = latest.as_deref().map(atomic::sha256);
    is_a_copy(&files, latest_sha256.as_deref(), state.as_ref(), settings)?;

    let there = shelf.versions()?;
    let chosen = settings.version.map_or_else(|| there.last().copied(), |v| there.contains(&v).then_some(v));
    let Some(version) = chosen else {
        return Err(ShelfError::Nothing {
            place: shelf.place().to_owned(),
            version: settings.version,
            there,
        });
    };
    let Trusted { publication, key, key_is_new, own } =
        trusted(shelf, version, state.as_ref(), settings).await?;
    // Of a pull that never came to its end there is nothing to be held against.
    let before = state.as_ref().filter(|_| latest.is_some());
    admissible(shelf, folder, &publication, before, settings)?;
    check_names(&publication)?;

    let text = small(shelf, &publication.manifest, MOST_BYTES).await?;
    let manifest = check_manifest(&files, &publication, &text)?;
    if !settings.any_index {
        check_index(shelf, &manifest, version).await?;
    }
    let card = small(shelf, &publication.card, MOST_CARD).await?;
    check_card(shelf, &publication, &card, &key, &there, settings).await?;

    let pulled = State {
        from: shelf.place().to_owned(),
        database: publication.database.clone(),
        version,
        key: key.to_pem()?,
        manifest: publication.manifest.sha256.clone(),
        before: latest_sha256,
    };
    let pulled = serde_json::to_vec_pretty(&pulled).map_err(StoreError::damaged(folder))?;
    if state.is_none() {
        // From here on the folder is known as ours.
        files.put(STATE, &pulled)?;
    }
    let missing = missing(&files, &publication).await?;
    let all = publication.files.iter().map(|entry| entry.bytes).sum();
    let bytes_fetched: u64 = missing.iter().map(|entry| entry.bytes).sum();
    let done = std::sync::atomic::AtomicU64::new(all - bytes_fetched);
    progress(all - bytes_fetched, all);
    stream::iter(missing.iter().map(|entry| fetch(shelf, &files, entry)))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|bytes| {
            progress(done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes, all);
            std::future::ready(Ok(()))
        })
        .await?;

    files.put(&publication.card.file, &card)?;
    for (name, text) in &own {
        files.put(name, text)?;
    }
    files.put(CARD, &card)?;
    // Before the manifest: a pull that dies between the two is then one that is not finished, of a database that is ours.
    files.put(STATE, &pulled)?;
    // The commit. A manifest of the same number and another text is of another database. One that is there stays as it
    // is, with the time at which it came.
    if files.manifest(version)?.as_deref() != Some(&text) {
        files.put(&manifest_name(version), &text)?;
    }
    let other = state.as_ref().is_some_and(|state| state.database != publication.database);
    let stale = files.generations()?.into_iter().filter(|g| *g > version || (other && *g != version));
    for generation in stale {
        files.remove(&manifest_name(generation))?;
    }
    maintenance::vacuum(&Database::open(folder)?, Keep { latest: SNAPSHOTS, younger: READERS }, false)?;
    forget_lists(&files)?;
    Ok(Pulled {
        version,
        before: latest_version,
        published_at: publication.published_at,
        key: key.fingerprint(),
        key_is_new,
        files: publication.files.len(),
        bytes: all,
        files_fetched: missing.len(),
        bytes_fetched,
    })
}

fn read_state(files: &Files) -> Result<Option<State>, StoreError> {
    let path = files.folder().join(STATE);
    files
        .get(STATE)?
        .map(|text| serde_json::from_slice(&text).map_err(StoreError::damaged(&path)))
        .transpose()
}

/// Whether a folder is a copy, or free to become one.
fn is_ours_or_empty(files: &Files) -> Result<(), ShelfError> {
    if read_state(files)?.is_some() {
        return Ok(());
    }
    let folder = files.folder().display().to_string();
    if !files.generations()?.is_empty() {
        return Err(ShelfError::NotACopy { folder });
    }
    match files.stranger(is_leftover)? {
        None => Ok(()),
        Some(file) => Err(ShelfError::Foreign { place: folder, expected: "a copy of a publication", file }),
    }
}

/// Removes the lists of snapshots that are not here any more.
fn forget_lists(files: &Files) -> Result<(), StoreError> {
    let here: BTreeSet<u64> = files.generations()?.into_iter().collect();
    let lists = files.list(list::FOLDER)?;
    for version in lists.iter().filter_map(|p| list::version_of(&p.file)) {
        if !here.contains(&version) {
            files.remove(&list::card_name(version))?;
            // The list itself last: as long as it is there, the others are looked for.
            for name in list::names(version).iter().rev() {
                files.remove(name)?;
            }
        }
    }
    Ok(())
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
pub fn verify_copy(files: &Files) -> Result<Option<Copy>, ShelfError> {
    if files.bucket().is_some() {
        return Ok(None);
    }
    let Some(state) = read_state(files)? else { return Ok(None) };
    let key = PublicKey::from_pem(&state.key, STATE)?;
    let missing = |file: &str| ShelfError::Tampered { file: file.to_owned(), what: "it is not there".into() };
    let read = |file: &str, most| files.get_bounded(file, most)?.ok_or_else(|| missing(file));
    let checked = |entry: &FileEntry, most| same(entry, read(&entry.file, most)?);
    let version = files.generations()?.pop().ok_or_else(|| missing(&manifest_name(state.version)))?;
    let verified = |version: u64| -> Result<Publication, ShelfError> {
        let list = read(&list::name(version), MOST_BYTES)?;
        let signature = read(&list::signature_name(version), SMALL)?;
        Ok(Publication::verified(&list, &signature, &key, version)?)
    };
    let unfinished = (version != state.version).then_some(state.version);
    let manifest = atomic::sha256(&read(&manifest_name(version), MOST_BYTES)?);
    if unfinished.is_some() && state.before != Some(manifest) {
        return Err(ShelfError::NotACopy { folder: files.folder().display().to_string() });
    }
    let publication = verified(version)?;
    check_names(&publication)?;
    let name = list::key_name(version);
    if read(&name, SMALL)? != key.to_pem()?.into_bytes() {
        return Err(ShelfError::Tampered { file: name, what: "it is not the key that is trusted".into() });
    }
    check_manifest(files, &publication, &checked(&publication.manifest, MOST_BYTES)?)?;
    checked(&publication.card, MOST_CARD)?;
    // Of a pull that died before its last steps it is the next one's already, whose list is here by then.
    let card = atomic::sha256(&read(CARD, MOST_CARD)?);
    let lists = files.list(list::FOLDER)?;
    let mut signed = lists.iter().filter_map(|p| verified(list::version_of(&p.file)?).ok());
    if !signed.any(|publication| publication.card.sha256 == card) {
        let what = "it is not the card of the publication".to_owned();
        return Err(ShelfError::Tampered { file: CARD.into(), what });
    }
    Ok(Some(Copy { version, key: key.fingerprint(), unfinished }))
}

/// Whether a folder holds nothing but what was pulled: commits of its own would be lost.
fn is_a_copy(
    files: &Files,
    latest: Option<&str>,
    state: Option<&State>,
    settings: &PullSettings,
) -> Result<(), ShelfError> {
    let Some(latest) = latest else { return Ok(()) };
    let is_pulled = |state: &State| {
        settings.replace || state.manifest == latest || state.before.as_deref() == Some(latest)
    };
    let folder = files.folder().display().to_string();
    match state {
        Some(state) if is_pulled(state) => Ok(()),
        Some(_) => Err(ShelfError::ChangedCopy { folder }),
        None => Err(ShelfError::NotACopy { folder }),
    }
}

/// Whether the card that the Hub shows is the signed one: of the latest publication, or, while that is being made, of
/// the one before.
async fn check_card(
    shelf: &Shelf,
    publication: &Publication,
    card: &[u8],
    key: &PublicKey,
    there: &[u64],
    settings: &PullSettings,
) -> Result<(), ShelfError> {
    if shelf.read(MARKER, SMALL).await?.as_deref() != Some(MARKER_TEXT) {
        let what = "it is not there, or says something else".to_owned();
        return Err(ShelfError::Tampered { file: MARKER.into(), what });
    }
    if settings.version.is_some_and(|version| there.last() != Some(&version)) {
        return Ok(());
    }
    let shown = shelf.read(CARD, MOST_CARD).await?;
    if shown.as_deref() == Some(card) {
        return Ok(());
    }
    let before = there.iter().rev().find(|version| **version < publication.version).copied();
    if let (Some(version), Some(shown)) = (before, shown)
        && let Some(text) = shelf.read(&list::name(version), MOST_BYTES).await?
        && let Some(signature) = shelf.read(&list::signature_name(version), SMALL).await?
        && let Ok(before) = Publication::verified(&text, &signature, key, version)
        && before.card.sha256 == atomic::sha256(&shown)
    {
        return Ok(());
    }
    let what = "it is not the card of the latest publication".to_owned();
    Err(ShelfError::Tampered { file: CARD.into(), what })
}

/// A publication whose signature was checked with a key that is trusted.
struct Trusted {
    publication: Publication,
    key: PublicKey,
    /// Whether the key is trusted for the first time, because it came along.
    key_is_new: bool,
    /// Key, signature and list as they were read, in the order in which they are written.
    own: [(String, Vec<u8>); 3],
}

async fn trusted(
    shelf: &Shelf,
    version: u64,
    state: Option<&State>,
    settings: &PullSettings,
) -> Result<Trusted, ShelfError> {
    let missing = |file: String| ShelfError::Tampered { file, what: "it is not there".into() };
    let read = async |name: String, most| shelf.read(&name, most).await?.ok_or_else(|| missing(name));
    let text = read(list::name(version), MOST_BYTES).await?;
    let signature = read(list::signature_name(version), SMALL).await?;
    let offered = read(list::key_name(version), SMALL).await?;
    let name = list::key_name(version);
    let key = PublicKey::from_pem(&String::from_utf8_lossy(&offered), &name)?;
    if key.to_pem()?.as_bytes() != offered {
        let what = "it is a key, and not written as one is published".to_owned();
        return Err(ShelfError::Tampered { file: name, what });
    }
    let offered = key;
    let pinned = state.map(|state| PublicKey::from_pem(&state.key, STATE)).transpose()?;
    let foreign = |trusted: &PublicKey, offered: &PublicKey| ShelfError::ForeignKey {
        place: shelf.place().to_owned(),
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
fn admissible(
    shelf: &Shelf,
    folder: &Path,
    publication: &Publication,
    state: Option<&State>,
    settings: &PullSettings,
) -> Result<(), ShelfError> {
    let Some(state) = state else { return Ok(()) };
    if state.database != publication.database {
        return if settings.replace {
            Ok(())
        } else {
            Err(ShelfError::OtherDatabase {
                place: shelf.place().to_owned(),
                offered: publication.database.clone(),
                folder: folder.display().to_string(),
                here: state.database.clone(),
            })
        };
    }
    if publication.version < state.version && !settings.accept_rollback {
        let (offered, here) = (publication.version, state.version);
        return Err(ShelfError::Rollback { place: shelf.place().to_owned(), offered, here });
    }
    if publication.version == state.version
        && publication.manifest.sha256 != state.manifest
        && !settings.replace
    {
        return Err(ShelfError::SameVersion {
            place: shelf.place().to_owned(),
            version: publication.version,
            other: folder.display().to_string(),
        });
    }
    Ok(())
}

/// A signed list is trusted, and yet it can only name the places of files of a database.
fn check_names(publication: &Publication) -> Result<(), ShelfError> {
    let wrong = |entry: &FileEntry| ShelfError::Tampered {
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

/// The files that are not here yet, or not as they are published: every one is read.
async fn missing(files: &Files, publication: &Publication) -> Result<Vec<FileEntry>, ShelfError> {
    let (files, entries) = (files.clone(), publication.files.clone());
    let missing = blocking(move || {
        let missing = entries.into_par_iter().filter(|entry| {
            let path = files.folder().join(&entry.file);
            entry.verify_length(&path).is_err() || entry.verify(&path).is_err()
        });
        let by_name = missing.map(|entry| (entry.file.clone(), entry));
        Ok(by_name.collect::<BTreeMap<String, FileEntry>>())
    });
    Ok(missing.await?.into_values().collect())
}

/// Fetches one file, checks it, and puts it into its place; returns its bytes.
async fn fetch(shelf: &Shelf, files: &Files, entry: &FileEntry) -> Result<u64, ShelfError> {
    let path = files.folder().join(&entry.file);
    let parent = path.parent().unwrap_or(files.folder()).to_owned();
    let temporary = atomic::temporary_file(&parent)?;
    let file = temporary.as_file().try_clone().map_err(StoreError::io(&path))?;
    shelf.fetch(entry, file).await.map_err(|error| match error {
        ShelfError::Store(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            ShelfError::Tampered { file: entry.file.clone(), what: "it is not there".into() }
        }
        ShelfError::Store(StoreError::Damaged { what, .. }) => {
            ShelfError::Tampered { file: entry.file.clone(), what }
        }
        other => other,
    })?;
    let entry = entry.clone();
    let placed = blocking({
        let entry = entry.clone();
        move || atomic::place_checked(temporary, &entry, &path)
    });
    placed.await.map_err(|error| match error {
        StoreError::Damaged { what, .. } => ShelfError::Tampered { file: entry.file.clone(), what },
        other => other.into(),
    })?;
    Ok(entry.bytes)
}

/// A small file, checked.
async fn small(shelf: &Shelf, entry: &FileEntry, most: u64) -> Result<Vec<u8>, ShelfError> {
    let tampered = |what: String| ShelfError::Tampered { file: entry.file.clone(), what };
    let text = shelf.read(&entry.file, most).await?.ok_or_else(|| tampered("it is not there".into()))?;
    same(entry, text)
}

/// A text, if it is the one that is stated.
fn same(entry: &FileEntry, text: Vec<u8>) -> Result<Vec<u8>, ShelfError> {
    match entry.is(entry.file.as_ref(), text.len() as u64, &atomic::sha256(&text)) {
        Ok(()) => Ok(text),
        Err(StoreError::Damaged { what, .. }) => Err(ShelfError::Tampered { file: entry.file.clone(), what }),
        Err(other) => Err(other.into()),
    }
}

/// Whether a manifest is one of the publication's database, and names its files and no others.
fn check_manifest(files: &Files, publication: &Publication, text: &[u8]) -> Result<Manifest, ShelfError> {
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
        return Err(ShelfError::Tampered { file, what });
    }
    Ok(manifest)
}

/// Whether scans will be able to use the index of a publication, before any of it is fetched.
async fn check_index(shelf: &Shelf, manifest: &Manifest, version: u64) -> Result<(), ShelfError> {
    let Some(entry) = manifest.index.as_ref().and_then(|index| index.files.get(METADATA)) else {
        return Ok(());
    };
    let metadata = small(shelf, entry, MOST_METADATA).await?;
    check_version(&metadata, entry.file.as_ref()).map_err(|source| ShelfError::OtherIndex {
        place: shelf.place().to_owned(),
        version,
        source,
    })
}
