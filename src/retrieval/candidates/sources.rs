//! All sources of candidates, in the order in which they are asked.

use super::features::Features;
use super::row_gram::RowGram;
use super::sign_codes::SignCodes;
use super::source::Candidates;
use crate::retrieval::vector::Vector;

/// Makes an empty source.
pub type Make = fn() -> Box<dyn Candidates>;

/// What is asked after [`SignCodes`]. A new source is a file beside this one and a row here.
pub const FURTHER: &[Make] = &[|| Box::<RowGram>::default()];

/// Place of [`SignCodes`] among the sources: always the first. Its hits are members of families by their retrieval
/// vectors; what others find has its weights in other places.
pub const IN_PLACE: usize = 0;

/// Representatives in all sources.
#[derive(Debug)]
pub struct Sources {
    make: &'static [Make],
    in_place: SignCodes,
    further: Vec<Box<dyn Candidates>>,
}

impl Default for Sources {
    fn default() -> Self {
        Self::new(FURTHER)
    }
}

impl Sources {
    /// Empty ones: the sign codes, and these.
    pub fn new(make: &'static [Make]) -> Self {
        Self { make, in_place: SignCodes::default(), further: make.iter().map(|make| make()).collect() }
    }

    /// Empty ones of the same kinds.
    #[must_use]
    pub fn empty(&self) -> Self {
        Self::new(self.make)
    }

    /// Adds a representative to each; numbers follow one another.
    pub fn add(&mut self, number: u32, features: &Features) {
        self.in_place.add(number, features);
        self.further.iter_mut().for_each(|source| source.add(number, features));
    }

    /// Adds many at once; see [`Candidates::extend`].
    pub fn extend(&mut self, all: &[(u32, Features)]) {
        self.in_place.extend(all);
        self.further.iter_mut().for_each(|source| source.extend(all));
    }

    /// The retrieval vector of a representative.
    pub fn vector(&self, number: u32) -> &Vector {
        self.in_place.vector(number)
    }

    /// The sign codes alone.
    pub fn in_place(&self) -> &SignCodes {
        &self.in_place
    }

    /// The sources, in the order in which they are asked.
    pub fn in_order(&self) -> impl Iterator<Item = &dyn Candidates> {
        let first: &dyn Candidates = &self.in_place;
        std::iter::once(first).chain(self.further.iter().map(AsRef::as_ref))
    }
}
