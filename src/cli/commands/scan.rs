//! `hubprint scan`

use std::time::Instant;

use crate::answers::query::Query;
use crate::answers::scan::{Answer, Scanner};
use crate::checkpoint::plan::PlanSettings;
use crate::checkpoint::reading::Reader;
use crate::cli::args::ScanArgs;
use crate::cli::failure::Failure;
use crate::cli::json::{self, ScanErrorJson};
use crate::cli::{Done, environment, printer, tables};
use crate::hub::Hub;
use crate::retrieval::SearchMode;
use crate::store::{Database, Location, StoreError};

use super::bulk;

pub(in crate::cli) async fn run(args: ScanArgs) -> Result<Done, Failure> {
    let db = Database::open(database(&args)?).map_err(|error| match error {
        StoreError::NotADatabase { .. } if args.db.is_none() => Failure::from(anyhow::Error::from(error))
            .with_hint("name one with --db, or fetch one with `hubprint db pull hf://datasets/ORG/NAME`"),
        error => error.into(),
    })?;
    let scanner = open(db)?;
    let hub = environment::hub(args.hub.hub.as_deref())?;
    // Of the models in the database no more was read, so more of the query would meet nothing.
    let reader = environment::reader(PlanSettings::default());
    if args.models.is_empty() {
        return bulk::run(&args, scanner, hub, reader).await;
    }
    let mut failed = 0;
    for name in &args.models {
        let begun = Instant::now();
        match scan_one(&scanner, name, &hub, &reader, args.top_k, look(&args)).await {
            Ok((query, answer)) if args.json => {
                printer::json(&json::scan(&query, &answer, begun.elapsed().as_secs_f64()))?;
            }
            Ok((query, answer)) => printer::data(&tables::scan(&query, &answer))?,
            Err(failure) => {
                failed += 1;
                if args.json {
                    printer::json(&ScanErrorJson {
                        query: name,
                        error: failure.to_string(),
                        hint: failure.hint(),
                    })?;
                }
                printer::talk(&format!("{name}:"));
                printer::failure(&failure);
            }
        }
    }
    match failed {
        0 => Ok(Done::All),
        n if n < args.models.len() => Ok(Done::Partly),
        n => Err(Failure::from(anyhow::anyhow!("none of {n} models could be scanned"))),
    }
}

/// The database that was named, else the one that `hubprint db pull` keeps.
pub(super) fn database(args: &ScanArgs) -> Result<Location, Failure> {
    args.db.clone().map_or_else(environment::default_database, Ok)
}

pub(super) fn look(args: &ScanArgs) -> SearchMode {
    if args.exact { SearchMode::Exact } else { SearchMode::Usual }
}

/// Opens the index, and says when it is behind its database.
pub(in crate::cli) fn open(db: Database) -> Result<Scanner, Failure> {
    let folder = db.location().to_string();
    let scanner = Scanner::open(db)?;
    if scanner.is_stale() {
        printer::talk(&format!(
            "note: {folder} has newer rows than its index; run `hubprint index --db {folder}`"
        ));
    }
    Ok(scanner)
}

/// Finds the relatives of one model.
pub(in crate::cli) async fn scan_one(
    scanner: &Scanner,
    name: &str,
    hub: &Hub,
    reader: &Reader,
    top_k: usize,
    look: SearchMode,
) -> Result<(Query, Answer), Failure> {
    let query = scanner.query(name, hub, reader).await?;
    let answer = scanner.scan(&query, top_k, look)?;
    Ok((query, answer))
}
