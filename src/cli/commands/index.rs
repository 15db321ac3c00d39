//! `hubprint index`

use std::path::Path;
use std::sync::Arc;

use crate::cli::args::IndexArgs;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{Done, printer, tables};
use crate::pipeline::Progress;
use crate::retrieval::{BuildSettings, Built};
use crate::stages::index::index;
use crate::store::Database;

pub(in crate::cli) fn run(args: &IndexArgs) -> Result<Done, Failure> {
    let built = index_with(&args.db, &BuildSettings::default())?;
    if args.json {
        printer::json(&built)?;
    } else {
        printer::data(&tables::index(&built))?;
    }
    Ok(Done::All)
}

/// Builds with a progress bar.
pub(in crate::cli) fn index_with(db: &Path, settings: &BuildSettings) -> Result<Built, Failure> {
    let mut db = Database::open(db)?;
    let progress = Arc::new(Progress::default());
    let _watch = Watch::start("index", "nodes", &progress);
    Ok(index(&mut db, settings, &|done, all| {
        progress.set_total(all);
        progress.set_done(done);
    })?)
}
