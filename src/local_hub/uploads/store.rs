//! All repositories that clients write, in memory and on disk, and the one way to change them.
//!
//! Readers take the repository as it is and keep it. A change is made under one lock for all:
//! checked against the head, written to disk, and only then shown. So of two commits at once one
//! comes after the other, and sees it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::apply::{self, Operation};
use super::log::{Log, Note, Stored};
use super::objects::{self, Objects};
use super::revision;
use crate::local_hub::catalogue::{Found, LFS_SUFFIXES, Repo, RepoFile, git_oid};
use crate::local_hub::clock::now_millis;
use crate::local_hub::names::is_main;
use crate::local_hub::refusal::Refusal;

/// Larger logs are not read: a million files have a smaller one.
const MAX_LOG: u64 = 1 << 30;
/// Who commits. The server knows tokens, not people.
pub(crate) const USER: &str = "local";

/// Why the folder for writing cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or made.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// A log is not what it should be.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another server writes there.
    #[error("{}: another server writes there", .0.display())]
    Locked(PathBuf),
}

/// A commit that has not been made yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) message: String,
    /// The head must still be this one; abbreviated or in full.
    pub(crate) parent: Option<String>,
    pub(crate) operations: Vec<Operation>,
}

#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    pub(crate) objects: Objects,
    /// By id in lower case.
    repos: RwLock<HashMap<String, Arc<Repo>>>,
    /// The lock on the folder; gone when the server has ended.
    writing: Mutex<Option<File>>,
}

