//! A model on a Hub or on a disk becomes samples, and what is known of it a row.
//!
//! | module | owns |
//! |---|---|
//! | [`source`], [`sources`] | where repositories are: the Hub, a folder, memory |
//! | [`component`] | the names of a repository's checkpoints |
//! | [`container`], [`containers`] | the file formats of weights; the seam that a new one comes in by |
//! | [`plan`] | which files, and which byte ranges of them; pure |
//! | [`choose`] | which sets of weight files are models, where names leave it open |
//! | `adapter` | differences to another model, as the weights that they change |
//! | `listed` | several names in few words |
//! | `part` | one of several whole models in the same files |
//! | [`fetch`] | the weight files that are open, and what was read of them |
//! | [`extract`] | decoding; CPU only |
//! | [`metadata`], [`tokenizer`] | the small files |
//! | [`reading`] | one checkpoint from its files to its samples: the single owner of that state |
//! | [`row`], [`job`] | what a repository ends as in the database; the same as a value that a scheduler can carry |
//! | [`model`] | what a command line calls MODEL |
//! | [`full`] | two local checkpoints, every tensor whole |
//! | [`cache`], [`single_flight`] | samples that were read before; nobody reads what another is at |

mod adapter;
pub mod cache;
pub mod choose;
pub mod component;
pub mod container;
pub mod containers;
pub mod cpu;
pub mod error;
pub mod extract;
pub mod fetch;
pub mod full;
pub mod job;
mod listed;
pub mod metadata;
pub mod model;
mod part;
pub mod plan;
pub mod reading;
pub mod row;
pub mod single_flight;
pub mod source;
pub mod sources;
pub mod tokenizer;
