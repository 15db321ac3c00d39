//! From raw rows to centred unit columns, and how far the columns of one model resemble each other.
//!
//! Centring is done within strata: runs of 32 neighbouring dimensions, even and odd ones apart. Models with
//! fixed sinusoidal positions add a smooth profile over the hidden dimensions (one half sine, one half
//! cosine, or alternating), which two independent runs share; it breaks the exchangeability that the test
//! rests on. Within a stratum the profile is nearly constant, so that its part of a column vanishes, at the
//! price of one degree of freedom a stratum.

/// Bound of winsorising, in normal-consistent median absolute deviations: a few outlier dimensions, which
/// every transformer has, must not carry the correlation alone.
const WINSOR: f32 = 4.0;
/// Ratio of the standard deviation of a normal distribution to its median absolute deviation.
const MAD_TO_SIGMA: f32 = 1.482_6;
/// Neighbouring dimensions that share two strata.
const RUN: usize = 32;

/// The stratum of dimension `i` of `d`. The last run takes the rest; fewer than two runs are one stratum.
fn stratum(i: usize, d: usize) -> usize {
    let runs = d / RUN;
    if runs < 2 { 0 } else { 2 * (i / RUN).min(runs - 1) + i % 2 }
}

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
    let mut scratch = x.to_vec();
    let middle = median(&mut scratch);
    for (s, v) in scratch.iter_mut().zip(x.iter()) {
        *s = (v - middle).abs();
    }
    let bound = WINSOR * MAD_TO_SIGMA * median(&mut scratch);
    if bound <= 0.0 || !bound.is_finite() {
        return false;
    }
    let d = x.len();
    let mut sums = vec![(0.0f64, 0u32); strata(d)];
    for (i, v) in x.iter_mut().enumerate() {
        *v = (*v - middle).clamp(-bound, bound);
        let (sum, n) = &mut sums[stratum(i, d)];
        *sum += f64::from(*v);
        *n += 1;
    }
    let mut squares = 0.0f64;
    for (i, v) in x.iter_mut().enumerate() {
        let (sum, n) = sums[stratum(i, d)];
        *v -= (sum / f64::from(n)) as f32;
        squares += f64::from(*v) * f64::from(*v);
    }
    let norm = squares.sqrt() as f32;
    if norm <= f32::MIN_POSITIVE || !norm.is_finite() {
        return false;
    }
    for v in x.iter_mut() {
        *v /= norm;
    }
    true
}

fn median(x: &mut [f32]) -> f32 {
    let middle = x.len() / 2;
    *x.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The columns of one model over one dimension `d`, all centred and of unit length, one after the other.
#[derive(Default)]
pub struct Columns {
    d: usize,
    data: Vec<f32>,
}

impl Columns {
    /// Most columns that enter the resemblance; evenly chosen beyond that. 512 columns of 8,192 are 2 GFLOP.
    const MOST: usize = 512;

    /// No columns yet, over `d` dimensions.
    pub fn new(d: usize) -> Self {
        Self { d, data: Vec::new() }
    }

    /// Adds a standardised column; one of another length is not over this dimension and is left out.
    pub fn push(&mut self, column: &[f32]) {
        if column.len() == self.d {
            self.data.extend_from_slice(column);
        }
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
    pub fn resemblance(&self) -> f32 {
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
        let mut sum = 0.0f64;
        for (i, a) in chosen.iter().enumerate() {
            for b in &chosen[..i] {
                let r = dot(a, b);
                sum += f64::from(r * r);
            }
        }
        let pairs = chosen.len() * (chosen.len() - 1) / 2;
        (sum / pairs as f64) as f32
    }
}

/// Inner product in eight lanes, which the compiler turns into vector instructions.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0f32; 8];
    for (x, y) in a8.iter().zip(b8) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (crate::signals::sketch::mix(seed * 1_000_003 + i as u64) >> 40) as f32 / (1u64 << 24) as f32
                - 0.5
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
    fn resemblance_of_copies_is_one_and_of_noise_is_one_over_d() {
        let d = 256;
        let mut copies = Columns::new(d);
        let mut noise = Columns::new(d);
        let mut state = 1u64;
        for k in 0..40 {
            let mut same: Vec<f32> = (0..d).map(|i| (i as f32).sin()).collect();
            standardise(&mut same);
            copies.push(&same);
            let mut x: Vec<f32> = (0..d)
                .map(|i| {
                    state = crate::signals::sketch::mix(state ^ (k * 1000 + i as u64));
                    (state >> 40) as f32
                })
                .collect();
            standardise(&mut x);
            noise.push(&x);
        }
        assert!((copies.resemblance() - 1.0).abs() < 1e-3);
        let expected = 1.0 / degrees_of_freedom(d) as f32;
        assert!((noise.resemblance() / expected - 1.0).abs() < 0.25);
    }
}
