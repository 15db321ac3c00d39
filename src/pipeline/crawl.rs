//! enumerate -> plan -> fetch -> extract -> write.
//!
//! First everything that the Hub lists is held against what is known ([`super::sweep`]); then what is due is read,
//! the most important first, as far as the budget goes, and rows are committed shard by shard. What is not read
//! waits for the next crawl, first in line. What is left of the budget goes to repositories whose fingerprints are of an
//! older extraction version.
//!
//! Memory is bounded by settings and by the number of repositories known, some 150 bytes each, not by what the Hub
//! sends: at most `repos_in_flight` repositories are read at once, each holding at most its header limit and its
//! plan's bytes, and at most one shard's rows are pending.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tracing::Instrument;

use super::budget::{Budget, Cost, Reserved, Spent, until};
use super::forecast::{Forecast, bytes_of};
use super::process::{cpu_seconds, peak_memory_bytes};
use super::progress::Progress;
use super::report::{Experience, RunReport};
use super::settings::CrawlSettings;
use super::sweep::{Before, Sweep, sweep};
use crate::checkpoint::job::{self, Unread};
use crate::checkpoint::plan::READS_VERSION;
use crate::checkpoint::reading::{OfComponent, Reader, Reading};
use crate::checkpoint::row;
use crate::checkpoint::single_flight::{Flight, SingleFlight};
use crate::hub::{Hub, HubError, HubErrorKind, RepoEntry};
use crate::pipeline::backlog::{Backlog, Due};
use crate::pipeline::write::Writer;
use crate::store::{Database, Live, Row, RowRef, StoreError, Tag, Waiting};

/// Time that repositories under way are given when the run is asked to stop; then they are given back.
const GRACE: Duration = Duration::from_secs(20);
/// Repositories in a row that end because a CDN host is down, from which on the run ends.
const IN_VAIN: usize = 32;
/// Rows that are written anew at once.
const REWRITTEN: usize = 256;
/// Bytes of small files and headers that are reserved beside the tensor data of a repository. Most take a tenth of it;
/// who takes more than the budget has is given back.
const BYTES_BESIDE: u64 = 1 << 20;

/// A crawl that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CrawlError {
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows and outcomes do not add up: a bug.
    #[error("the totals do not add up: {0}")]
    Totals(String),
}

/// What a crawl would do and cost: lists, and reads nothing else. `last` is what the last crawl saw.
pub async fn foresee(
    hub: &Hub,
    db: Option<&Database>,
    settings: &CrawlSettings,
    last: Experience,
    progress: &Arc<Progress>,
    stop: watch::Receiver<bool>,
) -> Result<Forecast, CrawlError> {
    let begun = Instant::now();
    let mut live = db.map_or_else(|| Ok(Live::default()), Database::live)?;
    let now = Utc::now().timestamp_millis();
    let folder = db.map_or_else(std::env::temp_dir, |db| db.folder().to_owned());
    let reads_since = db.map_or(now, |db| db.reads_since(READS_VERSION, now));
    let before = Before { live: &mut live, reads_since, db, folder: &folder, now, deadline: None };
    let sweep = sweep(hub, before, &settings.enumerate, progress, stop).await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Forecast::new(hub, sweep, seconds, settings, last).await?)
}

