//! An adapter: differences to the weights of another model, which the file does not have.
//!
//! Recognised by what is in the files, whatever they are called. Each pair of thin matrices is one weight, the difference
//! that they make, under the name of the weight that they change.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::container::Tensors;
use crate::formats::low_rank::{self, LowRank, Side};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{Encoding, FileRange, Form, Weight};
use crate::store::AdapterFacts;

/// Most names of modules that are kept.
const MOST_TARGETS: usize = 32;

/// Kinds of adapters that are not read, by what the names of their tensors have in them.
const METHODS: [(&str, &str); 11] = [
    ("prompt_embeddings", "prompt tuning, which changes no weights"),
    ("adaption_prompt", "LLaMA-Adapter, which changes no weights"),
    ("hada_w1", "LoHa"),
    ("lokr_w1", "LoKr"),
    ("boft_", "BOFT"),
    ("oft_", "OFT"),
    ("ia3_l", "IA3"),
    ("vera_lambda", "VeRA"),
    ("randlora_", "RandLoRA"),
    ("lora_embedding_", "LoRA of embeddings alone"),
    ("lora_", UNKNOWN_MODULES),
];
/// Of an adapter that changes modules without a role.
pub(super) const UNKNOWN_MODULES: &str = "LoRA of modules that are not known";

/// Of which kind an adapter is that is not read.
pub(super) fn method<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let has = |mark: &str| names.clone().any(|name| name.contains(mark));
    METHODS.iter().find(|(mark, _)| has(mark)).map(|(_, method)| *method)
}

/// The tensors of an adapter.
#[derive(Debug)]
pub(super) struct Adapter {
    whole: Arc<dyn Tensors>,
    /// Of what its weights change.
    names: Vec<String>,
    facts: AdapterFacts,
}

/// What is in these files, as an adapter where it is one: where at least half of the tensors are pairs, and nothing has
/// the weights that they change.
pub(super) fn seen(whole: Arc<dyn Tensors>) -> Arc<dyn Tensors> {
    let (mut pairs, mut names) = (0usize, BTreeSet::new());
    for name in whole.names() {
        pairs += usize::from(low_rank::side(name).is_some());
        names.insert(name);
    }
    let changed = names.iter().filter_map(|name| low_rank::side(name));
    let has_base = changed.clone().any(|(layer, _)| {
        [".weight", ".base_layer.weight"].iter().any(|end| names.contains(format!("{layer}{end}").as_str()))
    });
    if pairs == 0 || 2 * pairs < names.len() || has_base {
        return whole;
    }
    let targets: BTreeSet<&str> = changed.map(|(layer, _)| module(layer)).collect();
    let targets = targets.into_iter().take(MOST_TARGETS).map(str::to_owned).collect();
    let mut adapter = Adapter {
        whole: Arc::clone(&whole),
        names: Vec::new(),
        facts: AdapterFacts { targets, ..AdapterFacts::default() },
    };
    let (pairs, others) = adapter.split(&QuantConfig::default(), &States::new());
    let mut ranks: BTreeMap<u64, usize> = BTreeMap::new();
    for rank in pairs.iter().filter_map(Pair::rank) {
        *ranks.entry(rank).or_default() += 1;
    }
    let rank = ranks.into_iter().max_by_key(|(_, n)| *n).map_or(0, |(rank, _)| rank);
    let rank = u32::try_from(rank).unwrap_or(u32::MAX);
    let names = pairs.iter().map(Pair::name).chain(others.into_iter().map(|weight| weight.name.into_owned()));
    let names = names.collect();
    (adapter.names, adapter.facts.rank) = (names, rank);
    Arc::new(adapter)
}

/// The module of a layer: `q_proj`, and of names whose parts are joined by underscores the end of it that has no number.
fn module(layer: &str) -> &str {
    let last = layer.rsplit('.').next().unwrap_or(layer);
    let number = last.rfind(|c: char| c.is_ascii_digit()).and_then(|at| last.get(at + 1..));
    number.map(|rest| rest.trim_start_matches('_')).filter(|rest| !rest.is_empty()).unwrap_or(last)
}

