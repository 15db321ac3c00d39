//! `hubprint crawl`

use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use tokio::sync::watch;

use crate::cli::args::CrawlArgs;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{Done, environment, printer, tables};
use crate::hub::Hub;
use crate::pipeline::{CrawlSettings, Progress, RunReport, crawl};
use crate::stages::enumerate::EnumerateSettings;
use crate::store::{Database, Outcome};

pub(in crate::cli) async fn run(args: CrawlArgs) -> Result<Done, Failure> {
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let settings = CrawlSettings {
        enumerate: EnumerateSettings {
            repos: args.repo,
            exclude: args.exclude,
            filters: args.filter,
            author: args.author,
            limit: args.limit,
            page_size: None,
        },
        ..CrawlSettings::default()
    };
    let report = crawl_with(&hub, &args.db, &settings).await?;
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
    db: &Path,
    settings: &CrawlSettings,
) -> Result<RunReport, Failure> {
    let mut db = Database::open_or_create(db)?;
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        if stop_signal().await.is_ok() {
            printer::talk("stopping: repositories under way are finished; interrupt again to stop at once");
            let _ = stop.send(true);
            // The second one ends the process as if we had not been listening.
            let _ = stop_signal().await;
            std::process::exit(130);
        }
    });
    let progress = Arc::new(Progress::default());
    let watch = Watch::start("crawl", "models", &progress);
    let report = crawl(hub, &mut db, settings, &progress, stopped).await;
    drop(watch);
    signals.abort();
    let report = report?;
    let name = format!("crawl-{}.json", Utc::now().format("%Y%m%dT%H%M%S%3fZ"));
    db.keep_report(&name, &serde_json::to_vec_pretty(&report).map_err(anyhow::Error::from)?)?;
    Ok(report)
}

/// What the outcomes mean for the exit code.
pub(in crate::cli) fn ended(report: &RunReport, settings: &CrawlSettings) -> Result<Done, Failure> {
    if let Some(error) = &report.error {
        let context = format!("the listing broke off after {} repositories: {error}", report.models);
        let hint = match report.models {
            0 => report.hint.unwrap_or("is the Hub up? check --hub, HF_ENDPOINT and the network"),
            _ => "what was crawled is kept; run the same command again to go on",
        };
        return Err(Failure::from(anyhow::anyhow!(context)).with_hint(hint));
    }
    let asked_by_name = !settings.enumerate.repos.is_empty();
    let failed = |outcome: Outcome| {
        let bad = if asked_by_name { outcome != Outcome::Indexed } else { outcome.is_failure() };
        bad && !settings.write.accept.contains(&outcome) && report.outcomes.contains_key(outcome.name())
    };
    let partly = report.interrupted || Outcome::ALL.into_iter().any(failed);
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
