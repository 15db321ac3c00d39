//! enumerate: which repositories a crawl takes, and what becomes of names that are none.

use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, assert_adds_up, nobody, write};

/// Twelve tiny models of three owners; every third is tagged.
fn dozen() -> Models {
    let mut models = Models::new();
    for i in 0..12_u64 {
        let id = format!("owner{}/model-{i:02}", i % 3);
        models.add_tiny(&id, i);
        if i.is_multiple_of(4) {
            models.describe(&id, &json!({"tags": ["code", "license:mit"]}));
        }
    }
    models
}

fn names(cli: &Cli) -> Vec<String> {
    cli.rows().into_keys().collect()
}

#[test]
fn every_page_is_read_and_no_repository_twice() {
    let models = dozen();
    let hub = Hub::serve(models.path(), &["page_limit=5"]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &[]);
    assert_eq!(report["outcomes"], json!({"indexed": 12}));
    assert_adds_up(&report, &cli.rows());
    assert_eq!(cli.rows().len(), 12);
    assert_eq!(hub.counters().requests.api, 3, "three pages of five");
}

#[test]
fn pages_that_are_too_heavy_are_asked_for_in_smaller_parts() {
    let mut models = Models::new();
    for i in 0..80 {
        models.add(&format!("a/model-{i:02}"), &[("README.md", b"# nothing to read\n")]);
    }
    let hub = Hub::serve(models.path(), &["faults.heavy_page=40"]);
    let cli = Cli::new(hub.url());
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\npage_size = 62\n");
    let report = cli.expect(0, &["run", "--json", &file.display().to_string()]).json()["crawl"].clone();
    assert_eq!(report["outcomes"], json!({"unsupported": 80}));
    assert_eq!(cli.rows().len(), 80);
    assert!(hub.counters().faults.error_5xx > 0, "the first page was refused");
}

#[test]
fn limit_takes_the_oldest_first() {
    let models = dozen();
    let hub = Hub::serve(models.path(), &["page_limit=2"]);
    let cli = Cli::new(hub.url());
    assert_eq!(cli.crawl(0, &["--limit", "3"])["models"], 3);
    assert_eq!(names(&cli), ["owner0/model-00", "owner1/model-01", "owner2/model-02"]);
    let report = cli.crawl(0, &["--limit", "4"]);
    assert_eq!((&report["models"], &report["unchanged"]), (&json!(4), &json!(3)));
}

#[test]
fn owners_tags_and_exclusions_choose() {
    let models = dozen();
    let hub = Hub::serve(models.path(), &[]);
    let chosen = |args: &[&str]| {
        let cli = Cli::new(hub.url());
        cli.crawl(0, args);
        names(&cli)
    };
    assert_eq!(chosen(&["--author", "owner1", "--limit", "2"]), ["owner1/model-01", "owner1/model-04"]);
    assert_eq!(chosen(&["--filter", "code"]), ["owner0/model-00", "owner1/model-04", "owner2/model-08"]);
    let both = ["--filter", "code", "--filter", "license:mit", "--exclude", "owner1/model-04"];
    assert_eq!(chosen(&both), ["owner0/model-00", "owner2/model-08"]);
    assert!(chosen(&["--filter", "code", "--filter", "no-such-tag"]).is_empty());
}

#[test]
fn names_that_are_none_do_not_stop_the_others() {
    let mut models = dozen();
    models.add_tiny("owner0/hidden", 99);
    models.describe("owner0/hidden", &json!({"private": true}));
    crate::support::write(&models.path().join("hub.json"), r#"{"renames":{"old/name":"owner0/model-03"}}"#);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let wanted =
        ["owner0/model-00", "org/missing", "old/name", "owner1/model-01@main", "owner0/hidden", "a/b/c"];
    let args: Vec<&str> = wanted.iter().flat_map(|name| ["--repo", name]).collect();
    let report = cli.crawl(1, &args);
    let rows = cli.rows();
    assert_adds_up(&report, &rows);
    assert_eq!(report["outcomes"], json!({"indexed": 3, "malformed": 1, "missing": 2}));
    let outcome = |name: &str| rows[name].outcome.name();
    assert_eq!(
        outcome("owner0/model-03"),
        "indexed",
        "a renamed repository has a row under its present name"
    );
    assert_eq!(
        (outcome("org/missing"), outcome("owner0/hidden"), outcome("a/b/c")),
        ("missing", "missing", "malformed")
    );
    assert!(rows["org/missing"].reason.as_ref().unwrap().contains("org/missing"));

    let failures: Vec<&Value> = report["failures"].as_array().unwrap().iter().map(|f| &f["repo"]).collect();
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert_eq!(cli.crawl(0, &["--repo", "old/name"])["unchanged"], 1);
}

#[test]
fn a_revision_that_is_none_is_missing() {
    let models = dozen();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(1, &["--repo", "owner0/model-00@no-such-branch"]);
    assert_eq!(report["outcomes"], json!({"missing": 1}));
}

#[test]
fn a_hub_that_is_down_is_an_error_with_a_hint() {
    let cli = Cli::new(&nobody());
    let ended = cli.expect(75, &["crawl", "--db", "DB", "--json"]);
    ended.says(&[
        "error: the listing broke off after 0 repositories",
        "127.0.0.1",
        "hint: check the network",
    ]);
    assert!(cli.rows().is_empty());
}

#[test]
fn an_endpoint_that_is_no_url_is_refused_at_once() {
    for endpoint in ["huggingface.co", "ftp://127.0.0.1", "http://user:hf_pass@127.0.0.1"] {
        let ended = Cli::new(endpoint).expect(2, &["crawl", "--db", "DB"]);
        ended.says(&["error: the endpoint"]);
        assert!(!ended.stderr.contains("hf_pass"), "{}", ended.stderr);
    }
}
