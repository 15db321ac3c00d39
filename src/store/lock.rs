//! Who may write at once.
//!
//! Commits are safe whoever makes them; a lock keeps two processes from doing the same work, and from moving what
//! another refers to. There is one for each [`Task`], in `locks/`. In a folder it is the operating system's: it ends
//! with the process, however that ends. It also names its owner and when the claim expires: for people, for file
//! systems shared between machines whose locks reach one machine only, and for buckets, which have no other.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::files::{CONTENT_FOLDERS, Files, PUBLICATIONS};
use super::task::Task;
use super::{StoreError, atomic};

/// Folder of the locks.
pub const FOLDER: &str = "locks";
/// Held while locks are looked at and taken.
const GUARD: &str = ".guard";
/// How long a claim is good without being renewed.
const LIFE: Duration = Duration::from_mins(3);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);
/// Age from which on an unfinished file is nobody's.
const DAY: Duration = Duration::from_hours(24);
/// Longest lock file that is read.
const MOST_BYTES: u64 = 4096;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// Name of the machine.
    pub host: String,
    /// What tells its boots, and machines of one name, apart; empty where the system does not say.
    pub boot: String,
    /// What the process's number is unique in; empty where the system does not say.
    #[serde(default)]
    pub namespace: String,
    /// The process there.
    pub pid: u32,
    /// When it began.
    pub since: DateTime<Utc>,
    /// Until when the claim holds, unless it is renewed.
    pub expires: DateTime<Utc>,
}

/// The right to write to a database in one task; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    files: Files,
    name: String,
    owner: Owner,
    /// When it was last renewed, by a clock that nobody sets.
    renewed: Arc<Mutex<Instant>>,
    renewal: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What a lock consists of, to be renewed.
enum Claim {
    /// As long as the file is open, the operating system's lock holds.
    File {
        file: File,
        path: PathBuf,
    },
    Object {
        bucket: Bucket,
        name: String,
    },
}

impl Lock {
    /// Claims the right to write.
    pub fn acquire(files: &Files, task: Task) -> Result<Self, StoreError> {
        let since = Utc::now();
        let (host, boot, namespace) = (host(), boot(), namespace());
        let owner = Owner { host, boot, namespace, pid: std::process::id(), since, expires: since + LIFE };
        let name = lock_name(task);
        let mut claim = match files.bucket() {
            None => claim_file(files, task, &owner)?,
            Some(bucket) => claim_object(files, bucket, task, &owner)?,
        };
        let renewed = Arc::new(Mutex::new(Instant::now()));
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().name("lock".into()).spawn({
            let (mut owner, renewed) = (owner.clone(), Arc::clone(&renewed));
            move || {
                while ended.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                    owner.expires = Utc::now() + LIFE;
                    match claim.renew(&owner) {
                        Ok(true) => *renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
                        // Somebody has taken it over; `check` will say so.
                        Ok(false) => return,
                        Err(error) => {
                            tracing::warn!(%error, "the lock of the database could not be renewed");
                        }
                    }
                }
                claim.give_back(&owner);
            }
        });
        let thread = thread.map_err(|source| StoreError::Io { path: name.clone().into(), source })?;
        Ok(Self { files: files.clone(), name, owner, renewed, renewal: Some((end, thread)) })
    }

    /// Fails when another has taken the lock over, because this process was held up for longer than a claim lasts.
    /// To be asked before each commit.
    pub fn check(&self) -> Result<(), StoreError> {
        let found = self.files.get(&self.name)?.and_then(|text| parse(&text));
        let age = self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        // Of a folder the operating system's lock holds for as long as we live.
        let holds = age < LIFE || self.files.bucket().is_none();
        if is_same(found.as_ref(), &self.owner) && holds {
            return Ok(());
        }
        Err(locked(&self.files, found))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.renewal.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

impl Claim {
    /// Whether the claim is still ours, and now holds longer.
    fn renew(&mut self, owner: &Owner) -> Result<bool, StoreError> {
        match self {
            Self::File { file, path } => {
                if !is_same(read(path).as_ref(), owner) {
                    return Ok(false);
                }
                state(file, owner).map_err(StoreError::io(path)).map(|()| true)
            }
            Self::Object { bucket, name } => {
                let Some((text, version)) = bucket.get(name)? else { return Ok(false) };
                if !is_same(parse(&text).as_ref(), owner) {
                    return Ok(false);
                }
                put_as(bucket, name, owner, |ours| bucket.replace(name, ours, &version))
            }
        }
    }

    /// What cannot be given back expires.
    fn give_back(self, owner: &Owner) {
        match self {
            Self::File { file, path } => {
                if is_same(read(&path).as_ref(), owner) {
                    let _ = file.set_len(0);
                }
            }
            Self::Object { bucket, name } => {
                if let Ok(Some((text, _))) = bucket.get(&name)
                    && is_same(parse(&text).as_ref(), owner)
                {
                    let _ = bucket.remove(&name);
                }
            }
        }
    }
}

/// Whether a conditional put was done; also where the store did it, said that it failed, and refused the second try.
fn put_as(
    bucket: &Bucket,
    name: &str,
    owner: &Owner,
    put: impl FnOnce(&[u8]) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let ours = text_of(owner);
    Ok(put(&ours)? || bucket.get(name)?.is_some_and(|(text, _)| text == ours))
}

fn claim_file(files: &Files, task: Task, owner: &Owner) -> Result<Claim, StoreError> {
    let folder = files.folder().join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
    let open = |path: &Path| {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(StoreError::io(path))
    };
    // Where the file system has no locks, two that begin in the same instant may both believe that they are alone;
    // their commits are safe even so.
    let guard = open(&folder.join(GUARD))?;
    let _ = guard.lock();
    let mut is_alone = true;
    for present in files.list_mirror(FOLDER)? {
        let Some(other) = task_of(&present.file).filter(|other| *other != task) else { continue };
        let path = files.folder().join(&present.file);
        if let Held::By(holder) = look(&open(&path)?, &path, owner)? {
            if task.excludes(other) {
                return Err(locked(files, holder));
            }
            is_alone = false;
        }
    }
    let path = files.folder().join(lock_name(task));
    let mut file = open(&path)?;
    if let Held::By(holder) = look(&file, &path, owner)? {
        return Err(locked(files, holder));
    }
    state(&mut file, owner).map_err(StoreError::io(&path))?;
    if is_alone {
        // What writers that died had not finished. Nobody can begin while we hold the guard.
        for folder in ["", "manifests", "reports", PUBLICATIONS].iter().chain(&CONTENT_FOLDERS) {
            atomic::clean(&files.folder().join(folder), Duration::ZERO)?;
        }
    }
    Ok(Claim::File { file, path })
}

/// Who holds a lock.
enum Held {
    ByNobody,
    /// Somebody, as far as known.
    By(Option<Owner>),
}

/// Whether somebody holds the lock on a file. If not, it is ours from now on, as long as the file is open.
fn look(file: &File, path: &Path, ours: &Owner) -> Result<Held, StoreError> {
    let reaches_other_processes = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => return Ok(Held::By(read(path))),
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => false,
        Err(TryLockError::Error(e)) => return Err(StoreError::io(path)(e)),
    };
    // An owner on this machine would hold the lock if it were alive.
    let may_live = |o: &Owner| (&o.host, &o.boot) != (&ours.host, &ours.boot) || !reaches_other_processes;
    let holder = read(path).filter(|other| may_live(other) && other.expires > Utc::now());
    Ok(holder.map_or(Held::ByNobody, |holder| Held::By(Some(holder))))
}

