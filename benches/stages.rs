//! One group a stage: plan, extract, write, index, scan, compare.
//!
//! Every input is made from a seed, and every bench first proves that what it times is right: its input comes out
//! of a `LazyLock` that ends in assertions. So `cargo bench --bench stages -- scan` makes nothing but what scan
//! needs, and a wrong answer is a panic, not a good time.
//!
//! Models are made without their weights. A header of the wanted shape is planned, and only the bytes that the plan
//! asks for are drawn: a 7B model costs 6 MB here, as it does in a crawl.

#![expect(clippy::unwrap_used, reason = "a bench; a panic is its verdict")]

#[path = "shared/settings.rs"]
mod settings;

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use half::bf16;
use hubprint::answers::compare::{Comparison, Effort, compare};
use hubprint::answers::scan::{Query, Scanner};
use hubprint::checkpoint::containers::safetensors::Headers;
use hubprint::checkpoint::extract::{Extracted, Fetched, extract};
use hubprint::checkpoint::model::{Subject, load};
use hubprint::checkpoint::plan::{Ask, PlanSettings, SamplePlan, coalesce, sample};
use hubprint::checkpoint::reading::Reader;
use hubprint::checkpoint::row;
use hubprint::checkpoint::source::RepoFiles;
use hubprint::checkpoint::sources::folder::FolderFiles;
use hubprint::formats::packed::{QuantConfig, States};
use hubprint::formats::safetensors::{Decoded, try_decode};
use hubprint::formats::{Header, Limits};
use hubprint::hub::{Hub, HubSettings, PUBLIC_ENDPOINT};
use hubprint::pipeline::index::index;
use hubprint::pipeline::write::{WriteSettings, Writer};
use hubprint::retrieval::hits::Hit;
use hubprint::retrieval::{BuildSettings, Index, SearchMode};
use hubprint::signals::evidence::Evidence;
use hubprint::signals::profile::Profile;
use hubprint::signals::verdict::{self, Context, VerdictKind};
use hubprint::signals::{Fingerprint, Role, hash, stored};
use hubprint::store::{Database, Outcome, Partition, Row, RowRef, Task};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tempfile::TempDir;

/// Models in the database of the index and scan benches: families of one base and its descendants.
const FAMILIES: u64 = 100;
const MEMBERS: u64 = 20;
/// The family and the parameter correlation of the model that is looked for.
const PLANTED: u64 = 42;
const PLANTED_CORRELATION: f32 = 0.8;
/// Rows of the shard that is written.
const ROWS: usize = 500;
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo-hub");

fn main() {
    let mut criterion = settings::criterion();
    plan_stage(&mut criterion);
    extract_stage(&mut criterion);
    write_stage(&mut criterion);
    index_stage(&mut criterion);
    scan_stage(&mut criterion);
    compare_stage(&mut criterion);
    criterion.final_summary();
}

fn plan_stage(criterion: &mut Criterion) {
    let header = LazyLock::new(|| SEVEN_B.header());
    let plan = LazyLock::new(|| {
        let plan = SEVEN_B.plan();
        let norms = plan.asks.iter().filter(|ask| ask.position.role.is_norm()).count();
        let matrices = plan.asks.iter().filter(|ask| ask.position.role.is_matrix()).count();
        let bytes: u64 = plan.fetches.iter().map(|f| f.bytes.end - f.bytes.start).sum();
        let limits = PlanSettings::default();
        assert!(norms >= 59 && matrices >= 64, "{norms} norms, {matrices} matrices");
        assert!(plan.fetches.len() <= limits.max_ranges && bytes <= limits.max_bytes);
        assert_eq!(plan.vocabulary, Some(32_000));
        plan
    });
    let ranges = LazyLock::new(|| {
        let ranges: Vec<Range<u64>> = plan.asks.iter().map(|ask| place(ask).clone()).collect();
        let merged = coalesce(&ranges, PlanSettings::default().gap_bytes);
        assert_eq!(merged, plan.fetches.iter().map(|f| f.bytes.clone()).collect::<Vec<_>>());
        ranges
    });

    let mut group = criterion.benchmark_group("plan");
    group.bench_function("header of a 7B Llama", |b| {
        let (bytes, size) = SEVEN_B.file_head();
        b.iter(|| decoded(black_box(&bytes), size));
    });
    group.bench_function("sample of a 7B Llama", |b| {
        LazyLock::force(&plan);
        let headers = Headers(vec![header.clone()]);
        b.iter(|| planned(black_box(&headers)));
    });
    group.bench_function("coalesce", |b| {
        b.iter(|| coalesce(black_box(&ranges), PlanSettings::default().gap_bytes));
    });
    group.finish();
}

