//! Everything that the Hub lists, beside everything that is known: what is to be read, what is only to be written
//! anew, and what has gone.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::budget::{Spent, until};
use super::progress::Progress;
use crate::checkpoint::error::{in_full, outcome_of_hub_error};
use crate::checkpoint::row::{self, later_than};
use crate::hub::{Hub, HubError, HubErrorKind, RepoEntry};
use crate::pipeline::backlog::{Backlog, Due};
use crate::pipeline::changes::{self, Change, Retry};
use crate::pipeline::enumerate::{self, EnumerateSettings, Enumerated, Reread};
use crate::store::{Database, Live, Outcome, Row, RowRef, StoreError, Tag, Waiting};

/// Descriptions that may wait between listing and comparing: one page.
const QUEUE: usize = 1000;
const DAY: i64 = 86_400_000;

/// Repositories by what the listing says of them. They add up to `listed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Listed {
    /// All.
    pub listed: u64,
    /// Not known before.
    pub new: u64,
    /// With another commit.
    pub changed: u64,
    /// Not readable before, and to be tried again.
    pub again: u64,
    /// With another name.
    pub renamed: u64,
    /// Back after they had gone.
    pub returned: u64,
    /// With another way of access.
    pub regated: u64,
    /// As known, by an older version of the extraction, and to be read again as far as the budget goes.
    pub outdated: u64,
    /// As known.
    pub unchanged: u64,
    /// Not wanted, by the settings.
    pub filtered: u64,
    /// Private, and not asked for.
    pub private: u64,
    /// Listed or asked for in a way that names no repository.
    pub unnamed: u64,
}

/// What a sweep found.
pub struct Sweep {
    /// How many.
    pub listed: Listed,
    /// To be read, in order.
    pub backlog: Backlog,
    /// Repositories whose rows are to be written anew with what the listing says.
    pub metadata_updated: Vec<(RepoEntry, Vec<RowRef>)>,
    /// Rows of names that are none, and whether there is a row with a fingerprint under that name.
    pub unnamed: Vec<(Row, bool)>,
    /// The rows of each repository that is listed no more.
    pub gone: Vec<Vec<RowRef>>,
    /// What waited before and was not listed, because not everything was; it waits on.
    pub carried: Vec<Waiting>,
    /// Why repositories that seem to have gone are not believed to.
    pub suspicious_deletion: Option<String>,
    /// Whether it came to the end of the list.
    pub complete: bool,
    /// Whether that was a list of everything.
    pub whole: bool,
    /// Why not, if the listing broke off.
    pub error: Option<HubError>,
    /// Why not, if it was not to cost more.
    pub spent: Option<Spent>,
    /// Of the names of repositories with a fingerprint; made when it is first needed.
    indexed_names: Option<HashSet<Tag>>,
}

impl Sweep {
    /// Repositories whose rows are only written anew.
    pub fn metadata_updated(&self) -> u64 {
        self.listed.renamed + self.listed.returned + self.listed.regated
    }
}

/// What is known before a sweep.
pub struct Before<'a> {
    /// The live rows; what is listed is added and marked.
    pub live: &'a mut Live,
    /// Since when crawls read as much as this one.
    pub reads_since: i64,
    /// Has what the last crawl left over.
    pub db: Option<&'a Database>,
    /// Where the backlog may take room.
    pub folder: &'a Path,
    /// The time, milliseconds since 1970.
    pub now: i64,
    /// When to stop listing.
    pub deadline: Option<Instant>,
}

