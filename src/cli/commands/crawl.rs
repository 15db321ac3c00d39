//! `hubprint crawl`

use crate::checkpoint::plan::SmallFiles;
use crate::cli::args::{CrawlArgs, WantedArgs};
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::watching::Watching;
use crate::cli::{environment, printer, tables};
use crate::pipeline::enumerate::EnumerateSettings;
use crate::pipeline::run::stages::{self, is_whole};
use crate::pipeline::{BudgetSettings, CrawlSettings, Forecast, RunReport};

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
        reread,
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
            reread: reread.into(),
            ..EnumerateSettings::default()
        },
        budget: args.watch.budget(BudgetSettings::default()),
        ..CrawlSettings::default()
    };
    let watching = Watching::quietly().with_metrics(args.watch.metrics.as_deref(), &hub);
    if args.watch.dry_run {
        let forecast = stages::foresee(&hub, &args.db, &settings, &watching).await?;
        return show_forecast(&forecast, args.json);
    }
    let report = stages::crawl(&hub, &args.db, &settings, &watching).await?;
    if args.json {
        printer::json(&report)?;
    } else {
        printer::data(&tables::crawl(&report))?;
    }
    ended(&report, &settings)
}

pub(in crate::cli) fn show_forecast(forecast: &Forecast, as_json: bool) -> Result<Done, Failure> {
    if as_json {
        printer::json(forecast)?;
    }
    // What was foreseen of a part is no plan.
    if let Some(error) = &forecast.error {
        return Err(Failure::from(anyhow::anyhow!("the listing broke off: {error}"))
            .with_hint("is the Hub up? check --hub, HF_ENDPOINT and the network")
            .temporary());
    }
    if !as_json {
        printer::data(&tables::forecast(forecast))?;
    }
    Ok(if forecast.complete { Done::All } else { Done::Partly })
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
    Ok(if is_whole(report, settings) { Done::All } else { Done::Partly })
}
