//! Rows of an older extraction version: what is said of them, and how they are read again as nights go by. And
//! repositories that were deleted and created again.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use hubprint::signals::fingerprint::EXTRACTION_VERSION;
use hubprint::store::{Database, Partition, Row, Task};
use serde_json::{Value, json};

use crate::support::{
    Cli, Hub, Models, assert_adds_up, demo_hub, files_below, read, send, tiny, wait_until, write,
};

/// Makes a database one that version 2 has made: it did not say how much of a model it had read, and its extraction keys
/// were other ones.
fn as_version_2_left_it(folder: &Path) {
    let before = |row: Row| Row {
        extraction_version: 2,
        coverage: None,
        extraction_key: row.extraction_key.map(|key| format!("2{key}")),
        ..row
    };
    let rows: Vec<Row> = crate::support::rows(folder).into_values().map(before).collect();
    std::fs::remove_dir_all(folder).unwrap();
    let mut db = Database::open_or_create(folder, Task::CRAWL).unwrap();
    db.append(&rows).unwrap();
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key}: {report}"))
}

/// The names of the rows with a fingerprint of version 2.
fn outdated(cli: &Cli) -> BTreeSet<String> {
    let rows = cli.rows().into_values();
    rows.filter(|r| r.fingerprint.is_some() && r.extraction_version == 2).map(|r| r.repo_id).collect()
}

fn dry_run(cli: &Cli, args: &[&str]) -> Value {
    cli.expect(0, &[&["crawl", "--db", "DB", "--dry-run", "--json"], args].concat()).json()
}

/// By what is wanted most.
fn rank(row: &Row) -> (u64, u64, &str) {
    (u64::MAX - row.downloads.unwrap_or(0), u64::MAX - row.likes.unwrap_or(0), &row.repo_id)
}

#[test]
fn what_an_older_version_has_read_is_read_again_as_nights_go_by() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(1, &[]);
    let all_current = cli.rows();
    as_version_2_left_it(&cli.db());
    let before = cli.rows();
    let mut left = outdated(&cli);
    let in_all = left.len();
    assert!(in_all > 10);

    // Whoever looks at it is told.
    let status = cli.expect(0, &["status", "--db", "DB", "--json"]).json();
    assert_eq!(
        (&status["outdated"], &status["extraction_versions"]),
        (&json!(in_all), &json!({"2": in_all}))
    );
    let info = cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json();
    assert_eq!((&info["outdated"], &info["extraction_versions"]), (&json!(in_all), &json!({"2": in_all})));
    for command in ["status", "info"] {
        let args = if command == "status" { vec![command] } else { vec!["db", command] };
        let text = cli.expect(0, &[args.as_slice(), &["--db", "DB"]].concat()).stdout;
        assert!(text.contains("of an older version"), "{text}");
    }
    cli.expect(0, &["index", "--db", "DB"]);
    let scan = cli.expect(0, &["scan", "--db", "DB", "--json", left.first().unwrap()]).json();
    assert_eq!(scan["outdated"], scan["searched"]);
    assert_eq!(scan["families"][0]["root"]["extraction_version"], 2);
    assert_eq!(
        scan["known_from"],
        Value::Null,
        "an old row does not stand for what it may have seen in part"
    );
    // And what it costs.
    let foreseen = dry_run(&cli, &["--max-requests", "6"]);
    let of = &foreseen["outdated"];
    assert_eq!((&of["repositories"], &foreseen["listed"]["outdated"]), (&json!(in_all), &json!(in_all)));
    assert!(number(of, "requests") >= in_all as u64 && number(of, "bytes") > 100_000, "{of}");
    assert!(number(of, "read") >= 1 && number(of, "nights") > 2, "{of}");
    let text = cli.expect(0, &["crawl", "--db", "DB", "--dry-run", "--max-requests", "6"]).stdout;
    assert!(text.contains("nights at this budget"), "{text}");

    let mut nights = 0;
    while !left.is_empty() {
        nights += 1;
        assert!(nights < 20, "{left:?}");
        let args = ["crawl", "--db", "DB", "--json", "--max-requests", "12"];
        let report = cli.run(&args).json();
        let rows = cli.rows();
        assert_adds_up(&report, &rows);
        let now = outdated(&cli);
        assert_eq!(number(&report, "outdated") as usize, now.len());
        assert_eq!(number(&report, "reread") as usize, left.len() - now.len());
        assert!(now.len() < left.len(), "every night goes on: {report}");
        let worst_read = left.difference(&now).map(|name| rank(&before[name])).max().unwrap();
        assert!(now.iter().all(|name| rank(&before[name]) > worst_read), "night {nights}: {now:?}");
        let waiting = Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap();
        assert!(waiting.is_empty(), "they are found by their rows: {waiting:?}");
        left = now;
    }
    assert!(nights > 2, "{nights}");
    // As if they had been read today at first.
    let rows = cli.rows();
    for (name, row) in rows.iter().filter(|(_, row)| row.fingerprint.is_some()) {
        assert_eq!(row.extraction_version, EXTRACTION_VERSION, "{name}");
        assert_eq!(row.fingerprint, all_current[name].fingerprint, "{name}");
        assert_eq!(row.extraction_key, all_current[name].extraction_key, "{name}");
    }
    let sent = hub.counters();
    let report = cli.run(&["crawl", "--db", "DB", "--json"]).json();
    assert_eq!((number(&report, "reread"), number(&report, "outdated")), (0, 0));
    assert_eq!(number(&report, "unchanged"), rows.len() as u64);
    assert_eq!(
        (hub.counters().requests.resolvers, hub.counters().cdn_requests),
        (sent.requests.resolvers, sent.cdn_requests)
    );
    assert_eq!(dry_run(&cli, &["--max-requests", "6"])["outdated"]["nights"], 0);
}

