//! What commands print as JSON: held against its written schema, against the keys that were there before, and against
//! docs/json.md. `HUBPRINT_WRITE_DOCS=1 cargo test --test it schemas::` writes the schemas and the document anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hubprint::answers::bulk::BulkLine;
use hubprint::answers::census::Census;
use hubprint::answers::compare::{CompareAnswer, CompareJob, ScreenAnswer};
use hubprint::answers::eval::EvalAnswer;
use hubprint::answers::info::Info;
use hubprint::answers::judgement::Judgement;
use hubprint::answers::scan::{ScanJob, ScanLine};
use hubprint::answers::score::Score;
use hubprint::answers::show::ShowAnswer;
use hubprint::answers::status::Status;
use hubprint::answers::verify::Verification;
use hubprint::pipeline::index::IndexReport;
use hubprint::pipeline::{Forecast, RunAnswer, RunReport};
use hubprint::publication::plan::Published;
use hubprint::publication::pull::Pulled;
use hubprint::store::maintenance::{Compaction, Merged, Vacuumed};
use hubprint::synthetic::checkpoint::Written;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::support::{Cli, Ended, Hub, Models, demo_hub, files_below, read, write};

/// Something that is written as JSON.
struct Output {
    /// Name of its schema, and what asks for it.
    name: &'static str,
    command: &'static str,
    schema: fn() -> Value,
}

const OUTPUTS: [Output; 22] = [
    Output { name: "crawl", command: "crawl --json", schema: written::<RunReport> },
    Output {
        name: "forecast",
        command: "crawl --dry-run --json, run --dry-run --json",
        schema: written::<Forecast>,
    },
    Output { name: "index", command: "index --json", schema: written::<IndexReport> },
    Output { name: "run", command: "run --json", schema: written::<RunAnswer> },
    Output { name: "status", command: "status --json", schema: written::<Status> },
    Output { name: "scan", command: "scan --json, a line a model", schema: written::<ScanLine> },
    Output {
        name: "scan-bulk",
        command: "scan --from, --from-db or --all-new, a line a model",
        schema: written::<BulkLine>,
    },
    Output { name: "compare", command: "compare --json", schema: written::<CompareAnswer> },
    Output { name: "compare-screen", command: "compare --screen --json", schema: written::<ScreenAnswer> },
    Output { name: "eval", command: "eval --json", schema: written::<EvalAnswer> },
    Output { name: "db-info", command: "db info --json", schema: written::<Info> },
    Output { name: "db-show", command: "db show --json, a line a checkpoint", schema: written::<ShowAnswer> },
    Output { name: "db-verify", command: "db verify --json", schema: written::<Verification> },
    Output { name: "db-compact", command: "db compact --json", schema: written::<Compaction> },
    Output { name: "db-vacuum", command: "db vacuum --json", schema: written::<Vacuumed> },
    Output { name: "db-merge", command: "db merge --json", schema: written::<Merged> },
    Output { name: "db-pull", command: "db pull --json", schema: written::<Pulled> },
    Output { name: "publish", command: "publish --json", schema: written::<Published> },
    Output { name: "dev-score", command: "dev score --json", schema: written::<Score> },
    Output { name: "dev-roles", command: "dev roles --json", schema: written::<Census> },
    Output { name: "dev-checkpoint", command: "dev checkpoint --json", schema: written::<Written> },
    Output {
        name: "judgement",
        command: "a part of `scan`, `compare` and `eval`",
        schema: written::<Judgement>,
    },
];

/// Questions that the library takes as JSON.
const JOBS: [Output; 2] = [
    Output { name: "scan-job", command: "answers::scan::ScanJob", schema: taken::<ScanJob> },
    Output { name: "compare-job", command: "answers::compare::CompareJob", schema: taken::<CompareJob> },
];

