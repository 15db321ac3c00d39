//! The routes that change something: they belong to datasets, and to those whom a token allows it.
//!
//! | route | file |
//! |---|---|
//! | who am I, new repository, card check | `account.rs` |
//! | how a file is to be uploaded, commits, tags | `commit.rs`, its lines in `lines.rs` |
//! | large files: where to, the bytes, whether they came | `lfs.rs` |
//! | bodies of questions | `json.rs` |

pub(crate) mod account;
mod commit;
mod json;
pub(crate) mod lfs;
mod lines;

use axum::body::Body;
use axum::http::Method;
use axum::response::Response;

use super::ask::Ask;
use super::catalogue::Found;
use super::refusal::Refusal;
use super::route::{RepoRoute, WriteAction};

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
    let store = ask.writable(&route.id)?;
    let Found::Repo(repo) = store.find(&route.id) else {
        return Err(not_uploaded(ask, &route.id));
    };
    match action {
        WriteAction::Preupload { revision } => commit::preupload(&repo, revision, body).await,
        WriteAction::Commit { revision } => commit::commit(ask, &store, &repo, revision, body).await,
        WriteAction::Tag { revision } => commit::tag(&store, &repo, revision, body).await,
        WriteAction::LfsBatch => lfs::batch(ask, &store, &repo, body).await,
        WriteAction::LfsVerify => lfs::verify(&store, body).await,
    }
}

/// What stands in the way of writing to a name that the store does not have.
fn not_uploaded(ask: &Ask<'_>, id: &str) -> Refusal {
    match ask.find(id) {
        Ok(_) => Refusal::NotWritable("This dataset belongs to the served folder, which is not changed"),
        Err(refusal) => refusal,
    }
}
