//! compare: the truth about the demo models, and the command with every kind of argument.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use futures_util::future::try_join_all;
use hubprint::answers::compare::{Effort, compare};
use hubprint::checkpoint::model::{self, Subject};
use hubprint::checkpoint::plan::PlanSettings;
use hubprint::checkpoint::reading::{ReadSettings, Reader};
use hubprint::hub::{Hub as Client, HubSettings};
use hubprint::signals::battery::{EMBEDDING, NORM_GAINS, WEIGHT_BLOCKS};
use hubprint::signals::blocks::Block;
use hubprint::signals::verdict::VerdictKind;
use hubprint::signals::{Samples, sampled};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::{
    Cli, Hub, Models, Pair, Truth, demo_hub, is_as_recorded, keys, temp, tiny, tiny_with, write,
};

const BASE: &str = "lumenworks/stdlib-llama-500k";

/// How a relation of the truth may be called. Weights alone do not tell a merge or a sibling from a fine-tune.
fn names(relation: &str) -> &'static [&'static str] {
    match relation {
        "identical" => &["identical"],
        "cast" => &["copy or cast"],
        // It has noise of a hundredth on every weight, gains included, as a light fine-tune leaves it.
        "renamed-copy" => &["copy or cast", "fine-tune"],
        "quantised" => &["quantised"],
        "depth-pruned" => &["depth-pruned"],
        "lora" => &["LoRA"],
        "continued-pretraining" => &["vocabulary changed"],
        "fine-tune" | "merge" => &["fine-tune", "partial fine-tune", "continued pretraining"],
        _ => &[],
    }
}

/// The demo models of the truth, read as a comparison reads them.
struct Demo {
    truth: Truth,
    ids: Vec<String>,
    subjects: Vec<Subject>,
}

impl Demo {
    fn read() -> Self {
        let truth = Truth::read();
        let mut ids: Vec<String> = truth.pairs.iter().flat_map(|p| [p.a.clone(), p.b.clone()]).collect();
        ids.sort_unstable();
        ids.dedup();
        let hub = Hub::serve(&demo_hub(), &[]);
        let client = Client::new(HubSettings::new(hub.url()).unwrap()).unwrap();
        let reader = Reader::from(ReadSettings { plan: PlanSettings::detailed(), ..ReadSettings::default() });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let read = try_join_all(ids.iter().map(|id| model::load(id, &client, &reader)));
        let subjects = runtime.block_on(read).unwrap();
        Self { truth, ids, subjects }
    }

    fn subject(&self, id: &str) -> &Subject {
        &self.subjects[self.ids.binary_search_by(|x| x.as_str().cmp(id)).unwrap()]
    }
}

#[test]
fn every_pair_of_the_demo_models_is_judged_as_it_is() {
    let demo = Demo::read();
    assert!(demo.ids.len() > 20, "only {} models", demo.ids.len());
    let judge = |a: &str, b: &str| compare(demo.subject(a), demo.subject(b), Effort::Enough).unwrap();
    let (mut wrong, mut undecided, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for Pair { a, b, related, relation } in &demo.truth.pairs {
        let (found, mirrored) = (judge(a, b).verdict, judge(b, a).verdict);
        let called = found.relation.map_or("", |relation| relation.name());
        let named = names(relation);
        let claimed = found.kind.related() == Some(true);
        if claimed != *related || !(named.is_empty() || named.contains(&called)) {
            wrong.push(format!("{a} | {b}: {relation} is called {called:?}: {found:?}"));
        }
        if !related && found.kind != VerdictKind::Independent {
            undecided.push(format!("{a} | {b}: {found:?}"));
        }
        if found.kind != mirrored.kind || found.relation != mirrored.relation {
            wrong.push(format!("{a} | {b}: the order matters: {found:?}, {mirrored:?}"));
        }
        let (kind, direction) = (found.kind.name(), found.direction.name());
        // As many digits as no compiler and no optimisation changes.
        let score = found.score.map_or_else(|| "-".into(), |score| format!("{score:.6}"));
        all.push(format!("{a} {b} | {kind} | {called} | {direction} | {score} {:.5e}", found.p_value));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), demo.truth.pairs.len(), wrong.join("\n"));
    // Every demo model has tokens and gains, so nothing stays open but what is not quite independent.
    assert!(undecided.len() <= 10, "{}:\n{}", undecided.len(), undecided.join("\n"));
    is_as_recorded("fixtures/fingerprints/verdicts", &all.join("\n"));
    for (id, subject) in demo.ids.iter().zip(&demo.subjects) {
        let verdict = compare(subject, subject, Effort::Enough).unwrap().verdict;
        assert_eq!(verdict.kind, VerdictKind::Identical, "{id}");
    }
}

