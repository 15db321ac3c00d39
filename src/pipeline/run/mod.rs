//! The order of a run: crawl, index, maintenance, scan, publish, each where the pipeline file declares it.
//!
//! [`run`] goes through them. [`stages`] has each by itself, from the database's address to its report. Whoever runs them
//! is told what happens by a [`Watcher`].

pub mod order;
pub mod stages;
pub mod watcher;

pub use order::{Run, RunAnswer, run};
pub use stages::{Destination, RunError};
pub use watcher::{News, Stage, Watched, Watcher};
