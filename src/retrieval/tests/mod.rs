//! The index as a whole, on small databases.

mod construction;
mod damage;
pub(super) mod databases;
mod search;
mod sources;