/// The samples with the hidden dimensions in another order: in place, a stranger with the same statistics. Rows
/// over inner dimensions stay where they were, so they are left out.
fn permuted(samples: &Samples, seed: u64) -> Samples {
    let mut order: Vec<usize> = (0..samples.hidden_size).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let moves = |block: &&Block| block.position.row_is_residual() && block.columns == samples.hidden_size;
    let blocks = samples.blocks.iter().filter(moves).cloned().map(|mut block| {
        let rows = block.values.chunks(block.columns);
        block.values = rows.flat_map(|row| order.iter().map(|&i| row[i])).collect();
        block
    });
    Samples::new(samples.layers, samples.vocabulary, blocks.collect(), samples.tokens.clone())
}

#[test]
fn z_of_unrelated_trained_models_is_standard_normal() {
    let demo = Demo::read();
    let unrelated = |x: &Subject, y: &Subject| x.name == y.name || !demo.truth.related(&x.name, &y.name);
    // One model of each family, as it is and four times permuted.
    let mut bases: Vec<&Subject> = Vec::new();
    for subject in &demo.subjects {
        if bases.iter().all(|base| unrelated(base, subject)) {
            bases.push(subject);
        }
    }
    let strangers: Vec<Samples> = bases
        .iter()
        .flat_map(|base| {
            let samples = &base.weights.as_ref().unwrap().samples;
            (0..5).map(|seed| if seed == 0 { samples.clone() } else { permuted(samples, seed) })
        })
        .collect();
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (i, a) in strangers.iter().enumerate() {
        for b in strangers[..i].iter().filter(|b| b.hidden_size == a.hidden_size) {
            let found = sampled::compare(a, b).in_place;
            for test in [&NORM_GAINS, &WEIGHT_BLOCKS, &EMBEDDING] {
                if let Some(effect) = found.effect(test) {
                    all.entry(test.name).or_default().push(effect.z());
                }
            }
        }
    }
    for (name, z) in all {
        let n = z.len() as f64;
        let mean = z.iter().sum::<f64>() / n;
        let sd = (z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let largest = z.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(z.len() >= 300, "{name}: only {} pairs", z.len());
        assert!((0.9..1.15).contains(&sd), "{name}: standard deviation {sd} of {n} pairs");
        assert!(mean.abs() < 0.3 && largest < 5.0, "{name}: mean {mean}, largest {largest}");
    }
}

/// What `compare --json` promises.
fn assert_documented(answer: &Value) {
    let expected = [
        "a",
        "b",
        "bytes_fetched",
        "common_blocks",
        "delta_rank",
        "delta_rows",
        "direction",
        "equal_blocks",
        "layer_map",
        "merge",
        "models",
        "not_read",
        "not_ruled_out",
        "p_value",
        "realigned",
        "related",
        "relation",
        "roles",
        "score",
        "screening",
        "seconds",
        "signals",
        "tests",
        "verdict",
        "whole",
        "why",
    ];
    let mut found = keys(answer);
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(keys(&answer["signals"]), ["EAS", "END", "LEP", "MFI", "NLF", "TFV", "VOA", "WVC"]);
    for signal in answer["signals"].as_object().unwrap().values() {
        let mut found = keys(signal);
        found.sort_unstable();
        assert_eq!(found, ["error", "n", "reason", "value", "z"]);
        let present = signal["reason"].is_null();
        for key in ["value", "n"] {
            assert_eq!(signal[key].is_number(), present, "{signal}");
        }
    }
    assert_eq!(
        keys(&answer["tests"]),
        ["embedding", "layer_map", "neurons", "norm_gains", "row_products", "rows", "weight_blocks"]
    );
    assert!(!answer["why"].as_str().unwrap().is_empty());
    let any_test = answer["tests"].as_object().unwrap().values().any(|test| test["value"].is_number());
    let score = answer["score"].as_f64();
    assert!(score.is_none_or(|score| (0.0..=1.0).contains(&score)), "{score:?}");
    assert!(any_test || score.is_none(), "a prior is no answer: {answer}");
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
        (&revision, &folder("tinyforge/stdlib-llama-3layer-healed"), "derived", json!("depth-pruned")),
        (&snapshot, &docs, "derived", json!("fine-tune")),
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
    for word in ["derived (fine-tune), direction undetermined", "WVC", "LlamaForCausalLM"] {
        assert!(table.contains(word), "no {word:?} in:\n{table}");
    }
}

#[test]
fn copies_are_told_by_what_a_database_holds_of_them() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let copies = ["compactzoo/stdlib-llama-500k-bf16", "mirrorhub/python-llama"];
    for (copy, relation) in copies.into_iter().zip(["copy or cast", "identical"]) {
        // A home of its own each, so that nothing comes from a cache.
        let [enough, everything] = [&["compare", "--json"][..], &["compare", "--json", "--explain"]]
            .map(|args| Cli::new(hub.url()).expect(0, &[args, &[BASE, copy]].concat()).json());
        for answer in [&enough, &everything] {
            assert_eq!(answer["relation"], relation, "{answer}");
        }
        let [less, more] = [enough, everything].map(|answer| answer["bytes_fetched"].as_u64().unwrap());
        assert!(less > 0 && less < more, "{copy}: {less} of {more} bytes");
    }
}

