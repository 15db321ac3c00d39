//! Many models: counted requests a model over a mix, models a second, and memory whatever the shapes.

use std::path::{Path, PathBuf};

use super::hub::{Crawl, Hub, crawl};
use super::{Work, bytes, model, table};

/// Shares of the models with weights to read, by shape; see docs/cost.md for where they come from.
const MIX: [(&str, f64); 8] = [
    ("bert-base", 0.40),
    ("gpt2", 0.14),
    ("qwen2.5-0.5b", 0.24),
    ("llama-7b-single", 0.03),
    ("llama-7b-gptq", 0.04),
    ("mistral-7b", 0.10),
    ("llama-13b", 0.04),
    ("llama-3-70b", 0.01),
];
/// Counted requests of a free token in 5 minutes.
const FREE: f64 = 5000.0;
/// A model of the demo Hub.
const DEMO: &str = "lumenworks/stdlib-llama-500k";

pub(crate) fn tables(work: &Work) -> String {
    let mut rows = Vec::new();
    let mut average = 0.0;
    for (shape, share) in MIX {
        let run = many(&work.checkpoint(shape), &model(shape), 8, ["", ""], &[]);
        let a_model = requests(&run) / models(&run);
        average += share * a_model;
        rows.push(vec![shape.to_owned(), format!("{:.0} %", 100.0 * share), format!("{a_model:.2}")]);
    }
    rows.push(vec![
        "all".into(),
        format!("{:.0} %", 100.0 * MIX.iter().map(|m| m.1).sum::<f64>()),
        format!("{average:.2}"),
    ]);
    let mix = table(&["shape", "share", "counted requests a model"], &rows);
    let a_day = FREE * 0.99 * 288.0;
    let arithmetic = format!(
        "A free token has {FREE:.0} counted requests in 5 minutes, of which 99 % are used: {:.2} million a day, so {:.2} \
         million models of this mix.\n",
        a_day / 1e6,
        a_day / average / 1e6
    );

    let demo = tempfile::tempdir().unwrap();
    copy_demo(demo.path());
    let seven = "llama-7b-single";
    let large = "deepseek-v3";
    let mut rows = Vec::new();
    let mut add = |what: &str, run: &Crawl, mbit: f64| {
        let received = run.report["bytes_received"].as_f64().unwrap();
        let used = received * 8.0 / 1e6 / run.took.seconds;
        rows.push(vec![
            what.to_owned(),
            format!("{:.0}", models(run)),
            format!("{:.1}", models(run) / run.took.seconds),
            format!("{used:.0} Mbit/s"),
            if mbit > 0.0 { format!("{:.0} %", 100.0 * used / mbit) } else { String::new() },
            format!("{:.1}", 1000.0 * run.took.cpu_seconds / (received / 1e6)),
            bytes(run.took.peak_memory_bytes as f64),
        ]);
    };
    // As many requests as keep the line full: its bytes in the time of an answer, over those of a range.
    let wide = ["cdn_requests = 64", "repos_in_flight = 32"];
    let wider = ["cdn_requests = 192", "repos_in_flight = 64"];
    let line = |latency: u64, mbit: u64| {
        [format!("line.latency_ms={latency}"), format!("line.mbit_per_second={mbit}.0")]
    };
    add("demo, no latency", &many(demo.path(), DEMO, 3000, ["", ""], &[]), 0.0);
    let checkpoint = work.checkpoint(seven);
    add("7B, no latency", &many(&checkpoint, &model(seven), 400, ["", ""], &[]), 0.0);
    add(
        "7B, 100 ms, 100 Mbit/s, 64 at once",
        &many(&checkpoint, &model(seven), 200, wide, &line(100, 100)),
        100.0,
    );
    add(
        "7B, 100 ms, 400 Mbit/s, 192 at once",
        &many(&checkpoint, &model(seven), 400, wider, &line(100, 400)),
        400.0,
    );
    add("671B, no latency", &many(&work.checkpoint(large), &model(large), 40, ["", ""], &[]), 0.0);
    let speed = table(
        &["models", "number", "a second", "of the line", "used", "processor, ms a MB", "peak memory"],
        &rows,
    );
    format!("{mix}\n{arithmetic}\nWhole crawls, the server on the same two cores:\n\n{speed}")
}

/// Crawls a Hub of so many models with the files of one of the folder, each with hashes of its own.
fn many(folder: &Path, template: &str, repos: u32, tables: [&str; 2], line: &[String]) -> Crawl {
    let mut settings = vec![format!("made_up.repos={repos}"), format!("made_up.template={template}")];
    settings.extend_from_slice(line);
    let hub = Hub::serve(folder, &settings);
    crawl(&hub.url, tables)
}

fn models(run: &Crawl) -> f64 {
    run.report["outcomes"]["indexed"].as_f64().unwrap()
}

fn requests(run: &Crawl) -> f64 {
    run.report["requests"]["resolvers"].as_f64().unwrap()
}

/// A really trained model.
pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo-hub/models").join(DEMO)
}

/// A Hub folder with that model.
fn copy_demo(to: &Path) {
    let to = to.join("models").join(DEMO);
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(demo()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
