//! The local Hub server of a measurement, and our own command line against it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use hubprint::local_hub::{self, Counters, Running, Settings};
use hubprint::store::atomic;
use serde::Deserialize;
use serde_json::Value;

/// A server, until it is dropped.
pub(crate) struct Hub {
    running: Option<Running>,
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) url: String,
}

impl Hub {
    /// Serves a folder with these settings, e.g. `line.latency_ms=30`.
    pub(crate) fn serve(folder: &Path, settings: &[String]) -> Self {
        let mut all = Settings::default();
        for assignment in settings {
            all.set(assignment).unwrap();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = runtime.block_on(local_hub::start(folder, any, any, all)).unwrap();
        let url = running.hub_url().to_owned();
        Self { running: Some(running), runtime: Some(runtime), url }
    }

    /// What the server has counted.
    pub(crate) fn counters(&self) -> Counters {
        self.running.as_ref().unwrap().counters()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let runtime = self.runtime.take().unwrap();
        runtime.block_on(async { drop(self.running.take()) });
        runtime.shutdown_background();
    }
}

/// What a process took.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory_bytes: u64,
}

/// A crawl by the command line, in a new database: its report.
pub(crate) struct Crawl {
    pub(crate) report: Value,
    pub(crate) took: Took,
}

/// Crawls everything, with these further lines of `[hub]` and `[fetch]`.
pub(crate) fn crawl(url: &str, [hub, fetch]: [&str; 2]) -> Crawl {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cost.toml");
    let text =
        format!("[database]\npath = 'db'\n[hub]\nendpoint = '{url}'\n{hub}\n[enumerate]\n[fetch]\n{fetch}\n");
    atomic::write(&file, text.as_bytes()).unwrap();
    let printed = hubprint(&["run", "--json", &file.display().to_string()]);
    let report = serde_json::from_str::<Value>(&printed).unwrap()["crawl"].clone();
    let failed = report["failures"].as_array().unwrap();
    assert!(failed.is_empty() && report["error"].is_null(), "{report:#}");
    let took = serde_json::from_value(report.clone()).unwrap();
    Crawl { report, took }
}

/// Runs the command line, which must succeed; what it printed.
pub(crate) fn hubprint(args: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hubprint"))
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hubprint {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
