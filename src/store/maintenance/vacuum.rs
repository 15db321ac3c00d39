//! Old snapshots, the files that nothing names any more, and old reports are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::layout::{CONTENT_FOLDERS, MANIFESTS, manifest_name};
use crate::store::manifest::Manifest;

/// Removes all but the latest run reports, two files a crawl; returns how many it removed.
pub fn forget_reports(db: &Database, keep: usize) -> Result<usize, StoreError> {
    let names = db.report_names()?;
    let old = names.iter().skip(keep.max(1));
    for name in old.clone() {
        db.files().remove(name)?;
        db.files().remove(&format!("{}.md", name.trim_end_matches(".json")))?;
    }
    Ok(old.count())
}

/// Which snapshots a vacuum keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// So many of the latest, at least one.
    pub latest: usize,
    /// And all that were the latest within this time, because somebody may be reading them; files younger than this
    /// are kept as well, because a writer may be about to commit them.
    pub younger: Duration,
}

/// What a vacuum did, or would do.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Vacuumed {
    /// Snapshots kept.
    pub snapshots: usize,
    /// Snapshots removed.
    pub snapshots_removed: usize,
    /// Other files removed.
    pub files_removed: usize,
    /// Their bytes.
    pub bytes_removed: u64,
}

/// Removes old snapshots and the files that none of those kept names. Manifests go first, so that a vacuum that dies
/// leaves snapshots whole.
pub fn vacuum(db: &Database, keep: Keep, dry_run: bool) -> Result<Vacuumed, StoreError> {
    let files = db.files();
    let generations = files.generations()?;
    let written: BTreeMap<String, SystemTime> =
        files.list(MANIFESTS)?.into_iter().map(|present| (present.file, present.modified)).collect();
    let oldest_kept = generations.len().saturating_sub(keep.latest.max(1));
    let now = SystemTime::now();
    // By the clock of another machine it may even be of tomorrow.
    let is_young = |time: SystemTime| now.duration_since(time).map_or(true, |age| age <= keep.younger);
    let mut vacuumed = Vacuumed::default();
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut old = Vec::new();
    for (i, generation) in generations.iter().enumerate() {
        // Of whatever version: what it names stays as long as it does.
        let Some(text) = files.manifest(*generation)? else { continue };
        let replaced = generations.get(i + 1).and_then(|next| written.get(&manifest_name(*next)));
        if i < oldest_kept && replaced.is_some_and(|time| !is_young(*time)) {
            old.push(*generation);
            continue;
        }
        vacuumed.snapshots += 1;
        named.extend(Manifest::names_in(&text));
    }
    vacuumed.snapshots_removed = old.len();
    if !dry_run {
        for generation in old {
            files.remove(&manifest_name(generation))?;
        }
    }
    for folder in CONTENT_FOLDERS {
        for present in files.list(folder)? {
            if named.contains(&present.file) || is_young(present.modified) {
                continue;
            }
            vacuumed.files_removed += 1;
            vacuumed.bytes_removed += present.bytes;
            if !dry_run {
                files.remove(&present.file)?;
            }
        }
        // What was fetched of another place and is not there any more.
        if files.is_mirrored() && !dry_run {
            for present in files.list_mirror(folder)? {
                if !named.contains(&present.file) {
                    files.remove_from_mirror(&present.file)?;
                }
            }
        }
    }
    Ok(vacuumed)
}
