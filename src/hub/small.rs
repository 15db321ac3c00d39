//! Small files, whole: `config.json`, weight indexes, cards.
//!
//! With a commit in hand the Hub's cache route is asked directly, which costs one counted request
//! instead of two. Where that is refused the regular route is taken, and if that then serves the
//! same file from the Hub itself, the short cut is not tried on this endpoint again. A file that
//! turns out to be in LFS storage is read from the CDN all the same.

use bytes::Bytes;
use reqwest::Method;
use url::Url;

use super::{
    client::Hub,
    error::HubError,
    error_kind::{HubErrorKind, Missing},
    http::{Arrival, Ask},
    id::{RepoId, is_commit_sha},
    routes::Routes,
};

/// A body, and where on the Hub it came from; `None` for the CDN.
struct Fetched {
    body: Bytes,
    hub_url: Option<Url>,
}

impl Hub {
    /// Reads a whole file of at most `cap` bytes. `revision` should be the commit the list stated.
    ///
    /// # Errors
    /// [`HubErrorKind::TooLarge`] as soon as the body is, or claims to be, over `cap`;
    /// [`HubErrorKind::NotFound`], [`HubErrorKind::Gated`], [`HubErrorKind::Unauthorized`],
    /// [`HubErrorKind::Disabled`], and those of the network.
    pub async fn read_small(
        &self,
        id: &RepoId,
        revision: &str,
        path: &str,
        cap: u64,
    ) -> Result<Bytes, HubError> {
        let routes = self.http.routes();
        let known = self.capabilities().resolve_cache;
        let mut direct = is_commit_sha(revision) && known != Some(false);
        let mut fell_back = false;
        let mut budget = self.http.budget();
        loop {
            let url = if direct {
                routes.resolve_cache(id, revision, path)?
            } else {
                routes.resolve(id, revision, path)?
            };
            match self.fetch(url, cap).await {
                Ok(Fetched { body, hub_url }) => {
                    if direct && known.is_none() {
                        self.learn_resolve_cache(true);
                    } else if fell_back && hub_url.is_some_and(|url| Routes::is_of(&url, id)) {
                        self.learn_resolve_cache(false);
                    }
                    return Ok(body);
                }
                Err(error) if direct && may_be_the_route(error.kind()) => (direct, fell_back) = (false, true),
                Err(error) => self.http.again(&mut budget, error).await?,
            }
        }
    }

    async fn fetch(&self, url: Url, cap: u64) -> Result<Fetched, HubError> {
        match self.http.walk(Method::GET, url, Missing::File).await? {
            Arrival::Hub(answer) if answer.status() == 200 => {
                let hub_url = Some(answer.url().clone());
                Ok(Fetched { body: answer.body(cap).await?, hub_url })
            }
            Arrival::Hub(answer) => Err(answer.failure()),
            Arrival::Cdn { redirect, to } => {
                drop(redirect); // frees its slot
                let ask = Ask { method: Method::GET, url: &to, range: None, thing: Missing::File };
                let answer = self.http.send(ask).await?;
                if answer.status() != 200 {
                    return Err(answer.failure());
                }
                Ok(Fetched { body: answer.body(cap).await?, hub_url: None })
            }
        }
    }
}

/// Whether a refusal of the short cut may be about the route rather than about the file.
fn may_be_the_route(kind: &HubErrorKind) -> bool {
    matches!(
        kind,
        HubErrorKind::NotFound { .. }
            | HubErrorKind::Rejected { .. }
            | HubErrorKind::Unauthorized { .. }
            | HubErrorKind::Forbidden { .. }
    )
}
