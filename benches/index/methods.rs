//! Retrieval side by side: our index, the exact scan, hnsw_rs as a newcomer would use it and on representatives of families only, and
//! usearch (with `--features usearch`, which needs a C++ compiler).
//!
//! Each method runs in a process of its own. Its peak memory is taken when the last query is answered: the vectors that
//! the method is given, the queries, what it makes of both, and before that the rows of up to 1,024 queries, from which
//! they are read, some 80 MB. Ours is given whole fingerprints, and builds its index in that process; `hnsw_rs on representatives`
//! opens ours, which alone knows those; no other method does. A query counts as found when the family of the nearest
//! checkpoint is that of its true parent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use hnsw_rs::anndists::dist::distances::{DistCosine, Distance};
use hnsw_rs::api::AnnT;
use hnsw_rs::hnsw::Hnsw;
use hubprint::pipeline::process::peak_memory_bytes;
use hubprint::retrieval::vector::{Vector, dot};
use hubprint::retrieval::vectors::Vectors;
use hubprint::retrieval::{BuildSettings, Index, SearchMode, build, exact_scan};
use hubprint::signals::Fingerprint;
use hubprint::store::{Database, Task};
use hubprint::synthetic::population::QUERIES;
use hubprint::synthetic::truth::{MOVED, TRUTH};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{document, growth};

/// The methods, each up to so many models: hnsw_rs takes hours above that.
const METHODS: [(&str, usize); 5] = [
    ("ours", usize::MAX),
    ("exact scan", usize::MAX),
    ("hnsw_rs", 100_000),
    ("hnsw_rs on representatives", 100_000),
    ("usearch", 500_000),
];

/// What one method did on one database.
#[derive(Serialize, Deserialize)]
struct Run {
    build_seconds: f64,
    queries_per_second: f64,
    /// Family recall@1 of queries whose correlation with their parent is .3 or more, and .9 or more.
    recall: f64,
    recall_near: f64,
    /// Models without relatives that a family was named for; only ours says no.
    false_positives: Option<usize>,
    /// See above.
    peak_bytes: u64,
    disk_bytes: u64,
}

/// One method on one database, as JSON.
pub(crate) fn one(method: &str, folder: &Path) -> String {
    let answers = match method {
        "ours" => ours(folder),
        "exact scan" => exact(folder),
        "hnsw_rs" => newcomer(folder),
        "hnsw_rs on representatives" => on_representatives(folder),
        "usearch" => usearch(folder),
        other => unreachable!("{other}"),
    };
    let mut run = score(folder, &answers);
    if method != "ours" {
        // A nearest neighbour always names somebody.
        run.false_positives = None;
    }
    serde_json::to_string(&run).unwrap()
}

/// The table of all methods on some databases, each with its number of models.
pub(crate) fn table(folders: &[(usize, PathBuf)]) -> String {
    let mut costs: HashMap<&str, Vec<(usize, f64)>> = HashMap::new();
    let mut rows = Vec::new();
    for (models, folder) in folders {
        for (method, most) in METHODS {
            if models > &most || (method == "usearch" && cfg!(not(feature = "usearch"))) {
                continue;
            }
            eprintln!("{models}: {method}");
            let me = std::env::current_exe().unwrap();
            let out = Command::new(me).args(["--one", method]).arg(folder).output().unwrap();
            assert!(out.status.success(), "{method}: {}", String::from_utf8_lossy(&out.stderr));
            let run: Run = serde_json::from_slice(&out.stdout).unwrap();
            costs.entry(method).or_default().push((*models, 1.0 / run.queries_per_second));
            rows.push(vec![
                models.to_string(),
                method.to_owned(),
                format!("{:.1}", run.build_seconds),
                format!("{:.0}", run.queries_per_second),
                format!("{:.4}", run.recall),
                format!("{:.4}", run.recall_near),
                run.false_positives.map_or_else(|| "-".into(), |n| n.to_string()),
                document::bytes(run.peak_bytes as f64),
                document::bytes(run.disk_bytes as f64),
            ]);
        }
    }
    let head = [
        "models",
        "method",
        "build s",
        "queries/s",
        "recall, r >= .3",
        "r >= .9",
        "negatives named",
        "peak memory",
        "index",
    ];
    let mut text = document::table(&head, &rows);
    for (method, _) in METHODS {
        if let Some(growth) = costs.get(method).and_then(|costs| growth(costs)) {
            text += &format!("\n{method}: seconds a query grow as {growth}.\n");
        }
    }
    text
}