#[test]
fn what_is_new_or_changed_is_read_before_what_is_outdated() {
    let mut models = Models::new();
    for (i, id) in ["a/one", "b/two", "c/three", "d/four"].into_iter().enumerate() {
        models.add_tiny(id, i as u64);
        models.describe(id, &json!({"downloads": 1000 + i}));
    }
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    as_version_2_left_it(&cli.db());
    models.add_tiny("e/new", 9);
    write(&models.folder("a/one").join("model.safetensors"), tiny(10));
    hub.rescan();
    // A page of the list, and one request for each.
    let report = cli.crawl(0, &["--max-requests", "4"]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!((&report["listed"]["new"], &report["listed"]["changed"]), (&json!(1), &json!(1)));
    assert_eq!((number(&report, "reread"), number(&report, "outdated")), (0, 3), "{report}");
    assert_eq!(outdated(&cli).len(), 3);
    // They can be left as they are,
    let sent = hub.counters();
    let report = cli.crawl(0, &["--reread", "never"]);
    assert_eq!((number(&report, "reread"), number(&report, "outdated")), (0, 3));
    assert_eq!(hub.counters().requests.resolvers, sent.requests.resolvers);
    let foreseen = dry_run(&cli, &["--reread", "never"]);
    assert_eq!(
        (&foreseen["outdated"]["repositories"], &foreseen["outdated"]["nights"]),
        (&json!(3), &json!(null))
    );
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\nreread = 'never'\n");
    let file = file.display().to_string();
    let report = cli.expect(0, &["run", "--json", &file]).json()["crawl"].clone();
    assert_eq!((number(&report, "reread"), number(&report, "outdated")), (0, 3));
    // and without a limit all are read in one night.
    let report = cli.crawl(0, &[]);
    assert_eq!((number(&report, "reread"), number(&report, "outdated")), (3, 0));
    assert!(outdated(&cli).is_empty());
}

#[test]
fn copies_of_an_older_version_are_read_once_and_an_old_fingerprint_is_not_copied() {
    let mut models = Models::new();
    for id in ["a/one", "b/two", "c/three"] {
        models.add_tiny(id, 1);
    }
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let first = cli.crawl(0, &[]);
    let once = hub.counters().cdn_requests;
    assert_eq!(number(&first, "known_contents"), 2);
    as_version_2_left_it(&cli.db());
    models.add_tiny("d/new", 1);
    hub.rescan();
    let report = cli.crawl(0, &[]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!((number(&report, "known_contents"), number(&report, "reread")), (3, 3), "one of four is read");
    assert_eq!(hub.counters().cdn_requests, 2 * once);
    let rows = cli.rows();
    assert!(rows.values().all(|row| row.extraction_version == EXTRACTION_VERSION));
    assert_eq!(rows["d/new"].extraction_key, rows["a/one"].extraction_key);
}

#[test]
fn stopped_or_refused_the_rows_of_an_older_version_stay() {
    let mut models = Models::new();
    for i in 0..12 {
        models.add_tiny(&format!("zoo/model-{i:02}"), i);
    }
    let cli = {
        let hub = Hub::serve(models.path(), &[]);
        let cli = Cli::new(hub.url());
        cli.crawl(0, &[]);
        as_version_2_left_it(&cli.db());
        cli
    };
    let hub = Hub::serve(models.path(), &["line.latency_ms=150"]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    let file = cli.home().join("p.toml");
    write(
        &file,
        "[database]\npath = 'db'\n[enumerate]\n[fetch]\nrepos_in_flight = 1\n[write]\nrows_per_shard = 1\n",
    );
    let mut command = cli.command(&["run", "--json", &file.display().to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, || outdated(&cli).len() < 11);
    send(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let report = serde_json::from_slice::<Value>(&output.stdout).unwrap()["crawl"].clone();
    assert_adds_up(&report, &cli.rows());
    let left = outdated(&cli);
    assert_eq!((&report["interrupted"], number(&report, "outdated") as usize), (&json!(true), left.len()));
    assert!(!left.is_empty());
    assert!(Database::open(&cli.db()).unwrap().waiting(Partition::WHOLE).unwrap().is_empty());

    // Access was withdrawn in the meantime: what was known of it is better than nothing, and stays as it is.
    let closed = left.first().unwrap();
    models.describe(closed, &json!({"gated": "manual"}));
    let hub = Hub::serve(models.path(), &[]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    // That it is gated is written down first.
    let report = cli.crawl(0, &[]);
    assert_eq!((&report["listed"]["regated"], number(&report, "outdated")), (&json!(1), 0));
    let report = cli.crawl(0, &[]);
    assert_adds_up(&report, &cli.rows());
    assert_eq!((number(&report, "reread"), number(&report, "rows_kept")), (1, 1));
    assert_eq!(outdated(&cli).into_iter().collect::<Vec<_>>(), [closed.as_str()]);
    assert!(cli.rows()[closed].fingerprint.is_some());
}

#[test]
fn rows_of_two_versions_live_in_one_shard_and_say_so() {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("b/two", 2);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &["--repo", "a/one"]);
    as_version_2_left_it(&cli.db());
    cli.crawl(0, &["--repo", "b/two"]);
    cli.expect(0, &["index", "--db", "DB"]);
    cli.expect(0, &["db", "compact", "--db", "DB"]);
    cli.expect(0, &["db", "verify", "--db", "DB"]);
    assert_eq!(Database::open(&cli.db()).unwrap().manifest().shards.len(), 1);
    cli.expect(0, &["db", "merge", "--db", "other", "DB"]);
    for db in ["DB", "other"] {
        let info = cli.expect(0, &["db", "info", "--db", db, "--json"]).json();
        assert_eq!(info["extraction_versions"], json!({"2": 1, "3": 1}), "{db}");
        assert_eq!(info["outdated"], 1);
    }
    let scan = cli.expect(0, &["scan", "--db", "DB", "--json", "b/two"]).json();
    assert_eq!((&scan["outdated"], &scan["searched"]), (&json!(1), &json!(2)));
    assert_eq!(scan["families"][0]["root"]["extraction_version"], 3);
    // A version that is not comparable is refused, wherever it stands.
    let text = String::from_utf8(read(&cli.manifest())).unwrap();
    for version in [1, EXTRACTION_VERSION + 1] {
        let other = text.replace("\"extraction_version\": 3", &format!("\"extraction_version\": {version}"));
        write(&cli.manifest(), other);
        cli.expect(2, &["db", "info", "--db", "DB"]).says(&[&format!("extraction version {version}")]);
    }
    write(&cli.manifest(), text);
    let mut db = Database::open_to_write(&cli.db(), Task::CRAWL).unwrap();
    let places: Vec<_> = db.live().unwrap().places().collect();
    let row = db.rows(&places).unwrap().remove(0);
    db.append(&[Row { extraction_version: 1, ..row }]).unwrap();
    drop(db);
    cli.expect(2, &["db", "info", "--db", "DB"]).says(&["extraction version 1"]);
}

/// The repositories of a scan's answer, copies included.
fn named(scan: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for family in scan["families"].as_array().unwrap() {
        for candidate in family["members"].as_array().unwrap() {
            names.push(candidate["repo_id"].as_str().unwrap().to_owned());
            let copies = candidate["copies"].as_array().unwrap().iter();
            names.extend(copies.map(|copy| copy.as_str().unwrap().to_owned()));
        }
    }
    names.sort();
    names
}

fn edges(cli: &Cli) -> Vec<String> {
    cli.expect(0, &["db", "export", "--db", "DB", "--out", "edges.csv"]);
    let text = String::from_utf8(read(&cli.home().join("edges.csv"))).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn who_was_deleted_and_created_again_is_no_copy_of_itself() {
    let mut models = Models::new();
    models.add_tiny("a/model", 1);
    models.add_tiny("b/copy", 1);
    models.add_tiny("c/other", 2);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    let first = cli.rows()["a/model"].hub_id.clone();
    assert_eq!(
        named(&cli.expect(0, &["scan", "--db", "DB", "--json", "a/model"]).json()),
        ["a/model", "b/copy"]
    );
    // The Hub gives it another id, and it is the same otherwise.
    for (night, day) in (1..).zip(["2024-01-01", "2025-01-01"]) {
        models.describe("a/model", &json!({"createdAt": format!("{day}T00:00:00.000Z")}));
        hub.rescan();
        let args: &[&str] = if night == 1 { &["--repo", "a/model"] } else { &[] };
        let report = cli.run(&[&["crawl", "--db", "DB", "--json"], args].concat()).json();
        assert_eq!(report["listed"]["new"], 1, "{report}");
        // By the rows, one a name.
        assert_ne!(cli.rows()["a/model"].hub_id, first);
        // Before the index knows of it, and after.
        for _ in 0..2 {
            let scan = cli.expect(0, &["scan", "--db", "DB", "--json", "a/model"]).json();
            assert_eq!(named(&scan), ["a/model", "b/copy"], "{scan}");
            let edges = edges(&cli);
            assert!(edges.iter().all(|edge| !edge.starts_with("a/model,a/model,")), "{edges:?}");
            cli.expect(0, &["index", "--db", "DB"]);
        }
        assert_eq!(edges(&cli).len(), 1, "a/model and b/copy");
        let info = cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json();
        assert_eq!((&info["repositories"], &info["indexed"]), (&json!(3), &json!(3)));
        let status = cli.expect(0, &["status", "--db", "DB", "--json"]).json();
        assert_eq!((&status["repositories"], &status["gone"]), (&json!(3), &json!(0)));
    }
    // Nothing more is to be done, and maintenance keeps the one that is live.
    let report = cli.crawl(0, &[]);
    assert_eq!((&report["unchanged"], &report["rows_written"]), (&json!(3), &json!(0)), "{report}");
    let rows = cli.rows();
    for file in files_below(&cli.db()) {
        write(&cli.home().join("copy").join(file.strip_prefix(cli.db()).unwrap()), read(&file));
    }
    cli.expect(0, &["db", "compact", "--db", "DB"]);
    assert_eq!(cli.rows(), rows);
    for (target, order) in [("x", ["DB", "copy"]), ("y", ["copy", "DB"])] {
        cli.expect(0, &["db", "merge", "--db", target, order[0], order[1]]);
        assert_eq!(crate::support::rows(&cli.home().join(target)), rows, "{order:?}");
    }
}
