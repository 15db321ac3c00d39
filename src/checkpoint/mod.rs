//! A model on a Hub or on a disk becomes samples.
//!
//! [`plan`] and [`extract`] are pure; [`fetch`] does all reading through [`fetch::Files`], which [`files`]
//! implements for the Hub and for local folders; [`model`] turns a command line's MODEL into a [`model::Subject`].

pub mod cache;
pub mod extract;
pub mod fetch;
pub mod files;
pub mod full;
pub mod model;
pub mod plan;
pub mod single_flight;
pub mod tokenizer;