fn extract_stage(criterion: &mut Criterion) {
    let seven_b: LazyLock<Fetched> = LazyLock::new(|| {
        let fetched = SEVEN_B.fetched(&SEVEN_B.plan(), Weights::base(1));
        let fingerprint = fingerprint(&checked_extract(&fetched));
        assert_eq!((fingerprint.hidden_size, fingerprint.layers), (4096, 32));
        fetched
    });
    let demo: LazyLock<Fetched> = LazyLock::new(|| {
        let folder = demo_model("lumenworks/stdlib-llama-500k");
        let files: Arc<dyn RepoFiles> = Arc::new(FolderFiles::open(&folder).unwrap());
        let reader = Reader::default();
        let fetched = block_on(async {
            let metadata = reader.metadata(&*files, None).await.unwrap();
            let mut reading = reader.open_one(&files, &metadata, None).await.unwrap();
            let fetched = reading.fetch(&reader.settings.plan).await.unwrap();
            assert_eq!(metadata.config.layers, Some(u64::from(fetched.layers)));
            fetched
        });
        checked_extract(&fetched);
        fetched
    });

    let mut group = criterion.benchmark_group("extract");
    let mut bench = |name: &str, fetched: &LazyLock<Fetched>| {
        group.bench_function(name, |b| {
            b.iter_batched(
                || again(fetched),
                |fetched| fingerprint(&extract(fetched, None)),
                BatchSize::LargeInput,
            );
        });
    };
    bench("7B Llama", &seven_b);
    if has_demo() {
        bench("demo Llama of 500,000 parameters", &demo);
    }
    group.finish();
}

fn write_stage(criterion: &mut Criterion) {
    let rows = LazyLock::new(|| {
        let rows = rows_of_7b();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), rows.clone());
        let db = Database::open(folder.path()).unwrap();
        let places: Vec<_> = (0..ROWS as u32).map(|row| RowRef { shard: 0, row }).collect();
        assert_eq!(db.rows(&places).unwrap(), rows);
        rows
    });

    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    group.bench_function("a shard of 500 rows of 7B models", |b| {
        let fresh = || (tempfile::tempdir().unwrap(), rows.clone());
        b.iter_batched(fresh, |(folder, rows)| (write(folder.path(), rows), folder), BatchSize::PerIteration);
    });
    group.finish();
}

fn index_stage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    group.sample_size(10);
    group.bench_function("2,000 fingerprints of 100 families", |b| {
        let mut db = Database::open_to_write(LIBRARY.folder.path(), Task::Index).unwrap();
        b.iter(|| index(&mut db, &BuildSettings::default(), true, &|_, _| {}, &|| false).unwrap());
    });
    group.finish();
}

