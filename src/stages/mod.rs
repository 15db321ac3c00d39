//! The stages, one file each, in the order of the flow:
//!
//! `enumerate -> plan -> fetch -> extract -> write => index => scan | compare | publish`
//!
//! [`plan`] and [`extract`] are pure; [`fetch`] does all reading through [`fetch::Files`], which [`files`]
//! implements for the Hub and for local folders; [`model`] turns a command line's MODEL into a [`model::Subject`],
//! and [`query`] into what a scan asks for, which is not read where the database has its weights.
//! [`changes`] tells what is new of what was enumerated, [`backlog`] brings it into order. [`publish`] puts a snapshot
//! with a [`card`] on a [`shelf`], [`pull`] brings it back, [`export`] writes who descends from whom. [`maintain`] keeps it small.
//! [`population`] and [`checkpoint`] make up what measurements are made on.

pub mod backlog;
pub mod cache;
pub mod card;
pub mod changes;
pub mod checkpoint;
pub mod compare;
pub mod enumerate;
pub mod eval;
pub mod export;
pub mod extract;
pub mod fetch;
pub mod files;
pub mod full;
pub mod index;
pub mod maintain;
pub mod model;
pub mod plan;
pub mod population;
pub mod publish;
#[cfg(feature = "hf-hub")]
pub mod publish_hub;
pub mod pull;
pub mod query;
pub mod scan;
pub mod shelf;
pub mod tokenizer;
pub mod turns;
pub mod write;
