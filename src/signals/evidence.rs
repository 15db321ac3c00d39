//! What a comparison finds: its tests, and what is beside them.
//!
//! [`super::stored`] finds it from two fingerprints of the database, [`super::sampled`] from the weights
//! themselves, which also shows models whose hidden space has another basis. [`super::verdict`] judges it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::battery;
use super::coverage::{Coverage, Extent};
use super::layer_map::LayerPair;
use super::roles::Role;
use super::signal::{Effect, Signal};
use super::test::{Part, Test};

/// The tests under one correspondence of the hidden dimensions, and what fell out of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tests {
    /// In the order of the table that they are from.
    signals: Vec<(&'static Test, Signal)>,
    /// The layer map: (layer of a, layer of b, z).
    pub matched_layers: Vec<LayerPair>,
    /// Mean correlation of each matrix role at the same layer, where present.
    pub roles: BTreeMap<Role, f64>,
}

impl Tests {
    /// Of these tests, each as `measure` finds it; those that it does not make are left out.
    pub(super) fn new(tests: &[&'static Test], measure: impl Fn(&'static Test) -> Option<Signal>) -> Self {
        let signals = tests.iter().filter_map(|test| Some((*test, measure(test)?))).collect();
        Self { signals, ..Self::default() }
    }

    /// Each test with its signal, in report order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Test, &Signal)> {
        self.signals.iter().map(|(test, signal)| (*test, signal))
    }

    /// The effect of a test, or why there is none.
    pub fn get(&self, test: &Test) -> Result<Effect, &str> {
        match self.iter().find(|(made, _)| *made == test) {
            Some((_, Signal::Present(effect))) => Ok(*effect),
            Some((_, Signal::Absent(reason))) => Err(reason),
            None => Err("this test was not made"),
        }
    }

    /// The effect of a test, where present.
    pub fn effect(&self, test: &Test) -> Option<Effect> {
        self.get(test).ok()
    }

    /// The tests that are present and do not repeat another one.
    pub fn counted(&self) -> impl Iterator<Item = (&'static Test, Effect)> {
        let repeats = |test: &Test| test.repeats.is_some_and(|other| self.effect(other).is_some());
        self.iter()
            .filter_map(|(test, signal)| Some((test, signal.effect()?)))
            .filter(move |(test, _)| !repeats(test))
    }

    /// The same with another result of one test.
    pub(super) fn with(mut self, test: &Test, signal: Signal) -> Self {
        if let Some((_, old)) = self.signals.iter_mut().find(|(made, _)| *made == test) {
            *old = signal;
        }
        self
    }

    /// Widens deviations to what models known to be independent show, where that is more than theory
    /// says. Some families break the exchangeability of hidden dimensions; their controls show by how much.
    pub fn hold_against(&mut self, controls: &[Self]) {
        for (test, signal) in self.signals.iter_mut().filter(|(test, _)| test.widened) {
            let found: Vec<f64> = controls.iter().filter_map(|c| Some(c.effect(test)?.value)).collect();
            if let (Signal::Present(effect), true) = (signal, found.len() >= LEAST_CONTROLS) {
                let rms = (found.iter().map(|v| v * v).sum::<f64>() / found.len() as f64).sqrt();
                effect.sd = effect.sd.max(rms);
            }
        }
    }
}

/// Fewest controls whose spread says anything.
const LEAST_CONTROLS: usize = 3;

/// How hidden dimensions were found to correspond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Correspondence {
    /// One to one, by what they say about common tokens.
    #[serde(rename = "dimensions by tokens")]
    Tokens,
    /// One to one, by their norm gains.
    #[serde(rename = "dimensions by gains")]
    Gains,
    /// Not dimension by dimension: both spaces are seen through the embedding of common tokens.
    #[serde(rename = "rotation by tokens")]
    Rotation,
}

impl Correspondence {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "dimensions by tokens",
            Self::Gains => "dimensions by gains",
            Self::Rotation => "rotation by tokens",
        }
    }
}

/// The tests again, after the hidden dimensions were brought into correspondence.
#[derive(Clone, Debug, PartialEq)]
pub struct Realigned {
    /// How.
    pub by: Correspondence,
    /// Share of the dimensions that correspond ([`battery::HIDDEN_DIMENSIONS`]); a rotation has none.
    pub dimensions: Signal,
    /// The tests. What the correspondence was estimated from is absent in them.
    pub tests: Tests,
}

/// A way of descent that this comparison could not look for, so that it cannot be ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Open {
    /// The stored fingerprint shows no dimensions that are permuted, pruned or rotated.
    OtherBasis,
    /// No blocks in common.
    InPlace,
    /// Hidden dimensions in another order, or a subset of them.
    Permuted,
    /// Rotated hidden dimensions.
    Rotated,
}

impl Open {
    /// What is not ruled out, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherBasis => {
                "a copy with moved hidden dimensions that its rows do not show (compare the two models to test for it)"
            }
            Self::InPlace => "descent as such (no block of weights could be compared)",
            Self::Permuted => "a copy with permuted or pruned hidden dimensions",
            Self::Rotated => "a rotated copy",
        }
    }
}

