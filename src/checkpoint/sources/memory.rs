//! Repositories in memory: what tests and embedders read without a network or a disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};
use sha2::{Digest, Sha256};

use crate::checkpoint::error::ReadError;
use crate::checkpoint::source::{OpenFile, RepoFiles, Source};
use crate::hub::{HubError, ListQuery, Missing, Page, RepoEntry, RepoId, RepoRef};
use crate::store::checksum::hex;

/// The only revision of a repository in memory.
const REVISION: &str = "main";

/// Repositories by name, each with one commit.
#[derive(Clone, Debug, Default)]
pub struct MemorySource(BTreeMap<RepoId, Arc<MemoryFiles>>);

/// The files of one repository.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    names: Vec<String>,
    contents: BTreeMap<String, (Bytes, String)>,
}

impl MemoryFiles {
    /// Files by path.
    pub fn new(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let with_digest = |(path, content): (String, Bytes)| {
            let sha256 = hex(&Sha256::digest(&content));
            (path, (content, sha256))
        };
        let contents: BTreeMap<_, _> = files.into_iter().map(with_digest).collect();
        Self { names: contents.keys().cloned().collect(), contents }
    }

    /// As a commit names it: equal files have one.
    fn commit(&self) -> String {
        let mut hasher = Sha256::new();
        for (path, (_, sha256)) in &self.contents {
            hasher.update(path.as_bytes());
            hasher.update(sha256.as_bytes());
        }
        hex(&hasher.finalize()).chars().take(40).collect()
    }

    fn content(&self, path: &str) -> Result<&(Bytes, String), ReadError> {
        let missing = || ReadError::Io { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
        self.contents.get(path).ok_or_else(missing)
    }
}

impl MemorySource {
    /// Adds a repository, or replaces it.
    pub fn insert(&mut self, id: RepoId, files: MemoryFiles) {
        self.0.insert(id, Arc::new(files));
    }

    fn entry(&self, id: &RepoId) -> Option<RepoEntry> {
        let files = self.0.get(id)?;
        let siblings = Some(files.names.clone());
        Some(RepoEntry { sha: Some(files.commit()), siblings, ..RepoEntry::named(id.clone()) })
    }
}

impl Source for MemorySource {
    /// In the order of their names; filters are the Hub's affair, and say nothing here.
    fn list(&self, query: ListQuery) -> BoxStream<'_, Result<Page, HubError>> {
        let by_owner = |id: &&RepoId| query.author.is_none() || query.author.as_deref() == id.owner();
        let entries: Vec<RepoEntry> =
            self.0.keys().filter(by_owner).filter_map(|id| self.entry(id)).collect();
        let pages: Vec<Page> = entries
            .chunks(query.page_size.max(1) as usize)
            .map(|page| Page { repos: page.to_vec(), rejected: Vec::new(), cursor: None, next: None })
            .collect();
        stream::iter(pages).map(Ok).boxed()
    }

    fn info<'a>(&'a self, repo: &'a RepoRef) -> BoxFuture<'a, Result<RepoEntry, HubError>> {
        let missing = |what| HubError::not_found(format!("{} (in memory)", repo.id), what);
        async move {
            let entry = self.entry(&repo.id).ok_or_else(|| missing(Missing::Repo))?;
            let is_there = |revision: &str| revision == REVISION || entry.sha.as_deref() == Some(revision);
            match repo.revision.as_deref() {
                Some(revision) if !is_there(revision) => Err(missing(Missing::Revision)),
                _ => Ok(entry),
            }
        }
        .boxed()
    }

    fn files(&self, id: &RepoId, commit: &str, names: Vec<String>) -> Arc<dyn RepoFiles> {
        let files = self.0.get(id).filter(|files| files.commit() == commit).map(Arc::clone);
        let missing = MemoryFiles { names, contents: BTreeMap::new() };
        files.unwrap_or_else(|| Arc::new(missing))
    }
}

impl RepoFiles for MemoryFiles {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn small<'a>(&'a self, path: &'a str, cap: u64) -> BoxFuture<'a, Result<Bytes, ReadError>> {
        async move {
            let (content, _) = self.content(path)?;
            let size = content.len() as u64;
            if size > cap {
                return Err(ReadError::TooLarge { path: path.to_owned(), size, cap });
            }
            Ok(content.clone())
        }
        .boxed()
    }

    fn open<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn OpenFile>, ReadError>> {
        async move {
            let (content, sha256) = self.content(path)?.clone();
            Ok(Box::new(MemoryFile { path: path.to_owned(), content, sha256 }) as Box<dyn OpenFile>)
        }
        .boxed()
    }
}

struct MemoryFile {
    path: String,
    content: Bytes,
    sha256: String,
}

impl OpenFile for MemoryFile {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn sha256(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn content_id(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn range(&self, bytes: Range<u64>) -> BoxFuture<'_, Result<Bytes, ReadError>> {
        async move {
            let range = usize::try_from(bytes.start).ok().zip(usize::try_from(bytes.end).ok());
            let found = range.filter(|(start, end)| start <= end && *end <= self.content.len());
            let past_end = || ReadError::Io {
                path: self.path.clone(),
                source: std::io::ErrorKind::UnexpectedEof.into(),
            };
            found.map(|(start, end)| self.content.slice(start..end)).ok_or_else(past_end)
        }
        .boxed()
    }
}
