//! The only place that writes to stdout and stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::Utc;
use serde::Serialize;
use serde_json::{Value, json};

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

/// Whether a program reads stderr, and so every line there is a JSON object.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on all talk is JSON.
pub(super) fn talk_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// One line of talk.
pub(super) fn talk(text: &str) {
    if AS_JSON.load(Ordering::Relaxed) {
        line(&logged("INFO", &json!({ "message": text })));
    } else {
        line(text);
    }
}

/// A failure with its hint.
pub(super) fn failure(failure: &Failure) {
    let hint = failure.hint();
    if AS_JSON.load(Ordering::Relaxed) {
        line(&logged("ERROR", &json!({ "message": failure.to_string(), "hint": hint })));
        return;
    }
    line(&format!("error: {failure}"));
    if let Some(hint) = hint {
        line(&format!("hint: {hint}"));
    }
}

/// A line in the form of the logger's.
fn logged(level: &str, fields: &Value) -> String {
    let timestamp = Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    json!({ "timestamp": timestamp, "level": level, "fields": fields, "target": "hubprint" }).to_string()
}

/// A closed stderr is nobody's problem.
fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person watches stderr.
pub(super) fn is_terminal() -> bool {
    !AS_JSON.load(Ordering::Relaxed) && io::stderr().is_terminal()
}
