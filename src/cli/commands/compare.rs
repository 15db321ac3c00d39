//! `hubprint compare`

use std::sync::Arc;

use crate::answers::compare::CompareJob;
use crate::checkpoint::plan::PlanSettings;
use crate::cli::args::CompareArgs;
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{comparison, environment, printer};
use crate::pipeline::Progress;

pub(in crate::cli) async fn run(args: CompareArgs) -> Result<Done, Failure> {
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let reader = environment::reader(PlanSettings::detailed());
    let job =
        CompareJob { a: args.a, b: args.b, others: args.with, everything: args.explain, whole: args.full };
    if args.screen {
        let answer = job.screen(&hub, &reader).await?;
        if args.json {
            printer::json(&answer)?;
        } else {
            printer::data(&comparison::screening(&answer.screening))?;
        }
        return Ok(Done::All);
    }
    let progress = Arc::new(Progress::default());
    // Only reading models whole takes long enough to be watched.
    let watch = args.full.then(|| Watch::start("full", "blocks", &progress));
    let answer = Box::pin(job.run(&hub, &reader, |done, all| progress.set(done, all))).await?;
    drop(watch);
    if args.json {
        printer::json(&answer)?;
    } else if args.plain {
        printer::data(&comparison::plain(&answer))?;
    } else {
        printer::data(&comparison::comparison(&answer))?;
        if args.explain {
            printer::data(&format!("\n{}", comparison::explanation(&answer.judgement)))?;
        }
        if let Some(whole) = &answer.whole {
            printer::data(&format!("\n{}", comparison::whole(whole)))?;
        }
    }
    // Of weights that were not read nothing is known.
    let is_partly = answer.models.iter().any(|model| model.reason.is_some());
    Ok(if is_partly { Done::Partly } else { Done::All })
}
