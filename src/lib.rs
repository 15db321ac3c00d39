//! hubprint finds which models of a Hugging Face Hub descend from which, from their weights.
//!
//! It reads a few megabytes of each checkpoint over HTTP ranges, keeps a fingerprint of at most 16 KB in Parquet,
//! and names the family of a model among hundreds of thousands.
//!
//! ```text
//! enumerate -> plan -> fetch -> extract -> write => Parquet + manifest => index => scan | compare | publish
//! ```
//!
//! | stage | module | what it does |
//! |---|---|---|
//! | enumerate | [`pipeline::enumerate`] | lists repositories in the order of creation |
//! | plan | [`checkpoint::plan`] | chooses files and byte ranges; pure |
//! | fetch | [`checkpoint::fetch`] | reads them, from a Hub or a folder |
//! | extract | [`checkpoint::extract`] | decodes and sketches; CPU only |
//! | write | [`pipeline::write`] | rows into immutable shards |
//! | index | [`pipeline::index`] | families of near-duplicates, with their roots |
//! | scan | [`answers::scan`] | relatives of a model in the database |
//! | compare | [`answers::compare`] | two models, every signal |
//! | publish | [`publication::publish`] | a signed snapshot where others can pull it |
//!
//! Folders depend in one direction, each on those before it:
//! [`formats`], [`local_hub`], [`signals`], [`hub`], [`store`], [`checkpoint`], [`retrieval`], [`publication`],
//! [`synthetic`], [`answers`], [`pipeline`], [`cli`].

pub mod answers;
pub mod checkpoint;
pub mod cli;
pub mod formats;
pub mod hub;
pub mod local_hub;
pub mod pipeline;
pub mod publication;
pub mod retrieval;
pub mod signals;
pub mod store;
pub mod synthetic;
