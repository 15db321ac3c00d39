//! The input of every signal: what was read of a checkpoint, and what several signals make of it, made once.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use super::blocks::{Block, Blocks};
use super::gram::RowGram;
use super::profile::Profile;
use super::tokens::TokenKeys;
use super::units::{Basis, Units};

/// Tokens whose mutual cosines are compared.
const GRAM_TOKENS: usize = 128;

/// What was read of one model. Its fields are those of [`Blocks`].
#[derive(Clone, Debug)]
pub struct Samples {
    read: Blocks,
    units: OnceLock<Units>,
    profile: OnceLock<Profile>,
    row_gram: OnceLock<Option<RowGram>>,
}

impl Samples {
    /// Of these blocks, in whatever order; see [`Blocks::new`].
    pub fn new(
        layers: u16,
        vocabulary: Option<u32>,
        blocks: Vec<Block>,
        tokens: Option<Arc<TokenKeys>>,
    ) -> Self {
        Self {
            read: Blocks::new(layers, vocabulary, blocks, tokens),
            units: OnceLock::new(),
            profile: OnceLock::new(),
            row_gram: OnceLock::new(),
        }
    }

    /// The profile of a comparison.
    pub fn profile(&self) -> &Profile {
        self.profile.get_or_init(|| Profile::new(&self.read, GRAM_TOKENS))
    }

    /// The row Gram matrix; `None` where too few rows were read.
    pub(super) fn row_gram(&self) -> Option<&RowGram> {
        self.row_gram.get_or_init(|| RowGram::new(&self.read)).as_ref()
    }

    /// The blocks as unit columns, hidden dimensions as they are stored.
    pub(super) fn units(&self) -> &Units {
        self.units.get_or_init(|| Units::new(&self.read, &Basis::Own))
    }
}

impl Deref for Samples {
    type Target = Blocks;

    fn deref(&self) -> &Blocks {
        &self.read
    }
}

/// Whoever changes the blocks makes what was made of them void.
impl DerefMut for Samples {
    fn deref_mut(&mut self) -> &mut Blocks {
        self.units.take();
        self.profile.take();
        self.row_gram.take();
        &mut self.read
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Model;

    #[test]
    fn nothing_outlives_a_change_of_the_blocks() {
        let mut samples = Model::random(1, 4, 96).samples();
        let other = Model::random(2, 4, 96).samples();
        let (before, after) = (samples.profile().clone(), other.profile().clone());
        assert!(samples.row_gram().is_some() && samples.units().embedding.len() == 64);
        samples.blocks = other.blocks.clone();
        assert!(*samples.profile() == after && after != before);
        samples.blocks.clear();
        assert!(samples.row_gram().is_none() && samples.units().embedding.is_empty());
    }
}
