//! The tables that people read.

use std::time::Duration;

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

use super::json::IndexJson;
use crate::answers::compare::Comparison;
use crate::answers::query::Query;
use crate::answers::scan::{Answer, Candidate};
use crate::pipeline::budget::Spent;
use crate::pipeline::forecast::Bound;
use crate::pipeline::maintain::Maintained;
use crate::pipeline::{Forecast, RunReport};
use crate::retrieval::Quality;
use crate::signals::{Evidence, VerdictKind};
use crate::store::Outcome;

/// Width of tables where there is no terminal to ask.
const WIDTH: u16 = 130;
/// One line under the head, none between rows.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with this head, as wide as the terminal.
pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(head.to_vec());
    table
}

/// Bytes as a person says them.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// One query's relatives.
pub(super) fn scan(query: &Query, answer: &Answer) -> String {
    let (name, searched) = (query.name(), answer.searched);
    let mut out = query.known_from().map_or_else(String::new, |from| {
        format!("{name}: its weight files are those of {from}, by their digests, and were not read\n")
    });
    if answer.families.is_empty() {
        let nearest = answer.closest_rejected.as_ref().map_or_else(String::new, |c| {
            let similarity = c.comparison.evidence.body_effect().unwrap_or(0.0);
            format!(
                "; nearest: {} ({}, similarity {similarity:.3})",
                c.row.name(),
                c.comparison.verdict.kind.name()
            )
        });
        out += &format!(
            "{name}: no relative among {searched} distinct models{nearest}; only `compare` looks for copies with permuted \
             heads or neurons\n"
        );
        return out;
    }
    for family in &answer.families {
        let mut rows = table(&["", "model", "metadata", "relation", "score", "similarity", "evidence"]);
        let root = family.root.row.name();
        rows.add_row(candidate("root", &family.root));
        for member in family.members.iter().filter(|m| m.row.name() != root) {
            rows.add_row(candidate("member", member));
        }
        out += &format!(
            "{name}: of the family of {root}, {} of {searched} distinct models (root: {})\n{rows}\n",
            family.contents, family.root_evidence
        );
    }
    out + &false_positives(answer.quality) + "\n"
}

/// How often a search is wrong.
pub(super) fn false_positives(quality: Quality) -> String {
    let Quality { negatives, false_positives, .. } = quality;
    match quality.false_rate_at_most() {
        Some(rate) => format!(
            "false positives: a family named for {false_positives} of {negatives} made-up models without relatives, so \
             for at most {} of a million (95 %)",
            (rate * 1e6).ceil()
        ),
        None => "false positives: not measured on this index".to_owned(),
    }
}

fn candidate(what: &str, candidate: &Candidate) -> [String; 7] {
    let Comparison { evidence, verdict, screening, .. } = &candidate.comparison;
    let copies = match candidate.copies.len() {
        0 => String::new(),
        1 => format!(" (= {})", candidate.copies[0]),
        n => format!(" (= {} and {} more)", candidate.copies[0], n - 1),
    };
    let gone = if candidate.row.gone_at.is_some() { " (gone from the Hub)" } else { "" };
    let relation = verdict.relation.map_or(verdict.kind.name(), crate::signals::verdict::Relation::name);
    [
        what.to_owned(),
        format!("{}{copies}{gone}", candidate.row.name()),
        screening.tier.name().to_owned(),
        relation.to_owned(),
        format!("{:.3}", verdict.score),
        evidence.body_effect().map_or_else(|| "-".into(), |v| format!("{v:.4}")),
        evidence_in_words(evidence, verdict.kind),
    ]
}

fn evidence_in_words(evidence: &Evidence, kind: VerdictKind) -> String {
    if kind == VerdictKind::Identical {
        return "same weight files".into();
    }
    let counted = evidence.in_place.counted();
    let words: Vec<String> =
        counted.map(|(test, effect)| format!("{} z {:.0}", test.short, effect.z())).collect();
    words.join(", ")
}

/// The run report.
pub(super) fn crawl(report: &RunReport) -> String {
    let mut out = format!("{} repositories: {}", report.models, ends(report));
    for line in facts(report) {
        out += &format!("\n{line}");
    }
    for failure in &report.failures {
        out += &format!("\n  {} {}: {}", failure.outcome.name(), failure.repo, failure.reason);
    }
    out
}

/// The run report as Markdown.
pub(super) fn crawl_markdown(report: &RunReport) -> String {
    let began =
        report.started_at.map_or_else(String::new, |t| t.format(" of %Y-%m-%d %H:%M UTC").to_string());
    let mut out = format!("# Crawl{began}\n\n{} repositories: {}\n", report.models, ends(report));
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
fn ends(report: &RunReport) -> String {
    let outcomes =
        Outcome::ALL.iter().map(|o| (report.outcomes.get(o.name()).copied().unwrap_or(0), o.name()));
    let others = [
        (report.unchanged, "unchanged"),
        (report.metadata_updated, "metadata updated"),
        (report.filtered, "filtered"),
        (report.waiting, "waiting"),
    ];
    let all = outcomes.chain(others).filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}"));
    all.collect::<Vec<_>>().join(" ")
}

/// What a crawl did and cost, a line each.
fn facts(report: &RunReport) -> Vec<String> {
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

/// What was done to keep a database small.
pub(super) fn maintained(maintained: &Maintained) -> String {
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
pub(super) fn forecast(forecast: &Forecast) -> String {
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
pub(super) fn index(index: &IndexJson) -> String {
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
        false_positives(built.quality)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;
    use crate::signals::{sampled, toy};

    #[test]
    fn every_test_has_a_word_of_its_own() {
        let base = Model::random(1, 4, 96).samples();
        let words = evidence_in_words(&sampled::compare(&base, &base), VerdictKind::Derived);
        let words: Vec<&str> =
            words.split(", ").filter_map(|word| word.rsplit_once(" z ")).map(|w| w.0).collect();
        assert_eq!(words, ["gains", "weights", "embedding", "rows", "row cosines"]);
        let with_toy = evidence_in_words(&toy::evidence(), VerdictKind::Derived);
        assert!(with_toy.ends_with(", blocks z 50"), "{with_toy}");
    }
}
