//! eval: a list of pairs with known answers, judged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use rayon::prelude::*;
use serde::Deserialize;

use super::compare::{self, Comparison, Effort};
use crate::checkpoint::model::{self, Subject};
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;
use crate::signals::VerdictKind;

/// Models read at once.
const PARALLEL: usize = 4;
/// Pairs whose models are brought together at a time.
const CHUNK: usize = 64;
/// Bytes of samples that are kept between chunks, 2 GB.
const KEPT_BYTES: usize = 2_000_000_000;
/// Bins of the calibration table.
const BINS: usize = 10;

/// One pair with its known answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pair {
    /// A model: repository id, path, or folder below the root.
    pub a: String,
    /// Another one.
    pub b: String,
    /// Whether they share weights.
    #[serde(deserialize_with = "flag")]
    pub related: bool,
    /// In what way, in the list's own words.
    #[serde(default)]
    pub relation: String,
}

/// `true`, `false`, 1 or 0.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(u64),
        Text(String),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Bool(value) => Ok(value),
        Flag::Number(value) if value < 2 => Ok(value == 1),
        Flag::Text(text) => parse_flag(&text).ok_or_else(|| serde::de::Error::custom("related is 1 or 0")),
        Flag::Number(_) => Err(serde::de::Error::custom("related is 1 or 0")),
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "true" | "yes" => Some(true),
        "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the JSON that is expected.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A line or the head of a table.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// Reads a list: tab-separated with a head that names at least a, b and related; or JSON, an array of such
/// objects or an object with one under `pairs`.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>, PairsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| PairsError::Io { path: path.to_owned(), source })?;
    if text.trim_start().starts_with(['[', '{']) {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum List {
            Plain(Vec<Pair>),
            Under { pairs: Vec<Pair> },
        }
        let list: List = serde_json::from_str(&text)
            .map_err(|source| PairsError::Json { path: path.to_owned(), source })?;
        return Ok(match list {
            List::Plain(pairs) | List::Under { pairs } => pairs,
        });
    }
    let error = |line: usize, what: String| PairsError::Line { path: path.to_owned(), line: line + 1, what };
    let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
    let (number, head) = lines.next().ok_or_else(|| error(0, "the list is empty".into()))?;
    let names: Vec<&str> = head.split('\t').collect();
    let column = |name: &str| names.iter().position(|n| n.trim() == name);
    let required =
        |name: &str| column(name).ok_or_else(|| error(number, format!("the head has no column {name}")));
    let (a, b, related, relation) =
        (required("a")?, required("b")?, required("related")?, column("relation"));
    lines
        .map(|(number, line)| {
            let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
            let cell = |i: usize| cells.get(i).copied().unwrap_or_default();
            if cell(a).is_empty() || cell(b).is_empty() {
                return Err(error(number, "a or b is empty".into()));
            }
            let related = parse_flag(cell(related))
                .ok_or_else(|| error(number, format!("related is {:?}, not 1 or 0", cell(related))))?;
            let relation = relation.map_or("", cell).to_owned();
            Ok(Pair { a: cell(a).to_owned(), b: cell(b).to_owned(), related, relation })
        })
        .collect()
}

/// How a list is run.
#[derive(Clone, Debug, Default)]
pub struct EvalSettings {
    /// Folder in which the models lie under their names; else they are what a command line would take.
    pub root: Option<PathBuf>,
    /// How models are read.
    pub reader: Reader,
}

/// What came of one pair.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The pair.
    pub pair: Pair,
    /// The comparison, or why there is none.
    pub result: Result<Comparison, String>,
}

impl Judged {
    /// What the pair was called; `None` where a model could not be read.
    pub fn kind(&self) -> Option<VerdictKind> {
        self.result.as_ref().ok().map(|c| c.verdict.kind)
    }

    fn called_related(&self) -> bool {
        self.kind().is_some_and(|kind| kind.related() == Some(true))
    }

    /// Whether the answer is right; abstaining is not a claim of descent.
    pub fn is_right(&self) -> bool {
        self.called_related() == self.pair.related
    }
}

