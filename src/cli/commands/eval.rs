//! `hubprint eval`

use std::sync::Arc;

use crate::answers::eval::{self, EvalSettings};
use crate::checkpoint::plan::PlanSettings;
use crate::cli::args::EvalArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{environment, evaluation, printer};
use crate::pipeline::Progress;

pub(in crate::cli) async fn run(args: EvalArgs) -> Result<Done, Failure> {
    let pairs = eval::read_pairs(&args.pairs).map_err(Failure::usage)?;
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let settings = EvalSettings { root: args.root, reader: environment::reader(PlanSettings::detailed()) };
    let progress = Arc::new(Progress::default());
    progress.set_total(pairs.len() as u64);
    let watch = Watch::start("eval", "pairs", &progress);
    let found = eval::eval(&pairs, &hub, &settings, |done| progress.set_done(done as u64)).await;
    drop(watch);
    if args.json {
        printer::json(&found)?;
    } else {
        printer::data(&evaluation::evaluation(&found))?;
    }
    Ok(if found.unavailable.is_empty() { Done::All } else { Done::Partly })
}
