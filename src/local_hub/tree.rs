//! The files of a repository: `tree` walks them, `paths-info` looks some of them up.

use std::ops::Bound;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::Ask;
use super::catalogue::{Repo, RepoFile};
use super::model::{known_revision, last_commit};
use super::query::Query;
use super::refusal::Refusal;
use super::reply;
use super::text::{escape, escape_path, is_true, query_without};

/// Rows on a page, and with `expand`, which is dearer to the real Hub.
const PAGE: usize = 1000;
const PAGE_EXPANDED: usize = 100;
/// Paths in one question.
const MAX_PATHS: usize = 2000;
/// Room for that many long paths, escaped.
const MAX_BODY: usize = 4 << 20;

/// `GET /api/models/{id}/tree/{rev}[/{path}]`
pub(crate) fn tree(ask: &Ask<'_>, repo: &Repo, revision: &str, path: &str) -> Result<Response, Refusal> {
    known_revision(repo, revision)?;
    if !path.is_empty() && !repo.folders.contains_key(path) {
        return Err(Refusal::EntryNotFound { sha: repo.sha.clone() });
    }
    let expand = ask.query.flag("expand");
    let limit = ask.query.limit(if expand { PAGE_EXPANDED } else { PAGE })?;
    let after = match ask.query.get("cursor") {
        None => None,
        Some(text) => {
            Some(cursor_path(text).ok_or_else(|| Refusal::BadRequest("Invalid cursor".to_owned()))?)
        }
    };
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let recursive = ask.query.flag("recursive");
    let wanted = |path: &str| path.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/'));

    let entries = Entries { repo, expand, xet: ask.shared.settings.behaviour.xet };
    let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let folders = repo.folders.range::<str, _>((start, Bound::Unbounded)).map(|(path, _)| path.as_str());
    let files = repo.files.iter().map(|file| file.path.as_str());
    let files = files.filter(|path| after.as_deref().is_none_or(|after| *path > after));
    let mut paths: Vec<&str> = folders.chain(files).filter(|path| wanted(path)).collect();
    paths.sort_unstable();

    let page: Value = paths.iter().take(limit).filter_map(|path| entries.entry(path)).collect();
    let mut answer = reply::json(StatusCode::OK, &page);
    if let (true, Some(last)) = (paths.len() > limit, paths.get(limit - 1)) {
        let here = if path.is_empty() { String::new() } else { format!("/{}", escape_path(path)) };
        let here = format!("/api/{}/tree/{}{here}", repo.api_name(), escape(revision));
        let kept = query_without(ask.raw_query, &["cursor"]);
        let cursor = STANDARD.encode(last);
        reply::next_page(answer.headers_mut(), &ask.shared.hub_url, &here, &kept, ("cursor", &cursor));
    }
    Ok(answer)
}

fn cursor_path(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// `POST /api/models/{id}/paths-info/{rev}`
pub(crate) async fn paths_info(
    ask: &Ask<'_>,
    repo: &Repo,
    revision: &str,
    body: Body,
) -> Result<Response, Refusal> {
    known_revision(repo, revision)?;
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| Refusal::TooLarge)?;
    let asked = PathsAsked::parse(ask.headers, &body)?;
    if asked.paths.len() > MAX_PATHS {
        return Err(Refusal::BadRequest(format!(
            "✖ Too big: expected array to have <={MAX_PATHS} items\n  → at paths"
        )));
    }
    let entries = Entries { repo, expand: asked.expand, xet: ask.shared.settings.behaviour.xet };
    let found: Value = asked.paths.iter().filter_map(|path| entries.entry(path.trim_matches('/'))).collect();
    Ok(reply::json(StatusCode::OK, &found))
}

#[derive(Debug, PartialEq, Eq)]
struct PathsAsked {
    paths: Vec<String>,
    expand: bool,
}

impl PathsAsked {
    /// JSON if it says so, a form otherwise.
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Json {
            paths: OneOrMany,
            #[serde(default)]
            expand: bool,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }

        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if kind.starts_with("application/json") {
            let Json { paths, expand } = serde_json::from_slice(body)
                .map_err(|error| Refusal::BadRequest(format!("Invalid body: {error}")))?;
            let paths = match paths {
                OneOrMany::One(path) => vec![path],
                OneOrMany::Many(paths) => paths,
            };
            return Ok(Self { paths, expand });
        }
        let form = Query::parse(body);
        let paths = form.all("paths").map(str::to_owned).collect();
        Ok(Self { paths, expand: form.get("expand").is_some_and(is_true) })
    }
}

/// Rows of both answers.
struct Entries<'a> {
    repo: &'a Repo,
    expand: bool,
    xet: bool,
}

impl Entries<'_> {
    fn entry(&self, path: &str) -> Option<Value> {
        let mut entry = match self.repo.file(path) {
            Some(file) => self.file(file),
            None => {
                json!({ "type": "directory", "oid": self.repo.folders.get(path)?, "size": 0, "path": path })
            }
        };
        if self.expand {
            entry["lastCommit"] = last_commit(self.repo, path);
        }
        Some(entry)
    }

    fn file(&self, file: &RepoFile) -> Value {
        let mut entry = json!({ "type": "file", "oid": file.blob.oid, "size": file.size, "path": file.path });
        if let Some(lfs) = &file.blob.lfs {
            entry["lfs"] = json!({ "oid": lfs.sha256, "size": file.size, "pointerSize": lfs.pointer_size });
            if self.xet {
                entry["xetHash"] = json!(lfs.xet_hash);
            }
        }
        if self.expand {
            // Nobody scans here, and a client must not read that as "safe".
            let unscanned = json!({ "status": "unscanned" });
            entry["securityFileStatus"] = json!({
                "status": "unscanned", "avScan": unscanned, "pickleImportScan": unscanned,
            });
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &str, body: &str) -> Option<PathsAsked> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        PathsAsked::parse(&headers, body.as_bytes()).ok()
    }

    #[test]
    fn json_and_form_one_and_many() {
        let expected = |paths: &[&str], expand| {
            Some(PathsAsked { paths: paths.iter().map(|p| (*p).to_owned()).collect(), expand })
        };
        let (json, form) = ("application/json; charset=utf-8", "application/x-www-form-urlencoded");
        assert_eq!(asked(json, r#"{"paths":["a","b"],"expand":true}"#), expected(&["a", "b"], true));
        assert_eq!(asked(json, r#"{"paths":"a"}"#), expected(&["a"], false));
        assert_eq!(asked(json, "{}"), None);
        assert_eq!(asked(form, "paths=a&paths=b%2Fc+d&expand=True"), expected(&["a", "b/c d"], true));
        assert_eq!(asked(form, ""), expected(&[], false));
    }
}
