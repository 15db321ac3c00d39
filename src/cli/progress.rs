//! Progress of long work: a bar on a terminal, a log line now and then otherwise.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::printer;
use crate::pipeline::Progress;

/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(100);
/// How often a line is written when nobody watches.
const LINE: Duration = Duration::from_secs(10);

/// Shows a [`Progress`] until dropped.
pub(super) struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to show. `unit` names the items, e.g. `models`.
    pub(super) fn start(label: &'static str, unit: &'static str, progress: &Arc<Progress>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let progress = Arc::clone(progress);
        let thread = if printer::is_terminal() {
            std::thread::spawn(move || draw(label, unit, &progress, &stopped))
        } else {
            std::thread::spawn(move || write_lines(label, unit, &progress, &stopped))
        };
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn goes_on(stopped: &mpsc::Receiver<()>, pause: Duration) -> bool {
    matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout))
}

fn draw(label: &'static str, unit: &'static str, progress: &Progress, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(0).with_message(label).with_prefix(unit);
    let style = |template| {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{:.1} a second", state.per_sec());
        })
    };
    let open = style("{msg} {spinner} {pos} of {len} or more {prefix}, {rate}, {elapsed}");
    let closed = style("{msg} [{bar:30}] {pos}/{len} {prefix}, {rate}, {eta} left").progress_chars("=> ");
    bar.set_style(open);
    let mut is_closed = false;
    while goes_on(stopped, DRAW) {
        let (total, is_final) = progress.total();
        if is_final && !is_closed {
            is_closed = true;
            bar.set_style(closed.clone());
        }
        bar.set_length(total);
        bar.set_position(progress.done());
        bar.tick();
    }
    bar.finish_and_clear();
}

fn write_lines(label: &str, unit: &str, progress: &Progress, stopped: &mpsc::Receiver<()>) {
    let begun = Instant::now();
    while goes_on(stopped, LINE) {
        let (done, (total, is_final)) = (progress.done(), progress.total());
        let rate = done as f64 / begun.elapsed().as_secs_f64();
        let more = if is_final { "" } else { " or more" };
        let eta = if is_final && rate > 0.0 {
            format!(", {:.0} s left", total.saturating_sub(done) as f64 / rate)
        } else {
            String::new()
        };
        printer::talk(&format!("{label}: {done} of {total}{more} {unit}, {rate:.1} a second{eta}"));
    }
}
