//! Names with a meaning: of datasets, and of the one branch.

/// How the ids of datasets begin, here as in the Hub's own addresses.
pub(crate) const DATASETS: &str = "datasets/";

/// Whether `revision` is a name of the one branch.
pub(crate) fn is_main(revision: &str) -> bool {
    matches!(revision, "main" | "refs/heads/main" | "HEAD")
}
