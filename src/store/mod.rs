//! The fingerprint database on disk: immutable Parquet shards and one manifest.
//!
//! ```text
//! DIR/manifests/000000000012.json   one a commit: which files make up the database. The latest counts
//! DIR/shards/HASH.parquet           rows, one a crawled repository; of two of a repository the later counts
//! DIR/index/HASH.*                  built from the shards by the index stage, see `retrieval`
//! DIR/waiting/HASH.parquet          repositories that the last crawl left for the next one
//! DIR/reports/                      run reports
//! DIR/locks/                        who writes
//! ```
//!
//! Files are named by their content and appear whole: they are written beside their place, synced and renamed. A
//! commit creates the next manifest, which only one of many writers can. A crash leaves the database as it was at the
//! last manifest; what no manifest names is removed by `vacuum`.

pub mod atomic;
pub mod bucket;
pub mod database;
pub mod error;
pub mod facts;
pub mod files;
pub mod known;
pub mod location;
pub mod lock;
pub mod maintenance;
pub mod manifest;
pub mod row;
pub mod schema;
pub mod shard;
pub mod task;

pub use database::{Database, RowRef};
pub use error::StoreError;
pub use files::{FileEntry, Files};
pub use known::{Known, Live, Tag};
pub use location::{Location, LocationError};
pub use row::{Outcome, Row, Waiting, WeightFile};
pub use task::{Partition, Task};
