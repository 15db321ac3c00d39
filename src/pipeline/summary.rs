//! A run report in words: kept as Markdown beside the report itself, and shown.

use super::budget::Spent;
use super::report::RunReport;
use crate::store::Outcome;

/// Bytes as a person says them.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// So many of these, in the singular where it is one: `1 shard`, `2 shards`, `3 repositories`.
pub fn count(n: u64, what: &str) -> String {
    match (n, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        (_, None) => format!("{n} {what}s"),
    }
}

/// A run report as Markdown.
pub(super) fn markdown(report: &RunReport) -> String {
    let began =
        report.started_at.map_or_else(String::new, |t| t.format(" of %Y-%m-%d %H:%M UTC").to_string());
    let mut out = format!("# Crawl{began}\n\n{}: {}\n", count(report.models, "repository"), ends(report));
    for line in facts(report) {
        out += &format!("\n- {line}");
    }
    out += "\n";
    if !report.failures.is_empty() {
        out += "\n| outcome | repository | reason |\n|---|---|---|\n";
    }
    for failure in &report.failures {
        let cell = |text: &str| text.replace('|', "\\|");
        out += &format!(
            "| {} | {} | {} |\n",
            failure.outcome.name(),
            cell(&failure.repo),
            cell(&failure.reason)
        );
    }
    out
}

/// How the repositories of a crawl ended.
pub fn ends(report: &RunReport) -> String {
    let outcomes =
        Outcome::ALL.iter().map(|o| (report.outcomes.get(o.name()).copied().unwrap_or(0), o.name()));
    let others = [
        (report.unchanged, "unchanged"),
        (report.metadata_updated, "metadata updated"),
        (report.filtered, "filtered"),
        (report.waiting, "waiting"),
        (report.outdated, "left of an older version"),
    ];
    let all = outcomes.chain(others).filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}"));
    all.collect::<Vec<_>>().join(" ")
}

/// What a crawl did and cost, a line each.
pub fn facts(report: &RunReport) -> Vec<String> {
    let l = &report.listed;
    let mut lines =
        vec![format!("listed: {} new, {} changed, {} to be tried again", l.new, l.changed, l.again)];
    if report.gone > 0 {
        lines.push(format!("{} repositories are listed no more and now marked as gone", report.gone));
    }
    lines.extend(report.suspicious_deletion.clone());
    if let Some(spent) = report.spent {
        let limit = match spent {
            Spent::MaxRequests => "requests",
            Spent::MaxBytes => "bytes",
            Spent::Deadline => "time",
        };
        lines.push(format!("the budget of {limit} was spent; what waits comes first in the next crawl"));
    }
    if l.outdated > 0 {
        lines.push(format!(
            "of {} with fingerprints of an older version {} were read again",
            l.outdated, report.reread
        ));
    }
    if report.known_contents > 0 {
        lines.push(format!("the weights of {} repositories were known already", report.known_contents));
    }
    let share = 100.0 * report.bytes_fetched as f64 / report.bytes_in_repos.max(1) as f64;
    let r = &report.requests;
    lines.push(format!(
        "read {} of {} of weights ({share:.1} %), {} received in all",
        bytes(report.bytes_fetched),
        bytes(report.bytes_in_repos),
        bytes(report.bytes_received)
    ));
    let mut requests =
        format!("requests: {} api, {} resolvers, {} pages, {} cdn", r.api, r.resolvers, r.pages, r.cdn);
    let t = &report.retries;
    let retried = [
        (t.rate_limited, "after 429"),
        (t.server, "after server errors"),
        (t.unreachable, "after connection failures"),
        (t.stalled, "after timeouts"),
        (t.cut_body, "after cut bodies"),
        (report.expired_urls, "URLs resolved again"),
        (report.ranges_ignored, "ranges ignored"),
    ];
    for (n, what) in retried.into_iter().filter(|(n, _)| *n > 0) {
        requests += &format!(", {n} {what}");
    }
    lines.push(requests);
    let memory = report.peak_memory_bytes.map_or_else(|| "unknown".into(), bytes);
    let cpu = report.cpu_seconds.map_or_else(String::new, |cpu| format!(", {cpu:.1} s of processor time"));
    let mut cost = format!("{:.1} s{cpu}, {memory} peak memory", report.seconds);
    if report.rate_limit_wait_seconds > 0.0 {
        cost += &format!(", {:.1} s waited for rate limits", report.rate_limit_wait_seconds);
    }
    lines.push(cost);
    if let Some(stored) = report.stored_bytes_per_model {
        lines.push(format!("the database holds {} a model", bytes(stored)));
    }
    if report.breaker_openings > 0 {
        lines.push(format!(
            "a host kept failing and was left alone {} times, {:.1} s waited for it",
            report.breaker_openings, report.host_wait_seconds
        ));
    }
    lines
}