fn scan_stage(criterion: &mut Criterion) {
    let index = LazyLock::new(|| {
        let index = Index::open(&Database::open(LIBRARY.folder.path()).unwrap()).unwrap();
        let found = index.find(&LIBRARY.query, 10, SearchMode::Usual).unwrap();
        assert_eq!(found.related.len(), 1, "{found:?}");
        let family = &found.related[0];
        let of_family =
            |hit: &Hit| index.repositories(hit.number)[0].repo_id.starts_with(&format!("family-{PLANTED}/"));
        assert_eq!(family.closest.len(), 10);
        assert!(family.closest.iter().all(of_family));
        index
    });
    let scanner = LazyLock::new(|| {
        let scanner = Scanner::open(Database::open(LIBRARY.folder.path()).unwrap()).unwrap();
        let query = Query::read(LIBRARY.subject.clone()).unwrap();
        let answer = scanner.scan(&query, 10, SearchMode::Usual).unwrap();
        assert_eq!(answer.families.len(), 1, "{answer:?}");
        let found = &answer.families[0];
        let family = format!("family-{PLANTED}/");
        assert_eq!(found.members.len(), 10);
        assert!(found.members.iter().all(|c| c.repo_id.starts_with(&family)));
        scanner
    });
    let relatives = LazyLock::new(|| {
        let [a, b] = pair_of_7b();
        let (kind, unrelated) = (judge(&a, &b).1, judge(&a, &other_7b()).1);
        assert_eq!((kind, unrelated), (VerdictKind::Derived, VerdictKind::NoWeightEvidence));
        [a, b]
    });

    let mut group = criterion.benchmark_group("scan");
    for (name, how) in [("usual", SearchMode::Usual), ("exact baseline", SearchMode::Exact)] {
        group.bench_function(format!("families and closest ten among 2,000, {name}"), |b| {
            b.iter(|| index.find(black_box(&LIBRARY.query), 10, how).unwrap());
        });
    }
    group.bench_function("evidence and verdict on a pair of 7B models", |b| {
        b.iter(|| judge(black_box(&relatives[0]), black_box(&relatives[1])));
    });
    group.bench_function("whole scan of 2,000, top 10", |b| {
        // The fingerprint of what was read is part of it.
        let scan = |subject| scanner.scan(&Query::read(subject).unwrap(), 10, SearchMode::Usual).unwrap();
        b.iter_batched(|| LIBRARY.subject.clone(), scan, BatchSize::LargeInput);
    });
    group.finish();
}

fn compare_stage(criterion: &mut Criterion) {
    let folders = LazyLock::new(|| {
        let plan = SEVEN_B.plan();
        let [a, b] =
            [Weights::base(1), Weights::child(1, 2, 0.9)].map(|weights| SEVEN_B.folder(&plan, weights));
        let verdict = both(&subject(&a), &subject(&b)).verdict;
        assert_eq!(verdict.kind, VerdictKind::Derived, "{}", verdict.why);
        [a, b]
    });
    let subjects = LazyLock::new(|| [subject(&folders[0]), subject(&folders[1])]);
    let demo = LazyLock::new(|| {
        let [base, cast, other] =
            ["lumenworks/stdlib-llama-500k", "compactzoo/stdlib-llama-500k-bf16", "orchardml/pyllama-500k"]
                .map(|id| subject_at(&demo_model(id)));
        assert_eq!(both(&base, &cast).verdict.kind, VerdictKind::Derived);
        assert_eq!(both(&base, &other).verdict.kind, VerdictKind::Independent);
        [base, cast]
    });

    let mut group = criterion.benchmark_group("compare");
    group.bench_function("two 7B models", |b| b.iter(|| both(&subjects[0], &subjects[1])));
    if has_demo() {
        group.bench_function("two demo models", |b| b.iter(|| both(&demo[0], &demo[1])));
    }
    group.sample_size(10);
    group.bench_function("two 7B folders, read and judged", |b| {
        b.iter(|| both(&subject(&folders[0]), &subject(&folders[1])));
    });
    group.finish();
}

fn both(a: &Subject, b: &Subject) -> Comparison {
    compare(a, b, Effort::Enough).unwrap()
}

/// The shape of a Llama.
struct Shape {
    layers: u64,
    hidden: u64,
    inner: u64,
    kv: u64,
    vocabulary: u64,
}

const SEVEN_B: Shape = Shape { layers: 32, hidden: 4096, inner: 11_008, kv: 4096, vocabulary: 32_000 };
const SMALL: Shape = Shape { layers: 4, hidden: 64, inner: 176, kv: 32, vocabulary: 1024 };

