//! What a comparison finds: effect sizes with their null deviation, or the reason why there is none.
//!
//! [`super::stored`] finds it from two fingerprints of the database, [`super::sampled`] from the weights
//! themselves, which also shows models whose hidden dimensions were moved. [`super::verdict`] judges it.

use std::collections::BTreeMap;

use super::normal;

/// Result of one test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Mean matched correlation, in -1..=1, or a share of matches, in 0..=1.
    pub value: f64,
    /// Its standard deviation under the null.
    pub sd: f64,
    /// Cells (blocks of rows) or matches that entered.
    pub cells: usize,
    /// `ln` of the number of hypotheses that this one was chosen from; 0 for a fixed one.
    pub ln_choices: f64,
}

impl Effect {
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

    pub(super) fn or_absent(effect: Option<Effect>, reason: &str) -> Self {
        effect.map_or_else(|| Self::Absent(reason.into()), Self::Present)
    }
}

/// The tests of matched columns, under one correspondence of the hidden dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tests {
    /// Gains of all norms, layer by layer.
    pub norm_gains: Signal,
    /// Matrix blocks at the same layer and position: the sampled parameter cosine.
    pub weight_blocks: Signal,
    /// Layers along the best order-keeping layer map.
    pub layer_map: Signal,
    /// Embedding rows of the same tokens.
    pub embedding: Signal,
    /// Share of matrix rows that are rows of the same matrix in the other model, in any order.
    pub rows: Signal,
    /// Part of these rows that have another number there.
    pub rows_moved: f64,
    /// Share of MLP neurons that are neurons of the same layer in the other model, in any order, by their codes.
    pub neurons: Signal,
    /// Part of these neurons that have another number there.
    pub neurons_moved: f64,
    /// Inner products of matrix rows with each other, which say the same whatever becomes of the hidden dimensions: no
    /// correspondence has a test of its own.
    pub row_products: Signal,
    /// The layer map itself: (layer of a, layer of b, z).
    pub matched_layers: Vec<(u16, u16, f64)>,
    /// Mean correlation of each matrix role at the same layer, where present.
    pub roles: BTreeMap<&'static str, f64>,
}

impl Tests {
    /// Every test absent for one reason.
    pub(super) fn absent(reason: &str) -> Self {
        let absent = || Signal::Absent(reason.to_owned());
        Self {
            norm_gains: absent(),
            weight_blocks: absent(),
            layer_map: absent(),
            embedding: absent(),
            rows: absent(),
            rows_moved: 0.0,
            neurons: absent(),
            neurons_moved: 0.0,
            row_products: absent(),
            matched_layers: Vec::new(),
            roles: BTreeMap::new(),
        }
    }

    /// The signals by name, in report order.
    pub fn signals(&self) -> [(&'static str, &Signal); 7] {
        [
            ("norm_gains", &self.norm_gains),
            ("weight_blocks", &self.weight_blocks),
            ("layer_map", &self.layer_map),
            ("embedding", &self.embedding),
            ("rows", &self.rows),
            ("neurons", &self.neurons),
            ("row_products", &self.row_products),
        ]
    }
}

/// How hidden dimensions were found to correspond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correspondence {
    /// One to one, by what they say about common tokens.
    Tokens,
    /// One to one, by their norm gains.
    Gains,
    /// Not dimension by dimension: both spaces are seen through the embedding of common tokens.
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
    /// Share of the dimensions that correspond; a rotation has none.
    pub dimensions: Signal,
    /// The tests. What the correspondence was estimated from is absent in them.
    pub tests: Tests,
}

/// A way of descent that this comparison could not look for, so that it cannot be ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Open {
    /// The stored fingerprint does not show moved dimensions.
    Moved,
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
            Self::Moved => {
                "a copy with moved hidden dimensions that its rows do not show (compare the two models to test for it)"
            }
            Self::InPlace => "descent as such (no block of weights could be compared)",
            Self::Permuted => "a copy with permuted or pruned hidden dimensions",
            Self::Rotated => "a rotated copy",
        }
    }
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

/// The shape of one model, from its tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Layers of the main stack.
    pub layers: u16,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
    /// Neurons of an MLP.
    pub inner_size: Option<u32>,
    /// Whether the MLPs are experts.
    pub experts: bool,
    /// Whether the matrices are packed or lie on a grid of few values.
    pub quantised: bool,
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
    /// Blocks of equal bytes.
    pub reuse: Reuse,
    /// Whether common tokens have other ids, where both tokenizers are known.
    pub tokens_moved: Option<bool>,
    /// The difference, where both have blocks that were read in detail.
    pub delta: Option<Delta>,
    /// One minus the largest correlation of blocks that differ: how fine the tests are.
    pub resolution: f64,
}

/// Fewest controls whose spread says anything.
const LEAST_CONTROLS: usize = 3;

impl Tests {
    /// Widens every deviation to what models known to be independent show, where that is more than theory
    /// says. Some families break the exchangeability of hidden dimensions; their controls show by how much.
    pub fn hold_against(&mut self, controls: &[Self]) {
        let widen = |signal: &mut Signal, of: fn(&Self) -> &Signal| {
            let found: Vec<f64> = controls.iter().filter_map(|c| Some(of(c).effect()?.value)).collect();
            if let (Signal::Present(effect), true) = (signal, found.len() >= LEAST_CONTROLS) {
                let rms = (found.iter().map(|v| v * v).sum::<f64>() / found.len() as f64).sqrt();
                effect.sd = effect.sd.max(rms);
            }
        };
        widen(&mut self.norm_gains, |t| &t.norm_gains);
        widen(&mut self.weight_blocks, |t| &t.weight_blocks);
        widen(&mut self.layer_map, |t| &t.layer_map);
        widen(&mut self.embedding, |t| &t.embedding);
        widen(&mut self.row_products, |t| &t.row_products);
    }
}

impl Evidence {
    /// No evidence, because weights cannot be read; `reason` says whose and why.
    pub fn unreadable(reason: &str) -> Self {
        Self {
            a: Shape::default(),
            b: Shape::default(),
            in_place: Tests::absent(reason),
            realigned: Vec::new(),
            open: vec![Open::InPlace],
            reuse: Reuse::default(),
            tokens_moved: None,
            delta: None,
            resolution: 0.0,
        }
    }

    /// The effect that the whole body of weights shows, in place or, where that tells more, moved: what models are
    /// ranked by.
    pub fn body_effect(&self) -> Option<f64> {
        let tests = &self.in_place;
        let body = if self.a.layers == self.b.layers { &tests.weight_blocks } else { &tests.layer_map };
        let in_place = body.effect().or(tests.norm_gains.effect()).or(tests.embedding.effect());
        let effects = in_place.into_iter().chain(tests.row_products.effect());
        effects.min_by(|x, y| x.ln_p().total_cmp(&y.ln_p())).map(|e| e.value)
    }
}
