//! `hubprint dev`: made-up databases, how well scans of them do, and what the role table knows.

use std::sync::Arc;

use crate::answers::{census, score};
use crate::cli::args::{PopulationArgs, RolesArgs, ScoreArgs};
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{printer, tables};
use crate::pipeline::Progress;
use crate::synthetic::population::{self, PopulationSettings};
use crate::synthetic::truth::{self, TRUTH};

fn settings(args: &PopulationArgs) -> PopulationSettings {
    PopulationSettings {
        models: args.models,
        queries: args.queries,
        strangers: args.negatives,
        background: args.background,
        seed: args.seed,
        written: args.begin..args.end.unwrap_or(args.models),
    }
}

pub(in crate::cli) fn population(args: &PopulationArgs) -> Result<Done, Failure> {
    let progress = Arc::new(Progress::default());
    {
        let _watch = Watch::start("population", "models", &progress);
        population::population(&args.db, &settings(args), &|done, all| progress.set(done, all))?;
    }
    let path = args.db.join(TRUTH);
    printer::data(&format!("{} with its truth in {}", args.db.display(), path.display()))?;
    Ok(Done::All)
}

pub(in crate::cli) fn score(args: &ScoreArgs) -> Result<Done, Failure> {
    let queries = truth::read(&args.truth).map_err(Failure::usage)?;
    let models = truth::read(&args.families).map_err(Failure::usage)?;
    let score = score::score(&args.answers, &queries, &models).map_err(Failure::usage)?;
    if args.json {
        printer::json(&score)?;
    } else {
        printer::data(&tables::score(&score))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn roles(args: &RolesArgs) -> Result<Done, Failure> {
    let census = census::census(&args.list).map_err(Failure::usage)?;
    if args.json {
        printer::json(&census)?;
    } else {
        printer::data(&tables::census(&census))?;
    }
    Ok(Done::All)
}