#[test]
fn what_was_read_is_not_asked_for_again() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let client = Client::new(HubSettings::new(hub.url()).unwrap()).unwrap();
    let reader = Reader::from(ReadSettings { plan: PlanSettings::detailed(), ..ReadSettings::default() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let at_once = model::load(BASE, &client, &reader).await.unwrap();
        let mut model = model::Model::open(BASE, &client, &reader).await.unwrap();
        let first = model.read(&PlanSettings::default()).await.unwrap();
        let before = hub.counters();
        let again = model.read(&PlanSettings::default()).await.unwrap();
        assert_eq!(hub.counters(), before, "all of it is there");
        let detailed = model.read(&reader.settings.plan).await.unwrap();
        assert_eq!(hub.counters().requests, before.requests, "no file is opened again");
        let [first, again, detailed, at_once] =
            [first, again, detailed, at_once].map(|subject| subject.weights.unwrap());
        let sent = hub.counters().bytes_sent - before.bytes_sent;
        assert_eq!(detailed.bytes_fetched - first.bytes_fetched, sent, "stated is what was sent");
        assert_eq!(first.samples.blocks, again.samples.blocks);
        assert_eq!(detailed.samples.blocks, at_once.samples.blocks);
        assert!(first.samples.blocks.len() < detailed.samples.blocks.len());
    });
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
    cli.expect(2, &["compare", BASE, "a/b/c"])
        .says(&["neither a checkpoint on this machine nor a repository id", "hint: "]);
    let nowhere = cli.expect(2, &["compare", BASE, "./nowhere"]);
    nowhere.says(&["error: ./nowhere"]);
    assert_eq!(nowhere.stderr.matches("No such file").count(), 1, "{}", nowhere.stderr);
    let ended = cli.expect(2, &["compare", "--json", BASE, "no/such-model"]);
    assert_eq!(ended.stdout, "", "stdout is data only");
}

