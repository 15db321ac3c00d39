//! scan: the held-back demo models find their relatives, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

use crate::support::{
    Cli, Hub, Models, TINY_CONFIG, demo, demo_hub, keys, nobody, read, tiny, tiny_with, write,
};

fn families(answer: &Value) -> &[Value] {
    answer["families"].as_array().unwrap()
}

/// The closest member of the nearest family.
fn best(answer: &Value) -> &Value {
    &answer["families"][0]["members"][0]
}

/// Repositories that an answer calls related: members of families, and their copies.
fn found(answer: &Value) -> BTreeSet<&str> {
    families(answer)
        .iter()
        .flat_map(|family| family["members"].as_array().unwrap())
        .flat_map(|c| std::iter::once(&c["repo_id"]).chain(c["copies"].as_array().unwrap()))
        .map(|name| name.as_str().unwrap())
        .collect()
}

#[test]
fn held_back_models_find_exactly_their_relatives() {
    let demo = demo();
    let rows = demo.cli.rows();
    let indexed: Vec<&str> =
        rows.values().filter(|row| row.fingerprint.is_some()).map(|row| row.repo_id.as_str()).collect();
    let held_out: Vec<&str> = demo.truth.held_out.iter().map(String::as_str).collect();
    let args = [&["scan", "--db", "DB", "--top-k", "100", "--json"], &*held_out].concat();
    let answers = demo.cli.expect(0, &args).lines();
    assert_eq!(answers.len(), held_out.len());
    let mut independent = 0;
    for (query, answer) in held_out.iter().zip(&answers) {
        assert_eq!(answer["query"], *query, "answers come in the order of the arguments");
        let expected: BTreeSet<&str> =
            indexed.iter().copied().filter(|id| demo.truth.related(query, id)).collect();
        assert_eq!(found(answer), expected, "{query}");
        assert!(families(answer).len() <= 1, "one family each: {answer}");
        independent += usize::from(expected.is_empty());
    }
    assert!(independent > 0 && independent < held_out.len(), "{independent} independent ones");
}

#[test]
fn answers_have_the_documented_keys_and_order() {
    let demo = demo();
    let query = demo.truth.held_out[0].as_str();
    let answer = demo.cli.expect(0, &["scan", "--db", "DB", "--top-k", "2", "--json", query]).json();
    let mut top = keys(&answer);
    top.sort_unstable();
    let expected = [
        "adapter",
        "adapter_base",
        "bytes_fetched",
        "closest_rejected",
        "coverage",
        "false_positives",
        "false_rate_at_most",
        "families",
        "known_from",
        "negatives",
        "outdated",
        "query",
        "searched",
        "seconds",
        "sha",
        "undecided",
    ];
    assert_eq!(top, expected);
    // No family was named for any of 10,000 negatives: the rule of three.
    let bound = answer["false_rate_at_most"].as_f64().unwrap();
    assert!((bound - 2.9957e-4).abs() < 1e-7, "{bound}");
    assert_eq!(answer["sha"].as_str().unwrap().len(), 40);
    assert!(answer["bytes_fetched"].as_u64().unwrap() > 0 && answer["known_from"].is_null());

    let family = &families(&answer)[0];
    let mut found = keys(family);
    found.sort_unstable();
    assert_eq!(found, ["contents", "family", "members", "root", "root_evidence"]);
    assert!(
        family["contents"].as_u64().unwrap() > 2 && !family["root_evidence"].as_str().unwrap().is_empty()
    );
    assert!(answer["closest_rejected"].is_null(), "there is something better to show");
    let candidates = family["members"].as_array().unwrap();
    assert_eq!(candidates.len(), 2, "as many as asked for");
    for candidate in candidates.iter().chain([&family["root"]]) {
        let mut found = keys(candidate);
        found.sort_unstable();
        let expected = [
            "common_blocks",
            "copies",
            "coverage",
            "created_at",
            "declared_bases",
            "delta_rank",
            "delta_rows",
            "direction",
            "equal_blocks",
            "extraction_version",
            "gone_at",
            "layer_map",
            "license",
            "merge",
            "not_ruled_out",
            "p_value",
            "realigned",
            "related",
            "relation",
            "repo_id",
            "roles",
            "score",
            "screening",
            "sha",
            "signals",
            "similarity",
            "tests",
            "verdict",
            "why",
        ];
        assert_eq!(keys(&candidate["signals"]), ["EAS", "END", "LEP", "MFI", "NLF", "TFV", "VOA", "WVC"]);
        assert!(candidate["signals"]["VOA"]["error"].is_number(), "scan estimates the overlap: {candidate}");
        assert_eq!(found, expected);
    }
    let similarity = |i: usize| candidates[i]["similarity"].as_f64().unwrap();
    assert!(similarity(0) + 1e-3 >= similarity(1), "best first");
    let alone = ["scan", "--db", "DB", "--json", "basalt-research/basalt-500k"];
    let alone = demo.cli.expect(0, &alone).json();
    assert!(families(&alone).is_empty());
    assert_ne!(alone["closest_rejected"]["related"], true);
    let none = demo.cli.expect(0, &["scan", "--db", "DB", "basalt-research/basalt-500k"]).stdout;
    assert!(
        none.contains("no relative among")
            && none.contains("only `compare` looks for copies with permuted heads or neurons"),
        "{none}"
    );

    let table = demo.cli.expect(0, &["scan", "--db", "DB", query]).stdout;
    let first = candidates[0]["repo_id"].as_str().unwrap();
    assert!(table.contains(first) && table.contains("distinct models"), "{table}");
}

