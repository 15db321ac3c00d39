//! `hubprint run`

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tokio::task::JoinHandle;

use super::crawl::{crawl_with, ended, forecast_with, show_forecast, stop_signal};
use super::db::watched;
use super::index::index_with;
use super::publish::{can_publish, publish_with, text_of_published};
use super::scan::{open, scan_one};
use crate::checkpoint::plan::PlanSettings;
use crate::cli::args::RunArgs;
use crate::cli::failure::Failure;
use crate::cli::json::{self, RunJson, ScanErrorJson};
use crate::cli::{Done, environment, printer, tables};
use crate::hub::Hub;
use crate::local_hub;
use crate::pipeline::enumerate::EnumerateSettings;
use crate::pipeline::maintain::{MaintainSettings, Maintained, maintain};
use crate::pipeline::{CrawlSettings, Pipeline};
use crate::retrieval::SearchMode;
use crate::store::{Database, Location, StoreError, Task};

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
    let result = stages(&pipeline, &hub, &args).await;
    if let Some(served) = served {
        served.shutdown().await;
    }
    result
}

fn maintain_with(db: &Location, settings: &MaintainSettings) -> Result<Maintained, StoreError> {
    // Cut short anywhere, it leaves the database as it was before, or as it is after.
    let _signals = EndOnSignal::listen();
    let mut db = Database::open_to_write(db, Task::Maintenance)?;
    watched("maintenance", "rows", |report| maintain(&mut db, settings, report))
}

/// Ends the process at a signal as one that was stopped: once there has been a listener, the default is gone.
struct EndOnSignal(JoinHandle<()>);

impl EndOnSignal {
    fn listen() -> Self {
        Self(tokio::spawn(async {
            if stop_signal().await.is_ok() {
                std::process::exit(1);
            }
        }))
    }
}

impl Drop for EndOnSignal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn stages(pipeline: &Pipeline, hub: &Hub, args: &RunArgs) -> Result<Done, Failure> {
    let path = &environment::location(&pipeline.database.path.to_string_lossy()).map_err(Failure::usage)?;
    let as_json = args.json;
    if let Some(settings) = &pipeline.publish {
        can_publish(settings)?;
    }
    let crawl = pipeline.crawl().map(|settings| {
        let budget = args.watch.budget(settings.budget);
        let partition = args.watch.partition.unwrap_or(settings.enumerate.partition);
        let enumerate = EnumerateSettings { partition, ..settings.enumerate };
        CrawlSettings { enumerate, budget, ..settings }
    });
    if args.watch.dry_run {
        let Some(settings) = &crawl else {
            return Err(Failure::from(anyhow::anyhow!("{} crawls nothing", args.pipeline.display()))
                .with_hint("give it an [enumerate] table"));
        };
        return show_forecast(&forecast_with(hub, path, settings).await?, as_json);
    }
    let mut all = RunJson::default();
    let mut done = Done::All;
    // A Hub that went away leaves the stages that work from disk as they are.
    let mut failed = None;
    if let Some(settings) = &crawl {
        let report = crawl_with(hub, path, settings, &args.watch).await?;
        if !as_json {
            printer::data(&format!("{}\n", tables::crawl(&report)))?;
        }
        match ended(&report, settings) {
            Ok(ended) => done = ended,
            Err(failure) => failed = Some(failure),
        }
        let stopped = report.interrupted;
        all.crawl = Some(report);
        if stopped {
            if as_json {
                printer::json(&all)?;
            }
            return failed.map_or(Ok(done), Err);
        }
    }
    if let Some(settings) = &pipeline.index {
        let built = index_with(path, settings, false)?;
        if !as_json {
            printer::data(&format!("{}\n", tables::index(&built)))?;
        }
        all.index = Some(built);
    }
    if let Some(settings) = &pipeline.maintenance {
        match maintain_with(path, settings) {
            Ok(maintained) => {
                if !as_json {
                    printer::data(&format!("{}\n", tables::maintained(&maintained)))?;
                }
                all.maintenance = Some(maintained);
            }
            // Another part of the crawl is still at work; whoever ends last finds the database free.
            Err(StoreError::Locked { .. }) => {
                printer::talk("maintenance is left to the next run: another process writes to the database");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(settings) = pipeline.scan.as_ref().filter(|_| failed.is_none()) {
        let scanner = open(Database::open(path)?)?;
        let reader = environment::reader(PlanSettings::default());
        // A scan has nothing to finish. It ends with the guard.
        let _signals = EndOnSignal::listen();
        for name in &settings.models {
            let begun = Instant::now();
            let line = match scan_one(&scanner, name, hub, &reader, settings.top_k, SearchMode::Usual).await {
                Ok((query, answer)) => {
                    if !as_json {
                        printer::data(&tables::scan(&query, &answer))?;
                    }
                    serde_json::to_value(json::scan(&query, &answer, begun.elapsed().as_secs_f64()))
                }
                Err(failure) => {
                    done = Done::Partly;
                    printer::talk(&format!("{name}:"));
                    printer::failure(&failure);
                    let error = failure.to_string();
                    serde_json::to_value(ScanErrorJson { query: name, error, hint: failure.hint() })
                }
            };
            all.scan.push(line.map_err(anyhow::Error::from)?);
        }
    }
    if let Some(settings) = pipeline.publish.as_ref().filter(|_| failed.is_none()) {
        let _signals = EndOnSignal::listen();
        let published = publish_with(path, hub, settings, true).await?;
        if !as_json {
            printer::data(&text_of_published(&published, &settings.to))?;
        }
        all.publish = Some(published);
    }
    if as_json {
        printer::json(&all)?;
    }
    failed.map_or(Ok(done), Err)
}
