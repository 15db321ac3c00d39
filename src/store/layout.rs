//! Which files a database has, by their names.

/// Folder of the manifests.
pub const MANIFESTS: &str = "manifests";
/// Folder of the shards.
pub const SHARDS: &str = "shards";
/// Folder of the lists of what waits.
pub const WAITING: &str = "waiting";
/// Folder of the files of indexes.
pub const INDEX: &str = "index";
/// Folders of files that are named by their content.
pub const CONTENT_FOLDERS: [&str; 3] = [SHARDS, WAITING, INDEX];
/// Folder of the run reports.
pub const REPORTS: &str = "reports";
/// Folder of the locks.
pub const LOCKS: &str = "locks";
/// Folder of signed publications, which others write.
pub const PUBLICATIONS: &str = "publications";
/// The manifest of formats up to 3.
pub(super) const OLD_MANIFEST: &str = "manifest.json";

/// The name of a manifest.
pub fn manifest_name(generation: u64) -> String {
    format!("{MANIFESTS}/{generation:012}.json")
}

/// Half of a SHA-256 is more than enough to tell the files of a database apart.
pub(super) fn hashed_name(folder: &str, sha256: &str, extension: &str) -> String {
    format!("{folder}/{}.{extension}", sha256.get(..32).unwrap_or(sha256))
}
