//! compare: the truth about the demo models, and the command with every kind of argument.

use std::fs;
use std::os::unix::fs::symlink;

use futures_util::future::try_join_all;
use hubprint::hub::{Hub as Client, HubSettings};
use hubprint::signals::verdict::VerdictKind;
use hubprint::stages::compare::compare;
use hubprint::stages::model::{self, LoadSettings, Subject};
use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, Truth, demo_hub, keys, temp, tiny, tiny_with, write};

const BASE: &str = "lumenworks/stdlib-llama-500k";

/// How a relation of the truth may be called. Weights alone do not tell a merge or a sibling from a fine-tune.
fn names(relation: &str) -> &'static [&'static str] {
    match relation {
        "identical" => &["identical"],
        "cast" | "renamed-copy" => &["copy or cast"],
        // Rounding to 8 bits with a scale a row is finer than a sketch resolves.
        "quantised" => &["quantised", "copy or cast"],
        "depth-pruned" => &["depth changed"],
        "lora" => &["LoRA or partial fine-tune"],
        "continued-pretraining" => &["vocabulary changed"],
        "fine-tune" | "merge" => &["fine-tune or sibling", "LoRA or partial fine-tune"],
        _ => &[],
    }
}

#[test]
fn every_pair_of_the_demo_models_is_judged_as_it_is() {
    let truth = Truth::read();
    let hub = Hub::serve(&demo_hub(), &[]);
    let client = Client::new(HubSettings::new(hub.url()).unwrap()).unwrap();
    let mut ids: Vec<&str> = truth.pairs.iter().flat_map(|pair| [&*pair.a, &*pair.b]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() > 20, "only {} models", ids.len());
    let settings = LoadSettings::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let subjects: Vec<Subject> =
        runtime.block_on(try_join_all(ids.iter().map(|id| model::load(id, &client, &settings)))).unwrap();
    let subject = |id: &str| &subjects[ids.binary_search(&id).unwrap()];

    let mut wrong = Vec::new();
    for pair in &truth.pairs {
        let verdict = compare(subject(&pair.a), subject(&pair.b)).unwrap().verdict;
        let mirrored = compare(subject(&pair.b), subject(&pair.a)).unwrap().verdict;
        let relation = verdict.relation.map_or("", |relation| relation.name());
        let named = names(&pair.relation);
        if verdict.kind.related() != Some(pair.related) || !(named.is_empty() || named.contains(&relation)) {
            wrong.push(format!(
                "{} | {}: {} is called {relation:?}: {verdict:?}",
                pair.a, pair.b, pair.relation
            ));
        }
        if verdict.kind != mirrored.kind || verdict.relation != mirrored.relation {
            wrong.push(format!("{} | {}: the order matters: {verdict:?}, {mirrored:?}", pair.a, pair.b));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), truth.pairs.len(), wrong.join("\n"));
    for (id, subject) in ids.iter().zip(&subjects) {
        assert_eq!(compare(subject, subject).unwrap().verdict.kind, VerdictKind::Identical, "{id}");
    }
}

/// What `compare --json` promises.
fn assert_documented(answer: &Value) {
    let expected = [
        "a",
        "b",
        "bytes_fetched",
        "layer_map",
        "p_value",
        "related",
        "relation",
        "score",
        "seconds",
        "signals",
        "verdict",
        "why",
    ];
    let mut found = keys(answer);
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(keys(&answer["signals"]), ["embedding", "layer_map", "norm_gains", "weight_blocks"]);
    for signal in answer["signals"].as_object().unwrap().values() {
        let mut found = keys(signal);
        found.sort_unstable();
        assert_eq!(found, ["n", "reason", "value", "z"]);
        let present = signal["reason"].is_null();
        for key in ["value", "z", "n"] {
            assert_eq!(signal[key].is_number(), present, "{signal}");
        }
    }
    assert!(!answer["why"].as_str().unwrap().is_empty());
    let score = answer["score"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&score), "{score}");
}

