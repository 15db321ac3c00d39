//! Who is asking, and what they may see and download.

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use super::catalogue::{Catalogue, Found, Gated, Repo};
use super::refusal::Refusal;
use super::settings::Settings;

/// The sender of a request. A token that is not in the settings is as good as none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reader<'a> {
    Anonymous,
    Known { token: &'a str, grants: &'a [String] },
}

impl<'a> Reader<'a> {
    pub(crate) fn of(headers: &HeaderMap, settings: &'a Settings) -> Self {
        headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .and_then(|token| settings.tokens.get_key_value(token.trim()))
            .map_or(Self::Anonymous, |(token, grants)| Self::Known { token, grants })
    }

    fn may_read(self, id: &str) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Known { grants, .. } => grants.iter().any(|grant| grant == "*" || grant == id),
        }
    }

    /// Private repositories look as if they did not exist.
    pub(crate) fn may_see(self, repo: &Repo) -> bool {
        !repo.private || self.may_read(&repo.id)
    }

    /// Gated ones are seen by all and downloaded by few.
    pub(crate) fn pass_gate(self, repo: &Repo) -> Result<(), Refusal> {
        match self {
            _ if repo.gated == Gated::No || self.may_read(&repo.id) => Ok(()),
            Self::Anonymous => Err(Refusal::GatedAnonymous(repo.id.clone())),
            Self::Known { .. } => Err(Refusal::GatedForeign(repo.id.clone())),
        }
    }

    /// The repository of this name; `Renamed` carries the present name only.
    pub(crate) fn find(self, catalogue: &Catalogue, id: &str, with_code: bool) -> Result<Arc<Repo>, Refusal> {
        match catalogue.find(id) {
            Found::Repo(repo) if self.may_see(&repo) => Ok(repo),
            Found::Renamed(repo) if self.may_see(&repo) => Err(Refusal::Renamed { to: repo.id.clone() }),
            _ => Err(match self {
                Self::Anonymous => Refusal::Unauthenticated { with_code },
                Self::Known { .. } => Refusal::RepoNotFound,
            }),
        }
    }
}
