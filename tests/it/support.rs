//! What the tests share: folders of models, a Hub that serves them, and the command line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hubprint::local_hub::{self, Counters, Running, Settings};
use hubprint::store::{Database, Row};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// The trained models that ship with the project.
pub(crate) fn demo_hub() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo-hub")
}

/// `truth.json` of the demo models.
#[derive(Deserialize)]
pub(crate) struct Truth {
    pub(crate) held_out: Vec<String>,
    pub(crate) pairs: Vec<Pair>,
}

#[derive(Deserialize)]
pub(crate) struct Pair {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) related: bool,
    pub(crate) relation: String,
}

impl Truth {
    pub(crate) fn read() -> Self {
        serde_json::from_slice(&fs::read(demo_hub().join("truth.json")).unwrap()).unwrap()
    }

    pub(crate) fn related(&self, x: &str, y: &str) -> bool {
        let pair = |p: &&Pair| (p.a == x && p.b == y) || (p.a == y && p.b == x);
        self.pairs.iter().find(pair).unwrap_or_else(|| panic!("no truth about {x} and {y}")).related
    }
}

/// A folder that goes away.
pub(crate) fn temp() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Writes a file, in place of the one that is there.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(content.as_ref()).unwrap();
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// Holds a text against the one that is recorded in `tests/PATH.snap`. Record anew with `INSTA_UPDATE=always`.
pub(crate) fn is_as_recorded(path: &str, text: &str) {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new("..").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A folder of models that a Hub can serve.
pub(crate) struct Models {
    dir: TempDir,
    created: u32,
}

impl Models {
    pub(crate) fn new() -> Self {
        Self { dir: temp(), created: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a model lies.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.path().join("models").join(id)
    }

    /// A model of these files. Each is created a day after the one before, so listings have one order.
    pub(crate) fn add(&mut self, id: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let folder = self.folder(id);
        for (name, content) in files {
            write(&folder.join(name), content);
        }
        self.describe(id, &json!({}));
        folder
    }

    /// A model of the files of a folder.
    pub(crate) fn add_folder(&mut self, id: &str, folder: &Path) -> PathBuf {
        let files = files_below(folder).into_iter();
        let files = files.map(|file| (file.strip_prefix(folder).unwrap().display().to_string(), read(&file)));
        let files: Vec<(String, Vec<u8>)> = files.filter(|(name, _)| name != ".hub.json").collect();
        self.add(id, &files.iter().map(|(name, content)| (name.as_str(), &content[..])).collect::<Vec<_>>())
    }

    /// A tiny model with random weights.
    pub(crate) fn add_tiny(&mut self, id: &str, seed: u64) -> PathBuf {
        self.add(id, &[("config.json", TINY_CONFIG.as_bytes()), ("model.safetensors", &tiny(seed))])
    }

    /// Facts of a model that are not in its files: `gated`, `disabled`, `tags` ...
    pub(crate) fn describe(&mut self, id: &str, facts: &Value) {
        let path = self.folder(id).join(".hub.json");
        let mut all: Value = fs::read(&path).map_or_else(
            |_| {
                self.created += 1;
                let (month, day) = (1 + self.created / 28 % 12, 1 + self.created % 28);
                let year = 2020 + self.created / (28 * 12);
                json!({"createdAt": format!("{year}-{month:02}-{day:02}T00:00:00.000Z"), "lastModified": "2025-06-01T00:00:00.000Z"})
            },
            |text| serde_json::from_slice(&text).unwrap(),
        );
        for (key, value) in facts.as_object().unwrap() {
            all[key] = value.clone();
        }
        write(&path, all.to_string());
    }
}

pub(crate) const TINY_CONFIG: &str =
    r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,"num_hidden_layers":2}"#;

/// A Llama of two layers and hidden size 64 with random weights.
pub(crate) fn tiny(seed: u64) -> Vec<u8> {
    tiny_with(seed, |_, _| {})
}

/// The same, with a chance to change a tensor's values.
pub(crate) fn tiny_with(seed: u64, change: impl Fn(&str, &mut [f32])) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensors: Vec<(String, Vec<usize>)> =
        vec![("model.embed_tokens.weight".into(), vec![320, 64]), ("model.norm.weight".into(), vec![64])];
    for layer in 0..2 {
        for (name, shape) in [
            ("self_attn.q_proj", vec![64, 64]),
            ("self_attn.o_proj", vec![64, 64]),
            ("mlp.up_proj", vec![128, 64]),
            ("mlp.down_proj", vec![64, 128]),
            ("input_layernorm", vec![64]),
            ("post_attention_layernorm", vec![64]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape)| {
            let mut values: Vec<f32> =
                (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
            change(&name, &mut values);
            (name, shape, values.into_iter().flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    serialize(views, None).unwrap()
}

/// A Hub on this machine, in this process.
pub(crate) struct Hub {
    running: Option<Running>,
    runtime: Option<tokio::runtime::Runtime>,
    url: String,
}

impl Hub {
    /// Serves a folder; `settings` are assignments such as `limits.api=5`.
    pub(crate) fn serve(folder: &Path, settings: &[&str]) -> Self {
        let mut all = Settings::default();
        for assignment in settings {
            all.set(assignment).unwrap();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = runtime.block_on(local_hub::start(folder, any, any, all)).unwrap();
        let url = running.hub_url().to_owned();
        Self { running: Some(running), runtime: Some(runtime), url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn counters(&self) -> Counters {
        self.running.as_ref().unwrap().counters()
    }

    /// The heads of the requests that the CDN got.
    pub(crate) fn sent_to_cdn(&self) -> Vec<String> {
        self.running.as_ref().unwrap().sent_to_cdn()
    }

    /// Reads the folder again.
    pub(crate) fn rescan(&self) {
        self.runtime.as_ref().unwrap().block_on(self.running.as_ref().unwrap().rescan()).unwrap();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let runtime = self.runtime.take().unwrap();
        runtime.block_on(async { drop(self.running.take()) });
        runtime.shutdown_background();
    }
}

/// An address where nothing listens.
pub(crate) fn nobody() -> String {
    // Bound and released: the system hands such a port out again only after it has been round.
    let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

/// The command line, in an environment of its own.
pub(crate) struct Cli {
    home: TempDir,
    vars: BTreeMap<String, String>,
}

/// Sends a signal to a command, `-TERM` or `-INT`.
pub(crate) fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cli {
    /// With `HF_ENDPOINT` and nothing else.
    pub(crate) fn new(endpoint: &str) -> Self {
        Self { home: temp(), vars: BTreeMap::new() }.with("HF_ENDPOINT", endpoint)
    }

    /// With one more variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A place for a database.
    pub(crate) fn db(&self) -> PathBuf {
        self.home.path().join("db")
    }

    /// A place for other files; the working directory of the commands.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command, not yet started. `DB` stands for the database of this environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let db = self.db().display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubprint"));
        command.env_clear().envs(&self.vars).env("HOME", self.home.path()).current_dir(self.home.path());
        command.args(args.iter().map(|arg| if *arg == "DB" { db.as_str() } else { arg }));
        command
    }

    /// Runs a command to its end. No command may panic.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let output = assert_cmd::Command::from_std(self.command(args)).timeout(PATIENCE).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended =
            Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ended.stderr.contains("panicked"), "{args:?}: {ended:?}");
        ended
    }

    /// Runs a command that must end with this exit code.
    pub(crate) fn expect(&self, code: i32, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}\n{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// `crawl --json` with these further arguments, and its report.
    pub(crate) fn crawl(&self, code: i32, args: &[&str]) -> Value {
        self.expect(code, &[&["crawl", "--db", "DB", "--json"], args].concat()).json()
    }

    /// The live rows of the database, by name.
    pub(crate) fn rows(&self) -> BTreeMap<String, Row> {
        rows(&self.db())
    }

    /// The manifest of the database's latest snapshot.
    pub(crate) fn manifest(&self) -> PathBuf {
        let mut all = files_below(&self.db().join("manifests"));
        all.sort();
        all.pop().expect("there is a manifest")
    }

    /// Gives a changed file of the index the name of its new content, and writes that into the latest manifest, as if
    /// it had been written like that.
    pub(crate) fn state_anew(&self, path: &Path) {
        let text = String::from_utf8(read(&self.manifest())).unwrap();
        let mut manifest: Value = serde_json::from_str(&text).unwrap();
        let name = path.strip_prefix(self.db()).unwrap().to_str().unwrap();
        let (bytes, sha256) = hubprint::store::checksum::checksum(path).unwrap();
        let renamed = format!("index/{}.{}", &sha256[..32], path.extension().unwrap().to_str().unwrap());
        fs::rename(path, self.db().join(&renamed)).unwrap();
        for entry in manifest["index"]["files"].as_object_mut().unwrap().values_mut() {
            if entry["file"] == name {
                *entry = json!({"file": renamed, "bytes": bytes, "sha256": sha256});
            }
        }
        write(&self.manifest(), manifest.to_string());
    }
}

impl Ended {
    /// The one JSON object on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// JSON Lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(line).collect()
    }

    /// Asserts that stderr has every one of these words.
    pub(crate) fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        self
    }
}

/// The live rows of a database, by the names of their checkpoints.
pub(crate) fn rows(db: &Path) -> BTreeMap<String, Row> {
    let db = Database::open(db).unwrap();
    let places: Vec<_> = db.live().unwrap().places().collect();
    let mut rows = BTreeMap::new();
    for row in db.rows(&places).unwrap() {
        let again = rows.insert(row.name(), row);
        assert!(again.is_none(), "two rows of {}", again.unwrap().name());
    }
    rows
}

/// Rows without the time of the crawl.
pub(crate) fn comparable(mut rows: BTreeMap<String, Row>) -> BTreeMap<String, Row> {
    for row in rows.values_mut() {
        row.crawled_at = 0;
    }
    rows
}

/// Waits until something is so; gives up if the command ends before.
pub(crate) fn wait_until(child: &mut Child, what: impl Fn() -> bool) {
    while !what() {
        assert!(child.try_wait().unwrap().is_none(), "the command ended too early");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that a crawl report accounts for every repository, and agrees with the rows.
pub(crate) fn assert_adds_up(report: &Value, rows: &BTreeMap<String, Row>) {
    let outcomes = report["outcomes"].as_object().unwrap();
    let ended: u64 = outcomes.values().map(|n| n.as_u64().unwrap()).sum();
    let sum = |keys: &[&str]| ended + keys.iter().map(|key| report[*key].as_u64().unwrap()).sum::<u64>();
    let accounted = sum(&["unchanged", "filtered", "relabelled", "waiting", "outdated"]);
    assert_eq!(report["models"], accounted, "{report}");
    let rows_kept = report["rows_kept"].as_u64().unwrap();
    assert_eq!(report["rows_written"], sum(&["relabelled", "gone"]) - rows_kept, "{report}");
    for (name, row) in rows {
        assert_eq!(row.reason.is_none(), row.fingerprint.is_some(), "{name}: {row:?}");
        assert_eq!(row.outcome.name() == "indexed", row.fingerprint.is_some(), "{name}: {row:?}");
        assert!(row.reason.as_ref().is_none_or(|reason| !reason.is_empty()), "{name}: an empty reason");
    }
}

/// The keys of a JSON object.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// All demo models but the held-back ones, crawled and indexed, and the Hub that serves them all.
pub(crate) struct Demo {
    _hub: Hub,
    pub(crate) cli: Cli,
    pub(crate) truth: Truth,
    pub(crate) report: Value,
}

/// Made once for the tests that run at the same time, and again if need be.
pub(crate) fn demo() -> Arc<Demo> {
    static DEMO: Mutex<Weak<Demo>> = Mutex::new(Weak::new());
    let mut shared = DEMO.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(demo) = shared.upgrade() {
        return demo;
    }
    let truth = Truth::read();
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    // What verdicts need, and what answers show beside it.
    let mut args = vec!["--all-small-files"];
    args.extend(truth.held_out.iter().flat_map(|id| ["--exclude", id]));
    let report = cli.crawl(1, &args);
    cli.expect(0, &["index", "--db", "DB"]);
    let demo = Arc::new(Demo { _hub: hub, cli, truth, report });
    *shared = Arc::downgrade(&demo);
    demo
}
