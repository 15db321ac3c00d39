//! Building answers: every one has its Content-Length, so that HEAD can repeat it.

use std::fmt::Write;
use std::path::Path;

use axum::body::Body;
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::text::{escape, escape_path};

/// Sets a header. A value that no header can hold is left out; ours never are.
pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

pub(crate) fn text(status: StatusCode, body: &str) -> Response {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

pub(crate) fn html(status: StatusCode, body: String) -> Response {
    with_type(status, "text/html; charset=utf-8", body)
}

pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => with_type(status, "application/json; charset=utf-8", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn with_type(status: StatusCode, kind: &str, body: String) -> Response {
    let length = body.len().to_string();
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    put(answer.headers_mut(), "content-type", kind);
    put(answer.headers_mut(), "content-length", length);
    answer
}

/// A redirect with the text that the Hub sends along.
pub(crate) fn redirect(status: StatusCode, location: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut answer = text(status, &format!("{reason}. Redirecting to {location}"));
    put(answer.headers_mut(), "location", location);
    answer
}

/// The `Link` of a page that is not the last: absolute, with the place behind the query as it was.
pub(crate) fn next_page(
    headers: &mut HeaderMap,
    origin: &str,
    path: &str,
    kept_query: &str,
    (parameter, place): (&str, &str),
) {
    let mut url = format!("{origin}{path}?");
    if !kept_query.is_empty() {
        url.push_str(kept_query);
        url.push('&');
    }
    // Writing to a String does not fail.
    let _ = write!(url, "{parameter}={}", escape(place));
    put(headers, "link", format!("<{url}>; rel=\"next\""));
}

/// ASCII only: the name in full is escaped, the plain one stands in for old clients.
pub(crate) fn disposition(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ' { c } else { '?' })
        .collect();
    format!("inline; filename*=UTF-8''{}; filename=\"{plain}\";", escape_path(name))
}

/// Text is readable in a browser; all else is just bytes.
pub(crate) fn content_type(path: &str) -> &'static str {
    const TEXT: [&str; 11] =
        ["json", "jsonl", "md", "txt", "py", "yaml", "yml", "jinja", "model", "merges", "gitattributes"];
    let path = Path::new(path);
    let suffix = path.extension().or(path.file_name()).and_then(|suffix| suffix.to_str()).unwrap_or("");
    if TEXT.contains(&suffix.trim_start_matches('.')) {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stay_ascii() {
        assert_eq!(
            disposition("docs/naïve \"x\".txt"),
            "inline; filename*=UTF-8''na%C3%AFve%20%22x%22.txt; filename=\"na?ve ?x?.txt\";"
        );
        assert_eq!(content_type("a/config.json"), "text/plain; charset=utf-8");
        assert_eq!(content_type(".gitattributes"), "text/plain; charset=utf-8");
        assert_eq!(content_type("model.safetensors"), "application/octet-stream");
    }

    #[test]
    fn links_are_absolute_and_keep_the_query() {
        let mut headers = HeaderMap::new();
        next_page(&mut headers, "http://h:1", "/api/models", "limit=2", ("cursor", "a="));
        assert_eq!(headers["link"], "<http://h:1/api/models?limit=2&cursor=a%3D>; rel=\"next\"");
    }
}