#[test]
fn weights_that_cannot_be_read_leave_the_metadata() {
    let mut models = Models::new();
    let config = fs::read(demo_hub().join("models/codewren/wren-gpt2/config.json")).unwrap();
    models.add("a/keras", &[("config.json", &config), ("tf_model.h5", b"x")]);
    let demo = |id: &str| demo_hub().join("models").join(id).display().to_string();
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let answer = cli.expect(1, &["compare", "--json", &demo("codewren/wren-gpt2"), "a/keras"]).json();
    assert_documented(&answer);
    assert_eq!(
        (&answer["verdict"], &answer["related"]),
        (&json!("same family by metadata only"), &Value::Null)
    );
    let reason = answer["signals"]["WVC"]["reason"].as_str().unwrap();
    assert!(reason.contains("no safetensors or PyTorch or gguf or ONNX weights; it has tf_model.h5, weights of Keras or TensorFlow"), "{reason}");

    let other = cli.expect(1, &["compare", "--json", &demo(BASE), "a/keras"]).json();
    assert_eq!(other["verdict"], "no weight evidence");
}

#[test]
fn screening_reads_no_weights_and_claims_nothing() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    let answer = cli.expect(0, &["compare", "--screen", "--json", BASE, "orchardml/pyllama-500k"]).json();
    assert_eq!(answer["screening"]["tier"], "same architecture, dimensions and tokenizer");
    assert!(answer["verdict"].is_null(), "a screening has no verdict");
    assert!(answer["bytes_fetched"].as_u64().unwrap() < 400_000, "{answer}");
    let text = cli.expect(0, &["compare", "--screen", BASE, "pebblenet/pebble-llama-200k"]).stdout;
    assert!(text.contains("hidden_size: 96 and 64"), "{text}");
}

#[test]
fn whole_tensors_agree_with_the_samples() {
    let folder = |id: &str| demo_hub().join("models").join(id).display().to_string();
    let cli = Cli::new(&crate::support::nobody());
    let (base, docs) = (folder(BASE), folder("lumenworks/stdlib-llama-500k-docs"));
    let answer = cli.expect(0, &["compare", "--full", "--json", &base, &docs]).json();
    let roles = answer["whole"].as_object().unwrap();
    let mut held = 0;
    for (role, whole) in roles {
        let mean = whole["mean"].as_f64().unwrap();
        assert!((0.0..=1.00001).contains(&mean), "{role}: {whole}");
        if let Some(sampled) = whole["sampled"].as_f64() {
            assert!((sampled - mean).abs() <= whole["error"].as_f64().unwrap(), "{role}: {whole}");
            held += 1;
        }
    }
    assert!(held >= 5, "{answer}");
    let text = cli.expect(0, &["compare", "--full", "--explain", &base, &docs]).stdout;
    assert!(text.contains("whole"), "{text}");

    let hub = Hub::serve(&demo_hub(), &[]);
    Cli::new(hub.url()).expect(2, &["compare", "--full", BASE, &docs]).says(&["is not on this machine"]);
}

#[test]
fn every_form_of_the_report_says_the_same() {
    let folder = |id: &str| demo_hub().join("models").join(id).display().to_string();
    let (base, docs) = (folder(BASE), folder("lumenworks/stdlib-llama-500k-docs"));
    let cli = Cli::new(&crate::support::nobody());
    let plain = cli.expect(0, &["compare", "--plain", &base, &docs]).stdout;
    for line in ["verdict\tderived\n", "relation\tfine-tune\n", "\nNLF\t", "\nVOA\t1.00000\t"] {
        assert!(plain.contains(line), "no {line:?} in:\n{plain}");
    }
    let explained = cli.expect(0, &["compare", "--explain", &base, &docs]).stdout;
    for word in ["layer map: 0=0", "correlation by role: down ", "not ruled out: none"] {
        assert!(explained.contains(word), "no {word:?} in:\n{explained}");
    }
    let file = format!("{docs}/model.safetensors");
    let by_file = cli.expect(0, &["compare", "--json", &base, &file]).json();
    assert_eq!(by_file["relation"], "fine-tune");
}
