//! `hubprint status`

use crate::answers::status::status;
use crate::cli::args::StatusArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::{printer, tables};
use crate::store::Database;

pub(in crate::cli) fn run(args: &StatusArgs) -> Result<Done, Failure> {
    let status = status(&Database::open(&args.db)?, args.runs)?;
    if args.json {
        printer::json(&status)?;
    } else {
        printer::data(&tables::status(&status))?;
    }
    Ok(Done::All)
}
