//! From raw rows to centred unit columns, and how far the columns of one model correlate with each other.
//!
//! Centring is done within strata: runs of 32 neighbouring dimensions, even and odd ones apart. Models with
//! fixed sinusoidal positions add a smooth profile over the hidden dimensions (one half sine, one half
//! cosine, or alternating), which two independent runs share; it breaks the exchangeability that the test
//! rests on. Within a stratum the profile is nearly constant, so that its part of a column vanishes, at the
//! price of one degree of freedom a stratum.

use super::dot::squared_products;

/// Bound of winsorising, in normal-consistent median absolute deviations: a few outlier dimensions, which
/// every transformer has, must not carry the correlation alone.
const WINSOR: f32 = 4.0;
/// Ratio of the standard deviation of a normal distribution to its median absolute deviation.
const MAD_TO_SIGMA: f32 = 1.482_6;
/// Neighbouring dimensions that share two strata.
const RUN: usize = 32;

/// Strata of `d` dimensions: two a run, of which the last takes the rest; fewer than two runs are one stratum.
fn strata(d: usize) -> usize {
    let runs = d / RUN;
    if runs < 2 { 1 } else { 2 * runs }
}

/// Degrees of freedom of a column over `d` dimensions, at least 1: what the null variance divides by.
pub fn degrees_of_freedom(d: usize) -> f64 {
    d.saturating_sub(strata(d)).max(1) as f64
}

/// Winsorises at 4 MAD, centres within strata, and scales to unit length, in place. Returns `false`, leaving
/// the content unspecified, for a vector that carries no information: non-finite, constant, or more than
/// half equal.
pub fn standardise(x: &mut [f32]) -> bool {
    if x.len() < 2 || x.iter().any(|v| !v.is_finite()) {
        return false;
    }
    let mut ranks: Vec<i32> = x.iter().map(|v| rank(*v)).collect();
    let middle = median(&mut ranks);
    for (rank_of, v) in ranks.iter_mut().zip(x.iter()) {
        *rank_of = rank((v - middle).abs());
    }
    let bound = WINSOR * MAD_TO_SIGMA * median(&mut ranks);
    if bound <= 0.0 || !bound.is_finite() {
        return false;
    }
    for v in x.iter_mut() {
        *v = (*v - middle).clamp(-bound, bound);
    }
    let squares = if strata(x.len()) == 1 {
        centre::<1>(x, 0.0)
    } else {
        let (runs, last) = x.split_at_mut((x.len() / RUN - 1) * RUN);
        let squares = runs.chunks_exact_mut(RUN).fold(0.0, |squares, run| centre::<2>(run, squares));
        centre::<2>(last, squares)
    };
    let norm = squares.sqrt() as f32;
    if norm <= f32::MIN_POSITIVE || !norm.is_finite() {
        return false;
    }
    for v in x.iter_mut() {
        *v /= norm;
    }
    true
}

/// Centres each of the `STRATA` strata of a run, whose dimensions take turns. Returns `squares` and the squares of
/// what is left, added up in the order of the dimensions.
fn centre<const STRATA: usize>(run: &mut [f32], squares: f64) -> f64 {
    let n = |stratum: usize| (run.len() - stratum).div_ceil(STRATA) as f64;
    let numbers: [f64; STRATA] = std::array::from_fn(n);
    let mut sums = [0.0f64; STRATA];
    let (turns, rest) = run.as_chunks_mut::<STRATA>();
    for turn in turns.iter() {
        for (sum, v) in sums.iter_mut().zip(turn) {
            *sum += f64::from(*v);
        }
    }
    for (sum, v) in sums.iter_mut().zip(rest.iter()) {
        *sum += f64::from(*v);
    }
    let means: [f32; STRATA] = std::array::from_fn(|stratum| (sums[stratum] / numbers[stratum]) as f32);
    for turn in turns.iter_mut() {
        for (v, mean) in turn.iter_mut().zip(means) {
            *v -= mean;
        }
    }
    for (v, mean) in rest.iter_mut().zip(means) {
        *v -= mean;
    }
    run.iter().fold(squares, |squares, v| squares + f64::from(*v) * f64::from(*v))
}