/// Crawls into the database. When `stop` becomes true, nothing new is begun, and what is under way is finished or,
/// after 20 seconds, given back.
///
/// A listing that breaks off, and a Hub that goes away, are part of the report, not errors: what was read before is
/// in the database.
pub async fn crawl(
    hub: &Hub,
    db: &mut Database,
    settings: &CrawlSettings,
    progress: &Arc<Progress>,
    stop: watch::Receiver<bool>,
) -> Result<RunReport, CrawlError> {
    let begun = Instant::now();
    let now = Utc::now();
    let mut report = RunReport { started_at: Some(now), ..RunReport::default() };
    let now = now.timestamp_millis();
    let budget = Budget::new(settings.budget, hub);
    let mut live = db.live()?;
    let folder = db.folder().to_owned();
    let part = settings.enumerate.partition;
    let reads_since = db.reads_since(READS_VERSION, now);
    db.set_reads(READS_VERSION, now)?;
    let before = Before {
        live: &mut live,
        reads_since,
        db: Some(db),
        folder: &folder,
        now,
        deadline: budget.deadline(),
    };
    let found = sweep(hub, before, &settings.enumerate, progress, stop.clone()).await?;
    report.swept(&found, &hub.usage(), begun.elapsed());
    let Sweep { mut backlog, metadata_updated, unnamed, gone, carried, .. } = found;
    let fingerprints = live.fingerprints();
    // The rest of what is known was needed for the sweep alone.
    let readings = std::mem::take(&mut live.extraction_keys);
    let readings = readings.into_iter().map(|(reading, at)| (reading, Held::Database(at))).collect();
    drop(live);

    // Before anything is read: a crawl that is killed must not forget since when they wait.
    if backlog.may_wait() > 0 {
        let due = backlog.waiting(now).chain(carried.iter().cloned().map(Ok));
        db.append_last(&[], part, due)?;
    }

    progress.set_done(report.listed.listed - backlog.len() as u64);
    progress.set_total(report.listed.listed);
    let mut writer = Writer::new(db, &settings.write);
    for (row, is_known) in unnamed {
        report.count(&row.repo_id, row.outcome, row.reason.as_deref());
        if is_known {
            report.rows_kept += 1;
        } else {
            writer.push(vec![row])?;
        }
    }
    let mut waiting = carried;
    report.waiting_unlisted = waiting.len() as u64;
    rewrite(&mut writer, &metadata_updated, &gone, now, &stop, &mut report, &mut waiting)?;
    drop((metadata_updated, gone));

    let reads =
        Reads { hub, settings, budget, readings: Mutex::new(readings), flights: SingleFlight::default() };
    reads.run(&mut backlog, &mut writer, &mut report, &mut waiting, progress, stop.clone(), now).await?;
    writer.flush()?;
    report.waiting = (waiting.len() + backlog.may_wait()) as u64 - report.waiting_unlisted;
    report.outdated = report.listed.outdated - report.reread;
    let waiting = waiting.into_iter().map(Ok).chain(backlog.waiting(now));
    report.rows_written = writer.finish(part, waiting)?;
    let fingerprints = if report.rows_written == 0 { fingerprints } else { db.live()?.fingerprints() };
    let stored: u64 = db.manifest().files().map(|file| file.bytes).sum();
    report.stored_bytes_per_model = stored.checked_div(fingerprints);
    report.interrupted = *stop.borrow();
    report.add_usage(&hub.usage());
    report.seconds = begun.elapsed().as_secs_f64();
    report.cpu_seconds = cpu_seconds();
    report.peak_memory_bytes = peak_memory_bytes();
    match report.imbalance() {
        None => Ok(report),
        Some(imbalance) => Err(CrawlError::Totals(imbalance)),
    }
}

/// Writes rows anew: with what the listing says, or as gone. Asked to stop, it leaves the rest to the next crawl,
/// which sees the same.
fn rewrite(
    writer: &mut Writer<'_>,
    metadata_updated: &[(RepoEntry, Vec<RowRef>)],
    gone: &[Vec<RowRef>],
    now: i64,
    stop: &watch::Receiver<bool>,
    report: &mut RunReport,
    waiting: &mut Vec<Waiting>,
) -> Result<(), StoreError> {
    for part in metadata_updated.chunks(REWRITTEN) {
        if *stop.borrow() {
            waiting.extend(part.iter().map(|(entry, _)| Waiting {
                hub_id: entry.object_id.clone(),
                repo_id: entry.id.as_str().to_owned(),
                since: now,
            }));
            continue;
        }
        report.metadata_updated += part.len() as u64;
        let places: Vec<RowRef> = part.iter().flat_map(|(_, places)| places).copied().collect();
        let mut rows = writer.database().rows(&places)?.into_iter();
        for (entry, places) in part {
            report.further_components += places.len().saturating_sub(1) as u64;
            let rows = rows.by_ref().take(places.len());
            writer.push(rows.map(|row| row::updated(entry, row)).collect())?;
        }
    }
    for part in gone.chunks(REWRITTEN).take_while(|_| !*stop.borrow()) {
        report.gone += part.len() as u64;
        let mut rows = writer.database().rows(&part.concat())?.into_iter();
        for places in part {
            report.further_components += places.len().saturating_sub(1) as u64;
            writer.push(rows.by_ref().take(places.len()).map(row::gone).collect())?;
        }
    }
    Ok(())
}

