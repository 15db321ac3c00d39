//! `hubprint index`

use std::sync::Arc;
use std::time::Instant;

use super::crawl::stop_on_signal;
use crate::cli::args::IndexArgs;
use crate::cli::failure::Failure;
use crate::cli::json::IndexJson;
use crate::cli::progress::Watch;
use crate::cli::{Done, printer, tables};
use crate::pipeline::Progress;
use crate::pipeline::index::index;
use crate::pipeline::process::peak_memory_bytes;
use crate::retrieval::{BuildSettings, memory_bound};
use crate::store::{Database, Location, Task};

pub(in crate::cli) fn run(args: &IndexArgs) -> Result<Done, Failure> {
    let index = index_with(&args.db, &BuildSettings::default(), args.rebuild)?;
    if args.json {
        printer::json(&index)?;
    } else {
        printer::data(&tables::index(&index))?;
    }
    Ok(if index.built.complete { Done::All } else { Done::Partly })
}

/// Builds with a progress bar. The first signal to stop commits the shards that are done, if the index in use covers
/// fewer; the second ends the program.
pub(in crate::cli) fn index_with(
    db: &Location,
    settings: &BuildSettings,
    from_nothing: bool,
) -> Result<IndexJson, Failure> {
    let begun = Instant::now();
    let mut db = Database::open_to_write(db, Task::Index)?;
    let memory_bound_bytes = memory_bound(&db);
    printer::talk(&format!("index: takes at most {} of memory", tables::bytes(memory_bound_bytes)));
    let progress = Arc::new(Progress::default());
    let (stop, signals) = stop_on_signal();
    let built = {
        let _watch = Watch::start("index", "rows and measured searches", &progress);
        index(
            &mut db,
            settings,
            from_nothing,
            &|done, all| {
                progress.set_total(all);
                progress.set_done(done);
            },
            &|| *stop.borrow(),
        )
    };
    signals.abort();
    Ok(IndexJson {
        built: built?,
        seconds: begun.elapsed().as_secs_f64(),
        memory_bound_bytes,
        peak_memory_bytes: peak_memory_bytes(),
    })
}
