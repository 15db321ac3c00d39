//! Who watches a run: shows its progress, stops it, and hears of what came of each stage.

use std::any::Any;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::answers::scan::ScanLine;
use crate::pipeline::index::IndexReport;
use crate::pipeline::maintain::Maintained;
use crate::pipeline::progress::Progress;
use crate::pipeline::report::RunReport;
use crate::publication::plan::Published;
use crate::store::Location;

/// A stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The listing alone, for a forecast.
    Enumerate,
    /// The crawl as a whole.
    Crawl,
    /// The index.
    Index,
    /// What keeps the database small. Cut short anywhere, it leaves it as it was before, or as it is after.
    Maintenance,
    /// Scans. They have nothing to finish.
    Scan,
    /// The publication.
    Publish,
}

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// A crawl ended.
    Crawled(&'a RunReport),
    /// The index is about to be built, and takes at most so many bytes of memory.
    Indexing {
        /// The bound.
        memory_bound_bytes: u64,
    },
    /// The index was built.
    Indexed(&'a IndexReport),
    /// The database was looked after.
    Maintained(&'a Maintained),
    /// It was not, because another process writes to it: whoever ends last finds it free.
    MaintenanceLeft,
    /// The database has newer rows than the index that is searched.
    IndexBehind(&'a Location),
    /// A model was scanned, or could not be.
    Scanned(&'a ScanLine),
    /// The database was published to this place.
    Published(&'a Published, &'a str),
}

/// A stage that is watched, until this is dropped.
pub struct Watched {
    /// Becomes true when a crawl or a build is to finish what is under way and end.
    pub stop: watch::Receiver<bool>,
    /// Whatever the watcher needs until the stage has ended.
    pub held: Box<dyn Any + Send>,
}

/// Who watches a run.
pub trait Watcher: Sync {
    /// A stage begins. How far it is can be seen from `progress`.
    fn begin(&self, stage: Stage, progress: &Arc<Progress>) -> Watched;

    /// Something happened. An error, of writing it down, ends the run.
    fn tell(&self, news: News<'_>) -> io::Result<()>;
}

/// Nobody: nothing is shown, and nothing is stopped.
impl Watcher for () {
    fn begin(&self, _: Stage, _: &Arc<Progress>) -> Watched {
        let (held, stop) = watch::channel(false);
        Watched { stop, held: Box::new(held) }
    }

    fn tell(&self, _: News<'_>) -> io::Result<()> {
        Ok(())
    }
}
