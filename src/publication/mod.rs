//! Snapshots of a database for others: a signed [`list`] of files with a [`card`] on a [`remote`], put there by
//! [`publish`] and brought back by [`pull`]; [`send`] knows where to. [`export`] writes who descends from whom.

pub mod address;
pub mod card;
mod check;
pub mod copy;
pub mod error;
pub mod export;
pub mod key;
pub mod list;
pub mod offer;
pub mod plan;
pub mod prepare;
pub mod publish;
#[cfg(feature = "hf-hub")]
pub mod publish_hub;
pub mod pull;
pub mod remote;
pub mod send;
pub mod trust;
