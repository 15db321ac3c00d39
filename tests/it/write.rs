//! write: one row a repository, whatever happens: bad repositories, second crawls, changes, crashes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};

use hubprint::store::{Database, Row};
use serde_json::{Value, json};

use crate::support::{
    Cli, Hub, Models, assert_adds_up, comparable, demo, rows, send, tiny, wait_until, write,
};

#[test]
fn every_demo_repository_has_one_row_that_says_how_it_ended() {
    let demo = demo();
    let rows = demo.cli.rows();
    assert_adds_up(&demo.report, &rows);
    assert_eq!(demo.report["models"], rows.len() as u64 + demo.report["filtered"].as_u64().unwrap());
    let outcome = |id: &str| (rows[id].outcome.name(), rows[id].reason.as_deref().unwrap_or_default());
    let assert_reason = |id: &str, name: &str, word: &str| {
        let (outcome, reason) = outcome(id);
        assert_eq!(outcome, name, "{id}: {reason}");
        assert!(reason.contains(word), "{id}: no {word:?} in {reason:?}");
    };
    assert_reason("meridian-ai/meridian-tests", "gated", "restricted");
    assert_reason("oldmill/gpt2-code-helper", "disabled", "disabled");
    assert_reason("kestrel-ai/kestrel-code-ext-v2", "malformed", "model.safetensors");
    let others = rows.values().filter(|row| row.outcome.name() != "indexed").count();
    assert_eq!(others, 3, "all the rest is indexed");
    for id in &demo.truth.held_out {
        assert!(!rows.contains_key(id), "{id} was excluded");
    }
    let info = demo.cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json();
    assert_eq!(info["outcomes"], demo.report["outcomes"]);
    assert_eq!(info["models"], rows.len());
}

#[test]
fn a_row_holds_what_hub_and_files_say() {
    let demo = demo();
    let rows = demo.cli.rows();
    let row = &rows["lumenworks/stdlib-llama-500k-docs"];
    assert_eq!(row.declared_bases, ["lumenworks/stdlib-llama-500k"]);
    assert_eq!(row.license.as_deref(), Some("apache-2.0"));
    assert_eq!(row.architecture.as_deref(), Some("LlamaForCausalLM"));
    assert_eq!(row.model_type.as_deref(), Some("llama"));
    assert_eq!(row.dtype.as_deref(), Some("F16"));
    assert_eq!(row.sha.as_ref().map(String::len), Some(40));
    assert_eq!(row.weight_files.len(), 1);
    assert_eq!(row.weight_files[0].sha256.as_ref().map(String::len), Some(64));
    assert!(row.bytes_fetched > 0 && row.bytes_fetched <= row.bytes_in_repo + 1_000_000);
    assert_eq!(
        rows["mirrorhub/python-llama"].weights_digest,
        rows["lumenworks/stdlib-llama-500k"].weights_digest
    );
}

/// Five good models and one of each kind that has none.
fn mixed() -> Models {
    let mut models = Models::new();
    for i in 0..5 {
        models.add_tiny(&format!("a/good-{i}"), i);
    }
    models.add_tiny("a/gated", 10);
    models.describe("a/gated", &json!({"gated": "manual"}));
    models.add_tiny("a/disabled", 11);
    models.describe("a/disabled", &json!({"disabled": true}));
    models.add("a/keras", &[("tf_model.h5", b"not read")]);
    let whole = tiny(12);
    models.add("a/truncated", &[("model.safetensors", &whole[..whole.len() - 1])]);
    models
}

#[test]
fn a_second_crawl_reads_nothing_that_is_settled() {
    let models = mixed();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(1, &[]);
    assert_eq!(
        report["outcomes"],
        json!({"disabled": 1, "gated": 1, "indexed": 5, "malformed": 1, "unsupported": 1})
    );
    let first = cli.rows();
    assert_adds_up(&report, &first);
    let before = hub.counters();

    let report = cli.crawl(0, &[]);
    assert_eq!((&report["unchanged"], &report["outcomes"]), (&json!(9), &json!({})));
    assert_adds_up(&report, &cli.rows());
    let after = hub.counters();
    assert_eq!((after.cdn_requests, after.bytes_sent), (before.cdn_requests, before.bytes_sent));
    assert_eq!(after.requests.resolvers, before.requests.resolvers);
    assert_eq!(after.requests.api, before.requests.api + 1, "the list, and nothing else");
    assert_eq!(cli.rows(), first);
}

#[test]
fn a_token_opens_what_is_gated() {
    let models = mixed();
    let hub = Hub::serve(models.path(), &["tokens.hf_granted=[\"a/gated\"]", "tokens.hf_other=[]"]);
    let cli = Cli::new(hub.url());
    let gated = |cli: &Cli| cli.rows()["a/gated"].outcome.name();
    cli.crawl(1, &["--repo", "a/gated"]);
    assert_eq!(gated(&cli), "gated");
    let cli = cli.with("HF_TOKEN", "hf_other");
    cli.crawl(1, &["--repo", "a/gated"]);
    assert_eq!(gated(&cli), "gated");
    let cli = cli.with("HF_TOKEN", "hf_granted");
    let report = cli.crawl(0, &["--repo", "a/gated"]);
    assert_eq!((report["outcomes"]["indexed"].clone(), gated(&cli)), (json!(1), "indexed"));
    let row = &cli.rows()["a/gated"];
    assert_eq!((row.gated.as_str(), &row.reason), ("manual", &None));
}

