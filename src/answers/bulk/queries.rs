//! Where the models of a bulk scan come from: a list of names, or rows of a database.

use std::collections::{BTreeSet, HashSet};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use futures_util::{StreamExt, stream};

use super::file::listed;
use super::lines::{BulkError, line_of};
use crate::answers::scan::answer::ScanFailure;
use crate::answers::scan::job::{ScanJob, ScanOptions};
use crate::answers::scan::query::{Known, Query};
use crate::answers::scan::scanner::Scanner;
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;
use crate::store::schema::IndexRow;
use crate::store::{Database, RowRef, StoreError, Tag, checkpoint_name};

/// Models loaded at once.
const LOADS: usize = 8;
/// Longest line of a list, bytes.
const LONGEST_NAME: u64 = 8192;

/// Which models are scanned.
pub enum Queries {
    /// Those that a list names, one a line, each once: repositories or folders.
    Names {
        /// The list.
        list: Box<dyn BufRead + Send>,
        /// What it is called in errors.
        place: PathBuf,
    },
    /// All models of a database, by their stored fingerprints.
    All(Box<Database>),
    /// What the last build added to the index that is searched, by its stored fingerprints.
    New,
}

/// A checkpoint to be scanned: its name, and what is known of it or why nothing is.
pub(super) type Asked = (String, Result<Known, ScanFailure>);

/// Queries from these rows of a database; whether it is the one that is searched.
pub(super) fn rows(
    (db, is_searched): (&Database, bool),
    wanted: &HashSet<RowRef>,
    answered: &HashSet<Tag>,
    send: &SyncSender<Vec<Asked>>,
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
                let known = if is_searched { known.of_index(name.clone()) } else { known };
                if send.send(vec![(name, Ok(known))]).is_err() {
                    // The other side has ended, with an error of its own.
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Queries from a list of names, each once, fingerprinted from the Hub or from disk.
pub(super) async fn names(
    mut list: Box<dyn BufRead + Send>,
    place: &Path,
    mut answered: HashSet<Tag>,
    options: ScanOptions,
    (scanner, hub, reader): (&Scanner, &Hub, &Reader),
    send: SyncSender<Vec<Asked>>,
) -> Result<(), BulkError> {
    let names = std::iter::from_fn(move || {
        loop {
            let line = match line_of(&mut list, LONGEST_NAME, place).transpose()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let name = line.trim();
            // One checkpoint of a repository may be listed, too.
            let is_new = !answered.contains(&Tag::of(name)) || !name.ends_with(']');
            if !name.is_empty() && is_new && answered.insert(listed(name)) {
                return Some(Ok(name.to_owned()));
            }
        }
    });
    let mut queries = stream::iter(names)
        .map(|name| async move {
            let job = ScanJob { model: name?, options };
            let queries = scanner.queries(&job, hub, reader).await.into_iter();
            let known = queries.map(|(name, query)| {
                let failed = |error| ScanFailure::new(&name, &error);
                (name.clone(), query.map(Query::into_known).map_err(failed))
            });
            Ok::<Vec<Asked>, BulkError>(known.collect())
        })
        .buffered(LOADS);
    while let Some(asked) = queries.next().await {
        // All of one model together, so that they are written together. Waiting for room must not hold up the runtime.
        let asked = asked?;
        if tokio::task::block_in_place(|| send.send(asked).is_err()) {
            // The other side has ended, with an error of its own.
            break;
        }
    }
    Ok(())
}