/// The two matrices of a layer.
#[derive(Default)]
struct Pair<'a> {
    layer: String,
    sides: BTreeMap<Side, Weight<'a>>,
}

impl<'a> Pair<'a> {
    fn name(&self) -> String {
        format!("{}.weight", self.layer)
    }

    fn rank(&self) -> Option<u64> {
        self.sides.get(&Side::Down)?.shape.first().copied()
    }

    /// As one weight.
    fn weight(mut self) -> Weight<'a> {
        let encoded = |side: Option<&Weight<'a>>| -> Option<(Arc<dyn Encoding>, FileRange, Vec<u64>)> {
            let side = side?;
            let Form::Stored(encoding) = &side.form else { return None };
            let [range] = side.parts.values().collect::<Vec<_>>()[..] else { return None };
            Some((Arc::clone(encoding), range.clone(), side.shape.to_vec()))
        };
        let elements = self.sides.values().fold(0u64, |sum, side| sum.saturating_add(side.elements));
        let found = encoded(self.sides.get(&Side::Down)).zip(encoded(self.sides.get(&Side::Up)));
        let parts =
            |down: FileRange, up: FileRange| BTreeMap::from([(Side::Down.key(), down), (Side::Up.key(), up)]);
        let name = Cow::Owned(self.name());
        let Some(((down, at_down, of_down), (up, at_up, of_up))) = found else {
            let parts = std::mem::take(&mut self.sides);
            let parts = parts
                .into_iter()
                .filter_map(|(side, weight)| Some((side.key(), weight.parts.into_values().next()?)));
            let form = Form::Unreadable("half of a low-rank difference".into());
            return Weight { name, shape: Cow::Owned(Vec::new()), parts: parts.collect(), elements, form };
        };
        let rows = of_up.first().copied().unwrap_or_default();
        match LowRank::new((down, &of_down), (up, &of_up)) {
            Ok(product) => {
                let shape = Cow::Owned(vec![rows, product.columns()]);
                Weight {
                    name,
                    shape,
                    parts: parts(at_down, at_up),
                    elements,
                    form: Form::Stored(Arc::new(product)),
                }
            }
            Err(reason) => {
                let shape = Cow::Owned(Vec::new());
                Weight { name, shape, parts: parts(at_down, at_up), elements, form: Form::Unreadable(reason) }
            }
        }
    }
}

impl Adapter {
    fn split(&self, config: &QuantConfig, states: &States) -> (Vec<Pair<'_>>, Vec<Weight<'_>>) {
        let mut pairs: BTreeMap<String, Pair<'_>> = BTreeMap::new();
        let mut others = Vec::new();
        for weight in self.whole.weights(config, states) {
            let Some((layer, side)) = low_rank::side(&weight.name) else {
                // Modules that were trained as a whole are no differences, and magnitudes no matrices: no role has such a
                // name.
                others.push(Weight { name: Cow::Owned(format!("saved.{}", weight.name)), ..weight });
                continue;
            };
            let layer = layer.to_owned();
            let pair = pairs.entry(layer.clone()).or_default();
            pair.layer = layer;
            pair.sides.insert(side, weight);
        }
        (pairs.into_values().collect(), others)
    }
}

impl Tensors for Adapter {
    fn files(&self) -> usize {
        self.whole.files()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.names.iter().map(String::as_str))
    }

    fn elements(&self) -> u64 {
        self.whole.elements()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.whole.metadata()
    }

    fn adapter(&self) -> Option<&AdapterFacts> {
        Some(&self.facts)
    }

    fn weights(&self, config: &QuantConfig, states: &States) -> Vec<Weight<'_>> {
        let (pairs, others) = self.split(config, states);
        pairs.into_iter().map(Pair::weight).chain(others).collect()
    }
}
