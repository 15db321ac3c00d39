//! The contents that each head stands for, to name the closest of them.
//!
//! Members of one head are near-duplicates, whose vectors have the same signs. What tells them apart is how they
//! differ from the head, so the signs of that difference are kept, 128 bytes a content. The cosine of two members is
//! that of their parts along the head plus that of the differences:
//! `c_x c_y + sqrt(1 - c_x^2) sqrt(1 - c_y^2) cos(difference x, difference y)`.

use std::f32::consts::PI;

use super::family::Place;
use super::heads::{self, Hit};
use super::vector::{self, Code, Vector, dot, norm};
use crate::signals::fingerprint::VECTOR_DIMENSIONS;

/// What rounding may do to an angle near 0.
const ROUNDING: f32 = 2e-3;

fn angle(cosine: f32) -> f32 {
    cosine.clamp(-1.0, 1.0).acos()
}

/// Contents by head.
#[derive(Debug, Default)]
pub struct Members {
    /// First member of each head; one more than there are heads.
    offsets: Vec<u32>,
    contents: Vec<u32>,
    cosines: Vec<f32>,
    codes: Vec<Code>,
    /// Angle of each head with the farthest of its members.
    angles: Vec<f32>,
}

/// The signs of how a vector differs from its head; for the head itself they mean nothing.
pub fn difference(head: &Vector, of: &Vector) -> Code {
    let along = dot(head, of) as f32 / (norm(head) * norm(head));
    let values = of.iter().zip(head).map(|(v, h)| f32::from(*v) - along * f32::from(*h));
    vector::signs(values, vector::seed(of))
}

impl Members {
    /// Sorts contents by head. `codes` are their [`difference`]s.
    pub fn new(places: impl ExactSizeIterator<Item = Place> + Clone, heads: usize, codes: &[Code]) -> Self {
        let mut offsets = vec![0u32; heads + 1];
        for place in places.clone() {
            offsets[place.head as usize + 1] += 1;
        }
        for head in 0..heads {
            offsets[head + 1] += offsets[head];
        }
        let n = places.len();
        let mut next = offsets.clone();
        let mut members = Self {
            contents: vec![0; n],
            cosines: vec![0.0; n],
            codes: vec![Code::default(); n],
            angles: vec![0.0; heads],
            offsets,
        };
        for ((content, place), code) in places.enumerate().zip(codes) {
            let slot = &mut next[place.head as usize];
            members.contents[*slot as usize] = content as u32;
            members.cosines[*slot as usize] = place.cosine;
            members.codes[*slot as usize] = *code;
            *slot += 1;
            let angle = &mut members.angles[place.head as usize];
            *angle = angle.max(self::angle(place.cosine));
        }
        members
    }

    /// The contents of a head.
    pub fn of(&self, head: u32) -> &[u32] {
        &self.contents[self.range(head)]
    }

    /// The largest cosine that any member of a head can have with a query that has this cosine with the head: angles
    /// are a metric.
    pub fn most(&self, head: u32, cosine: f32) -> f32 {
        let farthest = self.angles.get(head as usize).copied().unwrap_or(PI);
        (angle(cosine) - farthest - ROUNDING).max(0.0).cos()
    }

    fn range(&self, head: u32) -> std::ops::Range<usize> {
        let at = |i: usize| self.offsets.get(i).copied().unwrap_or_default() as usize;
        at(head as usize)..at(head as usize + 1)
    }

    /// The members of a head that seem nearest to a query with this cosine with the head and this difference from
    /// it, with estimated cosines.
    pub fn nearest(&self, head: u32, cosine: f32, difference: &Code, k: usize) -> Vec<Hit> {
        let range = self.range(head);
        let rest = |c: f32| (1.0 - c * c).max(0.0).sqrt();
        let of_query = rest(cosine);
        let hits = range.map(|i| {
            let c = self.cosines[i];
            let differing = vector::distance(difference, &self.codes[i]);
            let differences = vector::correlation(differing, VECTOR_DIMENSIONS);
            Hit { number: self.contents[i], cosine: cosine * c + of_query * rest(c) * differences }
        });
        heads::nearest(hits, k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;

    #[test]
    fn the_closest_of_many_near_duplicates_is_named() {
        let base = Model::random(1, 6, 96);
        let head = base.fingerprint().vector;
        let children: Vec<Model> = (0..40).map(|s| base.tuned(0.95, 100 + s)).collect();
        let vectors: Vec<Vector> =
            std::iter::once(head).chain(children.iter().map(|child| child.fingerprint().vector)).collect();
        let places: Vec<Place> = vectors
            .iter()
            .map(|v| Place { head: 0, cosine: vector::cosine(&head, v), effect: 1.0 })
            .collect();
        let codes: Vec<Code> = vectors.iter().map(|v| difference(&head, v)).collect();
        let members = Members::new(places.into_iter(), 1, &codes);
        assert_eq!(members.of(0).len(), 41);
        for (i, child) in children.iter().enumerate() {
            let query = child.tuned(0.97, 7).fingerprint().vector;
            let hits = members.nearest(0, vector::cosine(&head, &query), &difference(&head, &query), 3);
            assert_eq!(hits[0].number, i as u32 + 1, "{hits:?}");
            let exact = vector::cosine(&vectors[i + 1], &query);
            assert!((hits[0].cosine - exact).abs() < 0.03, "{hits:?} {exact}");
            assert!(members.most(0, vector::cosine(&head, &query)) >= exact);
        }
        // A copy of the head is nearest to the head.
        let hits = members.nearest(0, 1.0, &codes[0], 2);
        assert_eq!(hits[0].number, 0);
        // Members are nearer than .9 to their head, so what is far from it is far from them.
        assert!(members.most(0, 0.2) < 0.7);
    }
}
