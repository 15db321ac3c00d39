//! The metrics of a crawl as a Prometheus textfile, for the textfile collector of the node exporter.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::hub::{Hub, Usage};
use crate::pipeline::{Progress, RunReport};
use crate::store::{StoreError, atomic};

/// How often the file is written while a crawl runs.
const EVERY: Duration = Duration::from_secs(15);

type Value = Gauge<f64, AtomicU64>;
type Labelled = Family<Vec<(String, String)>, Value>;

/// Writes a textfile now and then until it is told how the crawl ended; dropped before, it says that it failed.
pub(super) struct Metrics {
    path: PathBuf,
    running: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if self.stop() {
            let mut all = Registry::with_prefix("hubprint_crawl");
            set(&mut all, "running", "Whether a crawl is under way", 0.0);
            set(&mut all, "complete", "Whether the last crawl came to its end", 0.0);
            // The error that ended the crawl is reported; this one would hide it.
            let _ = write(&self.path, &all);
        }
    }
}

impl Metrics {
    /// Begins to write.
    pub(super) fn start(path: &Path, hub: &Hub, progress: &Arc<Progress>) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let (file, hub, progress) = (path.to_owned(), hub.clone(), Arc::clone(progress));
        let thread = std::thread::spawn(move || {
            loop {
                if let Err(error) = write(&file, &running(&hub.usage(), &progress)) {
                    tracing::warn!(%error, "the metrics could not be written");
                }
                if ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self { path: path.to_owned(), running: Some((end, thread)) }
    }

    /// Writes the totals.
    pub(super) fn end(mut self, report: &RunReport) -> Result<(), StoreError> {
        self.stop();
        write(&self.path, &ended(report))
    }

    /// Stops writing; whether it had not been stopped before.
    fn stop(&mut self) -> bool {
        let Some((end, thread)) = self.running.take() else { return false };
        drop(end);
        thread.join().is_ok()
    }
}

fn write(path: &Path, registry: &Registry) -> Result<(), StoreError> {
    let mut text = String::new();
    encode(&mut text, registry).map_err(StoreError::damaged(path))?;
    atomic::write(path, text.as_bytes())
}

fn set(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Value::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn set_by<'a>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, u64)>,
) {
    let family = Labelled::default();
    for (value, n) in values {
        family.get_or_create(&vec![(label.to_owned(), value.to_owned())]).set(n as f64);
    }
    registry.register(name, help, family);
}

fn usage(registry: &mut Registry, usage: &Usage) {
    let r = usage.requests;
    let requests = [("api", r.api), ("resolvers", r.resolvers), ("pages", r.pages), ("cdn", r.cdn)];
    set_by(registry, "requests", "Requests sent by this run", "bucket", requests);
    let t = usage.retries;
    let retries = [
        ("rate_limited", t.rate_limited),
        ("server", t.server),
        ("unreachable", t.unreachable),
        ("stalled", t.stalled),
        ("cut_body", t.cut_body),
    ];
    set_by(registry, "retries", "Attempts made again, by the failure before", "failure", retries);
    set(registry, "received_bytes", "Bytes of answers", usage.bytes_received as f64);
    let waited = usage.waited_for_rate.as_secs_f64();
    set(registry, "rate_limit_wait_seconds", "Time requests were held back by rate limits", waited);
}

fn running(used: &Usage, progress: &Progress) -> Registry {
    let mut all = Registry::with_prefix("hubprint_crawl");
    set(&mut all, "running", "Whether a crawl is under way", 1.0);
    set(&mut all, "repositories_done", "Repositories dealt with", progress.done() as f64);
    set(&mut all, "repositories_listed", "Repositories listed so far", progress.total().0 as f64);
    usage(&mut all, used);
    all
}

fn ended(report: &RunReport) -> Registry {
    let mut all = Registry::with_prefix("hubprint_crawl");
    set(&mut all, "running", "Whether a crawl is under way", 0.0);
    let outcomes = report.outcomes.iter().map(|(name, n)| (*name, *n));
    let others = [
        ("unchanged", report.unchanged),
        ("filtered", report.filtered),
        ("relabelled", report.metadata_updated),
        ("waiting", report.waiting),
        ("outdated", report.outdated),
    ];
    let help = "Repositories of the last crawl by how they ended; together all that were listed";
    set_by(&mut all, "repositories", help, "outcome", outcomes.chain(others));
    set(&mut all, "repositories_gone", "Repositories found gone by the last crawl", report.gone as f64);
    let whole = report.sweep_complete && !report.interrupted && report.error.is_none();
    set(&mut all, "complete", "Whether the last crawl came to its end", f64::from(u8::from(whole)));
    let hub = f64::from(u8::from(report.whole_hub));
    set(&mut all, "whole_hub", "Whether the last crawl saw a listing of the whole Hub", hub);
    if let Some(started) = report.started_at {
        let ended = started.timestamp_millis() as f64 / 1000.0 + report.seconds;
        set(&mut all, "ended_timestamp_seconds", "When the last crawl ended", ended);
    }
    set(&mut all, "duration_seconds", "Wall-clock seconds of the last crawl", report.seconds);
    if let Some(cpu) = report.cpu_seconds {
        set(&mut all, "cpu_seconds", "Processor time of the last crawl", cpu);
    }
    if let Some(peak) = report.peak_memory_bytes {
        set(&mut all, "peak_memory_bytes", "Largest resident size of the last crawl", peak as f64);
    }
    let used = Usage {
        requests: report.requests,
        retries: report.retries,
        bytes_received: report.bytes_received,
        waited_for_rate: Duration::from_secs_f64(report.rate_limit_wait_seconds),
        ..Usage::default()
    };
    usage(&mut all, &used);
    all
}
