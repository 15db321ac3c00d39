//! What the stages of a pipeline did, for people.

use std::time::Duration;

use super::scans::false_positives;
use crate::pipeline::forecast::Bound;
use crate::pipeline::index::IndexReport;
use crate::pipeline::maintain::Maintained;
use crate::pipeline::summary::{self, bytes};
use crate::pipeline::{Forecast, RunReport};

/// The run report.
pub(in crate::cli) fn crawl(report: &RunReport) -> String {
    let mut out = format!("{}: {}", summary::count(report.models, "repository"), summary::ends(report));
    for line in summary::facts(report) {
        out += &format!("\n{line}");
    }
    for failure in &report.failures {
        out += &format!("\n  {} {}: {}", failure.outcome.name(), failure.repo, failure.reason);
    }
    out
}

/// What was done to keep a database small.
pub(in crate::cli) fn maintained(maintained: &Maintained) -> String {
    let vacuum = &maintained.vacuum;
    let mut out = match &maintained.compaction {
        Some(c) => format!(
            "{} shards became {}, {} replaced rows dropped; ",
            c.shards_before, c.shards, c.rows_dropped
        ),
        None => String::new(),
    };
    let (snapshots, files) = (vacuum.snapshots_removed, vacuum.files_removed);
    out += &format!(
        "{snapshots} old snapshots, {files} files ({}) and {} reports removed",
        bytes(vacuum.bytes_removed),
        maintained.reports_removed
    );
    out
}

/// What a crawl would do.
pub(in crate::cli) fn forecast(forecast: &Forecast) -> String {
    let l = &forecast.listed;
    let mut out = format!(
        "{} repositories listed: {} new, {} changed, {} to be tried again, {} with updated metadata, \
         {} unchanged, {} filtered, {} unnamed; {} gone",
        l.listed,
        l.new,
        l.changed,
        l.again,
        l.renamed + l.returned + l.regated,
        l.unchanged,
        l.filtered + l.private,
        l.unnamed,
        forecast.gone
    );
    if let Some(suspicious) = &forecast.suspicious_deletion {
        out += &format!("\n{suspicious}");
    }
    out += &format!(
        "\n{} would be read, {} would wait\nrequests to the Hub: {} made for the listing, {} for files; {} to receive",
        forecast.repositories,
        forecast.waiting,
        forecast.sweep_requests,
        forecast.requests,
        bytes(forecast.bytes)
    );
    let outdated = &forecast.outdated;
    if outdated.repositories > 0 {
        let how_long = match outdated.nights {
            Some(1) => "1 night at this budget".to_owned(),
            Some(n) => format!("{n} nights at this budget"),
            None => "which this budget or the settings leave no room for".to_owned(),
        };
        out += &format!(
            "\nof an older version: {}, of which {} would be read again now; all take {} requests and {}, {how_long}",
            outdated.repositories,
            outdated.read,
            outdated.requests,
            bytes(outdated.bytes)
        );
    }
    if let Some((requests, seconds)) = forecast.allowed {
        out += &format!("\nthe Hub allows {requests} file requests in {seconds:.0} s");
    }
    let seconds = Duration::from_secs(forecast.seconds.ceil() as u64);
    let bound = match forecast.bound_by {
        Bound::Reading => "the way to the Hub",
        Bound::RateLimit => "the Hub's rate limits",
        Bound::Deadline => "the deadline",
    };
    out + &format!("\nit would take {}, bound by {bound}", humantime::format_duration(seconds))
}

/// What an index build did.
pub(in crate::cli) fn index(index: &IndexReport) -> String {
    let built = &index.built;
    let how = if built.incremental { format!(", {} of them new", built.added) } else { String::new() };
    let quality = match (built.complete, built.committed) {
        (true, _) => {
            let q = built.quality;
            format!("recall@10 {:.3} of {} searches against the exact scan", q.recall_at_10, q.queries)
        }
        (false, true) => "stopped before the last shard; run it again to go on".to_owned(),
        (false, false) => "stopped; the index that is in use covers as much and stays".to_owned(),
    };
    let peak = index.peak_memory_bytes.map_or_else(String::new, |peak| {
        format!(", {} of memory of {} stated", bytes(peak), bytes(index.memory_bound_bytes))
    });
    format!(
        "index of {} models, {} distinct{how}, in {} families: {quality}, {}; {} a model with the shards; {:.1} s{peak}\n{}",
        built.models,
        built.checkpoints,
        built.families,
        bytes(built.bytes),
        bytes(built.stored_bytes_per_model.unwrap_or_default()),
        index.seconds,
        false_positives(
            built.quality.negatives,
            built.quality.false_positives,
            built.quality.false_rate_at_most()
        )
    )
}
