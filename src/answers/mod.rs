//! What a question is answered with: plain values that know nothing of terminals.
//!
//! | module | question |
//! |---|---|
//! | [`compare`] | does one of these two models descend from the other |
//! | [`scan`] | which families of the database share weights with this model |
//! | [`eval`] | how many of these pairs with known answers come out right |
//!
//! [`query`] is what a scan asks for, which is not read where the database has its weights.

pub mod compare;
pub mod eval;
pub mod query;
pub mod scan;