/// What all repositories that are read have in common.
struct Reads<'a> {
    hub: &'a Hub,
    settings: &'a CrawlSettings,
    budget: Budget,
    /// Rows by what was read for them.
    readings: Mutex<HashMap<Tag, Held>>,
    /// The contents that are being read: of copies that are new in one night, one is.
    flights: SingleFlight<Tag>,
}

/// Where a row is.
#[derive(Clone, Copy)]
enum Held {
    /// In the database.
    Database(RowRef),
    /// With the writer, not yet written.
    Writer,
}

/// How the reading of one repository ended.
enum End<'a> {
    /// With a row for each of its checkpoints. Copies of the last one's weights wait for it.
    Read(Box<RepoEntry>, Vec<Checkpoint<'a>>, Option<Flight>),
    /// A host is down, which is not the repository's fault.
    Down(Unread),
    /// The budget has not enough left for it.
    Spent(Spent),
}

/// How the reading of one checkpoint ended.
enum Checkpoint<'a> {
    /// With a row.
    Row(Box<Row>),
    /// Its weights were read before, for the row with this extraction key.
    Same(Box<Reading<'a>>, Tag),
}

/// A repository that is being read.
struct UnderWay {
    /// As what is left for the next crawl; see [`Due::waiting`].
    left: Option<Waiting>,
    is_known: bool,
    is_outdated: bool,
    /// See [`Due`].
    replaces: Option<i64>,
}

