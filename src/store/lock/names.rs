//! The files of locks, and what is told of one that is held.

use crate::store::error::StoreError;
use crate::store::files::DatabaseFiles;
use crate::store::layout::LOCKS;
use crate::store::owner::Owner;
use crate::store::task::Task;

/// The file of a task's lock.
pub(super) fn lock_name(task: Task) -> String {
    format!("{LOCKS}/{}.lock", task.label())
}

/// The task whose lock a file is.
pub(super) fn task_of(file: &str) -> Option<Task> {
    Task::from_label(file.rsplit('/').next()?.strip_suffix(".lock")?)
}

/// That somebody else holds a lock.
pub(super) fn locked(files: &DatabaseFiles, owner: Option<Owner>) -> StoreError {
    StoreError::Locked { path: files.location().to_string().into(), owner: owner.map(Box::new) }
}
