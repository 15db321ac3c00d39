//! The routes that change something: they belong to datasets, and to those whom a token allows it.
//!
//! | route | file |
//! |---|---|
//! | who am I, new repository, card check | `account.rs` |
//! | how a file is to be uploaded, commits, tags | `commit.rs`, its lines in `lines.rs` |
//! | large files: where to, the bytes, whether they came | `lfs.rs` |

pub(crate) mod account;
mod commit;
pub(crate) mod lfs;
mod lines;

use std::io;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Method;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::access::Reader;
use super::catalogue::{DATASETS, Found};
use super::hub::Ask;
use super::refusal::Refusal;
use super::route::{RepoRoute, WriteAction};
use super::uploads::Store;

/// Room for the questions about some ten thousand files.
const MAX_JSON: usize = 16 << 20;

/// `POST` to a repository's write routes.
pub(crate) async fn answer(
    ask: &Ask<'_>,
    route: &RepoRoute<'_>,
    action: &WriteAction,
    method: &Method,
    body: Body,
) -> Result<Response, Refusal> {
    if *method != Method::POST {
        return Err(Refusal::MethodNotAllowed);
    }
    let store = permitted(ask, &route.id)?;
    let Found::Repo(repo) = store.find(&route.id) else {
        return Err(not_written(ask, &route.id));
    };
    match action {
        WriteAction::Preupload { revision } => commit::preupload(&repo, revision, body).await,
        WriteAction::Commit { revision } => commit::commit(ask, &store, &repo, revision, body).await,
        WriteAction::Tag { revision } => commit::tag(&store, &repo, revision, body).await,
        WriteAction::LfsBatch => lfs::batch(ask, &store, &repo, body).await,
        WriteAction::LfsVerify => lfs::verify(&store, body).await,
    }
}

/// The store, for those who may write to the repository of this name; whether it exists stays open.
fn permitted(ask: &Ask<'_>, id: &str) -> Result<Arc<Store>, Refusal> {
    if matches!(ask.reader, Reader::Anonymous) {
        return Err(Refusal::Unauthenticated { with_code: false });
    }
    let store = ask.shared.store.as_ref().ok_or(Refusal::NotWritable("This server is read-only"))?;
    if !id.starts_with(DATASETS) {
        return Err(Refusal::NotWritable("Only datasets can be written"));
    }
    if !ask.reader.may_write(id) {
        return Err(Refusal::NotWritable("You don't have the rights to write to this namespace"));
    }
    Ok(Arc::clone(store))
}

/// What stands in the way of writing to a name that the store does not have.
fn not_written(ask: &Ask<'_>, id: &str) -> Refusal {
    match ask.find(id) {
        Ok(_) => Refusal::NotWritable("This dataset belongs to the served folder, which is not changed"),
        Err(refusal) => refusal,
    }
}

async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = to_bytes(body, MAX_JSON).await.map_err(|_| Refusal::TooLarge)?;
    serde_json::from_slice(&body).map_err(|error| Refusal::BadRequest(format!("Invalid body: {error}")))
}

/// Work with the disk, off the threads that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let ended = |error| Refusal::Unreadable(io::Error::other(error));
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}
