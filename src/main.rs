//! The `hubprint` command; see [`hubprint::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hubprint::cli::main()
}
