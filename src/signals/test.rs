//! A test of the weights, as a value: its names, its weight in the verdict, and how it is made.
//!
//! Whoever judges, reports or ranks asks the test itself and never its name, so a test that is added is judged and
//! reported everywhere. Two tests are equal if they are one and the same row of a table ([`super::battery`]).

use std::fmt;

use super::sampled_pair::SampledPair;
use super::signal::{Effect, Signal};
use super::stored_pair::StoredPair;

/// One test.
pub struct Test {
    /// Its key in JSON, and its name in the table of all tests.
    pub key: &'static str,
    /// Its name in a sentence.
    pub name: &'static str,
    /// Its name where there is little room.
    pub short: &'static str,
    /// Which part of a model it compares.
    pub part: Part,
    /// Prior probability that what it compares is left in a descendant, 0 to 1.
    pub survives: f64,
    /// Whether no change of the basis of the hidden space changes what it compares. Such a test is made once, whatever
    /// corresponds, and the invariant tests together are a way of descent of their own.
    pub invariant: bool,
    /// The test that says the same where it is present: then this one does not count.
    pub repeats: Option<&'static Test>,
    /// Its place among the tests of which the first one that is present is the similarity of two models.
    pub similarity: Option<u8>,
    /// Whether models that are known to be unrelated widen its deviation, where they show more than theory says.
    pub widened: bool,
    /// What it says of related models, a whole sentence.
    pub(super) sentence: fn(&Test, &Effect) -> String,
    /// How it is made; `None` where it falls out of something else.
    pub(super) measure: Option<Measure>,
}

/// A part of a model, by what a comparison can hold against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Gains of norms: next to none of the parameters.
    Gains,
    /// The matrices of the layers.
    Matrices,
    /// The token embedding.
    Embedding,
}

/// How a test is made.
pub(super) struct Measure {
    /// From two fingerprints of the database.
    pub(super) stored: fn(&StoredPair<'_>) -> Signal,
    /// From the samples of two models.
    pub(super) sampled: fn(&SampledPair<'_>) -> Signal,
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Test {}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)
    }
}
