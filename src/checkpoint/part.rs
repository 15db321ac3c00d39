//! One of several whole models in the same files: what is its own, under a prefix.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::container::Tensors;
use crate::formats::Weight;
use crate::formats::packed::{self, QuantConfig, States};
use crate::signals::roles::{self, Component, Naming, Position, Role};

/// The tensors of one of the models in the opened files.
#[derive(Debug)]
pub(super) struct Part {
    whole: Arc<dyn Tensors>,
    component: Component,
    own: HashSet<String>,
    shares_vocabulary: bool,
}

impl Part {
    /// The further whole models beside the main one, largest first.
    pub(super) fn others(whole: &Arc<dyn Tensors>, config: &QuantConfig) -> Vec<Self> {
        let weights = whole.weights(config, &States::new());
        let naming = Naming::of(weights.iter().map(|weight| &*weight.name));
        let tokens = vocabulary(weights.iter());
        let part = |component: &Component| {
            let own: HashSet<String> = component.tensors.iter().cloned().collect();
            let of_own = vocabulary(weights.iter().filter(|weight| own.contains(&*weight.name)));
            let shares_vocabulary = tokens.is_some() && of_own == tokens;
            Self { whole: Arc::clone(whole), component: component.clone(), own, shares_vocabulary }
        };
        naming.others().iter().map(part).collect()
    }

    /// Whether its embedding has as many rows as that of the main model, whose tokenizer is known.
    pub(super) fn shares_vocabulary(&self) -> bool {
        self.shares_vocabulary
    }

    /// What stands in front of its names.
    pub(super) fn prefix(&self) -> &str {
        &self.component.prefix
    }

    /// What the component is called: its tensors, as a pattern.
    pub(super) fn name(&self) -> String {
        format!("{}*", self.prefix())
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

    fn ranges(&self) -> usize {
        self.whole.ranges()
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