#[test]
fn equal_content_is_identical_and_the_oldest_copy_comes_first() {
    let demo = demo();
    let folder = demo_hub().join("models/mirrorhub/python-llama").display().to_string();
    for query in ["mirrorhub/python-llama", &folder] {
        let answer = demo.cli.expect(0, &["scan", "--db", "DB", "--json", query]).json();
        let best = best(&answer);
        assert_eq!(best["verdict"], "identical", "{best}");
        assert_eq!(best["repo_id"], "lumenworks/stdlib-llama-500k");
        assert_eq!(best["copies"], json!(["mirrorhub/python-llama"]));
    }
}

/// A Hub with the demo models, and an environment in which nothing is kept of what scans read.
fn uncached() -> (Hub, Cli) {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url()).with("HUBPRINT_CACHE", "");
    (hub, cli)
}

/// The files of a Llama with its hidden dimensions in another order, which computes the same.
fn with_dimensions_moved(folder: &Path, to: &Path) {
    let file = read(&folder.join("model.safetensors"));
    let all = SafeTensors::deserialize(&file).unwrap();
    let hidden = all.tensor("model.norm.weight").unwrap().shape()[0];
    let order: Vec<usize> = (0..hidden).map(|i| (i * 35 + 11) % hidden).collect();
    let moved: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = all
        .iter()
        .map(|(name, tensor)| {
            let (shape, data) = (tensor.shape().to_vec(), tensor.data());
            let writes =
                ["o_proj.weight", "down_proj.weight", "norm.weight"].iter().any(|end| name.ends_with(end));
            let rows = if shape.len() == 1 { hidden } else { shape[0] };
            let row = data.len() / rows;
            let element = row / shape.get(1).copied().unwrap_or(1);
            let values: Vec<u8> = if writes {
                order.iter().flat_map(|i| &data[i * row..(i + 1) * row]).copied().collect()
            } else {
                let of_row = |row: &'_ [u8]| -> Vec<u8> {
                    order.iter().flat_map(|i| &row[i * element..(i + 1) * element]).copied().collect()
                };
                data.chunks(row).flat_map(of_row).collect()
            };
            (name.to_owned(), tensor.dtype(), shape, values)
        })
        .collect();
    let views = moved.iter().map(|(name, dtype, shape, values)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), values).unwrap())
    });
    write(&to.join("model.safetensors"), serialize(views, None).unwrap());
    write(&to.join("config.json"), read(&folder.join("config.json")));
}

