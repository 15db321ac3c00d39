//! `hubprint compare`

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::answers::compare::{self, Comparison, Effort};
use crate::checkpoint::full::{self, Whole};
use crate::checkpoint::model::{self, LoadError, Model, Subject};
use crate::checkpoint::plan::PlanSettings;
use crate::checkpoint::reading::Reader;
use crate::cli::args::CompareArgs;
use crate::cli::failure::Failure;
use crate::cli::json::ScreenJson;
use crate::cli::progress::Watch;
use crate::cli::{Done, comparison, environment, json, printer};
use crate::hub::Hub;
use crate::pipeline::Progress;

pub(in crate::cli) async fn run(args: CompareArgs) -> Result<Done, Failure> {
    let begun = Instant::now();
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let mut reader = environment::reader(PlanSettings::detailed());
    reader.metadata_only = args.screen;
    let (mut a, mut b) = tokio::try_join!(open(&args.a, &hub, &reader), open(&args.b, &hub, &reader))?;
    if args.screen {
        let (a, b) = read(&mut a, &mut b, &reader.settings.plan).await?;
        let (screening, bytes) = (compare::screening(&a, &b), a.bytes_fetched() + b.bytes_fetched());
        if args.json {
            printer::json(&ScreenJson {
                a: &a.name,
                b: &b.name,
                screening: json::screening(&screening),
                bytes_fetched: bytes,
                seconds: begun.elapsed().as_secs_f64(),
            })?;
        } else {
            printer::data(&comparison::screening(&screening))?;
        }
        return Ok(Done::All);
    }
    let effort = if args.explain { Effort::Everything } else { Effort::Enough };
    let others = try_join_all(args.with.iter().map(|name| load(name, &hub, &reader))).await?;
    // What was read before costs nothing, so nothing is saved where all of it was.
    let is_kept = a.is_kept(&reader.settings.plan) && b.is_kept(&reader.settings.plan);
    let is_enough = effort == Effort::Enough && others.is_empty() && !args.full && !is_kept;
    let settled = if is_enough { copies(&mut a, &mut b).await? } else { None };
    let (a, b, found) = if let Some(settled) = settled {
        settled
    } else {
        let (a, b) = read(&mut a, &mut b, &reader.settings.plan).await?;
        let found = if others.is_empty() {
            compare::compare(&a, &b, effort)?
        } else {
            compare::compare_merge(&a, &b, &others, effort)?
        };
        (a, b, found)
    };
    let bytes = [&a, &b].into_iter().chain(&others).map(Subject::bytes_fetched).sum::<u64>();
    let whole = if args.full { Some(read_whole(&a, &b, &found, &reader).await?) } else { None };
    if args.json {
        printer::json(&json::compare(&a, &b, &found, whole.as_deref(), begun.elapsed().as_secs_f64()))?;
    } else if args.plain {
        printer::data(&comparison::plain(&found, bytes))?;
    } else {
        printer::data(&comparison::comparison(&a, &b, &others, &found))?;
        if args.explain {
            printer::data(&format!("\n{}", comparison::explanation(&found)))?;
        }
        if let Some(whole) = &whole {
            printer::data(&format!("\n{}", comparison::whole(whole)))?;
        }
    }
    Ok(Done::All)
}

/// Copies are told by what a database holds of them, which is a part of what else is read.
async fn copies(
    a: &mut Model<'_>,
    b: &mut Model<'_>,
) -> Result<Option<(Subject, Subject, Comparison)>, Failure> {
    let (a, b) = read(a, b, &PlanSettings::default()).await?;
    Ok(compare::compare_copies(&a, &b)?.map(|found| (a, b, found)))
}

/// Every tensor whole, with a progress bar.
async fn read_whole(
    a: &Subject,
    b: &Subject,
    found: &Comparison,
    reader: &Reader,
) -> Result<Vec<Whole>, Failure> {
    let progress = Arc::new(Progress::default());
    let _watch = Watch::start("full", "blocks", &progress);
    let done = |done, all| {
        progress.set_total(all);
        progress.set_done(done);
    };
    full::full(a, b, &found.evidence.in_place, reader, done).await.map_err(Failure::usage)
}

/// Opens one model; a failure says which.
async fn open<'a>(name: &str, hub: &Hub, reader: &'a Reader) -> Result<Model<'a>, Failure> {
    Model::open(name, hub, reader).await.map_err(|error| about(name, error))
}

/// Reads both by this plan.
async fn read(
    a: &mut Model<'_>,
    b: &mut Model<'_>,
    plan: &PlanSettings,
) -> Result<(Subject, Subject), Failure> {
    async fn one(model: &mut Model<'_>, plan: &PlanSettings) -> Result<Subject, Failure> {
        model.read(plan).await.map_err(|error| about(model.name(), error))
    }
    tokio::try_join!(one(a, plan), one(b, plan))
}

/// Opens and reads a suspected parent.
async fn load(name: &str, hub: &Hub, reader: &Reader) -> Result<Subject, Failure> {
    model::load(name, hub, reader).await.map_err(|error| about(name, error))
}

fn about(name: &str, error: LoadError) -> Failure {
    let hint = error.hint();
    let failure = Failure::from(anyhow::Error::from(error).context(name.to_owned()));
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
