//! Our own commands, one after the other, on a made-up database: build, a night more, proof, scans.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use hubprint::answers::bulk;
use hubprint::answers::scan::Scanner;
use hubprint::retrieval::{SearchMode, SearchQuery};
use hubprint::signals::Fingerprint;
use hubprint::store::{Database, Tag};
use hubprint::synthetic::population::{QUERIES, STRANGERS};
use hubprint::synthetic::truth::TRUTH;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{self, bytes, seconds};
use super::growth;

/// Part of the models that the night adds.
const NIGHT: f64 = 0.02;
/// Queries, and negatives, of which so many bound a rate of one in ten thousand; of fewer models there are fewer.
const QUERIES_MADE: usize = 5_000;
const NEGATIVES_MADE: usize = 30_000;
const NEGATIVES_A_MODEL: usize = 3;
/// Queries that are asked one after the other.
const ASKED: usize = 500;
const SEED: &str = "1";
/// Milliseconds of the Model Provenance Kit for each asset and scan, from 6 layers to 30, and MB that it keeps of one.
const KIT_MS: [f64; 2] = [23.0, 134.0];
const KIT_MB: [f64; 2] = [1.7, 3.4];
/// Numbers of models at which the two are held against each other.
const KIT_AT: [usize; 3] = [1_000, 100_000, 500_000];

/// What a command took, and what it printed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Took {
    seconds: f64,
    peak_bytes: u64,
    printed: String,
}

/// Opening, and one scan after the other with the fingerprint at hand.
#[derive(Serialize, Deserialize)]
pub(crate) struct Opened {
    seconds: f64,
    /// Of one scan, milliseconds: the mean, and what 99 of 100 stay below.
    scan_ms: f64,
    slow_scan_ms: f64,
    peak_bytes: u64,
}

/// All of one size.
pub(crate) struct Run {
    pub(crate) models: usize,
    pub(crate) folder: PathBuf,
    build: Took,
    idle: Took,
    night: Took,
    verify: Took,
    opened: Opened,
    bulk: Took,
    negatives: Took,
    score: Value,
    false_score: Value,
}

/// Runs the command line, and says what it took: in a process that has no other child.
pub(crate) fn timed(args: &[&str]) -> String {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_hubprint")).args(args).output().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hubprint {args:?}: {said}");
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as u64;
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::to_string(&Took { seconds, peak_bytes: peak * unit, printed }).unwrap()
}

