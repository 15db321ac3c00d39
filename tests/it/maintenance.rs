//! What keeps a database small and lets several machines fill it: compaction, vacuum, parts, joining, old formats.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use hubprint::store::{Database, Row, Task};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, comparable, files_below, nobody, rows, write};

/// A made-up database of several shards, indexed.
pub(crate) fn population(models: &str, steps: &[&str]) -> Cli {
    let cli = Cli::new(&nobody());
    let mut begin = "0";
    for end in steps {
        add(&cli, models, begin, end);
        begin = end;
    }
    cli.expect(0, &["index", "--db", "DB"]);
    cli
}

pub(crate) fn add(cli: &Cli, models: &str, begin: &str, end: &str) {
    let args = [
        "dev",
        "population",
        "--models",
        models,
        "--seed",
        "5",
        "--db",
        "DB",
        "--begin",
        begin,
        "--end",
        end,
    ];
    cli.expect(0, &args);
}

fn answers(cli: &Cli) -> Vec<Value> {
    let mut lines = cli.expect(0, &["scan", "--db", "DB", "--from-db", "DB"]).lines();
    for line in &mut lines {
        // Measured again by every build, on other samples.
        line.as_object_mut().unwrap().remove("false_rate_at_most");
    }
    lines.sort_by_key(|line| line["query"].to_string());
    lines
}

fn info(cli: &Cli) -> Value {
    cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json()
}

#[test]
fn a_compacted_database_says_the_same() {
    let cli = population("300", &["60", "120", "180", "240", "300"]);
    // The first 60 once more: their rows are replaced.
    add(&cli, "300", "0", "60");
    cli.expect(2, &["db", "compact", "--db", "DB"]).says(&["behind its database", "hubprint index"]);
    cli.expect(0, &["index", "--db", "DB"]);
    let (before, rows_before) = (answers(&cli), comparable(cli.rows()));
    let old = std::fs::read(cli.manifest()).unwrap();

    let compaction = cli.expect(0, &["db", "compact", "--db", "DB", "--rows", "150", "--json"]).json();
    assert_eq!((&compaction["shards_before"], &compaction["rows_dropped"]), (&json!(6), &json!(60)));
    assert!(compaction["shards"].as_u64().unwrap() <= 3, "{compaction}");
    assert_eq!(comparable(cli.rows()), rows_before);
    assert_eq!(answers(&cli), before);
    cli.expect(0, &["db", "verify", "--db", "DB"]).says(&[]);
    assert_eq!(info(&cli)["shards_not_indexed"], 0);
    // And goes on from there as from any other.
    cli.expect(0, &["db", "compact", "--db", "DB", "--rows", "150"]);
    assert_eq!(cli.expect(0, &["index", "--db", "DB", "--json"]).json()["incremental"], true);

    // The snapshot before is readable until it is vacuumed.
    let old: Value = serde_json::from_slice(&old).unwrap();
    let shard = |n: usize| cli.db().join(old["shards"][n]["file"].as_str().unwrap());
    assert!(shard(1).exists());
    let would = cli.expect(
        0,
        &["db", "vacuum", "--db", "DB", "--keep", "1", "--older-than", "0s", "--dry-run", "--json"],
    );
    assert!(shard(1).exists(), "nothing was removed");
    let did = cli.expect(0, &["db", "vacuum", "--db", "DB", "--keep", "1", "--older-than", "0s", "--json"]);
    assert_eq!(would.json(), did.json());
    assert!(!shard(1).exists());
    let manifest: Value = serde_json::from_slice(&std::fs::read(cli.manifest()).unwrap()).unwrap();
    let named =
        manifest["shards"].as_array().unwrap().len() + manifest["index"]["files"].as_object().unwrap().len();
    let there = ["shards", "index"].map(|folder| files_below(&cli.db().join(folder)).len());
    assert_eq!(there.iter().sum::<usize>(), named);
    assert_eq!(answers(&cli), before);
}

#[test]
fn a_shard_that_is_mostly_replaced_is_written_anew() {
    let cli = population("240", &["60", "120", "180", "240"]);
    let compact =
        |cli: &Cli| cli.expect(0, &["db", "compact", "--db", "DB", "--rows", "60", "--json"]).json();
    let untouched = compact(&cli);
    assert_eq!((&untouched["shards"], &untouched["rows_dropped"]), (&json!(4), &json!(0)));
    // Two thirds of the first shard, and a sixth of the second.
    add(&cli, "240", "0", "40");
    add(&cli, "240", "60", "70");
    cli.expect(0, &["index", "--db", "DB"]);
    let rows = comparable(cli.rows());
    let compaction = compact(&cli);
    // The two last are joined, the first is thinned out, the second is good enough.
    assert_eq!((&compaction["shards"], &compaction["rows_dropped"]), (&json!(5), &json!(40)));
    assert_eq!(comparable(cli.rows()), rows);
    cli.expect(0, &["db", "verify", "--db", "DB"]);
}