#[test]
fn a_copy_with_moved_dimensions_is_of_its_family() {
    let demo = demo();
    let cli = Cli::new(&nobody());
    let db = demo.cli.db().display().to_string();
    for (of, family) in [
        ("lumenworks/stdlib-llama-500k", Some("lumenworks/stdlib-llama-500k")),
        ("lumenworks/stdlib-llama-500k-docs", Some("lumenworks/stdlib-llama-500k")),
        ("basalt-research/basalt-500k", None),
    ] {
        let moved = cli.home().join(of.replace('/', "-"));
        with_dimensions_moved(&demo_hub().join("models").join(of), &moved);
        let answer = cli.expect(0, &["scan", "--db", &db, "--json", &moved.display().to_string()]).json();
        let root = families(&answer).first().map(|family| family["root"]["repo_id"].as_str().unwrap());
        assert_eq!(root, family, "{of}: {answer}");
        if root.is_some() {
            assert_eq!(best(&answer)["relation"], "copy with moved dimensions", "{answer}");
            assert!(best(&answer)["similarity"].as_f64().unwrap() > 0.9, "{answer}");
        }
    }
}

#[test]
fn a_re_upload_is_answered_without_its_weights() {
    let demo = demo();
    let (hub, cli) = uncached();
    let db = demo.cli.db().display().to_string();
    let folder = demo_hub().join("models/mirrorhub/python-llama");
    let size = |name: &str| fs::metadata(folder.join(name)).unwrap().len();
    let small_files: u64 = ["config.json", "tokenizer.json", "tokenizer_config.json"].map(size).iter().sum();
    let folder = folder.display().to_string();
    for more in [&[][..], &["--exact"], &["--top-k", "2"]] {
        let scan =
            |model: &str| cli.expect(0, &[&["scan", "--db", &db, "--json", model], more].concat()).json();
        let before = hub.counters();
        let known = scan("mirrorhub/python-llama");
        let after = hub.counters();
        assert_eq!(after.cdn_requests, before.cdn_requests, "{more:?}: {known}");
        assert_eq!(known["known_from"], "lumenworks/stdlib-llama-500k");
        assert_eq!(known["bytes_fetched"], small_files, "{known}");
        assert_eq!(best(&known)["verdict"], "identical", "{known}");
        // The digest of local files is not known before they are read.
        let read = scan(&folder);
        assert!(read["known_from"].is_null());
        assert!(read["bytes_fetched"].as_u64() > known["bytes_fetched"].as_u64());
        assert_eq!(known["families"], read["families"], "{more:?}: the answer is the one that reading gives");
    }
    let said =
        "its weight files are those of lumenworks/stdlib-llama-500k, by their digests, and were not read";
    let table = |model: &str| cli.expect(0, &["scan", "--db", &db, model]).stdout;
    assert!(table("mirrorhub/python-llama").contains(said) && !table(&folder).contains("not read"));
}

#[test]
fn tokens_of_another_tokenizer_are_not_compared() {
    let mut models = Models::new();
    let add = |models: &mut Models, name: &str, weights: &str, tokenizer: &str| {
        let demo = |id: &str, file: &str| read(&demo_hub().join("models").join(id).join(file));
        let (config, weights) = (demo(weights, "config.json"), demo(weights, "model.safetensors"));
        let tokenizer = demo(tokenizer, "tokenizer.json");
        models.add(
            name,
            &[("config.json", &config), ("model.safetensors", &weights), ("tokenizer.json", &tokenizer)],
        );
    };
    let base = "lumenworks/stdlib-llama-500k";
    add(&mut models, "a/base", base, base);
    // Three models are a population.
    add(&mut models, "a/py", "orchardml/pyllama-500k", base);
    add(&mut models, "a/basalt", "basalt-research/basalt-500k", base);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &["--all-small-files"]);
    cli.expect(0, &["index", "--db", "DB"]);
    add(&mut models, "b/same", base, base);
    add(&mut models, "b/other", base, "pebblenet/pebble-llama-200k");
    hub.rescan();
    let signals = |name: &str| {
        let answer = cli.expect(0, &["scan", "--db", "DB", "--json", name]).json();
        assert_eq!(
            (&answer["known_from"], &best(&answer)["verdict"]),
            (&json!("a/base"), &json!("identical"))
        );
        best(&answer)["signals"].clone()
    };
    let (same, others) = (signals("b/same"), signals("b/other"));
    assert_eq!(same["TFV"]["value"], 1.0, "{same}");
    assert!(others["TFV"]["value"].as_f64().unwrap() < 1.0, "the query's own tokenizer: {others}");
    let reason = "the weights were not read; a/base, which has the same, has another tokenizer";
    assert!(same["EAS"]["value"].as_f64().unwrap() > 0.999, "{same}");
    assert_eq!((&others["EAS"]["value"], &others["EAS"]["reason"]), (&Value::Null, &json!(reason)));
    assert_eq!(same["WVC"], others["WVC"]);
}