/// Which values the tensors of a shape have.
#[derive(Clone, Copy)]
struct Weights {
    family: u64,
    /// 0 for the base itself.
    member: u64,
    /// With the base.
    correlation: f32,
}

impl Weights {
    fn base(family: u64) -> Self {
        Self { family, member: 0, correlation: 1.0 }
    }

    fn child(family: u64, member: u64, correlation: f32) -> Self {
        Self { family, member, correlation }
    }

    /// The values of one block, in bf16: gains around 1, matrices and embeddings around 0.
    fn bytes(self, ask: &Ask) -> Bytes {
        let at = [ask.position.role as u64, u64::from(ask.position.layer), ask.start];
        let stream = |owner: [u64; 2]| {
            let seed = hash::key(&[owner[0], owner[1], at[0], at[1], at[2]]);
            ChaCha8Rng::seed_from_u64(seed)
        };
        let (mut base, mut own) = (stream([self.family, 0]), stream([self.family, self.member]));
        let noise = (1.0 - self.correlation * self.correlation).sqrt();
        let (middle, spread) = if ask.position.role.is_norm() { (1.0, 0.1) } else { (0.0, 0.02) };
        let count = (place(ask).end - place(ask).start) / 2;
        let value = |_| {
            let x = self.correlation * normal(&mut base) + noise * normal(&mut own);
            bf16::from_f32(middle + spread * x).to_le_bytes()
        };
        (0..count).flat_map(value).collect()
    }
}

/// Near enough to normal: the sum of the four bytes of a random word, with mean 0 and variance 1.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let sum: u32 = rng.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) / 147.8
}

impl Shape {
    /// The header as transformers writes it, its length before it; and the size of the file.
    fn file_head(&self) -> (Vec<u8>, u64) {
        let d = self.hidden;
        let mut tensors = BTreeMap::from([
            ("lm_head.weight".to_owned(), vec![self.vocabulary, d]),
            ("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, d]),
            ("model.norm.weight".to_owned(), vec![d]),
        ]);
        for layer in 0..self.layers {
            for (name, shape) in [
                ("input_layernorm", vec![d]),
                ("mlp.down_proj", vec![d, self.inner]),
                ("mlp.gate_proj", vec![self.inner, d]),
                ("mlp.up_proj", vec![self.inner, d]),
                ("post_attention_layernorm", vec![d]),
                ("self_attn.k_proj", vec![self.kv, d]),
                ("self_attn.o_proj", vec![d, d]),
                ("self_attn.q_proj", vec![d, d]),
                ("self_attn.v_proj", vec![self.kv, d]),
            ] {
                tensors.insert(format!("model.layers.{layer}.{name}.weight"), shape);
            }
        }
        let mut end = 0;
        let mut header = BTreeMap::from([("__metadata__".to_owned(), serde_json::json!({ "format": "pt" }))]);
        for (name, shape) in tensors {
            let begin = end;
            end += 2 * shape.iter().product::<u64>();
            let offsets = [begin, end];
            header.insert(
                name,
                serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": offsets }),
            );
        }
        let json = serde_json::to_vec(&header).unwrap();
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        let size = bytes.len() as u64 + end;
        (bytes, size)
    }

    fn header(&self) -> Header {
        let (bytes, size) = self.file_head();
        decoded(&bytes, size)
    }

    fn plan(&self) -> SamplePlan {
        planned(&Headers(vec![self.header()]))
    }

    /// What fetch would hand to extract.
    fn fetched(&self, plan: &SamplePlan, weights: Weights) -> Fetched {
        let blocks: Vec<(Ask, Vec<Bytes>)> =
            plan.asks.iter().map(|ask| (ask.clone(), vec![weights.bytes(ask)])).collect();
        let size = self.file_head().1;
        Fetched {
            probes: Vec::new(),
            coverage: plan.coverage.clone(),
            unopened: None,
            unreadable: BTreeMap::new(),
            files: Vec::new(),
            part: None,
            adapter: None,
            layers: self.layers as u16,
            vocabulary: plan.vocabulary,
            parameters: size / 2,
            bytes_fetched: blocks.iter().flat_map(|(_, pieces)| pieces).map(|bytes| bytes.len() as u64).sum(),
            bytes_in_repo: size,
            blocks,
        }
    }

    fn extracted(&self, plan: &SamplePlan, weights: Weights) -> Extracted {
        extract(self.fetched(plan, weights), None)
    }

    /// A checkpoint folder of full length in which only the blocks of the plan are filled; the rest is a hole.
    fn folder(&self, plan: &SamplePlan, weights: Weights) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("model.safetensors")).unwrap();
        let (head, size) = self.file_head();
        file.set_len(size).unwrap();
        file.write_all_at(&head, 0).unwrap();
        for ask in &plan.asks {
            file.write_all_at(&weights.bytes(ask), place(ask).start).unwrap();
        }
        folder
    }
}

