//! The tables that people read.

mod databases;
mod pipelines;
mod scans;
mod show;
mod style;

pub(super) use databases::{info, published, pulled, status, verification};
pub(super) use pipelines::{crawl, forecast, index, maintained};
pub(super) use scans::{census, false_positives, scan, score};
pub(super) use show::show;
pub(super) use style::{right, table};