#[test]
fn a_changed_repository_replaces_its_row() {
    let mut models = mixed();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(1, &[]);
    let before = cli.rows();

    write(&models.folder("a/good-1").join("model.safetensors"), tiny(77));
    write(&models.folder("a/truncated").join("model.safetensors"), tiny(12));
    models.add_tiny("a/new", 78);
    hub.rescan();
    let report = cli.crawl(0, &[]);
    let after = cli.rows();
    assert_adds_up(&report, &after);
    assert_eq!(report["unchanged"], 7, "{report}");
    assert_eq!(report["outcomes"], json!({"indexed": 3}));
    assert_eq!(after.len(), before.len() + 1);
    assert_ne!(after["a/good-1"].sha, before["a/good-1"].sha);
    assert_ne!(after["a/good-1"].sample_digest, before["a/good-1"].sample_digest);
    assert_eq!(after["a/truncated"].outcome.name(), "indexed");
    assert_eq!(after["a/good-2"], before["a/good-2"], "the others keep their rows");
}

#[test]
fn accepted_outcomes_are_no_failures() {
    let models = mixed();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    let pipeline = |accept: &str| {
        write(&file, format!("[database]\npath = 'db'\n[enumerate]\n[write]\naccept = {accept}\n"));
        file.display().to_string()
    };
    cli.expect(1, &["run", &pipeline("[]")]);
    std::fs::remove_dir_all(cli.db()).unwrap();
    cli.expect(0, &["run", &pipeline("['malformed']")]);
}

const MODELS: u64 = 10;

/// Models to be crawled one after the other, two a shard, so that a crawl can be stopped between them.
struct Slow {
    models: Models,
    cli: Cli,
    pipeline: String,
    hub: Hub,
}

impl Slow {
    fn new() -> Self {
        let mut models = Models::new();
        for i in 0..MODELS {
            models.add_tiny(&format!("a/model-{i:02}"), i);
        }
        let hub = Hub::serve(models.path(), &["line.latency_ms=40"]);
        let cli = Cli::new(hub.url());
        let path = cli.home().join("p.toml");
        let text = "[database]\npath = 'db'\n[enumerate]\n[fetch]\nrepos_in_flight = 1\n[write]\nrows_per_shard = 2\n";
        write(&path, text);
        Self { models, cli, pipeline: path.display().to_string(), hub }
    }

    fn start(&self) -> Child {
        let mut command = self.cli.command(&["run", "--json", &self.pipeline]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What a crawl without incident leaves.
    fn reference(&self) -> BTreeMap<String, Row> {
        let hub = Hub::serve(self.models.path(), &[]);
        let cli = Cli::new(hub.url());
        assert_eq!(cli.crawl(0, &[])["outcomes"]["indexed"], MODELS);
        comparable(cli.rows())
    }

    /// Runs the pipeline again on a Hub without delays, to its end.
    fn go_on(self) -> (Value, BTreeMap<String, Row>) {
        let hub = Hub::serve(self.models.path(), &[]);
        let cli = self.cli.with("HF_ENDPOINT", hub.url());
        let report = cli.expect(0, &["run", "--json", &self.pipeline]).json()["crawl"].clone();
        (report, comparable(cli.rows()))
    }
}

fn shards(db: &Path) -> usize {
    Database::open(db).map_or(0, |db| db.manifest().shards.len())
}

#[test]
fn a_killed_crawl_goes_on_and_ends_like_one_that_was_not() {
    let reference = Slow::new().reference();
    for kill_at in [0, 1, 3] {
        let slow = Slow::new();
        let mut child = slow.start();
        wait_until(&mut child, || slow.hub.counters().cdn_requests > 0 && shards(&slow.cli.db()) >= kill_at);
        child.kill().unwrap();
        assert_eq!(child.wait_with_output().unwrap().status.code(), None, "killed, not ended");

        let kept = comparable(rows(&slow.cli.db()));
        assert!(kept.len() >= 2 * kill_at && kept.len() < reference.len(), "{} rows", kept.len());
        assert!(kept.iter().all(|(name, row)| reference[name] == *row), "what is there is right");
        let (report, ended) = slow.go_on();
        assert_eq!(report["unchanged"], kept.len(), "nothing is read twice");
        assert_eq!(ended, reference);
    }
}

#[test]
fn an_interrupted_crawl_finishes_what_it_began() {
    for signal in ["-TERM", "-INT"] {
        let slow = Slow::new();
        let mut child = slow.start();
        wait_until(&mut child, || shards(&slow.cli.db()) >= 1);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("stopping"), "{stderr}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["crawl"]["interrupted"], true);

        let kept = rows(&slow.cli.db());
        assert_adds_up(&report["crawl"], &kept);
        assert_eq!(report["crawl"]["models"], MODELS);
        assert_eq!(report["crawl"]["waiting"], MODELS - kept.len() as u64);
        assert!(kept.len() < MODELS as usize);
        assert_eq!(slow.cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json()["models"], kept.len());
        let (report, ended) = slow.go_on();
        assert_eq!(report["unchanged"], kept.len());
        assert_eq!(ended.len(), MODELS as usize);
    }
}
