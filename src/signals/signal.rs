//! The result of one test: an effect with its null deviation, or the reason why there is none.

use super::normal;

/// Deviation stated for a share of matches. Chance alone would give far less ([`super::matching`] expects a
/// thousandth of one match), but a few privileged dimensions or rows that every model has must not count.
const SHARE_DEVIATION: f64 = 0.02;
/// No share deviates by more.
const WIDEST: f64 = 0.5;

/// Result of one test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Mean matched correlation, in -1..=1, or a share of matches, in 0..=1.
    pub value: f64,
    /// Its standard deviation under the null.
    pub sd: f64,
    /// Cells (blocks of rows) or matches that entered.
    pub cells: usize,
    /// Part of the matches that have another number in the other model, 0..=1; 0 where only what has the same number
    /// is compared.
    pub elsewhere: f64,
    /// `ln` of the number of hypotheses that this one was chosen from; 0 for a fixed one.
    pub ln_choices: f64,
}

impl Effect {
    /// A mean correlation over so many cells.
    pub(super) fn correlation(value: f64, sd: f64, cells: usize) -> Self {
        Self { value, sd, cells, elsewhere: 0.0, ln_choices: 0.0 }
    }

    /// A share of what could have been matched, from so many matches, of which so many have another number in the
    /// other model.
    pub(super) fn share(value: f64, matches: usize, elsewhere: usize) -> Self {
        let elsewhere = elsewhere as f64 / matches.max(1) as f64;
        Self { value, sd: SHARE_DEVIATION, cells: matches, elsewhere, ln_choices: 0.0 }
    }

    /// The same with a deviation that gives no smaller p-value than this, in logarithms: where counts are small, what is
    /// exact is less sure. But no share deviates by more than a half.
    #[must_use]
    pub(super) fn no_surer_than(self, ln_p: f64) -> Self {
        let z = normal::deviation(ln_p);
        if self.z() > z { Self { sd: (self.value / z).min(WIDEST), ..self } } else { self }
    }

    /// `value / sd`.
    pub fn z(&self) -> f64 {
        self.value / self.sd
    }

    /// `ln` of the one-sided p-value, corrected for the choices (Bonferroni); at most 0.
    pub fn ln_p(&self) -> f64 {
        (normal::ln_upper_tail(self.z()) + self.ln_choices).min(0.0)
    }
}

/// A figure without a null distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The value; its meaning and range are the signal's.
    pub value: f64,
    /// What entered: points, roles, pairs, tokens.
    pub n: usize,
}

impl Figure {
    pub(super) fn new(value: f64, n: usize) -> Self {
        Self { value, n }
    }
}

/// One signal of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// It could be computed.
    Present(Effect),
    /// It could not; the text says why, for the report.
    Absent(String),
}

impl Signal {
    /// The effect, where present.
    pub fn effect(&self) -> Option<Effect> {
        match self {
            Self::Present(effect) => Some(*effect),
            Self::Absent(_) => None,
        }
    }

    pub(super) fn absent(reason: impl Into<String>) -> Self {
        Self::Absent(reason.into())
    }

    pub(super) fn or_absent(effect: Option<Effect>, reason: &str) -> Self {
        effect.map_or_else(|| Self::absent(reason), Self::Present)
    }
}
