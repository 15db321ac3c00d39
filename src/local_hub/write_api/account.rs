//! Who is asking, new repositories, and the check of cards.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json;
use crate::local_hub::access::Reader;
use crate::local_hub::ask::Ask;
use crate::local_hub::blocking::blocking;
use crate::local_hub::catalogue::Found;
use crate::local_hub::names::DATASETS;
use crate::local_hub::refusal::Refusal;
use crate::local_hub::reply;
use crate::local_hub::text::escape_path;
use crate::local_hub::uploads::USER;

/// Longest part of a repository's name.
const MAX_NAME: usize = 96;

/// `GET /api/whoami-v2`
pub(crate) fn who_am_i(ask: &Ask<'_>) -> Result<Response, Refusal> {
    let Reader::Known { grants, .. } = ask.reader else {
        return Err(Refusal::Unauthenticated { with_code: false });
    };
    let mut orgs: Vec<&str> = grants.iter().filter_map(|grant| grant.strip_prefix("write:")).collect();
    let role = if orgs.is_empty() { "read" } else { "write" };
    orgs.retain(|org| *org != "*" && !org.contains('/'));
    let orgs: Value = orgs.iter().map(|org| json!({ "type": "org", "name": org, "fullname": org })).collect();
    let answer = json!({
        "type": "user", "id": "0".repeat(24), "name": USER, "fullname": USER, "isPro": false, "orgs": orgs,
        "auth": { "type": "access_token", "accessToken": { "displayName": USER, "role": role } },
    });
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `POST /api/validate-yaml`: cards are read tolerantly here, so all are valid.
pub(crate) fn validate_yaml() -> Response {
    reply::json(StatusCode::OK, &json!({ "errors": [], "warnings": [] }))
}

#[derive(Deserialize)]
struct New {
    name: String,
    #[serde(default)]
    organization: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    private: Option<bool>,
    #[serde(default)]
    visibility: Option<String>,
}

/// `POST /api/repos/create`
pub(crate) async fn create(ask: &Ask<'_>, body: Body) -> Result<Response, Refusal> {
    if matches!(ask.reader, Reader::Anonymous) {
        return Err(Refusal::Unauthenticated { with_code: false });
    }
    let new: New = json::read(body).await?;
    let (org, name) = match (&new.organization, new.name.split_once('/')) {
        (Some(org), _) => (org.as_str(), new.name.as_str()),
        (None, Some(parts)) => parts,
        (None, None) => (USER, new.name.as_str()),
    };
    let kind = if new.kind.as_deref() == Some("dataset") { DATASETS } else { "" };
    let id = format!("{kind}{org}/{name}");
    let store = ask.writable(&id)?;
    if !is_name(org) || !is_name(name) {
        return Err(Refusal::BadRequest(format!("Invalid repository name: {org}/{name}")));
    }
    // The folder's datasets and their former names are taken.
    let url = format!("{}/{}", ask.shared.hub_url, escape_path(&id));
    if !matches!(ask.catalogue.find(&id), Found::Nothing) {
        return Err(Refusal::Exists { url });
    }
    let private = new.private.unwrap_or(new.visibility.as_deref() == Some("private"));
    let repo = match blocking(move || store.create(&id, private)).await {
        Err(Refusal::Conflict(_)) => return Err(Refusal::Exists { url }),
        created => created?,
    };
    let answer = json!({ "url": url, "name": repo.name(), "id": repo.object_id });
    Ok(reply::json(StatusCode::OK, &answer))
}

/// As on the Hub, and so that it can be a file's name.
fn is_name(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=MAX_NAME).contains(&part.len())
        && part.bytes().all(allowed)
        && !part.starts_with(['-', '.'])
        && !part.ends_with(".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "acme-2", "prints_v1.0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", ".hidden", "a/b", "a b", "ä", "x.git", &"a".repeat(97)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
