//! What a question is answered with: plain serialisable values that know nothing of terminals.
//!
//! | module | question |
//! |---|---|
//! | [`census`] | how much of every kind of checkpoint the role table knows |
//! | [`compare`] | does one of these two models descend from the other |
//! | [`scan`] | which families of the database share weights with this model |
//! | [`show`] | what the database knows of this model |
//! | [`bulk`] | the same of many models, in short |
//! | [`eval`] | how many of these pairs with known answers come out right |
//! | [`score`] | how many scans of a made-up database come out right |
//! | [`status`] | what the crawls of a database did, what waits, and how old it is |
//! | [`info`] | what a database holds |
//! | [`verify`] | whether a database is whole, and is what was published |
//!
//! [`judgement`] is the verdict on one pair of models, and [`coverage`] how much of a model was read, as several of them
//! have it. `docs/json.md` describes every
//! answer, and `docs/schema` has a JSON Schema for each.

pub mod bulk;
pub mod census;
pub mod compare;
pub mod coverage;
pub mod eval;
pub mod info;
pub mod json_lines;
pub mod judgement;
pub mod scan;
pub mod score;
pub mod show;
pub mod status;
pub mod verify;
