//! How a command ended.

/// How a command ended without failing as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Everything.
    All,
    /// Some items failed.
    Partly,
}
