//! `hubprint scan` of many models: JSON Lines out, in parallel, with bounded memory, going on where it was stopped.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use rayon::prelude::*;
use serde::Deserialize;

use super::scan::{database, look};
use crate::answers::query::{Known, Query};
use crate::answers::scan::Scanner;
use crate::checkpoint::plan::SmallFiles;
use crate::checkpoint::reading::Reader;
use crate::cli::args::ScanArgs;
use crate::cli::failure::Failure;
use crate::cli::json::{self, ScanErrorJson};
use crate::cli::progress::Watch;
use crate::cli::{Done, printer, tables};
use crate::hub::Hub;
use crate::pipeline::Progress;
use crate::retrieval::SearchMode;
use crate::store::schema::IndexRow;
use crate::store::{Database, RowRef, StoreError, Tag, atomic, checkpoint_name};

/// Queries answered between two writes.
const BATCH: usize = 512;
/// Models loaded at once.
const LOADS: usize = 8;
/// Longest line of a list, and of a file of answers, bytes: an answer names a few repositories of each family.
const LONGEST_NAME: u64 = 8192;
const LONGEST_ANSWER: u64 = 16 << 20;

/// A model to be scanned: its name, and what is known of it or why nothing is.
type Asked = (String, Result<Known, Failure>);

pub(super) async fn run(
    args: &ScanArgs,
    scanner: Scanner,
    hub: Hub,
    mut reader: Reader,
) -> Result<Done, Failure> {
    // Answers are of weights alone.
    reader.settings.small_files = SmallFiles::Needed;
    let mut out = Output::open(args.out.as_deref())?;
    let begun = Instant::now();
    let progress = Arc::new(Progress::default());
    let scanner = Arc::new(scanner);
    let watch = Watch::start("scan", "models", &progress);
    let answered = std::mem::take(&mut out.answered);
    let (send, receive) = sync_channel::<Asked>(2 * BATCH);
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
        names(args.from.as_deref(), answered, &hub, &reader, &scanner, &send).await.map(|()| drop(send))
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
    printer::talk(&tables::false_positives(scanner.index().quality()));
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
    answered: &HashSet<Tag>,
    send: &SyncSender<Asked>,
) -> Result<(), StoreError> {
    let shards: BTreeSet<u32> = wanted.iter().map(|at| at.shard).collect();
    for shard in shards {
        for batch in db.index_rows(shard as usize)? {
            for (at, row) in batch? {
                let IndexRow { repo_id, component, fingerprint, weights_digest, sample_digest, .. } = row;
                let name = checkpoint_name(&repo_id, &component);
                let left = wanted.contains(&at) && !answered.contains(&Tag::of(&name));
                let Some(fingerprint) = fingerprint.filter(|_| left) else { continue };
                let known = Known::new(fingerprint, weights_digest.as_deref(), sample_digest.as_deref());
                if send.send((name, Ok(known))).is_err() {
                    // The other side has ended, with an error of its own.
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Queries from a list of names, each once, fingerprinted from the Hub or from disk.
async fn names(
    list: Option<&Path>,
    mut known: HashSet<Tag>,
    hub: &Hub,
    reader: &Reader,
    scanner: &Scanner,
    send: &SyncSender<Asked>,
) -> Result<(), Failure> {
    let path = list.filter(|path| *path != Path::new("-"));
    let mut lines: Box<dyn BufRead> = match path {
        Some(path) => Box::new(BufReader::new(File::open(path).map_err(StoreError::io(path))?)),
        None => Box::new(BufReader::new(std::io::stdin())),
    };
    let place = path.unwrap_or(Path::new("stdin"));
    let names = std::iter::from_fn(move || {
        loop {
            let line = match line_of(&mut lines, LONGEST_NAME, place).transpose()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let name = line.trim();
            if !name.is_empty() && known.insert(Tag::of(name)) {
                return Some(Ok(name.to_owned()));
            }
        }
    });
    let mut queries = stream::iter(names)
        .map(|name| async move {
            let name = name?;
            let loaded = scanner.query(&name, hub, reader).await;
            Ok::<Asked, Failure>((name, loaded.map(Query::into_known).map_err(Failure::from)))
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

/// The next line with its end, of at most so many bytes; `None` at the end of the text.
fn line_of(text: &mut impl BufRead, most: u64, place: &Path) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    text.by_ref().take(most).read_until(b'\n', &mut bytes).map_err(StoreError::io(place))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 == most && !bytes.ends_with(b"\n") {
        let error = anyhow::anyhow!("{} has a line of more than {most} bytes", place.display());
        return Err(Failure::from(error).with_hint("give a list with one model a line"));
    }
    let line = String::from_utf8(bytes);
    Ok(Some(line.map_err(|_| anyhow::anyhow!("{} has a line that is not UTF-8", place.display()))?))
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
    queries: &Receiver<Asked>,
    out: &mut Output,
    look: SearchMode,
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
            .map(|(name, known)| line(scanner, &name, known, look, top_k, leave_out_itself))
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
    known: Result<Known, Failure>,
    look: SearchMode,
    top_k: usize,
    leave_out_itself: bool,
) -> Result<(String, Result<bool, Failure>), Failure> {
    let known = match known {
        Ok(known) => known,
        Err(failure) => {
            let error = ScanErrorJson { query: name, error: failure.to_string(), hint: failure.hint() };
            return Ok((serde_json::to_string(&error).map_err(anyhow::Error::from)?, Err(failure)));
        }
    };
    let but = leave_out_itself.then_some(name);
    let families = scanner.brief(known.sought(but), top_k, look)?;
    let answer = json::brief(name, &families, scanner.index().quality());
    let text = serde_json::to_string(&answer).map_err(anyhow::Error::from)?;
    Ok((text, Ok(!families.is_empty())))
}

/// stdout, or a file that grows.
struct Output {
    file: Option<BufWriter<File>>,
    /// Queries that the file answers already, by their names.
    answered: HashSet<Tag>,
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Line {
            query: String,
            error: Option<String>,
        }
        let Some(path) = path else { return Ok(Self { file: None, answered: HashSet::new() }) };
        let mut answered = HashSet::new();
        if path.exists() {
            // Answers are kept; failed queries are tried again, and a line that was cut when the run before was
            // killed is made again. Any other line is somebody else's.
            let mut lines = BufReader::new(File::open(path).map_err(StoreError::io(path))?);
            atomic::write_with(path, |kept| {
                let mut kept = BufWriter::new(kept);
                while let Some(text) = line_of(&mut lines, LONGEST_ANSWER, path)? {
                    let Some(whole) = text.strip_suffix('\n') else { break };
                    let line: Line = serde_json::from_str(whole).map_err(|_| {
                        Failure::from(anyhow::anyhow!("{} has lines that are no answers", path.display()))
                            .with_hint("name a file that is not there yet, or one that `scan --out` wrote")
                    })?;
                    if line.error.is_none() && answered.insert(Tag::of(&line.query)) {
                        kept.write_all(text.as_bytes()).map_err(StoreError::io(path))?;
                    }
                }
                kept.flush().map_err(StoreError::io(path))?;
                Ok::<(), Failure>(())
            })?;
        }
        let file = File::options().append(true).create(true).open(path).map_err(StoreError::io(path))?;
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