#[test]
fn names_revisions_folders_and_cache_snapshots_can_be_mixed() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    let models = demo_hub().join("models");
    let folder = |id: &str| models.join(id).display().to_string();

    // The layout of the Hugging Face cache: snapshots of links into blobs.
    let cache = temp();
    let cached = cache.path().join("models--mirrorhub--python-llama");
    let snapshot = cached.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(cached.join("blobs")).unwrap();
    write(&cached.join("refs/main"), "0123456789abcdef0123456789abcdef01234567");
    for (i, name) in ["config.json", "model.safetensors"].iter().enumerate() {
        fs::copy(models.join("mirrorhub/python-llama").join(name), cached.join(format!("blobs/{i}")))
            .unwrap();
        symlink(format!("../../blobs/{i}"), snapshot.join(name)).unwrap();
    }
    let (snapshot, cached) = (snapshot.display().to_string(), cached.display().to_string());

    let revision = format!("{BASE}@main");
    let docs = folder("lumenworks/stdlib-llama-500k-docs");
    let cases: [(&str, &str, &str, Value); 7] = [
        (BASE, "compactzoo/stdlib-llama-500k-w4g32-dq", "derived", json!("quantised")),
        (BASE, &snapshot, "identical", json!("identical")),
        (&revision, &cached, "identical", json!("identical")),
        (BASE, "compactzoo/stdlib-llama-500k-bf16", "derived", json!("copy or cast")),
        (&revision, &folder("tinyforge/stdlib-llama-3layer-healed"), "derived", json!("depth changed")),
        (&snapshot, &docs, "derived", json!("fine-tune or sibling")),
        ("lumen/stdlib-llama", &folder("orchardml/pyllama-500k"), "independent", Value::Null),
    ];
    for (a, b, verdict, relation) in cases {
        let answer = cli.expect(0, &["compare", "--json", a, b]).json();
        assert_documented(&answer);
        assert_eq!((&answer["a"], &answer["b"]), (&json!(a), &json!(b)));
        assert_eq!(
            (&answer["verdict"], &answer["relation"]),
            (&json!(verdict), &relation),
            "{a} {b}: {answer}"
        );
        assert_eq!(answer["related"], verdict != "independent");
    }
    let table = cli.expect(0, &["compare", BASE, &docs]).stdout;
    for word in ["derived (fine-tune or sibling)", "weight_blocks", "LlamaForCausalLM"] {
        assert!(table.contains(word), "no {word:?} in:\n{table}");
    }
}

#[test]
fn equal_samples_do_not_make_files_identical() {
    let mut models = Models::new();
    let plain = models.add_tiny("a/one", 1);
    let other = models.add_tiny("a/two", 1);
    let both = [plain.display().to_string(), other.display().to_string()];
    let cli = Cli::new(&crate::support::nobody());
    let verdict = || cli.expect(0, &["compare", "--json", &both[0], &both[1]]).json()["verdict"].clone();
    assert_eq!(verdict(), "identical");

    // The header's padding belongs to the file and to no sample.
    let mut padded = tiny(1);
    let length = u64::from_le_bytes(padded[..8].try_into().unwrap());
    padded.splice(8 + length as usize..8 + length as usize, *b"        ");
    padded[..8].copy_from_slice(&(length + 8).to_le_bytes());
    write(&other.join("model.safetensors"), padded);
    assert_eq!(verdict(), "derived");
}

#[test]
fn a_scaled_copy_is_related() {
    // Scaling leaves the direction of every row: correlations do not see it.
    let mut models = Models::new();
    let one = models.add_tiny("a/one", 1);
    let scaled = tiny_with(1, |_, values| values.iter_mut().for_each(|v| *v *= 3.0));
    let two = models.add("a/two", &[("model.safetensors", &scaled)]);
    let cli = Cli::new(&crate::support::nobody());
    let answer =
        cli.expect(0, &["compare", "--json", &one.display().to_string(), &two.display().to_string()]).json();
    assert_eq!(answer["related"], true, "{answer}");
}

#[test]
fn what_cannot_be_compared_is_named_with_a_hint() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    cli.expect(2, &["compare", BASE, "no/such-model"]).says(&["error: no/such-model", "hint: "]);
    cli.expect(2, &["compare", BASE, "kestrel-ai/kestrel-code-ext-v2"])
        .says(&["error: kestrel-ai/kestrel-code-ext-v2: model.safetensors", "hint: the file is damaged"]);
    cli.expect(2, &["compare", "meridian-ai/meridian-tests", BASE])
        .says(&["meridian-tests", "hint: set HF_TOKEN"]);
    cli.expect(2, &["compare", BASE, "a/b/c"]).says(&["neither a folder nor a repository id", "hint: "]);
    cli.expect(2, &["compare", BASE, "./nowhere"]).says(&["error: ./nowhere"]);
    let ended = cli.expect(2, &["compare", "--json", BASE, "retrocheck/wren-gpt2-markup"]);
    ended.says(&["no safetensors weights", "pytorch_model.bin"]);
    assert_eq!(ended.stdout, "", "stdout is data only");
}
