//! What a database holds, how old it is, whether it is whole, and where it went, for people.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::style::table;
use crate::answers::info::Info;
use crate::answers::status::{Ran, Status};
use crate::answers::verify::Verification;
use crate::pipeline::summary::{bytes, count};
use crate::publication::copy::Copy;
use crate::publication::plan::Published;
use crate::publication::pull::Pulled;
use crate::retrieval::{Deep, Verified};
use crate::store::Outcome;
use crate::store::statistics::{SIZES, Statistics};

/// What a database holds.
pub(in crate::cli) fn info(info: &Info) -> String {
    let Info { models, repositories, shards, statistics, .. } = info;
    let of = match *repositories as u64 {
        n if n == *models => String::new(),
        n => format!(" of {}", count(n, "repository")),
    };
    // In tables a database is indexed when it has an index.
    let said = |outcome| if outcome == Outcome::Indexed.name() { "with a fingerprint" } else { outcome };
    let by_outcome: Vec<String> = info.outcomes.iter().map(|(o, n)| format!("{n} {}", said(o))).collect();
    let counts = |counts: Vec<(&str, u64)>| {
        counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
    };
    let Statistics { formats, sizes, bytes_in_repos, bytes_fetched, .. } = statistics;
    let mut lines = vec![
        format!("{}{of}: {}", count(*models, "model"), by_outcome.join(", ")),
        format!(
            "{}, {} in all, version {}",
            count(*shards as u64, "shard"),
            bytes(info.bytes),
            info.generation
        ),
    ];
    lines.extend(outdated(info.outdated, "fingerprints"));
    if !formats.is_empty() {
        lines.push(format!("formats: {}", counts(formats.iter().map(|(k, v)| (k.as_str(), *v)).collect())));
        let in_order = SIZES.iter().filter_map(|(_, c)| Some((*c, *sizes.get(c)?)));
        lines.push(format!("sizes: {}", counts(in_order.collect())));
        let (read, all) = (bytes(*bytes_fetched), bytes(*bytes_in_repos));
        lines.push(format!("read {read} of {all} of weights"));
    }
    let day = |time: Option<i64>| {
        let time = time.and_then(DateTime::from_timestamp_millis);
        time.map_or_else(|| "-".into(), |t| t.format("%Y-%m-%d %H:%M").to_string())
    };
    if statistics.newest_row.is_some() {
        lines.push(format!(
            "crawled from {} to {} UTC",
            day(statistics.oldest_row),
            day(statistics.newest_row)
        ));
    }
    if statistics.gone > 0 {
        lines.push(format!("{} are listed no more", statistics.gone));
    }
    if info.families > 0 {
        lines.push(format!("{} distinct models in {} families", info.contents, info.families));
        for family in &info.largest_families {
            let root = family.root.as_deref().unwrap_or("(gone)");
            lines.push(format!("  {} of {root} ({})", family.contents, family.family));
        }
    }
    lines.push(match (info.has_index, info.shards_not_indexed) {
        (false, _) => "no index yet; build it with `hubprint index`".to_owned(),
        (true, 0) => "the index covers all shards".to_owned(),
        (true, n) => format!("the index is behind by {}", count(n as u64, "shard")),
    });
    lines.join("\n")
}

/// What an older version of the extraction has read, if anything.
fn outdated(n: u64, of_what: &str) -> Option<String> {
    (n > 0).then(|| {
        format!("{n} {of_what} are of an older version: how much of the model they cover is not known until it is read again")
    })
}

/// Whether a database is whole.
pub(in crate::cli) fn verification(found: &Verification) -> String {
    let copied = found.copy.as_ref().map(|found| copy(found) + "\n");
    copied.unwrap_or_default() + &verified(&found.verified)
}

fn copy(copy: &Copy) -> String {
    let unfinished = copy.unfinished.map(|version| {
        format!("; a pull of version {version} has begun and not ended: run `hubprint db pull` again")
    });
    format!("version {}, signed with key {}{}", copy.version, copy.key, unfinished.unwrap_or_default())
}

fn verified(verified: &Verified) -> String {
    let Verified { shards, rows, repositories, checkpoints, representatives, .. } = verified;
    let mut lines = vec![format!(
        "{} with {}: length, SHA-256 and number of rows are as stated",
        count(*shards as u64, "shard"),
        count(*rows, "row")
    )];
    if !verified.has_index {
        lines.push("no index".to_owned());
        return lines.join("\n");
    }
    let of = |lost: usize, all: usize| format!("{} of {all}", all - lost.min(all));
    lines.push(
        "the index: version, database, shards, lengths and SHA-256 of its files are as stated".to_owned(),
    );
    lines.push(format!(
        "repositories with a fingerprint that it names: {}",
        of(verified.lost_repositories, repositories + verified.lost_repositories)
    ));
    lines.push(format!(
        "representatives that a search of all of them finds: {}",
        of(verified.lost_representatives, *representatives)
    ));
    lines.push(format!(
        "checkpoints that a search behind their representative finds: {}",
        of(verified.lost_checkpoints, *checkpoints)
    ));
    lines.push(match &verified.deep {
        Some(Deep { searches, found, by_digest_alone, .. }) => format!(
            "checkpoints that a whole search finds: {found} of {searches}, {by_digest_alone} of them by their digest alone"
        ),
        None => "whole searches were not made; --deep makes them".to_owned(),
    });
    lines.join("\n")
}

