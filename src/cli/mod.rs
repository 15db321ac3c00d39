//! The command line: arguments, environment, output. The only folder that prints.
//!
//! stdout is data, stderr is talk. Exit codes, for a scheduler to act on:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | done, but some items failed, or the run was asked to stop |
//! | 2 | failed; somebody has to look at it |
//! | 75 | failed for now, because the Hub is down or another run has the database: try again later |

mod args;
mod commands;
mod comparison;
mod done;
mod environment;
mod evaluation;
mod failure;
mod logging;
mod metrics;
mod printer;
mod progress;
mod tables;
mod watching;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, DbCommand, DevCommand, HubCommand};
use done::Done;
use failure::Failure;

/// EX_TEMPFAIL of sysexits.h.
const TEMPORARY: u8 = 75;

/// Parses the command line, runs it, and translates the end into an exit code.
pub fn main() -> ExitCode {
    let args = Args::parse();
    logging::init(args.verbose, args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer::failure(&Failure::from(
                anyhow::Error::from(error).context("cannot start the async runtime"),
            ));
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(args.command)) {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Partly) => ExitCode::from(1),
        // The reader of our output has gone, as `head` does: nothing is wrong.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            printer::failure(&failure);
            ExitCode::from(if failure.is_temporary() { TEMPORARY } else { 2 })
        }
    }
}

async fn run(command: Command) -> Result<Done, Failure> {
    match command {
        Command::Run(args) => commands::run::run(args).await,
        Command::Crawl(args) => commands::crawl::run(args).await,
        Command::Index(args) => commands::index::run(&args),
        Command::Dev { command: DevCommand::Population(args) } => commands::dev::population(&args),
        Command::Dev { command: DevCommand::Score(args) } => commands::dev::score(&args),
        Command::Dev { command: DevCommand::Roles(args) } => commands::dev::roles(&args),
        Command::Dev { command: DevCommand::Checkpoint(args) } => commands::checkpoint::run(&args),
        Command::Scan(args) => commands::scan::run(args).await,
        Command::Compare(args) => Box::pin(commands::compare::run(args)).await,
        Command::Eval(args) => commands::eval::run(args).await,
        Command::Hub { command: HubCommand::Serve(args) } => commands::hub::serve(args).await,
        Command::Status(args) => commands::status::run(&args),
        Command::Publish(args) => commands::publish::publish(args).await,
        Command::Db { command } => match command {
            DbCommand::Info(args) => commands::db::info(&args),
            DbCommand::Show(args) => commands::db::show(&args),
            DbCommand::Verify(args) => commands::db::verify(&args),
            DbCommand::Export(args) => commands::db::export(&args),
            DbCommand::Pull(args) => commands::publish::pull(args).await,
            DbCommand::Compact(args) => commands::db::compact(&args),
            DbCommand::Vacuum(args) => commands::db::vacuum(&args),
            DbCommand::Merge(args) => commands::db::merge(&args),
            DbCommand::Migrate(args) => commands::db::migrate(&args),
            DbCommand::Keygen(args) => commands::publish::keygen(&args),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Args::command().debug_assert();
    }
}
