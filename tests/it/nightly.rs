//! The crawl night after night: what is new, what has gone, what waits, and what no accident may change.

#![allow(clippy::print_stdout, reason = "the long test says what it did")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hubprint::store::{Database, Partition, Row, Task};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::{
    Cli, Hub, Models, assert_adds_up, comparable, files_below, read, send, tiny, wait_until, write,
};

/// One model that the Hub makes many of.
fn template() -> Models {
    let mut models = Models::new();
    models.add_tiny("zoo/template", 7);
    models
}

fn serve(models: &Models, repos: usize, more: &[&str]) -> Hub {
    let repos = format!("made_up.repos={repos}");
    let all = [&[repos.as_str(), "made_up.template=zoo/template"], more].concat();
    Hub::serve(models.path(), &all)
}

fn by_id(rows: BTreeMap<String, Row>) -> BTreeMap<String, Row> {
    rows.into_values().map(|row| (row.hub_id.clone(), row)).collect()
}

/// Rows without what depends on the way to them: the time, and the bytes that were read for them.
fn content(rows: BTreeMap<String, Row>) -> BTreeMap<String, Row> {
    let mut rows = comparable(by_id(rows));
    for row in rows.values_mut() {
        row.bytes_fetched = 0;
    }
    rows
}

#[test]
fn a_night_without_news_reads_the_list_only_and_one_with_news_what_is_new() {
    let models = template();
    let (first, cli) = {
        let hub = serve(&models, 300, &["page_limit=100"]);
        let cli = Cli::new(hub.url());
        let report = cli.crawl(0, &[]);
        assert_eq!(report["outcomes"], json!({"indexed": 301}));
        let first = by_id(cli.rows());
        let before = hub.counters();
        let second = cli.crawl(0, &[]);
        let after = hub.counters();
        assert_eq!((&second["unchanged"], &second["rows_written"]), (&json!(301), &json!(0)));
        assert_eq!(after.requests.api - before.requests.api, 4, "four pages of the list");
        assert_eq!(
            (after.requests.resolvers, after.cdn_requests),
            (before.requests.resolvers, before.cdn_requests)
        );
        assert_eq!(by_id(cli.rows()), first);
        (first, cli)
    };

    let news = ["page_limit=100", "made_up.changed=0.1", "made_up.gone=0.02", "made_up.renamed=0.04"];
    let hub = serve(&models, 300, &news);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let report = cli.crawl(0, &[]);
    let rows = cli.rows();
    assert_adds_up(&report, &rows);
    let rows = by_id(rows);
    assert_eq!(rows.len(), 301, "nothing is lost");
    let number = |key: &str| report[key].as_u64().unwrap();
    let (changed, renamed) =
        (report["listed"]["changed"].as_u64().unwrap(), report["listed"]["renamed"].as_u64().unwrap());
    assert!(changed > 10 && renamed > 2 && number("gone") > 0, "{report}");
    let with = |what: &dyn Fn(&Row, &Row) -> bool| {
        rows.iter().filter(|(id, row)| what(row, &first[*id])).count() as u64
    };
    assert_eq!(with(&|now, then| now.sha != then.sha), changed);
    assert_eq!(with(&|now, _| now.gone_at.is_some()), number("gone"));
    assert_eq!(with(&|now, then| now.repo_id != then.repo_id && now.sha == then.sha), renamed);
    assert!(rows.values().all(|row| row.fingerprint.is_some()), "what has gone keeps its fingerprint");
    // In proportion: three pages, and for each changed repository what each took the first time.
    let counters = hub.counters();
    assert_eq!((counters.requests.api, counters.requests.resolvers), (3, changed));

    // Back again, as it was.
    let hub = serve(&models, 300, &["made_up.changed=0.1", "made_up.renamed=0.04"]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let again = cli.crawl(0, &[]);
    let back = |key: &str| again["listed"][key].as_u64().unwrap();
    assert_eq!(
        back("returned") + back("changed"),
        number("gone"),
        "some came back with another commit: {again}"
    );
    assert_eq!(hub.counters().requests.resolvers, back("changed"));
    assert!(cli.rows().values().all(|row| row.gone_at.is_none()));
}

#[test]
fn one_in_a_hundred_changed_costs_a_hundredth() {
    let models = template();
    let hub = serve(&models, 500, &["page_limit=100"]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let first = hub.counters();
    let hub = serve(&models, 500, &["page_limit=100", "made_up.changed=0.01"]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let report = cli.crawl(0, &[]);
    let night = hub.counters();
    let changed = report["listed"]["changed"].as_f64().unwrap();
    assert!((2.0..=12.0).contains(&changed), "{report}");
    assert_eq!(night.requests.api, 6, "the pages of the list");
    let in_proportion = |now: u64, then: u64| {
        let expected = then as f64 * changed / 501.0;
        assert!((now as f64 / expected - 1.0).abs() < 0.1, "{now}, of {then} at first");
    };
    in_proportion(night.requests.resolvers, first.requests.resolvers);
    in_proportion(night.cdn_requests, first.cdn_requests);
    in_proportion(night.bytes_sent, first.bytes_sent);
}

#[test]
fn a_database_that_is_looked_after_does_not_grow_without_bound() {
    let models = template();
    let mut cli: Option<Cli> = None;
    let mut shards = Vec::new();
    for night in 1..=8 {
        let hub = serve(&models, 10 * night, &[]);
        let this = cli.take().unwrap_or_else(|| Cli::new(hub.url())).with("HF_ENDPOINT", hub.url());
        let file = this.home().join("p.toml");
        let maintenance =
            "rows_per_shard = 60\ncompact_from = 4\nyounger = '0s'\nsnapshots = 1\nreports = 3\n";
        let stages = "[enumerate]\n[write]\nrows_per_shard = 8\n[index]\n";
        write(&file, format!("[database]\npath = 'db'\n{stages}[maintenance]\n{maintenance}"));
        let done = this.expect(0, &["run", "--json", &file.display().to_string()]).json();
        assert!(done["maintenance"]["vacuum"]["snapshots"] == 1, "{done}");
        let db = Database::open(&this.db()).unwrap();
        assert_eq!((db.manifest().rows(), db.manifest().shards_not_indexed()), (10 * night as u64 + 1, 0));
        shards.push(db.manifest().shards.len());
        let reports = files_below(&this.db().join("reports"));
        assert_eq!(reports.len(), 2 * night.min(3));
        let mut named: Vec<_> = db.manifest().files().map(|entry| this.db().join(&entry.file)).collect();
        let folders = ["shards", "index", "waiting"].map(|folder| this.db().join(folder));
        let mut there: Vec<_> = folders.iter().filter(|f| f.exists()).flat_map(|f| files_below(f)).collect();
        named.sort();
        there.sort();
        assert_eq!(there, named, "nothing that no snapshot names");
        cli = Some(this);
    }
    assert!(shards.iter().all(|n| *n <= 6), "{shards:?}");
    cli.unwrap().expect(0, &["db", "verify", "--db", "DB"]);
}

#[test]
fn what_an_older_version_could_not_read_is_tried_again() {
    let mut models = Models::new();
    models.add_tiny("a/good", 1);
    models.add("a/pickled", &[("pytorch_model.bin", b"x")]);
    models.add("a/broken", &[("model.safetensors", b"no header")]);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let outcomes = json!({"indexed": 1, "malformed": 1, "unsupported": 1});
    assert_eq!(cli.crawl(1, &[])["outcomes"], outcomes);
    assert_eq!(cli.crawl(0, &[])["listed"]["unchanged"], 3);
    // As a version would leave it that read less.
    let mut manifest: Value = serde_json::from_slice(&read(&cli.manifest())).unwrap();
    manifest["reads"] = json!({"version": 0, "since": 0});
    write(&cli.manifest(), manifest.to_string());
    let forecast = cli.expect(0, &["crawl", "--db", "DB", "--dry-run", "--json"]).json();
    assert_eq!((&forecast["listed"]["again"], &forecast["listed"]["unchanged"]), (&json!(2), &json!(1)));
    let report = cli.crawl(1, &[]);
    assert_eq!((&report["listed"]["again"], &report["listed"]["unchanged"]), (&json!(2), &json!(1)));
    assert_adds_up(&report, &cli.rows());
    assert_eq!(cli.crawl(0, &[])["listed"]["unchanged"], 3, "once");
}

#[test]
fn a_killed_crawl_does_not_forget_since_when_something_waits() {
    let models = template();
    let hub = serve(&models, 30, &["line.latency_ms=20"]);
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\n[write]\nrows_per_shard = 2\n");
    let mut child = start(&cli, &["run", &file.display().to_string()]);
    wait_until(&mut child, || Database::open(&cli.db()).is_ok_and(|db| db.manifest().shards.len() > 1));
    child.kill().unwrap();
    child.wait().unwrap();
    let waiting = || Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
    let first = waiting();
    assert_eq!(first.len(), 31, "all that was due");
    let read = cli.rows().len();
    let status = cli.expect(0, &["status", "--db", "DB", "--json"]).json();
    assert_eq!(status["waiting"].as_u64().unwrap() as usize, 31 - read, "what was read waits no more");
    // What is not listed this time waits on, but for what was read.
    let hub = serve(&models, 30, &[]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let named = cli.rows().into_keys().next().unwrap();
    let report = cli.crawl(0, &["--repo", &named]);
    assert_eq!(report["waiting_unlisted"].as_u64().unwrap() as usize, 31 - read);
    let report = cli.crawl(0, &["--max-requests", "8"]);
    assert_adds_up(&report, &cli.rows());
    let second = Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
    assert!(!second.is_empty() && second.len() < first.len());
    assert!(second.iter().all(|left| first.contains(left)), "since then");
}

#[test]
fn a_list_that_has_lost_too_much_is_not_believed() {
    let models = template();
    let hub = serve(&models, 60, &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    drop(hub);
    let hub = serve(&models, 60, &["made_up.gone=0.5"]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let ended = cli.expect(1, &["crawl", "--db", "DB", "--json"]);
    ended.says(&["warning:", "are not listed"]);
    assert_eq!(ended.json()["gone"], 0);
    assert!(cli.rows().values().all(|row| row.gone_at.is_none()));
}

#[test]
fn content_that_is_known_is_not_read_again() {
    let mut models = Models::new();
    models.add_tiny("a/original", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let before = hub.counters().cdn_requests;
    // The same weights in another repository, and under a new commit of the first.
    models.add_tiny("b/copy", 1);
    write(&models.folder("a/original").join("README.md"), "# new words");
    hub.rescan();
    let report = cli.crawl(0, &[]);
    assert_eq!((&report["known_contents"], &report["outcomes"]), (&json!(2), &json!({"indexed": 2})));
    assert_eq!(hub.counters().cdn_requests, before);
    let rows = cli.rows();
    let (original, copy) = (&rows["a/original"], &rows["b/copy"]);
    assert_eq!((&original.fingerprint, &original.profile), (&copy.fingerprint, &copy.profile));
    assert!(copy.fingerprint.is_some() && copy.weights_digest == original.weights_digest);

    // The row is the one that reading it would have given.
    let fresh = Cli::new(hub.url());
    fresh.crawl(0, &["--repo", "b/copy"]);
    let bytes_fetched = copy.bytes_fetched;
    let read = Row { crawled_at: copy.crawled_at, bytes_fetched, ..fresh.rows()["b/copy"].clone() };
    assert_eq!(read, *copy);
}

#[test]
fn of_copies_that_are_new_in_one_night_one_is_read() {
    let mut models = Models::new();
    let copies = ["a/one", "b/two", "c/three", "d/four"];
    for id in copies {
        models.add_tiny(id, 1);
    }
    models.add_tiny("e/other", 2);
    let hub = Hub::serve(models.path(), &[]);
    let alone = Cli::new(hub.url());
    for id in copies {
        alone.crawl(0, &["--repo", id, "--repo", "e/other"]);
        std::fs::rename(alone.db(), alone.home().join(id.replace('/', "-"))).unwrap();
    }
    let read = hub.counters().cdn_requests / 4;
    // Taken from a row that the writer still holds, and from one in the database.
    for rows_per_shard in [100, 1] {
        let hub = Hub::serve(models.path(), &["line.latency_ms=5"]);
        let cli = Cli::new(hub.url());
        let file = cli.home().join("p.toml");
        let rows = format!("rows_per_shard = {rows_per_shard}");
        write(&file, format!("[database]\npath = 'db'\n[enumerate]\n[write]\n{rows}\n"));
        let report = cli.expect(0, &["run", "--json", &file.display().to_string()]).json()["crawl"].clone();
        assert_eq!((&report["known_contents"], &report["outcomes"]), (&json!(3), &json!({"indexed": 5})));
        assert_adds_up(&report, &cli.rows());
        assert_eq!(hub.counters().cdn_requests, read, "one of four, and the other model");
        let found = content(cli.rows());
        for id in copies {
            let expected = content(crate::support::rows(&alone.home().join(id.replace('/', "-"))));
            assert!(expected.iter().all(|(hub_id, row)| found[hub_id] == *row), "{id}");
        }
    }
}

/// A night among random faults. Its exit code says whether it ended with failures: a request may meet six faults in a
/// row, and the next night tries that model again.
fn crawl_among_faults(cli: &Cli, args: &[&str]) -> Value {
    let ended = cli.run(&[&["crawl", "--db", "DB", "--json"], args].concat());
    let report = ended.json();
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(ended.code, Some(i32::from(!failures.is_empty())), "{report}");
    assert!(failures.iter().all(|failure| failure["outcome"] == "unreachable"), "{report}");
    report
}

#[test]
fn a_budget_holds_whatever_goes_wrong() {
    let models = template();
    let faults = ["faults.error_5xx=0.2", "faults.truncate=0.1", "faults.expire=0.05", "page_limit=8"];
    let hub = serve(&models, 40, &faults);
    let cli = Cli::new(hub.url());
    // Not even the list: six pages, and those that fail.
    let report = cli.crawl(0, &["--max-requests", "3"]);
    assert_eq!((&report["spent"], &report["sweep_complete"]), (&json!("max_requests"), &json!(false)));
    assert_eq!(hub.counters().requests.api, 3);
    let mut nights = 0;
    let mut before = hub.counters();
    loop {
        nights += 1;
        let report = crawl_among_faults(&cli, &["--max-requests", "25"]);
        assert_adds_up(&report, &cli.rows());
        let after = hub.counters();
        let sent =
            |c: &hubprint::local_hub::Counters| c.requests.api + c.requests.resolvers + c.requests.pages;
        assert!(sent(&after) - sent(&before) <= 25, "{} in night {nights}", sent(&after) - sent(&before));
        before = after;
        if report["spent"].is_null() && report["failures"] == json!([]) {
            break;
        }
        assert!(nights < 30, "{report}");
    }
    assert!(nights > 2);
    assert_eq!(cli.rows().len(), 41);
    assert!(cli.rows().values().all(|row| row.fingerprint.is_some()));
}

#[test]
fn bytes_are_counted_before_they_are_asked_for() {
    let models = template();
    let hub = serve(&models, 40, &["faults.truncate=0.3", "faults.seed=3"]);
    let cli = Cli::new(hub.url());
    let mut nights = 0;
    let mut before = hub.counters().bytes_sent;
    loop {
        nights += 1;
        let report = crawl_among_faults(&cli, &["--max-bytes", "4000000"]);
        assert_adds_up(&report, &cli.rows());
        assert!(report["bytes_received"].as_u64().unwrap() <= 4_000_000, "{report}");
        let sent = hub.counters().bytes_sent;
        assert!(sent - before <= 4_000_000, "{} in night {nights}", sent - before);
        before = sent;
        if report["spent"].is_null() && report["failures"] == json!([]) {
            break;
        }
        assert!(report["spent"].is_null() || report["spent"] == "max_bytes", "{report}");
        assert!(nights < 40, "{report}");
    }
    assert!(nights > 2);
    assert_eq!(cli.rows().len(), 41);
}

#[test]
fn a_deadline_does_not_wait_for_a_rate_limit() {
    let models = template();
    // Of the list.
    let hub = serve(&models, 50, &["page_limit=10", "limits.api=3", "limits.window_seconds=300"]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &["--deadline", "2s"]);
    assert_eq!((&report["spent"], &report["sweep_complete"]), (&json!("deadline"), &json!(false)));
    // Of the files.
    let hub = serve(&models, 50, &["limits.resolvers=10", "limits.window_seconds=300"]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &["--deadline", "2s"]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!(report["spent"], "deadline");
    assert!(report["waiting"].as_u64().unwrap() >= 40, "{report}");
}

#[test]
fn private_repositories_are_read_only_when_asked_for() {
    const TOKEN: &str = "hf_OfTheOwner";
    let mut models = Models::new();
    models.add_tiny("a/public", 1);
    models.add_tiny("a/secret", 2);
    models.describe("a/secret", &json!({"private": true}));
    let granted = format!("tokens.{TOKEN}=[\"*\"]");
    let hub = Hub::serve(models.path(), &[&granted]);
    let cli = Cli::new(hub.url()).with("HF_TOKEN", TOKEN);
    let report = cli.crawl(0, &[]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!((&report["filtered"], &report["listed"]["private"]), (&json!(1), &json!(1)));
    assert_eq!(cli.rows().into_keys().collect::<Vec<_>>(), ["a/public"]);
    // By name, or all of them.
    let report = cli.crawl(0, &["--repo", "a/secret"]);
    assert_eq!(report["outcomes"], json!({"indexed": 1}));
    let other = Cli::new(hub.url()).with("HF_TOKEN", TOKEN);
    assert_eq!(other.crawl(0, &["--private"])["outcomes"], json!({"indexed": 2}));
    // One that was public goes, as for everybody else; and comes back.
    let third = Cli::new(hub.url()).with("HF_TOKEN", TOKEN);
    third.crawl(0, &[]);
    models.describe("a/public", &json!({"private": true}));
    hub.rescan();
    let report = third.crawl(0, &[]);
    assert_adds_up(&report, &third.rows());
    assert_eq!((&report["gone"], &report["listed"]["private"]), (&json!(1), &json!(2)));
    assert!(third.rows()["a/public"].gone_at.is_some());
    models.describe("a/public", &json!({"private": false}));
    hub.rescan();
    assert_eq!(third.crawl(0, &[])["listed"]["returned"], 1);
    assert!(third.rows()["a/public"].gone_at.is_none());
}

#[test]
fn filters_work_in_a_file_and_as_flags() {
    let mut models = Models::new();
    for (i, (id, facts)) in [
        (
            "a/first",
            json!({"library_name": "transformers", "pipeline_tag": "text-generation", "downloads": 5}),
        ),
        ("a/second", json!({"library_name": "diffusers", "downloads": 500, "tags": ["license:mit"]})),
        ("b/third", json!({"library_name": "transformers", "pipeline_tag": "fill-mask", "downloads": 50})),
    ]
    .into_iter()
    .enumerate()
    {
        models.add_tiny(id, i as u64);
        models.describe(id, &facts);
    }
    models.add("b/pickled", &[("pytorch_model.bin", b"x")]);
    let hub = Hub::serve(models.path(), &[]);
    let all = ["a/first", "a/second", "b/pickled", "b/third"];
    for (key, flags, expected) in [
        ("library = 'transformers'", &["--library", "transformers"][..], &["a/first", "b/third"][..]),
        ("pipeline_tag = 'fill-mask'", &["--pipeline-tag", "fill-mask"], &["b/third"]),
        ("author = 'a'", &["--author", "a"], &["a/first", "a/second"]),
        ("filters = ['license:mit']", &["--filter", "license:mit"], &["a/second"]),
        ("formats = ['safetensors']", &["--format", "safetensors"], &["a/first", "a/second", "b/third"]),
        ("min_downloads = 50", &["--min-downloads", "50"], &["a/second", "b/third"]),
        // What the Hub does not say excludes nothing.
        ("min_parameters = 1_000_000_000", &["--min-parameters", "1000000000"], &["b/pickled"]),
        ("max_parameters = 1_000_000_000", &["--max-parameters", "1000000000"], &all),
        ("exclude = ['a/first']", &["--exclude", "a/first"], &all[1..]),
        ("repos = ['a/first']", &["--repo", "a/first"], &["a/first"]),
        ("order = 'newest'", &["--order", "newest"], &all),
    ] {
        let names = |cli: &Cli| cli.rows().into_keys().collect::<Vec<_>>();
        let cli = Cli::new(hub.url());
        cli.crawl(0, flags);
        assert_eq!(names(&cli), expected, "{flags:?}");
        let cli = Cli::new(hub.url());
        let file = cli.home().join("p.toml");
        write(&file, format!("[database]\npath = 'db'\n[enumerate]\n{key}\n"));
        cli.expect(0, &["run", &file.display().to_string()]);
        assert_eq!(names(&cli), expected, "{key}");
    }
    // What comes first, where there is room for one.
    for (order, first) in [("downloads", "a/second"), ("newest", "b/pickled"), ("oldest", "a/first")] {
        let cli = Cli::new(hub.url());
        cli.crawl(0, &["--order", order, "--max-requests", "3"]);
        assert!(cli.rows().contains_key(first), "{order}: {:?}", cli.rows().keys());
        assert!(cli.rows().len() < 3);
    }
}

#[test]
fn json_logs_are_json_and_nothing_else() {
    let models = template();
    let hub = serve(&models, 12, &[&FAULTS[..], &["made_up.gone=0.5"]].concat());
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    write(
        &file,
        "[database]\npath = 'db'\n[enumerate]\n[index]\n[scan]\nmodels = ['zoo/template', 'no/such']\n",
    );
    let file = file.display().to_string();
    let (nobody, mut lines) = (crate::support::nobody(), 0);
    for (code, args) in [
        (1, &["-vv", "run", &file][..]),
        (0, &["crawl", "--db", "DB"]),
        (0, &["index", "--db", "DB", "--rebuild"]),
        (75, &["crawl", "--db", "DB", "--hub", &nobody]),
        (2, &["status", "--db", "nowhere"]),
        (2, &["run", "no-such-file.toml"]),
    ] {
        let ended = cli.expect(code, &[&["--log-format", "json"], args].concat());
        for line in ended.stderr.lines() {
            let said: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{args:?}: {e}: {line}"));
            assert!(said["level"].is_string() && said["timestamp"].is_string(), "{line}");
            assert!(said["fields"]["message"].is_string(), "{line}");
            lines += 1;
        }
        if code > 1 {
            let last: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
            assert_eq!(last["level"], "ERROR", "{last}");
        }
    }
    assert!(lines >= 8, "{lines} lines");
}

#[test]
fn what_the_budget_leaves_comes_first_the_next_night() {
    let models = template();
    let hub = serve(&models, 40, &[]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &["--max-requests", "20"]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!(report["spent"], "max_requests");
    let sent = hub.counters().requests;
    assert!(sent.api + sent.resolvers <= 20, "{sent:?}");
    let first = by_id(cli.rows());
    assert!((15..=19).contains(&first.len()), "{} repositories at one request each", first.len());
    let waiting = Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
    assert_eq!(waiting.len() + first.len(), 41);
    let least = first.values().filter_map(|row| row.downloads).min().unwrap();

    // Others have appeared, more used ones among them; those that waited come first all the same.
    let hub = serve(&models, 60, &[]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let report = cli.crawl(0, &["--max-requests", "15"]);
    assert_adds_up(&report, &cli.rows());
    let second = by_id(cli.rows());
    let read: Vec<&Row> = second.values().filter(|row| !first.contains_key(&row.hub_id)).collect();
    assert!((10..=14).contains(&read.len()), "{} repositories", read.len());
    assert!(read.iter().all(|row| waiting.iter().any(|w| w.hub_id == row.hub_id)));
    assert!(read.iter().all(|row| row.downloads.is_none_or(|n| n <= least)), "the most used ones went first");
    let still = Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
    assert_eq!(still.len() + second.len(), 61);
    assert!(still.iter().all(|s| waiting.iter().all(|w| w.hub_id != s.hub_id || w.since == s.since)));
    cli.crawl(0, &[]);
    assert_eq!(cli.rows().len(), 61);
    let status = cli.expect(0, &["status", "--db", "DB", "--json"]).json();
    assert_eq!((&status["waiting"], status["runs"].as_array().unwrap().len()), (&json!(0), 3));
    cli.expect(0, &["status", "--db", "DB"]);
    // Time is a budget, too.
    let late = Cli::new(hub.url());
    let report = late.crawl(0, &["--deadline", "0s"]);
    assert_eq!((&report["spent"], &report["sweep_complete"]), (&json!("deadline"), &json!(false)));
    assert!(late.rows().is_empty());
}

#[test]
fn a_crawl_of_a_part_leaves_the_rest_as_it_was() {
    let models = template();
    let hub = serve(&models, 20, &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &["--max-requests", "10"]);
    let waiting = Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
    assert!(waiting.len() > 5);
    let (named, excluded) = (&waiting[0].repo_id, &waiting[1].repo_id);
    let report = cli.crawl(0, &["--repo", named, "--repo", named, "--exclude", excluded, "--repo", excluded]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!((&report["outcomes"], &report["filtered"]), (&json!({"indexed": 1}), &json!(1)));
    assert_eq!(report["waiting_unlisted"], waiting.len() as u64 - 2);
    let left = Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
    assert_eq!(left, waiting[2..], "they wait on, and since then");
    assert_eq!(cli.expect(0, &["status", "--db", "DB", "--json"]).json()["runs"][0]["whole_hub"], false);
    // What is left out is not gone.
    cli.crawl(0, &[]);
    let report = cli.crawl(0, &["--exclude", named]);
    assert_eq!((&report["gone"], &report["whole_hub"]), (&json!(0), &json!(true)));
    assert!(cli.rows().values().all(|row| row.gone_at.is_none()));
}

#[test]
fn what_cannot_be_read_again_keeps_its_fingerprint() {
    let mut models = Models::new();
    models.add_tiny("a/closed", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let before = cli.rows();
    write(&models.folder("a/closed").join("model.safetensors"), tiny(2));
    models.describe("a/closed", &json!({"gated": "manual"}));
    hub.rescan();
    for args in [&[][..], &["--repo", "a/closed"]] {
        let report = cli.crawl(i32::from(!args.is_empty()), args);
        assert_eq!((&report["outcomes"], &report["rows_kept"]), (&json!({"gated": 1}), &json!(1)));
        assert_adds_up(&report, &cli.rows());
        assert_eq!(cli.rows(), before);
    }
}

#[test]
fn a_clock_that_was_ahead_hides_nothing_that_comes_later() {
    let mut models = Models::new();
    models.add_tiny("a/model", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let row = cli.rows().remove("a/model").unwrap();
    let ahead = Row { crawled_at: row.crawled_at + 365 * 86_400_000, ..row };
    let mut db = Database::open_to_write(&cli.db(), Task::CRAWL).unwrap();
    db.append(std::slice::from_ref(&ahead)).unwrap();
    drop(db);
    write(&models.folder("a/model").join("model.safetensors"), tiny(2));
    hub.rescan();
    cli.crawl(0, &[]);
    let now = cli.rows().remove("a/model").unwrap();
    assert_ne!((&now.sha, &now.sample_digest), (&ahead.sha, &ahead.sample_digest));
    assert_eq!(cli.crawl(0, &[])["unchanged"], 1);
}

#[test]
fn asked_to_stop_it_does_not_wait_for_a_rate_limit() {
    let models = template();
    let hub = serve(&models, 50, &["page_limit=10", "limits.api=3", "limits.window_seconds=300"]);
    let cli = Cli::new(hub.url());
    let mut child = start(&cli, &["crawl", "--db", "DB", "--json"]);
    wait_until(&mut child, || hub.counters().requests.api >= 2);
    std::thread::sleep(Duration::from_millis(500));
    send(&child, "-TERM");
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(28), "{:?}", asked.elapsed());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["interrupted"]), (Some(1), &json!(true)));
    assert_adds_up(&report, &cli.rows());
}

#[test]
fn only_what_is_wanted_is_read_and_the_rest_is_counted() {
    let mut models = Models::new();
    for (i, downloads) in [5, 500, 50].into_iter().enumerate() {
        let id = format!("a/model-{i}");
        models.add_tiny(&id, i as u64);
        models.describe(&id, &json!({"downloads": downloads}));
    }
    models.add("a/pickled", &[("pytorch_model.bin", b"x")]);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\nformats = ['safetensors']\nmin_downloads = 40\n");
    let report = cli.expect(0, &["run", "--json", &file.display().to_string()]).json()["crawl"].clone();
    assert_eq!((&report["filtered"], &report["outcomes"]), (&json!(2), &json!({"indexed": 2})));
    assert_adds_up(&report, &cli.rows());
    assert_eq!(cli.rows().into_keys().collect::<Vec<_>>(), ["a/model-1", "a/model-2"]);
}

#[test]
fn a_second_writer_is_refused_and_a_dead_one_is_not() {
    let models = template();
    let hub = serve(&models, 30, &["line.latency_ms=30"]);
    let cli = Cli::new(hub.url());
    let mut first = start(&cli, &["crawl", "--db", "DB"]);
    wait_until(&mut first, || is_made(&cli.db()));
    cli.expect(75, &["crawl", "--db", "DB"]).says(&["is being written by process", "hint:"]);
    cli.expect(75, &["crawl", "--db", "DB", "--partition", "1/2"]);
    cli.expect(75, &["db", "vacuum", "--db", "DB"]);
    // Building adds, as crawling does.
    cli.expect(0, &["index", "--db", "DB"]);
    first.kill().unwrap();
    first.wait().unwrap();
    cli.crawl(0, &[]);
    assert_eq!(cli.rows().len(), 31);
}

fn start(cli: &Cli, args: &[&str]) -> Child {
    cli.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A Hub on which everything goes wrong now and then.
const FAULTS: [&str; 5] = [
    "faults.error_5xx=0.02",
    "faults.truncate=0.03",
    "faults.too_many=0.005",
    "faults.expire=0.01",
    "faults.ignore_range=0.005",
];

#[test]
fn killed_at_random_it_ends_like_one_that_was_not() {
    kill(60, 10);
}

/// The same at full length: `cargo test --test it a_hundred_times -- --ignored --nocapture`.
#[test]
#[ignore = "takes some minutes"]
fn killed_a_hundred_times_it_ends_like_one_that_was_not() {
    kill(500, 100);
}

/// Kills a crawl of so many repositories so many times, each at a random moment of its reading, on a Hub with faults.
fn kill(repos: usize, times: usize) {
    let models = template();
    let reference = {
        let hub = serve(&models, repos, &["made_up.duplicates=0.2"]);
        let cli = Cli::new(hub.url());
        cli.crawl(0, &[]);
        content(cli.rows())
    };
    let hub =
        serve(&models, repos, &[&FAULTS[..], &["made_up.duplicates=0.2", "line.latency_ms=3"]].concat());
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\n[write]\nrows_per_shard = 3\n");
    let file = file.display().to_string();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut killed = 0;
    let mut runs = 0;
    let mut left = repos + 1;
    while killed < times && left > 0 {
        runs += 1;
        let mut child = start(&cli, &["run", &file]);
        // Counted in requests, so that a slow machine kills no sooner, and then a moment.
        let target = hub.counters().requests.resolvers + rng.random_range(0..12);
        while hub.counters().requests.resolvers < target && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..40)));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal().is_some());
        if is_made(&cli.db()) {
            let rows = content(cli.rows());
            left = repos + 1 - rows.len();
            for (id, row) in rows {
                assert_eq!(
                    (&row.reason, row.outcome),
                    (&reference[&id].reason, reference[&id].outcome),
                    "{id}"
                );
                assert_eq!(reference[&id], row, "what is there is right");
            }
        }
    }
    assert_eq!(killed, times, "of {runs} runs, before everything was read");
    cli.expect(0, &["run", &file]);
    assert_eq!(content(cli.rows()), reference);
    let db = Database::open(&cli.db()).unwrap();
    let written: u64 = db.manifest().shards.iter().map(|s| s.rows).sum();
    assert_eq!(written, repos as u64 + 1, "no row is there twice");
    assert_eq!(db.verify(&|_, _| {}).unwrap(), written);
    println!(
        "{killed} of {runs} runs killed, {left} of {repos} repositories left to the last; none lost or doubled"
    );
}

/// Whether there is a first commit.
fn is_made(db: &Path) -> bool {
    Database::open(db).is_ok()
}

/// What a crawl is killed at, and how that is seen.
type Step<'a> = (&'a str, Box<dyn Fn(&Path) -> bool + 'a>);

#[test]
fn killed_at_each_durable_step_it_ends_like_one_that_was_not() {
    let models = template();
    let reference = {
        let hub = serve(&models, 12, &[]);
        let cli = Cli::new(hub.url());
        cli.crawl(0, &[]);
        content(cli.rows())
    };
    let names = |folder: &Path| -> Vec<String> {
        let entries =
            std::fs::read_dir(folder).map(|all| all.flatten().collect::<Vec<_>>()).unwrap_or_default();
        entries.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    let shards = |db: &Path| Database::open(db).map_or(0, |db| db.manifest().shards.len());
    let steps: [Step<'_>; 5] = [
        ("the lock", Box::new(|db| db.join("locks/crawl.lock").exists())),
        ("an empty manifest", Box::new(is_made)),
        ("half a shard", Box::new(|db| names(&db.join("shards")).iter().any(|n| n.starts_with(".tmp-")))),
        (
            "a shard that is not listed",
            Box::new(|db| {
                names(&db.join("shards")).iter().filter(|n| n.ends_with("parquet")).count() > shards(db)
            }),
        ),
        ("a shard that is listed", Box::new(|db| shards(db) >= 2)),
    ];
    let mut seen = 0;
    for (what, is_there) in &steps {
        let hub = serve(&models, 12, &["line.latency_ms=2"]);
        let cli = Cli::new(hub.url());
        let file = cli.home().join("p.toml");
        write(&file, "[database]\npath = 'db'\n[enumerate]\n[write]\nrows_per_shard = 2\n");
        let file = file.display().to_string();
        let mut child = start(&cli, &["run", &file]);
        // Some steps last microseconds: one that was missed is no failure, but most must be seen.
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_mins(1) {
            if is_there(&cli.db()) {
                child.kill().unwrap();
                seen += 1;
                break;
            }
        }
        child.wait().unwrap();
        cli.expect(0, &["run", &file]);
        assert_eq!(content(cli.rows()), reference, "killed at {what}");
        let litter = files_below(&cli.db())
            .into_iter()
            .filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(".tmp-"));
        assert_eq!(litter.count(), 0, "killed at {what}");
    }
    assert!(seen >= 4, "only {seen} steps were hit");
}

#[test]
fn a_full_disk_is_an_error_and_the_next_run_goes_on() {
    let models = template();
    let hub = serve(&models, 20, &[]);
    let cli = Cli::new(hub.url());
    // Files above so many KB are refused, as on a full disk: the backlog, then what is written of it.
    let binary = env!("CARGO_BIN_EXE_hubprint");
    let waiting = || Database::open(&cli.db()).map_or(0, |db| db.waiting(Partition::WHOLE).unwrap().len());
    for (kilobytes, left) in [(1, 0), (4, 0), (16, 21)] {
        let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec {binary} crawl --db db");
        let mut limited = std::process::Command::new("bash");
        limited
            .args(["-c", &script])
            .env_clear()
            .env("HF_ENDPOINT", hub.url())
            .env("HOME", cli.home())
            .env("PATH", "/usr/bin:/bin");
        let output = limited.current_dir(cli.home()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{kilobytes}: {stderr}");
        assert!(stderr.contains("free space"), "{kilobytes}: {stderr}");
        assert_eq!((cli.rows().len(), waiting()), (0, left), "{kilobytes}: {stderr}");
    }
    cli.crawl(0, &[]);
    assert_eq!((cli.rows().len(), waiting()), (21, 0));
}

#[test]
fn asked_to_stop_it_gives_work_back_and_ends_in_time() {
    let models = template();
    // Each answer takes so long that nothing under way ends in the grace period.
    let hub = serve(&models, 6, &["line.latency_ms=9000"]);
    let cli = Cli::new(hub.url());
    let mut child = start(&cli, &["crawl", "--db", "DB", "--json"]);
    wait_until(&mut child, || hub.counters().requests.resolvers >= 1);
    send(&child, "-TERM");
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["interrupted"]), (Some(1), &json!(true)));
    let rows = cli.rows();
    assert_adds_up(&report, &rows);
    assert_eq!(report["waiting"].as_u64().unwrap() + rows.len() as u64, 7);
    let hub = serve(&models, 6, &[]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    cli.crawl(0, &[]);
    assert_eq!(cli.rows().len(), 7);
}

#[test]
fn a_dry_run_reads_nothing_and_foresees_the_cost() {
    let models = template();
    let hub = serve(&models, 50, &["limits.resolvers=1000", "limits.api=500", "limits.window_seconds=60"]);
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\n");
    let file = file.display().to_string();
    let forecast = cli.expect(0, &["run", "--dry-run", "--json", &file]).json();
    assert!(!cli.db().exists(), "nothing is written");
    assert_eq!((&forecast["repositories"], &forecast["allowed"]), (&json!(51), &json!([1000, 60.0])));
    let looked = hub.counters();
    assert_eq!((looked.requests.resolvers, looked.cdn_requests), (1, 0));
    let report = cli.crawl(0, &[]);
    let took = report["requests"]["resolvers"].as_f64().unwrap();
    let foreseen = forecast["requests"].as_f64().unwrap();
    assert!((foreseen / took - 1.0).abs() < 0.15, "foreseen {foreseen}, taken {took}");
    // With experience, exactly.
    drop(hub);
    let hub = serve(&models, 150, &[]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let forecast = cli.expect(0, &["crawl", "--db", "DB", "--dry-run", "--json"]).json();
    let report = cli.crawl(0, &[]);
    assert_eq!(forecast["repositories"], 100);
    let took = report["requests"]["resolvers"].as_f64().unwrap();
    assert!((forecast["requests"].as_f64().unwrap() / took - 1.0).abs() < 0.02, "{forecast} {took}");
    cli.expect(0, &["crawl", "--db", "DB", "--dry-run"]);
    // Of a Hub that does not answer there is no plan.
    let cli = cli.with("HF_ENDPOINT", &crate::support::nobody());
    let ended = cli.expect(75, &["crawl", "--db", "DB", "--dry-run"]);
    assert_eq!(ended.stdout, "");
    ended.says(&["error: the listing broke off: unreachable", "hint: is the Hub up?"]);
}

#[test]
fn no_run_tells_its_secrets() {
    const TOKEN: &str = "hf_TopSecretTokenOfThisTest";
    let models = template();
    let granted = format!("tokens.{TOKEN}=[\"*\"]");
    let hub = serve(&models, 12, &[&FAULTS[..], &[granted.as_str()]].concat());
    let cli = Cli::new(hub.url()).with("HF_TOKEN", TOKEN);
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\n[index]\n[scan]\nmodels = ['zoo/template']\n");
    let metrics = cli.home().join("metrics/hubprint.prom").display().to_string();
    let file = file.display().to_string();
    let mut said = String::new();
    // Not only our own lines: those of every library, too.
    let cli = cli.with("RUST_LOG", "trace");
    for args in [
        &["-vv", "run", "--metrics", &metrics, &file][..],
        &["-vv", "--log-format", "json", "run", "--json", &file],
        &["compare", "zoo/template", "no/such"],
        &["compare", "--json", "zoo/template", "zoo/template"],
        &["-vv", "crawl", "--db", "DB", "--repo", "no/such", "--repo", "zoo/template"],
        &["status", "--db", "DB"],
    ] {
        let ended = cli.run(args);
        said += &ended.stdout;
        said += &ended.stderr;
    }
    assert!(said.contains("zoo/template") && said.len() > 1000);
    let signed = ["Signature=", "Policy=", "Key-Pair-Id="];
    let is_clean = |text: &str| {
        let shown = |name: &&str| text.split(*name).skip(1).any(|value| !value.starts_with("***"));
        !text.contains(TOKEN) && !signed.iter().any(shown)
    };
    assert!(is_clean(&said), "{}", said.lines().find(|line| !is_clean(line)).unwrap_or_default());
    let written = files_below(cli.home());
    assert!(written.len() > 8, "{written:?}");
    for path in written {
        assert!(is_clean(&String::from_utf8_lossy(&read(&path))), "{}", path.display());
    }
    let text = String::from_utf8(read(Path::new(&metrics))).unwrap();
    for metric in [
        "hubprint_crawl_repositories{outcome=\"indexed\"}",
        "hubprint_crawl_requests{bucket=\"resolvers\"}",
        "# EOF",
    ] {
        assert!(text.contains(metric), "no {metric} in:\n{text}");
    }
    // Compressed as they are, rows would hide it.
    let rows = cli.rows();
    assert!(rows.values().filter(|row| row.fingerprint.is_some()).count() >= 13);
    for row in rows.values() {
        assert!(is_clean(&format!("{row:?}")), "{}", row.repo_id);
    }
    // To the CDN goes the signed address, and nothing of ours.
    let sent = hub.sent_to_cdn();
    assert!(sent.len() > 20);
    for head in sent {
        let head = head.to_lowercase();
        assert!(!head.contains(&TOKEN.to_lowercase()) && !head.contains("authorization"), "{head}");
        assert!(!head.contains("cookie") && !head.contains("referer"), "{head}");
    }
}