/// What the crawls of a database did.
pub(in crate::cli) fn status(status: &Status) -> String {
    let Status { repositories, indexed, gone, waiting, .. } = status;
    let mut out = format!(
        "{}: {indexed} with a fingerprint, {gone} gone since",
        count(*repositories as u64, "repository")
    );
    if let Some(outdated) = outdated(status.outdated as u64, "repositories") {
        out += &format!("\n{outdated}");
    }
    out += &match (waiting, status.waiting_since) {
        (0, _) | (_, None) => "\nnothing waits for the next crawl".to_owned(),
        (n, Some(since)) => format!("\n{n} wait for the next crawl, the first since {}", day(since)),
    };
    out += &match (status.last_whole_sweep, status.hours_since) {
        (Some(time), Some(hours)) => format!("\nlast whole sweep: {}, {hours:.1} hours ago", day(time)),
        _ => "\nno crawl has seen the whole listing yet".to_owned(),
    };
    if status.shards_not_indexed > 0 {
        out += &format!(
            "\nthe index is behind by {}: run `hubprint index`",
            count(status.shards_not_indexed as u64, "shard")
        );
    }
    for writer in &status.writers {
        out += &format!("\nprocess {} on {} writes since {}", writer.pid, writer.host, day(writer.since));
    }
    if !status.runs.is_empty() {
        let mut rows =
            table(&["began", "repositories", "read", "waiting", "gone", "requests", "seconds", "ended"]);
        for run in &status.runs {
            rows.add_row(ran(&Ran::of(run)));
        }
        out += &format!("\n{rows}");
    }
    out
}

fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// One run, whichever version wrote its report.
fn ran(ran: &Ran) -> [String; 8] {
    let number = |n: Option<u64>| n.map_or_else(|| "-".into(), |n| n.to_string());
    let ended = match (&ran.error, ran.interrupted, &ran.spent) {
        (Some(error), ..) => error.clone(),
        (None, true, _) => "stopped".to_owned(),
        (None, false, Some(spent)) => format!("budget spent: {spent}"),
        (None, false, None) => "whole".to_owned(),
    };
    [
        ran.started_at.map_or_else(|| "-".into(), day),
        number(ran.models),
        ran.read().to_string(),
        number(ran.waiting),
        number(ran.gone),
        ran.all_requests().to_string(),
        ran.seconds.map_or_else(|| "-".into(), |s| format!("{s:.0}")),
        ended,
    ]
}

/// What was published, or would be.
pub(in crate::cli) fn published(published: &Published, to: &str) -> String {
    let Published { version, key, files, files_sent, files_removed, .. } = published;
    let (all, sent) = (bytes(published.bytes), bytes(published.bytes_sent));
    let before = published.before.map_or_else(|| "nothing".to_owned(), |v| format!("version {v}"));
    let rest = format!(
        "{files} files, {all}; {files_sent} of them, {sent}, were not there; {files_removed} old files removed\n\
         signed with key {key}"
    );
    if published.done {
        format!("{to}: version {version} published, before it {before}\n{rest}")
    } else {
        format!(
            "{to}: version {version} would be published, before it {before}\n{}\nnothing was sent; do it with --yes",
            rest.replace("were not there", "are not there").replace("removed", "would be removed")
        )
    }
}

/// What a pull brought.
pub(in crate::cli) fn pulled(pulled: &Pulled, folder: &Path) -> String {
    let Pulled { version, key, files, files_fetched, .. } = pulled;
    let (all, fetched) = (bytes(pulled.bytes), bytes(pulled.bytes_fetched));
    let before = match pulled.before {
        Some(before) if before == *version => ", as before".to_owned(),
        Some(before) => format!(", before it {before}"),
        None => String::new(),
    };
    let trust = if pulled.key_is_new { ", trusted from now on: compare it with the publisher's" } else { "" };
    format!(
        "{}: version {version} of {}{before}\n{files} files, {all}, every one checked; {files_fetched} of them, \
         {fetched}, fetched\nsigned with key {key}{trust}",
        folder.display(),
        pulled.published_at.format("%Y-%m-%d %H:%M UTC")
    )
}
