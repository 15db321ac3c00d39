//! The files below a folder.
//!
//! Symbolic links are followed, as the cache of huggingface_hub consists of them, but only to
//! places inside the served folder; a link that leads out, or back to a folder above itself, is
//! passed over with a warning.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

/// Deeper nesting than any model has.
const MAX_DEPTH: usize = 32;
/// Bookkeeping of git and of `hf download --local-dir`, and our own.
const NOT_CONTENT: [&str; 3] = [".git", ".cache", ".hub.json"];

/// A file that was found.
#[derive(Debug)]
pub(super) struct FolderFile {
    /// Relative to the folder, with forward slashes.
    pub(super) path: String,
    /// Canonical.
    pub(super) location: PathBuf,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// All files below `folder`, sorted by path. `root` is canonical.
pub(super) fn files(root: &Path, folder: &Path) -> io::Result<Vec<FolderFile>> {
    let mut found = Vec::new();
    let mut above = Vec::new();
    visit(root, folder, "", &mut above, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn visit(
    root: &Path,
    folder: &Path,
    prefix: &str,
    above: &mut Vec<PathBuf>,
    found: &mut Vec<FolderFile>,
) -> io::Result<()> {
    above.push(folder.canonicalize()?);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            warn!(path = %entry.path().display(), "passed over: the name is not UTF-8");
            continue;
        };
        if NOT_CONTENT.contains(&name.as_str()) {
            continue;
        }
        let Ok(location) = entry.path().canonicalize() else {
            warn!(path = %entry.path().display(), "passed over: a link to nothing");
            continue;
        };
        if !location.starts_with(root) {
            warn!(path = %entry.path().display(), "passed over: a link out of the served folder");
            continue;
        }
        let metadata = fs::metadata(&location)?;
        let path = format!("{prefix}{name}");
        if metadata.is_dir() {
            if above.len() >= MAX_DEPTH || above.contains(&location) {
                warn!(path = %entry.path().display(), "passed over: folders without end");
                continue;
            }
            visit(root, &location, &format!("{path}/"), above, found)?;
        } else if metadata.is_file() {
            let modified = metadata.modified()?;
            found.push(FolderFile { path, location, size: metadata.len(), modified });
        }
    }
    above.pop();
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside_and_loops_end() {
        let outside = tempfile::tempdir().unwrap();
        fs::File::create(outside.path().join("secret")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let model = root.join("model");
        fs::create_dir_all(model.join("a/b")).unwrap();
        fs::create_dir(root.join("blobs")).unwrap();
        fs::File::create(root.join("blobs/1")).unwrap();
        fs::File::create(model.join(".hub.json")).unwrap();
        symlink("../../../blobs/1", model.join("a/b/inside")).unwrap();
        symlink(outside.path().join("secret"), model.join("outside")).unwrap();
        symlink(outside.path(), model.join("outside-folder")).unwrap();
        symlink("../..", model.join("a/b/loop")).unwrap();
        symlink("nowhere", model.join("dangling")).unwrap();

        let found = files(&root, &model).unwrap();
        let paths: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.location.clone())).collect();
        assert_eq!(paths, [("a/b/inside", root.join("blobs/1"))]);
    }
}
