//! The first table: what each shape costs, by four ways to look at it.

use std::path::Path;

use serde_json::Value;

use super::hub::{Hub, Took, crawl};
use super::{Work, bytes, model, peers, seconds, table};

pub(crate) const SHAPES: [&str; 12] = [
    "bert-base",
    "gpt2",
    "qwen2.5-0.5b",
    "llama-7b-single",
    "mistral-7b",
    "llama-3.1-8b",
    "llama-3.1-8b-fp8",
    "llama-7b-gptq",
    "llama-13b",
    "llama-3-70b",
    "mixtral-8x7b",
    "deepseek-v3",
];
/// The same and others in further formats: name, shape, and options of `dev checkpoint`.
const FORMATS: [(&str, &str, &[&str]); 9] = [
    ("llama-7b, PyTorch", "llama-7b", &["--format", "pytorch"]),
    ("llama-7b, GGUF F16", "llama-7b", GGUF_F16),
    ("llama-7b, GGUF Q8_0", "llama-7b", &["--format", "gguf", "--quantization", "Q8_0"]),
    ("llama-7b, GGUF Q4_0", "llama-7b", &["--format", "gguf", "--quantization", "Q4_0"]),
    ("llama-7b, GGUF Q4_K_M", "llama-7b", GGUF_Q4_K_M),
    ("llama-3-70b, GGUF Q4_K_M", "llama-3-70b", GGUF_Q4_K_M),
    ("llama-3-70b, GGUF F16, 3 files", "llama-3-70b", GGUF_F16),
    ("gemma-2b, GGUF F16, 256,000 tokens", "gemma-2b", GGUF_F16),
    ("sdxl, a pipeline of 4 models", "sdxl", &[]),
];
const GGUF_F16: &[&str] = &["--format", "gguf"];
const GGUF_Q4_K_M: &[&str] = &["--format", "gguf", "--quantization", "Q4_K_M"];

/// What we read of a model, in a row.
const COLUMNS: [&str; 10] = [
    "shape",
    "in the repository",
    "fetched",
    "share",
    "counted, API + files",
    "CDN requests",
    "seconds",
    "processor",
    "ms a MB",
    "peak memory",
];

/// Larger repositories are not downloaded whole: their seconds are reckoned from the speed of the others.
const MOST_DOWNLOADED: u64 = 14_000_000_000;

/// One way to look at one model, as the server saw it.
struct Seen {
    api: u64,
    resolvers: u64,
    cdn: u64,
    bytes: u64,
    took: Option<Took>,
}

pub(crate) fn tables(work: &Work) -> String {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for shape in SHAPES {
        let folder = work.checkpoint(shape);
        let id = model(shape);
        let size = repository_bytes(&folder, &id);
        let fingerprint = read(&folder);
        ours.push(row(shape, size, &fingerprint));
        for method in ["headers", "blocks", "download"] {
            let is_made = method != "download" || size <= MOST_DOWNLOADED;
            let peer = is_made.then(|| seen(&folder, |url| peers::child(method, url, &id)));
            eprintln!("{shape}, {method}: {:?}", peer.as_ref().and_then(|peer| peer.took));
            if let Some(Seen { took: Some(took), bytes: sent, resolvers, api, cdn }) = peer {
                others.push(vec![
                    shape.to_owned(),
                    method.to_owned(),
                    bytes(sent as f64),
                    format!("{:.0}", sent as f64 / fingerprint.bytes as f64),
                    format!("{api} + {resolvers}"),
                    cdn.to_string(),
                    seconds(took.seconds),
                    seconds(took.cpu_seconds),
                    bytes(took.peak_memory_bytes as f64),
                ]);
            } else if let Some(planned) = planned(method, &folder, &id, size) {
                let ratio = format!("{:.0}", planned as f64 / fingerprint.bytes as f64);
                let mut row =
                    vec![shape.to_owned(), format!("{method}, not read"), bytes(planned as f64), ratio];
                row.resize(9, String::new());
                others.push(row);
            }
        }
    }
    let ours = table(&COLUMNS, &ours);
    let others = table(
        &[
            "shape",
            "way",
            "fetched",
            "times ours",
            "counted, API + files",
            "CDN requests",
            "seconds",
            "processor",
            "peak memory",
        ],
        &others,
    );
    format!("{ours}\nThe same models, looked at in other ways:\n\n{others}")
}

/// The same table for further formats.
pub(crate) fn formats(work: &Work) -> String {
    let rows = FORMATS.map(|(name, shape, options)| {
        let (folder, id) = work.made(name, shape, options);
        row(name, repository_bytes(&folder, &id), &read(&folder))
    });
    table(&COLUMNS, &rows)
}

/// One crawl.
fn read(folder: &Path) -> Seen {
    seen(folder, |url| Some(crawl(url, ["", ""]).took))
}

fn row(name: &str, size: u64, fingerprint: &Seen) -> Vec<String> {
    let took = fingerprint.took.unwrap();
    eprintln!("{name}: {took:?}");
    vec![
        name.to_owned(),
        bytes(size as f64),
        bytes(fingerprint.bytes as f64),
        format!("{:.3} %", 100.0 * fingerprint.bytes as f64 / size as f64),
        format!("{} + {}", fingerprint.api, fingerprint.resolvers),
        fingerprint.cdn.to_string(),
        seconds(took.seconds),
        seconds(took.cpu_seconds),
        format!("{:.1}", 1000.0 * took.cpu_seconds / (fingerprint.bytes as f64 / 1e6)),
        bytes(took.peak_memory_bytes as f64),
    ]
}

/// Bytes that a way to look would read of a model of so many; `None` where that is not known.
fn planned(method: &str, folder: &Path, id: &str, size: u64) -> Option<u64> {
    match method {
        "download" => Some(size),
        "blocks" => Some(peers::blocks(folder, id)),
        _ => None,
    }
}

/// Runs something against a fresh server.
fn seen(folder: &Path, run: impl FnOnce(&str) -> Option<Took>) -> Seen {
    let hub = Hub::serve(folder, &[]);
    let took = run(&hub.url);
    let counters = hub.counters();
    Seen {
        api: counters.requests.api,
        resolvers: counters.requests.resolvers,
        cdn: counters.cdn_requests,
        bytes: counters.bytes_sent,
        took,
    }
}

/// Bytes of the weight files, as the Hub states them.
fn repository_bytes(folder: &Path, id: &str) -> u64 {
    let hub = Hub::serve(folder, &[]);
    let info: Value = peers::get(&format!("{}/api/models/{id}?blobs=true", hub.url));
    let files = info["siblings"].as_array().unwrap();
    let is_weights = |name: &str| [".safetensors", ".bin", ".gguf"].iter().any(|end| name.ends_with(end));
    let weights = files.iter().filter(|f| is_weights(f["rfilename"].as_str().unwrap()));
    weights.map(|f| f["size"].as_u64().unwrap()).sum()
}
