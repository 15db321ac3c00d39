//! Signals that describe a model as a whole: how its embedding norms spread, how its weights grow with depth,
//! and the cosines between its tokens' embedding rows. Unrelated models are alike in all three, so they support a
//! verdict and never make one.

use std::collections::BTreeMap;

use super::blocks::Blocks;
use super::dot::dot;
use super::hash;
use super::roles::Role;
use super::signal::Figure;

/// Points of a curve.
pub const POINTS: usize = 16;
/// Tokens whose mutual cosines the database keeps.
pub const STORED_TOKENS: usize = 32;
/// Fewest embedding rows for a norm curve.
const LEAST_ROWS: usize = 32;
/// Fewest layers for an energy curve: fewer have no shape once the trend is out.
const LEAST_LAYERS: usize = 4;
/// Fewest common tokens for a Gram matrix: 28 cosines.
const LEAST_TOKENS: usize = 8;
/// Fewest models from which the mean of a population is taken.
const LEAST_POPULATION: u32 = 3;

/// A curve of [`POINTS`] values.
pub type Curve = [f32; POINTS];

/// What the database keeps for these signals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Quantiles of the logarithms of embedding row norms, centred and of unit variance.
    pub norms: Option<Curve>,
    /// For each matrix role the logarithm of the weights' standard deviation over relative depth, without its
    /// linear trend, of unit variance.
    pub energy: BTreeMap<Role, Curve>,
    /// Cosines of some tokens.
    pub gram: TokenGram,
}

impl Profile {
    /// Profiles one model; `tokens` bounds the Gram matrix.
    pub fn new(samples: &Blocks, tokens: usize) -> Self {
        Self { norms: norms(samples), energy: energy(samples), gram: TokenGram::new(samples, tokens) }
    }
}

fn norms(samples: &Blocks) -> Option<Curve> {
    let canonical = samples.blocks.iter().filter(|b| b.position.role == Role::Embedding);
    let mut logs: Vec<f32> = canonical
        .flat_map(|block| {
            block.canonical().into_iter().flat_map(|(_, rows)| rows.chunks_exact(block.columns))
        })
        .map(|row| dot(row, row).sqrt().ln())
        .filter(|v| v.is_finite())
        .collect();
    if logs.len() < LEAST_ROWS {
        return None;
    }
    logs.sort_by(f32::total_cmp);
    let at = |i: usize| logs[((2 * i + 1) * logs.len() / (2 * POINTS)).min(logs.len() - 1)];
    unit_variance(std::array::from_fn(at))
}

fn energy(samples: &Blocks) -> BTreeMap<Role, Curve> {
    let mut by_role: BTreeMap<Role, BTreeMap<u16, f32>> = BTreeMap::new();
    for block in samples.blocks.iter().filter(|b| b.position.is_main() && b.position.role.is_matrix()) {
        for (_, values) in block.canonical() {
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let log = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt().ln();
            if log.is_finite() {
                by_role.entry(block.position.role).or_default().insert(block.position.layer, log);
            }
        }
    }
    let curve = |layers: BTreeMap<u16, f32>| {
        let y: Vec<f32> = layers.into_values().collect();
        (y.len() >= LEAST_LAYERS).then(|| unit_variance(resampled(&without_trend(y))))?
    };
    by_role.into_iter().filter_map(|(role, layers)| Some((role, curve(layers)?))).collect()
}

/// Residuals of the least-squares line.
fn without_trend(mut y: Vec<f32>) -> Vec<f32> {
    let n = y.len() as f32;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, y.iter().sum::<f32>() / n);
    let x = |i: usize| i as f32 - mean_x;
    let slope = y.iter().enumerate().map(|(i, v)| x(i) * v).sum::<f32>()
        / y.iter().enumerate().map(|(i, _)| x(i).powi(2)).sum::<f32>();
    y.iter_mut().enumerate().for_each(|(i, v)| *v -= mean_y + slope * x(i));
    y
}

