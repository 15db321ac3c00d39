//! The command line: arguments, environment, output. The only folder that prints.
//!
//! stdout is data, stderr is talk. Exit codes: 0 done, 1 done but some items failed, 2 failed.

mod args;
mod commands;
mod environment;
mod failure;
mod json;
mod logging;
mod printer;
mod progress;
mod tables;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, DbCommand, HubCommand};
use failure::Failure;
use printer::Printer;

/// How a command ended without failing as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Everything.
    All,
    /// Some items failed.
    Partly,
}

/// Parses the command line, runs it, and translates the end into an exit code.
pub fn main() -> ExitCode {
    let args = Args::parse();
    logging::init(args.verbose, args.log_format);
    let printer = Printer::default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.failure(&Failure::from(
                anyhow::Error::from(error).context("cannot start the async runtime"),
            ));
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(args.command, &printer)) {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Partly) => ExitCode::from(1),
        // The reader of our output has gone, as `head` does: nothing is wrong.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command, printer: &Printer) -> Result<Done, Failure> {
    match command {
        Command::Run(args) => commands::run::run(args, printer).await,
        Command::Crawl(args) => commands::crawl::run(args, printer).await,
        Command::Index(args) => commands::index::run(&args, printer),
        Command::Scan(args) => commands::scan::run(args, printer).await,
        Command::Compare(args) => commands::compare::run(args, printer).await,
        Command::Hub { command: HubCommand::Serve(args) } => commands::hub::serve(args, printer).await,
        Command::Db { command: DbCommand::Info(args) } => commands::db::info(&args, printer),
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
