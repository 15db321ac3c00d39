//! `hubprint db`

use std::sync::Arc;

use crate::answers;
use crate::answers::scan::Scanner;
use crate::answers::show::ShowAnswer;
use crate::checkpoint::model::split_component;
use crate::cli::args::{
    CompactArgs, ExportArgs, InfoArgs, MergeArgs, MigrateArgs, ShowArgs, VacuumArgs, VerifyArgs,
};
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{environment, printer, tables};
use crate::pipeline::Progress;
use crate::pipeline::maintain;
use crate::pipeline::summary::bytes;
use crate::publication::export;
use crate::store::maintenance::{self, Keep};
use crate::store::{Database, Row, StoreError, Task};

pub(in crate::cli) fn info(args: &InfoArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let info = answers::info::info(&db)?;
    if args.json {
        printer::json(&info)?;
    } else {
        printer::data(&tables::info(&info))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn show(args: &ShowArgs) -> Result<Done, Failure> {
    let location = args.db.clone().map_or_else(environment::default_database, Ok)?;
    let db = Database::open(&location).map_err(|error| environment::cannot_open(error, args.db.is_some()))?;
    let names = db.names()?;
    let mut found: Vec<(&String, Vec<Row>)> = Vec::new();
    for model in &args.models {
        let (repo_id, component) = split_component(model);
        found.push((model, db.named(&names, repo_id, component)?));
    }
    let scanner = match Scanner::open(db) {
        Ok(scanner) => Ok(scanner),
        Err(StoreError::NoIndex { .. }) => Err("the database has no index: build it with `hubprint index`"),
        Err(error) => return Err(error.into()),
    };
    let (mut shown, mut missing) = (0, 0);
    for (model, rows) in found {
        if rows.is_empty() {
            missing += 1;
            let nothing = anyhow::anyhow!("{location} has no row of {model}");
            printer::failure(
                &Failure::from(nothing).with_hint("a name is looked up as it was when it was crawled"),
            );
        }
        for row in rows {
            let answer = ShowAnswer::new(row, scanner.as_ref().map_err(|why| *why), args.top_k)?;
            shown += 1;
            if args.json { printer::json(&answer)? } else { printer::data(&tables::show(&answer))? }
        }
    }
    match (missing, shown) {
        (0, _) => Ok(Done::All),
        (_, 0) => Err(Failure::from(anyhow::anyhow!("no row was found"))),
        _ => Ok(Done::Partly),
    }
}

pub(in crate::cli) fn verify(args: &VerifyArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let found = watched("verify", "searches", |report| answers::verify::verify(&db, args.deep, report))?;
    if args.json {
        printer::json(&found)?;
    } else {
        printer::data(&tables::verification(&found))?;
    }
    if found.verified.is_whole() {
        return Ok(Done::All);
    }
    Err(Failure::from(anyhow::anyhow!("the index does not find every model"))
        .with_hint("rebuild it with `hubprint index --rebuild --db DIR`"))
}

pub(in crate::cli) fn export(args: &ExportArgs) -> Result<Done, Failure> {
    let form = args.out.extension().and_then(|e| e.to_str());
    if !matches!(form, Some("parquet" | "csv" | "graphml")) {
        return Err(Failure::from(anyhow::anyhow!("{} has no ending that names a form", args.out.display()))
            .with_hint("end it with .parquet, .csv or .graphml"));
    }
    let edges = export::edges(&Database::open(&args.db)?)?;
    export::write(&edges, &args.out)?;
    printer::data(&format!("{}: {} edges", args.out.display(), edges.len()))?;
    Ok(Done::All)
}

pub(in crate::cli) fn compact(args: &CompactArgs) -> Result<Done, Failure> {
    let mut db = Database::open_to_write(&args.db, Task::Maintenance)?;
    if maintain::index_is_behind(&db) {
        return Err(Failure::from(anyhow::anyhow!("the index is behind its database"))
            .with_hint("bring it up to date first with `hubprint index --db DB`"));
    }
    let shards = db.manifest().shards.len();
    let compaction = watched("compact", "rows", |report| maintain::compact(&mut db, args.rows, 1, report))?;
    let compaction = compaction.unwrap_or_else(|| maintenance::Compaction {
        shards_before: shards,
        shards,
        ..maintenance::Compaction::default()
    });
    if args.json {
        printer::json(&compaction)?;
    } else {
        printer::data(&format!(
            "{} shards became {}; {} replaced rows dropped; {} became {}\nthe shards before are there until `hubprint \
             db vacuum`",
            compaction.shards_before,
            compaction.shards,
            compaction.rows_dropped,
            bytes(compaction.bytes_before),
            bytes(compaction.bytes)
        ))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn vacuum(args: &VacuumArgs) -> Result<Done, Failure> {
    let db = if args.dry_run {
        Database::open(&args.db)?
    } else {
        Database::open_to_write(&args.db, Task::Maintenance)?
    };
    let keep = Keep { latest: args.keep, younger: args.older_than };
    let vacuumed = maintenance::vacuum(&db, keep, args.dry_run)?;
    if args.json {
        printer::json(&vacuumed)?;
    } else {
        let would = if args.dry_run { "would be " } else { "" };
        printer::data(&format!(
            "{} snapshots kept; {} snapshots and {} files, {}, {would}removed",
            vacuumed.snapshots,
            vacuumed.snapshots_removed,
            vacuumed.files_removed,
            bytes(vacuumed.bytes_removed)
        ))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn merge(args: &MergeArgs) -> Result<Done, Failure> {
    let sources = args.sources.iter().map(Database::open).collect::<Result<Vec<_>, StoreError>>()?;
    let mut db = Database::open_or_create(&args.db, Task::CRAWL)?;
    let merged = watched("merge", "rows", |report| maintenance::merge(&mut db, &sources, report))?;
    if args.json {
        printer::json(&merged)?;
    } else {
        printer::data(&format!(
            "{}: {} shards with {} rows of {} databases added",
            args.db, merged.shards, merged.rows, merged.sources
        ))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn migrate(args: &MigrateArgs) -> Result<Done, Failure> {
    let manifest = maintenance::migrate(&args.db)?;
    let index = if manifest.index.is_some() { "" } else { "; build the index with `hubprint index`" };
    printer::data(&format!(
        "{}: format {}, {} shards with {} rows{index}",
        args.db.display(),
        manifest.format_version,
        manifest.shards.len(),
        manifest.rows()
    ))?;
    Ok(Done::All)
}

/// Work with a progress bar: it is given what takes (done, all).
pub(super) fn watched<T>(
    label: &'static str,
    unit: &'static str,
    work: impl FnOnce(&(dyn Fn(u64, u64) + Sync)) -> T,
) -> T {
    let progress = Arc::new(Progress::default());
    let _watch = Watch::start(label, unit, &progress);
    work(&|done, all| progress.set(done, all))
}
