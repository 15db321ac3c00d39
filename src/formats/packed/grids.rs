//! Bits and group size of MLX's layers, which tell only their product: `bits * columns = words * 32`, and
//! `groups * group_size = columns`.
//!
//! What config.json says of the layer itself counts first, then what it says of all. The latter may be of another
//! checkpoint, and then it often fits all the same: twice the columns at half the bits. So it must agree with the sizes that
//! the other tensors have: the columns of a layer are the length of a norm, or rows of another layer, of which two or
//! three may be stored as one. What is left open is not guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Grid, PackedError, Parts, QuantConfig};
use crate::formats::Dtype;

/// What MLX can pack.
const BITS: [u64; 6] = [2, 3, 4, 5, 6, 8];
/// Columns of its groups.
const GROUP_SIZES: [u64; 3] = [32, 64, 128];

/// Sizes of which the columns of a layer must be one.
#[derive(Debug, Default)]
struct Sizes {
    /// Lengths of norms.
    norms: BTreeSet<u64>,
    /// Those, rows of matrices, equal parts of them where layers are numbered, and columns that are not packed.
    all: BTreeSet<u64>,
}

impl Sizes {
    fn of(layers: &BTreeMap<&str, Parts<'_>>) -> Self {
        let mut sizes = Self::default();
        for (name, parts) in layers {
            let Some(weight) = parts.get("weight") else { continue };
            // Queries, keys and values may be one matrix, gates and their values too; a vocabulary has no parts.
            let is_numbered = name.split('.').any(|part| part.parse::<u32>().is_ok());
            let most = if is_numbered { 3 } else { 1 };
            let is_plain = weight.dtype.is_some_and(Dtype::is_plain_float);
            match weight.shape[..] {
                [length] if is_plain => {
                    sizes.norms.insert(length);
                    sizes.all.insert(length);
                }
                [.., rows, columns] => {
                    sizes.all.extend((1..=most).filter(|n| rows.is_multiple_of(*n)).map(|n| rows / n));
                    sizes.all.extend(is_plain.then_some(columns));
                }
                _ => {}
            }
        }
        sizes
    }
}

/// A layer whose bits and group size are wanted.
struct Layer<'a> {
    name: &'a str,
    /// Groups of a row.
    across: u64,
    /// What fits its tensors.
    choices: BTreeSet<Grid>,
    /// What config.json says of it, or of all, where that fits.
    own: Option<Grid>,
    general: Option<Grid>,
}

impl<'a> Layer<'a> {
    /// `None` for a layer that is not MLX's.
    fn of(name: &'a str, parts: &Parts<'_>, config: &QuantConfig) -> Option<Self> {
        let (weight, scales) = (parts.get("weight")?, parts.get("scales")?);
        let is_words = weight.dtype.is_some_and(|d| d.bits() == 32 && !d.is_plain_float());
        if !is_words || !parts.contains_key("biases") {
            return None;
        }
        let (words, across) = (*weight.shape.last()?, *scales.shape.last()?);
        let fits = |grid: &Grid| {
            let columns = across.checked_mul(grid.group_size).filter(|n| *n > 0);
            let bits = columns.and_then(|columns| columns.checked_mul(grid.bits));
            bits.is_some() && bits == words.checked_mul(32)
        };
        let own = config.layer(name).filter(fits);
        let general = config.grid().filter(fits);
        let all = BITS.iter().flat_map(|&bits| GROUP_SIZES.map(|group_size| Grid { bits, group_size }));
        let choices = all.chain(own).chain(general).filter(fits).collect();
        Some(Self { name, across, choices, own, general })
    }

    fn columns(&self, grid: Grid) -> u64 {
        self.across.saturating_mul(grid.group_size)
    }

    /// What gives columns that are among these.
    fn within(&self, sizes: &BTreeSet<u64>) -> Vec<Grid> {
        self.choices.iter().filter(|grid| sizes.contains(&self.columns(**grid))).copied().collect()
    }

    /// `trusted` says whether what config.json says of all layers holds for most.
    fn settle(&self, sizes: &Sizes, trusted: bool) -> Result<Grid, PackedError> {
        if let Some(own) = self.own {
            return Ok(own);
        }
        let known = self.within(&sizes.all);
        let settled = match (self.general.filter(|_| trusted), &known[..]) {
            (Some(general), []) => Some(general),
            (Some(general), known) if known.contains(&general) => Some(general),
            (Some(_), [other]) => Some(*other).filter(|_| sizes.norms.contains(&self.columns(*other))),
            (None, [only]) => Some(*only),
            (None, []) if self.choices.len() == 1 => self.choices.first().copied(),
            _ => None,
        };
        settled.ok_or_else(|| PackedError::Open { choices: self.listed() })
    }

    fn listed(&self) -> String {
        let choice = |grid: &Grid| format!("{} bits in groups of {}", grid.bits, grid.group_size);
        match self.choices.iter().map(choice).collect::<Vec<_>>() {
            none if none.is_empty() => "none fits words and groups".into(),
            some => some.join(" or "),
        }
    }
}

/// Bits and group size of each of MLX's layers among these, or why they are not known.
pub(super) fn settle<'a>(
    layers: &'a BTreeMap<&'a str, Parts<'a>>,
    config: &QuantConfig,
) -> BTreeMap<&'a str, Result<Grid, PackedError>> {
    let mlx: Vec<Layer<'a>> =
        layers.iter().filter_map(|(name, parts)| Layer::of(name, parts, config)).collect();
    if mlx.is_empty() {
        return BTreeMap::new();
    }
    let sizes = Sizes::of(layers);
    // By the norms, of which columns of queries, keys, values, gates and embeddings have the length.
    let (mut right, mut wrong) = (0, 0);
    for layer in mlx.iter().filter(|layer| layer.own.is_none()) {
        let Some(general) = layer.general else { continue };
        let known = layer.within(&sizes.norms);
        if known.contains(&general) {
            right += 1;
        } else if !known.is_empty() {
            wrong += 1;
        }
    }
    mlx.iter().map(|layer| (layer.name, layer.settle(&sizes, right >= wrong))).collect()
}
