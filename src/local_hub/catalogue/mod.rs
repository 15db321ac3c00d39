//! The models and datasets of the folder, as an immutable snapshot.
//!
//! A scan builds a new `Catalogue`; requests hold on to the one they started with. Files are found
//! by looking their path up in this table and never by joining paths, so no request can leave the
//! folder.

mod card;
mod describe;
mod digest;
mod made_up;
mod overrides;
mod repo;
mod scan;
mod walk;
mod weights;

use std::collections::HashMap;
use std::sync::Arc;

use super::settings;
pub(crate) use card::front_matter;
pub(crate) use describe::card_tags;
pub(crate) use digest::{DigestCache, LFS_SUFFIXES, git_oid, goes_to_lfs, lfs_named, pointer};
pub(crate) use made_up::{MadeUp, Numbers};
pub(crate) use repo::{Bases, Blob, DATASETS, Gated, Repo, RepoFile, is_main};
pub use scan::ScanError;
pub(crate) use scan::{folder_ids, object_id, scan};

#[derive(Debug)]
pub(crate) struct Catalogue {
    /// Models, which are listed.
    pub(crate) repos: Vec<Arc<Repo>>,
    /// Datasets, which are not.
    datasets: Vec<Arc<Repo>>,
    /// Lower-case id to position, datasets behind the models.
    by_id: HashMap<String, usize>,
    by_object_id: HashMap<String, usize>,
    /// Lower-case former id to present id.
    renames: HashMap<String, String>,
    /// Served beside the folder's; those keep their names and contents.
    pub(crate) made_up: MadeUp,
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
    fn new(
        repos: Vec<Repo>,
        renames: impl IntoIterator<Item = (String, String)>,
        made_up: &settings::MadeUp,
    ) -> Result<Self, ScanError> {
        let template = made_up.template.as_ref().map(|id| {
            let missing = || ScanError::NoTemplate(id.clone());
            repos.iter().find(|repo| repo.id == *id).ok_or_else(missing)
        });
        let made_up = MadeUp::new(made_up.clone(), template.transpose()?);
        let (datasets, repos): (Vec<_>, Vec<_>) =
            repos.into_iter().map(Arc::new).partition(|repo| repo.is_dataset());
        let index = |key: fn(&Repo) -> String| {
            repos.iter().chain(&datasets).enumerate().map(|(i, repo)| (key(repo), i)).collect()
        };
        let by_id: HashMap<String, usize> = index(|repo| repo.id.to_lowercase());
        let by_object_id = index(|repo| repo.object_id.clone());
        let renames = renames
            .into_iter()
            .map(|(old, new)| (old.to_lowercase(), new))
            .filter(|(old, new)| !by_id.contains_key(old) && by_id.contains_key(&new.to_lowercase()))
            .collect();
        Ok(Self { repos, datasets, by_id, by_object_id, renames, made_up })
    }

    fn get(&self, at: usize) -> Option<&Arc<Repo>> {
        self.repos.get(at).or_else(|| self.datasets.get(at.checked_sub(self.repos.len())?))
    }

    pub(crate) fn find(&self, id: &str) -> Found {
        let key = id.to_lowercase();
        let key = self.renames.get(&key).map_or(key, |new| new.to_lowercase());
        match self.by_id.get(&key).and_then(|&i| self.get(i)) {
            Some(repo) if repo.id == id => Found::Repo(Arc::clone(repo)),
            Some(repo) => Found::Renamed(Arc::clone(repo)),
            None => self.made_up.find(id),
        }
    }

    /// The repository of exactly this id.
    pub(crate) fn repo(&self, id: &str) -> Option<&Repo> {
        let repo = self.get(*self.by_id.get(&id.to_lowercase())?)?;
        (repo.id == id).then_some(repo)
    }

    /// The file that the CDN knows as `xet_hash` of the repository `object_id`.
    pub(crate) fn content(&self, object_id: &str, xet_hash: &str) -> Option<RepoFile> {
        let Some(&at) = self.by_object_id.get(object_id) else {
            let (repo, at) = self.made_up.content(object_id, xet_hash)?;
            return repo.files.get(at).cloned();
        };
        let repo = self.get(at)?;
        repo.files.get(content_at(repo, xet_hash)?).cloned()
    }
}

/// Which file of a repository the CDN knows as `xet_hash`.
fn content_at(repo: &Repo, xet_hash: &str) -> Option<usize> {
    repo.files.iter().position(|file| file.is_content(xet_hash))
}