/// Linear interpolation at [`POINTS`] even positions.
fn resampled(y: &[f32]) -> Curve {
    std::array::from_fn(|i| {
        let at = i as f32 * (y.len() - 1) as f32 / (POINTS - 1) as f32;
        let (low, part) = (at as usize, at.fract());
        let high = (low + 1).min(y.len() - 1);
        y[low] * (1.0 - part) + y[high] * part
    })
}

fn unit_variance(mut curve: Curve) -> Option<Curve> {
    let mean = curve.iter().sum::<f32>() / POINTS as f32;
    for v in &mut curve {
        *v -= mean;
    }
    let sd = (dot(&curve, &curve) / POINTS as f32).sqrt();
    (sd > 1e-6).then(|| curve.map(|v| v / sd))
}

/// END: root mean square distance of the norm curves, 0 for equal shapes; independent models reach .05 to .5.
pub fn norm_distance(a: &Profile, b: &Profile) -> Result<Figure, String> {
    let (x, y) = a.norms.as_ref().zip(b.norms.as_ref()).ok_or("fewer than 32 embedding rows were read")?;
    let sum: f32 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
    Ok(Figure::new(f64::from(sum / POINTS as f32).sqrt(), POINTS))
}

/// LEP: mean correlation of the energy curves of the roles that both have.
pub fn energy_correlation(a: &Profile, b: &Profile) -> Result<Figure, String> {
    let common: Vec<f64> = a
        .energy
        .iter()
        .filter_map(|(role, x)| Some(f64::from(dot(x, b.energy.get(role)?)) / POINTS as f64))
        .collect();
    if common.is_empty() {
        return Err("no matrix was sampled in four layers of both models".into());
    }
    Ok(Figure::new(common.iter().sum::<f64>() / common.len() as f64, common.len()))
}

/// Gram matrix of embedding rows: pairwise cosines. Tokens are known by a key, so that models with other ids for the same tokens,
/// or hidden dimensions permuted or rotated, have the same ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenGram {
    /// Keys of the tokens, ascending: those with the smallest keys, so that two models choose the same.
    pub keys: Vec<u64>,
    /// The upper triangle, row by row, in 1/127.
    pub cosines: Vec<i8>,
}

impl TokenGram {
    /// Of at most `most` of the rows that were read.
    fn new(samples: &Blocks, most: usize) -> Self {
        let vocabulary = u64::from(samples.vocabulary.unwrap_or(0));
        let key = |id: u64| match &samples.tokens {
            Some(tokens) => tokens.key(u32::try_from(id).ok()?),
            // Without a tokenizer, ids mean the same in vocabularies of one size.
            None => Some(hash::key(&[vocabulary, id])),
        };
        let rows: BTreeMap<u64, &[f32]> =
            samples.embedding().into_iter().filter_map(|(id, row)| Some((key(id)?, row))).collect();
        let chosen: Vec<(u64, &[f32])> = rows.into_iter().take(most).collect();
        let n = chosen.len() as f32;
        let mut mean = vec![0.0f32; samples.hidden_size];
        for (_, row) in &chosen {
            mean.iter_mut().zip(*row).for_each(|(m, v)| *m += v / n);
        }
        let unit: Vec<(u64, Vec<f32>)> = chosen
            .iter()
            .filter_map(|(key, row)| {
                let centred: Vec<f32> = row.iter().zip(&mean).map(|(v, m)| v - m).collect();
                let norm = dot(&centred, &centred).sqrt();
                norm.is_normal().then(|| (*key, centred.iter().map(|v| v / norm).collect()))
            })
            .collect();
        let mut cosines = Vec::with_capacity(unit.len() * unit.len() / 2);
        for (i, (_, x)) in unit.iter().enumerate() {
            cosines.extend(unit[i + 1..].iter().map(|(_, y)| (dot(x, y) * 127.0).round() as i8));
        }
        Self { keys: unit.into_iter().map(|(key, _)| key).collect(), cosines }
    }

    fn pairs(&self) -> impl Iterator<Item = ((u64, u64), f64)> {
        let keys = self.keys.iter().enumerate();
        let pairs = keys.flat_map(|(i, x)| self.keys[i + 1..].iter().map(move |y| (*x, *y)));
        pairs.zip(self.cosines.iter().map(|c| f64::from(*c) / 127.0))
    }
}

