//! The fingerprint database on disk: immutable Parquet shards and one manifest.
//!
//! ```text
//! DIR/manifest.json            the only mutable file; a shard exists once it is listed here
//! DIR/shards/000000.parquet    rows, one a crawled repository; a later row of a repository replaces the
//!                              earlier one
//! DIR/index/NNNNNN/            built from the shards by the index stage, see `retrieval`
//! DIR/waiting/NNNNNN.parquet   repositories that the last crawl left for the next one
//! DIR/reports/                 run reports
//! DIR/writer.lock              who writes
//! ```
//!
//! Files appear whole: they are written beside their place, synced and renamed. A crash leaves the database
//! as it was at the last manifest.

pub mod atomic;
pub mod database;
pub mod error;
pub mod known;
pub mod lock;
pub mod manifest;
pub mod row;
pub mod schema;
pub mod shard;

pub use database::{Database, RowRef};
pub use error::StoreError;
pub use known::{Known, Live, Tag};
pub use row::{Outcome, Row, Waiting, WeightFile};
