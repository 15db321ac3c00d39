//! Reads the models of a list, each once, and judges its pairs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::JudgedPair;
use super::merit::Merit;
use super::pairs::Pair;
use crate::answers::compare::comparison::{self, Effort};
use crate::checkpoint::model::{self, Subject};
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;

/// Models read at once.
const PARALLEL: usize = 4;
/// Pairs whose models are brought together at a time.
const CHUNK: usize = 64;
/// Bytes of samples that are kept between chunks, 2 GB.
const KEPT_BYTES: usize = 2_000_000_000;

/// How a list is run.
#[derive(Clone, Debug, Default)]
pub struct EvalSettings {
    /// Folder in which the models lie under their names; else they are what a command line would take.
    pub root: Option<PathBuf>,
    /// How models are read.
    pub reader: Reader,
}

/// A list, judged: `eval --json`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct EvalAnswer {
    /// Figures of merit.
    pub merit: Merit,
    /// Models read.
    pub models: usize,
    /// Bytes of file content read.
    pub bytes: u64,
    /// Seconds spent reading models.
    pub reading_seconds: f64,
    /// Seconds spent comparing.
    pub comparing_seconds: f64,
    /// Models that could not be read, by name, with the reason.
    pub unavailable: BTreeMap<String, String>,
    /// Every pair, in the order of the list.
    pub pairs: Vec<JudgedPair>,
}

/// Runs a list. `progress` gets the number of pairs done.
pub async fn eval(
    pairs: &[Pair],
    hub: &Hub,
    settings: &EvalSettings,
    progress: impl Fn(usize),
) -> EvalAnswer {
    let _span = tracing::info_span!("eval").entered();
    let mut found = EvalAnswer::default();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    // Pairs of one model stand together, so that it is read once.
    order.sort_by(|i, j| (&pairs[*i].a, &pairs[*i].b).cmp(&(&pairs[*j].a, &pairs[*j].b)));
    let mut held: HashMap<String, Result<Arc<Subject>, String>> = HashMap::new();
    let mut seen = BTreeSet::new();
    let mut judged: BTreeMap<usize, JudgedPair> = BTreeMap::new();
    for chunk in order.chunks(CHUNK) {
        let begun = Instant::now();
        let names: BTreeSet<&str> = chunk.iter().flat_map(|i| [&*pairs[*i].a, &*pairs[*i].b]).collect();
        make_room(&mut held, &names);
        let missing: Vec<&str> = names.iter().copied().filter(|name| !held.contains_key(*name)).collect();
        let read: Vec<(&str, Result<Arc<Subject>, String>)> = stream::iter(missing)
            .map(|name| async move {
                let argument = settings
                    .root
                    .as_ref()
                    .map_or_else(|| name.to_owned(), |root| root.join(name).display().to_string());
                (
                    name,
                    model::load(&argument, hub, &settings.reader)
                        .await
                        .map(Arc::new)
                        .map_err(|e| e.to_string()),
                )
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (name, subject) in read {
            let first = seen.insert(name.to_owned());
            match &subject {
                Ok(subject) => found.bytes += subject.bytes_fetched(),
                Err(reason) if first => {
                    found.unavailable.insert(name.to_owned(), reason.clone());
                }
                Err(_) => {}
            }
            held.insert(name.to_owned(), subject);
        }
        found.reading_seconds += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let results: Vec<(usize, JudgedPair)> =
            chunk.par_iter().map(|i| (*i, judge(&pairs[*i], &held))).collect();
        judged.extend(results);
        found.comparing_seconds += begun.elapsed().as_secs_f64();
        progress(judged.len());
    }
    found.models = seen.len() - found.unavailable.len();
    found.pairs = judged.into_values().collect();
    found.merit = Merit::of(&found.pairs);
    found
}

/// Drops models that the next pairs do not need, until what is left is small.
fn make_room(held: &mut HashMap<String, Result<Arc<Subject>, String>>, needed: &BTreeSet<&str>) {
    let size = |subject: &Result<Arc<Subject>, String>| subject.as_ref().map_or(0, |s| s.memory());
    let mut total: usize = held.values().map(size).sum();
    held.retain(|name, subject| {
        let stays = needed.contains(name.as_str()) || total <= KEPT_BYTES;
        if !stays {
            total -= size(subject);
        }
        stays
    });
}

fn judge(pair: &Pair, held: &HashMap<String, Result<Arc<Subject>, String>>) -> JudgedPair {
    let subject = |name: &str| match held.get(name) {
        Some(Ok(subject)) => Ok(Arc::clone(subject)),
        Some(Err(reason)) => Err(format!("{name}: {reason}")),
        None => Err(format!("{name}: not read")),
    };
    let result = subject(&pair.a).and_then(|a| {
        let b = subject(&pair.b)?;
        comparison::compare(&a, &b, Effort::Enough).map_err(|error| error.to_string())
    });
    JudgedPair::new(pair, result.as_ref().map_err(Clone::clone))
}
