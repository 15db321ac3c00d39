//! enumerate -> plan -> fetch -> extract -> write, with bounded queues between them.
//!
//! Memory is bounded by settings, not by the Hub: at most `QUEUE` descriptions wait, at most
//! `repos_in_flight` repositories are read at once, each holding at most its header limit and its plan's
//! bytes, and at most one shard's rows are pending. A full queue holds back the stage before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::progress::Progress;
use super::report::{RunReport, in_full, peak_memory_bytes};
use crate::formats::Limits;
use crate::hub::{Hub, RepoEntry};
use crate::signals::Fingerprint;
use crate::stages::enumerate::{self, EnumerateSettings, Enumerated};
use crate::stages::fetch::outcome_of_hub_error;
use crate::stages::files::HubFiles;
use crate::stages::model::{self, LoadSettings};
use crate::stages::plan::PlanSettings;
use crate::stages::write::{self, WriteSettings, Writer};
use crate::store::database::Known;
use crate::store::{Database, Outcome, Row, StoreError};

/// Descriptions that may wait between enumerate and fetch: one page.
const QUEUE: usize = 1000;

/// How much is fetched at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchSettings {
    /// Repositories read at once. The client itself keeps to 8 CDN requests and the Hub's rate limits.
    pub repos_in_flight: usize,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { repos_in_flight: 8 }
    }
}

/// Settings of all five stages.
#[derive(Clone, Debug, Default)]
pub struct CrawlSettings {
    /// Which repositories.
    pub enumerate: EnumerateSettings,
    /// How much of each.
    pub plan: PlanSettings,
    /// How many at once.
    pub fetch: FetchSettings,
    /// How rows become shards.
    pub write: WriteSettings,
    /// What to believe of a file.
    pub limits: Limits,
}

/// A crawl that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CrawlError {
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows and outcomes do not add up: a bug.
    #[error(
        "the totals do not add up: {models} repositories, {ended} outcomes, {unchanged} unchanged, {rows} rows"
    )]
    Totals {
        /// Repositories enumerated.
        models: u64,
        /// Outcomes counted.
        ended: u64,
        /// Repositories skipped.
        unchanged: u64,
        /// Rows written.
        rows: u64,
    },
}

/// Crawls into the database. When `stop` becomes true, nothing new is begun and what is under way is finished.
///
/// A listing that breaks off is part of the report, not an error: what came before it is in the database.
pub async fn crawl(
    hub: &Hub,
    db: &mut Database,
    settings: &CrawlSettings,
    progress: &Arc<Progress>,
    stop: watch::Receiver<bool>,
) -> Result<RunReport, CrawlError> {
    let begun = Instant::now();
    let known = db.live()?;
    let (send, receive) = mpsc::channel(QUEUE);
    let listing = tokio::spawn({
        let (hub, settings, progress) = (hub.clone(), settings.enumerate.clone(), Arc::clone(progress));
        async move {
            let listed = enumerate::enumerate(&hub, &settings, send, || progress.found()).await;
            progress.close();
            listed
        }
        .instrument(tracing::info_span!("enumerate"))
    });

    let load = LoadSettings {
        plan: settings.plan.clone(),
        limits: settings.limits.clone(),
        ..LoadSettings::default()
    };
    let mut report = RunReport::default();
    let mut writer = Writer::new(db, &settings.write);
    let source = stream::unfold((receive, stop.clone()), |(mut receive, mut stop)| async move {
        let one = tokio::select! {
            biased;
            true = stopped(&mut stop) => None,
            one = receive.recv() => one,
        };
        one.map(|one| (one, (receive, stop)))
    });
    let mut ends = std::pin::pin!(
        source
            .map(|one| read_one(hub, one, &known, &load))
            .buffer_unordered(settings.fetch.repos_in_flight.max(1))
    );
    while let Some(end) = ends.next().await {
        match end {
            End::Unchanged => {
                report.models += 1;
                report.unchanged += 1;
            }
            End::Row(row) => {
                report.count(&row.repo_id, row.outcome, row.reason.as_deref());
                report.bytes_fetched += row.bytes_fetched;
                report.bytes_in_repos += row.bytes_in_repo;
                writer.push(*row)?;
            }
        }
        progress.tick();
    }
    report.rows_written = writer.finish()?;
    report.interrupted = *stop.borrow();
    match listing.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            report.hint = error.hint();
            report.error = Some(in_full(&error));
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
    report.add_usage(&hub.usage());
    report.seconds = begun.elapsed().as_secs_f64();
    report.peak_memory_bytes = peak_memory_bytes();
    if report.adds_up() {
        Ok(report)
    } else {
        Err(CrawlError::Totals {
            models: report.models,
            ended: report.outcomes.values().sum(),
            unchanged: report.unchanged,
            rows: report.rows_written,
        })
    }
}

/// Resolves to true when the run is asked to stop, to false when nobody can ask any more.
async fn stopped(stop: &mut watch::Receiver<bool>) -> bool {
    stop.wait_for(|stop| *stop).await.is_ok()
}

enum End {
    Unchanged,
    Row(Box<Row>),
}

async fn read_one(hub: &Hub, one: Enumerated, known: &HashMap<String, Known>, load: &LoadSettings) -> End {
    let row = match one {
        Enumerated::Failed { name, error } => {
            write::bare_row(&name, outcome_of_hub_error(&error), in_full(&error))
        }
        Enumerated::Rejected { name, reason } => write::bare_row(&name, Outcome::Malformed, reason),
        Enumerated::Found(entry) => {
            let same =
                known.get(&entry.object_id).is_some_and(|k| k.outcome.is_final() && k.sha == entry.sha);
            if same && entry.sha.is_some() {
                return End::Unchanged;
            }
            let span = tracing::info_span!("fetch", repo = %entry.id);
            read_repo(hub, *entry, load).instrument(span).await
        }
    };
    let reason = row.reason.as_deref().unwrap_or_default();
    tracing::info!(repo = %row.repo_id, outcome = row.outcome.name(), bytes = row.bytes_fetched, reason, "read");
    End::Row(Box::new(row))
}

async fn read_repo(hub: &Hub, entry: RepoEntry, load: &LoadSettings) -> Row {
    if entry.disabled == Some(true) {
        return write::failed_row(&entry, Outcome::Disabled, "the Hub has disabled this repository".into());
    }
    // A listing that was asked for the commit and the files has them; another Hub may not.
    let entry = if entry.sha.is_some() && entry.siblings.is_some() {
        entry
    } else {
        match hub.info(&entry.id, None).await {
            Ok(entry) => entry,
            Err(error) => return write::failed_row(&entry, outcome_of_hub_error(&error), in_full(&error)),
        }
    };
    let Some(sha) = entry.sha.clone() else {
        return write::failed_row(&entry, Outcome::Malformed, "the Hub names no commit".into());
    };
    let names = entry.siblings.clone().unwrap_or_default();
    let files = HubFiles::new(hub.clone(), entry.id.clone(), sha, names);
    let (metadata, weights) = match model::read(&files, load).await {
        Ok(read) => read,
        Err(error) => return write::failed_row(&entry, error.outcome(), in_full(&error)),
    };
    let fingerprinted = weights.map_err(|error| in_full(&*error)).and_then(|extracted| {
        let fingerprint = Fingerprint::new(&extracted.samples).map_err(|error| in_full(&error))?;
        Ok((extracted, fingerprint))
    });
    match fingerprinted {
        Ok((extracted, fingerprint)) => write::indexed_row(&entry, &metadata, extracted, fingerprint),
        Err(reason) => write::failed_row(&entry, Outcome::Unsupported, reason),
    }
}
