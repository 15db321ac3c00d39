//! Datasets that clients write: content-addressed objects, and one log of commits a repository.
//!
//! ```text
//! write.folder/
//!   write.lock                    held by the server that writes here
//!   objects/5b/5b3f...            a file's content under its SHA-256
//!   datasets/ORG/NAME.json        every commit: what it added, what it removed
//! ```
//!
//! An object is synced and renamed into place before a commit may name it; a log is replaced by a
//! synced file in one rename. So whatever instant the process dies at, the last commit stands, and
//! what is left over is content that nothing names. Nothing is ever removed: old revisions stay
//! readable. Content is shared by all repositories; whoever may write and knows the SHA-256 of a
//! content can name it in a commit, and so read it.

mod apply;
mod log;
mod objects;
mod store;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use objects::Objects;
use serde_json::{Value, json};

use super::catalogue::{Blob, Repo, RepoFile, card_tags, folder_ids, front_matter, lfs_named, object_id};
use super::text::timestamp;
pub(crate) use apply::{Operation, check_path};
pub(crate) use log::{Commit, Log, Stored};
pub use store::WriteError;
pub(crate) use store::{Draft, Store, USER};

/// Cards beyond this size are not read.
const MAX_CARD: u64 = 8 << 20;

/// A repository's commits, and where the content is.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) log: Log,
    objects: Objects,
}

impl Written {
    /// The repository at its head.
    fn head(log: Log, objects: Objects) -> Option<Repo> {
        let sha = log.head()?.sha.clone();
        Arc::new(Self { log, objects }).revision(&sha)
    }

    /// The repository as the commit of this full sha left it.
    pub(crate) fn revision(self: &Arc<Self>, sha: &str) -> Option<Repo> {
        let log = &self.log;
        let commit = log.find(sha)?;
        let files: Vec<RepoFile> =
            log.files_at(sha).into_iter().map(|(path, stored)| self.file(path, stored)).collect();
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
            written: Some(Arc::clone(self)),
            ..Repo::default()
        })
    }

    fn file(&self, path: &str, stored: &Stored) -> RepoFile {
        let blob = match &stored.git {
            Some(oid) => Blob { oid: oid.clone(), lfs: None },
            None => lfs_named(stored.sha256.clone(), stored.size),
        };
        let location = self.objects.path(&stored.sha256);
        RepoFile { path: path.to_owned(), location, size: stored.size, blob }
    }

    /// The file under LFS that the CDN knows as `xet_hash`, of whatever revision.
    fn content(&self, xet_hash: &str) -> Option<RepoFile> {
        let added = self.log.commits.iter().rev().flat_map(|commit| &commit.added);
        let under_lfs = added.filter(|(_, stored)| stored.git.is_none());
        under_lfs.map(|(path, stored)| self.file(path, stored)).find(|file| file.is_content(xet_hash))
    }

    /// The latest commit up to `sha` that touched a file, or a file of a folder.
    pub(crate) fn last_touch(&self, sha: &str, path: &str) -> Option<&Commit> {
        self.log.up_to(sha).iter().rev().find(|commit| commit.touches(path))
    }
}

impl Commit {
    /// As an entry of a tree shows it.
    pub(crate) fn brief(&self) -> Value {
        json!({ "id": self.sha, "title": self.title, "date": timestamp(self.date) })
    }
}

fn start(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_CARD).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
