//! Repositories of several checkpoints, from their rows to the answers, wherever the files of the database lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use hubprint::pipeline::maintain;
use hubprint::retrieval::{self, BuildSettings};
use hubprint::store::maintenance::{self, Keep};
use hubprint::store::storage::Memory;
use hubprint::store::{Database, Location, Row, RowRef, Task};
use serde_json::{Value, json};

use crate::maintenance::add;
use crate::support::{Cli, Hub, Models, nobody, write};

/// The live rows of a database, in its order.
fn live_rows(db: &Database) -> Vec<Row> {
    let mut places: Vec<RowRef> = db.live().unwrap().places().collect();
    places.sort_unstable();
    db.rows(&places).unwrap()
}

/// The same, by the names of their checkpoints.
fn checkpoints(db: &Path) -> BTreeMap<String, Row> {
    let rows = live_rows(&Database::open(db).unwrap());
    rows.into_iter().map(|row| (row.name(), row)).collect()
}

/// A database of made-up models, and its rows as those of pipelines: two of a repository, the main one and a `unet`.
fn pipelines(models: &str) -> (Cli, Vec<Row>) {
    let cli = Cli::new(&nobody());
    add(&cli, models, "0", models);
    let mut rows = live_rows(&Database::open(&cli.db()).unwrap());
    for pair in rows.chunks_exact_mut(2) {
        let [main, unet] = pair else { unreachable!() };
        (unet.repo_id, unet.hub_id) = (main.repo_id.clone(), main.hub_id.clone());
        (unet.sha, unet.crawled_at) = (main.sha.clone(), main.crawled_at);
        unet.component = "unet".into();
    }
    (cli, rows)
}

fn create(location: impl Into<Location>, shards: &[&[Row]]) {
    let mut db = Database::open_or_create(location, Task::CRAWL).unwrap();
    for rows in shards {
        db.append(rows).unwrap();
    }
}