/// The canonical plan of plain weights.
fn planned(headers: &Headers) -> SamplePlan {
    sample(headers, &QuantConfig::default(), &States::new(), &PlanSettings::default(), &[]).unwrap()
}

/// Where the bytes of a plain block are.
fn place(ask: &Ask) -> &Range<u64> {
    &ask.pieces[0].bytes
}

fn fingerprint(extracted: &Extracted) -> Fingerprint {
    Fingerprint::new(&extracted.samples).unwrap()
}

fn decoded(bytes: &[u8], size: u64) -> Header {
    match try_decode(bytes, size, &Limits::default()).unwrap() {
        Decoded::Done(header) => header,
        Decoded::Need(end) => unreachable!("the header is complete, yet {end} bytes are wanted"),
    }
}

/// Families of small models, indexed, and a model of one of them that is not among them.
struct Library {
    folder: TempDir,
    query: Fingerprint,
    subject: Subject,
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let plan = SMALL.plan();
    let models: Vec<(u64, u64)> = (0..FAMILIES).flat_map(|f| (0..MEMBERS).map(move |m| (f, m))).collect();
    let rows: Vec<Row> = models
        .into_par_iter()
        .map(|(family, member)| {
            // From casts to long further training.
            let correlation = 1.0 - 0.4 * (member as f32 / MEMBERS as f32);
            let extracted = SMALL.extracted(&plan, Weights::child(family, member, correlation));
            let fingerprint = fingerprint(&extracted);
            row(&format!("family-{family}/{member}"), extracted.sample_digest.unwrap(), fingerprint)
        })
        .collect();
    let count = rows.len();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), rows);
    let mut db = Database::open_to_write(folder.path(), Task::Index).unwrap();
    let built = index(&mut db, &BuildSettings::default(), true, &|_, _| {}, &|| false).unwrap();
    assert_eq!((built.models, built.checkpoints, built.families), (count, count, FAMILIES as usize));
    assert!(built.quality.recall_at_10 > 0.95, "{built:?}");

    let wanted = Weights::child(PLANTED, MEMBERS, PLANTED_CORRELATION);
    let query = fingerprint(&SMALL.extracted(&plan, wanted));
    let subject = subject(&SMALL.folder(&plan, wanted));
    assert_eq!(
        fingerprint(subject.weights.as_ref().unwrap()),
        query,
        "a folder and its blocks have one fingerprint"
    );
    Library { folder, query, subject }
});

fn row(name: &str, sample_digest: String, fingerprint: Fingerprint) -> Row {
    let row = row::bare(name, Outcome::Indexed, String::new());
    Row {
        reason: None,
        sample_digest: Some(sample_digest),
        profile: Some(Profile::default()),
        fingerprint: Some(fingerprint),
        ..row
    }
}

