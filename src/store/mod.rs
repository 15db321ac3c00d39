//! The fingerprint database: immutable Parquet shards and one manifest, in a folder, in a bucket or in memory.
//!
//! ```text
//! DIR/manifests/000000000012.json   one a commit: which files make up the database. The latest counts
//! DIR/shards/HASH.parquet           rows, one a checkpoint of a crawled repository; of two readings the later counts
//! DIR/index/HASH.*                  built from the shards by the index stage, see `retrieval`
//! DIR/waiting/HASH.parquet          repositories that the last crawl left for the next one
//! DIR/reports/                      run reports
//! DIR/locks/                        who writes
//! ```
//!
//! Files are named by their content and appear whole: they are written beside their place, synced and renamed. A
//! commit creates the next manifest, which only one of many writers can. A crash leaves the database as it was at the
//! last manifest; what no manifest names is removed by `vacuum`. Which rows are live is said in [`live`].

pub mod atomic;
pub mod checksum;
pub mod database;
pub mod entry;
pub mod error;
pub mod files;
pub mod layout;
pub mod live;
pub mod location;
pub mod lock;
pub mod maintenance;
pub mod manifest;
mod names;
pub mod owner;
mod reports;
pub mod row;
pub mod schema;
pub mod shard;
pub mod statistics;
pub mod storage;
pub mod tag;
pub mod task;
mod waiting;

pub use database::Database;
pub use entry::FileEntry;
pub use error::StoreError;
pub use files::DatabaseFiles;
pub use live::{Known, Live};
pub use location::{Location, LocationError};
pub use names::Names;
pub use owner::Owner;
pub use row::{AdapterFacts, Outcome, Row, RowRef, Waiting, WeightFile, checkpoint_name};
pub use tag::Tag;
pub use task::{Partition, Task};