/// An integer in the order of [`f32::total_cmp`], in which selecting takes half the time.
fn rank(v: f32) -> i32 {
    let bits = v.to_bits().cast_signed();
    // Negative numbers grow with their magnitude: all bits but the sign are turned over.
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

/// The upper median of the numbers with these ranks.
fn median(ranks: &mut [i32]) -> f32 {
    let middle = ranks.len() / 2;
    let at = *ranks.select_nth_unstable(middle).1;
    f32::from_bits((at ^ ((at >> 31).cast_unsigned() >> 1).cast_signed()).cast_unsigned())
}

/// The columns of one model over one dimension `d`, all centred and of unit length, one after the other.
#[derive(Default)]
pub struct Columns {
    d: usize,
    data: Vec<f32>,
}

impl Columns {
    /// Most columns whose correlations are averaged; evenly chosen beyond that. 512 columns of 8,192 are 2 GFLOP.
    const MOST: usize = 512;

    /// No columns yet, over `d` dimensions.
    pub fn new(d: usize) -> Self {
        Self { d, data: Vec::new() }
    }

    /// Standardises a vector and adds it; returns what it became. One that carries no information ([`standardise`])
    /// or is not over this dimension is left out.
    pub fn push(&mut self, vector: &[f32]) -> Option<&[f32]> {
        if vector.len() != self.d {
            return None;
        }
        let begin = self.data.len();
        self.data.extend_from_slice(vector);
        if standardise(&mut self.data[begin..]) {
            return Some(&self.data[begin..]);
        }
        self.data.truncate(begin);
        None
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.d).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Mean squared correlation between two different columns, 0 for fewer than two.
    ///
    /// It is the off-diagonal part of the null variance in the matched-column test: under a random
    /// permutation of the hidden dimensions of one model, `Var[tr(A'B)] = tr((A'A)(B'B)) / (d-1)`, and by
    /// Cauchy-Schwarz `tr((A'A)(B'B)) <= m + m(m-1) sqrt(r_a r_b)` with this value for each model. So one
    /// number a model replaces an m x m matrix, at the price of a slightly conservative test.
    pub fn mean_squared_correlation(&self) -> f32 {
        let all = self.len();
        if all < 2 {
            return 0.0;
        }
        let chosen: Vec<&[f32]> = if all <= Self::MOST {
            self.data.chunks_exact(self.d).collect()
        } else {
            (0..Self::MOST)
                .map(|i| i * all / Self::MOST)
                .map(|i| &self.data[i * self.d..(i + 1) * self.d])
                .collect()
        };
        let sum = squared_products(&chosen);
        let pairs = chosen.len() * (chosen.len() - 1) / 2;
        (sum / pairs as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::dot::dot;
    use super::*;

    #[test]
    fn the_median_is_that_of_the_sorted_numbers() {
        for n in [2usize, 3, 8, 101] {
            let mut x: Vec<f32> = (0..n).map(|i| (i as f32 * 2.3).sin() * 3.0 - 1.0).collect();
            x[0] = -0.0;
            let middle = median(&mut x.iter().map(|v| rank(*v)).collect::<Vec<_>>());
            x.sort_by(f32::total_cmp);
            assert_eq!(middle.to_bits(), x[n / 2].to_bits(), "{x:?}");
        }
    }

    /// By the definition: every dimension with the number of its stratum.
    fn standardised(x: &[f32]) -> Vec<f32> {
        let d = x.len();
        let upper_median = |mut x: Vec<f32>| {
            x.sort_by(f32::total_cmp);
            x[x.len() / 2]
        };
        let middle = upper_median(x.to_vec());
        let bound = WINSOR * MAD_TO_SIGMA * upper_median(x.iter().map(|v| (v - middle).abs()).collect());
        let mut x: Vec<f32> = x.iter().map(|v| (v - middle).clamp(-bound, bound)).collect();
        let runs = d / RUN;
        let stratum = |i: usize| if runs < 2 { 0 } else { 2 * (i / RUN).min(runs - 1) + i % 2 };
        for s in 0..strata(d) {
            let of_stratum: Vec<f64> = (0..d).filter(|i| stratum(*i) == s).map(|i| f64::from(x[i])).collect();
            let mean = (of_stratum.iter().sum::<f64>() / of_stratum.len() as f64) as f32;
            (0..d).filter(|i| stratum(*i) == s).for_each(|i| x[i] -= mean);
        }
        let norm = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt() as f32;
        x.into_iter().map(|v| v / norm).collect()
    }

    #[test]
    fn standardising_follows_its_definition_to_the_bit() {
        for d in [2, 31, 63, 64, 65, 97, 128, 1000] {
            let x: Vec<f32> = (0..d).map(|i| (i as f32 * 1.7).sin().powi(3) + 0.1 * i as f32).collect();
            let mut own = x.clone();
            assert!(standardise(&mut own));
            assert_eq!(own, standardised(&x), "{d}");
        }
    }

    #[test]
    fn standardised_is_centred_and_unit() {
        let mut x: Vec<f32> = (0..97).map(|i| (i as f32 * 0.7).sin() + 5.0).collect();
        x[3] = 1e6; // an outlier dimension
        assert!(standardise(&mut x));
        assert!(x.iter().sum::<f32>().abs() < 1e-4);
        assert!((dot(&x, &x) - 1.0).abs() < 1e-4);
        assert!(x[3] < 0.6, "the outlier kept {}", x[3]);
    }

    #[test]
    fn a_sinusoidal_profile_is_taken_out() {
        // Two columns that share nothing but a profile as sinusoidal positions leave it, in both spellings.
        // Two independent translation models correlate by .12 in their gains; this makes .3.
        let d = 512;
        let noise = |seed: u64, i: usize| {
            (crate::signals::hash::mix(seed * 1_000_003 + i as u64) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let frequency = |i: usize| (-(i as f32) / (d / 2) as f32 * 9.21).exp();
        let halves = |i: usize| if i < d / 2 { frequency(i) } else { 1.0 - frequency(i - d / 2) };
        let alternating =
            |i: usize| if i.is_multiple_of(2) { frequency(i / 2) } else { 1.0 - frequency(i / 2) };
        for profile in [&halves as &dyn Fn(usize) -> f32, &alternating] {
            let mut a: Vec<f32> = (0..d).map(|i| 0.6 * profile(i) + noise(1, i)).collect();
            let mut b: Vec<f32> = (0..d).map(|i| 0.6 * profile(i) + noise(2, i)).collect();
            assert!(standardise(&mut a) && standardise(&mut b));
            assert!(dot(&a, &b).abs() < 4.0 / degrees_of_freedom(d).sqrt() as f32, "{}", dot(&a, &b));
        }
    }

    #[test]
    fn vectors_without_information() {
        for mut x in [
            vec![1.0; 64],
            vec![f32::NAN, 1.0, 2.0],
            vec![1.0],
            vec![0.0, 0.0, 0.0, 9.0],
            vec![f32::MAX, f32::MIN],
        ] {
            let before = x.clone();
            assert!(!standardise(&mut x) || x.iter().all(|v| v.is_finite()), "{before:?}");
        }
    }

    #[test]
    fn squared_correlation_of_copies_is_one_and_of_noise_is_one_over_d() {
        let d = 256;
        let mut copies = Columns::new(d);
        let mut noise = Columns::new(d);
        let mut state = 1u64;
        for k in 0..40 {
            let same: Vec<f32> = (0..d).map(|i| (i as f32).sin()).collect();
            assert!(copies.push(&same).is_some());
            let x: Vec<f32> = (0..d)
                .map(|i| {
                    state = crate::signals::hash::mix(state ^ (k * 1000 + i as u64));
                    (state >> 40) as f32
                })
                .collect();
            assert!(noise.push(&x).is_some());
        }
        assert!(noise.push(&[1.0; 7]).is_none() && noise.push(&vec![1.0; d]).is_none());
        assert_eq!((copies.len(), noise.len()), (40, 40));
        assert!((copies.mean_squared_correlation() - 1.0).abs() < 1e-3);
        let expected = 1.0 / degrees_of_freedom(d) as f32;
        assert!((noise.mean_squared_correlation() / expected - 1.0).abs() < 0.25);
    }
}
