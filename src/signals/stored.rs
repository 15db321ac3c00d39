//! Two fingerprints of the database to evidence, from sketches.
//!
//! The common test. `n` cells are matched by role, layer and position; each gives a cosine that estimates
//! the mean correlation of its matched rows. The effect is their mean. Under the null hypothesis (the
//! hidden dimensions of one model are exchangeable) its expectation is 0 and its variance
//!
//! ```text
//! Var = 1/(n D)                                     error of the sketches of D buckets
//!     + ( 1/(sum of rows) + sqrt(r_a r_b) ) / df     permutation variance, bounded by Cauchy-Schwarz
//! ```
//!
//! with `r` the resemblance of a model's columns ([`super::columns::Columns::resemblance`]) and df the degrees
//! of freedom of the hidden size. Rows over inner dimensions (down and output projections of linear layers) have a permutation of their
//! own in every cell, so their second term is averaged over cells.

use std::collections::BTreeMap;

use super::columns::degrees_of_freedom;
use super::evidence::{Effect, Evidence, Open, Reuse, Shape, Signal, Tests};
use super::fingerprint::{CELL_DIMENSIONS, Cell, Fingerprint};
use super::layer_map;
use super::products;
use super::roles::{Role, Stack};
use super::sketch::{cosine, dot, norm};

/// Sketches of equal values, cast to 16 bits, reach a cosine of .9999.
const RESOLUTION: f64 = 1e-4;

/// Holds two fingerprints against each other.
pub fn compare(a: &Fingerprint, b: &Fingerprint) -> Evidence {
    let same_width = a.hidden_size == b.hidden_size;
    let same_depth = a.layers == b.layers;
    let pair = Pair { a, b };
    let widths = || Signal::Absent(format!("hidden sizes differ: {} and {}", a.hidden_size, b.hidden_size));
    let depths =
        || Signal::Absent(format!("layer counts differ: {} and {}; see layer_map", a.layers, b.layers));
    let (layer_map, matched_layers) = match (same_width, same_depth) {
        (false, _) => (widths(), Vec::new()),
        // No source of the verdict then, and most of the cost of a comparison.
        (true, true) => {
            let reason = "layer counts are equal; layers are compared in place";
            (Signal::Absent(reason.into()), Vec::new())
        }
        (true, false) => pair.layer_map(),
    };
    let matched = pair.at_same_place();
    let test = |wanted: fn(Role) -> bool| {
        let chosen = || matched.iter().map(|(m, _)| m).filter(|m| wanted(m.role));
        let nothing = "no block was sampled at the same place in both models";
        Signal::or_absent(pair.effect(&chosen()), nothing)
    };
    let at_same_place = |wanted: fn(Role) -> bool| match (same_width, same_depth) {
        (false, _) => widths(),
        (true, false) => depths(),
        (true, true) => test(wanted),
    };
    let in_place = Tests {
        norm_gains: at_same_place(Role::is_norm),
        weight_blocks: at_same_place(Role::is_matrix),
        embedding: if same_width { test(|role| role == Role::Embedding) } else { widths() },
        rows: Signal::Absent("the stored fingerprint has no rows".into()),
        rows_moved: 0.0,
        neurons: Signal::Absent("the stored fingerprint has no neurons".into()),
        neurons_moved: 0.0,
        row_products: products::stored(a.products.as_ref(), b.products.as_ref()),
        roles: if same_width && same_depth { role_means(&matched) } else { BTreeMap::new() },
        layer_map,
        matched_layers,
    };
    Evidence {
        a: shape(a),
        b: shape(b),
        in_place,
        realigned: Vec::new(),
        open: vec![Open::Moved],
        reuse: reuse(&matched),
        tokens_moved: None,
        delta: None,
        resolution: RESOLUTION,
    }
}

fn shape(fingerprint: &Fingerprint) -> Shape {
    let down = fingerprint.cells.iter().find(|c| c.role == Role::Down && !c.residual);
    Shape {
        hidden_size: fingerprint.hidden_size,
        layers: fingerprint.layers,
        vocabulary: fingerprint.vocabulary,
        inner_size: down.map(|c| c.dimension),
        experts: fingerprint.cells.iter().any(|c| c.expert.is_some()),
        quantised: false,
    }
}

struct Pair<'a> {
    a: &'a Fingerprint,
    b: &'a Fingerprint,
}

