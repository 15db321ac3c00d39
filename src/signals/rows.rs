//! Matrix rows in another order, or a subset of them: heads and neurons permuted or pruned.

use ndarray::Array2;

use super::matching;
use super::roles::Position;
use super::sampled_pair::{SampledPair, at_place};
use super::signal::{Effect, Signal};
use super::units::UnitBlock;

/// Fewest rows of a matrix from which a reordering can be told.
const LEAST_ROWS: usize = 8;
/// Most rows of one matrix that are searched for reordering.
const MOST_ROWS: usize = 2048;

/// Looks for rows that are rows of the same matrix in the other model, whatever their order.
pub(super) fn sampled(pair: &SampledPair<'_>) -> Signal {
    let counterpart = pair.counterpart();
    let (mut matched, mut possible, mut elsewhere) = (0usize, 0usize, 0usize);
    let wanted = |(p, x): &(&Position, &UnitBlock)| p.is_main() && p.role.is_matrix() && x.residual;
    for (place, x) in pair.units_a.blocks.iter().filter(wanted) {
        let Some(y) = counterpart(*place).and_then(|place| at_place(&pair.units_b.blocks, place)) else {
            continue;
        };
        let enough = |u: &UnitBlock| (LEAST_ROWS..=MOST_ROWS).contains(&u.rows.len());
        if x.dimension != y.dimension || !enough(x) || !enough(y) {
            continue;
        }
        let table = |u: &UnitBlock| {
            let values: Vec<f32> = u.rows.values().flatten().copied().collect();
            Array2::from_shape_vec((u.rows.len(), u.dimension), values).ok()
        };
        let Some((tx, ty)) = table(x).zip(table(y)) else { continue };
        let found = matching::mutual(&tx.view(), &ty.view(), x.freedom.min(y.freedom));
        let numbers: (Vec<u64>, Vec<u64>) =
            (x.rows.keys().copied().collect(), y.rows.keys().copied().collect());
        elsewhere += found.pairs.iter().filter(|(i, j, _)| numbers.0[*i] != numbers.1[*j]).count();
        matched += found.pairs.len();
        possible += found.possible;
    }
    let share = matched as f64 / possible.max(1) as f64;
    let effect = (possible > 0).then(|| Effect::share(share, matched, elsewhere));
    Signal::or_absent(effect, "too few rows of the same matrices were read")
}

#[cfg(test)]
mod tests {
    use super::super::battery::{MATRIX_ROWS, WEIGHT_BLOCKS};
    use super::super::sampled::compare;
    use super::super::testing::Model;

    #[test]
    fn reordered_rows_are_found() {
        let base = Model::random(3, 4, 96);
        let mut reordered = base.clone();
        for block in reordered.layers.iter_mut().flatten().filter(|b| b.position.role.is_matrix()) {
            let columns = block.columns;
            block.values.rotate_left(3 * columns);
        }
        let tests = compare(&base.samples(), &reordered.samples()).in_place;
        let rows = tests.effect(&MATRIX_ROWS).unwrap();
        assert!(rows.value > 0.9 && rows.elsewhere > 0.9, "{rows:?}");
        assert!(tests.effect(&WEIGHT_BLOCKS).unwrap().value.abs() < 0.2);
        let other = compare(&base.samples(), &Model::random(4, 4, 96).samples()).in_place;
        assert!(other.effect(&MATRIX_ROWS).unwrap().value < 0.02);
    }
}
