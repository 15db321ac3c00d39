//! `hubprint db`

use crate::cli::args::InfoArgs;
use std::sync::Arc;

use crate::cli::failure::Failure;
use crate::cli::json::InfoJson;
use crate::cli::progress::Watch;
use crate::cli::tables;
use crate::cli::{Done, printer};
use crate::pipeline::Progress;
use crate::retrieval;
use crate::store::{Database, Outcome};

pub(in crate::cli) fn info(args: &InfoArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let manifest = db.manifest();
    let outcomes = db.outcomes()?;
    let bytes: u64 = manifest.shards.iter().map(|s| s.bytes).sum();
    let models: u64 = outcomes.values().sum();
    let covered = manifest.index.as_ref().map_or(0, |i| i.shards);
    let info = InfoJson {
        models,
        indexed: outcomes.get(&Outcome::Indexed).copied().unwrap_or(0),
        outcomes: outcomes.iter().map(|(o, n)| (o.name(), *n)).collect(),
        shards: manifest.shards.len(),
        bytes,
        bytes_per_model: bytes.checked_div(models),
        format_version: manifest.format_version,
        extraction_version: manifest.extraction_version,
        has_index: manifest.index.is_some(),
        shards_not_indexed: manifest.shards.len() - covered.min(manifest.shards.len()),
    };
    if args.json {
        printer::json(&info)?;
        return Ok(Done::All);
    }
    let by_outcome: Vec<String> = outcomes.iter().map(|(o, n)| format!("{n} {}", o.name())).collect();
    let index = match (info.has_index, info.shards_not_indexed) {
        (false, _) => "no index yet; build it with `hubprint index`".to_owned(),
        (true, 0) => "the index covers all shards".to_owned(),
        (true, n) => format!("the index is behind by {n} shards"),
    };
    printer::data(&format!(
        "{models} models: {}\n{} shards, {}\n{index}",
        by_outcome.join(", "),
        info.shards,
        tables::bytes(bytes)
    ))?;
    Ok(Done::All)
}

pub(in crate::cli) fn verify(args: &InfoArgs) -> Result<Done, Failure> {
    let db = Database::open(&args.db)?;
    let progress = Arc::new(Progress::default());
    let verified = {
        let _watch = Watch::start("verify", "contents", &progress);
        retrieval::verify(&db, &|done, all| {
            progress.set_total(all);
            progress.set_done(done);
        })?
    };
    if args.json {
        printer::json(&verified)?;
    } else {
        let lost = verified.lost_repositories + verified.lost_contents + verified.lost_heads;
        let found = if lost == 0 {
            "every model is found".to_owned()
        } else {
            format!(
                "lost: {} repositories, {} contents, {} heads",
                verified.lost_repositories, verified.lost_contents, verified.lost_heads
            )
        };
        printer::data(&format!(
            "{} shards with {} rows and the index of {} contents are as written; {found}",
            verified.shards, verified.rows, verified.contents
        ))?;
    }
    if verified.is_whole() {
        return Ok(Done::All);
    }
    Err(Failure::from(anyhow::anyhow!("the index does not find every model"))
        .with_hint("rebuild it with `hubprint index --rebuild --db DIR`"))
}