/// A cosine and what its null variance needs.
struct Matched {
    cosine: f64,
    rows: f64,
    dimension: f64,
    residual: bool,
    role: Role,
}

impl Matched {
    fn new(cell: &Cell, other: &Cell, cosine: f64) -> Self {
        Self {
            cosine,
            rows: f64::from(cell.rows),
            dimension: f64::from(cell.dimension),
            residual: cell.residual && other.residual,
            role: cell.role,
        }
    }
}

impl Pair<'_> {
    /// Cells of `a` with the cell of `b` in the same role, layer and rows, and whether their values are equal. Both
    /// are in one order, so one pass finds them.
    fn at_same_place(&self) -> Vec<(Matched, bool)> {
        let mut rest = self.b.cells.iter().peekable();
        let mut found = Vec::with_capacity(self.a.cells.len());
        for cell in &self.a.cells {
            while rest.next_if(|other| other.key() < cell.key()).is_some() {}
            if let Some(other) = rest.peek()
                && other.key() == cell.key()
                && (other.dimension, other.rows) == (cell.dimension, cell.rows)
            {
                let matched = Matched::new(cell, other, cosine(&cell.sketch, &other.sketch));
                found.push((matched, other.hash == cell.hash));
            }
        }
        found
    }

    /// Mean cosine and its null variance; see the module's head.
    fn effect<'m>(&self, matched: &(impl Iterator<Item = &'m Matched> + Clone)) -> Option<Effect> {
        let cells = matched.clone().count();
        if cells == 0 {
            return None;
        }
        let n = cells as f64;
        let value = matched.clone().map(|m| m.cosine).sum::<f64>() / n;
        let sketch_error = 1.0 / (n * CELL_DIMENSIONS as f64);
        let degrees = |dimension: f64| degrees_of_freedom(dimension as usize);
        let inner_resemblance = resemblance(self.a.resemblance.inner, self.b.resemblance.inner);
        let inner = matched
            .clone()
            .filter(|m| !m.residual)
            .map(|m| (1.0 / m.rows + inner_resemblance) / degrees(m.dimension))
            .sum::<f64>()
            / (n * n);
        let residual = || matched.clone().filter(|m| m.residual);
        let shared = residual().next().map_or(0.0, |first| {
            let r = match first.role {
                role if role.is_norm() => resemblance(self.a.resemblance.gains, self.b.resemblance.gains),
                Role::Embedding => resemblance(self.a.resemblance.embedding, self.b.resemblance.embedding),
                _ => resemblance(self.a.resemblance.residual, self.b.resemblance.residual),
            };
            let (own, k) = residual().fold((0.0, 0.0), |(own, k), m| (own + 1.0 / m.rows, k + 1.0));
            (own + k * k * r) / (n * n) / degrees(first.dimension)
        });
        Some(Effect { value, sd: (sketch_error + inner + shared).sqrt(), cells, ln_choices: 0.0 })
    }

    fn layer_map(&self) -> (Signal, Vec<(u16, u16, f64)>) {
        let in_stack = |cell: &Cell| cell.stack == Stack::Main && cell.role.is_matrix();
        // Cells by layer, each layer in the order of the others.
        let layers = |f: &'_ Fingerprint| {
            let mut found: BTreeMap<u16, Vec<(Cell, f64)>> = BTreeMap::new();
            for cell in f.cells.iter().filter(|c| in_stack(c)) {
                found.entry(cell.layer).or_default().push((*cell, norm(&cell.sketch)));
            }
            found
        };
        let (of_a, of_b) = (layers(self.a), layers(self.b));
        let (in_a, in_b): (Vec<u16>, Vec<u16>) =
            (of_a.keys().copied().collect(), of_b.keys().copied().collect());
        let mut matched = Vec::new();
        let z: Vec<Vec<f64>> = of_a
            .values()
            .map(|x| {
                of_b.values()
                    .map(|y| {
                        merge(x, y, &mut matched);
                        self.effect(&matched.iter()).map_or(0.0, |e| e.z())
                    })
                    .collect()
            })
            .collect();
        let path = layer_map::align(&z);
        let of_path: Vec<Matched> = path
            .iter()
            .flat_map(|m| {
                merge(&of_a[&in_a[m.a]], &of_b[&in_b[m.b]], &mut matched);
                std::mem::take(&mut matched)
            })
            .collect();
        let Some(mut effect) = self.effect(&of_path.iter()) else {
            return (Signal::Absent("no matrix block can be held against another layer".into()), Vec::new());
        };
        effect.ln_choices = layer_map::ln_matchings(in_a.len(), in_b.len(), path.len());
        (Signal::Present(effect), path.iter().map(|m| (in_a[m.a], in_b[m.b], m.z)).collect())
    }
}

