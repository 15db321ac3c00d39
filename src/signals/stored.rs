//! Two fingerprints of the database to evidence, from sketches.

use super::battery;
use super::evidence::{Evidence, Open, Reuse, Shape, Tests, Unread};
use super::fingerprint::Fingerprint;
use super::roles::Role;
use super::stored_pair::{CellPair, StoredPair};
use super::test::Test;

/// Sketches of equal values, cast to 16 bits, reach a cosine of .9999.
const RESOLUTION: f64 = 1e-4;

/// Holds two fingerprints against each other.
pub fn compare(a: &Fingerprint, b: &Fingerprint) -> Evidence {
    compare_by(&battery::ALL, a, b)
}

/// The same by these tests.
pub(super) fn compare_by(tests: &[&'static Test], a: &Fingerprint, b: &Fingerprint) -> Evidence {
    let pair = StoredPair::new(a, b);
    let measured = |test: &'static Test| Some((test.measure.as_ref()?.stored)(&pair));
    let mut in_place = Tests::new(tests, measured);
    in_place.matched_layers = pair.layer_map().map_or_else(Vec::new, |map| map.layers.clone());
    in_place.roles = pair.roles();
    Evidence {
        a: shape(a),
        b: shape(b),
        in_place,
        realigned: Vec::new(),
        open: vec![Open::OtherBasis],
        coverage: [None, None],
        reuse: reuse(&pair.cells),
        unread: Unread::default(),
        embedding_compared: false,
        tokens_renumbered: None,
        delta: None,
        resolution: RESOLUTION,
    }
}

/// The shape of the model that a fingerprint was made of, as far as it tells.
pub fn shape(fingerprint: &Fingerprint) -> Shape {
    let down = fingerprint.cells.iter().find(|c| c.role == Role::Down && !c.residual);
    Shape {
        hidden_size: fingerprint.hidden_size,
        layers: fingerprint.layers,
        vocabulary: fingerprint.vocabulary,
        inner_size: down.map(|c| c.dimension),
        experts: fingerprint.cells.iter().any(|c| c.expert.is_some()),
        key_rows: None,
        roles: fingerprint.cells.iter().map(|cell| cell.role).collect(),
        extent: fingerprint.extent,
    }
}

/// Blocks with equal values, of those that both have.
fn reuse(cells: &[CellPair]) -> Reuse {
    let gains_equal = |m: &CellPair| m.equal || !m.role.is_norm() || m.cosine >= 1.0 - RESOLUTION;
    Reuse {
        of: cells.len(),
        equal: cells.iter().filter(|m| m.equal).count(),
        gains: cells.iter().all(gains_equal),
        ..Reuse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::battery::{EMBEDDING, LAYER_MAP, NORM_GAINS, WEIGHT_BLOCKS};
    use super::super::signal::Effect;
    use super::super::testing::Model;
    use super::*;

    /// The tests of cells, of models of equal depth.
    const OF_CELLS: [&Test; 3] = [&NORM_GAINS, &WEIGHT_BLOCKS, &EMBEDDING];

    fn effect(evidence: &Evidence, test: &Test) -> Effect {
        evidence.in_place.get(test).unwrap()
    }

    #[test]
    fn a_model_against_itself() {
        let f = Model::random(1, 6, 96).fingerprint();
        let evidence = compare(&f, &f);
        for test in OF_CELLS {
            let found = effect(&evidence, test);
            assert!((found.value - 1.0).abs() < 1e-9 && found.z() > 8.0, "{test:?}: {found:?}");
        }
    }

    #[test]
    fn unrelated_z_is_standard_normal_at_most() {
        // 28 models of one shape, 378 unrelated pairs. The bound is conservative, so the spread may be
        // below 1; a spread above 1.15 would break the error rate.
        let models: Vec<_> = (0..28).map(|s| Model::random(s, 4, 96).fingerprint()).collect();
        let mut found = OF_CELLS.map(|_| Vec::new());
        for (i, a) in models.iter().enumerate() {
            for b in &models[..i] {
                let evidence = compare(a, b);
                for (z, test) in found.iter_mut().zip(OF_CELLS) {
                    z.push(effect(&evidence, test).z());
                }
            }
        }
        for (name, z) in OF_CELLS.map(|test| test.name).into_iter().zip(found) {
            let n = z.len() as f64;
            let mean = z.iter().sum::<f64>() / n;
            let sd = (z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let largest = z.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(mean.abs() < 0.25, "{name}: mean {mean}");
            assert!((0.5..1.15).contains(&sd), "{name}: sd {sd}");
            assert!(largest < 5.0, "{name}: {largest}");
        }
    }

    #[test]
    fn the_effect_follows_the_parameter_correlation() {
        let base = Model::random(1, 6, 96);
        for r in [0.9, 0.5, 0.3] {
            let tuned = base.tuned(r, 99).fingerprint();
            let effect = effect(&compare(&base.fingerprint(), &tuned), &WEIGHT_BLOCKS);
            assert!((effect.value - f64::from(r)).abs() < 0.12, "{r}: {effect:?}");
            assert!(effect.z() > 5.0, "{r}: {effect:?}");
        }
    }

    #[test]
    fn dropped_layers_are_mapped() {
        let base = Model::random(1, 8, 96);
        let pruned = base.keep_layers(&[0, 2, 3, 7]).tuned(0.9, 5);
        let evidence = compare(&base.fingerprint(), &pruned.fingerprint());
        let map: Vec<_> =
            evidence.in_place.matched_layers.iter().filter(|m| m.2 > 5.0).map(|m| (m.0, m.1)).collect();
        assert_eq!(map, [(0, 0), (2, 1), (3, 2), (7, 3)]);
        assert!(effect(&evidence, &LAYER_MAP).ln_p() < -100.0);
        assert!(evidence.in_place.effect(&WEIGHT_BLOCKS).is_none());
    }

    #[test]
    fn other_widths_are_absent() {
        let evidence =
            compare(&Model::random(1, 4, 96).fingerprint(), &Model::random(1, 4, 64).fingerprint());
        for test in OF_CELLS {
            assert!(evidence.in_place.effect(test).is_none(), "{test:?}");
        }
    }
}
