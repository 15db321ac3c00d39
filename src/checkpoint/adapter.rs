//! An adapter: differences to the weights of another model, which the file does not have.
//!
//! Recognised by what is in the files, whatever they are called. Each pair of thin matrices is one weight, the difference
//! that they make, under the name of the weight that they change.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::container::Tensors;
use crate::formats::low_rank::{self, Half, LowRank, Side, Turned};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{Encoding, Form, Weight};
use crate::store::AdapterFacts;

/// Most names of modules that are kept.
const MOST_TARGETS: usize = 32;

/// Kinds of adapters that are not read, by how a component of the names of their tensors begins.
const METHODS: [(&str, &str); 13] = [
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
    ("lora_a", UNKNOWN_MODULES),
    ("lora_A", UNKNOWN_MODULES),
    ("lora_down", UNKNOWN_MODULES),
];
/// Of an adapter that changes modules without a role.
pub(super) const UNKNOWN_MODULES: &str = "LoRA of modules that are not known";

/// Whether this is one of the differences of an adapter, and not what lies beside them.
pub(super) fn is_difference(weight: &Weight<'_>) -> bool {
    [Side::Down, Side::Up].iter().any(|side| weight.parts.contains_key(side.key()))
}

/// Of which kind an adapter is that is not read; `None` where the names are not those of one.
pub(super) fn method(names: &[&str]) -> Option<&'static str> {
    let has = |mark: &str| names.iter().any(|name| name.split('.').any(|part| part.starts_with(mark)));
    METHODS.iter().find(|(mark, _)| has(mark)).map(|(_, method)| *method)
}

/// The tensors of an adapter.
#[derive(Debug)]
pub(super) struct Adapter {
    whole: Arc<dyn Tensors>,
    /// Which of several adapters in the files it is; those that are not are a part of what is not read.
    own: String,
    /// Of what its weights change.
    names: Vec<String>,
    facts: AdapterFacts,
}

/// What is in these files, as an adapter where it is one: where at least half of the tensors are pairs, and nothing has
/// the weights that they change.
pub(super) fn seen(whole: Arc<dyn Tensors>) -> Arc<dyn Tensors> {
    let names: BTreeSet<&str> = whole.names().collect();
    let halves: Vec<Half<'_>> = names.iter().filter_map(|name| low_rank::half(name)).collect();
    let has_base = halves.iter().any(|half| {
        let of_layer = [".weight", ".base_layer.weight"].map(|end| format!("{}{end}", half.layer));
        of_layer.iter().any(|name| names.contains(name.as_str()))
    });
    if halves.is_empty() || 2 * halves.len() < names.len() || has_base {
        return whole;
    }
    let mut adapters: BTreeMap<&str, usize> = BTreeMap::new();
    for half in &halves {
        *adapters.entry(half.adapter).or_default() += 1;
    }
    // The largest, and of equals the first by name.
    let own = adapters.into_iter().min_by_key(|(_, n)| Reverse(*n)).map_or("", |(name, _)| name).to_owned();
    let targets: BTreeSet<&str> =
        halves.iter().filter(|half| half.adapter == own).map(|half| module(half.layer)).collect();
    let targets = targets.into_iter().take(MOST_TARGETS).map(str::to_owned).collect();
    let facts = AdapterFacts { targets, ..AdapterFacts::default() };
    let mut adapter = Adapter { whole: Arc::clone(&whole), own, names: Vec::new(), facts };
    let (pairs, beside) = adapter.split(&QuantConfig::default(), &States::new());
    let mut ranks: BTreeMap<u64, usize> = BTreeMap::new();
    for rank in pairs.iter().filter_map(Pair::rank) {
        *ranks.entry(rank).or_default() += 1;
    }
    let rank = ranks.into_iter().max_by_key(|(_, n)| *n).map_or(0, |(rank, _)| rank);
    let names = pairs.iter().map(Pair::name).chain(beside.into_iter().map(|weight| weight.name.into_owned()));
    let names = names.collect();
    (adapter.names, adapter.facts.rank) = (names, u32::try_from(rank).unwrap_or(u32::MAX).max(1));
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

/// How one of them is stored.
struct Thin {
    encoding: Arc<dyn Encoding>,
    shape: Vec<u64>,
}

impl<'a> Pair<'a> {
    fn name(&self) -> String {
        format!("{}.weight", self.layer)
    }

    fn rank(&self) -> Option<u64> {
        self.sides.get(&Side::Down)?.shape.first().copied().filter(|rank| *rank > 0)
    }

    /// As one weight.
    fn weight(self) -> Weight<'a> {
        let (shape, form) = match self.product() {
            Ok((shape, product)) => (shape, Form::Stored(Arc::new(product))),
            Err(reason) => (Vec::new(), Form::Unreadable(reason)),
        };
        let name = Cow::Owned(self.name());
        let elements = self.sides.values().fold(0u64, |sum, side| sum.saturating_add(side.elements));
        let parts = self.sides.into_iter();
        let parts = parts.filter_map(|(side, half)| Some((side.key(), half.parts.into_values().next()?)));
        Weight { name, shape: Cow::Owned(shape), parts: parts.collect(), elements, form }
    }

    /// The product and its shape; why there is none in the words of a report.
    fn product(&self) -> Result<(Vec<u64>, LowRank), String> {
        let (down, up) = (self.thin(Side::Down)?, self.thin(Side::Up)?);
        let rows = up.shape.first().copied().unwrap_or_default();
        let product = LowRank::new((down.encoding, &down.shape), (up.encoding, &up.shape))?;
        Ok((vec![rows, product.columns()], product))
    }

    fn thin(&self, side: Side) -> Result<Thin, String> {
        let half =
            self.sides.get(&side).ok_or_else(|| format!("a low-rank difference without {}", side.key()))?;
        match &half.form {
            Form::Stored(encoding) if half.parts.len() == 1 => {
                Ok(Thin { encoding: Arc::clone(encoding), shape: half.shape.to_vec() })
            }
            Form::Unreadable(reason) => Err(reason.clone()),
            _ => Err("a low-rank difference whose matrices are packed".into()),
        }
    }
}