/// A model that could not be read.
#[derive(Clone, Debug)]
pub struct Unavailable {
    /// Its name in the list.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Everything found.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Every pair, in the order of the list.
    pub judged: Vec<Judged>,
    /// Models that could not be read.
    pub unavailable: Vec<Unavailable>,
    /// Models read.
    pub models: usize,
    /// Bytes of file content read.
    pub bytes: u64,
    /// Time spent reading models and time spent on pairs.
    pub reading: Duration,
    /// Time spent comparing.
    pub comparing: Duration,
}

/// Runs a list. `progress` gets the number of pairs done.
pub async fn eval(
    pairs: &[Pair],
    hub: &Hub,
    settings: &EvalSettings,
    progress: impl Fn(usize),
) -> Evaluation {
    let _span = tracing::info_span!("eval").entered();
    let mut found = Evaluation::default();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    // Pairs of one model stand together, so that it is read once.
    order.sort_by(|i, j| (&pairs[*i].a, &pairs[*i].b).cmp(&(&pairs[*j].a, &pairs[*j].b)));
    let mut held: HashMap<String, Result<Arc<Subject>, String>> = HashMap::new();
    let mut seen = BTreeSet::new();
    let mut judged: BTreeMap<usize, Judged> = BTreeMap::new();
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
                    found.unavailable.push(Unavailable { name: name.to_owned(), reason: reason.clone() });
                }
                Err(_) => {}
            }
            held.insert(name.to_owned(), subject);
        }
        found.reading += begun.elapsed();
        let begun = Instant::now();
        let results: Vec<(usize, Judged)> =
            chunk.par_iter().map(|i| (*i, judge(&pairs[*i], &held))).collect();
        judged.extend(results);
        found.comparing += begun.elapsed();
        progress(judged.len());
    }
    found.models = seen.len() - found.unavailable.len();
    found.judged = judged.into_values().collect();
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

fn judge(pair: &Pair, held: &HashMap<String, Result<Arc<Subject>, String>>) -> Judged {
    let subject = |name: &str| match held.get(name) {
        Some(Ok(subject)) => Ok(Arc::clone(subject)),
        Some(Err(reason)) => Err(format!("{name}: {reason}")),
        None => Err(format!("{name}: not read")),
    };
    let result = subject(&pair.a).and_then(|a| {
        let b = subject(&pair.b)?;
        compare::compare(&a, &b, Effort::Enough).map_err(|error| error.to_string())
    });
    Judged { pair: pair.clone(), result }
}

/// Figures of merit. A pair whose model could not be read counts nowhere but in `unavailable`.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Merit {
    /// Pairs in the list.
    pub pairs: usize,
    /// Pairs of which a model could not be read.
    pub unavailable: usize,
    /// Related pairs called related.
    pub true_positives: usize,
    /// Unrelated pairs called related.
    pub false_positives: usize,
    /// Unrelated pairs called independent.
    pub true_negatives: usize,
    /// Unrelated pairs of which the weights did not tell.
    pub abstained_unrelated: usize,
    /// Related pairs called independent: the one answer that misleads.
    pub called_independent: usize,
    /// Related pairs of which the weights did not tell.
    pub abstained_related: usize,
    /// Share of pairs that were rightly called related, or rightly not.
    pub accuracy: Option<f64>,
    /// Share of the pairs called related that are.
    pub precision: Option<f64>,
    /// Share of the related pairs that were called so.
    pub recall: Option<f64>,
    /// Probability that a related pair has a higher score than an unrelated one.
    pub auc: Option<f64>,
    /// Mean squared difference of score and truth: 0 is perfect, .25 says nothing.
    pub brier: Option<f64>,
    /// Related pairs and how many were found, by relation.
    pub by_relation: BTreeMap<String, Found>,
    /// Score against truth in ten bins: pairs, mean score, share related.
    pub calibration: Vec<Bin>,
}

/// Related pairs of one kind.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Found {
    /// How many there are.
    pub pairs: usize,
    /// How many were called related.
    pub found: usize,
}

/// Pairs with scores in one tenth of 0..=1.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Bin {
    /// How many.
    pub pairs: usize,
    /// Their mean score.
    pub mean_score: f64,
    /// Share of them that is related.
    pub related: f64,
}

