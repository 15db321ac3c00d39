//! run: pipeline files, and the order of what decides where the Hub is.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, demo_hub, nobody, read, send, write};

fn models() -> Models {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("a/two", 2);
    models.add_tiny("b/held-out", 1);
    models
}

/// Writes a pipeline file into the working directory.
fn pipeline(cli: &Cli, text: &str) -> String {
    let path = cli.home().join("pipeline.toml");
    write(&path, text);
    path.display().to_string()
}

fn whole(models: &Models) -> String {
    format!(
        "[database]\npath = 'db'\n[hub]\nserve = '{}'\n[enumerate]\nexclude = ['b/held-out']\n[index]\n\
         [scan]\nmodels = ['b/held-out', 'a/two']\ntop_k = 1\n",
        models.path().display()
    )
}

#[test]
fn a_pipeline_serves_crawls_indexes_and_scans() {
    let models = models();
    // No Hub in the environment: `serve` is the only one.
    let cli = Cli::new(&nobody());
    let path = pipeline(&cli, &whole(&models));
    let all = cli.expect(0, &["run", "--json", &path]).json();
    assert_eq!(all["crawl"]["outcomes"], json!({"indexed": 2}));
    assert_eq!(all["index"]["contents"], 2);
    let best = |i: usize| &all["scan"][i]["families"][0]["members"][0];
    assert_eq!((&best(0)["repo_id"], &best(0)["verdict"]), (&json!("a/one"), &json!("identical")));
    assert_eq!(best(1)["repo_id"], "a/two");
    assert!(cli.db().join("manifests").is_dir(), "paths are relative to the file");

    let text = cli.expect(0, &["run", &path]).stdout;
    for words in [
        "2 unchanged",
        "index of 2 models",
        "b/held-out: of the family of a/one, 1 of 2",
        "same weight files",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
}

#[test]
fn a_wrong_model_in_a_pipeline_is_a_part_failure() {
    let models = models();
    let cli = Cli::new(&nobody());
    let path = pipeline(&cli, &whole(&models).replace("'a/two'", "'no/such'"));
    let all = cli.expect(1, &["run", "--json", &path]).json();
    assert!(all["scan"][0]["families"][0]["members"][0].is_object());
    assert_eq!(all["scan"][1]["query"], "no/such");
    assert!(all["scan"][1]["error"].is_string());
}

#[test]
fn stages_that_a_pipeline_does_not_declare_do_not_run() {
    let models = models();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let path = pipeline(&cli, "[database]\npath = 'db'\n[enumerate]\nlimit = 1\n");
    let all = cli.expect(0, &["run", "--json", &path]).json();
    assert_eq!((&all["crawl"]["models"], &all["index"], &all["scan"]), (&json!(1), &Value::Null, &json!([])));
    let path = pipeline(&cli, "[database]\npath = 'db'\n[index]\n");
    let all = cli.expect(0, &["run", "--json", &path]).json();
    assert_eq!((&all["crawl"], &all["index"]["models"]), (&Value::Null, &json!(1)));
}

#[test]
fn the_shipped_demo_pipeline_runs() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/demo.toml");
    let text = String::from_utf8(read(&shipped)).unwrap();
    let demo = demo_hub().display().to_string();
    let here = text.replace("../demo-db", "db").replace("../data/demo-hub", &demo);
    assert!(here.contains(&demo) && here.contains("\"db\""), "the paths are where they were:\n{text}");
    let cli = Cli::new(&nobody());
    let path = pipeline(&cli, &here);
    let all = cli.expect(0, &["run", "--json", &path]).json();
    assert!(all["crawl"]["outcomes"]["indexed"].as_u64().unwrap() > 10);
    let scans = all["scan"].as_array().unwrap();
    assert!(!scans.is_empty() && scans.iter().all(|scan| scan["error"].is_null()), "{scans:?}");
}

#[test]
fn misspelt_and_contradicting_files_are_refused() {
    let cli = Cli::new(&nobody());
    for (text, words) in [
        ("[database]\npath = 'db'\n[enumerate]\nlimitt = 1\n", "limitt"),
        ("[database]\npath = 'db'\n[enumarate]\n", "enumarate"),
        ("[database]\npath = 'db'\nindex = true\n", "index"),
        ("[enumerate]\n", "database"),
        ("[database]\npath = 'db'\n[write]\naccept = ['malformd']\n", "malformd"),
        (
            "[database]\npath = 'db'\n[hub]\nendpoint = 'http://127.0.0.1:1'\nserve = 'x'\n",
            "both endpoint and serve",
        ),
        ("[database\n", "pipeline.toml"),
    ] {
        let path = pipeline(&cli, text);
        let ended = cli.expect(2, &["run", &path]);
        ended.says(&["error: ", "pipeline.toml", words]);
        assert!(!cli.db().exists(), "nothing is done for {text:?}");
    }
    cli.expect(2, &["run", "no-such.toml"]).says(&["error: no-such.toml"]);
    cli.expect(2, &["run"]);
}

#[test]
fn the_option_beats_the_environment() {
    let models = models();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(&nobody());
    assert_eq!(cli.crawl(0, &["--hub", hub.url(), "--repo", "a/one"])["outcomes"]["indexed"], 1);
    let file = format!(
        "[database]\npath = 'db'\n[hub]\nendpoint = '{}'\n[enumerate]\nrepos = ['a/two']\n",
        hub.url()
    );
    let path = pipeline(&cli, &file);
    cli.expect(0, &["run", &path]);
    assert_eq!(cli.rows().len(), 2);
}

#[test]
fn a_served_folder_is_a_hub_for_other_processes() {
    let models = models();
    let cli = Cli::new(&nobody());
    let folder = models.path().display().to_string();
    let mut command = cli.command(&["hub", "serve", &folder, "--set", "limits.api=1000"]);
    let mut served = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(served.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let origins: Value = serde_json::from_str(&line).unwrap();
    let report = cli.crawl(0, &["--hub", origins["hub"].as_str().unwrap()]);
    assert_eq!(report["outcomes"], json!({"indexed": 3}));
    assert!(origins["cdn"].is_string());
    send(&served, "-TERM");
    assert_eq!(served.wait().unwrap().code(), Some(0));

    cli.expect(2, &["hub", "serve", "no-such-folder"]).says(&["error: "]);
    cli.expect(2, &["hub", "serve", &folder, "--set", "limits.apis=1"]).says(&["error: ", "apis"]);
}

#[test]
fn stdout_is_data_and_arguments_are_checked() {
    let cli = Cli::new(&nobody());
    assert!(cli.expect(0, &["--help"]).stdout.contains("crawl"));
    assert!(cli.expect(0, &["--version"]).stdout.starts_with("hubprint "));
    for args in [
        &["crawl"][..],
        &["scan", "--db", "DB"],
        &["no-such-command"],
        &["crawl", "--db", "DB", "--limit", "x"],
    ] {
        let ended = cli.expect(2, args);
        assert_eq!(ended.stdout, "", "{args:?}");
        assert!(!ended.stderr.is_empty());
    }
}
