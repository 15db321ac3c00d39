//! The second origin: content by signed address, out in any number of ranges and in as a whole,
//! no rate limit.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;

use super::bucket::Bucket;
use super::clock::now_seconds;
use super::download::{Download, without_body};
use super::faults::Fate;
use super::refusal::Refusal;
use super::reply::{self, put};
use super::shared::Shared;
use super::signing::Denied;
use super::write_api::lfs;

const PREFIX: &str = "/xet-bridge-us/";

/// Where a content of a repository lies.
pub(crate) fn path(object_id: &str, xet_hash: &str) -> String {
    format!("{PREFIX}{object_id}/{xet_hash}")
}

pub(crate) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let fate = shared.faults.draw();
    shared.tally.add(|counters| counters.cdn_requests += 1);
    shared.line.delay().await;

    let (asked, body) = request.into_parts();
    shared.heard.keep(&asked);
    let answer = answer(&shared, &asked, body, fate).await;
    if asked.method == Method::HEAD { without_body(answer) } else { shared.line.pace(answer) }
}

async fn answer(shared: &Arc<Shared>, asked: &Parts, body: Body, fate: Fate) -> Response {
    if fate.too_many {
        return shared.edge_429();
    }
    if let Some(status) = fate.error {
        return shared.server_error(status);
    }
    let headers = &asked.headers;
    if headers.contains_key(header::AUTHORIZATION) {
        return reply::text(StatusCode::BAD_REQUEST, "Only one auth mechanism allowed");
    }
    let (path, query) = (asked.uri.path(), asked.uri.query().unwrap_or(""));
    let uploading = path.starts_with(lfs::PREFIX);
    let allowed = if uploading { &[Method::PUT][..] } else { &[Method::GET, Method::HEAD] };
    if !allowed.contains(&asked.method) {
        return reply::text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    }
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    if let Err(denied) = shared.signer.verify(path, query, now_seconds(), range) {
        return reply::text(StatusCode::FORBIDDEN, &denied.to_string());
    }
    if fate.expire {
        shared.tally.add(|counters| counters.faults.expire += 1);
        return reply::text(StatusCode::FORBIDDEN, &Denied::Expired.to_string());
    }
    let answer = if uploading {
        lfs::receive(shared, path, headers, body).await
    } else {
        content(shared, asked, fate).await
    };
    answer.unwrap_or_else(|refusal| refusal.answer(Bucket::Resolvers))
}

async fn content(shared: &Arc<Shared>, asked: &Parts, fate: Fate) -> Result<Response, Refusal> {
    let address = asked.uri.path().strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
    let (object_id, xet_hash) = address.ok_or(Refusal::UnknownRoute)?;
    let uploaded = || shared.store.as_ref()?.content(object_id, xet_hash);
    let found = shared.catalogue().content(object_id, xet_hash).or_else(uploaded);
    let file = &found.ok_or(Refusal::UnknownRoute)?;

    let mut headers = asked.headers.clone();
    if fate.ignore_range && headers.remove(header::RANGE).is_some() {
        shared.tally.add(|counters| counters.faults.ignore_range += 1);
    }
    let truncate = fate.truncate.filter(|_| asked.method == Method::GET);
    let behaviour = &shared.settings.behaviour;
    let download = Download { file, etag: xet_hash, behaviour, tally: &shared.tally, truncate };
    let mut answer = download.answer(&headers).await?;
    put(answer.headers_mut(), "cache-control", "public, max-age=31536000");
    put(answer.headers_mut(), "x-hf-cdn-pop", "loopback");
    Ok(answer)
}
