//! A signal that only tests know: blocks that are blocks of the other model, in whatever layer. It shows what adding
//! one takes: this file, and its row in a table of tests.

use std::collections::BTreeMap;

use super::battery;
use super::evidence::Evidence;
use super::sampled::compare_by;
use super::sampled_pair::SampledPair;
use super::samples::Samples;
use super::signal::{Effect, Signal};
use super::stored_pair::StoredPair;
use super::test::{Measure, Part, Test};
use super::testing::Model;

/// The table of every test and this one.
pub(crate) static TESTS: [&Test; 8] = {
    let mut tests = [&EQUAL_BLOCKS; 8];
    let (all, _) = tests.split_at_mut(battery::ALL.len());
    all.copy_from_slice(&battery::ALL);
    tests
};

/// Share of blocks that are blocks of the other model.
pub(crate) static EQUAL_BLOCKS: Test = Test {
    key: "toy_blocks",
    name: "equal blocks",
    short: "blocks",
    part: Part::Matrices,
    survives: 0.5,
    invariant: false,
    repeats: None,
    similarity: None,
    widened: false,
    sentence: |_, effect| format!("{:.0} % of the blocks are in the other model, too.", 100.0 * effect.value),
    measure: Some(Measure { stored, sampled }),
};

fn stored(pair: &StoredPair<'_>) -> Signal {
    let key = |cell: &super::fingerprint::Cell| (cell.hash, cell.layer);
    share(&pair.a.cells.iter().map(key).collect::<Vec<_>>(), &pair.b.cells.iter().map(key).collect())
}

fn sampled(pair: &SampledPair<'_>) -> Signal {
    let keys = |samples: &Samples| -> Vec<(Vec<u32>, u16)> {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
        samples.blocks.iter().map(|block| (bits(&block.values), block.position.layer)).collect()
    };
    share(&keys(pair.a), &keys(pair.b).into_iter().collect())
}

fn share<T: Ord>(of_a: &[(T, u16)], of_b: &BTreeMap<T, u16>) -> Signal {
    let found: Vec<bool> = of_a.iter().filter_map(|(block, layer)| Some(of_b.get(block)? != layer)).collect();
    let elsewhere = found.iter().filter(|elsewhere| **elsewhere).count();
    let share = found.len() as f64 / of_a.len().max(1) as f64;
    Signal::Present(Effect::share(share, found.len(), elsewhere))
}

/// Two models of nothing but matrices, one with the layers of the other from the last to the first.
fn reversed() -> (Samples, Samples) {
    let model = matrices(7);
    (model.samples(), model.keep_layers(&[5, 4, 3, 2, 1, 0]).samples())
}

fn matrices(seed: u64) -> Model {
    let mut model = Model::random(seed, 6, 96);
    model.outside.clear();
    model.layers.iter_mut().for_each(|layer| layer.retain(|block| block.position.role.is_matrix()));
    model
}

/// Their evidence by every test and this one.
pub(crate) fn evidence() -> Evidence {
    let (a, b) = reversed();
    compare_by(&TESTS, &a, &b)
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::Fingerprint;
    use super::super::sampled::{compare, realign};
    use super::super::stored;
    use super::super::verdict::{Context, Relation, VerdictKind, judge};
    use super::*;

    #[test]
    fn a_test_of_another_table_takes_part_in_the_verdict() {
        let (a, b) = reversed();
        let mut without = compare(&a, &b);
        realign(&a, &b, &mut without);
        assert_ne!(judge(&without, Context::default()).kind.related(), Some(true));

        let verdict = judge(&evidence(), Context::default());
        assert_eq!((verdict.kind, verdict.relation), (VerdictKind::Derived, Some(Relation::Permuted)));
        assert_eq!(verdict.why, "100 % of the blocks are in the other model, too.");
    }

    #[test]
    fn it_is_made_again_under_every_correspondence() {
        let model = Model::random(1, 6, 96);
        let (a, b) = (model.samples(), model.permuted(2).samples());
        let mut evidence = compare_by(&TESTS, &a, &b);
        realign(&a, &b, &mut evidence);
        assert!(!evidence.realigned.is_empty());
        for tests in evidence.realigned.iter().map(|r| &r.tests).chain([&evidence.in_place]) {
            assert!(tests.iter().map(|(test, _)| test).eq(TESTS), "in the order of the table");
        }
    }

    #[test]
    fn it_is_judged_from_the_database_too_and_can_be_the_strongest_that_decides_nothing() {
        let (a, b) = reversed();
        let stored = |a: &Samples, b: &Samples| {
            let [a, b] = [a, b].map(|samples| Fingerprint::new(samples).unwrap());
            judge(&stored::compare_by(&TESTS, &a, &b), Context::default())
        };
        let found = stored(&a, &b);
        assert_eq!((found.kind, found.relation), (VerdictKind::Derived, Some(Relation::Permuted)));
        // One block of 36.
        let mut other = matrices(8);
        other.layers[3][0].values = a.blocks[0].values.clone();
        let weak = stored(&a, &other.samples());
        assert_eq!(weak.kind, VerdictKind::NoWeightEvidence, "{weak:?}");
    }
}
