//! One of several whole models in the same files: what is its own, under a prefix.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::component;
use super::container::Tensors;
use crate::formats::Weight;
use crate::formats::packed::{self, QuantConfig, States};
use crate::signals::roles::{self, Component, Naming, Position, Role};

/// Most further models of one set of files that are read; the others are named as a part of what is not.
const MOST: usize = 8;

/// The tensors of one of the models in the opened files.
#[derive(Debug)]
pub(super) struct Part {
    whole: Arc<dyn Tensors>,
    name: String,
    own: HashSet<String>,
    shares_vocabulary: bool,
}

impl Part {
    /// The further whole models beside the main one, the largest first; an adapter has none.
    pub(super) fn others(whole: &Arc<dyn Tensors>, config: &QuantConfig) -> Vec<Self> {
        if whole.adapter().is_some() {
            return Vec::new();
        }
        let weights = whole.weights(config, &States::new());
        let naming = Naming::of(weights.iter().map(|weight| &*weight.name));
        let tokens = vocabulary(weights.iter());
        let mut names = BTreeSet::new();
        let part = |component: &Component| {
            let name = component::unique(&component::plain(&component.prefix), &mut names);
            let own: HashSet<String> = component.tensors.iter().cloned().collect();
            let of_own = vocabulary(weights.iter().filter(|weight| own.contains(&*weight.name)));
            let shares_vocabulary = tokens.is_some() && of_own == tokens;
            Self { whole: Arc::clone(whole), name: format!("{name}*"), own, shares_vocabulary }
        };
        naming.others().iter().take(MOST).map(part).collect()
    }

    /// Whether its embedding has as many rows as that of the main model, whose tokenizer is known.
    pub(super) fn shares_vocabulary(&self) -> bool {
        self.shares_vocabulary
    }

    /// What the component is called: its tensors, as a pattern.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Rows of the token embedding.
fn vocabulary<'a>(weights: impl Iterator<Item = &'a Weight<'a>> + Clone) -> Option<u64> {
    let positions = roles::positions(weights.clone().map(|weight| (&*weight.name, &*weight.shape)));
    let is_embedding = |position: &Position| position.role == Role::Embedding && position.is_main();
    weights
        .zip(positions)
        .find_map(|(weight, position)| Some(position.filter(is_embedding)?.matrix(&weight.shape).0))
}

impl Tensors for Part {
    fn files(&self) -> usize {
        self.whole.files()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let is_own = |name: &&str| self.own.contains(*name) || self.own.contains(&packed::plain_name(name));
        Box::new(self.whole.names().filter(is_own))
    }

    fn elements(&self) -> u64 {
        let weights = self.weights(&QuantConfig::default(), &States::new());
        weights.iter().fold(0, |sum, weight| weight.elements.saturating_add(sum))
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.whole.metadata()
    }

    fn needs_config(&self) -> bool {
        self.whole.needs_config()
    }

    fn weights(&self, config: &QuantConfig, states: &States) -> Vec<Weight<'_>> {
        let mut weights = self.whole.weights(config, states);
        weights.retain(|weight| self.own.contains(&*weight.name));
        weights
    }
}
