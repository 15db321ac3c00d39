//! The normal distribution: tails and the interval likelihood that the verdict needs, in logarithms.

use std::f64::consts::{PI, SQRT_2};

/// Upper tail probability of a standard normal, `P(Z > z)`.
pub fn upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / SQRT_2)
}

/// Natural logarithm of [`upper_tail`], also where the tail itself underflows.
pub fn ln_upper_tail(z: f64) -> f64 {
    if z < 30.0 {
        upper_tail(z).ln()
    } else {
        // First terms of the asymptotic series, Abramowitz and Stegun 26.2.12; relative error below 1e-5 here.
        -z * z / 2.0 - z.ln() - (2.0 * PI).ln() / 2.0 + (1.0 / (z * z)).mul_add(-1.0, 1.0).ln()
    }
}

/// The deviation whose [`ln_upper_tail`] this is, 0 for tails of a half and more; by bisection.
pub fn deviation(ln_p: f64) -> f64 {
    if ln_p == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    // ln P(Z > z) is at most -z^2 / 2.
    let (mut low, mut high) = (0.0, (-2.0 * ln_p).max(0.0).sqrt());
    // As many halvings as a number has bits.
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if ln_upper_tail(middle) > ln_p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Natural logarithm of the probability of `least` or more successes in so many trials of probability `p`, which is
/// neither 0 nor 1.
pub fn ln_binomial_tail(least: u64, trials: u64, p: f64) -> f64 {
    if least == 0 {
        return 0.0;
    }
    let ln_factorial = |n: u64| libm::lgamma(n as f64 + 1.0);
    let terms = (least..=trials).map(|k| {
        let ways = ln_factorial(trials) - ln_factorial(k) - ln_factorial(trials - k);
        ways + k as f64 * p.ln() + (trials - k) as f64 * (-p).ln_1p()
    });
    let terms: Vec<f64> = terms.collect();
    let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (most + terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln()).min(0.0)
}

/// `ln(Phi(b) - Phi(a))` for `a < b`, stable in both tails.
pub fn ln_interval(a: f64, b: f64) -> f64 {
    // Work in the tail where both values are small.
    let (lo, hi) = if a + b < 0.0 { (-b, -a) } else { (a, b) };
    let (upper_lo, upper_hi) = (ln_upper_tail(lo), ln_upper_tail(hi));
    upper_lo + (-((upper_hi - upper_lo).exp())).ln_1p()
}

/// The value below which a standard normal lies with probability `p` in 0..1, by bisection of [`upper_tail`]
/// to 1e-9.
pub fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    while high - low > 1e-9 {
        let middle = f64::midpoint(low, high);
        if 1.0 - upper_tail(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Normal scores of the ranks of a vector of one length: what remains of it when its distribution is taken out.
pub struct Scores {
    /// That of `r` half ranks at `r - 1`; ties have half ranks.
    quantiles: Vec<f32>,
}

impl Scores {
    /// For vectors of length `d`.
    pub fn new(d: usize) -> Self {
        Self { quantiles: (1..2 * d).map(|r| quantile(r as f64 / (2 * d) as f64) as f32).collect() }
    }

    /// The scores of `x`, ties at their mean rank; empty for a vector of another length.
    pub fn of(&self, x: &[f32]) -> Vec<f32> {
        if 2 * x.len() != self.quantiles.len() + 1 {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_unstable_by(|i, j| x[*i].total_cmp(&x[*j]));
        let mut scores = vec![0.0; x.len()];
        let mut begin = 0;
        while begin < order.len() {
            let mut end = begin + 1;
            while end < order.len() && x[order[end]] == x[order[begin]] {
                end += 1;
            }
            order[begin..end].iter().for_each(|i| scores[*i] = self.quantiles[begin + end - 1]);
            begin = end;
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_counts() {
        // 10 of 10 fair coins, and 9 or 10.
        assert!((ln_binomial_tail(10, 10, 0.5) - 0.5_f64.powi(10).ln()).abs() < 1e-9);
        assert!((ln_binomial_tail(9, 10, 0.5) - (11.0 * 0.5_f64.powi(10)).ln()).abs() < 1e-9);
        assert_eq!((ln_binomial_tail(0, 5, 0.1), ln_binomial_tail(6, 5, 0.1)), (0.0, f64::NEG_INFINITY));
        for z in [0.5, 4.0, 12.0, 40.0] {
            assert!((deviation(ln_upper_tail(z)) - z).abs() < 1e-3 * z, "{z}");
        }
        assert_eq!(deviation(0.0), 0.0);
    }

    #[test]
    fn known_tails() {
        assert!((upper_tail(1.959_963_985) - 0.025).abs() < 1e-9);
        assert!((ln_upper_tail(5.0) - 2.866_515_72e-7_f64.ln()).abs() < 1e-6);
        // Continuous where the series takes over.
        assert!((ln_upper_tail(29.999) - ln_upper_tail(30.001)).abs() < 0.1);
        assert!((ln_interval(-1.0, 1.0) - 0.682_689_492_f64.ln()).abs() < 1e-8);
        assert!((quantile(0.975) - 1.959_963_985).abs() < 1e-8 && quantile(0.5).abs() < 1e-8);
        let scores = Scores::new(4).of(&[7.0, -1.0, 7.0, 9.0]);
        assert!(scores[0] == scores[2] && scores[0].abs() < 1e-6 && scores[1] == -scores[3], "{scores:?}");
        assert!(Scores::new(4).of(&[1.0]).is_empty() && Scores::new(0).of(&[]).is_empty());
        assert!((ln_interval(40.0, 50.0) - ln_upper_tail(40.0)).abs() < 1e-9);
        assert!((ln_interval(-50.0, -40.0) - ln_upper_tail(40.0)).abs() < 1e-9);
    }
}
