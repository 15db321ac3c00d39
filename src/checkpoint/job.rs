//! A repository from what the list says of it to its rows, and the same as a value that any scheduler can carry.

use serde::{Deserialize, Serialize};

use super::error::{ReadError, in_full, outcome_of_hub_error};
use super::reading::{OfComponent, ReadSettings, Reader, Reading};
use super::row;
use super::source::Source;
use crate::hub::{HubError, RepoEntry, RepoRef};
use crate::store::{Outcome, Row};

/// Why a repository ends without a fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The Hub has closed it.
    #[error("the Hub has disabled this repository")]
    Disabled,
    /// It has no commit to read at.
    #[error("the Hub names no commit")]
    NoCommit,
    /// The Hub does not describe it.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Unread {
    /// How it ends.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Disabled => Outcome::Disabled,
            Self::NoCommit => Outcome::Malformed,
            Self::Hub(error) => outcome_of_hub_error(error),
            Self::Read(error) => error.outcome(),
        }
    }

    /// What the Hub said, or that it did not answer.
    pub fn hub_error(&self) -> Option<&HubError> {
        match self {
            Self::Hub(source) | Self::Read(ReadError::Hub { source, .. }) => Some(source),
            _ => None,
        }
    }

    /// The row of the repository.
    pub fn row(&self, entry: &RepoEntry) -> Row {
        row::failed(entry, self.outcome(), in_full(self))
    }
}

/// What becomes of the checkpoints of a repository: each is read by itself, and one that cannot be ends as `failed` says.
/// Where none can, or where to ask again may help, the error is that of the repository.
pub fn each<T>(
    read: Vec<OfComponent<T>>,
    failed: impl Fn(Row) -> T,
    entry: &RepoEntry,
) -> Result<Vec<T>, Unread> {
    let is_passing = |read: &Result<T, ReadError>| read.as_ref().is_err_and(ReadError::is_passing);
    let none = read.iter().all(|(_, read)| read.is_err());
    let passing = read.iter().position(|(_, read)| is_passing(read));
    let fatal = passing.or_else(|| none.then_some(0));
    let mut ends = Vec::with_capacity(read.len());
    for (place, (component, read)) in read.into_iter().enumerate() {
        match read {
            Err(error) if fatal == Some(place) => return Err(error.into()),
            Err(error) => ends.push(failed(Row { component, ..Unread::from(error).row(entry) })),
            Ok(read) => ends.push(read),
        }
    }
    Ok(ends)
}

/// The repository with its commit and the names of its files: a listing that was asked for them has them, another may
/// not.
pub async fn describe(source: &dyn Source, entry: &RepoEntry) -> Result<RepoEntry, Unread> {
    if entry.disabled == Some(true) {
        return Err(Unread::Disabled);
    }
    if entry.sha.is_some() && entry.siblings.is_some() {
        return Ok(entry.clone());
    }
    Ok(source.info(&entry.id.clone().into()).await?)
}

/// Opens every checkpoint of a repository.
pub async fn open<'a>(
    source: &dyn Source,
    entry: &RepoEntry,
    reader: &'a Reader,
) -> Result<Vec<OfComponent<Reading<'a>>>, Unread> {
    let commit = entry.sha.as_deref().ok_or(Unread::NoCommit)?;
    let files = source.files(&entry.id, commit, entry.siblings.clone().unwrap_or_default());
    let metadata = reader.metadata(&*files, entry.config.as_ref()).await?;
    Ok(reader.open(&files, &metadata).await?)
}

/// What to read: a repository, and how. Ends as rows, whatever happens.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use hubprint::checkpoint::job::ReadJob;
/// use hubprint::checkpoint::sources::memory::MemorySource;
///
/// let job: ReadJob = serde_json::from_str(r#"{"repo": "org/name"}"#)?;
/// let rows = job.run(&MemorySource::default()).await;
/// assert_eq!(rows[0].outcome.name(), "missing");
/// # Ok::<(), serde_json::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadJob {
    /// `org/name`, or `org/name@revision`.
    pub repo: String,
    /// How it is read.
    #[serde(default)]
    pub settings: ReadSettings,
}

impl ReadJob {
    /// Reads it: one row for each of its checkpoints, the main one first, or one that says why there is none.
    pub async fn run(&self, source: &dyn Source) -> Vec<Row> {
        let repo: RepoRef = match self.repo.parse() {
            Ok(repo) => repo,
            Err(invalid) => return vec![row::bare(&self.repo, Outcome::Malformed, in_full(&invalid))],
        };
        let entry = match source.info(&repo).await {
            Ok(entry) => entry,
            Err(error) => return vec![row::bare(&self.repo, outcome_of_hub_error(&error), in_full(&error))],
        };
        let reader = Reader::from(self.settings.clone());
        match rows(source, &entry, &reader).await {
            Ok(rows) => rows,
            Err(unread) => vec![unread.row(&entry)],
        }
    }
}

async fn rows(source: &dyn Source, entry: &RepoEntry, reader: &Reader) -> Result<Vec<Row>, Unread> {
    let entry = describe(source, entry).await?;
    let mut rows = Vec::new();
    for (component, reading) in open(source, &entry, reader).await? {
        match reading {
            Ok(reading) => rows.extend(reading.rows(&entry).await),
            Err(error) => rows.push((component, Err(error))),
        }
    }
    each(rows, |row| row, &entry)
}