fn claim_object(files: &Files, bucket: &Bucket, task: Task, owner: &Owner) -> Result<Claim, StoreError> {
    let name = lock_name(task);
    let is_ours = match bucket.get(&name)? {
        None => put_as(bucket, &name, owner, |ours| bucket.create(&name, ours))?,
        Some((text, version)) => match parse(&text).filter(|other| holds(other, owner)) {
            Some(other) => return Err(locked(files, Some(other))),
            None => put_as(bucket, &name, owner, |ours| bucket.replace(&name, ours, &version))?,
        },
    };
    if !is_ours {
        return Err(locked(files, bucket.get(&name)?.and_then(|(text, _)| parse(&text))));
    }
    let claim = Claim::Object { bucket: bucket.clone(), name };
    // Looked for after our own is there: of two that exclude each other, at least one sees the other.
    if let Err(error) = displace(files, bucket, task, owner) {
        claim.give_back(owner);
        return Err(error);
    }
    for folder in CONTENT_FOLDERS {
        // Others may be fetching into the same mirror.
        atomic::clean(&files.folder().join(folder), DAY)?;
    }
    Ok(claim)
}

/// Fails if a task is at work that excludes this one; removes the claims of those that have expired.
fn displace(files: &Files, bucket: &Bucket, task: Task, owner: &Owner) -> Result<(), StoreError> {
    for present in bucket.list(FOLDER)? {
        if !task_of(&present.name).is_some_and(|other| other != task && task.excludes(other)) {
            continue;
        }
        let Some(holder) = bucket.get(&present.name)?.and_then(|(text, _)| parse(&text)) else { continue };
        if holds(&holder, owner) {
            return Err(locked(files, Some(holder)));
        }
        // If it should wake up after all, it must notice.
        bucket.remove(&present.name)?;
    }
    Ok(())
}

/// Whether a claim in a bucket holds: until it expires, or until it is seen from here that its process has died.
fn holds(claim: &Owner, ours: &Owner) -> bool {
    let place = |o: &Owner| (o.host.clone(), o.boot.clone(), o.namespace.clone());
    let is_seen = !claim.namespace.is_empty() && place(claim) == place(ours);
    let is_dead = is_seen && !Path::new(&format!("/proc/{}", claim.pid)).exists();
    claim.expires > Utc::now() && !is_dead
}

