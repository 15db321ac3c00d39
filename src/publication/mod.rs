//! Snapshots of a database for others: a signed [`list`] of files with a [`card`] on a [`remote`], put there by
//! [`publish`] and brought back by [`pull`]. [`export`] writes who descends from whom.

pub mod card;
pub mod export;
pub mod list;
pub mod publish;
#[cfg(feature = "hf-hub")]
pub mod publish_hub;
pub mod pull;
pub mod remote;
pub mod send;
