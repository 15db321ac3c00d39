//! hubprint finds which models of a Hugging Face Hub descend from which, from their weights.
//!
//! It reads a few megabytes of each checkpoint over HTTP ranges, keeps a fingerprint of at most 16 KB in Parquet,
//! and names the family of a model among hundreds of thousands.
//!
//! ```text
//! enumerate -> plan -> fetch -> extract -> write => Parquet + manifest => index => scan | compare | publish
//! ```
//!
//! | stage | file | what it does |
//! |---|---|---|
//! | enumerate | [`stages::enumerate`] | lists repositories in the order of creation |
//! | plan | [`stages::plan`] | chooses files and byte ranges; pure |
//! | fetch | [`stages::fetch`] | reads them, from a Hub or a folder |
//! | extract | [`stages::extract`] | decodes and sketches; CPU only |
//! | write | [`stages::write`] | rows into immutable shards |
//! | index | [`stages::index`] | families of near-duplicates, with their roots |
//! | scan | [`stages::scan`] | relatives of a model in the database |
//! | compare | [`stages::compare`] | two models, every signal |
//! | publish | [`stages::publish`] | a signed snapshot where others can pull it |
//!
//! Folders depend in one direction, each on those before it:
//! [`formats`], [`signals`], [`hub`], [`store`], [`retrieval`], [`stages`], [`server`], [`pipeline`], [`cli`].

pub mod cli;
pub mod formats;
pub mod hub;
pub mod pipeline;
pub mod retrieval;
pub mod server;
pub mod signals;
pub mod stages;
pub mod store;
