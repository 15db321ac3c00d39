//! A single model: its info, its refs, its history of one commit.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::catalogue::Repo;
use super::fields::{self, Item, Scope, View};
use super::hub::Ask;
use super::refusal::Refusal;
use super::reply::{self, put};
use super::text::timestamp;

/// `GET /api/models/{id}[/revision/{rev}]`
pub(crate) fn info(ask: &Ask<'_>, repo: &Repo, revision: Option<&str>) -> Result<Response, Refusal> {
    if let Some(revision) = revision {
        known_revision(repo, revision)?;
    }
    let expand = fields::check(ask.query.all("expand"), Scope::Single)?;
    let mut names = if expand.is_empty() { fields::SINGLE.to_vec() } else { expand };
    let xet = ask.shared.settings.behaviour.xet;
    let view = View { catalogue: &ask.catalogue, blobs: ask.query.flag("blobs"), xet };
    if ask.query.flag("securityStatus") {
        names.push(fields::SECURITY);
    }
    Ok(reply::json(StatusCode::OK, &Item { view: &view, repo: Cow::Borrowed(repo), names: &names }))
}

/// `GET /api/models/{id}/refs`
pub(crate) fn refs(repo: &Repo) -> Response {
    let main = json!({ "name": "main", "ref": "refs/heads/main", "targetCommit": repo.sha });
    reply::json(StatusCode::OK, &json!({ "branches": [main], "converts": [], "tags": [] }))
}

/// `GET /api/models/{id}/commits/{rev}`; unlike the file list, closed to those without access.
pub(crate) fn commits(ask: &Ask<'_>, repo: &Repo, revision: &str) -> Result<Response, Refusal> {
    ask.reader.pass_gate(repo)?;
    if repo.disabled {
        return Err(Refusal::GatedAnonymous(repo.id.clone()));
    }
    known_revision(repo, revision)?;
    let commit = last_commit(repo);
    let row = json!({
        "id": commit["id"], "title": commit["title"], "message": "", "date": commit["date"], "authors": [],
    });
    let further_page = ask.query.number("p")?.unwrap_or(0) > 0;
    let rows = if further_page { json!([]) } else { json!([row]) };
    let mut answer = reply::json(StatusCode::OK, &rows);
    put(answer.headers_mut(), "x-total-count", "1");
    Ok(answer)
}

pub(crate) fn known_revision(repo: &Repo, revision: &str) -> Result<(), Refusal> {
    if repo.has_revision(revision) { Ok(()) } else { Err(Refusal::RevisionNotFound(revision.to_owned())) }
}

/// The folder keeps no history: everything came with one commit.
pub(crate) fn last_commit(repo: &Repo) -> Value {
    json!({ "id": repo.sha, "title": "Snapshot of the served folder", "date": timestamp(repo.modified) })
}
