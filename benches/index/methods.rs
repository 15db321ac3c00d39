//! Retrieval side by side: our index, the exact scan, hnsw_rs as a newcomer would use it and on family heads only, and
//! usearch (with `--features usearch`, which needs a C++ compiler).
//!
//! Each method runs in a process of its own, so that its peak memory is its own. A query counts as found when the family
//! of the nearest content is that of its true parent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use hnsw_rs::anndists::dist::distances::{DistCosine, Distance};
use hnsw_rs::api::AnnT;
use hnsw_rs::hnsw::Hnsw;
use hubprint::pipeline::report::peak_memory_bytes;
use hubprint::retrieval::vector::{Vector, dot};
use hubprint::retrieval::{BuildSettings, Index, Look, build, exact_scan};
use hubprint::signals::Fingerprint;
use hubprint::stages::population::{QUERIES, TRUTH};
use hubprint::store::{Database, Task};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::document;

/// The methods, each up to so many models: hnsw_rs takes hours above that.
const METHODS: [(&str, usize); 5] = [
    ("ours", usize::MAX),
    ("exact scan", usize::MAX),
    ("hnsw_rs", 100_000),
    ("hnsw_rs on heads", 100_000),
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
    /// Strangers that a family was named for; only ours says no.
    false_families: Option<usize>,
    peak_bytes: u64,
    disk_bytes: u64,
}

/// One method on one database, as JSON.
pub(crate) fn one(method: &str, folder: &Path) -> String {
    serde_json::to_string(&Bench::open(folder).run(method)).unwrap()
}

