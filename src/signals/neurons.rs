//! MLP neurons in another order, or a subset of them: matched by what they write.
//!
//! A down projection has a row for each hidden dimension and a column for each neuron. Some rows of it, read whole,
//! give every neuron of the layer a code: what it adds to these dimensions. Permuting or pruning neurons moves
//! codes without changing them, and an expert that was copied from an MLP has the codes of that MLP. Gates and
//! ups would need whole matrices for the same.
//!
//! Each row is turned into normal scores of its ranks first: a few huge weights would else make the codes of
//! unrelated neurons alike, and the scale of a row says nothing. The codes of independent models are then
//! independent directions, whose chance matches [`matching`] bounds.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::blocks::Block;
use super::matching::{self, Matching};
use super::normal::Scores;
use super::roles::{Position, Role};
use super::sampled_pair::{SampledPair, at_place};
use super::signal::{Effect, Signal};

/// Correlation of down projections from which on neurons need not be looked for.
const IN_PLACE: f64 = 0.9;
/// Fewest rows in common: among 1,000 neurons of each model, chance reaches a cosine of .95 with 24 rows.
const LEAST_ROWS: usize = 24;
/// Most rows that enter.
const MOST_ROWS: usize = 64;
/// Neurons of the smaller layer that are looked for among all of the larger, evenly chosen.
const MOST_NEURONS: usize = 2048;
/// Most neurons of the larger layer; public MLPs have at most 53,248.
const MOST_CANDIDATES: usize = 1 << 16;

/// Looks for the MLP neurons, unless they are where they were. Their codes are over hidden dimensions, which must be in
/// place.
pub(super) fn sampled(pair: &SampledPair<'_>) -> Signal {
    if !pair.in_place {
        return Signal::absent("hidden dimensions are not in place");
    }
    if pair.roles().get(&Role::Down).is_some_and(|r| *r >= IN_PLACE) {
        return Signal::absent("the neurons are where they were");
    }
    let wanted = |block: &&Block| {
        let place = block.position;
        place.is_main() && place.role == Role::Down && !place.row_is_residual()
    };
    let blocks: BTreeMap<Position, &Block> =
        pair.b.blocks.iter().filter(wanted).map(|block| (block.position, block)).collect();
    let counterpart = pair.counterpart();
    let found =
        find(pair.a.blocks.iter().filter(wanted), |place| at_place(&blocks, counterpart(place)?).copied());
    let effect = found.map(|found| {
        let share = found.matched as f64 / found.possible.max(1) as f64;
        Effect::share(share, found.matched, found.elsewhere)
    });
    Signal::or_absent(effect, "too few rows of the same down projections were read")
}

/// Neurons found again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Found {
    /// Matches that chance does not explain.
    matched: usize,
    /// Matches that there could be.
    possible: usize,
    /// Matched neurons with another number.
    elsewhere: usize,
}

/// Looks for the neurons of each down projection of `a` in that of `b` at the place that `counterpart` names.
fn find<'a>(
    a: impl Iterator<Item = &'a Block>,
    counterpart: impl Fn(Position) -> Option<&'a Block>,
) -> Option<Found> {
    let pairs = a.filter_map(|x| Some((x, counterpart(x.position)?)));
    let found = pairs.filter_map(|(x, y)| if x.columns <= y.columns { layer(x, y) } else { layer(y, x) });
    found.reduce(|x, y| Found {
        matched: x.matched + y.matched,
        possible: x.possible + y.possible,
        elsewhere: x.elsewhere + y.elsewhere,
    })
}

