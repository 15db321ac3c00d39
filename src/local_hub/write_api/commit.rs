//! How a file is to be uploaded, commits, and tags.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json;
use super::lines::{self, CommitLine, Header, Lines};
use crate::local_hub::ask::Ask;
use crate::local_hub::blocking::blocking;
use crate::local_hub::catalogue::{Repo, goes_to_lfs};
use crate::local_hub::names::is_main;
use crate::local_hub::refusal::Refusal;
use crate::local_hub::reply;
use crate::local_hub::text::escape_path;
use crate::local_hub::uploads::{Draft, Store};

/// Lines of one commit.
const MAX_OPERATIONS: usize = 100_000;
/// Longest name of a tag.
const MAX_TAG: usize = 250;

#[derive(Deserialize)]
struct Candidates {
    files: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    path: String,
    size: u64,
}

/// `POST /api/datasets/{id}/preupload/{rev}`: name and size decide; the sample that clients send along is not
/// looked at.
pub(super) async fn preupload(repo: &Repo, revision: &str, body: Body) -> Result<Response, Refusal> {
    on_main(revision)?;
    let asked: Candidates = json::read(body).await?;
    let row = |file: &Candidate| {
        let under_lfs = file.size > 0 && goes_to_lfs(&file.path, file.size);
        let mode = if under_lfs { "lfs" } else { "regular" };
        let mut row = json!({ "path": file.path, "uploadMode": mode, "shouldIgnore": false });
        // Of a file in the other mode the client could not compare the oid.
        if let Some(known) = repo.file(&file.path).filter(|known| known.blob.lfs.is_some() == under_lfs) {
            row["oid"] = json!(known.etag());
        }
        row
    };
    let files: Value = asked.files.iter().map(row).collect();
    let answer = json!({ "commitOid": repo.sha, "files": files });
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `POST /api/datasets/{id}/commit/{rev}`
pub(super) async fn commit(
    ask: &Ask<'_>,
    store: &Arc<Store>,
    repo: &Repo,
    revision: &str,
    body: Body,
) -> Result<Response, Refusal> {
    on_main(revision)?;
    if ask.query.flag("create_pr") {
        return Err(Refusal::NotWritable("Pull requests are not kept here"));
    }
    let mut lines = Lines::of(body, ask.shared.settings.uploads.max_commit_bytes);
    let (mut header, mut operations): (Option<Header>, _) = (None, Vec::new());
    while let Some(line) = lines.next().await? {
        let reading = Arc::clone(store);
        match blocking(move || lines::read(&line, &reading)).await? {
            CommitLine::Header(found) => header = Some(found),
            CommitLine::Operation(_, _) if operations.len() >= MAX_OPERATIONS => {
                return Err(Refusal::TooLarge);
            }
            CommitLine::Operation(operation, came) => {
                if let Some(bytes) = came {
                    ask.shared.tally.add(|counters| counters.received.count(bytes));
                }
                operations.push(operation);
            }
        }
    }
    let Header { summary: title, description, parent_commit: parent } =
        header.ok_or_else(|| Refusal::BadRequest("A commit needs a header".to_owned()))?;
    let draft = Draft { title, message: description.unwrap_or_default(), parent, operations };
    let (store, id) = (Arc::clone(store), repo.id.clone());
    let repo = blocking(move || store.commit(&id, draft)).await?;
    ask.shared.tally.add(|counters| counters.received.commits += 1);
    let url = format!("{}/{}/commit/{}", ask.shared.hub_url, escape_path(&repo.id), repo.sha);
    let answer = json!({
        "success": true, "commitOid": repo.sha, "commitUrl": url, "hookOutput": "",
        "pullRequest": null, "pullRequestUrl": null,
    });
    Ok(reply::json(StatusCode::OK, &answer))
}

#[derive(Deserialize)]
struct NewTag {
    tag: String,
}

/// `POST /api/datasets/{id}/tag/{rev}`
pub(super) async fn tag(
    store: &Arc<Store>,
    repo: &Repo,
    revision: &str,
    body: Body,
) -> Result<Response, Refusal> {
    let NewTag { tag } = json::read(body).await?;
    if !is_tag(&tag) {
        return Err(Refusal::BadRequest(format!("Invalid tag name: {tag:.100}")));
    }
    let (store, id, revision) = (Arc::clone(store), repo.id.clone(), revision.to_owned());
    let named = tag.clone();
    blocking(move || store.tag(&id, &revision, &named)).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "tag": tag })))
}

/// There is one branch.
fn on_main(revision: &str) -> Result<(), Refusal> {
    if is_main(revision) { Ok(()) } else { Err(Refusal::RevisionNotFound(revision.to_owned())) }
}

/// What git takes as the name of a tag, without its rarer characters.
fn is_tag(tag: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./+".contains(&b);
    (1..=MAX_TAG).contains(&tag.len())
        && tag.bytes().all(allowed)
        && tag.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']))
        && !tag.contains("..")
        && !tag.starts_with("refs/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for good in ["v1", "v1.0.0", "nightly/2026-01-01", "a+b"] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", "a b", "-v", "a//b", "/a", "a/", ".a", "a..b", "refs/tags/v1", "ä", &"a".repeat(251)]
        {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
