//! From a path to bytes: `resolve`, its second hop `resolve-cache`, and `raw`.
//!
//! What git keeps is answered by the hub itself, after a redirect to an address that never changes
//! its content. What LFS keeps comes from the CDN, by a signed address on another origin.

use axum::http::{StatusCode, header};
use axum::response::Response;

use super::ask::Ask;
use super::catalogue::{Repo, RepoFile, pointer};
use super::cdn;
use super::clock::now_seconds;
use super::download::Download;
use super::model::known_revision;
use super::refusal::Refusal;
use super::reply::{self, put};
use super::text::{escape, escape_path, is_hex};

/// `GET /{id}/resolve/{rev}/{path}`
pub(crate) async fn resolve(
    ask: &Ask<'_>,
    repo: &Repo,
    revision: &str,
    path: &str,
) -> Result<Response, Refusal> {
    let file = open(ask, repo, revision, path)?;
    let mut answer = if ask.shared.settings.behaviour.direct_files {
        download(ask, file).await?
    } else if file.blob.lfs.is_some() {
        to_cdn(ask, repo, file)
    } else {
        to_resolve_cache(repo, revision, file)
    };
    put(answer.headers_mut(), "x-repo-commit", &repo.sha);
    Ok(answer)
}

/// `GET /api/resolve-cache/models/{id}/{sha}/{path}`
pub(crate) async fn resolve_cache(
    ask: &Ask<'_>,
    repo: &Repo,
    sha: &str,
    path: &str,
) -> Result<Response, Refusal> {
    if !is_hex(sha, 40) {
        return Err(Refusal::BadRequest("Invalid commit: a full sha is needed".to_owned()));
    }
    let file = open(ask, repo, sha, path)?;
    if !ask.shared.settings.behaviour.bare_resolve_cache
        && ask.query.get("etag") != Some(&quoted(file.etag()))
    {
        return Err(Refusal::Forbidden);
    }
    let mut answer = match file.blob.lfs {
        Some(_) => to_cdn(ask, repo, file),
        None => download(ask, file).await?,
    };
    put(answer.headers_mut(), "x-repo-commit", &repo.sha);
    Ok(answer)
}

/// `GET /{id}/raw/{rev}/{path}`: what git keeps, for LFS files the pointer.
pub(crate) async fn raw(ask: &Ask<'_>, repo: &Repo, revision: &str, path: &str) -> Result<Response, Refusal> {
    let file = open(ask, repo, revision, path)?;
    let mut answer = match &file.blob.lfs {
        Some(lfs) => reply::text(StatusCode::OK, &pointer(&lfs.sha256, file.size)),
        None => download(ask, file).await?,
    };
    put(answer.headers_mut(), "x-repo-commit", &repo.sha);
    put(answer.headers_mut(), "etag", quoted(&file.blob.oid));
    Ok(answer)
}

/// Everything that may stand between a reader and a file, in the order in which it is told.
fn open<'r>(ask: &Ask<'_>, repo: &'r Repo, revision: &str, path: &str) -> Result<&'r RepoFile, Refusal> {
    if repo.disabled {
        return Err(Refusal::Disabled);
    }
    ask.reader.pass_gate(repo)?;
    known_revision(repo, revision)?;
    repo.file(path).ok_or_else(|| Refusal::EntryNotFound { sha: repo.sha.clone() })
}

async fn download(ask: &Ask<'_>, file: &RepoFile) -> Result<Response, Refusal> {
    let shared = ask.shared;
    let behaviour = &shared.settings.behaviour;
    Download { file, etag: file.etag(), behaviour, tally: &shared.tally, truncate: None }
        .answer(ask.headers)
        .await
}

/// Relative, and with the etag in the query, as the Hub writes it.
fn to_resolve_cache(repo: &Repo, revision: &str, file: &RepoFile) -> Response {
    let (name, path) = (repo.api_name(), escape_path(&file.path));
    let from = escape(&format!("/{}/resolve/{revision}/{}", repo.id, file.path));
    let etag = escape(&quoted(file.etag()));
    let location = format!("/api/resolve-cache/{name}/{}/{path}?{from}=&etag={etag}", repo.sha);
    let mut answer = reply::redirect(StatusCode::TEMPORARY_REDIRECT, &location);
    let headers = answer.headers_mut();
    put(headers, "accept-ranges", "bytes");
    put(headers, "etag", quoted(file.etag()));
    put(headers, "x-linked-etag", quoted(file.etag()));
    put(headers, "vary", "Origin, Accept");
    put(headers, "content-disposition", reply::disposition(&file.path));
    put(headers, "content-security-policy", "default-src 'none'; sandbox");
    answer
}

/// An address that serves any range, unless the request had a Range: then it serves just this one.
fn to_cdn(ask: &Ask<'_>, repo: &Repo, file: &RepoFile) -> Response {
    let shared = ask.shared;
    let Some(lfs) = &file.blob.lfs else { return reply::text(StatusCode::NOT_FOUND, "Not found") };
    let range = ask.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let pinned = range.filter(|_| shared.settings.behaviour.pin_ranges);
    let expires = now_seconds().saturating_add(shared.settings.url_ttl_seconds);
    let path = cdn::path(&repo.object_id, &lfs.xet_hash);
    let signed = shared.signer.sign(&shared.cdn_url, &path, expires, pinned);
    let mut answer = reply::redirect(StatusCode::FOUND, &format!("{}{signed}", shared.cdn_url));
    let headers = answer.headers_mut();
    put(headers, "accept-ranges", "bytes");
    put(headers, "cache-control", "no-store");
    put(headers, "x-linked-size", file.size.to_string());
    put(headers, "x-linked-etag", quoted(&lfs.sha256));
    put(headers, "vary", "Origin, Accept");
    put(headers, "content-disposition", reply::disposition(&file.path));
    if shared.settings.behaviour.xet {
        let token = format!("{}/api/{}/xet-read-token/{}", shared.hub_url, repo.api_name(), repo.sha);
        put(headers, "x-xet-hash", &lfs.xet_hash);
        put(headers, "link", format!("<{token}>; rel=\"xet-auth\""));
    }
    answer
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
