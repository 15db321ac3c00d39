//! `hubprint scan` of many models: JSON Lines out, in parallel, with bounded memory, going on where it was stopped.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use rayon::prelude::*;
use serde::Deserialize;

use super::scan::{database, look};
use crate::cli::args::ScanArgs;
use crate::cli::failure::Failure;
use crate::cli::json::{self, ScanErrorJson};
use crate::cli::progress::Watch;
use crate::cli::{Done, printer};
use crate::hub::Hub;
use crate::pipeline::Progress;
use crate::retrieval::{Look, Quality};
use crate::signals::Fingerprint;
use crate::stages::model::{self, LoadSettings};
use crate::stages::scan::{ScanError, Scanner};
use crate::store::schema::Content;
use crate::store::{Database, RowRef, StoreError, atomic};

/// Queries answered between two writes.
const BATCH: usize = 512;
/// Models loaded at once.
const LOADS: usize = 8;

/// A query: its name, and its fingerprint or why there is none.
type Query = (String, Result<Fingerprint, Failure>);

pub(super) async fn run(
    args: &ScanArgs,
    scanner: Scanner,
    hub: Hub,
    settings: LoadSettings,
) -> Result<Done, Failure> {
    let mut out = Output::open(args.out.as_deref())?;
    let begun = Instant::now();
    let progress = Arc::new(Progress::default());
    let scanner = Arc::new(scanner);
    let watch = Watch::start("scan", "models", &progress);
    let answered = std::mem::take(&mut out.answered);
    let (send, receive) = sync_channel::<Query>(2 * BATCH);
    // Queries are made on one side and answered on the other; the channel bounds what waits between them.
    let (how, top_k, judge) = (look(args), args.top_k, Arc::clone(&scanner));
    let own = args.all_new;
    let seen = Arc::clone(&progress);
    let answering = tokio::task::spawn_blocking(move || {
        let counts = answer(&judge, &receive, &mut out, how, top_k, own, &seen);
        counts.map(|counts| (counts, out))
    });
    let source: Result<(), Failure> = if let Some(folder) = &args.from_db {
        let db = Database::open(folder)?;
        let live: HashSet<RowRef> = db.live()?.places().collect();
        progress.set_total(live.len() as u64);
        blocking(move || rows(&db, &live, &answered, &send)).await
    } else if args.all_new {
        let new: HashSet<RowRef> = scanner.index().added_last().map(|p| p.at).collect();
        progress.set_total(new.len() as u64);
        let db = Database::open(database(args)?)?;
        blocking(move || rows(&db, &new, &answered, &send)).await
    } else {
        names(args.from.as_deref(), &answered, &hub, &settings, &send).await.map(|()| drop(send))
    };
    let (counts, _) = answering.await.map_err(anyhow::Error::from)??;
    drop(watch);
    source?;
    let seconds = begun.elapsed().as_secs_f64();
    printer::talk(&format!(
        "{} models scanned, {} with a family, {} failed, in {seconds:.1} s ({:.0} a second)",
        counts.scanned,
        counts.related,
        counts.failed,
        counts.scanned as f64 / seconds.max(1e-9)
    ));
    let Quality { strangers, false_families, .. } = scanner.index().quality();
    printer::talk(&format!(
        "models without relatives that this index named a family for when it was built: {false_families} of {strangers}"
    ));
    match (counts.failed, counts.scanned) {
        (0, _) => Ok(Done::All),
        (n, 0) => Err(Failure::from(anyhow::anyhow!("none of {n} models could be scanned"))),
        _ => Ok(Done::Partly),
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) -> Result<(), Failure> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from)??)
}