#[test]
fn one_wrong_model_costs_only_itself() {
    let demo = demo();
    let good = demo.truth.held_out[0].as_str();
    let args = ["scan", "--db", "DB", "--json", "no/such", good, "./nowhere"];
    let ended = demo.cli.expect(1, &args);
    let lines = ended.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(keys(&lines[0]), ["error", "hint", "query"]);
    assert_eq!((&lines[0]["query"], &lines[2]["query"]), (&json!("no/such"), &json!("./nowhere")));
    assert!(lines[0]["hint"].is_string() && !lines[2]["error"].as_str().unwrap().is_empty());
    assert_eq!(lines[1]["query"], good);
    assert!(best(&lines[1]).is_object());
    ended.says(&["no/such:", "error: ", "hint: "]);
}

#[test]
fn nothing_but_wrong_models_is_a_failure() {
    let demo = demo();
    let ended = demo.cli.expect(2, &["scan", "--db", "DB", "--json", "no/such", "a/b/c"]);
    ended.says(&["none of 2 models could be scanned"]);
    assert_eq!(ended.lines().len(), 2, "each of them still has its line");
}

#[test]
fn offline_models_come_from_the_cache() {
    let mut models = Models::new();
    models.add_tiny("a/base", 1);
    models.add_tiny("a/other", 2);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    drop(hub);

    let cached = cli.home().join("hf/hub/models--a--base");
    fs::create_dir_all(cached.join("snapshots/abc")).unwrap();
    write(&cached.join("refs/main"), "abc");
    for name in ["config.json", "model.safetensors"] {
        fs::create_dir_all(cached.join("blobs")).unwrap();
        fs::copy(models.folder("a/base").join(name), cached.join("blobs").join(name)).unwrap();
        symlink(format!("../../blobs/{name}"), cached.join("snapshots/abc").join(name)).unwrap();
    }
    let home = cli.home().join("hf").display().to_string();
    let cli = cli.with("HF_HOME", &home).with("HF_HUB_OFFLINE", "1").with("HF_ENDPOINT", &nobody());
    let answer = cli.expect(0, &["scan", "--db", "DB", "--json", "a/base"]).json();
    assert_eq!(best(&answer)["repo_id"], "a/base");
    assert_eq!(best(&answer)["verdict"], "identical");
    // What no cache has is answered from its row; nobody is its own relative.
    let answer = cli.expect(0, &["scan", "--db", "DB", "--json", "a/other"]).json();
    assert_eq!((&answer["known_from"], &answer["bytes_fetched"]), (&json!("a/other"), &json!(0)));
    assert_eq!(answer["families"], json!([]));
    cli.expect(2, &["scan", "--db", "DB", "a/none"]).says(&["error: ", "models--a--none"]);
    cli.expect(2, &["crawl", "--db", "DB"]).says(&["error: ", "hint: unset HF_HUB_OFFLINE"]);
}