/// Lists and compares. When `stop` becomes true, what was listed so far is the result.
pub async fn sweep(
    hub: &Hub,
    before: Before<'_>,
    settings: &EnumerateSettings,
    progress: &Arc<Progress>,
    mut stop: watch::Receiver<bool>,
) -> Result<Sweep, StoreError> {
    let Before { live, reads_since, db, folder, now, deadline } = before;
    let (send, mut receive) = mpsc::channel(QUEUE);
    let listing = tokio::spawn({
        let (hub, settings, progress) = (hub.clone(), settings.clone(), Arc::clone(progress));
        async move { enumerate::enumerate(&hub, &settings, send, || progress.found()).await }
            .instrument(tracing::info_span!("enumerate"))
    });
    let waiting = || db.map(|db| db.each_waiting(settings.partition)).transpose();
    let since = waiting()?.into_iter().flatten().map(|w| w.map(|w| (Tag::of(&w.hub_id), w.since)));
    let since: HashMap<Tag, i64> = since.collect::<Result<_, _>>()?;
    // Who is asked for by name is tried at once.
    let long_ago = now - i64::from(settings.retry_days) * DAY;
    let refused_before = if settings.repos.is_empty() { long_ago } else { i64::MAX };
    let retry = Retry { refused_before, unread_before: reads_since };
    let mut sweep = Sweep::new(folder)?;
    let mut seen = Seen::default();
    let stopped = loop {
        let one = tokio::select! {
            biased;
            Ok(_) = stop.wait_for(|stop| *stop) => break true,
            () = until(deadline.map(tokio::time::Instant::from)) => {
                sweep.spent = Some(Spent::Deadline);
                break true;
            }
            one = receive.recv() => one,
        };
        let Some(one) = one else { break false };
        match one {
            Enumerated::Found(entry) => {
                let key = Tag::of(&entry.object_id);
                // One that is known and was made private has gone, as for those without this token.
                let is_secret = settings.is_secret(&entry);
                if !is_secret && !seen.first(key) {
                    // The listing shifted under us; it was taken into account already.
                    continue;
                }
                if !settings.partition.has(key) {
                    continue;
                }
                sweep.listed.listed += 1;
                if is_secret {
                    sweep.listed.private += 1;
                    continue;
                }
                let known = live.repos.get(&key);
                let change = changes::change(&entry, known, retry);
                // What is not wanted is not read; that it is back, or has another name, is noted all the same.
                if !settings.wants(&entry) && !change.is_relabelling() {
                    sweep.listed.filtered += 1;
                    continue;
                }
                sweep.listed.count(change);
                let is_outdated = change == Change::Outdated;
                if is_outdated && settings.reread == Reread::Never {
                    continue;
                }
                if change.is_due() {
                    let is_known = known.is_some_and(|known| known.outcome == Outcome::Indexed);
                    let (replaces, since) = (known.map(|known| known.crawled_at), since.get(&key).copied());
                    let due = Due { entry: *entry, is_known, is_outdated, replaces, since };
                    sweep.backlog.push(&due, settings.order)?;
                } else if change.is_relabelling() {
                    // Files are of no interest any more, and there may be many.
                    let entry = RepoEntry { siblings: None, safetensors: None, config: None, ..*entry };
                    sweep.metadata_updated.push((entry, places(live, key)));
                }
            }
            // The names after this one would end the same way.
            Enumerated::Failed { error, .. }
                if matches!(error.kind(), HubErrorKind::HostDown { .. } | HubErrorKind::Spent { .. }) =>
            {
                sweep.error = Some(error);
                break false;
            }
            Enumerated::Failed { name, .. } | Enumerated::Rejected { name, .. }
                if !settings.partition.has(Tag::of(&name)) => {}
            Enumerated::Failed { name, error } => {
                sweep.unnamed(row::bare(&name, outcome_of_hub_error(&error), in_full(&error)), live);
            }
            Enumerated::Rejected { name, reason } => {
                seen.first(Tag::of(&name));
                sweep.unnamed(row::bare(&name, Outcome::Malformed, reason), live);
            }
        }
    };
    drop(receive);
    if stopped {
        // It may be waiting for a rate limit or for a host.
        listing.abort();
    }
    match listing.await {
        Ok(Ok(())) => sweep.complete = !stopped && sweep.error.is_none(),
        Ok(Err(error)) => sweep.error = Some(error),
        Err(ended) if ended.is_cancelled() => {}
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
    if let Some(spent) = sweep.error.as_ref().and_then(Spent::of) {
        // Nothing is wrong with the list.
        (sweep.spent, sweep.error) = (Some(spent), None);
    }
    sweep.whole = sweep.complete && settings.is_whole();
    if sweep.whole {
        sweep.find_gone(live, &seen, settings);
    } else {
        for left in waiting()?.into_iter().flatten() {
            let left = left?;
            if !seen.0.contains(&Tag::of(&left.hub_id)) && live.still_waits(&left) {
                sweep.carried.push(left);
            }
        }
    }
    sweep.metadata_updated.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
    sweep.backlog.sort()?;
    Ok(sweep)
}

/// Where the rows of a repository lie.
fn places(live: &Live, id: Tag) -> Vec<RowRef> {
    live.checkpoints_of(id).map(|checkpoint| checkpoint.at).collect()
}

/// The ids that were listed.
#[derive(Default)]
struct Seen(HashSet<Tag>);

impl Seen {
    fn first(&mut self, id: Tag) -> bool {
        self.0.insert(id)
    }
}

impl Sweep {
    fn new(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            listed: Listed::default(),
            backlog: Backlog::new(folder)?,
            metadata_updated: Vec::new(),
            unnamed: Vec::new(),
            gone: Vec::new(),
            carried: Vec::new(),
            suspicious_deletion: None,
            complete: false,
            whole: false,
            error: None,
            spent: None,
            indexed_names: None,
        })
    }

    /// A row for what has no description; once is enough as long as it ends the same way for good.
    fn unnamed(&mut self, mut row: Row, live: &Live) {
        self.listed.listed += 1;
        let known = live.of(&row.hub_id);
        if known.is_some_and(|known| known.outcome == row.outcome && known.outcome.is_final()) {
            self.listed.unchanged += 1;
        } else {
            self.listed.unnamed += 1;
            let indexed = || {
                let indexed = live.repositories().filter(|(_, known)| known.outcome == Outcome::Indexed);
                indexed.map(|(_, known)| known.name).collect()
            };
            let names = self.indexed_names.get_or_insert_with(indexed);
            let is_known = known.is_some_and(|known| known.outcome == Outcome::Indexed)
                || names.contains(&Tag::of(&row.repo_id));
            if let Some(known) = known {
                row.crawled_at = later_than(known.crawled_at);
            }
            self.unnamed.push((row, is_known));
        }
    }

    fn find_gone(&mut self, live: &Live, seen: &Seen, settings: &EnumerateSettings) {
        let most = settings.max_gone;
        // Every part sees the whole list, and judges it as a whole.
        let there = live.repositories().filter(|(_, known)| !known.gone && known.sha.is_some());
        let gone: Vec<_> = there.clone().filter(|(id, _)| !seen.0.contains(id)).collect();
        let there = there.count();
        if gone.len() as f64 > (most * there as f64).max(1.0) {
            self.suspicious_deletion = Some(format!(
                "{} of {there} known repositories are not listed, more than the {:.1} % that are believed; none was \
                 marked as gone",
                gone.len(),
                100.0 * most
            ));
            return;
        }
        let ours = gone.into_iter().filter(|(id, _)| settings.partition.has(*id));
        self.gone = ours.map(|(id, _)| places(live, id)).collect();
        self.gone.sort_unstable();
    }
}

