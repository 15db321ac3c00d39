//! From status codes to meanings: the only place where they are translated.
//!
//! The Hub states the reason in `X-Error-Code` or `X-Error-Message`, proxies and CDNs often do
//! not, so the status must suffice and the headers refine it. Bodies are never consulted: the
//! body of a 429 is 52 KB of HTML.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName},
};

use super::{
    error_kind::{HubErrorKind, Missing},
    rate::{Bucket, RateLimit},
};
use crate::formats::text::printable;

pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
pub(crate) const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
pub(crate) const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the request was about: decides what a 404 without a reason is missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The thing asked for.
    pub(crate) thing: Missing,
    /// Whether a token was sent.
    pub(crate) with_token: bool,
    /// What the request is counted as.
    pub(crate) bucket: Bucket,
}

/// The meaning of a status that is not the success the caller hoped for.
pub(crate) fn meaning(status: StatusCode, headers: &HeaderMap, asked: Asked) -> HubErrorKind {
    let with_token = asked.with_token;
    match (status.as_u16(), header(headers, &ERROR_CODE)) {
        (401 | 403, Some("GatedRepo")) => HubErrorKind::Gated { with_token },
        (401 | 403 | 404, Some("RepoNotFound")) => HubErrorKind::NotFound { what: Missing::Repo },
        (404, Some("RevisionNotFound")) => HubErrorKind::NotFound { what: Missing::Revision },
        (404, Some("EntryNotFound")) => HubErrorKind::NotFound { what: Missing::File },
        // The Hub has no code for disabled repositories, only this sentence.
        (403, _) if message_contains(headers, "resource is disabled") => HubErrorKind::Disabled,
        (401, _) => HubErrorKind::Unauthorized { with_token },
        (403, _) => HubErrorKind::Forbidden { with_token },
        // A 404 that names a commit has found the repository and the revision.
        (404 | 410, _) if headers.contains_key(&REPO_COMMIT) => {
            HubErrorKind::NotFound { what: Missing::File }
        }
        (404 | 410, _) => HubErrorKind::NotFound { what: asked.thing },
        (429, _) => {
            HubErrorKind::RateLimited { bucket: asked.bucket, reset: reset(headers), waited: Duration::ZERO }
        }
        (408 | 500..=599, _) => HubErrorKind::Server { status: status.as_u16() },
        (400..=499, _) => HubErrorKind::Rejected { status: status.as_u16() },
        (other, _) => HubErrorKind::UnexpectedStatus { status: other },
    }
}

/// Time until a 429 ends: `t` of the exhausted window, else an integer `Retry-After`.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let window =
        RateLimit::all(headers).into_iter().filter(|limit| limit.remaining == 0).map(|limit| limit.resets_in);
    window.max().or_else(|| {
        let seconds = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    })
}

/// What the server said about it, printable and short.
pub(crate) fn words(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let text =
        |name| headers.get(name).map(|value| printable(value.as_bytes())).filter(|text| !text.is_empty());
    (text(&ERROR_MESSAGE), text(&REQUEST_ID))
}

pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn message_contains(headers: &HeaderMap, needle: &str) -> bool {
    header(headers, &ERROR_MESSAGE).is_some_and(|message| message.contains(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&'static str, &'static str)]) -> String {
        let headers = headers
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), v.parse().unwrap()))
            .collect::<HeaderMap>();
        let asked = Asked { thing: Missing::Repo, with_token: false, bucket: Bucket::Api };
        format!("{:?}", meaning(StatusCode::from_u16(status).unwrap(), &headers, asked))
    }

    #[test]
    fn reasons_refine_the_status() {
        let code = "x-error-code";
        assert_eq!(of(401, &[]), "Unauthorized { with_token: false }");
        assert_eq!(of(401, &[(code, "GatedRepo")]), "Gated { with_token: false }");
        assert_eq!(of(403, &[(code, "GatedRepo")]), "Gated { with_token: false }");
        assert_eq!(of(401, &[(code, "RepoNotFound")]), "NotFound { what: Repo }");
        assert_eq!(of(404, &[(code, "RevisionNotFound")]), "NotFound { what: Revision }");
        assert_eq!(of(404, &[(code, "EntryNotFound")]), "NotFound { what: File }");
        assert_eq!(of(404, &[("x-repo-commit", "abc")]), "NotFound { what: File }");
        assert_eq!(of(404, &[]), "NotFound { what: Repo }");
        assert_eq!(of(403, &[("x-error-message", "Access to this resource is disabled.")]), "Disabled");
        assert_eq!(of(403, &[]), "Forbidden { with_token: false }");
        assert_eq!(of(400, &[]), "Rejected { status: 400 }");
        assert_eq!(of(418, &[(code, "GatedRepo")]), "Rejected { status: 418 }");
        assert_eq!(of(504, &[]), "Server { status: 504 }");
        assert_eq!(of(204, &[]), "UnexpectedStatus { status: 204 }");
    }

    #[test]
    fn resets() {
        let stated = |headers| of(429, headers);
        let expect = |reset| {
            format!("{:?}", HubErrorKind::RateLimited { bucket: Bucket::Api, reset, waited: Duration::ZERO })
        };
        assert_eq!(stated(&[]), expect(None));
        assert_eq!(stated(&[("ratelimit", "\"api\";r=0;t=7")]), expect(Some(Duration::from_secs(7))));
        // A window with requests left is not what refused us.
        assert_eq!(stated(&[("ratelimit", "\"api\";r=3;t=7")]), expect(None));
        assert_eq!(stated(&[("retry-after", "12")]), expect(Some(Duration::from_secs(12))));
        assert_eq!(stated(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), expect(None));
    }
}
