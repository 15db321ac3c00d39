//! One file a command.

pub(super) mod checkpoint;
pub(super) mod compare;
pub(super) mod crawl;
pub(super) mod db;
pub(super) mod dev;
pub(super) mod eval;
pub(super) mod hub;
pub(super) mod index;
pub(super) mod publish;
pub(super) mod run;
pub(super) mod scan;
pub(super) mod status;
