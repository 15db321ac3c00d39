//! The checkpoints that each representative stands for, to name the closest of them.
//!
//! Members of one representative are near-duplicates, whose vectors have the same signs. What tells them apart is how
//! they differ from the representative, so the signs of that difference are kept, 128 bytes a checkpoint. The cosine of
//! two members is that of their parts along the representative plus that of the differences:
//! `c_x c_y + sqrt(1 - c_x^2) sqrt(1 - c_y^2) cos(difference x, difference y)`.

use std::f32::consts::PI;

use super::hits::{self, Hit};
use super::representatives::Place;
use super::vector::{self, Code, Vector, dot, norm};
use crate::signals::fingerprint::VECTOR_DIMENSIONS;

/// What rounding may do to an angle near 0.
const ROUNDING: f32 = 2e-3;

fn angle(cosine: f32) -> f32 {
    cosine.clamp(-1.0, 1.0).acos()
}

/// Checkpoints by representative.
#[derive(Debug, Default)]
pub struct Members {
    /// First member of each representative; one more than there are representatives.
    offsets: Vec<u32>,
    checkpoints: Vec<u32>,
    cosines: Vec<f32>,
    codes: Vec<Code>,
    /// Angle of each representative with the farthest of its members.
    angles: Vec<f32>,
}

/// The signs of how a vector differs from its representative; for the representative itself they mean nothing.
pub fn difference(representative: &Vector, of: &Vector) -> Code {
    let along = dot(representative, of) as f32 / (norm(representative) * norm(representative));
    let values = of.iter().zip(representative).map(|(v, h)| f32::from(*v) - along * f32::from(*h));
    vector::signs(values, vector::seed(of))
}

impl Members {
    /// Sorts checkpoints by representative. `codes` are their [`difference`]s.
    pub fn new(
        places: impl ExactSizeIterator<Item = Place> + Clone,
        representatives: usize,
        codes: &[Code],
    ) -> Self {
        let mut offsets = vec![0u32; representatives + 1];
        for place in places.clone() {
            offsets[place.representative as usize + 1] += 1;
        }
        for representative in 0..representatives {
            offsets[representative + 1] += offsets[representative];
        }
        let n = places.len();
        let mut next = offsets.clone();
        let mut members = Self {
            checkpoints: vec![0; n],
            cosines: vec![0.0; n],
            codes: vec![Code::default(); n],
            angles: vec![0.0; representatives],
            offsets,
        };
        for ((checkpoint, place), code) in places.enumerate().zip(codes) {
            let slot = &mut next[place.representative as usize];
            members.checkpoints[*slot as usize] = checkpoint as u32;
            members.cosines[*slot as usize] = place.cosine;
            members.codes[*slot as usize] = *code;
            *slot += 1;
            let angle = &mut members.angles[place.representative as usize];
            *angle = angle.max(self::angle(place.cosine));
        }
        members
    }

    /// The checkpoints of a representative.
    pub fn of(&self, representative: u32) -> &[u32] {
        &self.checkpoints[self.range(representative)]
    }

    /// The largest cosine that any member of a representative can have with a query that has this cosine with the
    /// representative: angles are a metric.
    pub fn most(&self, representative: u32, cosine: f32) -> f32 {
        let farthest = self.angles.get(representative as usize).copied().unwrap_or(PI);
        (angle(cosine) - farthest - ROUNDING).max(0.0).cos()
    }

    fn range(&self, representative: u32) -> std::ops::Range<usize> {
        let at = |i: usize| self.offsets.get(i).copied().unwrap_or_default() as usize;
        at(representative as usize)..at(representative as usize + 1)
    }

    /// The members of a representative that seem nearest to a query with this cosine with it and this difference from it,
    /// with estimated cosines.
    pub fn nearest(&self, representative: u32, cosine: f32, difference: &Code, k: usize) -> Vec<Hit> {
        let range = self.range(representative);
        let rest = |c: f32| (1.0 - c * c).max(0.0).sqrt();
        let of_query = rest(cosine);
        let hits = range.map(|i| {
            let c = self.cosines[i];
            let differing = vector::distance(difference, &self.codes[i]);
            let differences = vector::correlation(differing, VECTOR_DIMENSIONS);
            Hit { number: self.checkpoints[i], cosine: cosine * c + of_query * rest(c) * differences }
        });
        hits::nearest(hits, k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;

    #[test]
    fn the_closest_of_many_near_duplicates_is_named() {
        let base = Model::random(1, 6, 96);
        let representative = base.fingerprint().vector;
        let children: Vec<Model> = (0..40).map(|s| base.tuned(0.95, 100 + s)).collect();
        let vectors: Vec<Vector> = std::iter::once(representative)
            .chain(children.iter().map(|child| child.fingerprint().vector))
            .collect();
        let places: Vec<Place> = vectors
            .iter()
            .map(|v| Place { representative: 0, cosine: vector::cosine(&representative, v), effect: 1.0 })
            .collect();
        let codes: Vec<Code> = vectors.iter().map(|v| difference(&representative, v)).collect();
        let members = Members::new(places.into_iter(), 1, &codes);
        assert_eq!(members.of(0).len(), 41);
        for (i, child) in children.iter().enumerate() {
            let query = child.tuned(0.97, 7).fingerprint().vector;
            let hits = members.nearest(
                0,
                vector::cosine(&representative, &query),
                &difference(&representative, &query),
                3,
            );
            assert_eq!(hits[0].number, i as u32 + 1, "{hits:?}");
            let exact = vector::cosine(&vectors[i + 1], &query);
            assert!((hits[0].cosine - exact).abs() < 0.03, "{hits:?} {exact}");
            assert!(members.most(0, vector::cosine(&representative, &query)) >= exact);
        }
        // A copy of the representative is nearest to the representative.
        let hits = members.nearest(0, 1.0, &codes[0], 2);
        assert_eq!(hits[0].number, 0);
        // Members are nearer than .9 to their representative, so what is far from it is far from them.
        assert!(members.most(0, 0.2) < 0.7);
    }
}
