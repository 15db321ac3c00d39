//! `hubprint run`

use std::net::{Ipv4Addr, SocketAddr};

use super::crawl::{ended, show_forecast};
use super::publish::destination;
use crate::answers::scan::ScanLine;
use crate::checkpoint::plan::PlanSettings;
use crate::cli::args::RunArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::watching::Watching;
use crate::cli::{environment, printer};
use crate::hub::Hub;
use crate::local_hub;
use crate::pipeline::enumerate::EnumerateSettings;
use crate::pipeline::run::{Run, stages};
use crate::pipeline::{self, CrawlSettings, Pipeline};

pub(in crate::cli) async fn run(args: RunArgs) -> Result<Done, Failure> {
    let pipeline = Pipeline::read(&args.pipeline).map_err(Failure::usage)?;
    let served = match &pipeline.hub.serve {
        Some(folder) => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let served = local_hub::start(folder, any, any, local_hub::Settings::default())
                .await
                .map_err(Failure::usage)?;
            printer::talk(&format!("serving {} at {}", folder.display(), served.hub_url()));
            Some(served)
        }
        None => None,
    };
    let endpoint = served.as_ref().map(local_hub::Running::hub_url).or(pipeline.hub.endpoint.as_deref());
    let hub = environment::hub_with(endpoint, &pipeline.hub)?;
    let result = run_on(&pipeline, &hub, &args).await;
    if let Some(served) = served {
        served.shutdown().await;
    }
    result
}

async fn run_on(pipeline: &Pipeline, hub: &Hub, args: &RunArgs) -> Result<Done, Failure> {
    let database =
        environment::location(&pipeline.database.path.to_string_lossy()).map_err(Failure::usage)?;
    // Who crawls all night wants to know before that nothing can be published.
    let destination = pipeline.publish.clone().map(destination).transpose()?;
    let crawl = pipeline.crawl().map(|settings| {
        let budget = args.watch.budget(settings.budget);
        let partition = args.watch.partition.unwrap_or(settings.enumerate.partition);
        let enumerate = EnumerateSettings { partition, ..settings.enumerate };
        CrawlSettings { enumerate, budget, ..settings }
    });
    let watching = Watching::quietly().with_metrics(args.watch.metrics.as_deref(), hub);
    if args.watch.dry_run {
        let Some(settings) = &crawl else {
            return Err(Failure::from(anyhow::anyhow!("{} crawls nothing", args.pipeline.display()))
                .with_hint("give it an [enumerate] table"));
        };
        return show_forecast(&stages::foresee(hub, &database, settings, &watching).await?, args.json);
    }
    let watching = if args.json { watching } else { watching.with_tables() };
    let run = Run {
        pipeline,
        hub,
        database: &database,
        crawl: crawl.as_ref(),
        reader: &environment::reader(PlanSettings::default()),
        destination: destination.as_ref(),
    };
    let all = pipeline::run(&run, &watching).await?;
    if args.json {
        printer::json(&all)?;
    }
    let crawled = match all.crawl.as_ref().zip(crawl.as_ref()) {
        Some((report, settings)) => ended(report, settings)?,
        None => Done::All,
    };
    let is_whole = all.scan.iter().all(|line| matches!(line, ScanLine::Answered(_)));
    Ok(if is_whole { crawled } else { Done::Partly })
}
