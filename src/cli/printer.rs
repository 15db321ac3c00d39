//! The only place that writes to stdout and stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// One line or block of data.
pub(super) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// One JSON object, on one line.
pub(super) fn json<T: Serialize>(value: &T) -> io::Result<()> {
    data(&serde_json::to_string(value)?)
}

/// One line of talk. A closed stderr is nobody's problem.
pub(super) fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A failure with its hint.
pub(super) fn failure(failure: &Failure) {
    talk(&format!("error: {failure}"));
    if let Some(hint) = failure.hint() {
        talk(&format!("hint: {hint}"));
    }
}

/// Whether a person watches stderr.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}