impl Store {
    /// Takes the folder, which is made if need be, and reads every log in it.
    pub(crate) fn open(folder: &Path) -> Result<Self, UploadError> {
        let at = |source| UploadError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder.join("datasets")).map_err(at)?;
        let folder = folder.canonicalize().map_err(at)?;
        let lock = folder.join("write.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(UploadError::Locked(folder)),
            Err(TryLockError::Error(source)) => return Err(UploadError::Io { path: lock, source }),
        }
        let objects = Objects::open(folder.join("objects")).map_err(at)?;
        let mut repos = HashMap::new();
        for org in names(&folder.join("datasets")).map_err(at)? {
            let place = folder.join("datasets").join(&org);
            if !place.is_dir() {
                continue;
            }
            objects::clean(&place).map_err(at)?;
            for name in names(&place).map_err(at)? {
                let Some(name) = name.strip_suffix(".json") else { continue };
                let id = format!("datasets/{org}/{name}");
                let repo = read(&log_path(&folder, &id), &id, &objects)?;
                repos.insert(id.to_lowercase(), Arc::new(repo));
            }
        }
        Ok(Self { folder, objects, repos: RwLock::new(repos), writing: Mutex::new(Some(file)) })
    }

    pub(crate) fn find(&self, id: &str) -> Found {
        let repos = self.repos.read().unwrap_or_else(PoisonError::into_inner);
        match repos.get(&id.to_lowercase()) {
            Some(repo) if repo.id == id => Found::Repo(Arc::clone(repo)),
            Some(repo) => Found::Renamed(Arc::clone(repo)),
            None => Found::Nothing,
        }
    }

    /// The file that the CDN knows as `xet_hash` of the repository `object_id`.
    pub(crate) fn content(&self, object_id: &str, xet_hash: &str) -> Option<RepoFile> {
        let repos = self.repos.read().unwrap_or_else(PoisonError::into_inner);
        let repo = Arc::clone(repos.values().find(|repo| repo.object_id == object_id)?);
        drop(repos);
        // Most downloads are of the head; the log is longer.
        let of_head = repo.files.iter().find(|file| file.is_content(xet_hash)).cloned();
        of_head.or_else(|| revision::content(repo.log.as_ref()?, &self.objects, xet_hash))
    }

    /// The revision of this name, if it is another one than the repository shows.
    pub(crate) fn at(&self, repo: &Repo, revision: &str) -> Option<Repo> {
        let log = repo.log.as_ref()?;
        let sha = &log.find(revision)?.sha;
        (*sha != repo.sha).then(|| revision::at(log, &self.objects, sha))?
    }

    /// Makes a repository of one commit. Blocks on the disk, as all that follows.
    pub(crate) fn create(&self, id: &str, private: bool) -> Result<Arc<Repo>, Refusal> {
        let mut incoming = self.objects.begin()?;
        for suffix in LFS_SUFFIXES {
            writeln!(incoming, "*.{suffix} filter=lfs diff=lfs merge=lfs -text")?;
        }
        let size = incoming.size();
        let sha256 = self.objects.keep(incoming)?;
        let git = Some(git_oid(&self.objects.path(&sha256), size)?);
        let put = Operation::Put { path: ".gitattributes".to_owned(), stored: Stored { size, sha256, git } };
        let change = apply::apply(&BTreeMap::new(), vec![put]).map_err(|found| misfit(&found))?;
        self.change(id, |found| match found {
            Some(_) => Err(Refusal::Conflict(format!("{id} exists"))),
            None => Ok(Log::begin(id, private, change, note("initial commit".to_owned(), String::new()))),
        })
    }

    /// Appends a commit to `main`.
    pub(crate) fn commit(&self, id: &str, draft: Draft) -> Result<Arc<Repo>, Refusal> {
        self.change(id, |found| {
            let repo = found.ok_or(Refusal::RepoNotFound)?;
            let log = log_of(repo)?;
            if let Some(parent) = &draft.parent
                && (parent.len() < 7 || !repo.sha.starts_with(parent.as_str()))
            {
                return Err(Refusal::Outrun);
            }
            let change =
                apply::apply(&log.files_at(&repo.sha), draft.operations).map_err(|found| misfit(&found))?;
            Ok(log.with(change, note(draft.title, draft.message)))
        })
    }

    /// Gives a revision a name.
    pub(crate) fn tag(&self, id: &str, revision: &str, tag: &str) -> Result<Arc<Repo>, Refusal> {
        self.change(id, |found| {
            let repo = found.ok_or(Refusal::RepoNotFound)?;
            let mut log = log_of(repo)?.clone();
            let commit = log.find(revision).ok_or_else(|| Refusal::RevisionNotFound(revision.to_owned()))?;
            let sha = commit.sha.clone();
            if log.tags.contains_key(tag) {
                return Err(Refusal::Conflict(format!("Tag reference exists already: {tag}")));
            }
            if is_main(tag) || log.find(tag).is_some() {
                return Err(Refusal::BadRequest(format!("{tag} is the name of a revision")));
            }
            log.tags.insert(tag.to_owned(), sha);
            Ok(log)
        })
    }

    /// The one way to change a repository: next log on disk, then in memory.
    fn change(
        &self,
        id: &str,
        next: impl FnOnce(Option<&Repo>) -> Result<Log, Refusal>,
    ) -> Result<Arc<Repo>, Refusal> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.is_none() {
            return Err(Refusal::Unreadable(io::Error::other("the server has ended")));
        }
        let found = match self.find(id) {
            Found::Repo(repo) => Some(repo),
            Found::Renamed(repo) => return Err(Refusal::Conflict(format!("{} exists", repo.id))),
            Found::Nothing => None,
        };
        let log = next(found.as_deref())?;
        write(&log_path(&self.folder, id), &log)?;
        let damaged = || Refusal::Unreadable(io::Error::other("a log without commits"));
        let repo = Arc::new(revision::head(log, &self.objects).ok_or_else(damaged)?);
        let mut repos = self.repos.write().unwrap_or_else(PoisonError::into_inner);
        repos.insert(id.to_lowercase(), Arc::clone(&repo));
        Ok(repo)
    }

    /// Ends writing: waits for a change under way, and leaves the folder to the next server.
    pub(crate) fn close(&self) {
        drop(self.writing.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn log_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn log_of(repo: &Repo) -> Result<&Log, Refusal> {
    repo.log.as_deref().ok_or(Refusal::RepoNotFound)
}

fn misfit(misfit: &apply::Misfit) -> Refusal {
    match misfit {
        apply::Misfit::Missing(_) => Refusal::NothingToDelete(misfit.to_string()),
        apply::Misfit::Both(_) => Refusal::BadRequest(misfit.to_string()),
    }
}

fn note(title: String, message: String) -> Note {
    Note { date: now_millis(), title, message, author: USER.to_owned() }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path, id: &str, objects: &Objects) -> Result<Repo, UploadError> {
    let at = |source| UploadError::Io { path: path.to_owned(), source };
    let damaged = |reason: String| UploadError::Damaged { path: path.to_owned(), reason };
    let file = File::open(path).map_err(at)?;
    if file.metadata().map_err(at)?.len() > MAX_LOG {
        return Err(damaged("longer than 1 GiB".to_owned()));
    }
    let log: Log = serde_json::from_reader(BufReader::new(file.take(MAX_LOG)))
        .map_err(|error| damaged(error.to_string()))?;
    log.check(id).map_err(damaged)?;
    revision::head(log, objects).ok_or_else(|| damaged("no commits".to_owned()))
}

fn write(path: &Path, log: &Log) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = objects::temporary(folder)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    serde_json::to_writer(&mut buffered, log)?;
    buffered.flush()?;
    drop(buffered);
    objects::persist(file, path)?;
    // The folder of the organisation may be new.
    objects::sync(folder.parent().unwrap_or(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "datasets/acme/prints";

    fn draft(parent: Option<&str>, operations: Vec<Operation>) -> Draft {
        Draft { title: "t".into(), message: String::new(), parent: parent.map(str::to_owned), operations }
    }

    fn put(store: &Store, path: &str, content: &[u8]) -> Operation {
        let mut incoming = store.objects.begin().unwrap();
        incoming.write_all(content).unwrap();
        let size = incoming.size();
        let sha256 = store.objects.keep(incoming).unwrap();
        Operation::Put { path: path.to_owned(), stored: Stored { size, sha256, git: None } }
    }

    #[test]
    fn a_store_is_found_again_as_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let first = store.create(ID, true).unwrap();
        assert!(matches!(store.create(ID, false), Err(Refusal::Conflict(_))));
        assert!(matches!(store.create("datasets/Acme/prints", false), Err(Refusal::Conflict(_))));
        let a = put(&store, "d/a.bin", b"a");
        let second = store.commit(ID, draft(Some(&first.sha), vec![a])).unwrap();
        assert!(matches!(store.commit(ID, draft(Some(&first.sha), vec![])), Err(Refusal::Outrun)));
        store.tag(ID, "main", "v1").unwrap();
        assert!(matches!(store.tag(ID, "main", "v1"), Err(Refusal::Conflict(_))));
        assert!(store.tag(ID, "main", "main").is_err() && store.tag(ID, "v2", "v3").is_err());
        let third = store.commit(ID, draft(None, vec![Operation::DeleteFolder("d".into())])).unwrap();

        assert!(matches!(Store::open(dir.path()), Err(UploadError::Locked(_))));
        store.close();
        assert!(store.commit(ID, draft(None, vec![])).is_err(), "closed");
        let store = Store::open(dir.path()).unwrap();
        let Found::Repo(repo) = store.find(ID) else { panic!() };
        assert!(repo.private && repo.sha == third.sha && repo.object_id == first.object_id);
        assert_eq!(repo.files.len(), 1);
        assert!(store.at(&repo, "main").is_none() && repo.has_revision(&third.sha[..7]));
        let old = store.at(&repo, "v1").unwrap();
        assert!(old.sha == second.sha && old.has_revision("v1") && !old.has_revision("main"));
        let file = old.file("d/a.bin").unwrap();
        let xet_hash = &file.blob.lfs.as_ref().unwrap().xet_hash;
        let content = store.content(&repo.object_id, xet_hash).unwrap();
        assert_eq!(fs::read(content.location).unwrap(), b"a");
        assert!(store.content(&repo.object_id, "").is_none());
    }

    #[test]
    fn a_damaged_log_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.create(ID, false).unwrap();
        drop(store);
        let path = dir.path().join("datasets/acme/prints.json");
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(UploadError::Damaged { .. })));
    }

    #[test]
    fn commits_at_once_come_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let head = store.create(ID, false).unwrap().sha.clone();
        let made: Vec<bool> = std::thread::scope(|scope| {
            let commit = |i: usize, parent: Option<&str>| {
                store.commit(ID, draft(parent, vec![put(&store, &format!("{i}"), b"x")])).is_ok()
            };
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let parent = (i < 4).then_some(head.as_str());
                    scope.spawn(move || commit(i, parent))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made[..4].iter().filter(|made| **made).count() <= 1 && made[4..].iter().all(|made| *made));
        let Found::Repo(repo) = store.find(ID) else { panic!() };
        assert_eq!(repo.files.len(), 1 + made.iter().filter(|made| **made).count());
    }
}
