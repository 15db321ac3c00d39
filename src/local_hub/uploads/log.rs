//! The commits of one repository. Pure: values in, values out.
//!
//! A commit holds what it changed, so a log grows with the changes and not with the repository; the
//! files of a revision are found by replaying the commits up to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::local_hub::names::{DATASETS, is_main};
use crate::local_hub::text::{hex, is_hex, timestamp};

/// Longest path of a file.
const MAX_PATH: usize = 1024;

/// Of the format of the file.
const VERSION: u32 = 1;

/// Everything that is known of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    version: u32,
    /// `datasets/org/name`
    pub(crate) id: String,
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    pub(crate) private: bool,
    /// Name to full sha.
    pub(crate) tags: BTreeMap<String, String>,
    /// The oldest first; there is always one.
    pub(crate) commits: Vec<Commit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    /// Milliseconds since 1970.
    pub(crate) date: i64,
    pub(crate) title: String,
    pub(crate) message: String,
    pub(crate) author: String,
    /// New and changed files by path.
    pub(crate) added: BTreeMap<String, Stored>,
    pub(crate) removed: BTreeSet<String>,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// Git's sha1 of what git keeps itself; LFS keeps the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) git: Option<String>,
}

/// The difference between two revisions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) added: BTreeMap<String, Stored>,
    pub(super) removed: BTreeSet<String>,
}

/// Whether a path may be that of a file: relative, and nothing in it that leads elsewhere.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > MAX_PATH {
        return Err("is empty or longer than 1024 bytes");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("holds a control character or a backslash");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | ".." | ".git")) {
        return Err("has an empty part, `.`, `..` or `.git`");
    }
    Ok(())
}

impl Commit {
    /// As an entry of a tree shows it.
    pub(crate) fn brief(&self) -> Value {
        json!({ "id": self.sha, "title": self.title, "date": timestamp(self.date) })
    }

    fn touches(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let begins = |found: Option<&String>| found.is_some_and(|found| found.starts_with(&below));
        self.added.contains_key(path)
            || begins(self.added.range(below.clone()..).next().map(|(path, _)| path))
            || begins(self.removed.range(below.clone()..).next())
    }
}

/// Who says what about a change.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) date: i64,
    pub(super) title: String,
    pub(super) message: String,
    pub(super) author: String,
}

impl Log {
    /// A repository of one commit.
    pub(super) fn begin(id: &str, private: bool, change: Change, note: Note) -> Self {
        let (id, created) = (id.to_owned(), note.date);
        let empty = Self { version: VERSION, id, created, private, tags: BTreeMap::new(), commits: vec![] };
        empty.with(change, note)
    }

    /// The log with one commit more.
    pub(super) fn with(&self, change: Change, note: Note) -> Self {
        let mut log = self.clone();
        let parent = self.head().map_or("", |head| head.sha.as_str());
        let mut hasher = Sha1::new().chain_update(format!("{}\0{parent}\0{}", self.id, note.date));
        for text in [&note.title, &note.message, &note.author] {
            hasher.update(format!("\0{text}"));
        }
        for (path, stored) in &change.added {
            hasher.update(format!("\0+{path}\0{}", stored.sha256));
        }
        for path in &change.removed {
            hasher.update(format!("\0-{path}"));
        }
        let Note { date, title, message, author } = note;
        let Change { added, removed } = change;
        let sha = hex(&hasher.finalize());
        log.commits.push(Commit { sha, date, title, message, author, added, removed });
        log
    }

    pub(crate) fn head(&self) -> Option<&Commit> {
        self.commits.last()
    }

    /// The commit that a branch, a tag, a full or an abbreviated sha names.
    pub(crate) fn find(&self, revision: &str) -> Option<&Commit> {
        if is_main(revision) {
            return self.head();
        }
        let tag = revision.strip_prefix("refs/tags/").unwrap_or(revision);
        let sha = self.tags.get(tag).map_or(revision, String::as_str);
        self.commits.iter().rev().find(|commit| sha.len() >= 7 && commit.sha.starts_with(sha))
    }

    /// The commits up to the one of this full sha.
    pub(crate) fn up_to(&self, sha: &str) -> &[Commit] {
        let end = self.commits.iter().position(|commit| commit.sha == sha).map_or(0, |at| at + 1);
        self.commits.get(..end).unwrap_or_default()
    }

