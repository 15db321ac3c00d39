//! publish: onto a dataset of the Hub, through the hf-hub crate.
//!
//! Files go in several commits, so that one that is interrupted is gone on with behind the last; the signed list comes
//! in the last commit, together with what is removed. What goes over the wire, and how, is the crate's: large files by
//! Xet, which sends no block that the Hub has.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use hf_hub::HFClient;
use hf_hub::repository::CommitOperation;

use super::address::Address;
use super::error::PublicationError;
use super::list::{self, CARD, MOST_BYTES};
use super::plan::{Plan, Published, There, folders, plan, published};
use super::prepare::{Prepared, PublishSettings};
use super::remote::{Remote, blocking};
use crate::formats::text::without_queries;
use crate::hub::{Hub, HubErrorKind, RepoId};
use crate::store::checksum::sha256;
use crate::store::{Database, FileEntry};

/// Files in a commit; the Hub asks for less than a hundred.
const FILES_A_COMMIT: usize = 50;
/// Bytes in a commit, so that an interruption costs little.
const BYTES_A_COMMIT: u64 = 512 << 20;
/// Files whose digest is asked for at once.
const AT_ONCE: usize = 8;
/// What the Hub itself puts into a new dataset.
const HUBS_OWN: &str = ".gitattributes";

/// Publishes onto a dataset; makes it if it is not there. Without `execute` nothing is written. `progress` gets (bytes
/// done, bytes in all).
pub async fn publish_dataset(
    db: &Database,
    prepared: &Prepared,
    id: &RepoId,
    hub: &Hub,
    settings: &PublishSettings,
    execute: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Published, PublicationError> {
    let address = Address::Dataset(id.clone());
    let (there, head) = there(&address, prepared, hub).await?;
    let plan = plan(&address, prepared, &there, settings)?;
    if !execute {
        return Ok(published(prepared, &plan, false));
    }
    let failed = |error: hf_hub::HFError| PublicationError::Write {
        place: address.to_string(),
        what: without_queries(&error.to_string()),
    };
    let client = client(hub).map_err(failed)?;
    let Some(owner) = id.owner() else {
        let what = "a dataset that is written to has an owner".to_owned();
        return Err(PublicationError::Write { place: address.to_string(), what });
    };
    if head.is_none() {
        let name = format!("{owner}/{}", id.name());
        let made = client.create_repository().repo_id(&name).repo_type(hf_hub::RepoTypeDataset);
        made.private(settings.private).exist_ok(true).send().await.map_err(failed)?;
    }
    let dataset = client.dataset(owner, id.name());
    // Each commit is made on the one before: of two that publish at once, one fails.
    let mut parent = head;
    let commit = async |operations: Vec<CommitOperation>, message: String, parent: Option<String>| {
        let commit = dataset.create_commit().operations(operations).commit_message(message);
        commit.maybe_parent_commit(parent).send().await.map(|made| made.commit_oid).map_err(failed)
    };
    check_files(db, &plan.send).await?;
    let all: u64 = plan.send.iter().map(|entry| entry.bytes).sum();
    let mut done = 0;
    // With the first commit that there is, whichever that is.
    let mut marker = Vec::new();
    if !there.has_marker {
        marker.push(CommitOperation::add_bytes(list::MARKER, list::MARKER_TEXT));
    }
    for part in parts(&plan.send) {
        let mut operations = std::mem::take(&mut marker);
        for entry in part {
            operations.push(CommitOperation::add_file(entry.file.clone(), local(db, entry).await?));
        }
        let message = format!("Files of version {}", prepared.publication.version);
        parent = commit(operations, message, parent).await?;
        done += part.iter().map(|entry| entry.bytes).sum::<u64>();
        progress(done, all);
    }
    let mut last = marker;
    last.extend(last_commit(prepared, &plan, &there));
    if !last.is_empty() {
        commit(last, format!("Version {}", prepared.publication.version), parent).await?;
    }
    Ok(published(prepared, &plan, true))
}

/// What makes the publication visible, and what is not needed after it.
fn last_commit(prepared: &Prepared, plan: &Plan, there: &There) -> Vec<CommitOperation> {
    let mut operations = Vec::new();
    if !there.is_signed {
        for (name, text) in &prepared.own {
            operations.push(CommitOperation::add_bytes(name.clone(), text.clone()));
        }
    }
    if !there.is_signed || !there.has_card {
        operations.push(CommitOperation::add_bytes(CARD, prepared.card.clone()));
    }
    operations.extend(plan.remove.iter().map(|name| CommitOperation::delete(name.clone())));
    operations
}

/// What is there, and at which commit; `None` where there is no dataset.
async fn there(
    address: &Address,
    prepared: &Prepared,
    hub: &Hub,
) -> Result<(There, Option<String>), PublicationError> {
    let remote = match Remote::open(address, hub).await {
        Err(PublicationError::Hub(error)) if is_missing(error.kind()) => return Ok((There::default(), None)),
        remote => remote?,
    };
    let is_ours = |name: &&str| folders().any(|folder| name.split('/').next() == Some(folder));
    let names: BTreeSet<String> = remote.names().filter(is_ours).map(str::to_owned).collect();
    let marker = remote.read(list::MARKER, MOST_BYTES).await?;
    let mut there = There {
        has_marker: marker.as_deref() == Some(list::MARKER_TEXT),
        foreign: remote.names().find(|name| *name != HUBS_OWN).map(str::to_owned),
        same: same(&remote, &prepared.publication.files, &names, hub).await?,
        names,
        ..There::default()
    };
    // Small files, read beforehand: what looks at them does not wait.
    let mut small = std::collections::BTreeMap::new();
    for name in remote.names().filter(|name| {
        name.starts_with(list::FOLDER) || [CARD, &prepared.publication.manifest.file].contains(name)
    }) {
        small.insert(name.to_owned(), remote.read(name, MOST_BYTES).await?);
    }
    there.look_at(prepared, &mut |name| Ok(small.get(name).cloned().flatten()))?;
    Ok((there, remote.dataset().map(|(_, commit)| commit.to_owned())))
}

/// Those of the files that are there with the stated content, by the digests that the Hub states of large files. Of
/// what it keeps in git it states none, and that is small: it is read.
async fn same(
    remote: &Remote,
    files: &[FileEntry],
    names: &BTreeSet<String>,
    hub: &Hub,
) -> Result<BTreeSet<String>, PublicationError> {
    let Some((id, commit)) = remote.dataset() else { return Ok(BTreeSet::new()) };
    let there = files.iter().filter(|entry| names.contains(&entry.file));
    let looked = stream::iter(there.map(|entry| async move {
        let file = hub.open(id, commit, &entry.file).await?;
        let is_same = file.size() == entry.bytes
            && match file.sha256() {
                Some(sha256) => sha256 == entry.sha256,
                None => {
                    remote.read(&entry.file, entry.bytes).await?.is_some_and(|t| sha256(&t) == entry.sha256)
                }
            };
        Ok::<_, PublicationError>(is_same.then(|| entry.file.clone()))
    }));
    let same: Vec<_> = looked.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(same.into_iter().flatten().collect())
}

/// Checks files of the database before any of them is sent.
async fn check_files(db: &Database, entries: &[FileEntry]) -> Result<(), PublicationError> {
    let (files, entries) = (db.files().clone(), entries.to_vec());
    Ok(blocking(move || files.verify(entries.iter(), &|_, _| {})).await?)
}

/// Whether there may be no such dataset yet. Without a right to see it, making it fails with a better message.
fn is_missing(kind: &HubErrorKind) -> bool {
    matches!(kind, HubErrorKind::NotFound { .. } | HubErrorKind::Unauthorized { .. })
}

async fn local(db: &Database, entry: &FileEntry) -> Result<PathBuf, PublicationError> {
    let (files, entry) = (db.files().clone(), entry.clone());
    Ok(blocking(move || files.local(&entry)).await?)
}

fn parts(files: &[FileEntry]) -> Vec<&[FileEntry]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (i, entry) in files.iter().enumerate() {
        if i > begin && (i - begin == FILES_A_COMMIT || bytes + entry.bytes > BYTES_A_COMMIT) {
            parts.push(&files[begin..i]);
            (begin, bytes) = (i, 0);
        }
        bytes += entry.bytes;
    }
    if begin < files.len() {
        parts.push(&files[begin..]);
    }
    parts
}

/// The same Hub, with the same token.
fn client(hub: &Hub) -> Result<HFClient, hf_hub::HFError> {
    let settings = hub.settings();
    let builder = HFClient::builder().endpoint(settings.endpoint.as_str().trim_end_matches('/'));
    match &settings.token {
        Some(token) => builder.token(token.reveal()).build(),
        None => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_of_bounded_size() {
        let entry = |bytes| FileEntry { file: "x".into(), bytes, sha256: String::new() };
        let sizes = |files: &[FileEntry]| parts(files).iter().map(|p| p.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&vec![entry(1); 120]), [50, 50, 20]);
        assert_eq!(sizes(&vec![entry(200 << 20); 5]), [2, 2, 1]);
        assert_eq!(sizes(&vec![entry(3 << 30); 2]), [1, 1]);
        assert!(sizes(&[]).is_empty());
    }
}
