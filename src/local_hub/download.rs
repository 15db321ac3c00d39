//! 200, 206 or 416: a file, or the ranges of it that were asked for.
//!
//! Shared by the CDN, resolve-cache, raw and the proxy mode of resolve; they differ only in the
//! headers that they add.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::body::{self, Piece};
use super::catalogue::RepoFile;
use super::counters::Tally;
use super::range::{self, Asked};
use super::refusal::Refusal;
use super::reply;
use super::settings::{Behaviour, MultiRange};

const BOUNDARY: &str = "hubprint-byteranges";

/// A file and the circumstances of sending it.
pub(crate) struct Download<'a> {
    pub(crate) file: &'a RepoFile,
    pub(crate) etag: &'a str,
    pub(crate) behaviour: &'a Behaviour,
    pub(crate) tally: &'a Arc<Tally>,
    /// Share of the body after which the connection breaks.
    pub(crate) truncate: Option<f64>,
}

impl Download<'_> {
    /// Answers a request with these headers.
    pub(crate) async fn answer(&self, asking: &HeaderMap) -> Result<Response, Refusal> {
        let size = self.file.size;
        let content_type = reply::content_type(&self.file.path);
        let asked = match asking.get(header::RANGE).and_then(|value| value.to_str().ok()) {
            Some(value) => range::parse(value, size, self.behaviour.suffix_range),
            None => Asked::Whole,
        };
        match asked {
            Asked::Unsatisfiable => {
                let mut answer =
                    reply::text(StatusCode::RANGE_NOT_SATISFIABLE, "Requested range not satisfiable");
                reply::put(answer.headers_mut(), "content-range", format!("bytes */{size}"));
                reply::put(answer.headers_mut(), "accept-ranges", "bytes");
                Ok(answer)
            }
            Asked::Parts(parts) if parts.len() > 1 && self.behaviour.multi_range == MultiRange::Multipart => {
                let pieces = multipart(&parts, size, content_type);
                let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
                self.send(StatusCode::PARTIAL_CONTENT, &kind, pieces).await
            }
            Asked::Parts(parts) if parts.len() == 1 => {
                let range = parts.into_iter().next().unwrap_or_default();
                let stated = content_range(&range, size);
                let mut answer =
                    self.send(StatusCode::PARTIAL_CONTENT, content_type, vec![Piece::File(range)]).await?;
                reply::put(answer.headers_mut(), "content-range", stated);
                Ok(answer)
            }
            Asked::Whole | Asked::Parts(_) => {
                self.send(StatusCode::OK, content_type, vec![Piece::File(0..size)]).await
            }
        }
    }

    async fn send(&self, status: StatusCode, kind: &str, pieces: Vec<Piece>) -> Result<Response, Refusal> {
        let length: u64 = pieces.iter().map(Piece::len).sum();
        let cut = self.truncate.map(|share| (length as f64 * share) as u64).filter(|&cut| cut < length);
        if cut.is_some() {
            self.tally.add(|counters| counters.faults.truncate += 1);
        }
        let pieces = pieces.into_iter().filter(|piece| piece.len() > 0).collect();
        let RepoFile { location, size, path, .. } = self.file;
        let body = body::open(location, *size, pieces, cut, Arc::clone(self.tally)).await?;
        let mut answer = Response::new(body.ok_or_else(|| Refusal::Changed(path.clone()))?);
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        reply::put(headers, "content-type", kind);
        reply::put(headers, "content-length", length.to_string());
        reply::put(headers, "accept-ranges", "bytes");
        reply::put(headers, "etag", format!("\"{}\"", self.etag));
        reply::put(headers, "content-disposition", reply::disposition(path));
        Ok(answer)
    }
}

/// A body of known length that HTTP would not let us send, for HEAD.
pub(crate) fn without_body(answer: Response) -> Response {
    answer.map(|_| Body::empty())
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

fn multipart(parts: &[Range<u64>], size: u64, content_type: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    for part in parts {
        let stated = content_range(part, size);
        let head =
            format!("\r\n--{BOUNDARY}\r\nContent-Type: {content_type}\r\nContent-Range: {stated}\r\n\r\n");
        pieces.extend([Piece::Text(head.into()), Piece::File(part.clone())]);
    }
    pieces.push(Piece::Text(format!("\r\n--{BOUNDARY}--\r\n").into()));
    pieces
}
