//! Places in tensors that no test compares. Their bytes say whether two models share them, whatever they are: so much is
//! known without a role, and without decoding.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Ask, Place};
use crate::formats::{FileRange, Weight};
use crate::signals::roles;

/// Most tensors that are looked at.
const MOST: usize = 48;
/// Tensors of one kind, that is of one name but for its numbers: the first, the last and the middle one of them.
const OF_KIND: usize = 3;
/// Bytes of a place.
pub const PROBE_BYTES: u64 = 1024;
/// Smallest tensor that is looked at, bytes: below, two may be equal by chance or by convention.
const LEAST: u64 = 64;
/// Ends of the names of tensors that are computed and not learnt: unrelated models have the same.
const BUFFERS: [&str; 14] = [
    "inv_freq",
    "position_ids",
    "pos_ids",
    "masked_bias",
    "attn.bias",
    "attention.bias",
    "attn_mask",
    "relative_position_index",
    "relative_coords_table",
    "num_batches_tracked",
    "mel_filters",
    "window",
    "cos_cached",
    "sin_cached",
];

/// The places in weights of which these asks read nothing: one of each kind before others, the largest kinds first.
pub(super) fn places(weights: &[Weight<'_>], asks: &[Ask]) -> Vec<Place> {
    let read: BTreeSet<(usize, u64)> =
        asks.iter().flat_map(|ask| &ask.pieces).map(|piece| (piece.file, piece.bytes.start)).collect();
    let is_read = |at: &FileRange| {
        read.range((at.file, at.bytes.start)..(at.file, at.bytes.end.max(at.bytes.start))).next().is_some()
    };
    let mut kinds: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for weight in weights.iter().filter(|weight| !weight.parts.values().any(is_read)) {
        // Of a packed weight the codes, which are its largest part.
        let Some((suffix, at)) = weight.parts.iter().max_by_key(|(_, at)| at.len()) else { continue };
        if at.len() >= LEAST && !BUFFERS.iter().any(|buffer| weight.name.ends_with(buffer)) {
            let (name, length) = (&weight.name, at.len().min(PROBE_BYTES));
            let start = at.bytes.start + (at.len() - length) / 2;
            kinds.entry(roles::without_numbers(name)).or_default().push(Place {
                name: if suffix.is_empty() { name.to_string() } else { format!("{name}.{suffix}") },
                size: at.len(),
                bytes: FileRange { file: at.file, bytes: start..start + length },
            });
        }
    }
    let mut kinds: Vec<Vec<Place>> = kinds.into_values().collect();
    let bytes = |kind: &[Place]| kind.iter().map(|place| place.size).fold(0, u64::saturating_add);
    kinds.sort_by_cached_key(|kind| (std::cmp::Reverse(bytes(kind)), kind[0].name.clone()));
    // The first, the last and what lies between.
    let of_kind = |kind: &[Place], turn: usize| {
        let turns: [usize; OF_KIND] = [0, kind.len() - 1, (kind.len() - 1) / 2];
        (!turns[..turn].contains(&turns[turn])).then(|| kind[turns[turn]].clone())
    };
    (0..OF_KIND)
        .flat_map(|turn| kinds.iter().filter_map(move |kind| of_kind(kind, turn)))
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;
    use crate::formats::{Dtype, Form};

    /// A weight of so many bytes in 16 bits, in a file of its own.
    fn weight(file: usize, name: &str, bytes: u64) -> Weight<'static> {
        Weight {
            name: Cow::Owned(name.to_owned()),
            shape: Cow::Owned(vec![bytes / 2]),
            parts: BTreeMap::from([("", FileRange { file, bytes: 8..8 + bytes })]),
            elements: bytes / 2,
            form: Form::Stored(Arc::new(Dtype::F16)),
        }
    }

    #[test]
    fn each_kind_has_its_turn_and_buffers_have_none() {
        let names = (0..100).map(|i| (format!("vision.layers.{i}.q.weight"), 4096));
        let others = [("projector.weight", 512), ("x.inv_freq", 4096), ("tiny.bias", 32), ("b.bias", 64)];
        let all = names.chain(others.map(|(name, bytes)| (name.to_owned(), bytes)));
        let weights: Vec<Weight<'_>> =
            all.enumerate().map(|(file, (name, bytes))| weight(file, &name, bytes)).collect();
        let found = places(&weights, &[]);
        let names: Vec<&str> = found.iter().map(|place| place.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "vision.layers.0.q.weight",
                "projector.weight",
                "b.bias",
                "vision.layers.99.q.weight",
                "vision.layers.49.q.weight",
            ]
        );
        assert_eq!(found[0].bytes, FileRange { file: 0, bytes: 8 + 1536..8 + 1536 + 1024 });
        assert_eq!(found[2].bytes.bytes, 8..72);
    }
}
