//! Who is asking, and what they may see and download.

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use super::catalogue::{Found, Gated, Repo};
use super::names::DATASETS;
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
            Self::Known { grants, .. } => {
                grants.iter().any(|grant| grant == "*" || grant == id) || self.may_write(id)
            }
        }
    }

    /// `write:*`, `write:org` and `write:org/name` stand among the grants of a token, and are about datasets.
    pub(crate) fn may_write(self, id: &str) -> bool {
        let (Self::Known { grants, .. }, Some(name)) = (self, id.strip_prefix(DATASETS)) else {
            return false;
        };
        let org = name.split_once('/').map(|(org, _)| org);
        let mut writable = grants.iter().filter_map(|grant| grant.strip_prefix("write:"));
        writable.any(|grant| grant == "*" || grant == name || Some(grant) == org)
    }

    /// Private repositories look as if they did not exist.
    pub(crate) fn may_see(self, repo: &Repo) -> bool {
        !repo.private || self.may_read(&repo.id)
    }

    /// Gated ones are seen by all and downloaded by few.
    pub(crate) fn pass_gate(self, repo: &Repo) -> Result<(), Refusal> {
        match self {
            _ if repo.gated == Gated::No || self.may_read(&repo.id) => Ok(()),
            Self::Anonymous => Err(Refusal::GatedAnonymous { spoken: repo.spoken() }),
            Self::Known { .. } => Err(Refusal::GatedForeign { spoken: repo.spoken(), id: repo.id.clone() }),
        }
    }

    /// The repository that was found, for those who may see it; `Renamed` carries the present name only.
    pub(crate) fn see(self, found: Found, with_code: bool) -> Result<Arc<Repo>, Refusal> {
        match found {
            Found::Repo(repo) if self.may_see(&repo) => Ok(repo),
            Found::Renamed(repo) if self.may_see(&repo) => Err(Refusal::Renamed { to: repo.id.clone() }),
            _ => Err(match self {
                Self::Anonymous => Refusal::Unauthenticated { with_code },
                Self::Known { .. } => Refusal::RepoNotFound,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_to_write() {
        let may =
            |grant: &str, id: &str| Reader::Known { token: "t", grants: &[grant.to_owned()] }.may_write(id);
        for grant in ["write:*", "write:acme", "write:acme/prints"] {
            assert!(may(grant, "datasets/acme/prints"), "{grant}");
            assert!(!may(grant, "acme/prints"), "{grant}: models are not written");
        }
        for grant in ["*", "acme", "datasets/acme/prints", "write:", "write:acm", "write:acme/print"] {
            assert!(!may(grant, "datasets/acme/prints"), "{grant}");
        }
        assert!(!may("write:", "datasets/prints"));
        assert!(!Reader::Anonymous.may_write("datasets/acme/prints"));
    }
}