#[test]
fn every_checkpoint_of_a_repository_is_indexed_and_found() {
    let (plain, rows) = pipelines("60");
    plain.expect(0, &["index", "--db", "DB"]);
    let cli = Cli::new(&nobody());
    create(&cli.db(), &[&rows[..40], &rows[40..]]);
    let info = cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json();
    assert_eq!(
        (&info["models"], &info["indexed"], &info["repositories"]),
        (&json!(60), &json!(60), &json!(30))
    );
    assert!(
        cli.expect(0, &["db", "info", "--db", "DB"])
            .stdout
            .starts_with("60 models of 30 repositories: 60 with a fingerprint")
    );
    let status = cli.expect(0, &["status", "--db", "DB", "--json"]).json();
    assert_eq!((&status["repositories"], &status["indexed"]), (&json!(30), &json!(30)));

    // Before there is an index, and of one or all of a repository's checkpoints.
    let (repo, component) = (rows[1].repo_id.clone(), format!("{}[unet]", rows[1].repo_id));
    let both = cli.expect(0, &["db", "show", "--db", "DB", "--json", &repo]).lines();
    assert_eq!(both.iter().map(|row| &row["component"]).collect::<Vec<_>>(), [&json!(null), &json!("unet")]);
    assert!(both.iter().all(|row| row["relatives"].is_null()), "{both:?}");
    assert!(both[0]["no_relatives"].as_str().unwrap().contains("no index"), "{both:?}");
    assert_eq!(cli.expect(0, &["db", "show", "--db", "DB", "--json", &component]).lines(), both[1..]);
    cli.expect(2, &["db", "show", "--db", "DB", "no/such"]).says(&["has no row of no/such", "hint: "]);

    let built = cli.expect(0, &["index", "--db", "DB", "--json"]).json();
    assert_eq!(built["models"], 60);
    // Offline each is answered from its row, by the name that it has where the Hub is asked.
    let offline = cli.with("HF_HUB_OFFLINE", "1");
    let lines = offline.expect(0, &["scan", "--db", "DB", "--json", &repo]).lines();
    assert_eq!(
        lines.iter().map(|line| &line["query"]).collect::<Vec<_>>(),
        [&json!(repo), &json!(component)]
    );
    write(&offline.home().join("list"), format!("{repo}\n"));
    let list = offline.home().join("list").display().to_string();
    let bulk = offline.expect(0, &["scan", "--db", "DB", "--from", &list]).lines();
    for (line, short) in lines.iter().zip(&bulk) {
        let judged = |family: &Value| family["judged"].as_str().map(str::to_owned);
        let named: Vec<_> = short["families"].as_array().unwrap().iter().filter_map(judged).collect();
        assert!(
            !named.contains(&line["query"].as_str().unwrap().to_owned()),
            "no relative of its own: {short}"
        );
        assert_eq!(
            (line["query"].as_str(), line["families"].as_array().map(Vec::len)),
            (short["query"].as_str(), short["families"].as_array().map(Vec::len))
        );
    }
    let cli = offline.with("HF_HUB_OFFLINE", "");
    let verified = cli.expect(0, &["db", "verify", "--db", "DB", "--deep", "--json"]).json();
    assert_eq!((&verified["repositories"], &verified["deep"]["lost"]), (&json!(60), &json!(0)), "{verified}");
    // The answers are those of the same models in repositories of their own, under other names.
    let answers = |cli: &Cli| -> BTreeMap<String, Value> {
        let lines = cli.expect(0, &["scan", "--db", "DB", "--from-db", "DB"]).lines();
        lines.into_iter().map(|line| (line["query"].as_str().unwrap().to_owned(), line)).collect()
    };
    let (found, expected) = (answers(&cli), answers(&plain));
    assert_eq!(found.len(), 60);
    let old = live_rows(&Database::open(&plain.db()).unwrap());
    for (row, old) in rows.iter().zip(&old) {
        let (found, expected) = (&found[&row.name()], &expected[&old.repo_id]);
        let said = |line: &Value| -> Vec<Value> {
            let families = line["families"].as_array().unwrap().iter();
            families
                .map(|f| {
                    json!([f["family"], f["verdict"], f["score"], f["closest"].as_array().unwrap().len()])
                })
                .collect()
        };
        assert_eq!(said(found), said(expected), "{}", row.name());
        assert!(!said(found).is_empty(), "{}", row.name());
    }
    let itself = |name: &str| found[name]["families"][0]["judged"].as_str().unwrap().to_owned();
    let unets: Vec<String> = rows.iter().map(Row::name).filter(|name| name.ends_with("[unet]")).collect();
    assert!(
        unets.iter().filter(|name| itself(name) == **name).count() > 20,
        "most are not copied by anybody"
    );

    cli.expect(0, &["db", "export", "--db", "DB", "--out", "edges.csv"]);
    let edges = std::fs::read_to_string(cli.home().join("edges.csv")).unwrap();
    let header: Vec<&str> = edges.lines().next().unwrap().split(',').collect();
    let at = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let columns = (at("source_component"), at("target_component"));
    let pairs: BTreeSet<(String, String)> = edges
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|cells| (cells[columns.0].to_owned(), cells[columns.1].to_owned()))
        .collect();
    assert!(pairs.iter().any(|(source, target)| source == "unet" || target == "unet"), "{pairs:?}");
}

#[test]
fn a_later_reading_replaces_every_component() {
    let (_, rows) = pipelines("20");
    let [main, unet] = &rows[..2] else { unreachable!() };
    let later = main.crawled_at + 5;
    let again = [
        Row { crawled_at: later, component: "vae".into(), ..main.clone() },
        Row { crawled_at: later, ..unet.clone() },
    ];
    let cli = Cli::new(&nobody());
    let place = |name: &str| cli.home().join(name);
    create(&place("early"), &[&rows]);
    create(&place("late"), &[&again]);
    let mut expected: BTreeSet<String> = rows[1..].iter().map(Row::name).collect();
    expected.insert(again[0].name());
    for (target, order) in [("x", ["early", "late"]), ("y", ["late", "early"])] {
        let merge = ["db", "merge", "--db", target, order[0], order[1], "--json"];
        cli.expect(0, &merge);
        let found = checkpoints(&place(target));
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), expected, "{order:?}");
        assert_eq!(found[&unet.name()].crawled_at, later);
        assert_eq!(cli.expect(0, &merge).json()["rows"], 0, "joined twice is joined once");
        // What is dead goes, and only that.
        cli.expect(0, &["db", "compact", "--db", target, "--rows", "1000"]);
        assert_eq!(checkpoints(&place(target)), found);
        assert_eq!(Database::open(&place(target)).unwrap().manifest().rows(), 20);
        cli.expect(0, &["db", "verify", "--db", target]);
    }
}

