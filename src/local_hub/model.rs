//! A single repository: its info, its refs, its commits.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::ask::Ask;
use super::catalogue::Repo;
use super::fields::{self, Item, Scope, View};
use super::refusal::Refusal;
use super::reply::{self, put};
use super::text::{escape, query_without, timestamp};
use super::uploads::Commit;

/// Commits on a page.
const PAGE: usize = 50;

/// `GET /api/models/{id}[/revision/{rev}]`
pub(crate) fn info(ask: &Ask<'_>, repo: &Repo, revision: Option<&str>) -> Result<Response, Refusal> {
    if let Some(revision) = revision {
        known_revision(repo, revision)?;
    }
    let expand = fields::check(ask.query.all("expand"), Scope::Single)?;
    let mut names = match (expand.is_empty(), repo.is_dataset()) {
        (false, _) => expand,
        (true, false) => fields::SINGLE.to_vec(),
        (true, true) => fields::DATASET.to_vec(),
    };
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
    let tags = repo.log.iter().flat_map(|log| &log.tags);
    let tag = |(name, sha)| json!({ "name": name, "ref": format!("refs/tags/{name}"), "targetCommit": sha });
    let tags: Value = tags.map(tag).collect();
    reply::json(StatusCode::OK, &json!({ "branches": [main], "converts": [], "tags": tags }))
}

/// `GET /api/models/{id}/commits/{rev}`; unlike the file list, closed to those without access.
pub(crate) fn commits(ask: &Ask<'_>, repo: &Repo, revision: &str) -> Result<Response, Refusal> {
    ask.reader.pass_gate(repo)?;
    if repo.disabled {
        return Err(Refusal::GatedAnonymous { spoken: repo.spoken() });
    }
    known_revision(repo, revision)?;
    let rows = history(repo);
    let (limit, page) = (ask.query.limit(PAGE)?, ask.query.number("p")?.unwrap_or(0));
    let start = page.saturating_mul(limit).min(rows.len());
    let end = start.saturating_add(limit).min(rows.len());
    let mut answer = reply::json(StatusCode::OK, &rows.get(start..end).unwrap_or_default());
    let headers = answer.headers_mut();
    put(headers, "x-total-count", rows.len().to_string());
    if end < rows.len() {
        let here = format!("/api/{}/commits/{}", repo.api_name(), escape(revision));
        let kept = query_without(ask.raw_query, &["p"]);
        reply::next_page(headers, &ask.shared.hub_url, &here, &kept, ("p", &(page + 1).to_string()));
    }
    Ok(answer)
}

pub(crate) fn known_revision(repo: &Repo, revision: &str) -> Result<(), Refusal> {
    if repo.has_revision(revision) { Ok(()) } else { Err(Refusal::RevisionNotFound(revision.to_owned())) }
}

/// The commits up to the revision, the latest first.
fn history(repo: &Repo) -> Vec<Value> {
    let Some(log) = &repo.log else {
        let mut row = whole_commit(repo);
        row["message"] = json!("");
        row["authors"] = json!([]);
        return vec![row];
    };
    let row = |commit: &Commit| {
        let mut row = commit.brief();
        row["message"] = json!(commit.message);
        row["authors"] = json!([{ "user": commit.author }]);
        row
    };
    log.up_to(&repo.sha).iter().rev().map(row).collect()
}

/// The commit that touched a file or folder last.
pub(crate) fn last_commit(repo: &Repo, path: &str) -> Value {
    let touched = repo.log.as_ref().and_then(|log| log.last_touch(&repo.sha, path));
    touched.map_or_else(|| whole_commit(repo), Commit::brief)
}

/// The folder keeps no history: everything came with one commit.
fn whole_commit(repo: &Repo) -> Value {
    json!({ "id": repo.sha, "title": "Snapshot of the served folder", "date": timestamp(repo.modified) })
}
