//! Everything the hub refuses, one row each: status, code, message.
//!
//! Clients tell the rows apart by status, `X-Error-Code` and, in one case, by the message alone, so
//! each row is spelt as the Hub spells it.

use std::io;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use tracing::error;

use super::bucket::Bucket;
use super::reply::{self, put};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A missing or private repository, to someone without a token: which of the two stays open.
    #[error("Invalid username or password.")]
    Unauthenticated {
        /// Whether to name the reason, which the Hub does not.
        with_code: bool,
    },
    #[error("Repository not found")]
    RepoNotFound,
    #[error("Moved to {to}")]
    Renamed { to: String },
    #[error(
        "Access to {spoken} is restricted. You must have access to it and be authenticated to access it. \
         Please log in."
    )]
    GatedAnonymous { spoken: String },
    #[error(
        "Access to {spoken} is restricted and you are not in the authorized list. Visit \
         https://huggingface.co/{id} to ask for access."
    )]
    GatedForeign { spoken: String, id: String },
    #[error("Access to this resource is disabled.")]
    Disabled,
    #[error("Invalid rev id: {0}")]
    RevisionNotFound(String),
    #[error("Entry not found")]
    EntryNotFound { sha: String },
    /// A request that makes no sense, in the words of the Hub where they are known.
    #[error("{0}")]
    BadRequest(String),
    #[error("Sorry, we can't find the page you are looking for.")]
    UnknownRoute,
    #[error("Method not allowed")]
    MethodNotAllowed,
    #[error("Payload too large")]
    TooLarge,
    /// The address of a redirect is needed in full.
    #[error("Forbidden")]
    Forbidden,
    /// To someone who is known, and may not write here.
    #[error("{0}")]
    NotWritable(&'static str),
    /// It exists already.
    #[error("{0}")]
    Conflict(String),
    /// A repository exists already; clients go on with its address.
    #[error("You already created this dataset repo")]
    Exists { url: String },
    /// The parent of a commit is not the head any more.
    #[error("A commit has happened since. Please refresh and try again.")]
    Outrun,
    #[error("{0}")]
    NothingToDelete(String),
    #[error("Object {0} is not stored")]
    NotStored(String),
    #[error("The upstream timed out")]
    HeavyPage,
    #[error("{0} has changed since the folder was scanned")]
    Changed(String),
    #[error("A file cannot be read or written")]
    Unreadable(#[from] io::Error),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated { .. } | Self::GatedAnonymous { .. } => StatusCode::UNAUTHORIZED,
            Self::RepoNotFound
            | Self::RevisionNotFound(_)
            | Self::EntryNotFound { .. }
            | Self::NothingToDelete(_)
            | Self::NotStored(_)
            | Self::UnknownRoute => StatusCode::NOT_FOUND,
            Self::Renamed { .. } => StatusCode::TEMPORARY_REDIRECT,
            Self::GatedForeign { .. } | Self::Disabled | Self::Forbidden | Self::NotWritable(_) => {
                StatusCode::FORBIDDEN
            }
            Self::Conflict(_) | Self::Exists { .. } => StatusCode::CONFLICT,
            Self::Outrun => StatusCode::PRECONDITION_FAILED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeavyPage => StatusCode::GATEWAY_TIMEOUT,
            Self::Changed(_) | Self::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Unauthenticated { with_code: true } | Self::RepoNotFound => Some("RepoNotFound"),
            Self::GatedAnonymous { .. } | Self::GatedForeign { .. } => Some("GatedRepo"),
            Self::RevisionNotFound(_) => Some("RevisionNotFound"),
            Self::EntryNotFound { .. } | Self::NothingToDelete(_) => Some("EntryNotFound"),
            _ => None,
        }
    }

    /// JSON on the API, plain text elsewhere.
    pub(crate) fn answer(&self, bucket: Bucket) -> Response {
        if let Self::Unreadable(source) = self {
            error!(error = %source, "a file cannot be read or written");
        }
        if let Self::Renamed { to } = self {
            return reply::redirect(self.status(), to);
        }
        let message = self.to_string();
        let mut answer = match (bucket, self) {
            (Bucket::Api, Self::Exists { url }) => {
                reply::json(self.status(), &json!({ "error": message, "url": url }))
            }
            (Bucket::Api, _) => reply::json(self.status(), &json!({ "error": message })),
            (Bucket::Resolvers | Bucket::Pages, _) => reply::text(self.status(), &message),
        };
        let headers = answer.headers_mut();
        if message.is_ascii() {
            put(headers, "x-error-message", &message);
        }
        if let Some(code) = self.code() {
            put(headers, "x-error-code", code);
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            put(headers, "www-authenticate", "Bearer realm=\"Authentication required\", charset=\"UTF-8\"");
        }
        if let Self::EntryNotFound { sha } = self {
            put(headers, "x-repo-commit", sha);
        }
        answer
    }
}
