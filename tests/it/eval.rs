//! eval: lists of pairs with known answers, from disk and from a Hub.

use crate::support::{Cli, Hub, Models, Truth, demo_hub, write};
use serde_json::Value;

#[test]
fn the_demo_models_are_judged_without_a_false_positive() {
    let cli = Cli::new(&crate::support::nobody());
    let (truth, root) = (demo_hub().join("truth.json"), demo_hub().join("models"));
    let (truth, root) = (truth.display().to_string(), root.display().to_string());
    let report = cli.expect(0, &["eval", "--json", "--root", &root, &truth]).json();
    let (merit, expected) = (&report["merit"], Truth::read());
    let related = expected.pairs.iter().filter(|pair| pair.related).count();
    assert_eq!(merit["pairs"], expected.pairs.len());
    assert_eq!(
        (&merit["true_positives"], &merit["false_positives"]),
        (&related.into(), &0.into()),
        "{merit}"
    );
    assert_eq!(merit["called_independent"], 0);
    assert_eq!((&merit["accuracy"], &merit["auc"]), (&1.0.into(), &1.0.into()));
    // The score is a probability: it must be where the truth is.
    assert!(merit["brier"].as_f64().unwrap() < 0.01, "{merit}");
    assert_eq!(report["pairs"].as_array().unwrap().len(), expected.pairs.len());
    assert!(report["unavailable"].as_object().unwrap().is_empty());
}

#[test]
fn what_was_read_of_a_hub_is_not_read_again() {
    let hub = Hub::serve(&demo_hub(), &[]);
    let cli = Cli::new(hub.url());
    let list = cli.home().join("pairs.tsv");
    write(
        &list,
        "a\tb\trelated\trelation\nlumenworks/stdlib-llama-500k\tcompactzoo/stdlib-llama-500k-bf16\t1\tcast\nlumenworks/stdlib-llama-500k\torchardml/pyllama-500k\t0\tnone\n",
    );
    let list = list.display().to_string();
    let eval = || cli.expect(0, &["eval", "--json", &list]).json();
    let first = eval();
    let after_first = hub.counters().bytes_sent;
    let second = eval();
    let read_again = hub.counters().bytes_sent - after_first;
    assert_eq!(first["pairs"], second["pairs"], "the cache changes no figure");
    // Config and tokenizer are read again, tensors are not.
    assert!(read_again * 5 < after_first, "{read_again} bytes after {after_first}");
    assert!(second["bytes"].as_u64() < first["bytes"].as_u64());

    // Compare uses the same entries, and a damaged one is read anew.
    let before = hub.counters().bytes_sent;
    cli.expect(0, &["compare", "lumenworks/stdlib-llama-500k", "orchardml/pyllama-500k"]);
    assert!((hub.counters().bytes_sent - before) * 4 < after_first);
    let entries = std::fs::read_dir(cli.home().join(".cache/hubprint/samples")).unwrap();
    let entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 3);
    write(&entries[0], "torn");
    assert_eq!(eval()["pairs"], second["pairs"]);
}

#[test]
fn models_that_cannot_be_read_are_named_and_left_out() {
    let mut models = Models::new();
    models.add_tiny("a/one", 1);
    models.add_tiny("a/two", 2);
    let root = models.path().join("models").display().to_string();
    let cli = Cli::new(&crate::support::nobody());
    let list = cli.home().join("pairs.json");
    write(
        &list,
        r#"[{"a":"a/one","b":"a/one","related":1},{"a":"a/one","b":"a/gone","related":1},{"a":"a/one","b":"a/two","related":0}]"#,
    );
    let report = cli.expect(1, &["eval", "--json", "--root", &root, &list.display().to_string()]).json();
    assert_eq!((&report["merit"]["unavailable"], &report["merit"]["true_positives"]), (&1.into(), &1.into()));
    assert_eq!(report["merit"]["false_positives"], 0);
    let gone = report["unavailable"]["a/gone"].as_str().unwrap();
    assert!(gone.contains("a/gone"), "{gone}");
    let pair: &Value = &report["pairs"][1];
    assert!(pair["error"].as_str().unwrap().contains("a/gone") && pair["verdict"].is_null(), "{pair}");
    let text = cli.expect(1, &["eval", "--root", &root, &list.display().to_string()]).stdout;
    for words in ["3 pairs of 2 models: accuracy 100.0 %", "1 models could not be read, 1 pairs left out"] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    cli.expect(2, &["eval", "nowhere.tsv"]).says(&["nowhere.tsv"]);
}
