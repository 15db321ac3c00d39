//! The models of the folder, as an immutable snapshot.
//!
//! A scan builds a new `Catalogue`; requests hold on to the one they started with. Files are found
//! by looking their path up in this table and never by joining paths, so no request can leave the
//! folder.

mod card;
mod describe;
mod digest;
mod overrides;
mod repo;
mod scan;
mod walk;
mod weights;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use digest::{DigestCache, pointer};
pub(crate) use repo::{Bases, Gated, Repo, RepoFile};
pub use scan::ScanError;
pub(crate) use scan::{object_id, scan};

#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) repos: Vec<Arc<Repo>>,
    /// Lower-case id to position.
    by_id: HashMap<String, usize>,
    by_object_id: HashMap<String, usize>,
    /// Lower-case former id to present id.
    renames: HashMap<String, String>,
}

/// What a name leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Repo(Arc<Repo>),
    /// The repository goes by another name or another spelling.
    Renamed(Arc<Repo>),
    Nothing,
}

impl Catalogue {
    /// Former names that are in use again, or lead nowhere, are dropped.
    fn new(repos: Vec<Repo>, renames: impl IntoIterator<Item = (String, String)>) -> Self {
        let repos: Vec<Arc<Repo>> = repos.into_iter().map(Arc::new).collect();
        let index = |key: fn(&Repo) -> String| repos.iter().enumerate().map(|(i, r)| (key(r), i)).collect();
        let by_id: HashMap<String, usize> = index(|repo| repo.id.to_lowercase());
        let by_object_id = index(|repo| repo.object_id.clone());
        let renames = renames
            .into_iter()
            .map(|(old, new)| (old.to_lowercase(), new))
            .filter(|(old, new)| !by_id.contains_key(old) && by_id.contains_key(&new.to_lowercase()))
            .collect();
        Self { repos, by_id, by_object_id, renames }
    }

    pub(crate) fn find(&self, id: &str) -> Found {
        let key = id.to_lowercase();
        let key = self.renames.get(&key).map_or(key, |new| new.to_lowercase());
        match self.by_id.get(&key).and_then(|&i| self.repos.get(i)) {
            Some(repo) if repo.id == id => Found::Repo(Arc::clone(repo)),
            Some(repo) => Found::Renamed(Arc::clone(repo)),
            None => Found::Nothing,
        }
    }

    /// The repository of exactly this id.
    pub(crate) fn repo(&self, id: &str) -> Option<&Repo> {
        let repo = self.repos.get(*self.by_id.get(&id.to_lowercase())?)?;
        (repo.id == id).then_some(repo)
    }

    /// The file that the CDN knows as `xet_hash` of the repository `object_id`.
    pub(crate) fn content(&self, object_id: &str, xet_hash: &str) -> Option<(Arc<Repo>, usize)> {
        let repo = self.repos.get(*self.by_object_id.get(object_id)?)?;
        let is_it = |file: &RepoFile| file.blob.lfs.as_ref().is_some_and(|lfs| lfs.xet_hash == xet_hash);
        let at = repo.files.iter().position(is_it)?;
        Some((Arc::clone(repo), at))
    }
}
