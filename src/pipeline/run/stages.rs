//! The stages by themselves: from the address of a database to the report.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;

use super::watcher::{News, Stage, Watcher};
use crate::answers::scan::{ScanJob, ScanLine, Scanner};
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;
use crate::pipeline::crawl::{self, CrawlError};
use crate::pipeline::forecast::Forecast;
use crate::pipeline::index::{self, IndexReport};
use crate::pipeline::maintain::{self, MaintainSettings, Maintained};
use crate::pipeline::process::peak_memory_bytes;
use crate::pipeline::progress::Progress;
use crate::pipeline::report::{Experience, RunReport};
use crate::pipeline::settings::CrawlSettings;
use crate::pipeline::summary;
use crate::publication::address::Address;
use crate::publication::error::PublicationError;
use crate::publication::key::Key;
use crate::publication::plan::Published;
use crate::publication::prepare::PublishSettings;
use crate::publication::send::send;
use crate::retrieval::{BuildSettings, memory_bound};
use crate::store::{Database, Location, Outcome, Partition, StoreError, Task};

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The crawl.
    #[error(transparent)]
    Crawl(#[from] CrawlError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The publication.
    #[error(transparent)]
    Publish(#[from] PublicationError),
    /// A report could not be written.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

/// Where a database is published, and how.
pub struct Destination {
    /// The place.
    pub address: Address,
    /// The key to sign with.
    pub key: Key,
    /// How.
    pub settings: PublishSettings,
}

/// Crawls, and keeps the report in the database.
pub async fn crawl(
    hub: &Hub,
    db: &Location,
    settings: &CrawlSettings,
    watcher: &impl Watcher,
) -> Result<RunReport, RunError> {
    let mut db = Database::open_or_create(db, Task::Crawl(settings.enumerate.partition))?;
    let progress = Arc::new(Progress::default());
    let report = {
        let watched = watcher.begin(Stage::Crawl, &progress);
        crawl::crawl(hub, &mut db, settings, &progress, watched.stop.clone()).await?
    };
    let part = match settings.enumerate.partition {
        Partition::WHOLE => String::new(),
        Partition { number, of } => format!("-{number}-of-{of}"),
    };
    let name = format!("crawl-{}{part}", Utc::now().format("%Y%m%dT%H%M%S%3fZ"));
    let json = serde_json::to_vec_pretty(&report).map_err(std::io::Error::from)?;
    db.keep_report(&format!("{name}.json"), &json)?;
    db.keep_report(&format!("{name}.md"), summary::markdown(&report).as_bytes())?;
    watcher.tell(News::Crawled(&report))?;
    Ok(report)
}

/// Whether a crawl came to its end and every repository to one that is accepted; of those that were asked for by name
/// only a fingerprint is.
pub fn is_whole(report: &RunReport, settings: &CrawlSettings) -> bool {
    let asked_by_name = !settings.enumerate.repos.is_empty();
    let is_accepted = |outcome: Outcome| {
        let is_bad = if asked_by_name { outcome != Outcome::Indexed } else { outcome.is_failure() };
        !is_bad || settings.write.accept.contains(&outcome)
    };
    let mut outcomes = Outcome::ALL.into_iter().filter(|o| report.outcomes.contains_key(o.name()));
    !report.interrupted
        && report.suspicious_deletion.is_none()
        && report.error.is_none()
        && outcomes.all(is_accepted)
}

/// Lists, and says what a crawl would do. What the last one took is learnt from.
pub async fn foresee(
    hub: &Hub,
    db: &Location,
    settings: &CrawlSettings,
    watcher: &impl Watcher,
) -> Result<Forecast, RunError> {
    let db = match Database::open(db) {
        Err(StoreError::NotADatabase { .. }) => None,
        db => Some(db?),
    };
    let last = match db.as_ref().map(Database::reports).transpose()?.unwrap_or_default().into_iter().next() {
        // Of another version, it teaches nothing.
        Some(report) => serde_json::from_value(report).unwrap_or_default(),
        None => Experience::default(),
    };
    let progress = Arc::new(Progress::default());
    let watched = watcher.begin(Stage::Enumerate, &progress);
    Ok(crawl::foresee(hub, db.as_ref(), settings, last, &progress, watched.stop.clone()).await?)
}

/// Brings the index up to date, or builds it `from_nothing`. Asked to stop, it commits the shards that are done, if the
/// index in use covers fewer.
pub fn index(
    db: &Location,
    settings: &BuildSettings,
    from_nothing: bool,
    watcher: &impl Watcher,
) -> Result<IndexReport, RunError> {
    let begun = Instant::now();
    let mut db = Database::open_to_write(db, Task::Index)?;
    let memory_bound_bytes = memory_bound(&db);
    watcher.tell(News::Indexing { memory_bound_bytes })?;
    let progress = Arc::new(Progress::default());
    let built = {
        let watched = watcher.begin(Stage::Index, &progress);
        let report = |done, all| progress.set(done, all);
        index::index(&mut db, settings, from_nothing, &report, &|| *watched.stop.borrow())?
    };
    let report = IndexReport {
        built,
        seconds: begun.elapsed().as_secs_f64(),
        memory_bound_bytes,
        peak_memory_bytes: peak_memory_bytes(),
    };
    watcher.tell(News::Indexed(&report))?;
    Ok(report)
}

/// Looks after a database; `None` where another process writes to it.
pub fn maintain(
    db: &Location,
    settings: &MaintainSettings,
    watcher: &impl Watcher,
) -> Result<Option<Maintained>, RunError> {
    let progress = Arc::new(Progress::default());
    let watched = watcher.begin(Stage::Maintenance, &progress);
    let maintained = Database::open_to_write(db, Task::Maintenance)
        .and_then(|mut db| maintain::maintain(&mut db, settings, &|done, all| progress.set(done, all)));
    drop(watched);
    match maintained {
        Ok(maintained) => {
            watcher.tell(News::Maintained(&maintained))?;
            Ok(Some(maintained))
        }
        Err(StoreError::Locked { .. }) => {
            watcher.tell(News::MaintenanceLeft)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a database with its index.
pub fn open_scanner(db: &Location, watcher: &impl Watcher) -> Result<Scanner, RunError> {
    let scanner = Scanner::open(Database::open(db)?)?;
    if scanner.is_stale() {
        watcher.tell(News::IndexBehind(db))?;
    }
    Ok(scanner)
}

/// Scans models, one after the other.
pub async fn scan(
    scanner: &Scanner,
    jobs: &[ScanJob],
    hub: &Hub,
    reader: &Reader,
    watcher: &impl Watcher,
) -> Result<Vec<ScanLine>, RunError> {
    let progress = Arc::new(Progress::default());
    progress.set(0, jobs.len() as u64);
    let _watched = watcher.begin(Stage::Scan, &progress);
    let mut lines = Vec::with_capacity(jobs.len());
    for job in jobs {
        let answers = scanner.answers(job, hub, reader).await;
        for line in &answers {
            watcher.tell(News::Scanned(line))?;
        }
        progress.tick();
        lines.extend(answers);
    }
    Ok(lines)
}

/// Publishes a database; without `execute` nothing is written.
pub async fn publish(
    db: &Location,
    to: &Destination,
    hub: &Hub,
    execute: bool,
    watcher: &impl Watcher,
) -> Result<Published, RunError> {
    let db = Database::open(db)?;
    let progress = Arc::new(Progress::default());
    let published = {
        let _watched = watcher.begin(Stage::Publish, &progress);
        let report = |done, all| progress.set(done, all);
        send(&db, &to.address, hub, &to.key, &to.settings, execute, &report).await?
    };
    watcher.tell(News::Published(&published, &to.settings.to))?;
    Ok(published)
}
