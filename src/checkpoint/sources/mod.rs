//! The sources of models: the Hub over HTTP, folders on this machine, and a twin in memory.

pub mod folder;
pub mod hub;
pub mod memory;

#[cfg(test)]
mod conformance;
