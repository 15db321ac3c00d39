//! The only place that writes to stdout and stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// Writes data to stdout and talk to stderr.
#[derive(Debug, Default)]
pub(super) struct Printer;

impl Printer {
    /// One line or block of data.
    pub(super) fn data(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// One JSON object, on one line.
    pub(super) fn json<T: Serialize>(&self, value: &T) -> io::Result<()> {
        self.data(&serde_json::to_string(value)?)
    }

    /// One line of talk. A closed stderr is nobody's problem.
    pub(super) fn talk(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A failure with its hint.
    pub(super) fn failure(&self, failure: &Failure) {
        self.talk(&format!("error: {failure}"));
        if let Some(hint) = failure.hint() {
            self.talk(&format!("hint: {hint}"));
        }
    }

    /// Whether a person watches stderr.
    pub(super) fn is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }
}
