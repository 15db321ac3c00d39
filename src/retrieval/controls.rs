//! Models that stand for unrelated ones.
//!
//! Theory says how much chance gives between two models whose hidden dimensions are exchangeable. Models of one recipe
//! may break that: what every training run of a shape ends with, all of them share. So the founders of families, which
//! the verdict holds for unrelated to all before them, are kept by shape, and a weak effect is held against what the
//! query has in common with those of the candidate's shape: other shapes have no cells at the same places.

use std::collections::BTreeMap;

use crate::signals::Fingerprint;
use crate::signals::evidence::Tests;
use crate::signals::stored;
use crate::signals::verdict::{self, Context};

/// Founders of one shape that are kept: the spread of so many is known to a seventh.
const PER_SHAPE: usize = 24;
/// Founders of all shapes; each takes some 15 KB.
const MOST: usize = 4096;
/// Posterior up to which a founder counts as unrelated to a query.
const UNRELATED: f64 = 0.05;

/// Width of the residual stream, and layers.
pub type Shape = (u32, u16);

/// Founders by shape.
#[derive(Debug, Default)]
pub struct Controls {
    by_shape: BTreeMap<Shape, Vec<Fingerprint>>,
    kept: usize,
}

impl Controls {
    /// Whether another founder of this shape is of use.
    pub fn lacks(&self, shape: Shape) -> bool {
        self.kept < MOST && self.by_shape.get(&shape).is_none_or(|kept| kept.len() < PER_SHAPE)
    }

    /// Keeps a founder, if it is of use. Adapters are not: what two of them have in common says nothing of models.
    pub fn add(&mut self, founder: &Fingerprint) {
        if founder.extent.rank.is_some() {
            return;
        }
        let shape = (founder.hidden_size, founder.layers);
        if self.lacks(shape) {
            self.by_shape.entry(shape).or_default().push(founder.clone());
            self.kept += 1;
        }
    }

    /// What a query has in common with founders of a shape that are not its relatives.
    ///
    /// One that seems related to most founders of a shape is related to none of them: a model descends from a few
    /// families, and what all of them share is the recipe.
    pub fn held_against(&self, query: &Fingerprint, shape: Shape) -> Vec<Tests> {
        let founders = self.by_shape.get(&shape).map_or(&[][..], Vec::as_slice);
        let all: Vec<(Tests, bool)> = founders
            .iter()
            .map(|founder| {
                let against = stored::compare(query, founder);
                let score = verdict::judge(&against, Context::default()).score;
                let is_unrelated = score.is_some_and(|score| score <= UNRELATED);
                (against.in_place, is_unrelated)
            })
            .collect();
        let unrelated = all.iter().filter(|(_, is_unrelated)| *is_unrelated).count();
        let is_recipe = 2 * unrelated < all.len();
        all.into_iter()
            .filter(|(_, is_unrelated)| *is_unrelated || is_recipe)
            .map(|(tests, _)| tests)
            .collect()
    }
}
