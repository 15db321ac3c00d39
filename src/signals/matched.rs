//! The test of matched columns, exactly: `S = tr(A'B)` against its variance under the null.
//!
//! The columns of `A` and `B` (d x m) are standardised rows of two models, matched one to one. If the hidden
//! dimensions of one model are exchangeable, `E[S] = 0` and `Var[S] = tr((A'A)(B'B)) / df`, with the degrees
//! of freedom of a column ([`super::columns::degrees_of_freedom`]). The closed form counts for columns of one
//! model that share outlier dimensions, which a naive n-sample test does not. Every cell (block of rows)
//! weighs the same, so the effect is the mean over cells of their mean row correlation.

use ndarray::{Array2, ArrayView2};

use super::dot::dot;
use super::signal::Effect;

/// One pair of matched columns of equal length.
pub(super) type Pair<'a> = (&'a [f32], &'a [f32]);

/// Matched rows of one block.
pub(super) struct RowPairs<'a> {
    pub(super) pairs: Vec<Pair<'a>>,
    /// Degrees of freedom of a row.
    pub(super) freedom: f64,
    /// Whether the rows run over the hidden dimension.
    pub(super) residual: bool,
}

/// Cells being collected for one test.
#[derive(Default)]
pub(super) struct Matched<'a> {
    /// Cells over the residual dimension; one permutation acts on all of them.
    shared: Vec<RowPairs<'a>>,
    /// Cells over an inner dimension, each with a permutation of its own.
    own: Vec<RowPairs<'a>>,
}

impl<'a> Matched<'a> {
    /// Adds a cell; an empty one is ignored.
    pub(super) fn add(&mut self, cell: RowPairs<'a>) {
        if !cell.pairs.is_empty() {
            if cell.residual { self.shared.push(cell) } else { self.own.push(cell) }
        }
    }

    /// Mean correlation of the cells and its null deviation; `None` without cells.
    pub(super) fn effect(&self) -> Option<Effect> {
        let cells = self.shared.len() + self.own.len();
        if cells == 0 {
            return None;
        }
        let groups = std::iter::once(&self.shared[..]).chain(self.own.chunks(1)).filter(|g| !g.is_empty());
        let (mut sum, mut variance) = (0.0, 0.0);
        for group in groups {
            let (s, v) = moments(group);
            sum += s;
            variance += v;
        }
        let n = cells as f64;
        Some(Effect::correlation(sum / n, (variance.sqrt() / n).max(f64::MIN_POSITIVE), cells))
    }
}

/// `S` and `Var[S]` of cells over one dimension, every row weighted by one over the rows of its cell.
fn moments(cells: &[RowPairs<'_>]) -> (f64, f64) {
    let d = cells.iter().flat_map(|c| &c.pairs).next().map_or(0, |(a, _)| a.len());
    let m: usize = cells.iter().map(|c| c.pairs.len()).sum();
    let freedom = cells.iter().map(|c| c.freedom).fold(f64::INFINITY, f64::min).max(1.0);
    let mut a = Vec::with_capacity(m * d);
    let mut b = Vec::with_capacity(m * d);
    let mut s = 0.0;
    for cell in cells {
        let weight = 1.0 / cell.pairs.len() as f32;
        for (x, y) in &cell.pairs {
            s += f64::from(weight * dot(x, y));
            a.extend(x.iter().map(|v| v * weight));
            b.extend_from_slice(y);
        }
    }
    let (Ok(a), Ok(b)) = (Array2::from_shape_vec((m, d), a), Array2::from_shape_vec((m, d), b)) else {
        return (0.0, 0.0); // columns of different lengths are never matched
    };
    // The trace has two forms; the smaller product wins. Weights stand in `a` alone, so in the first form the
    // Gram of `b` needs none.
    let trace = if m <= d {
        sum_of_products(&a.dot(&a.t()).view(), &b.dot(&b.t()).view())
    } else {
        let product = a.t().dot(&b);
        sum_of_products(&product.view(), &product.view())
    };
    (s, trace / freedom)
}

fn sum_of_products(x: &ArrayView2<'_, f32>, y: &ArrayView2<'_, f32>) -> f64 {
    x.iter().zip(y.iter()).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::columns::{degrees_of_freedom, standardise};
    use super::super::testing::gaussian;
    use super::*;

    fn columns(rng: &mut ChaCha8Rng, m: usize, d: usize, shared: &[f32]) -> Vec<Vec<f32>> {
        (0..m)
            .map(|_| {
                let mut x: Vec<f32> = (0..d).map(|i| gaussian(rng) + shared[i]).collect();
                assert!(standardise(&mut x));
                x
            })
            .collect()
    }

    fn cell(pairs: Vec<Pair<'_>>, d: usize) -> RowPairs<'_> {
        RowPairs { pairs, freedom: degrees_of_freedom(d), residual: true }
    }

    #[test]
    fn both_forms_of_the_trace_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (a, b) = (columns(&mut rng, 40, 39, &[0.0; 39]), columns(&mut rng, 40, 39, &[0.0; 39]));
        let cells: Vec<RowPairs<'_>> = a
            .chunks(4)
            .zip(b.chunks(4))
            .map(|(a, b)| cell(a.iter().zip(b).map(|(a, b)| (&a[..], &b[..])).collect(), 39))
            .collect();
        let (s, v) = moments(&cells); // 40 > 39: the second form
        let (mut s1, mut v1) = (0.0, 0.0);
        for (ak, bk) in a.iter().zip(&b) {
            s1 += f64::from(dot(ak, bk)) / 4.0;
            for (al, bl) in a.iter().zip(&b) {
                v1 += f64::from(dot(ak, al) * dot(bk, bl)) / 16.0;
            }
        }
        assert!((s - s1).abs() < 1e-5 && (v / (v1 / degrees_of_freedom(39)) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn z_is_standard_normal_although_columns_correlate() {
        // Every model has outlier dimensions of its own, shared by all of its columns.
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let d = 128;
        let z: Vec<f64> = (0..400)
            .map(|_| {
                let profile =
                    |rng: &mut ChaCha8Rng| -> Vec<f32> { (0..d).map(|_| 2.0 * gaussian(rng)).collect() };
                let (pa, pb) = (profile(&mut rng), profile(&mut rng));
                let (a, b) = (columns(&mut rng, 12, d, &pa), columns(&mut rng, 12, d, &pb));
                let mut matched = Matched::default();
                for (a, b) in a.iter().zip(&b) {
                    matched.add(cell(vec![(a, b)], d));
                }
                matched.effect().unwrap().z()
            })
            .collect();
        let sd = (z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64).sqrt();
        assert!((0.9..1.1).contains(&sd), "{sd}");
    }
}