/// Tensors that no test compares, by bytes from the middle of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Of how many both models have one of the same name and size.
    pub of: usize,
    /// Of how many of these the bytes are equal.
    pub equal: usize,
    /// One of the equal ones.
    pub example: Option<String>,
}

/// What became of the blocks that both models have, value by value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Blocks with equal values.
    pub equal: usize,
    /// Blocks that both models have.
    pub of: usize,
    /// Whether every block of b is that of a, rounded to 16 bits.
    pub b_is_cast: bool,
    /// Whether every block of a is that of b, rounded to 16 bits.
    pub a_is_cast: bool,
    /// Whether all norm gains are equal, up to rounding to 16 bits.
    pub gains: bool,
    /// Whether the blocks that differ do so by a factor for each column: gains folded into the next matrix,
    /// neurons scaled.
    pub rescaled: bool,
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u64);

impl Roles {
    /// Whether this one is in it.
    pub fn has(self, role: Role) -> bool {
        self.0 >> role as u8 & 1 == 1
    }

    /// Whether one of a layer's matrices is in it.
    pub fn has_matrices(self) -> bool {
        self.iter().any(Role::is_matrix)
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        // Codes end at 49.
        Self(roles.into_iter().fold(0, |set, role| set | 1 << role as u8))
    }
}

/// The shape of one model, from facts of its checkpoint and not from what of it was readable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Layers of the main stack.
    pub layers: u16,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
    /// Neurons of an MLP.
    pub inner_size: Option<u32>,
    /// Rows of a key projection: key heads, times their size.
    pub key_rows: Option<u32>,
    /// What was read.
    pub roles: Roles,
    /// How much of the model that is.
    pub extent: Extent,
    /// Whether the MLPs are experts.
    pub experts: bool,
}

impl Shape {
    /// Rows of the embedding that belong to a token; `None` where the tokenizer or the embedding is not known.
    pub fn tokens(&self) -> Option<u32> {
        Some(self.vocabulary?.min(self.extent.tokens?))
    }
}

/// The difference of two models at blocks that were read in detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Largest numerical rank among the blocks that differ; up to a quarter of the rows is told.
    pub rank: usize,
    /// Rows of the smallest of these blocks, which bound the rank.
    pub rows: usize,
}

impl Delta {
    /// Whether the rank is far below what the blocks could show.
    pub fn is_low(self) -> bool {
        self.rank > 0 && 4 * self.rank <= self.rows
    }
}

/// Everything that the verdict looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The shape of a.
    pub a: Shape,
    /// The shape of b.
    pub b: Shape,
    /// With hidden dimensions and tensors where they are.
    pub in_place: Tests,
    /// With hidden dimensions brought into correspondence.
    pub realigned: Vec<Realigned>,
    /// What could not be looked for.
    pub open: Vec<Open>,
    /// How much of a and of b was read, where it is known in full.
    pub coverage: [Option<Coverage>; 2],
    /// Blocks of equal bytes.
    pub reuse: Reuse,
    /// Tensors that no test compares.
    pub unread: Unread,
    /// Whether embeddings were held against each other: row by row, or in the search for another basis.
    pub embedding_compared: bool,
    /// Whether common tokens have other ids, where both tokenizers are known.
    pub tokens_renumbered: Option<bool>,
    /// The difference, where both have blocks that were read in detail.
    pub delta: Option<Delta>,
    /// One minus the largest correlation of blocks that differ: how fine the tests are.
    pub resolution: f64,
}

impl Evidence {
    /// No evidence, because weights cannot be read; `reason` says whose and why.
    pub fn unreadable(reason: &str) -> Self {
        Self {
            a: Shape::default(),
            b: Shape::default(),
            in_place: Tests::new(&battery::ALL, |_| Some(Signal::absent(reason))),
            realigned: Vec::new(),
            open: vec![Open::InPlace],
            coverage: [None, None],
            reuse: Reuse::default(),
            unread: Unread::default(),
            embedding_compared: false,
            tokens_renumbered: None,
            delta: None,
            resolution: 0.0,
        }
    }

    /// Whether a test of this part of the models could be made, in whatever basis.
    pub fn compares(&self, part: Part) -> bool {
        let all =
            std::iter::once(&self.in_place).chain(self.realigned.iter().map(|realigned| &realigned.tests));
        let has = |tests: &Tests| tests.counted().any(|(test, _)| test.part == part);
        all.into_iter().any(has) || (part == Part::Embedding && self.embedding_compared)
    }

    /// The similarity of the two models, which they are ranked by; `None` where no matrices were compared: gains alone
    /// are next to none of a model, and its embedding is that of many.
    pub fn similarity(&self) -> Option<f64> {
        self.body_effect().filter(|_| self.compares(Part::Matrices))
    }

    /// The effect that the whole body of weights shows in place or, where that tells more, in any basis.
    pub fn body_effect(&self) -> Option<f64> {
        let counted = || self.in_place.counted();
        let body =
            counted().filter(|(test, _)| test.similarity.is_some()).min_by_key(|(test, _)| test.similarity);
        let effects =
            body.into_iter().chain(counted().filter(|(test, _)| test.invariant)).map(|(_, effect)| effect);
        effects.min_by(|x, y| x.ln_p().total_cmp(&y.ln_p())).map(|e| e.value)
    }
}
