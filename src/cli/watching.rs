//! What surrounds a stage on the command line: a progress bar, the signals that stop it, metrics, and a line or table of
//! what came of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::metrics::Metrics;
use super::progress::Watch;
use super::{printer, tables};
use crate::answers::scan::ScanLine;
use crate::hub::Hub;
use crate::pipeline::Progress;
use crate::pipeline::run::{News, Stage, Watched, Watcher};
use crate::pipeline::summary::bytes;

/// Watches the stages of a command.
pub(super) struct Watching<'a> {
    /// Whether what comes of a stage is printed as a table at its end.
    tables: bool,
    /// Where metrics of a crawl are written, and the Hub that counts them.
    metrics: Option<(PathBuf, &'a Hub)>,
    /// Those of the crawl under way.
    running: Mutex<Option<Metrics>>,
}

impl<'a> Watching<'a> {
    /// Shows progress, and no more than notes of what came of a stage.
    pub(super) fn quietly() -> Self {
        Self { tables: false, metrics: None, running: Mutex::default() }
    }

    /// Prints a table at the end of each stage, too.
    pub(super) fn with_tables(self) -> Self {
        Self { tables: true, ..self }
    }

    /// Writes metrics of a crawl into a file, if one is named.
    pub(super) fn with_metrics(self, file: Option<&Path>, hub: &'a Hub) -> Self {
        Self { metrics: file.map(|file| (file.to_owned(), hub)), ..self }
    }

    fn metrics(&self) -> std::sync::MutexGuard<'_, Option<Metrics>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.tables { printer::data(&text()) } else { Ok(()) }
    }
}

impl Watcher for Watching<'_> {
    fn begin(&self, stage: Stage, progress: &Arc<Progress>) -> Watched {
        let (label, unit) = match stage {
            Stage::Enumerate => ("enumerate", "models"),
            Stage::Crawl => ("crawl", "models"),
            Stage::Index => ("index", "rows and measured searches"),
            Stage::Maintenance => ("maintenance", "rows"),
            Stage::Scan => ("scan", "models"),
            Stage::Publish => ("publish", "bytes"),
        };
        if stage == Stage::Crawl {
            *self.metrics() = self.metrics.as_ref().map(|(file, hub)| Metrics::start(file, hub, progress));
        }
        let (stop, signals) = match stage {
            Stage::Enumerate | Stage::Crawl | Stage::Index => stop_on_signal(),
            Stage::Maintenance | Stage::Scan | Stage::Publish => end_on_signal(),
        };
        // Scans print their tables one by one, which a bar would get between.
        let bar = (stage != Stage::Scan).then(|| Watch::start(label, unit, progress));
        Watched { stop, held: Box::new((bar, signals)) }
    }

    fn tell(&self, news: News<'_>) -> io::Result<()> {
        match news {
            News::Crawled(report) => {
                let metrics = self.metrics().take();
                metrics.map_or(Ok(()), |metrics| metrics.end(report)).map_err(io::Error::other)?;
                self.print(|| format!("{}\n", tables::crawl(report)))
            }
            News::Indexing { memory_bound_bytes } => {
                printer::talk(&format!("index: takes at most {} of memory", bytes(memory_bound_bytes)));
                Ok(())
            }
            News::Indexed(report) => self.print(|| format!("{}\n", tables::index(report))),
            News::Maintained(maintained) => self.print(|| format!("{}\n", tables::maintained(maintained))),
            News::MaintenanceLeft => {
                printer::talk("maintenance is left to the next run: another process writes to the database");
                Ok(())
            }
            News::IndexBehind(db) => {
                printer::talk(&format!(
                    "note: {db} has newer rows than its index; run `hubprint index --db {db}`"
                ));
                Ok(())
            }
            News::Scanned(ScanLine::Answered(answer)) => self.print(|| tables::scan(answer)),
            News::Scanned(ScanLine::Failed(failure)) => {
                printer::talk(&format!("{}:", failure.query));
                printer::failure(&failure.into());
                Ok(())
            }
            News::Published(published, to) => self.print(|| tables::published(published, to)),
        }
    }
}

/// A task that waits for signals, until this is dropped.
struct Signals(JoinHandle<()>);

impl Drop for Signals {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Becomes true at the first signal; the second ends the process as if nobody had been listening.
fn stop_on_signal() -> (watch::Receiver<bool>, Signals) {
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        if stop_signal().await.is_ok() {
            printer::talk(
                "stopping: what is under way is finished or left for the next run; again to stop at once",
            );
            let _ = stop.send(true);
            let _ = stop_signal().await;
            std::process::exit(130);
        }
    });
    (stopped, Signals(signals))
}

/// Ends the process at a signal as one that was stopped: once there has been a listener, the default is gone.
fn end_on_signal() -> (watch::Receiver<bool>, Signals) {
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        let _never = stop;
        if stop_signal().await.is_ok() {
            std::process::exit(1);
        }
    });
    (stopped, Signals(signals))
}

/// Waits for SIGINT or SIGTERM.
pub(super) async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
