//! Two local checkpoints, every tensor whole: what the sampled figures are held against.
//!
//! Tensors are read block by block with positioned reads, not mapped into memory: a mapped file that another
//! process truncates kills the reader, and the memory stays the same for a model of any size.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::ReadError;
use super::model::Subject;
use super::plan::{Ask, PlanSettings};
use super::reading::{ReadSettings, Reader, Reading};
use super::source::RepoFiles;
use super::sources::folder::FolderFiles;
use crate::signals::columns::standardise;
use crate::signals::dot::dot;
use crate::signals::evidence::Tests;
use crate::signals::{Position, Role};

/// Standard errors within which a sampled mean has to lie.
const ERRORS: f64 = 4.0;

/// One role, sampled and whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    /// The role.
    pub role: Role,
    /// Rows that both models have and that say something.
    pub rows: u64,
    /// Mean correlation of all rows at the same place.
    pub mean: f64,
    /// The same from the samples, where they have this role.
    pub sampled: Option<f64>,
    /// How far the sampled mean may lie off: four standard errors of a mean of as many groups of neighbouring rows
    /// as were sampled. Neighbouring rows correlate, so groups count and rows do not.
    pub error: f64,
}

impl Whole {
    /// Whether sample and whole agree within the stated error.
    pub fn agrees(&self) -> bool {
        self.sampled.is_none_or(|sampled| (sampled - self.mean).abs() <= self.error)
    }
}

/// Why two checkpoints cannot be read whole.
#[derive(Debug, thiserror::Error)]
pub enum FullError {
    /// One is not on this machine.
    #[error("{0} is not on this machine; whole tensors are read of local checkpoints only")]
    NotLocal(String),
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Sums of one role.
#[derive(Default)]
struct Sums {
    rows: Sum,
    groups: Sum,
}

#[derive(Default)]
struct Sum {
    n: u64,
    total: f64,
    squares: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.n += 1;
        self.total += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.total / self.n.max(1) as f64
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.n.max(1) as f64 - self.mean() * self.mean()).max(0.0).sqrt()
    }
}

/// A subject on this machine, open for all of its weights.
async fn open<'a>(subject: &Subject, reader: &'a Reader) -> Result<(Reading<'a>, Vec<Ask>), FullError> {
    let folder = subject.folder().ok_or_else(|| FullError::NotLocal(subject.name.clone()))?;
    let files: Arc<dyn RepoFiles> = Arc::new(FolderFiles::open(folder)?);
    let mut reading = reader.open_one(&files, &subject.metadata, subject.component()).await?;
    let asks = reading.whole().await?;
    Ok((reading, asks))
}

/// Correlates all rows at the same place. `tests` are those of the samples; `progress` gets (done, all) blocks.
pub async fn full(
    a: &Subject,
    b: &Subject,
    tests: &Tests,
    reader: &Reader,
    progress: impl Fn(u64, u64),
) -> Result<Vec<Whole>, FullError> {
    // Every shard and every state, not a selection.
    let plan =
        PlanSettings { max_shards: usize::MAX, max_ranges: usize::MAX, ..reader.settings.plan.clone() };
    let reader = Reader { settings: ReadSettings { plan, ..reader.settings.clone() }, ..reader.clone() };
    let ((of_a, asks_of_a), (of_b, asks_of_b)) = (open(a, &reader).await?, open(b, &reader).await?);
    let places: BTreeMap<(Position, u64), &Ask> =
        asks_of_b.iter().map(|ask| ((ask.position, ask.start), ask)).collect();
    let sampled = sampled(a);
    let mut sums: BTreeMap<Role, Sums> = BTreeMap::new();
    for (done, ask) in asks_of_a.iter().enumerate() {
        progress(done as u64, asks_of_a.len() as u64);
        let Some(other) = places.get(&(ask.position, ask.start)).filter(|o| o.columns == ask.columns) else {
            continue;
        };
        let (Ok(mut x), Ok(mut y)) = (of_a.block(ask).await?, of_b.block(other).await?) else {
            continue;
        };
        let sums = sums.entry(ask.position.role).or_default();
        let group = sampled.get(&ask.position.role).map_or(1, |s| s.rows) * ask.columns;
        for (x, y) in x.chunks_mut(group).zip(y.chunks_mut(group)) {
            let mut of_group = Sum::default();
            for (x, y) in x.chunks_exact_mut(ask.columns).zip(y.chunks_exact_mut(ask.columns)) {
                if standardise(x) && standardise(y) {
                    of_group.add(f64::from(dot(x, y)));
                    sums.rows.add(f64::from(dot(x, y)));
                }
            }
            if of_group.n > 0 {
                sums.groups.add(of_group.mean());
            }
        }
    }
    let found = sums.into_iter().filter(|(_, sums)| sums.rows.n > 0);
    let blocks = |role| sampled.get(&role).map_or(1, |s| s.blocks);
    Ok(found.map(|(role, sums)| whole(role, &sums, blocks(role), tests)).collect())
}

/// What was sampled of a role.
struct Sampled {
    /// Rows of a block that enter the test, at least 1.
    rows: usize,
    blocks: usize,
}

fn sampled(subject: &Subject) -> BTreeMap<Role, Sampled> {
    let mut all: BTreeMap<Role, Sampled> = BTreeMap::new();
    for block in subject.weights.as_ref().map_or(&[][..], |w| &w.samples.blocks) {
        let of_role = all.entry(block.position.role).or_insert(Sampled { rows: usize::MAX, blocks: 0 });
        // Some blocks were read in more detail; the test takes the canonical rows, which the smallest one has.
        of_role.rows = of_role.rows.min(block.rows().count()).max(1);
        of_role.blocks += 1;
    }
    all
}

fn whole(role: Role, sums: &Sums, blocks: usize, tests: &Tests) -> Whole {
    Whole {
        role,
        rows: sums.rows.n,
        mean: sums.rows.mean(),
        sampled: tests.roles.get(&role).copied(),
        // Values are read in single precision, so equal means differ by some 1e-6.
        error: 1e-5 + ERRORS * sums.groups.deviation() / (blocks as f64).sqrt(),
    }
}
