//! The models on one side, the answers on the other, and a bounded channel between them.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;

use super::answer::{BulkAnswer, BulkLine};
use super::lines::BulkError;
use super::queries::{Asked, Queries, names, rows};
use super::search::families;
use crate::answers::scan::job::ScanOptions;
use crate::answers::scan::scanner::Scanner;
use crate::checkpoint::plan::SmallFiles;
use crate::checkpoint::reading::{ReadSettings, Reader};
use crate::hub::Hub;
use crate::store::{RowRef, StoreError, Tag};

/// Queries answered between two writes.
const BATCH: usize = 512;

/// Many models, to be scanned in one database.
pub struct BulkScan {
    /// The database.
    pub scanner: Arc<Scanner>,
    /// Which models.
    pub queries: Queries,
    /// Models that are left out, by the tags of their names: they were answered before.
    pub answered: HashSet<Tag>,
    /// How they are scanned.
    pub options: ScanOptions,
}

/// What came of a bulk scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkTotals {
    /// Models that were scanned.
    pub scanned: usize,
    /// How many of them have a family.
    pub related: usize,
    /// Models that could not be read.
    pub failed: usize,
}

/// What takes lines, some hundred at once, in the order of the models; `all` is how many there will be, where that is
/// known.
pub type Work = Box<dyn FnMut(&[BulkLine], Option<u64>) -> io::Result<()> + Send>;

impl BulkScan {
    /// Answers. `work` gets every line.
    pub async fn run(self, hub: &Hub, reader: &Reader, work: Work) -> Result<BulkTotals, BulkError> {
        let Self { scanner, queries, answered, options } = self;
        let (send, receive) = sync_channel::<Vec<Asked>>(2 * BATCH);
        let wanted: HashSet<RowRef> = match &queries {
            Queries::Names { .. } => HashSet::new(),
            Queries::All(db) => db.live()?.places().collect(),
            Queries::New => scanner.index().added_last().map(|p| p.at).collect(),
        };
        let all = (!matches!(queries, Queries::Names { .. })).then_some(wanted.len() as u64);
        let judge = Arc::clone(&scanner);
        let answering = blocking(move || answer(&judge, &receive, options, all, work));
        let asking = async {
            match queries {
                Queries::Names { list, place } => {
                    // Answers are of weights alone.
                    let settings =
                        ReadSettings { small_files: SmallFiles::Needed, ..reader.settings.clone() };
                    let reader = Reader { settings, ..reader.clone() };
                    names(list, &place, answered, options, (&scanner, hub, &reader), send).await
                }
                Queries::All(db) => blocking(move || rows((&db, false), &wanted, &answered, &send))
                    .await
                    .map_err(BulkError::from),
                Queries::New => {
                    let scanner = Arc::clone(&scanner);
                    blocking(move || rows((scanner.database(), true), &wanted, &answered, &send))
                        .await
                        .map_err(BulkError::from)
                }
            }
        };
        let (asked, totals) = tokio::join!(asking, answering);
        let totals = totals?;
        asked?;
        Ok(totals)
    }
}

/// Runs work that waits for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A panic in our own arithmetic is a bug; it must surface where the work was asked for.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Answers queries until there are no more, batch by batch in parallel, in the order in which they come.
fn answer(
    scanner: &Scanner,
    queries: &Receiver<Vec<Asked>>,
    options: ScanOptions,
    all: Option<u64>,
    mut work: Work,
) -> Result<BulkTotals, BulkError> {
    let mut totals = BulkTotals::default();
    while let Ok(first) = queries.recv() {
        let mut batch = first;
        while batch.len() < BATCH
            && let Ok(next) = queries.try_recv()
        {
            batch.extend(next);
        }
        let lines: Vec<BulkLine> = batch
            .into_par_iter()
            .map(|asked| line(scanner, asked, options))
            .collect::<Result<_, StoreError>>()?;
        for line in &lines {
            match line {
                BulkLine::Answered(answer) => {
                    totals.scanned += 1;
                    totals.related += usize::from(!answer.families.is_empty());
                }
                BulkLine::Failed(_) => totals.failed += 1,
            }
        }
        work(&lines, all)?;
    }
    Ok(totals)
}

/// The line of one query.
fn line(scanner: &Scanner, (query, known): Asked, options: ScanOptions) -> Result<BulkLine, StoreError> {
    let known = match known {
        Ok(known) => known,
        Err(failure) => return Ok(BulkLine::Failed(failure)),
    };
    let coverage = known.fingerprint().extent.coverage;
    let families = families(scanner, known.search_query(), options.top_k, options.mode)?;
    let false_rate_at_most = scanner.index().quality().false_rate_at_most();
    Ok(BulkLine::Answered(BulkAnswer { query, coverage, families, false_rate_at_most }))
}