fn written<T: JsonSchema>() -> Value {
    schema_of::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn taken<T: JsonSchema>() -> Value {
    schema_of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

fn schema_of<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let text = settings.into_generator().into_root_schema_for::<T>().to_value().to_string();
    // Links between items lead nowhere outside of rustdoc.
    serde_json::from_str(&text.replace("[`", "`").replace("`]", "`")).unwrap()
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn schema_file(name: &str) -> PathBuf {
    docs().join("schema").join(name).with_extension("json")
}

/// Asserts that a file of the docs is as it should be, or makes it so where that is asked for.
fn is_kept(path: &Path, text: &str) {
    if std::env::var_os("HUBPRINT_WRITE_DOCS").is_some() {
        return write(path, text);
    }
    let found = String::from_utf8(if path.exists() { read(path) } else { Vec::new() }).unwrap();
    assert!(
        found == text,
        "{} is not what the types say: `HUBPRINT_WRITE_DOCS=1 cargo test --test it schemas::` writes it anew",
        path.display()
    );
}

#[test]
fn schemas_and_document_are_those_of_the_types() {
    let mut names = BTreeSet::new();
    for Output { name, schema, .. } in OUTPUTS.iter().chain(&JOBS) {
        let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        let is_closed = text.contains("\"additionalProperties\": false");
        assert!(!is_closed || name.ends_with("-job"), "{name}: keys could not be added");
        is_kept(&schema_file(name), &text);
        names.insert(schema_file(name));
    }
    let present: BTreeSet<PathBuf> =
        crate::support::files_below(&docs().join("schema")).into_iter().collect();
    assert_eq!(present, names, "a schema that nothing writes");
    is_kept(&docs().join("json.md"), &document());
}

const INTRODUCTION: &str = "\
# JSON

`--json` prints one object on one line of stdout; scans and lists print a line a model. Each output has a section here \
and a [JSON Schema](schema) (draft 2020-12), which real outputs are held against in the tests. Both are written from \
the types and their documentation by `HUBPRINT_WRITE_DOCS=1 cargo test --test it schemas::`.

- Keys are only ever added, and so are words to lists of words: read what you know, and let the rest be.
- Every key of a table is always there, unless its section says otherwise; what is not known is null.
- Sizes are bytes, durations seconds, points in time RFC 3339 in UTC, unless the key says otherwise.
- Outcomes of a repository: `indexed`; `gated`, `disabled`, `unsupported` (not read, and nothing is wrong); `missing`, \
`malformed`, `unreachable` (failed: exit code 1).
- `hub serve` prints `hub` and `cdn`, the URLs that it listens at, on one line as soon as it does.
- A command that fails as a whole prints no object; exit codes and stderr say why. With `--log-format json` every line \
of stderr is an object, too: `timestamp`, `level`, `target`, `fields` (`message`, `hint` of an error).
";

/// docs/json.md.
fn document() -> String {
    let mut text = INTRODUCTION.to_owned() + "\n## Contents\n\n";
    for Output { name, command, .. } in OUTPUTS.iter().chain(&JOBS) {
        text += &format!("- [{name}](#{name}): {}\n", code(command));
    }
    let mut parts: BTreeMap<String, Value> = BTreeMap::new();
    let mut sections = String::new();
    for Output { name, command, schema } in OUTPUTS.iter().chain(&JOBS) {
        let mut schema = schema();
        sections += &format!("\n## {name}\n\n{}; [schema](schema/{name}.json)\n", code(command));
        if let Some(Value::Object(defs)) = schema.as_object_mut().unwrap().remove("$defs") {
            parts.extend(defs);
        }
        sections += &described(&schema, *name == "judgement");
    }
    text += "- [Parts](#parts) of these\n";
    text += &sections;
    text += "\n## Parts\n";
    for (name, schema) in &parts {
        text += &format!("\n### {name}\n{}", described(schema, false));
    }
    text
}

/// A command as code, with words about it after a comma.
fn code(command: &str) -> String {
    if command.contains('`') { command.to_owned() } else { format!("`{}`", command.replace(", ", "`, `")) }
        .replace("`a line a model`", "a line a model")
        .replace("`--from-db or --all-new`", "`--from-db` or `--all-new`")
}

fn sentence(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The description of a type, and the table of its keys or words.
fn described(schema: &Value, is_judgement: bool) -> String {
    let mut text = match sentence(schema) {
        said if said.is_empty() => String::new(),
        said => format!("\n{said}\n"),
    };
    if let Some(forms) = schema["anyOf"].as_array() {
        let forms: Vec<String> = forms.iter().map(kind).collect();
        return text + &format!("\n{}\n", forms.join(" or "));
    }
    if let Some(words) = schema["oneOf"].as_array() {
        text += "\n| word | meaning |\n|---|---|\n";
        for word in words {
            let name = word["const"].as_str().unwrap();
            text += &format!("| `{name}` | {} |\n", sentence(word).replace('|', "\\|"));
        }
        return text;
    }
    let judgement = written::<Judgement>();
    let of_judgement = judgement["properties"].as_object().unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let has_judgement = !is_judgement && of_judgement.keys().all(|key| properties.contains_key(key));
    text += "\n| key | type | meaning |\n|---|---|---|\n";
    for (key, property) in properties {
        if has_judgement && of_judgement.contains_key(key) {
            continue;
        }
        text += &format!("| `{key}` | {} | {} |\n", kind(property), sentence(property).replace('|', "\\|"));
    }
    if has_judgement {
        let required = schema["required"].as_array().unwrap();
        let always = required.contains(&Value::from("verdict"));
        let when = if always { "" } else { ", where `error` is null" };
        text += &format!("\nBeside these it has the keys of a [judgement](#judgement){when}.\n");
    }
    text
}

/// The type of a value in words.
fn kind(schema: &Value) -> String {
    if let Some(part) = schema["$ref"].as_str() {
        let name = part.rsplit('/').next().unwrap();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        return forms.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
        other => panic!("{other}: {schema}"),
    };
    let one = |name: &str| match name {
        "array" if schema["items"].is_object() => {
            let n = schema["minItems"].as_u64().map_or_else(|| "list of ".into(), |n| format!("{n} of "));
            format!("{n}{}", kind(&schema["items"]))
        }
        "array" => {
            let items = schema["prefixItems"].as_array().unwrap();
            format!("({})", items.iter().map(kind).collect::<Vec<_>>().join(", "))
        }
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        name => name.to_owned(),
    };
    names.into_iter().map(one).collect::<Vec<_>>().join(" or ")
}

/// The schemas, and what was printed.
struct Held {
    schemas: boon::Schemas,
    index: BTreeMap<&'static str, boon::SchemaIndex>,
    keys: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Held {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        let index = OUTPUTS.iter().chain(&JOBS).map(|output| {
            let file = schema_file(output.name).display().to_string();
            (output.name, compiler.compile(&file, &mut schemas).unwrap())
        });
        Self { index: index.collect(), schemas, keys: BTreeMap::new() }
    }

    /// Asserts that a value is what a schema says.
    fn value(&mut self, name: &'static str, value: &Value) {
        if let Err(error) = self.schemas.validate(value, self.index[name]) {
            panic!("{name}: {error:#}\n{value:#}");
        }
        keys_of(value, "", self.keys.entry(name).or_default());
    }

    /// The same of every line that a command printed.
    fn lines(&mut self, name: &'static str, ended: &Ended) {
        let lines = ended.lines();
        assert!(!lines.is_empty(), "{name}: nothing printed");
        for line in &lines {
            self.value(name, line);
        }
    }
}

/// Every key with the way to it.
fn keys_of(value: &Value, way: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let way = format!("{way}.{key}");
                keys_of(value, &way, all);
                all.insert(way);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys_of(value, &format!("{way}[]"), all)),
        _ => {}
    }
}

#[test]
fn schemas_refuse_what_is_not_so() {
    let held = Held::new();
    let is_valid = |name: &str, text: &str| {
        held.schemas.validate(&serde_json::from_str(text).unwrap(), held.index[name]).is_ok()
    };
    assert!(is_valid("db-merge", r#"{"sources": 1, "shards": 2, "rows": 3}"#));
    assert!(is_valid("db-merge", r#"{"sources": 1, "shards": 2, "rows": 3, "of_tomorrow": null}"#));
    assert!(!is_valid("db-merge", r#"{"sources": 1, "shards": 2}"#));
    assert!(!is_valid("db-merge", r#"{"sources": 1, "shards": -2, "rows": 3}"#));
    assert!(is_valid("scan", r#"{"query": "a/b", "error": "gone", "hint": null}"#));
    assert!(!is_valid("scan", r#"{"query": "a/b", "error": "gone"}"#));
    assert!(is_valid("scan-job", r#"{"model": "a/b"}"#) && !is_valid("scan-job", r#"{"top_k": 3}"#));
}

#[test]
fn what_commands_print_is_valid_and_has_the_keys_of_before() {
    // The demo Hub, and a repository of every other outcome.
    let mut all = Models::new();
    for file in files_below(&demo_hub()) {
        write(&all.path().join(file.strip_prefix(demo_hub()).unwrap()), read(&file));
    }
    all.add("retrocheck/keras", &[("tf_model.h5", b"not read")]);
    let hub = Hub::serve(all.path(), &[]);
    let cli = Cli::new(hub.url());
    let mut held = Held::new();
    let models = demo_hub().join("models");
    let model = |name: &str| models.join(name).display().to_string();
    let (base, docs) = (model("lumenworks/stdlib-llama-500k"), model("lumenworks/stdlib-llama-500k-docs"));
    let other = model("orchardml/pyllama-500k");
    let root = models.display().to_string();

    held.lines("forecast", &cli.expect(0, &["crawl", "--db", "DB", "--dry-run", "--json"]));
    let crawl = ["crawl", "--db", "DB", "--json", "--all-small-files", "--exclude", "mirrorhub/python-llama"];
    held.lines("crawl", &cli.expect(1, &crawl));
    held.lines("index", &cli.expect(0, &["index", "--db", "DB", "--json"]));
    held.lines("status", &cli.expect(0, &["status", "--db", "DB", "--json"]));
    let queries = [
        "mirrorhub/python-llama",
        "basalt-research/basalt-500k",
        "lumenworks/stdlib-llama-500k-docs",
        "no/such",
    ];
    let scan = [&["scan", "--db", "DB", "--json"], &queries[..]].concat();
    held.lines("scan", &cli.expect(1, &scan));
    write(&cli.home().join("list"), queries.join("\n"));
    held.lines("scan-bulk", &cli.expect(1, &["scan", "--db", "DB", "--from", "list"]));
    held.lines("scan-bulk", &cli.expect(0, &["scan", "--db", "DB", "--all-new"]));

    let whole = ["compare", "--json", &base, &docs, "--explain", "--full", "--with", &other];
    held.lines("compare", &cli.expect(0, &whole));
    held.lines("compare", &cli.expect(0, &["compare", "--json", &base, &other]));
    held.lines("compare-screen", &cli.expect(0, &["compare", "--json", "--screen", &base, &other]));
    write(
        &cli.home().join("pairs.tsv"),
        "a\tb\trelated\trelation\nlumenworks/stdlib-llama-500k\tlumenworks/stdlib-llama-500k-docs\t1\tft\n\
         lumenworks/stdlib-llama-500k\tgone/x\t0\tnone\n",
    );
    held.lines("eval", &cli.expect(1, &["eval", "pairs.tsv", "--json", "--root", &root]));

    held.lines("db-info", &cli.expect(0, &["db", "info", "--db", "DB", "--json"]));
    let models = ["codewren/wren-gpt2", "meridian-ai/meridian-tests", "no/such"];
    held.lines("db-show", &cli.expect(1, &[&["db", "show", "--db", "DB", "--json"], &models[..]].concat()));
    held.lines("db-verify", &cli.expect(0, &["db", "verify", "--db", "DB", "--json", "--deep"]));
    held.lines("db-compact", &cli.expect(0, &["db", "compact", "--db", "DB", "--json"]));
    held.lines("db-vacuum", &cli.expect(0, &["db", "vacuum", "--db", "DB", "--json"]));
    held.lines("db-merge", &cli.expect(0, &["db", "merge", "--db", "all", "--json", "DB"]));
    cli.expect(0, &["db", "keygen", "key"]);
    let publish = ["publish", "--db", "DB", "--to", "remote", "--key", "key", "--json"];
    held.lines("publish", &cli.expect(0, &publish));
    held.lines("publish", &cli.expect(0, &[&publish[..], &["--yes"]].concat()));
    held.lines("db-pull", &cli.expect(0, &["db", "pull", "remote", "--db", "copy", "--json"]));
    held.lines("db-verify", &cli.expect(0, &["db", "verify", "--db", "copy", "--json"]));

    let pipeline = format!(
        "[database]\npath = 'nightly'\n[hub]\nserve = '{}'\n[enumerate]\nexclude = ['mirrorhub/python-llama']\n[index]\n\
         [maintenance]\ncompact_from = 1\nyounger = '0s'\n[scan]\nmodels = ['mirrorhub/python-llama', 'no/such']\n\
         [publish]\nto = 'remote2'\nkey = 'key'\n",
        all.path().display()
    );
    write(&cli.home().join("nightly.toml"), pipeline);
    held.lines("forecast", &cli.expect(0, &["run", "nightly.toml", "--dry-run", "--json"]));
    let run = cli.expect(1, &["run", "nightly.toml", "--json"]);
    held.lines("run", &run);
    // Its parts are what the commands of their own print.
    let run = run.json();
    for (part, name) in [("crawl", "crawl"), ("index", "index"), ("publish", "publish")] {
        held.value(name, &run[part]);
    }
    run["scan"].as_array().unwrap().iter().for_each(|line| held.value("scan", line));

    cli.expect(
        0,
        &["dev", "population", "--models", "200", "--queries", "20", "--strangers", "5", "--db", "made"],
    );
    cli.expect(0, &["index", "--db", "made"]);
    let answers = cli.expect(0, &["scan", "--db", "made", "--from-db", "made/queries"]);
    held.lines("scan-bulk", &answers);
    write(&cli.home().join("answers"), answers.stdout);
    let score =
        ["dev", "score", "made/queries/truth.tsv", "answers", "--families", "made/truth.tsv", "--json"];
    held.lines("dev-score", &cli.expect(0, &score));
    write(&cli.home().join("list"), r#"{"type": "any", "tensors": {"embed_tokens.weight": [8, 4]}}"#);
    held.lines("dev-roles", &cli.expect(0, &["dev", "roles", "list", "--json"]));
    held.lines(
        "dev-checkpoint",
        &cli.expect(0, &["dev", "checkpoint", "bert-base", "--to", "bert", "--json"]),
    );

    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/json-keys.json");
    let before: BTreeMap<String, Vec<String>> = serde_json::from_slice(&read(&before)).unwrap();
    let mut lost = Vec::new();
    for (name, keys) in &before {
        let found = &held.keys[name.as_str()];
        lost.extend(keys.iter().filter(|key| !found.contains(*key)).map(|key| format!("{name}: {key}")));
    }
    assert!(lost.is_empty(), "keys that were there before: {lost:#?}");
    let tried: BTreeSet<&str> = held.keys.keys().copied().collect();
    let all: BTreeSet<&str> =
        OUTPUTS.iter().map(|output| output.name).filter(|name| *name != "judgement").collect();
    assert_eq!(tried, all, "every output was tried");
}

#[test]
fn jobs_are_read_and_written_alike() {
    let held = Held::new();
    let job = CompareJob { a: "x".into(), b: "y".into(), others: vec!["z".into()], ..CompareJob::default() };
    let jobs: Map<String, Value> = [
        ("scan-job".to_owned(), serde_json::to_value(ScanJob::new("org/name")).unwrap()),
        ("compare-job".to_owned(), serde_json::to_value(&job).unwrap()),
    ]
    .into_iter()
    .collect();
    for (name, value) in &jobs {
        held.schemas.validate(value, held.index[name.as_str()]).unwrap();
    }
    assert_eq!(
        serde_json::from_value::<ScanJob>(jobs["scan-job"].clone()).unwrap(),
        ScanJob::new("org/name")
    );
    assert_eq!(serde_json::from_value::<CompareJob>(jobs["compare-job"].clone()).unwrap(), job);
}
