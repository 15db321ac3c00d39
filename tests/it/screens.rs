//! What people see: help, tables, reports and errors of the binary, in `tests/snapshots`. What differs from run to run
//! has a placeholder. Who changes a text on purpose records anew, with `INSTA_UPDATE=always cargo test --test it screens::`,
//! and reads the difference.

use std::fs;
use std::path::Path;

use crate::support::{Cli, Hub, Models, demo, demo_hub, files_below, is_as_recorded, nobody, read, write};

const BASE: &str = "lumenworks/stdlib-llama-500k";
const SIZE: &str = r"\d+(\.\d)? [kM]?B";

/// Holds a text against the recorded one.
fn looks(cli: &Cli, path: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    for (varies, placeholder) in [
        (&*regex::escape(&cli.home().display().to_string()), "[home]"),
        (&regex::escape(env!("CARGO_MANIFEST_DIR")), "[project]"),
        (r"127\.0\.0\.1:\d+", "[hub]"),
        (r"\[request [^\]]+\]", "[request]"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z)?", "[time]"),
        (r"\b\d+(\.\d+)?( s\b| hours| a second)", "[n]$2"),
        (r"\b\d+(\.\d+)? s\b", "[n] s"),
        (r"it would take [^,]+,", "it would take [n],"),
        (&format!("{SIZE} (a model|in all|of memory|peak memory|received|stated)"), "[size] $2"),
        (&format!("{SIZE}; "), "[size]; "),
        // Of two equal files whichever is opened first is read.
        (&format!(r"(?m)(%  +{SIZE}  +){SIZE} *$"), "$1[size]"),
        // Of a family: it depends on which of several equal repositories was read.
        (r"\([0-9a-f]{16}\)", "([id])"),
        // What another machine's logarithm may change.
        (r"(\d\.\d{10})\d+", "$1"),
        (r#"("seconds": ).*"#, "$1[n]"),
        (r"(\d+  )\d+(  whole)", "$1[n]$2"),
    ] {
        settings.add_filter(varies, placeholder);
    }
    settings.bind(|| is_as_recorded(path, text));
}

/// Commands with what they print on stdout, one below the other. Each must end with its code.
fn shown(cli: &Cli, commands: &[(i32, &[&str])]) -> String {
    let show = |(code, args): &(i32, &[&str])| {
        format!("$ hubprint {}\n{}", args.join(" "), cli.expect(*code, args).stdout)
    };
    commands.iter().map(show).collect::<Vec<_>>().join("\n")
}

/// The same with neighbouring lines that begin like this in order: repositories are named as they end.
fn ordered(text: &str, begin: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let begins = |line: &&str| line.starts_with(begin);
    lines
        .chunk_by_mut(|a, b| begins(a) == begins(b))
        .filter(|lines| begins(&lines[0]))
        .for_each(<[&str]>::sort);
    lines.join("\n")
}

/// Tables whose columns are as wide as what varies in them, without their width.
fn narrow(text: &str) -> String {
    let text = regex::Regex::new("─+").unwrap().replace_all(text, "─").into_owned();
    regex::Regex::new("  +").unwrap().replace_all(&text, "  ").into_owned()
}

/// The help of a command and of all below it.
fn help(cli: &Cli, command: &[&str], out: &mut String) {
    let text = cli.expect(0, &[command, &["--help"]].concat()).stdout;
    *out += &format!("$ hubprint {}\n{text}\n", [command, &["--help"]].concat().join(" "));
    let commands = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let names = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next()
    });
    for name in names.filter(|name| *name != "help") {
        help(cli, &[command, &[name]].concat(), out);
    }
}

#[test]
fn help_of_every_command() {
    let cli = Cli::new(&nobody());
    let mut all = String::new();
    help(&cli, &[], &mut all);
    assert!(all.matches("\nUsage: ").count() > 20, "{all}");
    looks(&cli, "snapshots/help", &all);
}

#[test]
fn tables_of_a_scan() {
    let demo = demo();
    let scan = |model| shown(&demo.cli, &[(0, &["scan", "--db", "DB", "--top-k", "3", model])]);
    let models = ["northwind-ml/mail-coder", "tinyforge/stdlib-llama-3layer", "basalt-research/basalt-500k"];
    let text = models.map(scan).join("\n");
    looks(&demo.cli, "snapshots/scan", &text);
}

