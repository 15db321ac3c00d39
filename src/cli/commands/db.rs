//! `hubprint db`

use std::sync::Arc;

use chrono::DateTime;

use crate::cli::args::{CompactArgs, ExportArgs, InfoArgs, MergeArgs, MigrateArgs, VacuumArgs, VerifyArgs};
use crate::cli::failure::Failure;
use crate::cli::json::{InfoJson, LargestJson, VerifiedJson};
use crate::cli::progress::Watch;
use crate::cli::tables;
use crate::cli::{Done, printer};
use crate::pipeline::Progress;
use crate::pipeline::maintain;
use crate::publication::{copy, export};
use crate::retrieval::tables::Posting;
use crate::retrieval::{self, Deep, Index, Verified};
use crate::store::maintenance::{self, Keep};
use crate::store::statistics::{SIZES, Statistics};
use crate::store::{Database, Outcome, StoreError, Task};

/// Families that `info` names.
const LARGEST: usize = 5;

pub(in crate::cli) fn info(args: &InfoArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let manifest = db.manifest();
    let live = db.live()?;
    let outcomes = live.outcomes();
    let bytes: u64 = manifest.files().map(|entry| entry.bytes).sum();
    let models: u64 = outcomes.values().sum();
    // An index that cannot be opened says nothing of families; scans and `verify` say why.
    let index = Index::open(&db).ok();
    let info = InfoJson {
        models,
        repositories: live.repos.len(),
        indexed: outcomes.get(&Outcome::Indexed).copied().unwrap_or(0),
        outcomes: outcomes.iter().map(|(o, n)| (o.name(), *n)).collect(),
        shards: manifest.shards.len(),
        bytes,
        bytes_per_model: bytes.checked_div(models),
        generation: manifest.generation,
        committed_at: manifest.committed_at,
        format_version: manifest.format_version,
        extraction_version: manifest.extraction_version,
        statistics: db.statistics(&live)?,
        families: index.as_ref().map_or(0, Index::families),
        contents: index.as_ref().map_or(0, Index::checkpoints),
        largest_families: index.as_ref().map(largest).unwrap_or_default(),
        has_index: manifest.index.is_some(),
        shards_not_indexed: manifest.shards_not_indexed(),
    };
    if args.json {
        printer::json(&info)?;
    } else {
        printer::data(&text(&info))?;
    }
    Ok(Done::All)
}

fn largest(index: &Index) -> Vec<LargestJson> {
    let mut families: Vec<_> = (0..index.families() as u32).map(|number| index.family(number)).collect();
    families.sort_by(|a, b| (b.checkpoints, &a.id).cmp(&(a.checkpoints, &b.id)));
    let family = |f: &&retrieval::FamilyRow| LargestJson {
        family: f.id.clone(),
        root: index.repositories(f.root).first().map(Posting::name),
        contents: f.checkpoints,
    };
    families.iter().take(LARGEST).map(family).collect()
}

fn text(info: &InfoJson) -> String {
    let InfoJson { models, repositories, shards, statistics, .. } = info;
    let by_outcome: Vec<String> = info.outcomes.iter().map(|(o, n)| format!("{n} {o}")).collect();
    let counts = |counts: Vec<(&str, u64)>| {
        counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
    };
    let Statistics { formats, sizes, bytes_in_repos, bytes_fetched, .. } = statistics;
    let of = match *repositories as u64 {
        n if n == *models => String::new(),
        n => format!(" of {n} repositories"),
    };
    let mut lines = vec![
        format!("{models} models{of}: {}", by_outcome.join(", ")),
        format!("{shards} shards, {} in all, version {}", tables::bytes(info.bytes), info.generation),
    ];
    if !formats.is_empty() {
        lines.push(format!("formats: {}", counts(formats.iter().map(|(k, v)| (k.as_str(), *v)).collect())));
        let in_order = SIZES.iter().filter_map(|(_, c)| Some((*c, *sizes.get(c)?)));
        lines.push(format!("sizes: {}", counts(in_order.collect())));
        let (read, all) = (tables::bytes(*bytes_fetched), tables::bytes(*bytes_in_repos));
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
        (true, n) => format!("the index is behind by {n} shards"),
    });
    lines.join("\n")
}

pub(in crate::cli) fn verify(args: &VerifyArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let copy = copy::verify_copy(db.files())?;
    let verified = watched("verify", "searches", |report| retrieval::verify(&db, args.deep, report))?;
    if args.json {
        printer::json(&VerifiedJson { verified: &verified, copy })?;
    } else {
        if let Some(copy) = copy {
            printer::data(&text_of_copy(&copy))?;
        }
        printer::data(&text_of_verified(&verified))?;
    }
    if verified.is_whole() {
        return Ok(Done::All);
    }
    Err(Failure::from(anyhow::anyhow!("the index does not find every model"))
        .with_hint("rebuild it with `hubprint index --rebuild --db DIR`"))
}

