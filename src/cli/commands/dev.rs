//! `hubprint dev`: made-up databases, and how well scans of them do.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cli::args::{PopulationArgs, ScoreArgs};
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{Done, printer};
use crate::pipeline::Progress;
use crate::retrieval::Quality;
use crate::store::StoreError;
use crate::synthetic::population::{self, MOVED, PopulationSettings, TRUTH};

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
        population::population(&args.db, &settings(args), &|done, all| {
            progress.set_total(all);
            progress.set_done(done);
        })?;
    }
    let path = args.db.join(TRUTH);
    printer::data(&format!("{} with its truth in {}", args.db.display(), path.display()))?;
    Ok(Done::All)
}

/// How scans did.
#[derive(Debug, Default, Serialize)]
struct Score {
    /// Queries with a parent in the database, by least correlation with it, and how many found its family first.
    related: Vec<Band>,
    /// The same of those whose hidden dimensions are in another order than the parent's.
    moved: Vec<Band>,
    /// Queries without any.
    #[serde(rename = "strangers")]
    negatives: usize,
    /// Of those, the ones that a family was named for.
    #[serde(rename = "false_families")]
    false_positives: usize,
    /// Largest share of negatives for which that is so, with 95 % confidence.
    false_rate_at_most: Option<f64>,
    /// Related queries whose first family is a wrong one.
    wrong_families: usize,
    /// Found families whose root is the true one.
    right_roots: usize,
    /// Found families whose closest content is the true parent or a copy of it.
    right_parents: usize,
    /// Related queries whose family was found.
    found: usize,
}

/// Related queries of one band of correlation.
#[derive(Debug, Default, Serialize)]
struct Band {
    from: f64,
    to: f64,
    queries: usize,
    found: usize,
    recall: f64,
}

#[derive(Deserialize)]
struct Answer {
    query: String,
    #[serde(default)]
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    root: Option<String>,
    judged: Option<String>,
    closest: Vec<Close>,
}

#[derive(Deserialize)]
struct Close {
    repo_id: String,
}

/// A line of truth.tsv.
struct Truth {
    family: String,
    root: String,
    parent: String,
    relation: String,
    r: f64,
}

pub(in crate::cli) fn score(args: &ScoreArgs) -> Result<Done, Failure> {
    let queries = read_truth(&args.truth)?;
    let models = read_truth(&args.families)?;
    let family = |name: &str| models.get(name).map(|t| t.family.as_str());
    // The content of a copy is that of the model it was copied from.
    let content = |name: &str| {
        let mut name = name.to_owned();
        while let Some(truth) = models.get(&name).filter(|t| t.relation == "copy") {
            name.clone_from(&truth.parent);
        }
        name
    };
    let text = std::fs::read_to_string(&args.answers)
        .map_err(|source| StoreError::Io { path: args.answers.clone(), source })?;
    let bounds = [0.2, 0.3, 0.5, 0.7, 0.9, 1.0];
    let bands = || bounds.windows(2).map(|b| Band { from: b[0], to: b[1], ..Band::default() }).collect();
    let mut score = Score { related: bands(), moved: bands(), ..Score::default() };
    for line in text.lines() {
        let answer: Answer = serde_json::from_str(line).map_err(anyhow::Error::from)?;
        let Some(truth) = queries.get(&answer.query) else { continue };
        let first = answer.families.first();
        let named = first.and_then(|f| family(f.judged.as_deref()?));
        if truth.relation == "stranger" {
            score.negatives += 1;
            score.false_positives += usize::from(first.is_some());
            continue;
        }
        let found = named == Some(truth.family.as_str());
        let bands = if truth.relation == MOVED { &mut score.moved } else { &mut score.related };
        if let Some(band) = bands.iter_mut().rfind(|band| truth.r >= band.from) {
            band.queries += 1;
            band.found += usize::from(found);
        }
        score.wrong_families += usize::from(first.is_some() && !found);
        if let Some(first) = first.filter(|_| found) {
            score.found += 1;
            score.right_roots +=
                usize::from(first.root.as_deref().map(content) == Some(content(&truth.root)));
            let closest = first.closest.first().map(|c| content(&c.repo_id));
            score.right_parents += usize::from(closest == Some(content(&truth.parent)));
        }
    }
    for band in score.related.iter_mut().chain(&mut score.moved) {
        band.recall = band.found as f64 / band.queries.max(1) as f64;
    }
    let Score { negatives, false_positives, .. } = score;
    let quality = Quality { negatives, false_positives, ..Quality::default() };
    score.false_rate_at_most = quality.false_rate_at_most();
    if args.json {
        printer::json(&score)?;
        return Ok(Done::All);
    }
    for (bands, what) in [(&score.related, ""), (&score.moved, ", hidden dimensions moved")] {
        for Band { from, to, queries, found, recall } in bands {
            printer::data(&format!(
                "correlation {from:.1} to {to:.1}{what}: {found} of {queries} families found first ({recall:.4})"
            ))?;
        }
    }
    printer::data(&format!(
        "wrong families named first: {}; a family named for {} of {} without relatives, so for at most {:.1e} of them \
         (95 %)\nroot right: {} of {}; closest is the parent: {} of {}",
        score.wrong_families,
        score.false_positives,
        score.negatives,
        score.false_rate_at_most.unwrap_or(1.0),
        score.right_roots,
        score.found,
        score.right_parents,
        score.found
    ))?;
    Ok(Done::All)
}

fn read_truth(path: &Path) -> Result<HashMap<String, Truth>, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
    let mut all = HashMap::new();
    for line in text.lines().skip(1) {
        let [name, family, root, parent, relation, r] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(Failure::from(anyhow::anyhow!("{}: no line of a truth: {line:?}", path.display())));
        };
        let r = r.parse().map_err(anyhow::Error::from)?;
        let [family, root, parent, relation] = [family, root, parent, relation].map(str::to_owned);
        all.insert(name.to_owned(), Truth { family, root, parent, relation, r });
    }
    Ok(all)
}
