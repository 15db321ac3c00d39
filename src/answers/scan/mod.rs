//! scan: which families of the database share weights with this model, and who is closest.
//!
//! A [`Scanner`] is an open database with its index. It answers a [`ScanJob`], which any scheduler can carry, or a
//! [`Query`] that was read before.

pub mod answer;
pub mod job;
pub mod query;
pub mod scanner;

pub use answer::{AdapterBase, Candidate, FamilyAnswer, ScanAnswer, ScanFailure, ScanLine};
pub use job::{ScanJob, ScanOptions};
pub use query::{Known, Query, QueryError};
pub use scanner::Scanner;
