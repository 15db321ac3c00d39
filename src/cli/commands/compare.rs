//! `hubprint compare`

use std::time::Instant;

use crate::cli::args::CompareArgs;
use crate::cli::failure::Failure;
use crate::cli::{Done, environment, json, printer, tables};
use crate::stages::compare::compare;
use crate::stages::model;

pub(in crate::cli) async fn run(args: CompareArgs) -> Result<Done, Failure> {
    let begun = Instant::now();
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let settings = environment::load_settings();
    let (a, b) = tokio::try_join!(
        async { model::load(&args.a, &hub, &settings).await.map_err(|e| named(&args.a, e)) },
        async { model::load(&args.b, &hub, &settings).await.map_err(|e| named(&args.b, e)) },
    )?;
    let comparison = compare(&a, &b)?;
    if args.json {
        printer::json(&json::compare(&a, &b, &comparison, begun.elapsed().as_secs_f64()))?;
    } else {
        printer::data(&tables::compare(&a, &b, &comparison))?;
    }
    Ok(Done::All)
}

/// Says which of the two could not be read.
fn named(name: &str, error: model::LoadError) -> Failure {
    let hint = error.hint();
    let failure = Failure::from(anyhow::Error::from(error).context(name.to_owned()));
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
