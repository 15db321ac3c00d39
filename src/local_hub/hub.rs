//! The first origin: every request runs through the same steps, then to the handler of its route.
//!
//! Delay, edge 429, quota, 5xx, route; and on the way back the headers that all answers carry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::access::Reader;
use super::ask::Ask;
use super::blocking::blocking;
use super::catalogue::Repo;
use super::clock::now_seconds;
use super::download::without_body;
use super::limits::QuotaState;
use super::query::Query;
use super::refusal::Refusal;
use super::reply::{self, put};
use super::route::{self, Action, RepoRoute, Route};
use super::shared::Shared;
use super::text::escape_path;
use super::write_api::{self, account};
use super::{listing, model, resolve, tree};

/// Headers that a browser's script may read.
const EXPOSED: &str = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,\
                       Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";
/// Size of the page that the Hub sends along with a 429.
const PAGE_429: usize = 52 * 1024;

/// Where scripts ask for the counters; no part of the Hub, and itself not counted.
pub(super) const COUNTERS: &str = "/_hubprint/counters";

pub(crate) async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let fate = shared.faults.draw();
    shared.line.delay().await;
    if fate.too_many {
        return shared.line.pace(shared.edge_429());
    }

    let (parts, body) = request.into_parts();
    let route = route::parse(parts.uri.path());
    let raw_query = parts.uri.query().unwrap_or("");
    let ask = Ask {
        shared: &shared,
        catalogue: shared.catalogue(),
        reader: Reader::of(&parts.headers, &shared.settings),
        headers: &parts.headers,
        raw_query,
        query: Query::parse(raw_query.as_bytes()),
    };
    let quota = count(&ask, &route, peer);
    let mut answer = match fate.error {
        _ if !quota.granted => too_many_requests(),
        Some(status) => shared.server_error(status),
        None => match dispatch(&ask, &route, &parts.method, body).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer(route.bucket()),
        },
    };
    let headers = answer.headers_mut();
    quota.write(headers);
    put(headers, "x-powered-by", "huggingface-moon");
    put(headers, "x-request-id", format!("Root=1-{:08x}-{:024x}", now_seconds(), fate.number));
    put(headers, "access-control-expose-headers", EXPOSED);
    if parts.method == Method::HEAD { without_body(answer) } else { shared.line.pace(answer) }
}

/// `GET /_hubprint/counters`: the totals, and the windows of each bucket.
pub(super) async fn counters(State(shared): State<Arc<Shared>>) -> Response {
    let (totals, windows) = (shared.tally.read(), shared.limiter.windows());
    reply::json(StatusCode::OK, &json!({ "totals": totals, "windows": windows }))
}

/// Charges the request to whoever sent it.
fn count(ask: &Ask<'_>, route: &Route<'_>, peer: SocketAddr) -> QuotaState {
    let client = match ask.reader {
        Reader::Anonymous => peer.ip().to_string(),
        Reader::Known { token, .. } => token.to_owned(),
    };
    let second_hop = matches!(route, Route::Repo(RepoRoute { action: Action::ResolveCache { .. }, .. }))
        && ask.query.get("etag").is_some();
    let free = second_hop && !ask.shared.settings.behaviour.count_second_hop;
    let quota = ask.shared.limiter.take(route.bucket(), &client, free, Instant::now());
    ask.shared.tally.add(|counters| {
        *counters.requests.of(quota.bucket) += 1;
        let most = counters.max_in_window.of(quota.bucket);
        *most = quota.seen.max(*most);
        counters.too_many_requests += u64::from(!quota.granted);
    });
    quota
}

async fn dispatch(
    ask: &Ask<'_>,
    route: &Route<'_>,
    method: &Method,
    body: Body,
) -> Result<Response, Refusal> {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    let route = match route {
        Route::Unknown(_) => return Err(Refusal::UnknownRoute),
        Route::List if reading => return listing::list(ask),
        Route::WhoAmI if reading => return account::who_am_i(ask),
        Route::Create if *method == Method::POST => return account::create(ask, body).await,
        Route::ValidateYaml if *method == Method::POST => return Ok(account::validate_yaml()),
        Route::List | Route::WhoAmI | Route::Create | Route::ValidateYaml => {
            return Err(Refusal::MethodNotAllowed);
        }
        Route::Repo(route) => route,
    };
    let with_address = |refusal| match refusal {
        Refusal::Renamed { to } => Refusal::Renamed { to: moved(ask, route, &to) },
        other => other,
    };
    if let Action::Write(action) = &route.action {
        return write_api::answer(ask, route, action, method, body).await.map_err(with_address);
    }
    let repo = ask.find(&route.id).map_err(with_address)?;
    let repo = match route.action.revision() {
        Some(revision) if repo.log.is_some() => at_revision(ask, repo, revision).await?,
        _ => repo,
    };
    match &route.action {
        Action::PathsInfo { revision } if *method == Method::POST => {
            tree::paths_info(ask, &repo, revision, body).await
        }
        Action::PathsInfo { .. } => Err(Refusal::MethodNotAllowed),
        _ if !reading => Err(Refusal::MethodNotAllowed),
        Action::Info { revision } => model::info(ask, &repo, revision.as_deref()),
        Action::Tree { revision, path } => tree::tree(ask, &repo, revision, path),
        Action::Refs => Ok(model::refs(&repo)),
        Action::Commits { revision } => model::commits(ask, &repo, revision),
        Action::Resolve { revision, path } => resolve::resolve(ask, &repo, revision, path).await,
        Action::ResolveCache { sha, path } => resolve::resolve_cache(ask, &repo, sha, path).await,
        Action::Raw { revision, path } => resolve::raw(ask, &repo, revision, path).await,
        Action::Write(_) => Err(Refusal::UnknownRoute),
    }
}

/// The repository as it was; one without such a revision stays, and the handler says so.
async fn at_revision(ask: &Ask<'_>, repo: Arc<Repo>, revision: &str) -> Result<Arc<Repo>, Refusal> {
    let Some(store) = ask.shared.store.clone().filter(|_| !repo.has_revision(revision)) else {
        return Ok(repo);
    };
    let revision = revision.to_owned();
    blocking(move || Ok(store.at(&repo, &revision).map_or(repo, Arc::new))).await
}

/// The same question, relative, about the present name.
fn moved(ask: &Ask<'_>, route: &RepoRoute<'_>, to: &str) -> String {
    let mark = if ask.raw_query.is_empty() { "" } else { "?" };
    format!("{}{}{}{mark}{}", route.prefix, escape_path(to), route.tail, ask.raw_query)
}

/// A page for people, whoever asks; clients must look at the status first.
fn too_many_requests() -> Response {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html><head><title>Rate limit</title></head><body>\n\
         <h1>429</h1><p>We had to rate limit you.</p>\n<!--",
    );
    page.extend(std::iter::repeat_n("\nhubprint local hub", PAGE_429 / 19));
    page.push_str("\n-->\n</body></html>\n");
    reply::html(StatusCode::TOO_MANY_REQUESTS, page)
}
