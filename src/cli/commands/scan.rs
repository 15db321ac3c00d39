//! `hubprint scan`

use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::answers::bulk::{AnswersFile, BulkLine, BulkScan, Queries, Work};
use crate::answers::scan::{ScanJob, ScanLine, ScanOptions, Scanner};
use crate::checkpoint::plan::PlanSettings;
use crate::checkpoint::reading::Reader;
use crate::cli::args::ScanArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::watching::Watching;
use crate::cli::{environment, printer, tables};
use crate::hub::Hub;
use crate::pipeline::Progress;
use crate::pipeline::run::{RunError, stages};
use crate::pipeline::summary::count;
use crate::retrieval::SearchMode;
use crate::store::{Database, StoreError};

pub(in crate::cli) async fn run(args: ScanArgs) -> Result<Done, Failure> {
    // The database that was named, else the one that `hubprint db pull` keeps.
    let db = args.db.clone().map_or_else(environment::default_database, Ok)?;
    let watching = Watching::quietly();
    let scanner = stages::open_scanner(&db, &watching).map_err(|error| match error {
        RunError::Store(error) => environment::cannot_open(error, args.db.is_some()),
        error => error.into(),
    })?;
    let hub = environment::hub(args.hub.hub.as_deref())?;
    // Of the models in the database no more was read, so more of the query would meet nothing.
    let reader = environment::reader(PlanSettings::default());
    let mode = if args.exact { SearchMode::Exact } else { SearchMode::Usual };
    let options = ScanOptions { mode, top_k: args.top_k, ..ScanOptions::default() };
    if args.models.is_empty() {
        return many(&args, scanner, &hub, &reader, options).await;
    }
    let (mut failed, mut scanned) = (0, 0);
    for model in &args.models {
        let job = ScanJob { model: model.clone(), options };
        for line in scanner.answers(&job, &hub, &reader).await {
            match &line {
                _ if args.json => printer::json(&line)?,
                ScanLine::Answered(answer) => printer::data(&tables::scan(answer))?,
                ScanLine::Failed(_) => {}
            }
            match &line {
                ScanLine::Answered(_) => scanned += 1,
                ScanLine::Failed(failure) => {
                    failed += 1;
                    printer::talk(&format!("{}:", failure.query));
                    printer::failure(&failure.into());
                }
            }
        }
    }
    ended(failed, scanned)
}

/// Many models: JSON Lines out, going on where it was stopped.
async fn many(
    args: &ScanArgs,
    scanner: Scanner,
    hub: &Hub,
    reader: &Reader,
    options: ScanOptions,
) -> Result<Done, Failure> {
    let (mut file, answered) = args.out.as_deref().map(AnswersFile::open).transpose()?.unzip();
    let queries = match (&args.from_db, args.all_new) {
        (Some(folder), _) => Queries::All(Box::new(Database::open(folder)?)),
        (None, true) => Queries::New,
        (None, false) => list(args.from.as_deref())?,
    };
    let begun = Instant::now();
    let progress = Arc::new(Progress::default());
    let watch = Watch::start("scan", "models", &progress);
    let done = Arc::clone(&progress);
    let work: Work = Box::new(move |lines, all| {
        match &mut file {
            Some(file) => file.add(lines)?,
            None => lines.iter().try_for_each(printer::json)?,
        }
        if let Some(all) = all {
            done.set_total(all);
        }
        for line in lines {
            done.tick();
            if let BulkLine::Failed(failure) = line {
                printer::failure(&failure.into());
            }
        }
        Ok(())
    });
    let scanner = Arc::new(scanner);
    let answered = answered.unwrap_or_default();
    let scan = BulkScan { scanner: Arc::clone(&scanner), queries, answered, options };
    let totals = scan.run(hub, reader, work).await?;
    drop(watch);
    let seconds = begun.elapsed().as_secs_f64();
    printer::talk(&format!(
        "{} scanned, {} with a family, {} failed, in {seconds:.1} s ({:.0} a second)",
        count(totals.scanned as u64, "model"),
        totals.related,
        totals.failed,
        totals.scanned as f64 / seconds.max(1e-9)
    ));
    let quality = scanner.index().quality();
    printer::talk(&tables::false_positives(
        quality.negatives,
        quality.false_positives,
        quality.false_rate_at_most(),
    ));
    ended(totals.failed, totals.scanned)
}

/// A list of models: a file, or stdin.
fn list(path: Option<&Path>) -> Result<Queries, StoreError> {
    Ok(match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let file = File::open(path).map_err(StoreError::io(path))?;
            Queries::Names { list: Box::new(BufReader::new(file)), place: path.to_owned() }
        }
        None => Queries::Names { list: Box::new(BufReader::new(stdin())), place: "stdin".into() },
    })
}

fn ended(failed: usize, scanned: usize) -> Result<Done, Failure> {
    match (failed, scanned) {
        (0, _) => Ok(Done::All),
        (n, 0) => Err(Failure::from(anyhow::anyhow!("none of {n} models could be scanned"))),
        _ => Ok(Done::Partly),
    }
}
