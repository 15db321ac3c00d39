//! One writer at a time.
//!
//! The lock is the operating system's, on `writer.lock`: it ends with the process, however that ends. The file also
//! names its owner and when the claim expires, for people, and for file systems shared between machines whose locks
//! reach one machine only.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// Name of the file in a database folder.
pub const FILE_NAME: &str = "writer.lock";
/// How long a claim is good without being renewed.
const LIFE: Duration = Duration::from_mins(3);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);
/// Longest lock file that is read.
const MOST_BYTES: u64 = 4096;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the machine.
    pub host: String,
    /// What tells its boots, and machines of one name, apart; empty where the system does not say.
    pub boot: String,
    /// The process there.
    pub pid: u32,
    /// When it began.
    pub since: DateTime<Utc>,
    /// Until when the claim holds, unless it is renewed.
    pub expires: DateTime<Utc>,
}

/// The right to write to a database; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    owner: Owner,
    renewal: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lock {
    /// Claims the right to write to a folder.
    pub fn acquire(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let io = |source| StoreError::Io { path: path.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let reaches_other_processes = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: folder.to_owned(), owner: read(&path) });
            }
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => false,
            Err(TryLockError::Error(e)) => return Err(io(e)),
        };
        let (host, boot) = (host(), boot());
        if let Some(other) = read(&path) {
            // An owner on this machine would hold the lock if it were alive.
            let may_live = (&other.host, &other.boot) != (&host, &boot) || !reaches_other_processes;
            if may_live && other.expires > Utc::now() {
                return Err(StoreError::Locked { path: folder.to_owned(), owner: Some(other) });
            }
        }
        let since = Utc::now();
        let owner = Owner { host, boot, pid: std::process::id(), since, expires: since + LIFE };
        state(&mut file, &owner).map_err(io)?;
        let (end, ended) = channel();
        let renewal = std::thread::Builder::new().name("lock".into()).spawn({
            let (path, mut owner) = (path.clone(), owner.clone());
            // The thread keeps the file, and with it the operating system's lock.
            move || {
                while ended.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                    if !is_same(read(&path).as_ref(), &owner) {
                        return;
                    }
                    owner.expires = Utc::now() + LIFE;
                    if let Err(error) = state(&mut file, &owner) {
                        tracing::warn!(%error, "the lock of the database could not be renewed");
                    }
                }
                if is_same(read(&path).as_ref(), &owner) {
                    // What cannot be emptied expires.
                    let _ = file.set_len(0);
                }
            }
        });
        let thread = renewal.map_err(io)?;
        Ok(Self { path, owner, renewal: Some((end, thread)) })
    }

    /// Fails when another machine has taken the lock over, because this process was held up for longer than a claim
    /// lasts. To be asked before each commit.
    pub fn check(&self) -> Result<(), StoreError> {
        let found = read(&self.path);
        if is_same(found.as_ref(), &self.owner) {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(&self.path).to_owned();
        Err(StoreError::Locked { path: folder, owner: found })
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

/// Who writes to a database, as far as its lock file tells: whoever is named there and has not let the claim expire.
pub fn holder(folder: &Path) -> Option<Owner> {
    read(&folder.join(FILE_NAME)).filter(|owner| owner.expires > Utc::now())
}

/// Who is named in a lock file; nobody where it is empty or not to be understood.
fn read(path: &Path) -> Option<Owner> {
    let mut text = String::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn state(file: &mut File, owner: &Owner) -> std::io::Result<()> {
    let text = serde_json::to_string(owner)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
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

fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::super::atomic;
    use super::*;

    fn claim(folder: &Path, host: &str, expires_in: i64) {
        let since = Utc::now();
        let expires = since + chrono::Duration::seconds(expires_in);
        let owner = Owner { host: host.into(), boot: boot(), pid: 1, since, expires };
        atomic::write(&folder.join(FILE_NAME), &serde_json::to_vec(&owner).unwrap()).unwrap();
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        lock.check().unwrap();
        let error = Lock::acquire(dir.path()).unwrap_err();
        let StoreError::Locked { owner: Some(owner), .. } = &error else { panic!("{error}") };
        assert_eq!(owner.pid, std::process::id());
        drop(lock);
        drop(Lock::acquire(dir.path()).unwrap());
    }

    #[test]
    fn claims_of_other_machines_hold_until_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), "elsewhere.example", 60);
        assert!(matches!(Lock::acquire(dir.path()), Err(StoreError::Locked { .. })));
        claim(dir.path(), "elsewhere.example", -1);
        drop(Lock::acquire(dir.path()).unwrap());
        // A dead process of this machine holds nothing, whatever the file says.
        claim(dir.path(), &host(), 60);
        drop(Lock::acquire(dir.path()).unwrap());
        atomic::write(&dir.path().join(FILE_NAME), b"{").unwrap();
        drop(Lock::acquire(dir.path()).unwrap());
    }

    #[test]
    fn a_lock_that_was_taken_over_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        claim(dir.path(), "elsewhere.example", 60);
        assert!(matches!(lock.check(), Err(StoreError::Locked { owner: Some(o), .. }) if o.pid == 1));
        drop(lock);
        // Nor is the other's claim wiped out.
        assert_eq!(read(&dir.path().join(FILE_NAME)).unwrap().host, "elsewhere.example");
    }
}
