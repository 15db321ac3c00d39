//! What keeps a database small, and lets several machines and versions fill it: compaction, vacuum, joining several
//! into one, and the formats of before.

mod compact;
mod merge;
mod migrate;
mod vacuum;

pub use compact::{Compacted, Compaction, commit_compacted, compact};
pub use merge::{Merged, merge};
pub use migrate::migrate;
pub use vacuum::{Keep, Vacuumed, forget_reports, vacuum};