#[test]
fn tables_of_a_comparison() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    let (tuned, pruned) = ("lumenworks/stdlib-llama-500k-docs", "tinyforge/stdlib-llama-3layer");
    let text = shown(
        &cli,
        &[
            (0, &["compare", BASE, tuned]),
            (0, &["compare", BASE, "mirrorhub/python-llama"]),
            (0, &["compare", "--screen", BASE, "pebblenet/pebble-llama-200k"]),
            (0, &["compare", "--plain", BASE, tuned]),
            (0, &["compare", BASE, "retrocheck/wren-gpt2-markup"]),
        ],
    );
    looks(&cli, "snapshots/compare", &text);
    let text = shown(
        &cli,
        &[
            (0, &["compare", "--explain", BASE, tuned]),
            (0, &["compare", "--explain", BASE, pruned]),
            (0, &["compare", "--explain", BASE, "orchardml/pyllama-500k"]),
        ],
    );
    looks(&cli, "snapshots/explain", &text);
    let json = cli.expect(0, &["compare", "--json", BASE, pruned]).json();
    looks(&cli, "snapshots/compare-json", &serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn tables_of_a_database() {
    let demo = demo();
    let text = shown(
        &demo.cli,
        &[
            (0, &["db", "info", "--db", "DB"]),
            (0, &["db", "verify", "--db", "DB"]),
            (0, &["status", "--db", "DB"]),
            (0, &["db", "show", "--db", "DB", "retrocheck/wren-gpt2-markup", "oldmill/gpt2-code-helper"]),
        ],
    );
    looks(&demo.cli, "snapshots/database", &narrow(&text));
    let report =
        files_below(&demo.cli.db()).into_iter().find(|path| path.extension().is_some_and(|e| e == "md"));
    let report = String::from_utf8(read(&report.expect("the crawl left a report"))).unwrap();
    looks(&demo.cli, "snapshots/report", &ordered(&report, "| "));
}

#[test]
fn reports_of_a_run() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    let text = shown(&cli, &[(0, &["crawl", "--db", "DB", "--dry-run"]), (1, &["crawl", "--db", "DB"])]);
    looks(&cli, "snapshots/crawl", &ordered(&text, "  "));

    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("a/two", 2);
    models.add_tiny("b/held-out", 1);
    let cli = Cli::new(&nobody());
    let pipeline = format!(
        "[database]\npath = 'db'\n[hub]\nserve = '{}'\n[enumerate]\nexclude = ['b/held-out']\n[index]\n[scan]\nmodels = ['b/held-out']\n",
        models.path().display()
    );
    write(&cli.home().join("pipeline.toml"), pipeline);
    looks(&cli, "snapshots/run", &shown(&cli, &[(0, &["run", "pipeline.toml"])]));
}

#[test]
fn errors_say_what_to_do() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    write(&cli.home().join("unknown-key.toml"), "[database]\npath = 'db'\n[enumerate]\nlimits = 1\n");
    write(&cli.home().join("no-enumerate.toml"), "[database]\npath = 'db'\n");
    cli.crawl(0, &["--repo", BASE]);
    let commands: [&[&str]; 22] = [
        &["compare", BASE],
        &["compare", BASE, "no/such-model"],
        &["compare", BASE, "kestrel-ai/kestrel-code-ext-v2"],
        &["compare", BASE, "meridian-ai/meridian-tests"],
        &["compare", BASE, "oldmill/gpt2-code-helper"],
        &["compare", BASE, "a/b/c"],
        &["compare", BASE, "./nowhere"],
        &["compare", "--full", BASE, BASE],
        &["scan", BASE],
        &["scan", "--db", "nowhere", BASE],
        &["scan", "--db", "DB", BASE],
        &["crawl", "--db", "DB", "--partition", "6/5"],
        &["run", "nowhere.toml"],
        &["run", "unknown-key.toml"],
        &["run", "--dry-run", "no-enumerate.toml"],
        &["eval", "nowhere.tsv"],
        &["hub", "serve", "nowhere"],
        &["hub", "serve", ".", "--set", "limits.nothing=1"],
        &["db", "export", "--db", "DB", "--out", "edges.txt"],
        &["db", "pull", "--db", "copy", "nowhere"],
        &["publish", "--db", "DB", "--to", "shelf", "--yes"],
        &["dev", "checkpoint", "bert-bass", "--to", "there"],
    ];
    let show = |args: &&[&str]| format!("$ hubprint {}\n{}", args.join(" "), cli.expect(2, args).stderr);
    looks(&cli, "snapshots/errors", &commands.iter().map(show).collect::<Vec<_>>().join("\n"));
}

#[test]
fn nothing_is_recorded_for_which_there_is_no_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source: String =
        files_below(&tests.join("it")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let recorded =
        files_below(&tests).into_iter().filter(|path| path.extension().is_some_and(|e| e == "snap"));
    let mut names: Vec<String> =
        recorded.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    names.retain(|name| !source.contains(&format!("/{name}\"")) && !source.contains(&format!("\"{name}\"")));
    assert!(names.is_empty(), "no test has {names:?}; remove their files");
}
