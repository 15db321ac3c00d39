//! `hubprint index`

use std::sync::Arc;

use super::crawl::stop_on_signal;
use crate::cli::args::IndexArgs;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{Done, printer, tables};
use crate::pipeline::Progress;
use crate::retrieval::{BuildSettings, Built, memory_bound};
use crate::stages::index::index;
use crate::store::{Database, Location, Task};

pub(in crate::cli) fn run(args: &IndexArgs) -> Result<Done, Failure> {
    let built = index_with(&args.db, &BuildSettings::default(), args.rebuild)?;
    if args.json {
        printer::json(&built)?;
    } else {
        printer::data(&tables::index(&built))?;
    }
    Ok(if built.complete { Done::All } else { Done::Partly })
}

/// Builds with a progress bar. The first signal to stop commits the shards that are done; the second ends the program.
pub(in crate::cli) fn index_with(
    db: &Location,
    settings: &BuildSettings,
    from_nothing: bool,
) -> Result<Built, Failure> {
    let mut db = Database::open_to_write(db, Task::Index)?;
    printer::talk(&format!("index: takes at most {} of memory", tables::bytes(memory_bound(&db))));
    let progress = Arc::new(Progress::default());
    let (stop, signals) = stop_on_signal();
    let built = {
        let _watch = Watch::start("index", "rows", &progress);
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
    Ok(built?)
}