/// Who writes to a database, as far as its locks tell: whoever is named there and has not let the claim expire.
pub fn holders(files: &Files) -> Result<Vec<Owner>, StoreError> {
    let mut owners = Vec::new();
    for present in files.list(FOLDER)? {
        let text = files.get(&present.file)?.filter(|_| task_of(&present.file).is_some());
        owners.extend(text.and_then(|text| parse(&text)).filter(|owner| owner.expires > Utc::now()));
    }
    Ok(owners)
}

fn lock_name(task: Task) -> String {
    format!("{FOLDER}/{}.lock", task.label())
}

fn task_of(file: &str) -> Option<Task> {
    Task::from_label(file.rsplit('/').next()?.strip_suffix(".lock")?)
}

fn locked(files: &Files, owner: Option<Owner>) -> StoreError {
    StoreError::Locked { path: files.location().to_string().into(), owner: owner.map(Box::new) }
}

/// Who is named in a lock file; nobody where it is empty or not to be understood.
fn read(path: &Path) -> Option<Owner> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    parse(&text)
}

fn parse(text: &[u8]) -> Option<Owner> {
    serde_json::from_slice(text).ok()
}

fn text_of(owner: &Owner) -> Vec<u8> {
    serde_json::to_vec(owner).unwrap_or_default()
}

fn state(file: &mut File, owner: &Owner) -> std::io::Result<()> {
    let text = text_of(owner);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)?;
    file.sync_data()
}

fn is_same(found: Option<&Owner>, owner: &Owner) -> bool {
    found.is_some_and(|f| (&f.host, f.pid, f.since) == (&owner.host, owner.pid, owner.since))
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::super::{Location, Partition};
    use super::*;

    const CRAWL: Task = Task::Crawl(Partition::WHOLE);

    fn files(dir: &tempfile::TempDir) -> Files {
        Files::open(Location::from(dir.path())).unwrap()
    }

    fn claim(files: &Files, host: &str, expires_in: i64) {
        let since = Utc::now();
        let expires = since + chrono::Duration::seconds(expires_in);
        let (boot, namespace) = (boot(), namespace());
        let owner = Owner { host: host.into(), boot, namespace, pid: 1, since, expires };
        files.put("locks/crawl.lock", &text_of(&owner)).unwrap();
    }

    #[test]
    fn a_claim_in_a_bucket_ends_with_its_process_where_that_can_be_seen() {
        let since = Utc::now();
        let (host, boot, namespace) = (host(), boot(), namespace());
        let ours = Owner { host, boot, namespace, pid: std::process::id(), since, expires: since + LIFE };
        assert!(holds(&ours, &ours));
        // No process can have this number.
        let dead = Owner { pid: u32::MAX, ..ours.clone() };
        assert!(!holds(&dead, &ours));
        for unseen in [
            Owner { host: "elsewhere.example".into(), ..dead.clone() },
            Owner { boot: "before".into(), ..dead.clone() },
            Owner { namespace: "pid:[1]".into(), ..dead.clone() },
            Owner { namespace: String::new(), ..dead },
        ] {
            assert!(holds(&unseen, &ours), "{unseen:?}");
        }
        assert!(!holds(&Owner { expires: since, ..ours.clone() }, &ours));
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let lock = Lock::acquire(&files, CRAWL).unwrap();
        lock.check().unwrap();
        for task in [CRAWL, Task::Maintenance, Task::Crawl(Partition { number: 1, of: 2 })] {
            let error = Lock::acquire(&files, task).unwrap_err();
            let StoreError::Locked { owner: Some(owner), .. } = &error else { panic!("{error}") };
            assert_eq!(owner.pid, std::process::id());
        }
        let litter = dir.path().join("shards/.tmp-x");
        atomic::write(&litter, b"half").unwrap();
        let beside = Lock::acquire(&files, Task::Index).unwrap();
        assert!(litter.exists(), "the other one may be writing it");
        assert_eq!(holders(&files).unwrap().len(), 2);
        drop((lock, beside));
        assert_eq!(holders(&files).unwrap(), []);
        drop(Lock::acquire(&files, Task::Maintenance).unwrap());
        assert!(!litter.exists());
    }

    #[test]
    fn claims_of_other_machines_hold_until_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        claim(&files, "elsewhere.example", 60);
        for task in [CRAWL, Task::Maintenance] {
            assert!(matches!(Lock::acquire(&files, task), Err(StoreError::Locked { .. })));
        }
        claim(&files, "elsewhere.example", -1);
        drop(Lock::acquire(&files, CRAWL).unwrap());
        // A dead process of this machine holds nothing, whatever the file says.
        claim(&files, &host(), 60);
        drop(Lock::acquire(&files, CRAWL).unwrap());
        files.put("locks/crawl.lock", b"{").unwrap();
        drop(Lock::acquire(&files, CRAWL).unwrap());
    }

    #[test]
    fn a_lock_that_was_taken_over_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let lock = Lock::acquire(&files, CRAWL).unwrap();
        claim(&files, "elsewhere.example", 60);
        assert!(matches!(lock.check(), Err(StoreError::Locked { owner: Some(o), .. }) if o.pid == 1));
        drop(lock);
        // Nor is the other's claim wiped out.
        assert_eq!(holders(&files).unwrap()[0].host, "elsewhere.example");
    }
}
