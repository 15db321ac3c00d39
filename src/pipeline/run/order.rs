//! Which stage follows which.

use schemars::JsonSchema;
use serde::Serialize;

use super::stages::{self, Destination, RunError};
use super::watcher::Watcher;
use crate::answers::scan::ScanLine;
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;
use crate::pipeline::index::IndexReport;
use crate::pipeline::maintain::Maintained;
use crate::pipeline::report::RunReport;
use crate::pipeline::settings::{CrawlSettings, Pipeline};
use crate::publication::plan::Published;
use crate::store::Location;

/// A run: a pipeline file, and what it leaves to its surroundings.
pub struct Run<'a> {
    /// What to do.
    pub pipeline: &'a Pipeline,
    /// The Hub.
    pub hub: &'a Hub,
    /// The database.
    pub database: &'a Location,
    /// The crawl, if one is wanted: that of the file, with what was asked for in its place.
    pub crawl: Option<&'a CrawlSettings>,
    /// How models that are scanned are read.
    pub reader: &'a Reader,
    /// Where the file says that the database is to be published, with the key to it.
    pub destination: Option<&'a Destination>,
}

/// What came of each stage: `run --json`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct RunAnswer {
    /// The crawl; null, as the others, where it was not made.
    pub crawl: Option<RunReport>,
    /// The index.
    pub index: Option<IndexReport>,
    /// Maintenance.
    pub maintenance: Option<Maintained>,
    /// The scans, a line a model as of `scan --json`.
    pub scan: Vec<ScanLine>,
    /// The publication.
    pub publish: Option<Published>,
}

/// Goes through the stages that the file declares. A crawl that is asked to stop is the last of them; a Hub that went
/// away leaves those that work from disk.
pub async fn run(run: &Run<'_>, watcher: &impl Watcher) -> Result<RunAnswer, RunError> {
    let Run { pipeline, hub, database, crawl, reader, destination } = run;
    let mut all = RunAnswer::default();
    let mut has_hub = true;
    if let Some(settings) = crawl {
        let report = stages::crawl(hub, database, settings, watcher).await?;
        has_hub = report.error.is_none();
        let is_stopped = report.interrupted;
        all.crawl = Some(report);
        if is_stopped {
            return Ok(all);
        }
    }
    if let Some(settings) = &pipeline.index {
        all.index = Some(stages::index(database, settings, false, watcher)?);
    }
    if let Some(settings) = &pipeline.maintenance {
        all.maintenance = stages::maintain(database, settings, watcher)?;
    }
    if let Some(settings) = pipeline.scan.as_ref().filter(|_| has_hub) {
        let scanner = stages::open_scanner(database, watcher)?;
        all.scan = stages::scan(&scanner, &settings.jobs(), hub, reader, watcher).await?;
    }
    if let Some(destination) = destination.filter(|_| has_hub) {
        all.publish = Some(stages::publish(database, destination, hub, true, watcher).await?);
    }
    Ok(all)
}
