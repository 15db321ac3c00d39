//! pull: a publication as a database on this machine.
//!
//! Files appear under names that nothing refers to yet, each checked against the signed list. The manifest comes last:
//! until then the database is what it was. A pull that is cut short is gone on with by the next. List, signature and
//! key stay beside the copy, so that it can be checked again, here and without the remote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::check::{check_manifest, check_names};
use super::copy::{STATE, State, is_ours_or_empty, read_state};
use super::error::PublicationError;
use super::list::{self, CARD, MOST_BYTES, MOST_CARD, Publication};
use super::offer::{PullSettings, Trusted, admissible, check_card, check_index, is_a_copy, small, trusted};
use super::remote::{Remote, blocking};
use crate::store::checksum::sha256;
use crate::store::layout::manifest_name;
use crate::store::lock::Lock;
use crate::store::maintenance::{self, Keep};
use crate::store::{Database, DatabaseFiles, FileEntry, Location, StoreError, Task, atomic};

/// Files fetched at once.
const AT_ONCE: usize = 4;
/// Snapshots that stay readable in the folder.
const SNAPSHOTS: usize = 2;
/// For how long a snapshot stays readable after the next one came: a scan of a whole database may take hours.
const READERS: Duration = Duration::from_hours(24);

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

/// Brings the publication of a remote into a folder. `progress` gets (bytes done, bytes in all).
pub async fn pull(
    remote: &Remote,
    folder: &Path,
    settings: &PullSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Pulled, PublicationError> {
    let files = DatabaseFiles::open(Location::from(folder))?;
    // Before anything is written, be it a lock.
    is_ours_or_empty(&files)?;
    std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
    let _lock = Lock::acquire(&files, Task::Maintenance)?;
    let state = read_state(&files)?;
    let latest_version = files.generations()?.pop();
    let latest = latest_version.map(|g| files.manifest(g)).transpose()?.flatten();
    let latest_sha256 = latest.as_deref().map(sha256);
    is_a_copy(&files, latest_sha256.as_deref(), state.as_ref(), settings)?;

    let there = remote.versions()?;
    let chosen = settings.version.map_or_else(|| there.last().copied(), |v| there.contains(&v).then_some(v));
    let Some(version) = chosen else {
        return Err(PublicationError::Nothing {
            place: remote.place().to_owned(),
            version: settings.version,
            there,
        });
    };
    let Trusted { publication, key, key_is_new, own } =
        trusted(remote, version, state.as_ref(), settings).await?;
    // Of a pull that never came to its end there is nothing to be held against.
    let before = state.as_ref().filter(|_| latest.is_some());
    admissible(remote, folder, &publication, before, settings)?;
    check_names(&publication)?;

    let text = small(remote, &publication.manifest, MOST_BYTES).await?;
    let manifest = check_manifest(&files, &publication, &text)?;
    if !settings.any_index {
        check_index(remote, &manifest, version).await?;
    }
    let card = small(remote, &publication.card, MOST_CARD).await?;
    check_card(remote, &publication, &card, &key, &there, settings).await?;

    let pulled = State {
        from: remote.place().to_owned(),
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
    stream::iter(missing.iter().map(|entry| fetch(remote, &files, entry)))
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

/// Removes the lists of snapshots that are not here any more.
fn forget_lists(files: &DatabaseFiles) -> Result<(), StoreError> {
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

/// The files that are not here yet, or not as they are published: every one is read.
async fn missing(
    files: &DatabaseFiles,
    publication: &Publication,
) -> Result<Vec<FileEntry>, PublicationError> {
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
async fn fetch(remote: &Remote, files: &DatabaseFiles, entry: &FileEntry) -> Result<u64, PublicationError> {
    let path = files.folder().join(&entry.file);
    let parent = path.parent().unwrap_or(files.folder()).to_owned();
    let temporary = atomic::temporary_file(&parent)?;
    let file = temporary.as_file().try_clone().map_err(StoreError::io(&path))?;
    remote.fetch(entry, file).await.map_err(|error| match error {
        PublicationError::Store(StoreError::Damaged { what, .. }) => {
            PublicationError::Tampered { file: entry.file.clone(), what }
        }
        other => other,
    })?;
    let entry = entry.clone();
    let placed = blocking({
        let entry = entry.clone();
        move || atomic::place_checked(temporary, &entry, &path)
    });
    placed.await.map_err(|error| match error {
        StoreError::Damaged { what, .. } => PublicationError::Tampered { file: entry.file.clone(), what },
        other => other.into(),
    })?;
    Ok(entry.bytes)
}
