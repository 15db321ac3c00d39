//! What comparisons and scans read of 7B models that are copies, relatives and strangers.

use std::path::PathBuf;

use serde_json::Value;

use super::hub::{Hub, hubprint};
use super::{Work, bytes, seconds, table};

const SHAPE: &str = "llama-7b-single";
/// Repositories beside `made-up/base`, and how they are made.
const OTHERS: [(&str, &[&str]); 3] = [
    ("copy", &["--seed", "1"]),
    ("tuned", &["--seed", "2", "--from", "1", "--correlation", "0.9"]),
    ("stranger", &["--seed", "3"]),
];

pub(crate) fn tables(work: &Work) -> String {
    let folder = models(work);
    let mut rows = Vec::new();
    for (name, _) in OTHERS {
        let other = format!("made-up/{name}");
        for (way, more) in [("compare", None), ("compare --explain", Some("--explain"))] {
            let hub = Hub::serve(&folder, &[]);
            let mut args = vec!["compare", "--json", "--hub", &hub.url, "made-up/base", &other];
            args.extend(more);
            let answer: Value = serde_json::from_str(&hubprint(&args)).unwrap();
            let called = answer["relation"].as_str().or(answer["verdict"].as_str()).unwrap();
            rows.push(row(way, name, called, &answer, &hub));
        }
    }
    let database = tempfile::tempdir().unwrap();
    let db = database.path().join("db").display().to_string();
    {
        // The base alone.
        let hub = Hub::serve(&work.checkpoint(SHAPE), &[]);
        hubprint(&["crawl", "--json", "--hub", &hub.url, "--db", &db]);
        hubprint(&["index", "--json", "--db", &db]);
    }
    for (name, _) in OTHERS {
        let hub = Hub::serve(&folder, &[]);
        let args = ["scan", "--json", "--hub", &hub.url, "--db", &db, &format!("made-up/{name}")];
        let answer: Value = serde_json::from_str(&hubprint(&args)).unwrap();
        let found = answer["families"].as_array().unwrap().first();
        let called = found.map_or("no family", |family| family["root"]["relation"].as_str().unwrap());
        rows.push(row("scan", name, called, &answer, &hub));
    }
    table(&["way", "of", "called", "fetched", "counted requests", "CDN requests", "seconds"], &rows)
}

fn row(way: &str, of: &str, called: &str, answer: &Value, hub: &Hub) -> Vec<String> {
    let counters = hub.counters();
    vec![
        way.to_owned(),
        of.to_owned(),
        called.to_owned(),
        bytes(answer["bytes_fetched"].as_f64().unwrap()),
        counters.requests.resolvers.to_string(),
        counters.cdn_requests.to_string(),
        seconds(answer["seconds"].as_f64().unwrap()),
    ]
}

/// A Hub folder with the base and the others.
fn models(work: &Work) -> PathBuf {
    let folder = work.folder.join("early");
    if !folder.is_dir() {
        let to = folder.display().to_string();
        let base: (&str, &[&str]) = ("base", &["--seed", "1"]);
        for (name, how) in std::iter::once(base).chain(OTHERS) {
            let id = format!("made-up/{name}");
            hubprint(&[&["dev", "checkpoint", SHAPE, "--to", &to, "--as", &id], how].concat());
        }
    }
    folder
}
