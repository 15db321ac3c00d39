//! `hubprint crawl`

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checkpoint::plan::SmallFiles;
use crate::cli::args::{CrawlArgs, CrawlWatchArgs, WantedArgs};
use crate::cli::failure::Failure;
use crate::cli::metrics::Metrics;
use crate::cli::progress::Watch;
use crate::cli::{Done, environment, printer, tables};
use crate::hub::Hub;
use crate::pipeline::enumerate::EnumerateSettings;
use crate::pipeline::report::Experience;
use crate::pipeline::{BudgetSettings, CrawlSettings, Forecast, Progress, RunReport, crawl, foresee};
use crate::store::{Database, Location, Outcome, Partition, StoreError, Task};

pub(in crate::cli) async fn run(args: CrawlArgs) -> Result<Done, Failure> {
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let mut read = CrawlSettings::default().read;
    if args.all_small_files {
        read.small_files = SmallFiles::All;
    }
    let WantedArgs {
        author,
        filter,
        library,
        pipeline_tag,
        format,
        min_downloads,
        min_parameters,
        max_parameters,
        private,
        exclude,
        order,
    } = args.wanted;
    let settings = CrawlSettings {
        read,
        enumerate: EnumerateSettings {
            repos: args.repo,
            exclude,
            filters: filter,
            author,
            library,
            pipeline_tag,
            formats: format,
            min_downloads,
            min_parameters,
            max_parameters,
            private,
            limit: args.limit,
            partition: args.watch.partition.unwrap_or_default(),
            order: order.into(),
            ..EnumerateSettings::default()
        },
        budget: args.watch.budget(BudgetSettings::default()),
        ..CrawlSettings::default()
    };
    if args.watch.dry_run {
        let forecast = forecast_with(&hub, &args.db, &settings).await?;
        return show_forecast(&forecast, args.json);
    }
    let report = crawl_with(&hub, &args.db, &settings, &args.watch).await?;
    if args.json {
        printer::json(&report)?;
    } else {
        printer::data(&tables::crawl(&report))?;
    }
    ended(&report, &settings)
}

/// Crawls with a progress bar and a stop signal, and keeps the report in the database.
pub(in crate::cli) async fn crawl_with(
    hub: &Hub,
    db: &Location,
    settings: &CrawlSettings,
    args: &CrawlWatchArgs,
) -> Result<RunReport, Failure> {
    let mut db = Database::open_or_create(db, Task::Crawl(settings.enumerate.partition))?;
    let (stopped, signals) = stop_on_signal();
    let progress = Arc::new(Progress::default());
    let watch = Watch::start("crawl", "models", &progress);
    let metrics = args.metrics.as_deref().map(|path| Metrics::start(path, hub, &progress));
    let report = crawl(hub, &mut db, settings, &progress, stopped).await;
    drop(watch);
    signals.abort();
    let report = report?;
    let part = match settings.enumerate.partition {
        Partition::WHOLE => String::new(),
        Partition { number, of } => format!("-{number}-of-{of}"),
    };
    let name = format!("crawl-{}{part}", Utc::now().format("%Y%m%dT%H%M%S%3fZ"));
    let json = serde_json::to_vec_pretty(&report).map_err(anyhow::Error::from)?;
    db.keep_report(&format!("{name}.json"), &json)?;
    db.keep_report(&format!("{name}.md"), tables::crawl_markdown(&report).as_bytes())?;
    if let Some(metrics) = metrics {
        metrics.end(&report)?;
    }
    Ok(report)
}

/// Lists, and says what a crawl would do.
pub(in crate::cli) async fn forecast_with(
    hub: &Hub,
    db: &Location,
    settings: &CrawlSettings,
) -> Result<Forecast, Failure> {
    let db = match Database::open(db) {
        Err(StoreError::NotADatabase { .. }) => None,
        db => Some(db?),
    };
    let last = match db.as_ref().map(Database::reports).transpose()?.unwrap_or_default().into_iter().next() {
        // Of another version, it teaches nothing.
        Some(report) => serde_json::from_value(report).unwrap_or_default(),
        None => Experience::default(),
    };
    let (stopped, signals) = stop_on_signal();
    let progress = Arc::new(Progress::default());
    let watch = Watch::start("enumerate", "models", &progress);
    let forecast = foresee(hub, db.as_ref(), settings, last, &progress, stopped).await;
    drop(watch);
    signals.abort();
    Ok(forecast?)
}

pub(in crate::cli) fn show_forecast(forecast: &Forecast, as_json: bool) -> Result<Done, Failure> {
    if as_json {
        printer::json(forecast)?;
    } else {
        printer::data(&tables::forecast(forecast))?;
    }
    match &forecast.error {
        None if forecast.complete => Ok(Done::All),
        None => Ok(Done::Partly),
        Some(error) => Err(Failure::from(anyhow::anyhow!("the listing broke off: {error}")).temporary()),
    }
}

/// Becomes true at the first signal; the second ends the process as if nobody had been listening.
pub(super) fn stop_on_signal() -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        if stop_signal().await.is_ok() {
            printer::talk(
                "stopping: what is under way is finished or left for the next run; again to stop at once",
            );
            let _ = stop.send(true);
            let _ = stop_signal().await;
            std::process::exit(130);
        }
    });
    (stopped, signals)
}

/// What the outcomes mean for the exit code.
pub(in crate::cli) fn ended(report: &RunReport, settings: &CrawlSettings) -> Result<Done, Failure> {
    if let Some(error) = &report.error {
        let begun = if report.sweep_complete { "the Hub went away" } else { "the listing broke off" };
        let context = format!("{begun} after {} repositories: {error}", report.models);
        let hint = match report.models {
            0 => report.hint.unwrap_or("is the Hub up? check --hub, HF_ENDPOINT and the network"),
            _ => "what was crawled is kept; run the same command again to go on",
        };
        let failure = Failure::from(anyhow::anyhow!(context)).with_hint(hint);
        return Err(if report.is_temporary { failure.temporary() } else { failure });
    }
    if let Some(suspicious) = &report.suspicious_deletion {
        printer::talk(&format!("warning: {suspicious}; see max_gone in pipelines/README.md"));
    }
    let asked_by_name = !settings.enumerate.repos.is_empty();
    let failed = |outcome: Outcome| {
        let bad = if asked_by_name { outcome != Outcome::Indexed } else { outcome.is_failure() };
        bad && !settings.write.accept.contains(&outcome) && report.outcomes.contains_key(outcome.name())
    };
    let partly =
        report.interrupted || report.suspicious_deletion.is_some() || Outcome::ALL.into_iter().any(failed);
    Ok(if partly { Done::Partly } else { Done::All })
}

/// Waits for SIGINT or SIGTERM.
pub(in crate::cli) async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
