//! Datasets that clients write: content-addressed objects, and one log of commits a repository.
//!
//! ```text
//! write.folder/
//!   write.lock                    held by the server that writes here
//!   objects/5b/5b3f...            a file's content under its SHA-256
//!   datasets/ORG/NAME.json        every commit: what it added, what it removed
//! ```
//!
//! An object is synced and renamed into place before a commit may name it; a log is replaced by a
//! synced file in one rename. So whatever instant the process dies at, the last commit stands, and
//! what is left over is content that nothing names. Nothing is ever removed: old revisions stay
//! readable. Content is shared by all repositories; whoever may write and knows the SHA-256 of a
//! content can name it in a commit, and so read it.

mod apply;
mod log;
mod objects;
mod revision;
mod store;

pub(crate) use apply::Operation;
pub(crate) use log::{Commit, Log, Stored, check_path};
pub use store::UploadError;
pub(crate) use store::{Draft, Store, USER};