/// The neurons of the smaller layer in the larger one.
fn layer(small: &Block, large: &Block) -> Option<Found> {
    let of_large: BTreeMap<u64, &[f32]> = large.rows().collect();
    let common: Vec<(&[f32], &[f32])> =
        small.rows().filter_map(|(n, row)| Some((row, *of_large.get(&n)?))).take(MOST_ROWS).collect();
    if common.len() < LEAST_ROWS || large.columns > MOST_CANDIDATES {
        return None;
    }
    let asked = small.columns.min(MOST_NEURONS);
    let chosen: Vec<usize> = (0..asked).map(|i| i * small.columns / asked).collect();
    let all: Vec<usize> = (0..large.columns).collect();
    let x = Codes::new(small.columns, common.iter().map(|c| c.0), &chosen)?;
    let y = Codes::new(large.columns, common.iter().map(|c| c.1), &all)?;
    let Matching { pairs, possible } =
        matching::mutual(&x.unit.view(), &y.unit.view(), x.freedom.min(y.freedom));
    let elsewhere = pairs.iter().filter(|(i, j, _)| chosen[*i] != *j).count();
    Some(Found { matched: pairs.len(), possible, elsewhere })
}

/// One unit vector a neuron.
struct Codes {
    unit: Array2<f32>,
    /// Participation ratio of their spectrum: rows that correlate tell less.
    freedom: f64,
}

impl Codes {
    /// Of the `chosen` of so many neurons.
    fn new<'a>(neurons: usize, rows: impl Iterator<Item = &'a [f32]>, chosen: &[usize]) -> Option<Self> {
        let normal = Scores::new(neurons);
        let rows: Vec<Vec<f32>> = rows.map(|row| normal.of(row)).collect();
        let mut unit = Array2::from_shape_fn((chosen.len(), rows.len()), |(i, row)| rows[row][chosen[i]]);
        for mut code in unit.rows_mut() {
            let norm = code.dot(&code).sqrt();
            if norm.is_normal() {
                code /= norm;
            }
        }
        let gram = unit.t().dot(&unit);
        let trace = f64::from(gram.diag().sum());
        let squares: f64 = gram.iter().map(|v| f64::from(*v).powi(2)).sum();
        (squares > 0.0).then(|| Self { unit, freedom: trace * trace / squares })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::signals::testing::gaussian;

    const ROWS: usize = 32;

    /// Heavy tails, and rows of different scale, as in trained models.
    fn down(seed: u64, neurons: usize) -> Block {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values =
            (0..ROWS * neurons).map(|i| gaussian(&mut rng).powi(3) * (1 + i / neurons) as f32).collect();
        let position = Position::main(Role::Down, 0);
        Block { position, start: 0, tensor_rows: 64, columns: neurons, values }
    }

    fn with_neurons(block: &Block, chosen: &[usize]) -> Block {
        let values = block.rows().flat_map(|(_, row)| chosen.iter().map(|i| row[*i])).collect();
        Block { columns: chosen.len(), values, ..block.clone() }
    }

    fn found(a: &Block, b: &Block) -> Found {
        find([a].into_iter(), |_| Some(b)).unwrap()
    }

    #[test]
    fn permuted_and_pruned_neurons_are_found() {
        let block = down(1, 700);
        let mut order: Vec<usize> = (0..700).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(2));
        let permuted = found(&block, &with_neurons(&block, &order));
        assert_eq!((permuted.matched, permuted.possible), (700, 700));
        assert!(permuted.elsewhere > 690);
        let pruned = with_neurons(&block, &order[..350]);
        for (a, b) in [(&block, &pruned), (&pruned, &block)] {
            assert_eq!((found(a, b).matched, found(a, b).possible), (350, 350));
        }
        assert_eq!(found(&block, &block).elsewhere, 0);
    }

    #[test]
    fn neurons_of_other_models_are_not() {
        // A thousandth of a match is expected in each pair of layers.
        let matched: usize = (0..30).map(|s| found(&down(2 * s, 400), &down(2 * s + 1, 500)).matched).sum();
        assert!(matched <= 1, "{matched}");
    }

    #[test]
    fn too_few_rows_tell_nothing() {
        let block = down(1, 300);
        let short = Block { values: block.values[..300 * (LEAST_ROWS - 1)].to_vec(), ..block.clone() };
        assert_eq!(find([&block].into_iter(), |_| Some(&short)), None);
    }
}
