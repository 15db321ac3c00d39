//! A repository as one of its commits left it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::log::{Log, Stored};
use super::objects::Objects;
use crate::local_hub::catalogue::{
    Blob, Repo, RepoFile, card_tags, folder_ids, front_matter, lfs_named, object_id,
};

/// Cards beyond this size are not read.
const MAX_CARD: u64 = 8 << 20;

/// The repository at its head.
pub(super) fn head(log: Log, objects: &Objects) -> Option<Repo> {
    let sha = log.head()?.sha.clone();
    at(&Arc::new(log), objects, &sha)
}

/// The repository as the commit of this full sha left it.
pub(super) fn at(log: &Arc<Log>, objects: &Objects, sha: &str) -> Option<Repo> {
    let commit = log.find(sha)?;
    let files: Vec<RepoFile> =
        log.files_at(sha).into_iter().map(|(path, stored)| file(objects, path, stored)).collect();
    let readme = files.iter().find(|file| file.path == "README.md");
    let card = readme.and_then(|file| start(&file.location).ok()).unwrap_or_default();
    let card = front_matter(&card);
    Some(Repo {
        id: log.id.clone(),
        object_id: object_id(&log.id, log.created),
        sha: commit.sha.clone(),
        created: log.created,
        modified: commit.date,
        private: log.private,
        tags: card_tags(&card),
        card,
        folders: folder_ids(&files),
        files: files.into(),
        log: Some(Arc::clone(log)),
        ..Repo::default()
    })
}

fn file(objects: &Objects, path: &str, stored: &Stored) -> RepoFile {
    let blob = match &stored.git {
        Some(oid) => Blob { oid: oid.clone(), lfs: None },
        None => lfs_named(stored.sha256.clone(), stored.size),
    };
    let location = objects.path(&stored.sha256);
    RepoFile { path: path.to_owned(), location, size: stored.size, blob }
}

/// The file under LFS that the CDN knows as `xet_hash`, of whatever revision.
pub(super) fn content(log: &Log, objects: &Objects, xet_hash: &str) -> Option<RepoFile> {
    let added = log.commits.iter().rev().flat_map(|commit| &commit.added);
    let under_lfs = added.filter(|(_, stored)| stored.git.is_none());
    under_lfs.map(|(path, stored)| file(objects, path, stored)).find(|file| file.is_content(xet_hash))
}

fn start(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_CARD).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
