//! What every source of candidates must do.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::features::Features;
use super::sign_codes::SignCodes;
use super::source::Candidates;
use super::sources::FURTHER;
use crate::retrieval::hits::Hit;
use crate::retrieval::query::SearchMode;
use crate::retrieval::vector;
use crate::signals::fingerprint::VECTOR_DIMENSIONS;
use crate::signals::gram::GRAM_DIMENSIONS;
use crate::signals::sketch::quantise;
use crate::signals::testing::gaussian;

const MODES: [SearchMode; 2] = [SearchMode::Usual, SearchMode::Exact];
/// The number of the first that is added.
const FIRST: u32 = 7;
const ADDED: usize = 120;
/// Correlation of a near model with the one it is near to.
const NEAR: f32 = 0.8;

/// Values that features are made of.
#[derive(Clone)]
struct Made {
    hidden_size: u32,
    vector: [f32; VECTOR_DIMENSIONS],
    gram: [f32; GRAM_DIMENSIONS],
}

impl Made {
    fn random(rng: &mut ChaCha8Rng, hidden_size: u32) -> Self {
        let vector = std::array::from_fn(|_| gaussian(rng));
        Self { hidden_size, vector, gram: std::array::from_fn(|_| gaussian(rng)) }
    }

    /// Another with this correlation in every feature.
    fn near(&self, rng: &mut ChaCha8Rng) -> Self {
        let mut near = |value: f32| NEAR * value + (1.0 - NEAR * NEAR).sqrt() * gaussian(rng);
        Self {
            hidden_size: self.hidden_size,
            vector: self.vector.map(&mut near),
            gram: self.gram.map(&mut near),
        }
    }

    fn features(&self) -> Features {
        Features {
            hidden_size: self.hidden_size,
            vector: quantise(&self.vector),
            gram: Some(vector::signs(self.gram.iter().copied(), 0)),
        }
    }
}

/// A source with these, added one after the other.
fn filled(make: impl Fn() -> Box<dyn Candidates>, all: &[Features]) -> Box<dyn Candidates> {
    let mut source = make();
    for (number, features) in (FIRST..).zip(all) {
        source.add(number, features);
    }
    source
}

/// Proves that a kind of source does what [`Candidates`] says.
pub(in crate::retrieval) fn conforms(make: impl Fn() -> Box<dyn Candidates>) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let made: Vec<Made> =
        (0..ADDED).map(|i| Made::random(&mut rng, if i % 3 == 0 { 128 } else { 64 })).collect();
    let mut all: Vec<Features> = made.iter().map(Made::features).collect();
    // The last one is equal to the first, and the one before has fewer features than any.
    let poor = Features { hidden_size: 32, vector: [0; VECTOR_DIMENSIONS], gram: None };
    all.extend([poor, all[0]]);
    let source = filled(&make, &all);
    let near: Vec<Features> = made.iter().map(|one| one.near(&mut rng).features()).collect();
    let strange = Features { hidden_size: 4096, ..Made::random(&mut rng, 64).features() };
    let queries: Vec<Features> = all.iter().chain(&near).chain([&strange]).copied().collect();

    for mode in MODES {
        assert!(make().propose(&all[0], 9, mode).is_empty(), "nothing was added");
        for (number, (itself, near)) in (FIRST..).zip(all.iter().zip(&near)) {
            for query in [itself, near] {
                let found = source.propose(query, 3, mode);
                assert_eq!(found.first().map(|hit| hit.number), Some(number), "{mode:?}: {found:?}");
            }
        }
        let twice: Vec<u32> = source.propose(&all[0], 2, mode).iter().map(|hit| hit.number).collect();
        assert_eq!(twice, [FIRST, FIRST + ADDED as u32 + 1], "of equals the smaller number first");
        for query in &queries {
            let found = source.propose(query, usize::MAX, mode);
            let is_added = |hit: &Hit| (FIRST..FIRST + all.len() as u32).contains(&hit.number);
            assert!(found.iter().all(is_added), "{found:?}");
            assert!(found.iter().all(|hit| hit.cosine.abs() < 1.000_1), "{found:?}");
            assert!(
                found.windows(2).all(|pair| pair[0] < pair[1]),
                "nearest first, and each once: {found:?}"
            );
            for k in [0, 1, 2, 5] {
                assert_eq!(source.propose(query, k, mode), found[..k.min(found.len())], "{k}");
            }
        }
        assert!(source.propose(&poor, 9, mode).iter().all(|hit| hit.number != FIRST), "nothing in common");
    }
    for query in &queries {
        let exact = source.propose(query, usize::MAX, SearchMode::Exact);
        let usual = source.propose(query, usize::MAX, SearchMode::Usual);
        assert!(usual.iter().all(|hit| exact.contains(hit)), "{usual:?} of {exact:?}");
    }

    // However they were added, and in as many threads as there are.
    let answers = |source: &dyn Candidates| -> Vec<Vec<Hit>> {
        MODES.iter().flat_map(|mode| queries.iter().map(|query| source.propose(query, 5, *mode))).collect()
    };
    let expected = answers(&*source);
    let mut at_once = make();
    let mut numbered: Vec<(u32, Features)> = (FIRST..).zip(all.iter().copied()).collect();
    // In whichever order they come.
    numbered[..50].reverse();
    at_once.extend(&numbered[..50]);
    at_once.extend(&numbered[50..]);
    assert_eq!(answers(&*at_once), expected, "at once");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    pool.install(|| {
        (0..8).into_par_iter().for_each(|_| assert_eq!(answers(&*source), expected, "in parallel"));
    });
}

#[test]
fn every_source_conforms() {
    conforms(|| Box::<SignCodes>::default());
    for make in FURTHER {
        conforms(make);
    }
}