fn text_of_copy(copy: &copy::Copy) -> String {
    let unfinished = copy.unfinished.map(|version| {
        format!("; a pull of version {version} has begun and not ended: run `hubprint db pull` again")
    });
    format!("version {}, signed with key {}{}", copy.version, copy.key, unfinished.unwrap_or_default())
}

fn text_of_verified(verified: &Verified) -> String {
    let Verified { shards, rows, repositories, checkpoints, representatives, .. } = verified;
    let mut lines =
        vec![format!("{shards} shards with {rows} rows: length, SHA-256 and number of rows are as stated")];
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

pub(in crate::cli) fn export(args: &ExportArgs) -> Result<Done, Failure> {
    let form = args.out.extension().and_then(|e| e.to_str());
    if !matches!(form, Some("parquet" | "csv" | "graphml")) {
        return Err(Failure::from(anyhow::anyhow!("{} has no ending that names a form", args.out.display()))
            .with_hint("end it with .parquet, .csv or .graphml"));
    }
    let edges = export::edges(&Database::open(&args.db)?)?;
    export::write(&edges, &args.out)?;
    printer::data(&format!("{}: {} edges", args.out.display(), edges.len()))?;
    Ok(Done::All)
}

pub(in crate::cli) fn compact(args: &CompactArgs) -> Result<Done, Failure> {
    let mut db = Database::open_to_write(&args.db, Task::Maintenance)?;
    if maintain::index_is_behind(&db) {
        return Err(Failure::from(anyhow::anyhow!("the index is behind its database"))
            .with_hint("bring it up to date first with `hubprint index --db DB`"));
    }
    let shards = db.manifest().shards.len();
    let compaction = watched("compact", "rows", |report| maintain::compact(&mut db, args.rows, 1, report))?;
    let compaction = compaction.unwrap_or_else(|| maintenance::Compaction {
        shards_before: shards,
        shards,
        ..maintenance::Compaction::default()
    });
    if args.json {
        printer::json(&compaction)?;
    } else {
        printer::data(&format!(
            "{} shards became {}; {} replaced rows dropped; {} became {}\nthe shards before are there until `hubprint \
             db vacuum`",
            compaction.shards_before,
            compaction.shards,
            compaction.rows_dropped,
            tables::bytes(compaction.bytes_before),
            tables::bytes(compaction.bytes)
        ))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn vacuum(args: &VacuumArgs) -> Result<Done, Failure> {
    let db = if args.dry_run {
        Database::open(&args.db)?
    } else {
        Database::open_to_write(&args.db, Task::Maintenance)?
    };
    let keep = Keep { latest: args.keep, younger: args.older_than };
    let vacuumed = maintenance::vacuum(&db, keep, args.dry_run)?;
    if args.json {
        printer::json(&vacuumed)?;
    } else {
        let would = if args.dry_run { "would be " } else { "" };
        printer::data(&format!(
            "{} snapshots kept; {} snapshots and {} files, {}, {would}removed",
            vacuumed.snapshots,
            vacuumed.snapshots_removed,
            vacuumed.files_removed,
            tables::bytes(vacuumed.bytes_removed)
        ))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn merge(args: &MergeArgs) -> Result<Done, Failure> {
    let sources = args.sources.iter().map(Database::open).collect::<Result<Vec<_>, StoreError>>()?;
    let mut db = Database::open_or_create(&args.db, Task::CRAWL)?;
    let merged = watched("merge", "rows", |report| maintenance::merge(&mut db, &sources, report))?;
    if args.json {
        printer::json(&merged)?;
    } else {
        printer::data(&format!(
            "{}: {} shards with {} rows of {} databases added",
            args.db, merged.shards, merged.rows, merged.sources
        ))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn migrate(args: &MigrateArgs) -> Result<Done, Failure> {
    let manifest = maintenance::migrate(&args.db)?;
    let index = if manifest.index.is_some() { "" } else { "; build the index with `hubprint index`" };
    printer::data(&format!(
        "{}: format {}, {} shards with {} rows{index}",
        args.db.display(),
        manifest.format_version,
        manifest.shards.len(),
        manifest.rows()
    ))?;
    Ok(Done::All)
}

/// Work with a progress bar: it is given what takes (done, all).
pub(super) fn watched<T>(
    label: &'static str,
    unit: &'static str,
    work: impl FnOnce(&(dyn Fn(u64, u64) + Sync)) -> T,
) -> T {
    let progress = Arc::new(Progress::default());
    let _watch = Watch::start(label, unit, &progress);
    work(&|done, all| {
        progress.set_total(all);
        progress.set_done(done);
    })
}