/// What was asked, and what a method named for it: the checkpoint, or nothing.
struct Answers {
    named: Vec<(String, Option<u32>)>,
    build_seconds: f64,
    seconds: f64,
    peak_bytes: u64,
    disk_bytes: u64,
}

/// Asks a method for every query, on all cores. Its peak memory is taken right after.
fn ask<Q: Sync>(
    queries: &[(String, Q)],
    build_seconds: f64,
    answer: impl Fn(&Q) -> Option<u32> + Sync,
) -> Answers {
    let begun = Instant::now();
    let named = queries.par_iter().map(|(name, query)| (name.clone(), answer(query))).collect();
    let seconds = begun.elapsed().as_secs_f64();
    Answers { named, build_seconds, seconds, peak_bytes: peak(), disk_bytes: 0 }
}

/// Scores what was named, by an index that is opened only now.
fn score(folder: &Path, answers: &Answers) -> Run {
    let index = open(folder);
    let read = |path: PathBuf| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    };
    // Of a query: (family, correlation with the parent); the family is empty for one without relatives. Children with permuted dimensions
    // are left out: no method but ours has what they could be found by.
    let truth: HashMap<String, (String, f64)> = read(folder.join(QUERIES).join(TRUTH))
        .into_iter()
        .filter(|t| t[4] != MOVED)
        .map(|t| (t[0].clone(), (t[1].clone(), t[5].parse().unwrap())))
        .collect();
    let families: HashMap<String, String> =
        read(folder.join(TRUTH)).into_iter().map(|t| (t[0].clone(), t[1].clone())).collect();
    let (mut at, mut near, mut negatives) = ((0, 0), (0, 0), 0);
    for (query, named) in &answers.named {
        let Some((family, r)) = truth.get(query) else { continue };
        if family.is_empty() {
            negatives += usize::from(named.is_some());
            continue;
        }
        let repository = named.map(|checkpoint| &index.repositories(checkpoint)[0].repo_id);
        let found = usize::from(repository.is_some_and(|r| families[r] == *family));
        if *r >= 0.3 {
            at = (at.0 + found, at.1 + 1);
        }
        if *r >= 0.9 {
            near = (near.0 + found, near.1 + 1);
        }
    }
    let share = |(found, all): (usize, usize)| found as f64 / f64::max(all as f64, 1.0);
    Run {
        build_seconds: answers.build_seconds,
        queries_per_second: answers.named.len() as f64 / answers.seconds,
        recall: share(at),
        recall_near: share(near),
        false_positives: Some(negatives),
        peak_bytes: answers.peak_bytes,
        disk_bytes: answers.disk_bytes,
    }
}

fn open(folder: &Path) -> Index {
    Index::open(&Database::open(folder).unwrap()).unwrap()
}

/// The queries, of each what a method needs.
fn queries<Q>(folder: &Path, of: fn(&Fingerprint) -> Q) -> Vec<(String, Q)> {
    let asked = Database::open(&folder.join(QUERIES)).unwrap();
    (0..asked.manifest().shards.len())
        .flat_map(|shard| asked.index_rows(shard).unwrap())
        .flat_map(Result::unwrap)
        .map(|(_, row)| (row.repo_id, of(&row.fingerprint.unwrap())))
        .collect()
}

fn vector(fingerprint: &Fingerprint) -> Vector {
    fingerprint.vector
}

fn floats(vector: &Vector) -> Vec<f32> {
    vector.iter().map(|x| f32::from(*x)).collect()
}

/// The vectors of all checkpoints, each as a method wants it.
fn vectors<V>(folder: &Path, of: fn(&Vector) -> V) -> Vec<V> {
    let mut all = Vec::new();
    let vectors = Vectors::of(&Database::open(folder).unwrap()).unwrap();
    vectors
        .for_each_block(|_, block| {
            all.extend(block.iter().map(of));
            Ok(())
        })
        .unwrap();
    all
}

fn ours(folder: &Path) -> Answers {
    let queries = queries(folder, Fingerprint::clone);
    let begun = Instant::now();
    let mut db = Database::open_to_write(folder, Task::Index).unwrap();
    let built = build(&mut db, &BuildSettings::default(), true, &|_, _| {}, &|| false).unwrap();
    let build_seconds = begun.elapsed().as_secs_f64();
    let index = Index::open(&db).unwrap();
    let answers = ask(&queries, build_seconds, |query| {
        let found = index.find(query, 5, SearchMode::Usual).unwrap();
        found.related.first().and_then(|family| Some(family.closest.first()?.number))
    });
    Answers { disk_bytes: built.bytes, ..answers }
}