/// The table of all methods on some databases, each with its number of models.
pub(crate) fn table(folders: &[(usize, PathBuf)]) -> String {
    let mut costs: HashMap<&str, Vec<(f64, f64)>> = HashMap::new();
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
            costs.entry(method).or_default().push((*models as f64, 1.0 / run.queries_per_second));
            rows.push(vec![
                models.to_string(),
                method.to_owned(),
                format!("{:.1}", run.build_seconds),
                format!("{:.0}", run.queries_per_second),
                format!("{:.4}", run.recall),
                format!("{:.4}", run.recall_near),
                run.false_families.map_or_else(|| "-".into(), |n| n.to_string()),
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
        "strangers named",
        "peak memory",
        "index",
    ];
    let mut text = document::table(&head, &rows);
    for (method, _) in METHODS {
        if let Some([first, .., last]) = costs.get(method).map(Vec::as_slice) {
            let exponent = (last.1 / first.1).ln() / (last.0 / first.0).ln();
            text += &format!(
                "\n{method}: seconds a query grow as N^{exponent:.2} from {} to {} models.\n",
                first.0, last.0
            );
        }
    }
    text
}

/// A database, its queries and the truth.
struct Bench {
    folder: PathBuf,
    index: Index,
    queries: Vec<(String, Fingerprint)>,
    /// Of a query: (family, correlation with the parent); the family is empty for a stranger.
    truth: HashMap<String, (String, f64)>,
    families: HashMap<String, String>,
}

impl Bench {
    fn open(folder: &Path) -> Self {
        let index = Index::open(&Database::open(folder).unwrap()).unwrap();
        let asked = Database::open(&folder.join(QUERIES)).unwrap();
        let shards = 0..asked.manifest().shards.len();
        let queries = shards
            .flat_map(|shard| asked.contents(shard).unwrap())
            .flat_map(Result::unwrap)
            .map(|(_, row)| (row.repo_id, row.fingerprint.unwrap()))
            .collect();
        let read = |path: PathBuf| -> Vec<Vec<String>> {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
        };
        let truth = read(folder.join(QUERIES).join(TRUTH));
        let models = read(folder.join(TRUTH));
        Self {
            folder: folder.to_owned(),
            index,
            queries,
            truth: truth.into_iter().map(|t| (t[0].clone(), (t[1].clone(), t[5].parse().unwrap()))).collect(),
            families: models.into_iter().map(|t| (t[0].clone(), t[1].clone())).collect(),
        }
    }

    fn run(self, method: &str) -> Run {
        match method {
            "ours" => self.ours(),
            "exact scan" => self.exact(),
            "hnsw_rs" => self.newcomer(),
            "hnsw_rs on heads" => self.on_heads(),
            "usearch" => self.usearch(),
            other => unreachable!("{other}"),
        }
    }

    /// Scores what was named for each query: a content, or nothing.
    fn score(&self, named: &[Option<u32>], build_seconds: f64, seconds: f64, disk_bytes: u64) -> Run {
        let (mut at, mut near, mut strangers) = ((0, 0), (0, 0), 0);
        for ((query, _), named) in self.queries.iter().zip(named) {
            let (family, r) = &self.truth[query];
            if family.is_empty() {
                strangers += usize::from(named.is_some());
                continue;
            }
            let repository = named.map(|content| &self.index.repositories(content)[0].repo_id);
            let found = usize::from(repository.is_some_and(|r| self.families[r] == *family));
            if *r >= 0.3 {
                at = (at.0 + found, at.1 + 1);
            }
            if *r >= 0.9 {
                near = (near.0 + found, near.1 + 1);
            }
        }
        let share = |(found, all): (usize, usize)| found as f64 / f64::max(all as f64, 1.0);
        Run {
            build_seconds,
            queries_per_second: self.queries.len() as f64 / seconds,
            recall: share(at),
            recall_near: share(near),
            false_families: None,
            peak_bytes: peak(),
            disk_bytes,
        }
        .with_strangers(strangers)
    }

    fn vectors(&self) -> Vec<Vector> {
        let mut all = Vec::with_capacity(self.index.contents());
        let vectors = self.index.vectors();
        vectors
            .for_each_block(|_, block| {
                all.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
        all
    }

    fn ours(mut self) -> Run {
        let begun = Instant::now();
        let mut db = Database::open_to_write(&self.folder, Task::Index).unwrap();
        let built = build(&mut db, &BuildSettings::default(), true, &|_, _| {}, &|| false).unwrap();
        let build_seconds = begun.elapsed().as_secs_f64();
        self.index = Index::open(&db).unwrap();
        let begun = Instant::now();
        let named: Vec<Option<u32>> = self
            .queries
            .par_iter()
            .map(|(_, query)| {
                let found = self.index.find(query, 5, Look::Usual).unwrap();
                found.related.first().and_then(|family| Some(family.closest.first()?.number))
            })
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let run = self.score(&named, build_seconds, seconds, built.bytes);
        Run { false_families: Some(run.false_families.unwrap_or_default()), ..run }
    }

    fn exact(self) -> Run {
        let bytes = (self.index.contents() * 1024) as u64;
        let queries: Vec<Vector> = self.queries.iter().map(|q| q.1.vector).collect();
        let begun = Instant::now();
        let hits = exact_scan(self.index.vectors(), &queries, 1).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let named: Vec<Option<u32>> = hits.iter().map(|h| h.first().map(|h| h.number)).collect();
        self.score(&named, 0.0, seconds, bytes).without_strangers()
    }

    fn newcomer(self) -> Run {
        let float = |v: &Vector| -> Vec<f32> { v.iter().map(|x| f32::from(*x)).collect() };
        let vectors: Vec<Vec<f32>> = self.vectors().iter().map(float).collect();
        let begun = Instant::now();
        let graph = Hnsw::<f32, DistCosine>::new(16, vectors.len(), 16, 200, DistCosine);
        let items: Vec<(&Vec<f32>, usize)> = vectors.iter().zip(0..).collect();
        graph.parallel_insert(&items);
        let build_seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let named: Vec<Option<u32>> = self
            .queries
            .par_iter()
            .map(|(_, q)| graph.search(&float(&q.vector), 1, 64).first().map(|hit| hit.d_id as u32))
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let folder = tempfile::tempdir().unwrap();
        graph.file_dump(folder.path(), "graph").unwrap();
        self.score(&named, build_seconds, seconds, size_of_folder(folder.path())).without_strangers()
    }

    fn on_heads(self) -> Run {
        let heads: Vec<(u32, Vector)> =
            self.index.head_vectors().map(|(content, vector)| (content, *vector)).collect();
        let begun = Instant::now();
        let graph = Hnsw::<i8, ByteCosine>::new(32, heads.len(), 16, 400, ByteCosine);
        // Shuffled, as near-duplicates one after the other cut nodes off.
        let mut items: Vec<(&[i8], usize)> = heads.iter().map(|(c, v)| (v.as_slice(), *c as usize)).collect();
        items.sort_by_key(|item| hubprint::signals::sketch::mix(item.1 as u64));
        graph.parallel_insert_slice(&items);
        let build_seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let named: Vec<Option<u32>> = self
            .queries
            .par_iter()
            .map(|(_, q)| graph.search(&q.vector, 1, 256).first().map(|hit| hit.d_id as u32))
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let folder = tempfile::tempdir().unwrap();
        graph.file_dump(folder.path(), "graph").unwrap();
        self.score(&named, build_seconds, seconds, size_of_folder(folder.path())).without_strangers()
    }

    #[cfg(feature = "usearch")]
    fn usearch(self) -> Run {
        use usearch::{Index, IndexOptions, MetricKind, ScalarKind};
        let vectors = self.vectors();
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
        let begun = Instant::now();
        let named: Vec<Option<u32>> = self
            .queries
            .par_iter()
            .map(|(_, q)| graph.search(&q.vector, 1).unwrap().keys.first().map(|key| *key as u32))
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let bytes = graph.serialized_length() as u64;
        self.score(&named, build_seconds, seconds, bytes).without_strangers()
    }

    #[cfg(not(feature = "usearch"))]
    fn usearch(self) -> Run {
        unreachable!("built without the feature, of {}", self.folder.display())
    }
}

impl Run {
    fn with_strangers(self, strangers: usize) -> Self {
        Self { false_families: Some(strangers), ..self }
    }

    /// A nearest neighbour always names somebody.
    fn without_strangers(self) -> Self {
        Self { false_families: None, ..self }
    }
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

fn size_of_folder(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Largest resident size of this process, bytes.
fn peak() -> u64 {
    peak_memory_bytes().unwrap_or_default()
}
