//! The repositories that one scan found, by name and by content.

use std::collections::HashMap;
use std::sync::Arc;

use super::made_up::MadeUp;
use super::repo::{Found, Repo, RepoFile};

/// What one scan found.
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

impl Catalogue {
    /// Former names that are in use again, or lead nowhere, are dropped.
    pub(super) fn new(
        repos: Vec<Repo>,
        renames: impl IntoIterator<Item = (String, String)>,
        made_up: MadeUp,
    ) -> Self {
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
        Self { repos, datasets, by_id, by_object_id, renames, made_up }
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
        repo.files.get(repo.content_at(xet_hash)?).cloned()
    }
}