#[test]
fn a_commit_that_the_database_has_is_not_asked_for() {
    let mut models = Models::new();
    models.add_tiny("a/base", 1);
    models.add_tiny("b/copy", 1);
    models.add("c/empty", &[("README.md", b"nothing")]);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    let row = |id: &str| cli.rows()[id].clone();
    let at = |id: &str| format!("{id}@{}", row(id).sha.unwrap());
    let before = hub.counters();
    let answer = cli.expect(0, &["scan", "--db", "DB", "--json", &at("a/base")]).json();
    assert_eq!((&answer["query"], &answer["known_from"]), (&json!(at("a/base")), &json!("a/base")));
    assert_eq!(
        (&best(&answer)["repo_id"], &best(&answer)["verdict"]),
        (&json!("b/copy"), &json!("identical"))
    );
    cli.expect(2, &["scan", "--db", "DB", &at("c/empty")])
        .says(&["the database has no fingerprint of it: unsupported"]);
    let after = hub.counters();
    assert_eq!(after.requests, before.requests, "nothing was asked");
    // Any other revision may be news.
    let answer = cli.expect(0, &["scan", "--db", "DB", "--json", "a/base@main"]).json();
    assert_eq!(best(&answer)["verdict"], "identical");
    assert!(hub.counters().requests.api > after.requests.api);
}

