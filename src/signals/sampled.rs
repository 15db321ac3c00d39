//! Two models' samples to evidence, exactly; and the search for hidden dimensions that are permuted, pruned or rotated.

use super::align::{self, Aligned, CommonTokens};
use super::battery::{self, EMBEDDING, NORM_GAINS, WEIGHT_BLOCKS};
use super::blocks::Block;
use super::delta;
use super::evidence::{Correspondence, Evidence, Open, Realigned, Shape, Tests, Unread};
use super::reuse;
use super::roles::{Layout, Role};
use super::sampled_pair::SampledPair;
use super::samples::Samples;
use super::signal::{Effect, Signal};
use super::test::Test;
use super::units::{Basis, Units};

/// Part of the common tokens with other ids from which on the vocabulary was rebuilt; a few added tokens may
/// have changed places in any fine-tune.
const RENUMBERED: f64 = 0.05;
/// Casting to bf16 leaves a correlation of 1 - 3e-6, rounding to 8 bits a row 1 - 4e-5.
const RESOLUTION: f64 = 1e-5;

/// Holds two models against each other, every tensor where it is.
pub fn compare(a: &Samples, b: &Samples) -> Evidence {
    compare_by(&battery::ALL, a, b)
}

/// The same by these tests.
pub(super) fn compare_by(tests: &[&'static Test], a: &Samples, b: &Samples) -> Evidence {
    rayon::join(|| a.units(), || b.units());
    let tokens = rows_of_tokens(a, b);
    let in_place = made(tests, &SampledPair::in_place(a, b, &tokens), |test, pair| {
        let widths = || format!("hidden sizes differ: {} and {}", a.hidden_size, b.hidden_size);
        (!pair.has_one_width() && !test.invariant).then(widths)
    });
    let compared = in_place.iter().any(|(_, signal)| signal.effect().is_some());
    let mut open = Vec::new();
    if a.hidden_size == b.hidden_size && !compared {
        open.push(Open::InPlace);
    }
    open.extend([Open::Permuted, Open::Rotated]);
    // The rank of a difference says something only where the models have more in common than apart.
    let related = in_place.effect(&WEIGHT_BLOCKS).is_some_and(|e| e.value > 0.5);
    let known = a.tokens.is_some() && b.tokens.is_some() && !tokens.is_empty();
    let tokens_renumbered = known.then(|| {
        let elsewhere = tokens.iter().filter(|(of_a, of_b)| of_a != of_b).count();
        elsewhere as f64 > RENUMBERED * tokens.len() as f64
    });
    Evidence {
        a: shape(a),
        b: shape(b),
        in_place,
        realigned: Vec::new(),
        open,
        coverage: [a.coverage.clone(), b.coverage.clone()],
        reuse: reuse::reuse(a, b),
        unread: unread(a, b),
        embedding_compared: false,
        tokens_renumbered,
        delta: related.then(|| delta::delta(a, b)).flatten(),
        resolution: RESOLUTION,
    }
}

/// Makes these tests, but for those that `is_absent` has a reason for.
fn made(
    tests: &[&'static Test],
    pair: &SampledPair<'_>,
    is_absent: impl Fn(&Test, &SampledPair<'_>) -> Option<String>,
) -> Tests {
    let measured = |test: &'static Test| {
        let measure = test.measure.as_ref()?;
        Some(is_absent(test, pair).map_or_else(|| (measure.sampled)(pair), Signal::Absent))
    };
    let mut made = Tests::new(tests, measured);
    made.matched_layers = pair.layer_map().map_or_else(Vec::new, |map| map.layers.clone());
    made.roles = pair.roles().clone();
    made
}

/// Bytes of tensors that are not among the blocks, where both models have one of the same name and size.
fn unread(a: &Samples, b: &Samples) -> Unread {
    let mut found = Unread::default();
    for (name, probe) in &a.probes {
        let Some(other) = b.probes.get(name).filter(|other| other.size == probe.size) else { continue };
        found.of += 1;
        if other == probe {
            found.equal += 1;
            found.example.get_or_insert_with(|| name.clone());
        }
    }
    found
}

fn shape(samples: &Samples) -> Shape {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let role = |role: Role| move |b: &&Block| b.position.role == role && b.position.layout == Layout::Linear;
    let inner = samples.blocks.iter().find(role(Role::Up)).map(|b| number(b.tensor_rows));
    Shape {
        hidden_size: number(samples.hidden_size as u64),
        layers: samples.layers,
        vocabulary: samples.vocabulary,
        inner_size: inner,
        experts: samples.blocks.iter().any(|b| b.position.expert.is_some()),
        key_rows: samples.blocks.iter().find(role(Role::Key)).map(|b| number(b.tensor_rows)),
        roles: samples.blocks.iter().map(|b| b.position.role).collect(),
        extent: samples.extent(),
    }
}

/// Looks for hidden dimensions that are permuted, pruned to a subset, or rotated, and makes the tests again for each
/// correspondence. Dearer than [`compare`], and needed only where that leaves the question open.
pub fn realign(a: &Samples, b: &Samples, evidence: &mut Evidence) {
    let all: Vec<&'static Test> = evidence.in_place.iter().map(|(test, _)| test).collect();
    let tests = |basis_a: &Basis, basis_b: &Basis| {
        let (of_a, of_b) = rayon::join(|| Units::new(a, basis_a), || Units::new(b, basis_b));
        made(&all, &SampledPair::realigned(a, b, &of_a, &of_b), |test, _| {
            test.invariant.then(|| "they are the same in any correspondence".to_owned())
        })
    };
    let found = |by: Correspondence, aligned: &Aligned| {
        let tests = if aligned.is_usable() {
            tests(&aligned.a, &aligned.b)
        } else {
            let Aligned { matched, possible, .. } = aligned;
            let too_few = format!("only {matched} of {possible} dimensions correspond");
            Tests::new(&all, |_| Some(Signal::absent(&*too_few)))
        };
        let used = if by == Correspondence::Gains { &NORM_GAINS } else { &EMBEDDING };
        Realigned {
            by,
            dimensions: Signal::Present(
                Effect::share(aligned.share, aligned.matched, 0).no_surer_than(aligned.ln_p),
            ),
            tests: tests.with(used, Signal::absent("the dimensions were matched by it")),
        }
    };
    let rules_out = |evidence: &mut Evidence, what: Open| evidence.open.retain(|open| *open != what);

    let tokens = CommonTokens::find(a, b);
    let mut unclear = false;
    if let Ok(common) = tokens {
        let conclusive = common.is_conclusive();
        let (aligned, rotations) = common.align();
        // Enough that a copy under more noise than the match bears is not called independent.
        unclear = aligned.matched >= align::NOTABLE_MATCHES && !aligned.is_usable();
        if !aligned.in_place {
            evidence.realigned.push(found(Correspondence::Tokens, &aligned));
        }
        let rotations = if aligned.excludes_rotation() { Vec::new() } else { rotations };
        for (basis_a, basis_b) in &rotations {
            evidence.realigned.push(Realigned {
                by: Correspondence::Rotation,
                dimensions: Signal::absent("a rotation maps no single dimension to a single dimension"),
                tests: tests(basis_a, basis_b)
                    .with(&EMBEDDING, Signal::absent("the spaces were aligned by it")),
            });
        }
        if conclusive && !unclear {
            rules_out(evidence, Open::Permuted);
            rules_out(evidence, Open::Rotated);
            evidence.embedding_compared = true;
        }
    }
    if let Some(aligned) = align::gain_cloud(a, b) {
        if !aligned.in_place {
            evidence.realigned.push(found(Correspondence::Gains, &aligned));
        }
        if !unclear {
            rules_out(evidence, Open::Permuted);
        }
    }
    // A rotation does not commute with gains: whoever rotates a model has to fold them away first.
    if align::has_gains(a) && align::has_gains(b) {
        rules_out(evidence, Open::Rotated);
    }
}

/// (row of a, row of b) of the same token: by string where both tokenizers are known, else by id.
fn rows_of_tokens(a: &Samples, b: &Samples) -> Vec<(u64, u64)> {
    let ids = a.units().embedding.keys().copied();
    match (&a.tokens, &b.tokens) {
        // Of one vocabulary rows that are no token stand at one place, too.
        (Some(of_a), Some(of_b)) if of_a.digest() == of_b.digest() => ids.map(|id| (id, id)).collect(),
        (Some(of_a), Some(of_b)) => {
            let of = |id: u64| Some(u64::from(of_b.id(of_a.key(u32::try_from(id).ok()?)?)?));
            ids.filter_map(|id| Some((id, of(id)?))).collect()
        }
        _ => ids.map(|id| (id, id)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::battery::{EMBEDDING, NORM_GAINS, WEIGHT_BLOCKS};
    use super::super::testing::Model;
    use super::*;

    #[test]
    fn z_of_independent_models_is_standard_normal() {
        // 30 models of one shape with outlier dimensions and gains that correlate: 435 pairs, and as many after
        // the dimensions of one were permuted.
        let models: Vec<Samples> = (0..30).map(|s| Model::random(s, 4, 96).permuted(s).samples()).collect();
        let tests = [&NORM_GAINS, &WEIGHT_BLOCKS, &EMBEDDING];
        let mut found = tests.map(|_| Vec::new());
        for (i, a) in models.iter().enumerate() {
            for b in &models[..i] {
                let evidence = compare(a, b);
                for (z, test) in found.iter_mut().zip(tests) {
                    z.push(evidence.in_place.effect(test).unwrap().z());
                }
            }
        }
        for (name, z) in tests.map(|test: &Test| test.name).into_iter().zip(found) {
            let n = z.len() as f64;
            let mean = z.iter().sum::<f64>() / n;
            let sd = (z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            let largest = z.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(
                mean.abs() < 0.2 && (0.9..1.15).contains(&sd) && largest < 5.0,
                "{name}: {mean} {sd} {largest}"
            );
        }
    }

    #[test]
    fn samples_and_fingerprints_agree() {
        let base = Model::random(3, 6, 96);
        for r in [0.9, 0.5] {
            let tuned = base.tuned(r, 4);
            let exact = compare(&base.samples(), &tuned.samples()).in_place.effect(&WEIGHT_BLOCKS).unwrap();
            let sketched = super::super::stored::compare(&base.fingerprint(), &tuned.fingerprint());
            let sketched = sketched.in_place.effect(&WEIGHT_BLOCKS).unwrap();
            assert!((exact.value - f64::from(r)).abs() < 0.06, "{exact:?}");
            assert!(
                (exact.value - sketched.value).abs() < 4.0 * sketched.sd.max(0.02),
                "{exact:?} {sketched:?}"
            );
        }
    }
}
