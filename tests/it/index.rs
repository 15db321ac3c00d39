//! index: built from the shards, refused when it is missing, old or damaged, and built again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use hubprint::retrieval::Index;
use hubprint::store::Database;
use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, files_below, nobody, read, write};

/// Three tiny models, crawled; two of them are one checkpoint.
fn crawled() -> (Models, Hub, Cli) {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("a/two", 2);
    models.add_tiny("b/one", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    (models, hub, cli)
}

fn manifest(cli: &Cli) -> Value {
    serde_json::from_slice(&read(&cli.manifest())).unwrap()
}

/// The files of the index in use, by name.
fn index_files(cli: &Cli) -> BTreeMap<String, PathBuf> {
    let files = manifest(cli)["index"]["files"].clone();
    let path = |entry: &Value| cli.db().join(entry["file"].as_str().unwrap());
    files.as_object().unwrap().iter().map(|(name, entry)| (name.clone(), path(entry))).collect()
}

const SCAN: [&str; 5] = ["scan", "--db", "DB", "--json", "a/two"];

#[test]
fn an_index_counts_models_and_contents() {
    let (_models, _hub, cli) = crawled();
    let built = cli.expect(0, &["index", "--db", "DB", "--json"]).json();
    assert_eq!((&built["models"], &built["contents"]), (&json!(3), &json!(2)));
    assert_eq!(built["recall_at_10"], 1.0);
    let (peak, stated) = (&built["peak_memory_bytes"], &built["memory_bound_bytes"]);
    assert!(peak.as_u64().unwrap() <= stated.as_u64().unwrap(), "{built}");
    let info = cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json();
    assert_eq!((&info["has_index"], &info["shards_not_indexed"]), (&json!(true), &json!(0)));
    assert_eq!(cli.expect(0, &SCAN).json()["searched"], 2);
}

#[test]
fn building_again_replaces_the_index() {
    let (_models, _hub, cli) = crawled();
    cli.expect(0, &["index", "--db", "DB"]);
    // Another one, after which nothing is new.
    cli.expect(0, &["index", "--db", "DB"]);
    let first = index_files(&cli);
    let kept = fs::read_dir(cli.db().join("index")).unwrap().count();
    cli.expect(0, &["index", "--db", "DB", "--rebuild"]);
    let again = index_files(&cli);
    for (name, path) in &again {
        // What is built from the same rows has the same content, and so the same name.
        assert_eq!(path, &first[name], "{name}");
    }
    assert_eq!(fs::read_dir(cli.db().join("index")).unwrap().count(), kept);
}

#[test]
fn an_index_behind_its_database_says_so() {
    let (mut models, hub, cli) = crawled();
    cli.expect(0, &["index", "--db", "DB"]);
    assert!(!cli.expect(0, &SCAN).stderr.contains("newer rows"));
    models.add_tiny("c/new", 3);
    hub.rescan();
    cli.crawl(0, &[]);
    let info = || cli.expect(0, &["db", "info", "--db", "DB", "--json"]).json();
    assert_eq!(info()["shards_not_indexed"], 1);
    cli.expect(0, &SCAN).says(&["newer rows than its index", "hubprint index"]);
    cli.expect(0, &["index", "--db", "DB"]);
    assert_eq!(info()["shards_not_indexed"], 0);
    assert_eq!(
        cli.expect(0, &["scan", "--db", "DB", "--json", "c/new"]).json()["families"][0]["contents"],
        1
    );
}

#[test]
fn an_empty_database_has_an_empty_index() {
    let models = Models::new();
    fs::create_dir(models.path().join("models")).unwrap();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    assert_eq!(cli.crawl(0, &[])["models"], 0);
    assert_eq!(cli.expect(0, &["index", "--db", "DB", "--json"]).json()["contents"], 0);
    let mut other = Models::new();
    let folder = other.add_tiny("a/one", 1).display().to_string();
    let answer = cli.expect(0, &["scan", "--db", "DB", "--json", &folder]).json();
    assert_eq!((&answer["searched"], &answer["families"]), (&json!(0), &json!([])));
}

#[test]
fn a_scan_without_an_index_says_how_to_build_one() {
    let (_models, _hub, cli) = crawled();
    cli.expect(2, &SCAN).says(&["error: ", "has no index", "hint: build it with `hubprint index"]);
}

#[test]
fn an_index_of_another_version_is_refused_and_can_be_built_again() {
    let (_models, _hub, cli) = crawled();
    cli.expect(0, &["index", "--db", "DB"]);
    let path = index_files(&cli)["index.json"].clone();
    let mut metadata: Value = serde_json::from_slice(&read(&path)).unwrap();
    metadata["index_version"] = json!(99);
    write(&path, metadata.to_string());
    cli.state_anew(&path);
    cli.expect(2, &SCAN).says(&["error: ", "index version 99", "newer hubprint", "`hubprint index"]);
    cli.expect(0, &["index", "--db", "DB"]);
    cli.expect(0, &SCAN);
}

#[test]
fn the_index_of_another_database_is_refused_and_can_be_built_again() {
    let (_models, _hub, cli) = crawled();
    let (_other_models, _other_hub, other) = crawled();
    for cli in [&cli, &other] {
        cli.expect(0, &["index", "--db", "DB"]);
    }
    // Its files, and the list of them in the manifest.
    for path in index_files(&other).values() {
        write(&cli.db().join("index").join(path.file_name().unwrap()), read(path));
    }
    let mut mixed = manifest(&cli);
    mixed["index"] = manifest(&other)["index"].clone();
    write(&cli.manifest(), mixed.to_string());
    let ids = [manifest(&cli), manifest(&other)].map(|m| m["id"].as_str().unwrap().to_owned());
    cli.expect(2, &SCAN).says(&["error: ", &ids[0], &ids[1], "hint: build it anew with `hubprint index"]);
    cli.expect(0, &["index", "--db", "DB"]);
    cli.expect(0, &SCAN);
}

#[test]
fn every_damaged_index_file_is_noticed() {
    let (_models, _hub, cli) = crawled();
    cli.expect(0, &["index", "--db", "DB"]);
    let files = index_files(&cli);
    assert!(files.len() >= 8, "{files:?}");
    for (name, path) in files {
        let good = read(&path);
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for bad in [&flipped[..], &good[..good.len() - 1], &[]] {
            write(&path, bad);
            // Searches read nothing of the lineage; whoever exports it does.
            let command = match name.as_str() {
                "lineage.parquet" => &["db", "verify", "--db", "DB"][..],
                _ => &SCAN,
            };
            cli.expect(2, command).says(&["error: ", "hint: ", "hubprint index"]);
        }
        fs::remove_file(&path).unwrap();
        let ended = cli.expect(2, &SCAN);
        ended.says(&["error: ", "hint: "]);
        write(&path, &good);
    }
    cli.expect(0, &SCAN);
}

#[test]
fn a_damaged_shard_is_named() {
    let (_models, _hub, cli) = crawled();
    cli.expect(0, &["index", "--db", "DB"]);
    let path = cli.db().join(manifest(&cli)["shards"][0]["file"].as_str().unwrap());
    let good = read(&path);
    write(&path, &good[..good.len() / 2]);
    for command in
        [&SCAN[..], &["index", "--db", "DB"], &["crawl", "--db", "DB"], &["db", "info", "--db", "DB"]]
    {
        cli.expect(2, command).says(&["error: ", "parquet is damaged", "hint: restore the file"]);
    }
}

#[test]
fn a_database_of_a_newer_format_is_refused_by_every_command_and_left_alone() {
    let (_models, _hub, cli) = crawled();
    let path = cli.manifest();
    for (key, what, hint) in [
        ("format_version", "format version 99", "hint: it was written by a newer hubprint"),
        ("extraction_version", "extraction version 99", "crawl into a new folder with this one"),
    ] {
        let good = read(&path);
        let mut newer = manifest(&cli);
        newer[key] = json!(99);
        write(&path, newer.to_string());
        let before = read(&path);
        for command in
            [&SCAN[..], &["index", "--db", "DB"], &["crawl", "--db", "DB"], &["db", "info", "--db", "DB"]]
        {
            cli.expect(2, command).says(&["error: ", what, hint]);
        }
        assert_eq!(read(&path), before);
        write(&path, good);
    }
}

#[test]
fn a_folder_that_is_no_database_is_refused_and_left_alone() {
    let cli = Cli::new(&nobody());
    for command in [&SCAN[..], &["index", "--db", "DB"], &["db", "info", "--db", "DB"]] {
        cli.expect(2, command).says(&["error: ", "is not a hubprint database", "hint: "]);
        assert!(!cli.db().exists(), "nothing is made by reading");
    }
    write(&cli.db().join("thesis.txt"), "precious");
    for command in
        [&SCAN[..], &["index", "--db", "DB"], &["crawl", "--db", "DB"], &["db", "info", "--db", "DB"]]
    {
        cli.expect(2, command).says(&["error: ", "is not a hubprint database", "hint: "]);
    }
    assert_eq!(files_below(&cli.db()), [cli.db().join("thesis.txt")]);
    write(&cli.home().join("file"), "x");
    cli.expect(2, &["crawl", "--db", "file"]).says(&["error: ", "hint: "]);
}

#[test]
fn verify_proves_that_nothing_is_lost_and_sees_damage() {
    let (_models, _hub, cli) = crawled();
    let without = cli.expect(0, &["db", "verify", "--db", "DB", "--json"]).json();
    assert_eq!((&without["rows"], &without["contents"]), (&json!(3), &json!(0)));
    cli.expect(0, &["index", "--db", "DB"]);
    let whole = cli.expect(0, &["db", "verify", "--db", "DB", "--json"]).json();
    assert_eq!((&whole["contents"], &whole["heads"]), (&json!(2), &json!(2)));
    for lost in ["lost_repositories", "lost_contents", "lost_heads"] {
        assert_eq!(whole[lost], 0);
    }
    assert_eq!((&whole["repositories"], &whole["deep"]), (&json!(3), &Value::Null));
    let deep = cli.expect(0, &["db", "verify", "--db", "DB", "--deep", "--json"]).json();
    assert_eq!(
        (&deep["deep"]["searches"], &deep["deep"]["found"], &deep["deep"]["lost"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let said = cli.expect(0, &["db", "verify", "--db", "DB", "--deep"]).stdout;
    assert!(said.contains("3 rows") && said.contains("2 of 2"), "{said}");
    let vectors = index_files(&cli)["vectors-0000.bin"].clone();
    let mut bytes = fs::read(&vectors).unwrap();
    bytes[100] ^= 1;
    write(&vectors, &bytes);
    cli.expect(2, &["db", "verify", "--db", "DB"]).says(&[&vectors.display().to_string(), "hubprint index"]);
}

/// The name of the family of every repository.
fn families_of(cli: &Cli) -> BTreeMap<String, String> {
    let index = Index::open(&Database::open(cli.db().as_path()).unwrap()).unwrap();
    let family = |checkpoint| index.family(index.family_of(checkpoint)).id.clone();
    index.all_repositories().iter().map(|p| (p.repo_id.clone(), family(p.checkpoint))).collect()
}

#[test]
fn a_made_up_database_is_indexed_night_by_night_and_scored() {
    let cli = Cli::new(&nobody());
    let db = cli.db().display().to_string();
    let population = |range: &[&str]| {
        let args = [&["dev", "population", "--models", "1200", "--seed", "3", "--db", &db], range].concat();
        cli.expect(0, &args);
    };
    // The word that `--negatives` had before.
    population(&["--end", "1000", "--queries", "300", "--strangers", "40"]);
    let built = cli.expect(0, &["index", "--db", "DB", "--json"]).json();
    assert_eq!((&built["models"], &built["incremental"]), (&json!(1000), &json!(false)));
    assert_eq!(built["false_families"], 0);
    assert!(built["stored_bytes_per_model"].as_u64().unwrap() <= 16_384, "{built}");
    let (checkpoints, representatives) =
        (built["contents"].as_u64().unwrap(), built["heads"].as_u64().unwrap());
    assert!(
        checkpoints < 1000 && representatives < checkpoints,
        "copies share a checkpoint, members a representative: {built}"
    );
    let before = families_of(&cli);
    population(&["--begin", "1000"]);
    let night = cli.expect(0, &["index", "--db", "DB", "--json"]).json();
    assert_eq!((&night["models"], &night["incremental"]), (&json!(1200), &json!(true)));
    assert_eq!(night["contents"].as_u64().unwrap() - checkpoints, night["added"].as_u64().unwrap());
    assert_eq!(night["strangers"], 11_000, "a tenth more was measured");
    // Whoever had a family has it still, and what came is in an old one or in a new one.
    let after = families_of(&cli);
    assert_eq!((before.len(), after.len()), (1000, 1200));
    for (repository, family) in &before {
        assert_eq!(after[repository], *family, "{repository}");
    }
    cli.expect(0, &["index", "--db", "DB", "--rebuild"]);
    assert_eq!(families_of(&cli), after, "a build from nothing names them in the same way");
    let verified = cli.expect(0, &["db", "verify", "--db", "DB", "--deep", "--json"]).json();
    assert_eq!((&verified["deep"]["found"], &verified["deep"]["lost"]), (&verified["contents"], &json!(0)));

    let negatives = format!("{db}/strangers");
    let answered = cli.expect(0, &["scan", "--db", "DB", "--from-db", &negatives]);
    let named = answered.lines();
    assert_eq!(named.len(), 40);
    assert!(named.iter().all(|answer| answer["families"] == json!([])), "{named:?}");
    let queries = format!("{db}/queries");
    let answers = cli.home().join("answers.jsonl");
    for effort in [&["--exact"][..], &[]] {
        let answered = cli.expect(0, &[&["scan", "--db", "DB", "--from-db", &queries], effort].concat());
        write(&answers, &answered.stdout);
        let (truth, families) = (format!("{queries}/truth.tsv"), format!("{db}/truth.tsv"));
        let answers = answers.display().to_string();
        let args = ["dev", "score", &truth, &answers, "--families", &families, "--json"];
        let score = cli.expect(0, &args).json();
        assert_eq!((&score["false_families"], &score["wrong_families"]), (&json!(0), &json!(0)), "{score}");
        for band in score["related"].as_array().unwrap() {
            let least = if band["from"].as_f64().unwrap() < 0.3 { 0.9 } else { 0.98 };
            assert!(band["queries"] == 0 || band["recall"].as_f64().unwrap() >= least, "{score}");
        }
        assert!(score["right_roots"].as_f64().unwrap() > 0.9 * score["found"].as_f64().unwrap(), "{score}");
    }
}