/// A matrix that is stored as `[columns, rows]`, as what it is.
fn turned(weight: Weight<'_>) -> Weight<'_> {
    let (shape, form) = match (&*weight.shape, weight.form) {
        (&[rows, columns], Form::Stored(stored)) => {
            (vec![columns, rows], Form::Stored(Arc::new(Turned::new(stored, (rows, columns)))))
        }
        // Of several experts in one tensor.
        (shape, Form::Stored(_)) => {
            (shape.to_vec(), Form::Unreadable("a low-rank difference of several matrices at once".into()))
        }
        (shape, form) => (shape.to_vec(), form),
    };
    Weight { shape: Cow::Owned(shape), form, ..weight }
}

impl Adapter {
    /// The differences of this adapter, and what else there is. Modules that were trained as a whole and magnitudes are no
    /// differences, nor are those of another adapter these.
    fn split(&self, config: &QuantConfig, states: &States) -> (Vec<Pair<'_>>, Vec<Weight<'_>>) {
        let mut pairs: BTreeMap<String, Pair<'_>> = BTreeMap::new();
        let mut beside = Vec::new();
        for weight in self.whole.weights(config, states) {
            let own = low_rank::half(&weight.name).filter(|half| half.adapter == self.own);
            let own = own.map(|half| (half.layer.to_owned(), half.side, half.is_turned));
            let Some((layer, side, is_turned)) = own else {
                beside.push(weight);
                continue;
            };
            let pair = pairs.entry(layer.clone()).or_default();
            pair.layer = layer;
            pair.sides.insert(side, if is_turned { turned(weight) } else { weight });
        }
        (pairs.into_values().collect(), beside)
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

    fn needs_config(&self) -> bool {
        self.whole.needs_config()
    }

    fn weights(&self, config: &QuantConfig, states: &States) -> Vec<Weight<'_>> {
        let (pairs, beside) = self.split(config, states);
        pairs.into_iter().map(Pair::weight).chain(beside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::containers::safetensors::Headers;
    use super::*;
    use crate::formats::{Dtype, Header, TensorInfo};

    fn tensors(list: &[(&str, &[u64])]) -> Arc<dyn Tensors> {
        let mut end = 0;
        let tensors = list.iter().map(|(name, shape)| {
            let bytes = end..end + 4 * shape.iter().product::<u64>();
            end = bytes.end;
            TensorInfo { name: (*name).to_owned(), dtype: Some(Dtype::F32), shape: shape.to_vec(), bytes }
        });
        Arc::new(Headers(vec![Header { tensors: tensors.collect(), metadata: BTreeMap::new(), len: 8 }]))
    }

    fn weights(tensors: &Arc<dyn Tensors>) -> Vec<(String, Vec<u64>, u64)> {
        let weights = tensors.weights(&QuantConfig::default(), &States::new());
        weights.into_iter().map(|w| (w.name.into_owned(), w.shape.into_owned(), w.elements)).collect()
    }

    #[test]
    fn pairs_are_weights_and_the_rest_is_beside() {
        let found = seen(tensors(&[
            ("m.layers.0.q_proj.lora_A.weight", &[2, 8]),
            ("m.layers.0.q_proj.lora_B.weight", &[16, 2]),
            ("m.layers.0.q_proj.lora_magnitude_vector", &[16]),
        ]));
        assert_eq!(
            found.adapter().map(|facts| (facts.rank, facts.targets.clone())),
            Some((2, vec!["q_proj".into()]))
        );
        let expected = [
            ("m.layers.0.q_proj.weight".to_owned(), vec![16, 8], 48),
            ("m.layers.0.q_proj.lora_magnitude_vector".to_owned(), vec![16], 16),
        ];
        assert_eq!(weights(&found), expected);
    }

    #[test]
    fn several_adapters_in_one_file_are_not_mixed() {
        let found = seen(tensors(&[
            ("m.0.q.lora_A.first.weight", &[2, 8]),
            ("m.0.q.lora_B.first.weight", &[16, 2]),
            ("m.1.q.lora_A.first.weight", &[2, 8]),
            ("m.1.q.lora_B.first.weight", &[16, 2]),
            ("m.0.q.lora_A.second.weight", &[4, 8]),
            ("m.0.q.lora_B.second.weight", &[16, 4]),
        ]));
        assert_eq!(found.adapter().unwrap().rank, 2);
        let names: Vec<String> = weights(&found).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names[..2], ["m.0.q.weight", "m.1.q.weight"]);
        assert_eq!(names[2..].len(), 2, "the second adapter is beside it: {names:?}");
    }

    #[test]
    fn pairs_of_mlx_lie_turned() {
        let found = seen(tensors(&[
            ("model.layers.0.self_attn.q_proj.lora_a", &[8, 2]),
            ("model.layers.0.self_attn.q_proj.lora_b", &[2, 16]),
            ("model.layers.0.self_attn.v_proj.lora_a", &[8, 2]),
            ("model.layers.0.self_attn.v_proj.lora_b", &[2, 4]),
            ("model.layers.0.self_attn.v_proj.m", &[4]),
        ]));
        let facts = found.adapter().unwrap();
        assert_eq!((facts.rank, facts.targets.clone()), (2, vec!["q_proj".to_owned(), "v_proj".to_owned()]));
        let expected = [
            ("model.layers.0.self_attn.q_proj.weight".to_owned(), vec![16, 8], 48),
            ("model.layers.0.self_attn.v_proj.weight".to_owned(), vec![4, 8], 24),
            ("model.layers.0.self_attn.v_proj.m".to_owned(), vec![4], 4),
        ];
        assert_eq!(weights(&found), expected);
        // Experts in one tensor are not mixed up.
        let experts = seen(tensors(&[
            ("model.layers.0.mlp.switch_mlp.up_proj.lora_a", &[4, 2, 8]),
            ("model.layers.0.mlp.switch_mlp.up_proj.lora_b", &[4, 16, 2]),
        ]));
        let all = experts.weights(&QuantConfig::default(), &States::new());
        assert!(
            all.iter().all(|w| matches!(&w.form, Form::Unreadable(why) if why.contains("several"))),
            "{all:?}"
        );
    }

    #[test]
    fn half_of_a_pair_is_no_difference() {
        let found = seen(tensors(&[("m.0.q.lora_A.weight", &[2, 8]), ("m.0.v.lora_A.weight", &[2, 8])]));
        let all = found.weights(&QuantConfig::default(), &States::new());
        assert!(all.iter().all(|w| matches!(&w.form, Form::Unreadable(why) if why.contains("without B"))));
    }

    #[test]
    fn a_model_with_its_adapter_is_a_model() {
        let pair: [(&str, &[u64]); 2] = [("m.0.q.lora_A.weight", &[2, 8]), ("m.0.q.lora_B.weight", &[16, 2])];
        for base in ["m.0.q.weight", "m.0.q.base_layer.weight"] {
            let both = [&pair[..], &[(base, &[16, 8])]].concat();
            assert!(seen(tensors(&both)).adapter().is_none(), "{base}");
        }
        assert!(seen(tensors(&[("explora_gate.weight", &[2, 8])])).adapter().is_none());
    }

    #[test]
    fn other_kinds_are_named() {
        let kind = |name: &'static str| method(&[name]);
        assert_eq!(kind("prompt_embeddings"), Some("prompt tuning, which changes no weights"));
        assert_eq!(kind("base.layers.0.q.oft_R.weight"), Some("OFT"));
        assert_eq!(kind("model.layers.0.q_proj.lora_a"), Some(UNKNOWN_MODULES));
        for name in ["encoder.soft_gate.weight", "explora_x.weight", "lora.weight"] {
            assert_eq!(kind(name), None, "{name}");
        }
    }
}
