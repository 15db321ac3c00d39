//! Files that are what their name says, and of a kind that is not read.

/// A file that is whole, and of a kind that is not read: which one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}, which is not read")]
pub struct Unsupported(pub String);