/// Lines of a file of JSON objects.
fn lines_of(path: &std::path::Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn many_models_are_scanned_and_gone_on_with() {
    let demo = demo();
    let folder = tempfile::tempdir().unwrap();
    let (list, out) = (folder.path().join("list"), folder.path().join("out.jsonl"));
    let held_out = &demo.truth.held_out;
    let rows = demo.cli.rows();
    let indexed: Vec<&str> =
        rows.values().filter(|row| row.fingerprint.is_some()).map(|row| row.repo_id.as_str()).collect();
    // A name that comes again is answered once.
    let names = format!("{}\nno/such\n\n{}\n", held_out.join("\n"), held_out[0]);
    write(&list, &names);
    let (list, to) = (list.display().to_string(), out.display().to_string());
    let args = ["scan", "--db", "DB", "--from", &list, "--out", &to];
    demo.cli.expect(1, &args).says(&["7 models scanned", "1 failed", "no/such"]);
    let answers = lines_of(&out);
    assert_eq!(answers.len(), held_out.len() + 1);
    for (answer, name) in answers.iter().zip(held_out) {
        assert_eq!(answer["query"], name.as_str(), "answers come in the order of the list");
        let related = indexed.iter().any(|id| demo.truth.related(name, id));
        assert_eq!(!families(answer).is_empty(), related, "{answer}");
        for family in families(answer) {
            let close = family["closest"][0]["repo_id"].as_str().unwrap();
            assert!(demo.truth.related(name, close), "{answer}");
            let mut found = keys(family);
            found.sort_unstable();
            let expected = [
                "closest",
                "family",
                "judged",
                "p_value",
                "relation",
                "root",
                "score",
                "similarity",
                "verdict",
            ];
            assert_eq!(found, expected);
        }
    }

    // Killed within the third line, which may be of another checkpoint of the second model: one is kept, the others are
    // made again, and the failed one is tried again.
    let text = fs::read_to_string(&out).unwrap();
    let third = text.lines().take(2).map(|l| l.len() + 1).sum::<usize>() + 10;
    write(&out, &text[..third]);
    demo.cli.expect(1, &args).says(&["6 models scanned"]);
    let again = lines_of(&out);
    assert_eq!(again.len(), answers.len());
    // An error names its request, which is another one each time.
    assert_eq!(again[..held_out.len()], answers[..held_out.len()]);
    assert_eq!(again[held_out.len()]["query"], "no/such");
}

#[test]
fn files_that_are_no_answers_and_no_lists_are_refused_and_left_alone() {
    let demo = demo();
    let folder = tempfile::tempdir().unwrap();
    let (list, notes, long) =
        (folder.path().join("list"), folder.path().join("notes"), folder.path().join("long"));
    write(&list, &demo.truth.held_out[0]);
    write(&notes, "{\"query\":\"a/b\",\"families\":[]}\nbuy milk\n");
    write(&long, vec![b'x'; 100_000]);
    let before = fs::read(&notes).unwrap();
    let [list, notes, long] = [list, notes, long].map(|path| path.display().to_string());
    let scan = |list: &str, out: &[&str]| {
        demo.cli.expect(2, &[&["scan", "--db", "DB", "--from", list], out].concat())
    };
    scan(&list, &["--out", &notes]).says(&["error: ", "no answers", "hint: "]);
    assert_eq!(fs::read(&notes).unwrap(), before);
    scan(&long, &[]).says(&["error: ", "more than 8192 bytes", "hint: "]);
}

#[test]
fn what_is_new_is_the_relative_of_its_copies() {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("a/two", 2);
    models.add_tiny("b/one", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    let all = new_in(&cli);
    assert_eq!(all.len(), 3);
    assert_eq!(all["a/one"], [judged("b/one", "identical", &["b/one"])]);
    assert_eq!(all["b/one"], [judged("a/one", "identical", &["a/one"])]);
    assert!(all["a/two"].is_empty());
}

#[test]
fn what_came_is_judged_against_others() {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("a/two", 2);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    // The night brings known weights, and two fine-tunes of which one is near.
    models.add_tiny("c/one", 1);
    let tuned = |size: f32, step: f32| {
        let noise = move |i: usize| size * (i as f32 * step).sin();
        tiny_with(2, |_, values| values.iter_mut().enumerate().for_each(|(i, value)| *value += noise(i)))
    };
    for (name, size, step) in [("c/near", 0.3, 12.9898), ("c/far", 0.9, 78.233)] {
        let weights = tuned(size, step);
        models.add(name, &[("config.json", TINY_CONFIG.as_bytes()), ("model.safetensors", &weights)]);
    }
    hub.rescan();
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    let of_two =
        |query: &str, others: [&str; 2]| (query.to_owned(), vec![judged(others[0], "derived", &others)]);
    let night = [
        of_two("c/far", ["a/two", "c/near"]),
        of_two("c/near", ["a/two", "c/far"]),
        ("c/one".to_owned(), vec![judged("a/one", "identical", &["a/one"])]),
    ];
    assert_eq!(new_in(&cli), BTreeMap::from(night.clone()));
    cli.expect(0, &["index", "--db", "DB"]);
    assert!(new_in(&cli).is_empty());

    // All at once: one of two is the representative that stands for the other, and is judged by it. The third is by that one.
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    let mut all = BTreeMap::from(night);
    all.insert("a/one".into(), vec![judged("c/one", "identical", &["c/one"])]);
    all.extend([of_two("a/two", ["c/near", "c/far"])]);
    all.remove("c/far");
    let mut found = new_in(&cli);
    let far = found.remove("c/far").unwrap();
    assert!(["a/two", "c/near"].map(Value::from).contains(&far[0]["judged"]), "{far:?}");
    assert_eq!(found, all);
}

/// What `--all-new` says of each query: of every family the judged repository, the verdict and the closest.
fn new_in(cli: &Cli) -> BTreeMap<String, Vec<Value>> {
    let of_family = |family: &Value| {
        let close =
            family["closest"].as_array().unwrap().iter().map(|close| close["repo_id"].as_str().unwrap());
        judged(
            family["judged"].as_str().unwrap(),
            family["verdict"].as_str().unwrap(),
            &close.collect::<Vec<_>>(),
        )
    };
    let lines = cli.expect(0, &["scan", "--db", "DB", "--all-new"]).lines();
    let of = |answer: &Value| {
        (answer["query"].as_str().unwrap().to_owned(), families(answer).iter().map(of_family).collect())
    };
    lines.iter().map(of).collect()
}

fn judged(judged: &str, verdict: &str, closest: &[&str]) -> Value {
    json!({"judged": judged, "verdict": verdict, "closest": closest})
}

#[test]
fn weights_that_the_database_has_are_not_read_again() {
    let mut models = Models::new();
    models.add_tiny("a/base", 1);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    models.add_tiny("b/upload", 1);
    models.add_tiny("c/other", 2);
    hub.rescan();

    let scan = |name: &str| {
        let (list, before) = (cli.home().join("list"), hub.counters());
        write(&list, name);
        let list = list.display().to_string();
        let answer = cli.expect(0, &["scan", "--db", "DB", "--from", &list]).lines().remove(0);
        let after = hub.counters();
        let files = after.requests.resolvers - before.requests.resolvers;
        (answer, files, after.cdn_requests - before.cdn_requests)
    };
    let (answer, files, ranges) = scan("b/upload");
    assert_eq!(families(&answer)[0]["verdict"], "identical", "{answer}");
    assert_eq!((files, ranges), (1, 0), "the address of the weights says what they are");
    let (answer, files, ranges) = scan("c/other");
    assert!(families(&answer).is_empty(), "{answer}");
    assert!(
        files == 1 && ranges > 0,
        "{files} files, {ranges} ranges: of no use is anything but the weights"
    );
}

#[test]
fn one_scan_reads_what_is_not_known() {
    let mut models = Models::new();
    let weights = tiny(2);
    let tensors = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let map: BTreeMap<&str, &str> = tensors.names().into_iter().map(|name| (name, "w.safetensors")).collect();
    let index = json!({"weight_map": map}).to_string();
    let add_indexed = |models: &mut Models, name: &str| {
        let index = index.as_bytes();
        models.add(name, &[("model.safetensors.index.json", index), ("w.safetensors", &weights)]);
    };
    models.add_tiny("a/one", 1);
    add_indexed(&mut models, "a/indexed");
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    cli.expect(0, &["index", "--db", "DB"]);
    models.add_tiny("b/one", 1);
    add_indexed(&mut models, "b/indexed");
    models.add_tiny("b/other", 3);
    hub.rescan();
    for (name, from) in [("b/one", Some("a/one")), ("b/indexed", Some("a/indexed")), ("b/other", None)] {
        let before = hub.counters();
        let answer = cli.expect(0, &["scan", "--db", "DB", "--json", name]).json();
        let after = hub.counters();
        assert_eq!(answer["known_from"], json!(from), "{answer}");
        assert_eq!(after.cdn_requests == before.cdn_requests, from.is_some(), "{answer}");
        assert_eq!(answer["bytes_fetched"], after.bytes_sent - before.bytes_sent, "{name}");
        assert_eq!(best(&answer)["repo_id"], json!(from));
    }
}

#[test]
fn a_database_is_scanned_against_itself() {
    let demo = demo();
    let rows = demo.cli.rows();
    let indexed: Vec<&str> =
        rows.values().filter(|row| row.fingerprint.is_some()).map(|row| row.repo_id.as_str()).collect();
    let db = demo.cli.db().display().to_string();
    let answers = demo.cli.expect(0, &["scan", "--db", "DB", "--from-db", &db]).lines();
    assert_eq!(answers.len(), indexed.len());
    for answer in &answers {
        let closest = &answer["families"][0]["closest"][0];
        assert!(closest["cosine"].as_f64().unwrap() > 0.999, "{answer}");
    }
    // The index was built from nothing: all of it is new, and nobody is its own relative.
    let copies = demo.truth.pairs.iter().filter(|p| p.relation == "identical");
    let copies: Vec<(&str, &str)> = copies.map(|p| (p.a.as_str(), p.b.as_str())).collect();
    let new = demo.cli.expect(0, &["scan", "--db", "DB", "--all-new"]).lines();
    assert_eq!(new.len(), indexed.len());
    for answer in &new {
        let query = answer["query"].as_str().unwrap();
        let related = indexed.iter().any(|id| *id != query && demo.truth.related(query, id));
        assert_eq!(!families(answer).is_empty(), related, "{answer}");
        for family in families(answer) {
            let judged = family["judged"].as_str().unwrap();
            assert_ne!(judged, query, "{answer}");
            let is_copy = copies.contains(&(query, judged)) || copies.contains(&(judged, query));
            assert_eq!(family["verdict"], if is_copy { "identical" } else { "derived" }, "{answer}");
            assert_eq!(family["relation"] == "identical", is_copy, "{answer}");
            for close in family["closest"].as_array().unwrap() {
                let name = close["repo_id"].as_str().unwrap();
                assert!(name != query && demo.truth.related(query, name), "{answer}");
            }
        }
    }
}