/// Opens the index and asks for some queries, in a process of its own.
pub(crate) fn opened(folder: &Path) -> String {
    let begun = Instant::now();
    let scanner = Scanner::open(Database::open(folder).unwrap()).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let asked = Database::open(&folder.join(QUERIES)).unwrap();
    let rows = (0..asked.manifest().shards.len()).flat_map(|shard| asked.index_rows(shard).unwrap());
    let mut times: Vec<f64> = rows
        .flat_map(Result::unwrap)
        .take(ASKED)
        .map(|(_, row)| {
            let fingerprint: Fingerprint = row.fingerprint.unwrap();
            let tag = |digest: &Option<String>| digest.as_deref().map(Tag::of);
            let (weights, samples) = (tag(&row.weights_digest), tag(&row.sample_digest));
            let begun = Instant::now();
            let sought = SearchQuery { fingerprint: &fingerprint, weights, samples, but: None };
            bulk::families(&scanner, sought, 5, SearchMode::Usual).unwrap();
            1000.0 * begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let scan_ms = times.iter().sum::<f64>() / times.len() as f64;
    let slow_scan_ms = times[times.len() * 99 / 100];
    let peak_bytes = hubprint::pipeline::process::peak_memory_bytes().unwrap_or_default();
    serde_json::to_string(&Opened { seconds, scan_ms, slow_scan_ms, peak_bytes }).unwrap()
}

/// This program again, in a process of its own.
fn itself<T: for<'a> Deserialize<'a>>(args: &[&str]) -> T {
    let output = Command::new(std::env::current_exe().unwrap()).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn hubprint(args: &[&str]) -> Took {
    eprintln!("hubprint {}", args.join(" "));
    itself(&[&["--timed"], args].concat())
}

/// Measures a size. What is made is kept in the folder; what is measured is measured on a copy of it.
pub(crate) fn run(models: usize, folder: &Path) -> Run {
    let (base, night, work) = (folder.join("base"), folder.join("night"), folder.join("work"));
    make(models, folder, &base, &night);
    if work.exists() {
        fs::remove_dir_all(&work).unwrap();
    }
    link(&base, &work);
    let text = |path: &Path| path.display().to_string();
    let (night, db) = (text(&night), text(&work));
    let build = hubprint(&["index", "--db", &db, "--json"]);
    let idle = hubprint(&["index", "--db", &db, "--json"]);
    hubprint(&["db", "merge", "--db", &db, &night]);
    let night = hubprint(&["index", "--db", &db, "--json"]);
    let verify = hubprint(&["db", "verify", "--deep", "--json", "--db", &db]);
    let opened = itself(&["--open", &db]);
    let scan = |name: &str| {
        let (queries, answers) = (work.join(name), work.join(format!("{name}.jsonl")));
        let took = hubprint(&["scan", "--db", &db, "--from-db", &text(&queries), "--out", &text(&answers)]);
        let (truth, families) = (text(&queries.join(TRUTH)), text(&work.join(TRUTH)));
        let score = ["dev", "score", &truth, &text(&answers), "--families", &families, "--json"];
        (took, serde_json::from_str(&hubprint(&score).printed).unwrap())
    };
    let (bulk, score) = scan(QUERIES);
    let (negatives, false_score) = scan(STRANGERS);
    Run { models, folder: work, build, idle, night, verify, opened, bulk, negatives, score, false_score }
}

/// Makes the databases unless they are there, made in the same way.
fn make(models: usize, folder: &Path, base: &Path, night: &Path) {
    let all = models + (models as f64 * NIGHT).ceil() as usize;
    let queries = QUERIES_MADE.min(models);
    let negatives = NEGATIVES_MADE.min(NEGATIVES_A_MODEL * models);
    let how = format!("{models} of {all} models, {queries} queries, {negatives} strangers, seed {SEED}\n");
    let made = folder.join("made");
    if fs::read_to_string(&made).is_ok_and(|before| before == how) {
        return;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::create_dir_all(folder).unwrap();
    let population = |db: &Path, more: &[&str]| {
        let (db, all) = (db.display().to_string(), all.to_string());
        let args = ["dev", "population", "--models", &all, "--seed", SEED, "--db", &db];
        hubprint(&[&args, more].concat());
    };
    let [end, queries, negatives] = [models, queries, negatives].map(|n| n.to_string());
    population(base, &["--end", &end, "--queries", &queries, "--negatives", &negatives]);
    population(night, &["--begin", &end]);
    hubprint::store::atomic::write(&made, how.as_bytes()).unwrap();
}

/// A copy of a database that shares its files, none of which ever changes.
fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "locks" {
            continue;
        }
        if from.is_dir() {
            link(&from, &to);
        } else {
            fs::hard_link(&from, &to).unwrap();
        }
    }
}

impl Run {
    fn index(took: &Took) -> Value {
        serde_json::from_str(&took.printed).unwrap()
    }

    /// Scans a second of the whole process, opening included.
    fn bulk_rate(&self) -> f64 {
        let bands = ["related", "moved"].into_iter().flat_map(|key| self.score[key].as_array().unwrap());
        let related: f64 = bands.map(|band| band["queries"].as_f64().unwrap()).sum();
        let negatives = |score: &Value| score["strangers"].as_f64().unwrap();
        let all = related + negatives(&self.score) + negatives(&self.false_score);
        all / (self.bulk.seconds + self.negatives.seconds)
    }

    /// Part of the models from which on a build from nothing takes less time than an addition: where the line through a
    /// night with nothing new and this one meets it.
    fn rebuild_pays_from(&self) -> f64 {
        let each = (self.night.seconds - self.idle.seconds) / NIGHT;
        ((self.build.seconds - self.idle.seconds) / each).clamp(0.0, 1.0)
    }

    fn recall_from(&self, bands: &str, least: f64) -> (u64, u64) {
        let bands = self.score[bands].as_array().unwrap();
        let bands = bands.iter().filter(|band| band["from"].as_f64().unwrap() >= least);
        bands.fold((0, 0), |(found, all), band| {
            (found + band["found"].as_u64().unwrap(), all + band["queries"].as_u64().unwrap())
        })
    }

    /// Largest rate that the negatives leave possible, with 95 % confidence.
    fn false_rate(&self) -> (u64, u64, f64) {
        let of = |key: &str| self.false_score[key].as_u64().unwrap();
        let (named, all) = (of("false_families"), of("strangers"));
        (named, all, self.false_score["false_rate_at_most"].as_f64().unwrap())
    }
}

/// What each step took, by size.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut head = vec![String::new()];
    head.extend(runs.iter().map(|run| format!("{} models", run.models)));
    let mut rows = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&Run) -> String| {
        rows.push(std::iter::once(name.to_owned()).chain(runs.iter().map(of)).collect::<Vec<_>>());
    };
    let number = |value: &Value| value.as_u64().map_or_else(|| "-".into(), |n| n.to_string());
    let size = |value: &Value| value.as_u64().map_or_else(|| "-".into(), |n| bytes(n as f64));
    row("checkpoints, representatives, families", &|run| {
        let index = Run::index(&run.build);
        ["contents", "heads", "families"].map(|key| number(&index[key])).join(", ")
    });
    row("`index` from nothing", &|run| seconds(run.build.seconds));
    row("its peak memory; stated before", &|run| {
        format!(
            "{}; {}",
            bytes(run.build.peak_bytes as f64),
            size(&Run::index(&run.build)["memory_bound_bytes"])
        )
    });
    row("recall@10 measured by it", &|run| Run::index(&run.build)["recall_at_10"].to_string());
    row("stored a model, shards and index", &|run| size(&Run::index(&run.build)["stored_bytes_per_model"]));
    row("`index` with nothing new", &|run| seconds(run.idle.seconds));
    row("`index` with 2 % new", &|run| seconds(run.night.seconds));
    row("the same as part of a build from nothing", &|run| {
        format!("{:.1} %", 100.0 * run.night.seconds / run.build.seconds)
    });
    row("part of new models from which a build from nothing pays", &|run| {
        format!("{:.0} %", 100.0 * run.rebuild_pays_from())
    });
    row("`db verify --deep`: checkpoints found, searched for", &|run| {
        let deep = &Run::index(&run.verify)["deep"];
        format!("{} of {}", number(&deep["found"]), number(&deep["searches"]))
    });
    row("the same, by their digest alone", &|run| {
        number(&Run::index(&run.verify)["deep"]["by_digest_alone"])
    });
    row("the same, time", &|run| seconds(run.verify.seconds));
    row("opening the index", &|run| seconds(run.opened.seconds));
    row("memory of it", &|run| bytes(run.opened.peak_bytes as f64));
    row("one scan, one core; 99 of 100 below", &|run| {
        format!("{:.2} ms; {:.2} ms", run.opened.scan_ms, run.opened.slow_scan_ms)
    });
    row("bulk scans a second, opening included", &|run| format!("{:.0}", run.bulk_rate()));
    row("peak memory of a bulk scan", &|run| bytes(run.negatives.peak_bytes as f64));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut text = document::table(&head, &rows);
    let growth_of =
        |cost: fn(&Run) -> f64| growth(&runs.iter().map(|run| (run.models, cost(run))).collect::<Vec<_>>());
    if let Some((one, bulk)) = growth_of(|run| run.opened.scan_ms).zip(growth_of(|run| 1.0 / run.bulk_rate()))
    {
        text += &format!("\nThe time of one scan grows as {one}; of one of many, as {bulk}.\n");
    }
    text
}

