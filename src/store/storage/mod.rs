//! Files by name, wherever they lie: in a [`folder`], in a [`bucket`], or in the [`memory`] of this process.
//!
//! A database needs little of them: that a file appears whole or not at all, that of many who create one file one does,
//! and that a small file can be replaced on the condition that nobody else has. `conformance` says so in tests, which
//! run on all of them.

pub mod bucket;
#[cfg(test)]
mod conformance;
mod contract;
pub mod folder;
pub mod memory;

pub use bucket::Bucket;
pub use contract::{Present, Storage, Version};
pub use folder::Folder;
pub use memory::Memory;
