//! The end of a command that failed as a whole: what happened, and what to do about it.

use std::fmt;

use crate::answers::bulk::BulkError;
use crate::answers::compare::CompareError;
use crate::answers::scan::ScanFailure;
use crate::checkpoint::error::in_full;
use crate::hub::HubError;
use crate::pipeline::{CrawlError, RunError};
use crate::publication::error::PublicationError;
use crate::store::StoreError;

/// An error with a hint for the user.
#[derive(Debug)]
pub(super) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    temporary: bool,
}

impl Failure {
    /// Says that the same command may work later without anybody's doing.
    pub(super) fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// Whether the same command may work later without anybody's doing.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    fn new(error: impl Into<anyhow::Error>, hint: Option<&str>) -> Self {
        Self { error: error.into(), hint: hint.map(str::to_owned), temporary: false }
    }

    /// Something that the user gave is wrong.
    pub(super) fn usage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(error, None)
    }

    /// Adds advice where the error has none.
    pub(super) fn with_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// The advice.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the reader of stdout has gone.
    pub(super) fn is_broken_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|e| e.downcast_ref::<std::io::Error>())
            .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_full(self.error.as_ref()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(error, None)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error, None)
    }
}

impl From<PublicationError> for Failure {
    fn from(error: PublicationError) -> Self {
        match error {
            PublicationError::Store(error) => error.into(),
            PublicationError::Hub(error) => error.into(),
            error => {
                let hint = error.hint();
                Self::new(error, Some(hint))
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (hint, locked) = (error.hint(), matches!(error, StoreError::Locked { .. }));
        let failure = Self::new(error, Some(hint));
        if locked { failure.temporary() } else { failure }
    }
}

impl From<&ScanFailure> for Failure {
    fn from(failure: &ScanFailure) -> Self {
        Self::new(anyhow::anyhow!("{}", failure.error), failure.hint.as_deref())
    }
}

impl From<BulkError> for Failure {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::Store(error) => error.into(),
            BulkError::Output(error) => error.into(),
            error => {
                let hint = error.hint();
                Self::new(error, hint)
            }
        }
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Self {
        let hint = error.hint();
        Self::new(error, hint)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Crawl(error) => error.into(),
            RunError::Store(error) => error.into(),
            RunError::Publish(error) => error.into(),
            RunError::Output(error) => error.into(),
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let hint = error.hint();
        Self::new(error, hint)
    }
}

impl From<CrawlError> for Failure {
    fn from(error: CrawlError) -> Self {
        match error {
            CrawlError::Store(error) => error.into(),
            totals @ CrawlError::Totals(_) => {
                Self::new(totals, Some("this is a bug in hubprint; please report it"))
            }
        }
    }
}