impl Listed {
    fn count(&mut self, change: Change) {
        *match change {
            Change::New => &mut self.new,
            Change::Changed => &mut self.changed,
            Change::Again => &mut self.again,
            Change::Renamed => &mut self.renamed,
            Change::Returned => &mut self.returned,
            Change::Regated => &mut self.regated,
            Change::Outdated => &mut self.outdated,
            Change::Unchanged => &mut self.unchanged,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::fingerprint::EXTRACTION_VERSION;
    use crate::store::schema::Key;

    #[test]
    fn a_fingerprint_outlives_an_entry_that_is_not_understood() {
        let key = |hub_id: &str, outcome| Key {
            repo_id: format!("org/{hub_id}"),
            hub_id: hub_id.into(),
            component: String::new(),
            sha: Some("commit".into()),
            gated: "false".into(),
            crawled_at: i64::MAX / 2,
            outcome,
            is_gone: false,
            extraction_key: None,
            extraction_version: EXTRACTION_VERSION,
        };
        let mut live = Live::default();
        for (row, (id, outcome)) in
            (0..).zip([("indexed", Outcome::Indexed), ("other", Outcome::Unreachable)])
        {
            live.add(&key(id, outcome), RowRef { shard: 0, row });
        }
        let dir = tempfile::tempdir().unwrap();
        let mut sweep = Sweep::new(dir.path()).unwrap();
        // By the immutable id, which is all that such an entry has, or by the name that was asked for.
        for name in ["indexed", "org/indexed", "other", "new"] {
            sweep.unnamed(row::bare(name, Outcome::Malformed, "no id".into()), &live);
        }
        let kept: Vec<bool> = sweep.unnamed.iter().map(|(_, is_known)| *is_known).collect();
        assert_eq!(kept, [true, true, false, false]);
        assert!(sweep.unnamed[2].0.crawled_at > i64::MAX / 2, "later than the row that it replaces");
    }
}
