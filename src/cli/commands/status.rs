//! `hubprint status`

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::args::StatusArgs;
use crate::cli::failure::Failure;
use crate::cli::{Done, printer, tables};
use crate::store::{Database, Outcome, Owner, Partition, StoreError};

/// What a database is doing and how old it is.
#[derive(Debug, Serialize)]
struct Status {
    repositories: usize,
    indexed: usize,
    gone: usize,
    /// Left for the next crawl.
    waiting: usize,
    waiting_since: Option<DateTime<Utc>>,
    /// Shards that the index does not cover.
    shards_not_indexed: usize,
    /// When the last crawl began that saw the whole listing.
    last_whole_sweep: Option<DateTime<Utc>>,
    hours_since: Option<f64>,
    /// The first of `writers`.
    writer: Option<Owner>,
    writers: Vec<Owner>,
    /// The latest first.
    runs: Vec<Value>,
}

/// What is read of a run report to say how old the database is.
#[derive(Deserialize)]
struct Ran {
    started_at: Option<DateTime<Utc>>,
    #[serde(default)]
    whole_hub: bool,
}

pub(in crate::cli) fn run(args: &StatusArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let status = status(&db, args.runs)?;
    if args.json {
        printer::json(&status)?;
    } else {
        printer::data(&text(&status))?;
    }
    Ok(Done::All)
}

fn status(db: &Database, runs: usize) -> Result<Status, StoreError> {
    let live = db.live()?;
    let mut waiting = db.waiting(Partition::WHOLE)?;
    waiting.retain(|w| live.still_waits(w));
    let all = db.reports()?;
    let writers = db.writers()?;
    let whole = all.iter().filter_map(|report| {
        let ran: Ran = serde_json::from_value(report.clone()).ok()?;
        ran.started_at.filter(|_| ran.whole_hub)
    });
    let last_whole_sweep = whole.max();
    Ok(Status {
        repositories: live.repos.len(),
        indexed: live.repos.values().filter(|k| k.outcome == Outcome::Indexed).count(),
        gone: live.repos.values().filter(|k| k.gone).count(),
        waiting: waiting.len(),
        waiting_since: waiting.iter().map(|w| w.since).min().and_then(DateTime::from_timestamp_millis),
        shards_not_indexed: db.manifest().shards_not_indexed(),
        last_whole_sweep,
        hours_since: last_whole_sweep.map(|t| (Utc::now() - t).as_seconds_f64() / 3600.0),
        writer: writers.first().cloned(),
        writers,
        runs: all.into_iter().take(runs).collect(),
    })
}

fn text(status: &Status) -> String {
    let Status { repositories, indexed, gone, waiting, .. } = status;
    let mut out = format!("{repositories} repositories: {indexed} with a fingerprint, {gone} gone since");
    out += &match (waiting, status.waiting_since) {
        (0, _) | (_, None) => "\nnothing waits for the next crawl".to_owned(),
        (n, Some(since)) => format!("\n{n} wait for the next crawl, the first since {}", day(since)),
    };
    out += &match (status.last_whole_sweep, status.hours_since) {
        (Some(time), Some(hours)) => format!("\nlast whole sweep: {}, {hours:.1} hours ago", day(time)),
        _ => "\nno crawl has seen the whole listing yet".to_owned(),
    };
    if status.shards_not_indexed > 0 {
        out +=
            &format!("\nthe index is behind by {} shards: run `hubprint index`", status.shards_not_indexed);
    }
    for writer in &status.writers {
        out += &format!("\nprocess {} on {} writes since {}", writer.pid, writer.host, day(writer.since));
    }
    if !status.runs.is_empty() {
        let mut rows = tables::table(&[
            "began",
            "repositories",
            "read",
            "waiting",
            "gone",
            "requests",
            "seconds",
            "ended",
        ]);
        for run in &status.runs {
            rows.add_row(row(run));
        }
        out += &format!("\n{rows}");
    }
    out
}

fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// One run, whichever version wrote its report.
fn row(run: &Value) -> [String; 8] {
    let number = |key: &str| run[key].as_u64().map_or_else(|| "-".into(), |n| n.to_string());
    let sum = |object: &Value| {
        let values = object.as_object().into_iter().flat_map(|o| o.values());
        values.filter_map(Value::as_u64).sum::<u64>().to_string()
    };
    let began = run["started_at"].as_str().and_then(|t| t.parse::<DateTime<Utc>>().ok());
    let ended = match (run["error"].as_str(), run["interrupted"].as_bool(), run["spent"].as_str()) {
        (Some(error), ..) => error.to_owned(),
        (None, Some(true), _) => "stopped".to_owned(),
        (None, _, Some(spent)) => format!("budget spent: {spent}"),
        _ => "whole".to_owned(),
    };
    [
        began.map_or_else(|| "-".into(), day),
        number("models"),
        sum(&run["outcomes"]),
        number("waiting"),
        number("gone"),
        sum(&run["requests"]),
        run["seconds"].as_f64().map_or_else(|| "-".into(), |s| format!("{s:.0}")),
        ended,
    ]
}
