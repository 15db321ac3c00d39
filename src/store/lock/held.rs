//! A lock, for as long as a task goes on.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::names::{lock_name, locked, task_of};
use super::{stated, system};
use crate::store::error::StoreError;
use crate::store::files::DatabaseFiles;
use crate::store::layout::LOCKS;
use crate::store::owner::Owner;
use crate::store::task::Task;

/// How long a claim is good without being renewed.
const LIFE: Duration = Duration::from_mins(3);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// The right to write to a database in one task; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    files: DatabaseFiles,
    name: String,
    owner: Owner,
    /// When it was last renewed, by a clock that nobody sets.
    renewed: Arc<Mutex<Instant>>,
    renewal: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What a lock consists of, to be renewed.
enum Claim {
    System(system::Claim),
    Stated(stated::Claim),
}

impl Claim {
    fn renew(&mut self, owner: &Owner) -> Result<bool, StoreError> {
        match self {
            Self::System(claim) => claim.renew(owner),
            Self::Stated(claim) => claim.renew(owner),
        }
    }

    fn give_back(self, owner: &Owner) {
        match self {
            Self::System(claim) => claim.give_back(owner),
            Self::Stated(claim) => claim.give_back(owner),
        }
    }
}

impl Lock {
    /// Claims the right to write.
    pub fn acquire(files: &DatabaseFiles, task: Task) -> Result<Self, StoreError> {
        let since = Utc::now();
        let owner = Owner::this(since, since + LIFE);
        let name = lock_name(task);
        let mut claim = match files.storage().folder() {
            Some(folder) => Claim::System(system::Claim::acquire(files, folder, task, &owner)?),
            None => Claim::Stated(stated::Claim::acquire(files, task, &owner)?),
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
        let found = self.files.get(&self.name)?.and_then(|text| Owner::parse(&text));
        let age = self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        // Of a folder the operating system's lock holds for as long as we live.
        let holds = age < LIFE || !self.files.is_mirrored();
        if found.as_ref().is_some_and(|found| found.is_same(&self.owner)) && holds {
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

/// Who writes to a database, as far as its locks tell: whoever is named there and has not let the claim expire.
pub fn holders(files: &DatabaseFiles) -> Result<Vec<Owner>, StoreError> {
    let mut owners = Vec::new();
    for present in files.list(LOCKS)? {
        let text = files.get(&present.file)?.filter(|_| task_of(&present.file).is_some());
        owners.extend(text.and_then(|text| Owner::parse(&text)).filter(|owner| owner.expires > Utc::now()));
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic;
    use crate::store::location::Location;
    use crate::store::storage::Memory;
    use crate::store::task::Partition;

    const CRAWL: Task = Task::Crawl(Partition::WHOLE);

    /// A folder, and a place that has no locks but those that are stated.
    fn places(dir: &tempfile::TempDir) -> [DatabaseFiles; 2] {
        let memory = Location::Memory { files: Memory::default(), mirror: dir.path().join("mirror") };
        [dir.path().join("folder").as_path().into(), memory]
            .map(|location| DatabaseFiles::open(location).unwrap())
    }

    fn claim(files: &DatabaseFiles, host: &str, expires_in: i64) {
        let since = Utc::now();
        let owner = Owner::this(since, since + chrono::Duration::seconds(expires_in));
        let owner = Owner { host: host.into(), pid: u32::MAX, ..owner };
        files.put("locks/crawl.lock", &owner.to_text()).unwrap();
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        for files in places(&dir) {
            let lock = Lock::acquire(&files, CRAWL).unwrap();
            lock.check().unwrap();
            for task in [CRAWL, Task::Maintenance, Task::Crawl(Partition { number: 1, of: 2 })] {
                let error = Lock::acquire(&files, task).unwrap_err();
                let StoreError::Locked { owner: Some(owner), .. } = &error else { panic!("{error}") };
                assert_eq!(owner.pid, std::process::id());
            }
            let litter = files.folder().join("shards/.tmp-x");
            atomic::write(&litter, b"half").unwrap();
            let beside = Lock::acquire(&files, Task::Index).unwrap();
            assert!(litter.exists(), "the other one may be writing it");
            assert_eq!(holders(&files).unwrap().len(), 2);
            drop((lock, beside));
            assert_eq!(holders(&files).unwrap(), []);
            drop(Lock::acquire(&files, Task::Maintenance).unwrap());
            assert_eq!(litter.exists(), files.is_mirrored(), "others may be fetching into a mirror");
        }
    }

    #[test]
    fn claims_of_other_machines_hold_until_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        for files in places(&dir) {
            claim(&files, "elsewhere.example", 60);
            for task in [CRAWL, Task::Maintenance] {
                assert!(matches!(Lock::acquire(&files, task), Err(StoreError::Locked { .. })));
            }
            claim(&files, "elsewhere.example", -1);
            drop(Lock::acquire(&files, CRAWL).unwrap());
            // A dead process of this machine holds nothing, whatever the file says.
            claim(&files, &Owner::this(Utc::now(), Utc::now()).host, 60);
            drop(Lock::acquire(&files, CRAWL).unwrap());
            files.put("locks/crawl.lock", b"{").unwrap();
            drop(Lock::acquire(&files, CRAWL).unwrap());
        }
    }

    #[test]
    fn a_lock_that_was_taken_over_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for files in places(&dir) {
            let lock = Lock::acquire(&files, CRAWL).unwrap();
            claim(&files, "elsewhere.example", 60);
            let taken = lock.check();
            assert!(matches!(taken, Err(StoreError::Locked { owner: Some(o), .. }) if o.pid == u32::MAX));
            drop(lock);
            // Nor is the other's claim wiped out.
            assert_eq!(holders(&files).unwrap()[0].host, "elsewhere.example");
        }
    }
}
