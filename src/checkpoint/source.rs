//! Where checkpoints are read from: a source of repositories, the files of one, and one open file.
//!
//! [`super::sources`] has the Hub over HTTP, the folder of the Hugging Face cache, and a twin in memory; one conformance
//! suite runs on all of them.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::error::ReadError;
use crate::hub::{HubError, ListQuery, Page, RepoEntry, RepoId, RepoRef};

/// A Hub of model repositories.
pub trait Source: Send + Sync {
    /// The repositories, page by page. Each that is there all the time comes once.
    fn list(&self, query: ListQuery) -> BoxStream<'_, Result<Page, HubError>>;

    /// One repository at a revision, with its commit and the names of its files.
    fn info<'a>(&'a self, repo: &'a RepoRef) -> BoxFuture<'a, Result<RepoEntry, HubError>>;

    /// The files of a repository at a commit, of these names: all as [`Source::list`] or [`Source::info`] said.
    fn files(&self, id: &RepoId, commit: &str, names: Vec<String>) -> Arc<dyn RepoFiles>;
}

/// The files of one repository at one commit, or of a folder.
pub trait RepoFiles: Send + Sync {
    /// Names of all files, with `/` between folders.
    fn names(&self) -> &[String];

    /// A small file, of at most `cap` bytes.
    fn small<'a>(&'a self, path: &'a str, cap: u64) -> BoxFuture<'a, Result<Bytes, ReadError>>;

    /// Opens a file for ranged reads.
    fn open<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn OpenFile>, ReadError>>;

    /// The folder, for files on this machine.
    fn folder(&self) -> Option<&Path> {
        None
    }
}

/// A file that is open for ranged reads.
pub trait OpenFile: Send + Sync {
    /// Its length, bytes.
    fn size(&self) -> u64;

    /// SHA-256 of its content where that is known without reading it, lower-case hex.
    fn sha256(&self) -> Option<&str>;

    /// What equal content has in common, where that is known without reading it.
    fn content_id(&self) -> Option<&str>;

    /// Exactly these bytes of it.
    fn range(&self, bytes: Range<u64>) -> BoxFuture<'_, Result<Bytes, ReadError>>;
}

impl fmt::Debug for dyn OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile").field("size", &self.size()).field("sha256", &self.sha256()).finish()
    }
}