/// Queries from these rows of a database.
fn rows(
    db: &Database,
    wanted: &HashSet<RowRef>,
    answered: &HashSet<String>,
    send: &SyncSender<Query>,
) -> Result<(), StoreError> {
    let shards: BTreeSet<u32> = wanted.iter().map(|at| at.shard).collect();
    for shard in shards {
        for batch in db.contents(shard as usize)? {
            for (at, Content { repo_id, fingerprint, .. }) in batch? {
                let left = wanted.contains(&at) && !answered.contains(&repo_id);
                if let Some(fingerprint) = fingerprint.filter(|_| left)
                    && send.send((repo_id, Ok(fingerprint))).is_err()
                {
                    // The other side has ended, with an error of its own.
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Queries from a list of names, each fingerprinted from the Hub or from disk.
async fn names(
    list: Option<&Path>,
    answered: &HashSet<String>,
    hub: &Hub,
    settings: &LoadSettings,
    send: &SyncSender<Query>,
) -> Result<(), Failure> {
    let lines: Box<dyn BufRead> = match list {
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
            Box::new(BufReader::new(file))
        }
        _ => Box::new(BufReader::new(std::io::stdin())),
    };
    let names = lines.lines().filter_map(|line| match line {
        Ok(line) => {
            let name = line.trim().to_owned();
            (!name.is_empty() && !answered.contains(&name)).then_some(Ok(name))
        }
        Err(error) => Some(Err(error)),
    });
    let mut queries = stream::iter(names)
        .map(|name| async move {
            let name = name?;
            let fingerprint = fingerprint(&name, hub, settings).await;
            Ok::<Query, std::io::Error>((name, fingerprint))
        })
        .buffered(LOADS);
    while let Some(query) = queries.next().await {
        let query = query?;
        // Waiting for room must not hold up the runtime.
        if tokio::task::block_in_place(|| send.send(query).is_err()) {
            // The other side has ended, with an error of its own.
            break;
        }
    }
    Ok(())
}

async fn fingerprint(name: &str, hub: &Hub, settings: &LoadSettings) -> Result<Fingerprint, Failure> {
    let subject = model::load(name, hub, settings).await?;
    let weights = subject.weights.map_err(|error| Failure::from(ScanError::Unreadable(error)))?;
    Ok(Fingerprint::new(&weights.samples).map_err(ScanError::from)?)
}

#[derive(Default)]
struct Counts {
    scanned: usize,
    related: usize,
    failed: usize,
}

/// Answers queries until there are no more, batch by batch in parallel, in the order in which they come.
fn answer(
    scanner: &Scanner,
    queries: &Receiver<Query>,
    out: &mut Output,
    look: Look,
    top_k: usize,
    leave_out_itself: bool,
    progress: &Progress,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    while let Ok(first) = queries.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = queries.try_recv()
        {
            batch.push(next);
        }
        let lines: Vec<(String, Result<bool, Failure>)> = batch
            .into_par_iter()
            .map(|(name, fingerprint)| line(scanner, &name, fingerprint, look, top_k, leave_out_itself))
            .collect::<Result<_, Failure>>()?;
        for (line, ended) in lines {
            out.write(&line)?;
            progress.tick();
            match ended {
                Ok(related) => {
                    counts.scanned += 1;
                    counts.related += usize::from(related);
                }
                Err(failure) => {
                    counts.failed += 1;
                    printer::failure(&failure);
                }
            }
        }
        out.flush()?;
    }
    Ok(counts)
}

/// The line of one query, and whether it has a family.
fn line(
    scanner: &Scanner,
    name: &str,
    fingerprint: Result<Fingerprint, Failure>,
    look: Look,
    top_k: usize,
    leave_out_itself: bool,
) -> Result<(String, Result<bool, Failure>), Failure> {
    let fingerprint = match fingerprint {
        Ok(fingerprint) => fingerprint,
        Err(failure) => {
            let error = ScanErrorJson { query: name, error: failure.to_string(), hint: failure.hint() };
            return Ok((serde_json::to_string(&error).map_err(anyhow::Error::from)?, Err(failure)));
        }
    };
    let mut families = scanner.brief(&fingerprint, top_k + usize::from(leave_out_itself), look)?;
    if leave_out_itself {
        for family in &mut families {
            family.closest.retain(|(repo_id, _)| repo_id != name);
        }
        families.retain(|family| !family.closest.is_empty());
    }
    let text = serde_json::to_string(&json::brief(name, &families)).map_err(anyhow::Error::from)?;
    Ok((text, Ok(!families.is_empty())))
}

/// stdout, or a file that grows.
struct Output {
    file: Option<BufWriter<File>>,
    /// Queries that the file answers already.
    answered: HashSet<String>,
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Line {
            query: String,
            error: Option<String>,
        }
        let Some(path) = path else { return Ok(Self { file: None, answered: HashSet::new() }) };
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let mut answered = HashSet::new();
        if path.exists() {
            // Answers are kept; failed queries are tried again, and a line that was cut when the run before was
            // killed is made again.
            let mut lines = BufReader::new(File::open(path).map_err(io)?);
            atomic::write_with(path, |kept| {
                let mut kept = BufWriter::new(kept);
                let mut text = String::new();
                while lines.read_line(&mut text).map_err(io)? > 0 {
                    let line = text.strip_suffix('\n').and_then(|t| serde_json::from_str::<Line>(t).ok());
                    if let Some(line) = line.filter(|line| line.error.is_none()) {
                        kept.write_all(text.as_bytes()).map_err(io)?;
                        answered.insert(line.query);
                    }
                    text.clear();
                }
                kept.flush().map_err(io)
            })?;
        }
        let file = File::options().append(true).create(true).open(path).map_err(io)?;
        Ok(Self { file: Some(BufWriter::new(file)), answered })
    }

    fn write(&mut self, line: &str) -> Result<(), Failure> {
        match &mut self.file {
            Some(file) => writeln!(file, "{line}")?,
            None => printer::data(line)?,
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        Ok(())
    }
}