impl Evaluation {
    /// The figures.
    pub fn merit(&self) -> Merit {
        let mut m = Merit { pairs: self.judged.len(), ..Merit::default() };
        let mut scores: Vec<(f64, bool)> = Vec::new();
        for judged in &self.judged {
            let Ok(comparison) = &judged.result else {
                m.unavailable += 1;
                continue;
            };
            let related = judged.pair.related;
            scores.push((comparison.verdict.score, related));
            match (related, comparison.verdict.kind.related()) {
                (true, Some(true)) => m.true_positives += 1,
                (false, Some(true)) => m.false_positives += 1,
                (false, Some(false)) => m.true_negatives += 1,
                (false, None) => m.abstained_unrelated += 1,
                (true, Some(false)) => m.called_independent += 1,
                (true, None) => m.abstained_related += 1,
            }
            if related {
                let found = m.by_relation.entry(judged.pair.relation.clone()).or_default();
                found.pairs += 1;
                found.found += usize::from(judged.is_right());
            }
        }
        let share = |n: usize, of: usize| (of > 0).then(|| n as f64 / of as f64);
        let right = m.true_positives + m.true_negatives + m.abstained_unrelated;
        m.accuracy = share(right, scores.len());
        m.precision = share(m.true_positives, m.true_positives + m.false_positives);
        m.recall = share(m.true_positives, m.true_positives + m.called_independent + m.abstained_related);
        m.auc = auc(&scores);
        let squares: f64 =
            scores.iter().map(|(s, related)| (s - f64::from(u8::from(*related))).powi(2)).sum();
        m.brier = (!scores.is_empty()).then(|| squares / scores.len() as f64);
        m.calibration = calibration(&scores);
        m
    }
}

/// Area under the receiver operating characteristic, from ranks; ties count half (Mann and Whitney 1947).
fn auc(scores: &[(f64, bool)]) -> Option<f64> {
    let of = |wanted: bool| scores.iter().filter(move |s| s.1 == wanted).map(|s| s.0);
    let (positives, negatives) = (of(true).count(), of(false).count());
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut sorted: Vec<f64> = of(false).collect();
    sorted.sort_by(f64::total_cmp);
    let below: f64 = of(true)
        .map(|s| {
            let (low, high) = (sorted.partition_point(|v| *v < s), sorted.partition_point(|v| *v <= s));
            (low + high) as f64 / 2.0
        })
        .sum();
    Some(below / positives as f64 / negatives as f64)
}

fn calibration(scores: &[(f64, bool)]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for (score, related) in scores {
        let bin = &mut bins[((score * BINS as f64) as usize).min(BINS - 1)];
        bin.pairs += 1;
        bin.mean_score += score;
        bin.related += f64::from(u8::from(*related));
    }
    for bin in bins.iter_mut().filter(|bin| bin.pairs > 0) {
        bin.mean_score /= bin.pairs as f64;
        bin.related /= bin.pairs as f64;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, text: &str) -> Result<Vec<Pair>, PairsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        crate::store::atomic::write(&path, text.as_bytes()).unwrap();
        read_pairs(&path)
    }

    #[test]
    fn tables_and_json_say_the_same() {
        let tsv =
            list("x.tsv", "# note\na\tnote\tb\trelated\trelation\nx/1\t-\tx/2\t1\tsft\nx/1\t\tx/3\t0\t\n")
                .unwrap();
        let json = list(
            "x.json",
            r#"{"pairs":[{"a":"x/1","b":"x/2","related":true,"relation":"sft"},{"a":"x/1","b":"x/3","related":0}]}"#,
        );
        assert_eq!(tsv, json.unwrap());
        assert_eq!(tsv.len(), 2);
        assert!(tsv[0].related && !tsv[1].related);
    }

    #[test]
    fn a_bad_line_is_named() {
        let message = |text: &str| list("x.tsv", text).unwrap_err().to_string();
        assert!(message("a\tb\n").contains("no column related"));
        assert!(message("a\tb\trelated\nx\ty\tmaybe\n").contains("line 2: related is \"maybe\""));
        assert!(message("").contains("empty"));
        assert!(list("x.json", "{").is_err());
    }

    #[test]
    fn area_under_the_curve() {
        assert_eq!(auc(&[(0.9, true), (0.8, true), (0.1, false)]), Some(1.0));
        assert_eq!(auc(&[(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(auc(&[(0.5, true)]), None);
        let bins = calibration(&[(1.0, true), (0.95, false), (0.0, false)]);
        assert_eq!((bins[9].pairs, bins[0].pairs), (2, 1));
        assert!((bins[9].related - 0.5).abs() < 1e-12);
    }
}
