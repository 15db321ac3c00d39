//! One model's description: `GET /api/models/{id}[/revision/{rev}]`.
//!
//! No query parameters are sent, because a caching proxy may drop them; what they would add is
//! read from the files themselves.

use reqwest::Method;

use super::{
    client::Hub,
    entry::RepoEntry,
    error::HubError,
    error_kind::{HubErrorKind, Missing},
    http::Arrival,
    id::RepoId,
};

impl Hub {
    /// Describes one model, at the head of its default branch or at `revision` (branch, tag,
    /// pull request ref, or commit).
    ///
    /// A renamed model is followed, so the answer's `id` may differ from the one asked for.
    ///
    /// # Errors
    /// [`HubErrorKind::NotFound`], [`HubErrorKind::Unauthorized`] (an anonymous caller gets this
    /// for a missing model, too), [`HubErrorKind::Malformed`] when the answer has no usable `id`
    /// or `_id`, and those of the network. Gated and disabled models are described like others.
    pub async fn info(&self, id: &RepoId, revision: Option<&str>) -> Result<RepoEntry, HubError> {
        let mut budget = self.http.budget();
        loop {
            match self.info_once(id, revision).await {
                Ok(entry) => return Ok(entry),
                Err(error) => self.http.again(&mut budget, error).await?,
            }
        }
    }

    async fn info_once(&self, id: &RepoId, revision: Option<&str>) -> Result<RepoEntry, HubError> {
        let limits = &self.settings().limits;
        let url = self.http.routes().info(id, revision)?;
        let thing = if revision.is_some() { Missing::Revision } else { Missing::Repo };
        let answer = match self.http.walk(Method::GET, url, thing).await? {
            Arrival::Hub(answer) => answer,
            Arrival::Cdn { redirect, to } => return Err(redirect.leaves_origin(&to)),
        };
        if answer.status() != 200 {
            return Err(answer.failure());
        }
        let url = answer.url().clone();
        let body = answer.body(limits.info).await?;
        let malformed =
            |detail| HubError::new(&url, HubErrorKind::Malformed { part: "model description", detail });
        let value = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
        RepoEntry::read(value, limits.config).map_err(|rejected| malformed(rejected.to_string()))
    }
}
