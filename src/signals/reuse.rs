//! What became of the values that both models have: kept, cast, or scaled.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::blocks::{Block, Blocks};
use super::columns::standardise;
use super::dot::dot;
use super::evidence::Reuse;
use super::roles::Position;

/// Correlation of the ratios of two rows from which on they are the same factors.
const SAME_FACTORS: f32 = 0.98;

/// Looks at all blocks that both models have and that are not constant.
pub(crate) fn reuse(a: &Blocks, b: &Blocks) -> Reuse {
    let of_b: BTreeMap<(Position, u64), &Block> =
        b.blocks.iter().map(|block| ((block.position, block.start), block)).collect();
    let common = a.blocks.iter().filter_map(|x| {
        let y = *of_b.get(&(x.position, x.start))?;
        (x.values.len() == y.values.len() && x.columns == y.columns).then_some((x, y))
    });
    let mut all = Reuse { b_is_cast: true, a_is_cast: true, gains: true, ..Reuse::default() };
    let (mut scaled, mut differing) = (0usize, 0usize);
    let varies = |values: &[f32]| values.first().is_some_and(|first| values.iter().any(|v| v != first));
    for (x, y) in common.filter(|(x, _)| varies(&x.values)) {
        let equal = x.values == y.values;
        let (b_is_cast, a_is_cast) =
            (equal || is_cast(&x.values, &y.values), equal || is_cast(&y.values, &x.values));
        all.of += 1;
        all.equal += usize::from(equal);
        all.b_is_cast &= b_is_cast;
        all.a_is_cast &= a_is_cast;
        if x.position.role.is_norm() {
            all.gains &= b_is_cast || a_is_cast;
        } else if !(b_is_cast || a_is_cast)
            && let Some(factors) = has_column_factors(x, y)
        {
            differing += 1;
            scaled += usize::from(factors);
        }
    }
    // A model in which nothing was compared kept nothing.
    all.b_is_cast &= all.of > 0;
    all.a_is_cast &= all.of > 0;
    all.gains &= all.of > 0;
    all.rescaled = differing > 0 && 10 * scaled >= 9 * differing;
    all
}

/// Whether every value of `to` is that of `from`, rounded to a 16-bit type.
fn is_cast(from: &[f32], to: &[f32]) -> bool {
    let pairs = || from.iter().zip(to);
    pairs().all(|(x, y)| bf16::from_f32(*x).to_f32() == *y)
        || pairs().all(|(x, y)| f16::from_f32(*x).to_f32() == *y)
}

/// Whether two rows were multiplied by the same factors, column by column; `None` for a single row.
fn has_column_factors(x: &Block, y: &Block) -> Option<bool> {
    let mut ratios = x.rows().zip(y.rows()).map(|((_, x), (_, y))| {
        x.iter().zip(y).map(|(x, y)| (y / x).abs().max(f32::MIN_POSITIVE).ln()).collect::<Vec<f32>>()
    });
    let (mut first, mut second) = (ratios.next()?, ratios.next()?);
    Some(standardise(&mut first) && standardise(&mut second) && dot(&first, &second) > SAME_FACTORS)
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::super::testing::Model;
    use super::*;

    fn changed(model: &Model, change: impl Fn(&mut Block)) -> Samples {
        let mut model = model.clone();
        model.layers.iter_mut().flatten().chain(&mut model.outside).for_each(change);
        model.samples()
    }

    #[test]
    fn casts_have_a_direction() {
        let model = Model::random(1, 2, 96);
        let cast = changed(&model, |b| b.values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32()));
        let found = reuse(&model.samples(), &cast);
        assert!(found.b_is_cast && !found.a_is_cast && found.gains && found.equal == 0);
        let back = reuse(&cast, &model.samples());
        assert!(back.a_is_cast && !back.b_is_cast);
        let same = reuse(&cast, &cast);
        assert!(same.equal == same.of && same.of > 0 && !same.rescaled);
    }

    #[test]
    fn factors_are_told_from_training() {
        let model = Model::random(1, 2, 96);
        let folded = changed(&model, |b| {
            if b.position.role.is_matrix() {
                let columns = b.columns;
                b.values.iter_mut().enumerate().for_each(|(i, v)| *v *= 1.0 + (i % columns % 7) as f32 * 0.1);
            }
        });
        let found = reuse(&model.samples(), &folded);
        assert!(found.rescaled && found.gains && !found.b_is_cast);
        assert!(!reuse(&model.samples(), &model.tuned(0.99, 1).samples()).rescaled);
        assert_eq!(reuse(&model.samples(), &Model::random(1, 2, 64).samples()), Reuse::default());
    }
}
