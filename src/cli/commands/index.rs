//! `hubprint index`

use crate::cli::args::IndexArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::watching::Watching;
use crate::cli::{printer, tables};
use crate::pipeline::run::stages;
use crate::retrieval::BuildSettings;

pub(in crate::cli) fn run(args: &IndexArgs) -> Result<Done, Failure> {
    let index = stages::index(&args.db, &BuildSettings::default(), args.rebuild, &Watching::quietly())?;
    if args.json {
        printer::json(&index)?;
    } else {
        printer::data(&tables::index(&index))?;
    }
    Ok(if index.built.complete { Done::All } else { Done::Partly })
}
