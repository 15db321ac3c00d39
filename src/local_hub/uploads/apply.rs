//! What a list of operations changes in a set of files. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::log::{Change, Stored};

/// One line of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Put { path: String, stored: Stored },
    DeleteFile(String),
    DeleteFolder(String),
}

/// Why operations cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    /// The words that a client looks for.
    #[error("A file with this name doesn't exist: {0}")]
    Missing(String),
    #[error("{0} would be a file and a folder")]
    Both(String),
}

/// Applies the operations in their order; a later one sees what an earlier one did.
pub(super) fn apply(before: &BTreeMap<&str, &Stored>, operations: Vec<Operation>) -> Result<Change, Misfit> {
    let mut after: Overlay<'_> = Overlay { before, changed: BTreeMap::new() };
    for operation in operations {
        match operation {
            Operation::Put { path, stored } => drop(after.changed.insert(path, Some(stored))),
            Operation::DeleteFile(path) if after.has(&path) => drop(after.changed.insert(path, None)),
            Operation::DeleteFile(path) => return Err(Misfit::Missing(path)),
            Operation::DeleteFolder(path) => {
                let below = after.below(&path);
                if below.is_empty() {
                    return Err(Misfit::Missing(path));
                }
                after.changed.extend(below.into_iter().map(|path| (path, None)));
            }
        }
    }
    let put = after.changed.iter().filter(|(_, stored)| stored.is_some()).map(|(path, _)| path);
    for path in put {
        let above = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        if let Some(file) = above.into_iter().find(|folder| after.has(folder)) {
            return Err(Misfit::Both(file.to_owned()));
        }
        if !after.below(path).is_empty() {
            return Err(Misfit::Both(path.clone()));
        }
    }
    let mut change = Change::default();
    for (path, stored) in after.changed {
        match (before.get(path.as_str()), stored) {
            (Some(old), Some(new)) if **old == new => {}
            (_, Some(new)) => drop(change.added.insert(path, new)),
            (Some(_), None) => drop(change.removed.insert(path)),
            (None, None) => {}
        }
    }
    Ok(change)
}

/// Files with changes on top.
struct Overlay<'a> {
    before: &'a BTreeMap<&'a str, &'a Stored>,
    changed: BTreeMap<String, Option<Stored>>,
}

impl Overlay<'_> {
    fn has(&self, path: &str) -> bool {
        self.changed.get(path).map_or_else(|| self.before.contains_key(path), Option::is_some)
    }

    /// The files in a folder and in those within it.
    fn below(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let old = self.before.range(prefix.as_str()..).map(|(path, _)| *path);
        let old = old.take_while(|path| path.starts_with(&prefix)).filter(|path| self.has(path));
        let new = self.changed.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let new = new.filter(|(_, stored)| stored.is_some()).map(|(path, _)| path.as_str());
        let all: BTreeSet<&str> = old.chain(new).collect();
        all.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(size: u64) -> Stored {
        Stored { size, sha256: format!("{size:064x}"), git: None }
    }

    fn put(path: &str, size: u64) -> Operation {
        Operation::Put { path: path.to_owned(), stored: stored(size) }
    }

    fn delete(path: &str) -> Operation {
        Operation::DeleteFile(path.to_owned())
    }

    fn delete_folder(path: &str) -> Operation {
        Operation::DeleteFolder(path.to_owned())
    }

    fn applied(
        before: &[(&str, u64)],
        operations: Vec<Operation>,
    ) -> Result<(Vec<String>, Vec<String>), Misfit> {
        let kept: BTreeMap<&str, Stored> = before.iter().map(|(path, size)| (*path, stored(*size))).collect();
        let before = kept.iter().map(|(path, stored)| (*path, stored)).collect();
        let change = apply(&before, operations)?;
        Ok((change.added.into_keys().collect(), change.removed.into_iter().collect()))
    }

    #[test]
    fn a_change_is_the_difference() {
        let before = [("a", 1), ("d/b", 2), ("d/e/c", 3), ("d.txt", 4)];
        let ops = vec![put("a", 1), put("n", 5), delete_folder("d/"), put("d/b", 6)];
        let (added, removed) = applied(&before, ops).unwrap();
        assert_eq!((added, removed), (vec!["d/b".into(), "n".into()], vec!["d/e/c".to_owned()]));
        let (added, removed) =
            applied(&before, vec![put("n", 5), delete("n"), delete("a"), put("a", 1)]).unwrap();
        assert!(added.is_empty() && removed.is_empty(), "what comes and goes is no change");
        let (added, removed) = applied(&before, vec![delete("a"), put("a/b", 1)]).unwrap();
        assert_eq!((added, removed), (vec!["a/b".to_owned()], vec!["a".to_owned()]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let before = [("a", 1), ("d/b", 2)];
        for (operation, misfit) in [
            (delete("x"), Misfit::Missing("x".into())),
            (delete("d"), Misfit::Missing("d".into())),
            (delete_folder("a"), Misfit::Missing("a".into())),
            (put("a/b", 1), Misfit::Both("a".into())),
            (put("d", 1), Misfit::Both("d".into())),
        ] {
            assert_eq!(applied(&before, vec![operation]), Err(misfit));
        }
        assert!(applied(&before, vec![delete("a"), delete("a")]).is_err());
    }

    proptest! {
        #[test]
        fn the_change_leads_from_before_to_after(
            before in prop::collection::btree_map("[ab](/[ab])?", 0u64..3, 0..4),
            operations in prop::collection::vec(("[ab](/[ab])?", 0u64..6), 0..8),
        ) {
            let operations = operations.into_iter().map(|(path, kind)| match kind {
                0 => delete(&path),
                1 => delete_folder(&path),
                size => put(&path, size),
            });
            let before: BTreeMap<String, Stored> = before.into_iter().map(|(path, size)| (path, stored(size))).collect();
            let seen = before.iter().map(|(path, stored)| (path.as_str(), stored)).collect();
            if let Ok(change) = apply(&seen, operations.collect()) {
                for (path, stored) in &change.added {
                    prop_assert_ne!(before.get(path), Some(stored));
                    prop_assert!(!change.removed.contains(path));
                }
                prop_assert!(change.removed.iter().all(|path| before.contains_key(path)));
            }
        }
    }
}