fn resemblance(a: f32, b: f32) -> f64 {
    (f64::from(a) * f64::from(b)).max(0.0).sqrt()
}

/// Blocks with equal values, of those that both have.
fn reuse(matched: &[(Matched, bool)]) -> Reuse {
    let gains_equal =
        |(m, equal): &(Matched, bool)| *equal || !m.role.is_norm() || m.cosine >= 1.0 - RESOLUTION;
    Reuse {
        of: matched.len(),
        equal: matched.iter().filter(|(_, equal)| *equal).count(),
        gains: matched.iter().all(gains_equal),
        ..Reuse::default()
    }
}

fn role_means(matched: &[(Matched, bool)]) -> BTreeMap<&'static str, f64> {
    let mut sums: BTreeMap<&'static str, (f64, f64)> = BTreeMap::new();
    for (m, _) in matched.iter().filter(|(m, _)| m.role.is_matrix()) {
        let entry = sums.entry(m.role.name()).or_default();
        *entry = (entry.0 + m.cosine, entry.1 + 1.0);
    }
    sums.into_iter().map(|(role, (sum, n))| (role, sum / n)).collect()
}

/// Cells of one layer with those of another that have the same role and rows, with the lengths of their sketches.
/// Both are ordered by them.
fn merge(a: &[(Cell, f64)], b: &[(Cell, f64)], found: &mut Vec<Matched>) {
    let key = |cell: &Cell| (cell.role, cell.expert, cell.start);
    found.clear();
    let mut rest = b.iter().peekable();
    for (cell, length) in a {
        while rest.next_if(|(other, _)| key(other) < key(cell)).is_some() {}
        if let Some((other, of_other)) = rest.peek()
            && key(other) == key(cell)
            && (other.dimension, other.rows) == (cell.dimension, cell.rows)
        {
            let lengths = (length * of_other).max(f64::MIN_POSITIVE);
            let cosine = f64::from(dot(&cell.sketch, &other.sketch)) / lengths;
            found.push(Matched::new(cell, other, cosine));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Model;
    use super::*;

    /// The signals that fingerprints have.
    fn measured(evidence: &Evidence) -> impl Iterator<Item = (&'static str, &Signal)> {
        evidence
            .in_place
            .signals()
            .into_iter()
            .filter(|(name, _)| !matches!(*name, "rows" | "neurons" | "layer_map" | "row_products"))
    }

    fn present(signal: &Signal) -> Effect {
        signal.effect().expect("the signal is present")
    }

    #[test]
    fn a_model_against_itself() {
        let f = Model::random(1, 6, 96).fingerprint();
        let evidence = compare(&f, &f);
        for (name, signal) in measured(&evidence) {
            assert!((present(signal).value - 1.0).abs() < 1e-9, "{name}");
            assert!(present(signal).z() > 8.0, "{name}: {}", present(signal).z());
        }
    }

    #[test]
    fn unrelated_z_is_standard_normal_at_most() {
        // 28 models of one shape, 378 unrelated pairs. The bound is conservative, so the spread may be
        // below 1; a spread above 1.15 would break the error rate.
        let models: Vec<_> = (0..28).map(|s| Model::random(s, 4, 96).fingerprint()).collect();
        let mut by_signal: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (i, a) in models.iter().enumerate() {
            for b in &models[..i] {
                let evidence = compare(a, b);
                for (name, signal) in measured(&evidence) {
                    by_signal.entry(name).or_default().push(present(signal).z());
                }
            }
        }
        for (name, z) in by_signal {
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
            let effect = present(&compare(&base.fingerprint(), &tuned).in_place.weight_blocks);
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
        assert!(present(&evidence.in_place.layer_map).ln_p() < -100.0);
        assert!(matches!(evidence.in_place.weight_blocks, Signal::Absent(_)));
    }

    #[test]
    fn other_widths_are_absent() {
        let evidence =
            compare(&Model::random(1, 4, 96).fingerprint(), &Model::random(1, 4, 64).fingerprint());
        for (name, signal) in measured(&evidence) {
            assert!(signal.effect().is_none(), "{name}");
        }
    }
}
