//! The models of the folder, as an immutable snapshot.
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
pub(crate) use digest::{DigestCache, pointer};
pub(crate) use made_up::{MadeUp, Numbers};
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
        let repos: Vec<Arc<Repo>> = repos.into_iter().map(Arc::new).collect();
        let index = |key: fn(&Repo) -> String| repos.iter().enumerate().map(|(i, r)| (key(r), i)).collect();
        let by_id: HashMap<String, usize> = index(|repo| repo.id.to_lowercase());
        let by_object_id = index(|repo| repo.object_id.clone());
        let renames = renames
            .into_iter()
            .map(|(old, new)| (old.to_lowercase(), new))
            .filter(|(old, new)| !by_id.contains_key(old) && by_id.contains_key(&new.to_lowercase()))
            .collect();
        Ok(Self { repos, by_id, by_object_id, renames, made_up })
    }

    pub(crate) fn find(&self, id: &str) -> Found {
        let key = id.to_lowercase();
        let key = self.renames.get(&key).map_or(key, |new| new.to_lowercase());
        match self.by_id.get(&key).and_then(|&i| self.repos.get(i)) {
            Some(repo) if repo.id == id => Found::Repo(Arc::clone(repo)),
            Some(repo) => Found::Renamed(Arc::clone(repo)),
            None => self.made_up.find(id),
        }
    }

    /// The repository of exactly this id.
    pub(crate) fn repo(&self, id: &str) -> Option<&Repo> {
        let repo = self.repos.get(*self.by_id.get(&id.to_lowercase())?)?;
        (repo.id == id).then_some(repo)
    }

    /// The file that the CDN knows as `xet_hash` of the repository `object_id`.
    pub(crate) fn content(&self, object_id: &str, xet_hash: &str) -> Option<(Arc<Repo>, usize)> {
        let Some(&at) = self.by_object_id.get(object_id) else {
            return self.made_up.content(object_id, xet_hash);
        };
        let repo = self.repos.get(at)?;
        Some((Arc::clone(repo), content_at(repo, xet_hash)?))
    }
}

/// Which file of a repository the CDN knows as `xet_hash`.
fn content_at(repo: &Repo, xet_hash: &str) -> Option<usize> {
    let is_it = |file: &RepoFile| file.blob.lfs.as_ref().is_some_and(|lfs| lfs.xet_hash == xet_hash);
    repo.files.iter().position(is_it)
}