#[test]
fn a_vacuum_leaves_what_is_young() {
    let cli = population("40", &["20", "40"]);
    let all = files_below(&cli.db()).len();
    let vacuumed = cli.expect(0, &["db", "vacuum", "--db", "DB", "--keep", "1", "--json"]).json();
    assert_eq!((&vacuumed["snapshots_removed"], &vacuumed["files_removed"]), (&json!(0), &json!(0)));
    // The lock of the vacuum itself is a new file.
    assert!(files_below(&cli.db()).len() >= all);
}

#[test]
fn what_a_database_holds_is_counted() {
    let cli = population("200", &["200"]);
    let info = info(&cli);
    assert_eq!((&info["models"], &info["indexed"]), (&json!(200), &json!(200)));
    let sum = |key: &str| info[key].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("outcomes"), sum("formats")), (200, 200), "{info}");
    assert!(info["families"].as_u64().unwrap() > 10);
    let largest = info["largest_families"].as_array().unwrap();
    let contents: Vec<u64> = largest.iter().map(|f| f["contents"].as_u64().unwrap()).collect();
    assert!(contents.is_sorted_by(|a, b| a >= b) && contents[0] > 2, "{largest:?}");
    let text = cli.expect(0, &["db", "info", "--db", "DB"]).stdout;
    for word in ["200 models", "formats: ", "families", "the index covers all shards"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// Rows by their immutable id, without what depends on the way to them.
fn content(rows: BTreeMap<String, Row>) -> BTreeMap<String, Row> {
    let row = |row: Row| (row.hub_id.clone(), Row { bytes_fetched: 0, ..row });
    comparable(rows).into_values().map(row).collect()
}

/// What the index answers for every model, in whatever order it was built: the roots of its families.
fn families_of(cli: &Cli) -> BTreeMap<String, Vec<String>> {
    cli.expect(0, &["index", "--db", "DB"]);
    let roots = |line: &Value| {
        let families = line["families"].as_array().unwrap().iter();
        let mut roots: Vec<String> = families.map(|f| f["root"]["repo_id"].to_string()).collect();
        roots.sort();
        (line["query"].to_string(), roots)
    };
    answers(cli).iter().map(roots).collect()
}

#[test]
fn all_parts_of_a_hub_together_are_the_whole() {
    let mut models = Models::new();
    models.add_tiny("zoo/template", 7);
    models.add("zoo/pickled", &[("pytorch_model.bin", b"x")]);
    let hub = Hub::serve(
        models.path(),
        &["made_up.repos=60", "made_up.template=zoo/template", "made_up.duplicates=0.2"],
    );
    let whole = Cli::new(hub.url());
    whole.crawl(0, &[]);
    let reference = content(whole.rows());
    assert_eq!(reference.len(), 62);
    let families = families_of(&whole);
    assert!(families.len() > 50 && families.values().all(|roots| !roots.is_empty()), "{families:?}");
    for n in [1, 2, 5] {
        let parts: Vec<String> = (1..=n).map(|i| format!("{i}/{n}")).collect();
        // At the same time into one database,
        let one = Cli::new(hub.url());
        let children: Vec<_> = parts
            .iter()
            .map(|part| {
                let mut command = one.command(&["crawl", "--db", "DB", "--partition", part]);
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(content(one.rows()), reference, "{n} parts at once");
        assert_eq!(Database::open(&one.db()).unwrap().manifest().rows(), 62, "no row is there twice");
        assert_eq!(families_of(&one), families, "{n} parts at once");
        // A second night finds nothing new.
        for part in &parts {
            let report = one.crawl(0, &["--partition", part]);
            assert_eq!((&report["rows_written"], &report["gone"]), (&json!(0), &json!(0)), "{report}");
        }
        // and one by one into databases of their own, which are joined.
        let joined = Cli::new(hub.url());
        let folders: Vec<String> = (0..n).map(|i| format!("part-{i}")).collect();
        for (part, folder) in parts.iter().zip(&folders) {
            joined.expect(0, &["crawl", "--db", folder, "--partition", part]);
        }
        let mut merge = vec!["db", "merge", "--db", "DB", "--json"];
        merge.extend(folders.iter().map(String::as_str));
        assert_eq!(joined.expect(0, &merge).json()["rows"], 62);
        assert_eq!(content(joined.rows()), reference, "{n} parts joined");
        assert_eq!(families_of(&joined), families, "{n} parts joined");
        let again = joined.expect(0, &merge).json();
        assert_eq!((&again["shards"], &again["rows"]), (&json!(0), &json!(0)), "joined twice is joined once");
    }
    Cli::new(hub.url()).expect(2, &["crawl", "--db", "DB", "--partition", "3/2"]).says(&["3/2"]);
}

#[test]
fn of_two_databases_the_later_row_counts() {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.expect(0, &["crawl", "--db", "early"]);
    models.add_tiny("a/one", 2);
    hub.rescan();
    cli.expect(0, &["crawl", "--db", "late"]);
    let row = |db: &str| rows(&cli.home().join(db))["a/one"].sha.clone();
    assert_ne!(row("early"), row("late"));
    for (target, order) in [("x", ["early", "late"]), ("y", ["late", "early"])] {
        cli.expect(0, &["db", "merge", "--db", target, order[0], order[1]]);
        assert_eq!(row(target), row("late"));
    }
    // That it has gone is later than what was known of it, in whichever order.
    copy(&cli.home().join("late"), &cli.home().join("gone"));
    std::fs::remove_dir_all(models.folder("a/one")).unwrap();
    hub.rescan();
    cli.expect(0, &["crawl", "--db", "gone"]);
    for (target, order) in [("g", ["gone", "late"]), ("h", ["late", "gone"])] {
        cli.expect(0, &["db", "merge", "--db", target, order[0], order[1]]);
        assert!(rows(&cli.home().join(target))["a/one"].gone_at.is_some(), "{order:?}");
    }
}

#[test]
fn joining_again_after_a_compaction_adds_nothing() {
    let cli = population("120", &["40", "80"]);
    let rows_in = |cli: &Cli| Database::open(&cli.db()).unwrap().manifest().rows();
    copy(&cli.db(), &cli.home().join("other"));
    cli.expect(0, &["db", "compact", "--db", "DB", "--rows", "1000"]);
    for (target, source) in [("DB", "other"), ("other", "DB")] {
        let merged = cli.expect(0, &["db", "merge", "--db", target, source, "--json"]).json();
        assert_eq!((&merged["shards"], &merged["rows"]), (&json!(0), &json!(0)), "{source} into {target}");
    }
    assert_eq!(rows_in(&cli), 80);
    // Of a shard that is new in part, that part is added.
    add(&cli, "120", "80", "120");
    cli.expect(0, &["index", "--db", "DB"]);
    cli.expect(0, &["db", "compact", "--db", "DB", "--rows", "1000"]);
    assert_eq!(Database::open(&cli.db()).unwrap().manifest().shards.len(), 1);
    let merged = cli.expect(0, &["db", "merge", "--db", "other", "DB", "--json"]).json();
    assert_eq!((&merged["shards"], &merged["rows"]), (&json!(1), &json!(40)));
    assert_eq!(comparable(rows(&cli.home().join("other"))), comparable(cli.rows()));
    assert_eq!(Database::open(&cli.home().join("other")).unwrap().manifest().rows(), 120);
}

#[test]
fn a_migration_removes_nothing_but_what_format_3_wrote() {
    let cli = Cli::new(&nobody());
    copy(&golden(3), &cli.db());
    let good = String::from_utf8(std::fs::read(cli.db().join("manifest.json")).unwrap()).unwrap();
    let notes = cli.db().join("notes/000003");
    write(&notes.join("diary.txt"), "mine");
    let hostile = [
        ("index/000003", ""),
        ("index/000003", "."),
        ("index/000003", "shards"),
        ("index/000003", "index"),
        ("index/000003", "index/"),
        ("index/000003", "index/000003/../../notes"),
        ("index/000003", "notes/000003"),
        ("index/000003", "/000003"),
        ("shards/000000.parquet", "notes/000003/diary.txt"),
        ("shards/000000.parquet", "shards/000000.parquet.bak"),
        ("waiting/000004.parquet", "waiting/../manifest.json"),
    ];
    for (name, other) in hostile {
        write(&cli.db().join("manifest.json"), good.replace(&format!("\"{name}\""), &format!("\"{other}\"")));
        let before = files_below(&cli.db());
        cli.expect(2, &["db", "migrate", "--db", "DB"]).says(&["is no name that format 3 gave"]);
        let after: Vec<_> =
            files_below(&cli.db()).into_iter().filter(|p| !p.starts_with(cli.db().join("locks"))).collect();
        assert_eq!(
            after.len(),
            before.iter().filter(|p| !p.starts_with(cli.db().join("locks"))).count(),
            "{other}"
        );
    }
    write(&cli.db().join("manifest.json"), good);
    cli.expect(0, &["db", "migrate", "--db", "DB"]);
    assert!(notes.join("diary.txt").exists());
}

#[test]
fn edges_are_exported_in_every_form() {
    let cli = population("200", &["200"]);
    for form in ["csv", "graphml", "parquet"] {
        let out = format!("edges.{form}");
        cli.expect(0, &["db", "export", "--db", "DB", "--out", &out]);
        assert!(cli.home().join(out).metadata().unwrap().len() > 1000);
    }
    let csv = std::fs::read_to_string(cli.home().join("edges.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let truth = std::fs::read_to_string(cli.db().join("truth.tsv")).unwrap();
    let family: BTreeMap<&str, &str> = truth
        .lines()
        .map(|l| {
            let mut c = l.split('\t');
            (c.next().unwrap(), c.next().unwrap())
        })
        .collect();
    assert!(rows.len() > 20);
    for row in &rows {
        assert_eq!(family[row[0]], family[row[1]], "{row:?}");
        assert!(["copy", "link"].contains(&row[2]) && row[4].parse::<f32>().unwrap() > 0.1, "{row:?}");
    }
    let graphml = std::fs::read_to_string(cli.home().join("edges.graphml")).unwrap();
    assert_eq!(graphml.matches("<edge ").count(), rows.len());
    cli.expect(2, &["db", "export", "--db", "DB", "--out", "edges.xls"]).says(&[".graphml"]);
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        write(&to.join(path.strip_prefix(from).unwrap()), std::fs::read(&path).unwrap());
    }
}

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/databases/format-{version}"))
}

#[test]
fn a_database_of_every_released_format_opens() {
    for version in [3, 4, 5] {
        let cli = Cli::new(&nobody());
        copy(&golden(version), &cli.db());
        if version < 4 {
            let before = files_below(&cli.db());
            for command in
                [&["db", "info", "--db", "DB"][..], &["crawl", "--db", "DB"], &["scan", "--db", "DB", "x"]]
            {
                cli.expect(2, command).says(&["format version 3", "hubprint db migrate"]);
            }
            assert_eq!(files_below(&cli.db()), before, "nothing was touched");
            cli.expect(0, &["db", "migrate", "--db", "DB"]);
        } else {
            // The rows open as they are; an index of that time is built anew.
            let of_index = if version == 4 { "index version 4" } else { "index version 7" };
            cli.expect(2, &["db", "verify", "--db", "DB"]).says(&[of_index, "hubprint index"]);
            cli.expect(0, &["db", "merge", "--db", "joined", "DB"]);
            assert_eq!(rows(&cli.home().join("joined")), cli.rows());
            cli.expect(0, &["db", "migrate", "--db", "DB"]);
            assert_eq!(info(&cli)["format_version"], version, "there is nothing to migrate");
        }
        assert_eq!(info(&cli)["outdated"], 3);
        cli.expect(0, &["index", "--db", "DB"]);
        assert_eq!(info(&cli)["format_version"], 6, "the first commit makes it one of today");
        if version == 5 {
            cli.expect(0, &["db", "verify", "--db", "DB", "--deep"]);
            let found = cli.expect(0, &["scan", "--db", "DB", "--from-db", "DB"]).lines();
            assert_eq!(found.len(), 3, "of fingerprints");
            // It is published and pulled as it is.
            cli.expect(0, &["db", "keygen", "key"]);
            cli.expect(0, &["publish", "--db", "DB", "--to", "shelf", "--key", "key", "--yes"]);
            cli.expect(0, &["db", "pull", "shelf", "--db", "pulled"]);
            assert_eq!(rows(&cli.home().join("pulled")), cli.rows());
        }
        cli.expect(0, &["db", "migrate", "--db", "DB"]);
        cli.expect(0, &["db", "verify", "--db", "DB"]);
        let rows = cli.rows();
        let names: Vec<&str> = rows.keys().map(String::as_str).collect();
        assert_eq!(names, ["a/base", "a/copy", "b/other", "b/pickled"], "format {version}");
        assert_eq!(rows["a/copy"].sample_digest, rows["a/base"].sample_digest);
        assert_eq!(rows["b/pickled"].outcome.name(), "unsupported");
        assert!(rows.values().all(|row| row.component.is_empty()));
        assert!(rows.values().all(|row| row.extraction_version == 2 && row.coverage.is_none()));
        // Old shards and new ones are joined to shards of today.
        let more = Row { component: "unet".into(), extraction_version: 3, ..rows["a/base"].clone() };
        let mut db = Database::open_to_write(&cli.db(), Task::CRAWL).unwrap();
        db.append(&[more]).unwrap();
        drop(db);
        cli.expect(0, &["index", "--db", "DB"]);
        cli.expect(0, &["db", "compact", "--db", "DB"]);
        cli.expect(0, &["db", "verify", "--db", "DB"]);
        let compacted = Database::open(&cli.db()).unwrap();
        assert_eq!((compacted.manifest().shards.len(), compacted.live().unwrap().places().count()), (1, 5));
        assert_eq!(info(&cli)["repositories"], 4);
        assert_eq!(info(&cli)["extraction_versions"], json!({"2": 3, "3": 1}));
        assert_eq!(
            Database::open(&cli.db()).unwrap().waiting(hubprint::store::Partition::WHOLE).unwrap().len(),
            1
        );
        let found = cli.expect(0, &["scan", "--db", "DB", "--from-db", "DB"]).lines();
        assert_eq!(found.len(), 4);
        for line in found {
            assert_eq!(line["families"].as_array().unwrap().len(), 1, "{line}");
        }
    }
}

/// Kills a command at random moments of its length until it has died so many times, and looks at what is left after
/// each try. Returns the number of tries.
pub(crate) fn kill_often(cli: &Cli, args: &[&str], times: usize, seed: u64, after: impl Fn(&Cli)) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let begun = Instant::now();
    cli.expect(0, args);
    let length = begun.elapsed();
    after(cli);
    let (mut killed, mut tries) = (0, 0);
    while killed < times {
        tries += 1;
        assert!(tries < 40 * times, "{killed} of {tries} were killed in time");
        let mut child = cli.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(length.mul_f64(rng.random_range(0.0..1.0)));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal().is_some());
        after(cli);
    }
    tries
}

fn is_whole(cli: &Cli, reference: &BTreeMap<String, Row>) {
    assert_eq!(comparable(cli.rows()), *reference);
    let db = Database::open(&cli.db()).unwrap();
    db.verify(&|_, _| {}).unwrap();
    hubprint::retrieval::Index::open(&db).unwrap();
}

fn killed_maintenance(times: usize) {
    let steps: Vec<String> = (1..=12).map(|i| (i * 20).to_string()).collect();
    let cli = population("240", &steps.iter().map(String::as_str).collect::<Vec<_>>());
    let reference = comparable(cli.rows());
    let compact = ["db", "compact", "--db", "DB", "--rows", "60"];
    let pristine = cli.home().join("pristine");
    copy(&cli.db(), &pristine);
    kill_often(&cli, &compact, times, 1, |cli| {
        is_whole(cli, &reference);
        if Database::open(&cli.db()).unwrap().manifest().shards.len() < 12 {
            // It was done: from the beginning.
            std::fs::remove_dir_all(cli.db()).unwrap();
            copy(&pristine, &cli.db());
        }
    });
    cli.expect(0, &compact);
    is_whole(&cli, &reference);
    let vacuum = ["db", "vacuum", "--db", "DB", "--keep", "1", "--older-than", "0s"];
    let littered = cli.home().join("littered");
    copy(&cli.db(), &littered);
    kill_often(&cli, &vacuum, times, 2, |cli| {
        is_whole(cli, &reference);
        if files_below(&cli.db().join("manifests")).len() == 1 {
            std::fs::remove_dir_all(cli.db()).unwrap();
            copy(&littered, &cli.db());
        }
    });
    cli.expect(0, &vacuum);
    is_whole(&cli, &reference);
    let litter = files_below(&cli.db()).into_iter().filter(|p| p.to_string_lossy().contains(".tmp-"));
    assert_eq!(litter.count(), 0);
}

#[test]
fn killed_in_compaction_and_vacuum_the_database_is_whole() {
    killed_maintenance(8);
}

/// The same at full length: `cargo test --test it fifty_times -- --ignored`.
#[test]
#[ignore = "takes some minutes"]
fn killed_fifty_times_in_compaction_and_vacuum_the_database_is_whole() {
    killed_maintenance(50);
}
