//! Inner products: of two vectors, and of all pairs of many.

/// Numbers that are multiplied at once.
const LANES: usize = 8;

/// Inner product in eight lanes, which the compiler turns into vector instructions.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<LANES>();
    let (b8, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (x, y) in a8.iter().zip(b8) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// Columns that are held against [`PANEL`] others at a time: two times five sums, and what they are made of, fill the
/// 16 vector registers of AVX2.
const GROUP: usize = 2;
const PANEL: usize = 5;
/// Vectors of [`LANES`] numbers after which the next group comes: so much of a panel, 20 KB, stays in the first
/// cache while all groups go past it.
const TILE: usize = 128;

type Lanes = [f32; LANES];
type Sums = [[Lanes; PANEL]; GROUP];
/// Adds a tile of each product.
type Add = fn(&mut Sums, [&[Lanes]; GROUP], &[[Lanes; PANEL]]);

fn squared_products_by(add: Add, columns: &[&[f32]]) -> f64 {
    let (last, length) = (columns.len().saturating_sub(1), columns.first().map_or(0, |column| column.len()));
    let vectors: Vec<(&[Lanes], &[f32])> = columns.iter().map(|column| column.as_chunks()).collect();
    // In rows, of which the part before the diagonal is filled.
    let mut products = vec![0.0f32; columns.len() * columns.len()];
    // Vector after vector, of all columns of the panel: the loads of a tile are of one piece of memory.
    let mut panel = vec![[[0.0f32; LANES]; PANEL]; length / LANES];
    let mut sums: Vec<Sums> = vec![[[[0.0; LANES]; PANEL]; GROUP]; columns.len().div_ceil(GROUP)];
    for first in (0..columns.len()).step_by(PANEL) {
        let in_panel = first..columns.len().min(first + PANEL);
        for (slot, column) in in_panel.clone().enumerate() {
            for (several, one) in panel.iter_mut().zip(vectors[column].0) {
                several[slot] = *one;
            }
        }
        let groups = (first + 1) / GROUP..sums.len();
        sums[groups.clone()].fill([[[0.0; LANES]; PANEL]; GROUP]);
        for begin in (0..panel.len()).step_by(TILE) {
            let tile = begin..panel.len().min(begin + TILE);
            for group in groups.clone() {
                // Of a group that is not full, the last column stands in for those that are missing.
                let column = |place| vectors[last.min(GROUP * group + place)].0;
                let columns = std::array::from_fn(|place| &column(place)[tile.clone()]);
                add(&mut sums[group], columns, &panel[tile.clone()]);
            }
        }
        for own in GROUP * groups.start..columns.len() {
            for (slot, other) in in_panel.clone().enumerate().filter(|(_, other)| *other < own) {
                let rest = vectors[own].1.iter().zip(vectors[other].1).map(|(x, y)| x * y).sum::<f32>();
                let lanes = &sums[own / GROUP][own % GROUP][slot];
                products[own * columns.len() + other] = lanes.iter().sum::<f32>() + rest;
            }
        }
    }
    let rows = products.chunks_exact(columns.len().max(1)).enumerate();
    rows.flat_map(|(own, row)| &row[..own]).fold(0.0, |sum, r| sum + f64::from(r * r))
}

fn add(sums: &mut Sums, columns: [&[Lanes]; GROUP], panel: &[[Lanes; PANEL]]) {
    // A copy is kept in registers.
    let mut inner = *sums;
    let columns = columns.map(|column| &column[..panel.len()]);
    for (i, others) in panel.iter().enumerate() {
        for (sums, column) in inner.iter_mut().zip(&columns) {
            for (lanes, other) in sums.iter_mut().zip(others) {
                for (lane, (x, y)) in lanes.iter_mut().zip(column[i].iter().zip(other)) {
                    *lane += x * y;
                }
            }
        }
    }
    *sums = inner;
}

/// [`add`], to the bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_avx2(sums: &mut Sums, columns: [&[Lanes]; GROUP], panel: &[[Lanes; PANEL]]) {
    use std::arch::x86_64::{__m256, _mm256_add_ps, _mm256_mul_ps};
    use zerocopy::transmute;

    let mut inner: [[__m256; PANEL]; GROUP] = sums.map(|sums| transmute!(sums));
    let columns = columns.map(|column| &column[..panel.len()]);
    for (i, others) in panel.iter().enumerate() {
        let others: [__m256; PANEL] = transmute!(*others);
        for (sums, column) in inner.iter_mut().zip(&columns) {
            let own: __m256 = transmute!(column[i]);
            for (sum, other) in sums.iter_mut().zip(others) {
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(own, other));
            }
        }
    }
    *sums = inner.map(|sums| transmute!(sums));
}

/// Sum of the squared inner products of all pairs. On x86-64 with AVX2 the innermost loop is written in its instructions,
/// which changes the time and, each lane being added up in the same order, no bit of the result. Left to itself, the
/// compiler makes them of the portable loop too, or, after a change somewhere else, code that takes eight times as long.
pub(super) fn squared_products(columns: &[&[f32]]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the only condition of the call is that the machine has AVX2, which was just looked up. The
        // function is safe code.
        #[allow(unsafe_code, reason = "see SAFETY")]
        return squared_products_by(
            |sums, columns, panel| unsafe { add_avx2(sums, columns, panel) },
            columns,
        );
    }
    squared_products_by(add, columns)
}

#[cfg(test)]
mod tests {
    use super::super::hash::mix;
    use super::*;

    #[test]
    fn is_the_sum_over_the_pairs_to_the_bit() {
        let value = |i: u64| (mix(i) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        for (count, d) in [(0, 3), (1, 9), (2, 5), (5, 8), (9, 67), (14, 100), (13, 8 * TILE as u64 + 9)] {
            let columns: Vec<Vec<f32>> =
                (0..count).map(|c| (0..d).map(|i| value(1000 * c + i)).collect()).collect();
            let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
            let pairs = (0..columns.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
            let sum: f64 = pairs.map(|(i, j)| dot(columns[i], columns[j])).map(|r| f64::from(r * r)).sum();
            assert_eq!(squared_products(&columns), sum, "{count} columns of {d}");
            assert_eq!(squared_products_by(add, &columns), sum, "{count} columns of {d}");
        }
    }
}