fn exact(folder: &Path) -> Answers {
    let (names, queries): (Vec<String>, Vec<Vector>) = queries(folder, vector).into_iter().unzip();
    let vectors = Vectors::of(&Database::open(folder).unwrap()).unwrap();
    let begun = Instant::now();
    let hits = exact_scan(&vectors, &queries, 1).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let named = names.into_iter().zip(hits.iter().map(|h| h.first().map(|h| h.number))).collect();
    let disk_bytes = vectors.count() * size_of::<Vector>() as u64;
    Answers { named, build_seconds: 0.0, seconds, peak_bytes: peak(), disk_bytes }
}

fn newcomer(folder: &Path) -> Answers {
    let (queries, vectors) = (queries(folder, vector), vectors(folder, floats));
    let begun = Instant::now();
    let graph = Hnsw::<f32, DistCosine>::new(16, vectors.len(), 16, 200, DistCosine);
    let items: Vec<(&Vec<f32>, usize)> = vectors.iter().zip(0..).collect();
    graph.parallel_insert(&items);
    let build_seconds = begun.elapsed().as_secs_f64();
    let answers = ask(&queries, build_seconds, |query| {
        graph.search(&floats(query), 1, 64).first().map(|hit| hit.d_id as u32)
    });
    Answers { disk_bytes: dumped(&graph), ..answers }
}

fn on_representatives(folder: &Path) -> Answers {
    let queries = queries(folder, vector);
    let representatives: Vec<(u32, Vector)> =
        open(folder).representative_vectors().map(|(checkpoint, vector)| (checkpoint, *vector)).collect();
    let begun = Instant::now();
    let graph = Hnsw::<i8, ByteCosine>::new(32, representatives.len(), 16, 400, ByteCosine);
    // Shuffled, as near-duplicates one after the other cut nodes off.
    let mut items: Vec<(&[i8], usize)> =
        representatives.iter().map(|(c, v)| (v.as_slice(), *c as usize)).collect();
    items.sort_by_key(|item| hubprint::signals::hash::mix(item.1 as u64));
    graph.parallel_insert_slice(&items);
    let build_seconds = begun.elapsed().as_secs_f64();
    let answers =
        ask(&queries, build_seconds, |query| graph.search(query, 1, 256).first().map(|hit| hit.d_id as u32));
    Answers { disk_bytes: dumped(&graph), ..answers }
}

#[cfg(feature = "usearch")]
fn usearch(folder: &Path) -> Answers {
    use usearch::{Index, IndexOptions, MetricKind, ScalarKind};
    let (queries, vectors) = (queries(folder, vector), vectors(folder, |vector| *vector));
    let begun = Instant::now();
    let options = IndexOptions {
        dimensions: 1024,
        metric: MetricKind::Cos,
        quantization: ScalarKind::I8,
        ..IndexOptions::default()
    };
    let graph = Index::new(&options).unwrap();
    graph.reserve_capacity_and_threads(vectors.len(), rayon::current_num_threads()).unwrap();
    vectors.par_iter().enumerate().for_each(|(i, v)| graph.add(i as u64, v).unwrap());
    let build_seconds = begun.elapsed().as_secs_f64();
    let answers = ask(&queries, build_seconds, |query| {
        graph.search(query, 1).unwrap().keys.first().map(|key| *key as u32)
    });
    Answers { disk_bytes: graph.serialized_length() as u64, ..answers }
}

#[cfg(not(feature = "usearch"))]
fn usearch(folder: &Path) -> Answers {
    unreachable!("built without the feature, of {}", folder.display())
}

/// Cosine distance of bytes, with our product.
#[derive(Clone, Copy, Default)]
struct ByteCosine;

impl Distance<i8> for ByteCosine {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        let (a, b): (&Vector, &Vector) = (a.try_into().unwrap(), b.try_into().unwrap());
        let lengths = (dot(a, a) as f32 * dot(b, b) as f32).sqrt();
        if lengths > 0.0 { (1.0 - dot(a, b) as f32 / lengths).max(0.0) } else { 1.0 }
    }
}

/// Bytes of a graph on disk.
fn dumped(graph: &impl AnnT) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    graph.file_dump(folder.path(), "graph").unwrap();
    std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Largest resident size of this process, bytes.
fn peak() -> u64 {
    peak_memory_bytes().unwrap_or_default()
}