/// How often the right family is named first, and a wrong one.
pub(crate) fn recall(runs: &[Run]) -> String {
    let head = [
        "models",
        "r >= .3",
        "r >= .9",
        ".2 to .3",
        "permuted, r >= .7",
        "wrong family first",
        "root right",
        "named for negatives",
        "at most, 95 %",
    ];
    let share =
        |(found, all): (u64, u64)| format!("{:.4} ({found} of {all})", found as f64 / all.max(1) as f64);
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let (named, negatives, rate) = run.false_rate();
            let weakest = run.recall_from("related", 0.0);
            let (found, all) = run.recall_from("related", 0.3);
            let count = |key: &str| run.score[key].to_string();
            vec![
                run.models.to_string(),
                share((found, all)),
                share(run.recall_from("related", 0.9)),
                share((weakest.0 - found, weakest.1 - all)),
                share(run.recall_from("moved", 0.7)),
                count("wrong_families"),
                format!("{} of {}", count("right_roots"), count("found")),
                format!("{named} of {negatives}"),
                format!("{rate:.1e}"),
            ]
        })
        .collect();
    document::table(&head, &rows)
}

/// The scan of the Model Provenance Kit reads one file an asset, so its cost is a line through the origin.
pub(crate) fn beside_the_kit(runs: &[Run]) -> String {
    let head = ["models", "the kit, one scan", "ours", "times ours", "the kit keeps", "ours", "times ours"];
    let sizes: BTreeMap<usize, &Run> = runs.iter().map(|run| (run.models, run)).collect();
    let rows: Vec<Vec<String>> = KIT_AT
        .iter()
        .filter_map(|models| {
            let run = sizes.get(models)?;
            let n = *models as f64;
            let scans = KIT_MS.map(|ms| ms / 1000.0 * n);
            let ours = run.opened.scan_ms / 1000.0;
            let kept = KIT_MB.map(|mb| mb * 1e6 * n);
            let stored = Run::index(&run.build)["stored_bytes_per_model"].as_f64().unwrap() * n;
            let range =
                |[from, to]: [f64; 2], text: fn(f64) -> String| format!("{} to {}", text(from), text(to));
            let times = |n: f64| format!("{n:.0}");
            Some(vec![
                models.to_string(),
                range(scans, seconds),
                format!("{:.2} ms", run.opened.scan_ms),
                range(scans.map(|s| s / ours), times),
                range(kept, bytes),
                bytes(stored),
                range(kept.map(|k| k / stored), times),
            ])
        })
        .collect();
    document::table(&head, &rows)
}
