//! Repositories of the Hub, over HTTP.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt};

use crate::checkpoint::error::ReadError;
use crate::checkpoint::source::{OpenFile, RepoFiles, Source};
use crate::hub::{Hub, HubError, ListQuery, Page, RemoteFile, RepoEntry, RepoId, RepoRef};

impl Source for Hub {
    fn list(&self, query: ListQuery) -> BoxStream<'_, Result<Page, HubError>> {
        self.list(query).boxed()
    }

    fn info<'a>(&'a self, repo: &'a RepoRef) -> BoxFuture<'a, Result<RepoEntry, HubError>> {
        self.info(&repo.id, repo.revision.as_deref()).boxed()
    }

    fn files(&self, id: &RepoId, commit: &str, names: Vec<String>) -> Arc<dyn RepoFiles> {
        Arc::new(HubFiles { hub: self.clone(), id: id.clone(), sha: commit.to_owned(), names })
    }
}

/// A repository at one commit.
struct HubFiles {
    hub: Hub,
    id: RepoId,
    sha: String,
    names: Vec<String>,
}

/// Names the file: the address of the CDN does not.
fn about(path: &str) -> impl FnOnce(HubError) -> ReadError {
    let path = path.to_owned();
    move |source| ReadError::Hub { path, source }
}

impl RepoFiles for HubFiles {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn small<'a>(&'a self, path: &'a str, cap: u64) -> BoxFuture<'a, Result<Bytes, ReadError>> {
        async move { self.hub.read_small(&self.id, &self.sha, path, cap).await.map_err(about(path)) }.boxed()
    }

    fn open<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Box<dyn OpenFile>, ReadError>> {
        async move {
            let file = self.hub.open(&self.id, &self.sha, path).await.map_err(about(path))?;
            Ok(Box::new(HubFile { hub: self.hub.clone(), file }) as Box<dyn OpenFile>)
        }
        .boxed()
    }
}

/// An open file of a repository.
struct HubFile {
    hub: Hub,
    file: RemoteFile,
}

impl OpenFile for HubFile {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn sha256(&self) -> Option<&str> {
        self.file.sha256()
    }

    fn content_id(&self) -> Option<&str> {
        self.file.content_id()
    }

    fn range(&self, bytes: Range<u64>) -> BoxFuture<'_, Result<Bytes, ReadError>> {
        async move { self.hub.read_range(&self.file, bytes).await.map_err(about(self.file.path())) }.boxed()
    }
}
