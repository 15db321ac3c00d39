//! What is lost where less is asked of the Hub: without config.json and tokenizers on the demo Hub, whose truth is known,
//! and with fewer shards of a model.

use std::collections::BTreeSet;
use std::path::Path;

use hubprint::store::atomic;
use serde_json::Value;

use super::evidence;
use super::hub::hubprint;
use super::{Work, bytes, table};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Signals that a table of answers can have.
const SIGNALS: usize = 8;

pub(crate) fn tables(work: &Work) -> String {
    let truth: Value = read(Path::new(ROOT).join("data/demo-hub/truth.json"));
    let rows: Vec<Vec<String>> =
        [("all", "config.json and tokenizers"), ("needed", "weights alone, the default")]
            .into_iter()
            .map(|(small_files, text)| {
                let run = demo(small_files);
                let crawl = &run["crawl"];
                let models = crawl["outcomes"]["indexed"].as_f64().unwrap();
                let requests = crawl["requests"]["resolvers"].as_f64().unwrap();
                let (right, false_hits, signals) = judged(&truth, run["scan"].as_array().unwrap());
                vec![
                    text.to_owned(),
                    format!("{:.2}", requests / models),
                    bytes(crawl["bytes_fetched"].as_f64().unwrap()),
                    right,
                    false_hits.to_string(),
                    format!("{signals:.1} of {SIGNALS}"),
                ]
            })
            .collect();
    let small = table(
        &[
            "read",
            "counted requests a model",
            "fetched",
            "relatives found",
            "others named",
            "signals an answer",
        ],
        &rows,
    );
    format!("{small}\nAnd with fewer shards:\n\n{}", evidence::shards(work))
}

/// The demo pipeline, with these small files, in a database of its own.
fn demo(small_files: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(Path::new(ROOT).join("pipelines/demo.toml")).unwrap();
    let own = text
        .replace("\"../demo-db\"", &format!("\"{}\"", folder.path().join("db").display()))
        .replace("\"../data/demo-hub\"", &format!("\"{ROOT}/data/demo-hub\""))
        .replace("small_files = \"all\"", &format!("small_files = \"{small_files}\""))
        .replace("top_k = 3", "top_k = 100");
    let file = folder.path().join("demo.toml");
    atomic::write(&file, own.as_bytes()).unwrap();
    serde_json::from_str(&hubprint(&["run", "--json", &file.display().to_string()])).unwrap()
}

/// Relatives of the held-back models that were found, of all; others that were named; signals with a value, on average
/// over the answers.
fn judged(truth: &Value, answers: &[Value]) -> (String, usize, f64) {
    let (mut found, mut related, mut others) = (0, 0, 0);
    let mut signals = Vec::new();
    for answer in answers {
        let query = answer["query"].as_str().unwrap();
        let relatives: BTreeSet<&str> = truth["pairs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pair| pair["related"] == true)
            .filter_map(|pair| match (pair["a"].as_str()?, pair["b"].as_str()?) {
                (a, b) if a == query => Some(b),
                (a, b) if b == query => Some(a),
                _ => None,
            })
            .filter(|id| !truth["held_out"].as_array().unwrap().iter().any(|held| held == id))
            .filter(|id| truth["repos"][id]["readable"] == true)
            .collect();
        let named: Vec<&Value> = answer["families"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|family| family["members"].as_array().unwrap())
            .collect();
        // Repositories with equal weights are one answer, with the others as its copies.
        let ids: BTreeSet<&str> = named
            .iter()
            .flat_map(|one| {
                let copies = one["copies"].as_array().into_iter().flatten();
                copies.chain([&one["repo_id"]]).filter_map(Value::as_str)
            })
            .collect();
        found += relatives.intersection(&ids).count();
        related += relatives.len();
        others += ids.difference(&relatives).count();
        signals.extend(named.iter().map(|one| {
            one["signals"].as_object().unwrap().values().filter(|signal| !signal["value"].is_null()).count()
        }));
    }
    let mean = signals.iter().sum::<usize>() as f64 / signals.len().max(1) as f64;
    (format!("{found} of {related}"), others, mean)
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