/// Mean cosine of token pairs over models that are not related to each other: what every model has because
/// tokens mean the same to it.
#[derive(Clone, Debug, Default)]
pub struct Population {
    sums: BTreeMap<(u64, u64), (f64, u32)>,
}

impl Population {
    /// Counts one model in.
    pub fn add(&mut self, gram: &TokenGram) {
        for (pair, cosine) in gram.pairs() {
            let (sum, n) = self.sums.entry(pair).or_default();
            *sum += cosine;
            *n += 1;
        }
    }

    fn mean(&self, pair: (u64, u64)) -> Option<f64> {
        self.sums.get(&pair).filter(|(_, n)| *n >= LEAST_POPULATION).map(|(sum, n)| sum / f64::from(*n))
    }
}

/// EAS: correlation of the Gram matrices over common tokens, minus the population's mean where it knows the
/// pair of tokens; without a population, as they are, which leaves what any two models share.
pub fn gram_correlation(
    a: &TokenGram,
    b: &TokenGram,
    population: Option<&Population>,
) -> Result<Figure, String> {
    let of_b: BTreeMap<(u64, u64), f64> = b.pairs().collect();
    let common: Vec<(f64, f64)> = a
        .pairs()
        .filter_map(|(pair, x)| {
            let y = of_b.get(&pair)?;
            let mean = population.map_or(Some(0.0), |p| p.mean(pair))?;
            Some((x - mean, y - mean))
        })
        .collect();
    if common.len() < LEAST_TOKENS * (LEAST_TOKENS - 1) / 2 {
        return Err(format!("fewer than {LEAST_TOKENS} tokens were read in both models"));
    }
    let n = common.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| common.iter().map(pick).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in &common {
        xy += (x - mx) * (y - my);
        xx += (x - mx).powi(2);
        yy += (y - my).powi(2);
    }
    if xx * yy <= 0.0 {
        return Err("the cosines of one model are all equal".into());
    }
    Ok(Figure::new(xy / (xx * yy).sqrt(), common.len()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Model;
    use super::*;

    fn profile(model: &Model) -> Profile {
        Profile::new(&model.samples(), 64)
    }

    #[test]
    fn other_places_of_the_dimensions_change_nothing() {
        let model = Model::random(1, 6, 96);
        let turned = model.with_dimensions(&(0..96).rev().collect::<Vec<_>>());
        let (a, b) = (profile(&model), profile(&turned));
        assert!(norm_distance(&a, &b).unwrap().value < 1e-3);
        assert!(energy_correlation(&a, &b).unwrap().value > 0.999);
        assert!(gram_correlation(&a.gram, &b.gram, None).unwrap().value > 0.999);
    }

    #[test]
    fn the_population_takes_out_what_all_models_share() {
        // Ten models whose tokens lie alike up to noise of their own; two of them are copies.
        let shared = Model::random(100, 1, 96);
        let models: Vec<Model> = (0..10).map(|seed| shared.tuned(0.8, seed)).collect();
        let mut population = Population::default();
        for model in &models {
            population.add(&profile(model).gram);
        }
        let between =
            |x: &Model, y: &Model, p| gram_correlation(&profile(x).gram, &profile(y).gram, p).unwrap().value;
        let (raw, centred) =
            (between(&models[0], &models[1], None), between(&models[0], &models[1], Some(&population)));
        assert!(raw > 0.4 && centred < 0.2, "{raw} {centred}");
        assert!(between(&models[0], &models[0].permuted(3), Some(&population)) > 0.99);
    }

    #[test]
    fn what_is_missing_has_a_reason() {
        let mut model = Model::random(1, 2, 96);
        model.outside.clear();
        let empty = profile(&model);
        assert!(norm_distance(&empty, &empty).unwrap_err().contains("embedding rows"));
        assert!(energy_correlation(&empty, &empty).unwrap_err().contains("four layers"));
        assert!(gram_correlation(&empty.gram, &empty.gram, None).unwrap_err().contains("tokens"));
    }
}
