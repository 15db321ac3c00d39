//! The eight signals that users know by name, each with its value and what it rests on, or why it is absent.
//!
//! | name | what | value |
//! |---|---|---|
//! | MFI | metadata: config.json field by field | agreement, 0..=1 |
//! | TFV | tokenizer structure | agreement, 0..=1 |
//! | VOA | vocabulary overlap | Jaccard similarity of the tokens, 0..=1 |
//! | EAS | pairwise cosines of the tokens' embedding rows | their correlation, -1..=1 |
//! | END | spread of embedding norms | distance of the curves, 0 is equal |
//! | NLF | norm gains | mean correlation, -1..=1 |
//! | LEP | weights' size over depth | correlation of the curves, -1..=1 |
//! | WVC | weight values at the same place | mean correlation, -1..=1 |
//!
//! Only NLF and WVC have a null distribution, hence a z. Unrelated models are alike in the others,
//! too.

use super::battery::{NORM_GAINS, WEIGHT_BLOCKS};
use super::evidence::Evidence;
use super::profile::{self, Population, Profile};
use super::screen::Screening;
use super::signal::Figure;
use super::test::Test;
use super::tokenizer::TokenizerPrint;
use super::tokens::TokenKeys;

/// One of the eight.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Three letters.
    pub name: &'static str,
    /// The value, or why there is none.
    pub value: Result<Value, String>,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The figure; range and meaning are the signal's.
    pub value: f64,
    /// What entered: fields, components, tokens, pairs, blocks, curves.
    pub n: usize,
    /// Distance from what independent models give, in its standard deviations; standard error for estimates.
    pub significance: Option<Significance>,
}

/// How a value is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Significance {
    /// Standard deviations from the mean of independent models.
    Z(f64),
    /// Standard error of an estimate.
    Error(f64),
}

impl Significance {
    /// The z, where this is one.
    pub fn z(self) -> Option<f64> {
        if let Self::Z(z) = self { Some(z) } else { None }
    }

    /// The standard error, where this is one.
    pub fn error(self) -> Option<f64> {
        if let Self::Error(error) = self { Some(error) } else { None }
    }
}

/// A tokenizer; with its tokens where they are at hand.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// What the database has.
    pub print: &'a TokenizerPrint,
    /// Every token, for the exact overlap.
    pub keys: Option<&'a TokenKeys>,
}

/// The eight signals of a pair.
pub fn named(
    screening: &Screening,
    tokenizers: Result<(Tokens<'_>, Tokens<'_>), String>,
    profiles: Option<(&Profile, &Profile)>,
    evidence: &Evidence,
    population: Option<&Population>,
) -> Vec<Named> {
    let figure = |figure: Figure| Value { value: figure.value, n: figure.n, significance: None };
    let of_profiles = |measure: &dyn Fn(&Profile, &Profile) -> Result<Figure, String>| {
        let (a, b) = profiles.ok_or("the weights of one model cannot be read")?;
        measure(a, b).map(figure)
    };
    let effect = |test: &Test| match evidence.in_place.get(test) {
        Ok(e) => Ok(Value { value: e.value, n: e.cells, significance: Some(Significance::Z(e.z())) }),
        Err(reason) => Err(reason.to_owned()),
    };
    let agreement = |value| Value { value, n: screening.compared, significance: None };
    let mfi =
        screening.score.map(agreement).ok_or_else(|| "no field of config.json is in both models".into());
    let tfv = tokenizers.clone().map(|(a, b)| {
        let features = a.print.features(b.print);
        let n = features.components.iter().filter(|(_, agreement)| agreement.is_some()).count();
        Value { value: features.score(), n, significance: None }
    });
    let eas = |a: &Profile, b: &Profile| profile::gram_correlation(&a.gram, &b.gram, population);
    let values = [
        ("MFI", mfi),
        ("TFV", tfv),
        ("VOA", tokenizers.map(|(a, b)| overlap(a, b))),
        ("EAS", of_profiles(&eas)),
        ("END", of_profiles(&profile::norm_distance)),
        ("NLF", effect(&NORM_GAINS)),
        ("LEP", of_profiles(&profile::energy_correlation)),
        ("WVC", effect(&WEIGHT_BLOCKS)),
    ];
    values.into_iter().map(|(name, value)| Named { name, value }).collect()
}

fn overlap(a: Tokens<'_>, b: Tokens<'_>) -> Value {
    let n = a.print.tokens.min(b.print.tokens) as usize;
    if let (Some(x), Some(y)) = (a.keys, b.keys) {
        Value { value: x.overlap(y).jaccard(), n, significance: None }
    } else {
        let estimate = a.print.overlap(b.print);
        let error = Some(Significance::Error(estimate.standard_error));
        Value { value: estimate.jaccard, n, significance: error }
    }
}