#[test]
fn all_rows_of_a_repository_go_and_come_back_together() {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("b/two", 2);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let row = cli.rows()["a/one"].clone();
    let mut db = Database::open_to_write(&cli.db(), Task::CRAWL).unwrap();
    db.append(&[Row { component: "unet".into(), ..row }]).unwrap();
    drop(db);
    let both = || {
        let rows = checkpoints(&cli.db());
        [rows["a/one"].clone(), rows["a/one[unet]"].clone()]
    };
    let written = |report: &Value| {
        ["unchanged", "gone", "relabelled", "rows_written", "further_components"]
            .map(|key| report[key].as_u64().unwrap())
    };
    assert_eq!(written(&cli.crawl(0, &[])), [2, 0, 0, 0, 0]);

    let kept = cli.home().join("kept");
    std::fs::rename(models.folder("a/one"), &kept).unwrap();
    hub.rescan();
    assert_eq!(written(&cli.crawl(0, &[])), [1, 1, 0, 2, 1]);
    let [main, unet] = both();
    assert!(main.gone_at.is_some() && unet.gone_at.is_some());
    assert_eq!(main.crawled_at, unet.crawled_at);
    let status = cli.expect(0, &["status", "--db", "DB", "--json"]).json();
    assert_eq!((&status["repositories"], &status["gone"]), (&json!(2), &json!(1)));
    assert_eq!(cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json()["gone"], 2);

    std::fs::rename(&kept, models.folder("a/one")).unwrap();
    hub.rescan();
    assert_eq!(written(&cli.crawl(0, &[])), [1, 0, 1, 2, 1]);
    assert!(both().iter().all(|row| row.gone_at.is_none()));

    // Read again, it has one.
    models.add_tiny("a/one", 3);
    hub.rescan();
    assert_eq!(written(&cli.crawl(0, &[])), [1, 0, 0, 1, 0]);
    assert_eq!(checkpoints(&cli.db()).into_keys().collect::<Vec<_>>(), ["a/one", "b/two"]);
}

#[test]
fn a_whole_database_lives_in_memory_as_in_a_folder() {
    let (_, rows) = pipelines("60");
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    // Each opening is by a machine of its own, which has no copies yet.
    let in_memory =
        |machine: &str| Location::Memory { files: memory.clone(), mirror: dir.path().join(machine) };
    let in_a_folder = |_: &str| Location::from(dir.path().join("folder").as_path());
    let places: [&dyn Fn(&str) -> Location; 2] = [&in_memory, &in_a_folder];
    // Measured on few, because every build measures.
    let settings: BuildSettings =
        serde_json::from_value(json!({"recall_queries": 20, "strangers": 100})).unwrap();
    let found = places.map(|place| {
        create(place("first"), &[&rows[..20], &rows[20..40], &rows[40..]]);
        // The first ten once more: their rows are replaced.
        create(place("second"), &[&rows[..10]]);
        let mut db = Database::open_to_write(place("third"), Task::Index).unwrap();
        retrieval::build(&mut db, &settings, false, &|_, _| {}, &|| false).unwrap();
        drop(db);
        let mut db = Database::open_to_write(place("fourth"), Task::Maintenance).unwrap();
        let compaction = maintain::compact(&mut db, 1000, 1, &|_, _| {}).unwrap().unwrap();
        assert_eq!((compaction.shards_before, compaction.shards, compaction.rows_dropped), (4, 1, 10));
        let keep = Keep { latest: 1, younger: Duration::ZERO };
        let vacuumed = maintenance::vacuum(&db, keep, false).unwrap();
        assert!(vacuumed.snapshots_removed >= 5 && vacuumed.files_removed >= 4, "{vacuumed:?}");
        drop(db);
        let db = Database::open(place("fifth")).unwrap();
        assert!(db.writers().unwrap().is_empty());
        assert_eq!(live_rows(&db).len(), 60);
        let verified = retrieval::verify(&db, true, &|_, _| {}).unwrap();
        assert!(verified.is_whole(), "{verified:?}");
        (live_rows(&db), serde_json::to_value(&verified).unwrap())
    });
    let [memory, folder] = found;
    assert_eq!(memory, folder);
}