/// Rows as large and as incompressible as those of 7B models: the cells of one, with random content.
fn rows_of_7b() -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut fill = |bytes: &mut [i8]| bytes.iter_mut().for_each(|byte| *byte = rng.next_u32() as i8);
    let [model, _] = pair_of_7b();
    let make = |i| {
        let mut fingerprint = model.clone();
        fill(&mut fingerprint.vector);
        fingerprint.cells.iter_mut().for_each(|cell| fill(&mut cell.sketch));
        row(&format!("org/model-{i}"), format!("{i:064x}"), fingerprint)
    };
    (0..ROWS).map(make).collect()
}

/// All rows as one shard of a new database.
fn write(folder: &Path, rows: Vec<Row>) -> u64 {
    let mut db = Database::open_or_create(folder, Task::CRAWL).unwrap();
    let mut writer =
        Writer::new(&mut db, &WriteSettings { rows_per_shard: rows.len(), ..WriteSettings::default() });
    for row in rows {
        writer.push(vec![row]).unwrap();
    }
    writer.finish(Partition::WHOLE, std::iter::empty()).unwrap()
}

/// A base and its fine-tune.
fn pair_of_7b() -> [Fingerprint; 2] {
    let plan = SEVEN_B.plan();
    [Weights::base(1), Weights::child(1, 2, 0.9)]
        .map(|weights| fingerprint(&SEVEN_B.extracted(&plan, weights)))
}

fn other_7b() -> Fingerprint {
    fingerprint(&SEVEN_B.extracted(&SEVEN_B.plan(), Weights::base(2)))
}

fn judge(a: &Fingerprint, b: &Fingerprint) -> (Evidence, VerdictKind) {
    let evidence = stored::compare(a, b);
    let context = Context { same_content: Some(false), searched: 2000, ..Context::default() };
    let kind = verdict::judge(&evidence, context).kind;
    (evidence, kind)
}

/// Extracts after checking that every block became cells, whatever the order of arrival.
fn checked_extract(fetched: &Fetched) -> Extracted {
    let extracted = extract(again(fetched), None);
    let cells_made = fingerprint(&extracted).cells.len();
    // Embedding blocks of 64 rows are cut into four cells.
    let cells = |(ask, _): &(Ask, Vec<Bytes>)| if ask.position.role == Role::Embedding { 4 } else { 1 };
    assert_eq!(cells_made, fetched.blocks.iter().map(cells).sum::<usize>());
    let mut turned = again(fetched);
    turned.blocks.reverse();
    let turned = extract(turned, None);
    assert_eq!(turned.sample_digest, extracted.sample_digest);
    assert_eq!(fingerprint(&turned), fingerprint(&extracted));
    extracted
}

fn again(fetched: &Fetched) -> Fetched {
    Fetched {
        probes: fetched.probes.clone(),
        coverage: fetched.coverage.clone(),
        unopened: fetched.unopened,
        unreadable: fetched.unreadable.clone(),
        files: fetched.files.clone(),
        part: fetched.part.clone(),
        adapter: fetched.adapter.clone(),
        blocks: fetched.blocks.clone(),
        layers: fetched.layers,
        vocabulary: fetched.vocabulary,
        parameters: fetched.parameters,
        bytes_fetched: fetched.bytes_fetched,
        bytes_in_repo: fetched.bytes_in_repo,
    }
}

/// The demo is in the repository and not in the published package.
fn has_demo() -> bool {
    Path::new(DEMO).is_dir()
}

fn demo_model(id: &str) -> PathBuf {
    Path::new(DEMO).join("models").join(id)
}

fn subject(folder: &TempDir) -> Subject {
    subject_at(folder.path())
}

/// Reads and fingerprints a local checkpoint. The Hub is never asked.
fn subject_at(folder: &Path) -> Subject {
    static HUB: LazyLock<Hub> = LazyLock::new(|| {
        let settings = HubSettings::new(PUBLIC_ENDPOINT).unwrap();
        Hub::new(HubSettings { offline: true, ..settings }).unwrap()
    });
    block_on(load(folder.to_str().unwrap(), &HUB, &Reader::default())).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
    RUNTIME.block_on(work)
}