    /// The latest commit up to `sha` that touched a file, or a file of a folder.
    pub(crate) fn last_touch(&self, sha: &str, path: &str) -> Option<&Commit> {
        self.up_to(sha).iter().rev().find(|commit| commit.touches(path))
    }

    /// The files after the commit of this full sha.
    pub(super) fn files_at(&self, sha: &str) -> BTreeMap<&str, &Stored> {
        let mut files = BTreeMap::new();
        for commit in self.up_to(sha) {
            for path in &commit.removed {
                files.remove(path.as_str());
            }
            files.extend(commit.added.iter().map(|(path, stored)| (path.as_str(), stored)));
        }
        files
    }

    /// Says what is wrong with a log from outside; names in it become paths.
    pub(super) fn check(&self, id: &str) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version {}, not {VERSION}", self.version));
        }
        if self.id != id || !id.starts_with(DATASETS) {
            return Err(format!("it is of {}", self.id));
        }
        if self.commits.is_empty() {
            return Err("no commits".to_owned());
        }
        for commit in &self.commits {
            if !is_hex(&commit.sha, 40) {
                return Err(format!("{} is no commit", commit.sha));
            }
            for (path, stored) in &commit.added {
                check_path(path).map_err(|reason| format!("{path:?} {reason}"))?;
                if !is_hex(&stored.sha256, 64) {
                    return Err(format!("{path:?} has no SHA-256"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(digit: &str) -> Stored {
        Stored { size: 1, sha256: digit.repeat(64), git: None }
    }

    fn change(added: &[(&str, &str)], removed: &[&str]) -> Change {
        Change {
            added: added.iter().map(|(path, digit)| ((*path).to_owned(), stored(digit))).collect(),
            removed: removed.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    fn note(title: &str) -> Note {
        Note { date: 7, title: title.to_owned(), message: String::new(), author: "local".to_owned() }
    }

    #[test]
    fn revisions_are_replayed_and_found_by_every_name() {
        let log = Log::begin("datasets/a/b", false, change(&[("x", "1"), ("d/y", "2")], &[]), note("one"));
        let log = log.with(change(&[("x", "3")], &["d/y"]), note("two"));
        let mut log = log.with(change(&[], &[]), note("two"));
        let shas: Vec<String> = log.commits.iter().map(|commit| commit.sha.clone()).collect();
        assert!(shas[0] != shas[1] && shas[1] != shas[2]);
        log.tags.insert("v1".to_owned(), shas[0].clone());
        log.check("datasets/a/b").unwrap();

        let found = |revision: &str| log.find(revision).map(|commit| commit.sha.clone());
        assert_eq!(found("main"), Some(shas[2].clone()));
        for name in [shas[0].as_str(), &shas[0][..7], "v1", "refs/tags/v1"] {
            assert_eq!(found(name), Some(shas[0].clone()), "{name}");
        }
        for name in ["v2", "", &shas[0][..6], "refs/pr/1"] {
            assert_eq!(found(name), None, "{name}");
        }
        let files = |sha: &str| log.files_at(sha).into_keys().collect::<Vec<_>>();
        assert_eq!((files(&shas[0]), files(&shas[1])), (vec!["d/y", "x"], vec!["x"]));
        assert_eq!(log.files_at(&shas[2])["x"], &stored("3"));

        assert!(log.commits[0].touches("d") && log.commits[1].touches("d") && !log.commits[2].touches("d"));
        assert!(!log.commits[1].touches("d/y/z"));
    }

    #[test]
    fn what_would_lead_out_of_the_folder_is_no_log() {
        let good = Log::begin("datasets/a/b", false, change(&[("x", "1")], &[]), note("one"));
        assert!(good.check("datasets/a/c").is_err());
        let mut bad = good.clone();
        bad.commits[0].added.insert("../x".to_owned(), stored("1"));
        assert!(bad.check("datasets/a/b").is_err());
        let mut bad = good.clone();
        bad.commits[0].added.insert("y".to_owned(), Stored { sha256: "../y".to_owned(), ..stored("1") });
        assert!(bad.check("datasets/a/b").is_err());
        assert!(Log { commits: vec![], ..good.clone() }.check("datasets/a/b").is_err());
        assert!(Log { version: 2, ..good }.check("datasets/a/b").is_err());
    }

    #[test]
    fn paths() {
        for good in ["a", "a/b.txt", "naïve file+1", "...", ".gitattributes", "a/.github/x"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a\\b", "a\nb", ".git/x", &"a".repeat(1025)]
        {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