impl Reads<'_> {
    #[allow(clippy::too_many_arguments, reason = "the state of one run, used here alone")]
    async fn run(
        &self,
        backlog: &mut Backlog,
        writer: &mut Writer<'_>,
        report: &mut RunReport,
        waiting: &mut Vec<Waiting>,
        progress: &Progress,
        mut stop: watch::Receiver<bool>,
        now: i64,
    ) -> Result<(), StoreError> {
        let reader = &Reader::from(self.settings.read.clone());
        // What was begun and has not ended, to be given back if it does not.
        let mut under_way: HashMap<String, UnderWay> = HashMap::new();
        // Refused by the budget beside what was under way; it may fit when that has ended.
        let mut held: Option<Due> = None;
        let mut in_vain = 0;
        let mut reads = stream::FuturesUnordered::new();
        let mut give_up = None;
        let mut closing = false;
        // Whoever is under way may be waiting for a rate limit, so it is not left to them to look at the clock.
        let deadline = self.budget.deadline().map(tokio::time::Instant::from);
        'reading: loop {
            closing |= *stop.borrow();
            while !closing && reads.len() < self.settings.repos_in_flight.max(1) {
                let Some(due) = held.take().map_or_else(|| backlog.pop(), |due| Ok(Some(due)))? else {
                    closing = true;
                    break;
                };
                let names = due.entry.siblings.as_deref().unwrap_or_default();
                let expected = reader.requests(names);
                // One more where a redirect or the list of files has to be asked for.
                let cost = Cost {
                    requests: expected + 1,
                    bytes: bytes_of(&due.entry, &reader.settings) + BYTES_BESIDE,
                };
                match self.budget.reserve(cost) {
                    Ok(reserved) => {
                        report.expected_requests += expected;
                        let Due { is_known, is_outdated, replaces, .. } = due;
                        let begun = UnderWay { left: due.waiting(now), is_known, is_outdated, replaces };
                        under_way.insert(due.entry.object_id.clone(), begun);
                        reads.push(self.read_one(due, reader, reserved));
                    }
                    Err(spent) if spent != Spent::Deadline && !reads.is_empty() => {
                        held = Some(due);
                        break;
                    }
                    Err(spent) => {
                        report.spent = Some(spent);
                        waiting.extend(due.waiting(now));
                        closing = true;
                    }
                }
            }
            if reads.is_empty() {
                break;
            }
            let end = tokio::select! {
                biased;
                Ok(_) = stop.wait_for(|stop| *stop), if give_up.is_none() => {
                    closing = true;
                    give_up = Some(tokio::time::Instant::now() + GRACE);
                    continue;
                }
                () = until(give_up) => break,
                () = until(deadline), if give_up.is_none() => {
                    report.spent.get_or_insert(Spent::Deadline);
                    closing = true;
                    give_up = Some(tokio::time::Instant::now() + GRACE);
                    continue;
                }
                () = tokio::time::sleep(writer.due()), if writer.has_pending() => {
                    self.remember(in_database(writer.flush()?));
                    continue;
                }
                end = reads.next() => end,
            };
            let Some((hub_id, end)) = end else { continue };
            // The flight is held until the rows are with the writer, where copies find them.
            let (entry, checkpoints, _flight) = match end {
                End::Read(entry, checkpoints, flight) => (entry, checkpoints, flight),
                End::Down(unread) if self.is_hub(&unread) || in_vain == IN_VAIN => {
                    if let Some(error) = unread.hub_error() {
                        report.broke_off(error);
                    }
                    closing = true;
                    give_up.get_or_insert_with(tokio::time::Instant::now);
                    continue;
                }
                End::Spent(spent) => {
                    // It takes more than was reserved for it: tomorrow it is not first in line of what waits.
                    report.spent.get_or_insert(spent);
                    closing = true;
                    let left = under_way.remove(&hub_id).and_then(|begun| begun.left);
                    waiting.extend(left.map(|left| Waiting { since: now, ..left }));
                    continue;
                }
                End::Down(_) => {
                    // One CDN host of several: others go on, and tomorrow this one is not first in line of what waits.
                    in_vain += 1;
                    let left = under_way.remove(&hub_id).and_then(|begun| begun.left);
                    waiting.extend(left.map(|left| Waiting { since: now, ..left }));
                    continue;
                }
            };
            in_vain = 0;
            let mut rows = Vec::with_capacity(checkpoints.len());
            for checkpoint in checkpoints {
                rows.push(match checkpoint {
                    Checkpoint::Row(row) => *row,
                    Checkpoint::Same(reading, key) => {
                        let Some(before) = self.row_with(key, writer)? else { continue 'reading };
                        report.known_contents += 1;
                        reading.copied_row(&entry, before)
                    }
                });
            }
            let begun = under_way.remove(&hub_id);
            let is_known = begun.as_ref().is_some_and(|begun| begun.is_known);
            report.reread += u64::from(begun.as_ref().is_some_and(|begun| begun.is_outdated));
            let replaces = begun.and_then(|begun| begun.replaces);
            report.read(&rows);
            for row in &mut rows {
                if let Some(replaced) = replaces {
                    row.crawled_at = row::later_than(replaced);
                }
                let reason = row.reason.as_deref().unwrap_or_default();
                tracing::info!(repo = %row.name(), outcome = row.outcome.name(), bytes = row.bytes_fetched, reason, "read");
            }
            if is_known && !rows.iter().all(|row| row.outcome.is_final()) {
                // Its last fingerprints say more than that there are none of the new commit, which stays due.
                report.rows_kept += rows.len() as u64;
            } else {
                let keys = rows.iter().filter_map(|row| Some((row::extraction_key_of(row)?, Held::Writer)));
                self.remember(keys);
                self.remember(in_database(writer.push(rows)?));
            }
            progress.tick();
        }
        waiting.extend(held.and_then(|due| due.waiting(now)));
        waiting.extend(under_way.into_values().filter_map(|begun| begun.left));
        Ok(())
    }

    /// Whether it is the Hub itself that is down, and not a CDN.
    fn is_hub(&self, unread: &Unread) -> bool {
        let own = self.hub.settings().endpoint.host_str();
        let kind = unread.hub_error().map(HubError::kind);
        matches!(kind, Some(HubErrorKind::HostDown { host, .. }) if own == Some(host.as_str()))
    }

    fn remember(&self, rows: impl IntoIterator<Item = (Tag, Held)>) {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }

    fn held(&self, reading: Tag) -> Option<Held> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).get(&reading).copied()
    }

    /// A reading of which there is a row.
    fn known(&self, reading: Option<String>) -> Option<Tag> {
        let reading = Tag::of(&reading?);
        self.held(reading).map(|_| reading)
    }

    /// The row with this reading.
    fn row_with(&self, reading: Tag, writer: &Writer<'_>) -> Result<Option<Row>, StoreError> {
        Ok(match self.held(reading) {
            Some(Held::Database(at)) => writer.database().rows(&[at])?.pop(),
            Some(Held::Writer) => writer.pending(reading).cloned(),
            None => None,
        })
    }

    async fn read_one<'r>(&self, due: Due, reader: &'r Reader, reserved: Reserved) -> (String, End<'r>) {
        let span = tracing::info_span!("fetch", repo = %due.entry.id);
        let hub_id = due.entry.object_id.clone();
        let end = self.read_repo(due.entry, reader).instrument(span).await;
        drop(reserved);
        (hub_id, end)
    }

    async fn read_repo<'r>(&self, entry: RepoEntry, reader: &'r Reader) -> End<'r> {
        let described = match job::describe(self.hub, &entry).await {
            Ok(described) => described,
            Err(unread) => return ended(entry, unread),
        };
        match self.read_checkpoints(&described, reader).await {
            Ok((checkpoints, flight)) => End::Read(Box::new(described), checkpoints, flight),
            Err(unread) => ended(described, unread),
        }
    }

    async fn read_checkpoints<'r>(
        &self,
        entry: &RepoEntry,
        reader: &'r Reader,
    ) -> Result<(Vec<Checkpoint<'r>>, Option<Flight>), Unread> {
        let mut checkpoints = Vec::new();
        let mut flight = None;
        for (component, reading) in job::open(self.hub, entry, reader).await? {
            match reading {
                Ok(reading) => checkpoints.extend(self.read_checkpoint(reading, entry, &mut flight).await),
                Err(error) => checkpoints.push((component, Err(error))),
            }
        }
        Ok((job::each(checkpoints, |row| Checkpoint::Row(Box::new(row)), entry)?, flight))
    }

    async fn read_checkpoint<'r>(
        &self,
        mut reading: Reading<'r>,
        entry: &RepoEntry,
        flight: &mut Option<Flight>,
    ) -> Vec<OfComponent<Checkpoint<'r>>> {
        // One at a time: who waits for a second one while others wait for its first could wait for ever.
        drop(flight.take());
        if let Some(key) = reading.extraction_key() {
            *flight = Some(self.flights.enter(Tag::of(&key)).await);
        }
        let mut known = self.known(reading.extraction_key());
        if known.is_none() {
            match reading.read_headers().await {
                Ok(true) => known = self.known(reading.extraction_key()),
                Ok(false) => {}
                Err(error) => return vec![(reading.component, Err(error))],
            }
        }
        if let Some(key) = known {
            // What the files say of themselves is said of each copy.
            if reading.describes_itself()
                && let Err(error) = reading.read_headers().await
            {
                return vec![(reading.component, Err(error))];
            }
            return vec![(reading.component.clone(), Ok(Checkpoint::Same(Box::new(reading), key)))];
        }
        let rows = reading.rows(entry).await.into_iter();
        rows.map(|(component, row)| (component, row.map(|row| Checkpoint::Row(Box::new(row))))).collect()
    }
}

fn in_database(rows: Vec<(Tag, RowRef)>) -> impl Iterator<Item = (Tag, Held)> {
    rows.into_iter().map(|(reading, at)| (reading, Held::Database(at)))
}

/// How the reading of a repository ends that has no fingerprint: with a row, unless the error says nothing about it.
fn ended<'a>(entry: RepoEntry, unread: Unread) -> End<'a> {
    match unread.hub_error().map(|error| (error.kind(), Spent::of(error))) {
        Some((_, Some(spent))) => End::Spent(spent),
        Some((HubErrorKind::HostDown { .. }, None)) => End::Down(unread),
        _ => {
            let row = Box::new(unread.row(&entry));
            End::Read(Box::new(entry), vec![Checkpoint::Row(row)], None)
        }
    }
}
