//! Which parts of a tensor are written; the rest stays a hole, which takes no disk and reads as zeros.
//!
//! Two things are: at both ends of every matrix, and in the token embedding, several times what is read of one by
//! default, so that another choice of layers or files still finds values; and whatever the planner asks for when a
//! comparison is made, tokens included.

use std::iter;
use std::ops::Range;

use super::error::CheckpointError;
use super::layout::{Placed, WeightFile, index};
use super::tensors::Content;
use crate::checkpoint::containers::safetensors::Headers;
use crate::checkpoint::plan::{self, PlanSettings};
use crate::formats::packed::{QuantConfig, States, plain_name};
use crate::formats::safetensors::{Decoded, try_decode};
use crate::formats::{Header, Limits, ShardIndex};
use crate::signals::roles::{self, Position, Role};
use crate::signals::sample;

/// Bytes and rows written at each end of a matrix, at least; what has no more is written whole.
const END: u64 = 65_536;
const ROWS: u64 = 4;
/// The same bytes where no row can be read alone.
const STREWN: u64 = 16_384;
/// How many times the rows that are read by default are written.
const MARGIN: u64 = 4;
/// Bytes of an expert that is never read, and the blocks in which file systems keep files.
const TRACE: u64 = 4096;
/// A block for fewer bytes is not worth it.
const LEAST: u64 = 512;

/// Parts of one tensor, in elements, sorted and disjoint.
pub(super) type Parts = Vec<Range<u64>>;

/// What is written of every tensor of every file. `tokens` are those that a comparison reads.
pub(super) fn regions(
    files: &[WeightFile],
    quantization: &QuantConfig,
    tokens: &[u64],
) -> Result<Vec<Vec<Parts>>, CheckpointError> {
    let mut all: Vec<Vec<Parts>> = files.iter().map(|file| file.tensors.iter().map(ends).collect()).collect();
    let headers = files.iter().map(header).collect::<Result<Vec<_>, _>>()?;
    for opened in choices(files)? {
        let chosen = Headers(opened.iter().map(|file| headers[*file].clone()).collect());
        for settings in [PlanSettings::default(), PlanSettings::detailed()] {
            let plan = plan::sample(&chosen, quantization, &States::new(), &settings, tokens)?;
            for piece in plan.asks.iter().flat_map(|ask| &ask.pieces) {
                let file = opened[piece.file];
                let tensors = &files[file].tensors;
                let behind = tensors.partition_point(|placed| placed.begin <= piece.bytes.start);
                let Some(which) = behind.checked_sub(1) else { continue };
                let Placed { tensor, begin } = &tensors[which];
                let size = tensor.element_bytes();
                let end = (piece.bytes.end - begin).div_ceil(size).min(tensor.elements());
                all[file][which].push((piece.bytes.start - begin) / size..end);
            }
        }
    }
    for parts in all.iter_mut().flatten() {
        join(parts);
    }
    Ok(all)
}

/// Which files may be opened together: those that are by default, and all.
fn choices(files: &[WeightFile]) -> Result<Vec<Vec<usize>>, CheckpointError> {
    let whole: Vec<usize> = (0..files.len()).collect();
    let Some(json) = index(files)? else { return Ok(vec![whole]) };
    let index = ShardIndex::parse(&json, &Limits::default())?;
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let chosen = plan::shards(&index, &names, &PlanSettings::default())?;
    let some: Vec<usize> = (0..files.len()).filter(|file| chosen.contains(&names[*file])).collect();
    Ok(if some == whole { vec![whole] } else { vec![some, whole] })
}

fn header(file: &WeightFile) -> Result<Header, CheckpointError> {
    match try_decode(&file.header, file.bytes, &Limits::default())? {
        Decoded::Done(header) => Ok(header),
        Decoded::Need(_) => Err(CheckpointError::HeaderTooLong { file: file.name.clone() }),
    }
}

/// Both ends of a matrix, the sampled places of an embedding, all of what is small.
fn ends(placed: &Placed) -> Parts {
    let Placed { tensor, begin } = placed;
    let (elements, size) = (tensor.elements(), tensor.element_bytes());
    let position = roles::position(&plain_name(&tensor.name));
    if position.and_then(|p| p.expert).is_some_and(|expert| !matches!(expert, 0 | Position::SHARED)) {
        // Up to the end of a block of the file, because a block is kept for one byte as for all.
        let end = (begin + TRACE + LEAST) / TRACE * TRACE - begin;
        return iter::once(0..(end / size).min(elements)).collect();
    }
    // A row of the weight costs all of such a tensor: its ends are for whoever looks at the file.
    let strewn = matches!(tensor.content, Content::Words(_) | Content::Zeros | Content::GroupScales);
    let (mut least, end) = if strewn { (1, STREWN) } else { (ROWS, END) };
    if tensor.shape.len() < 2 || tensor.bytes() <= end {
        return iter::once(0..elements).collect();
    }
    let columns = tensor.columns();
    let rows = elements / columns;
    let sampled = position.map(|p| sample::rows(p, rows, columns)).unwrap_or_default();
    let mut parts = Parts::new();
    if position.is_some_and(|p| p.role == Role::Embedding) {
        let wider = |block: Range<u64>| block.start..(block.start + MARGIN * (block.end - block.start));
        parts.extend(sampled.into_iter().map(wider));
    } else if !strewn {
        least = sampled.iter().map(|block| MARGIN * (block.end - block.start)).fold(least, u64::max);
    }
    let wanted = least.max(end.div_ceil(columns * size));
    parts.extend([0..wanted, rows.saturating_sub(wanted)..rows]);
    parts.into_iter().map(|part| part.start * columns..part.end.min(rows) * columns).collect()
}

/// Sorts and joins what touches.
fn join(parts: &mut Parts) {
    parts.sort_by_key(|part| part.start);
    parts.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::layout::files;
    use super::super::shapes::{SHAPES, find};
    use super::*;

    #[test]
    fn the_parts_of_large_models_are_small() {
        for (name, most) in [("llama-7b-single", 60_000_000), ("mistral-7b", 60_000_000)] {
            let files = files(find(name).unwrap()).unwrap();
            let tokens: Vec<u64> = (0..512).map(|i| i * 61).collect();
            let regions = regions(&files, &QuantConfig::default(), &tokens).unwrap();
            let mut bytes = 0;
            for (file, parts) in files.iter().zip(&regions) {
                for (placed, parts) in file.tensors.iter().zip(parts) {
                    let size = placed.tensor.element_bytes();
                    assert!(parts.iter().all(|part| part.start < part.end), "{}", placed.tensor.name);
                    assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
                    assert!(parts.last().is_some_and(|part| part.end <= placed.tensor.elements()));
                    bytes += parts.iter().map(|part| (part.end - part.start) * size).sum::<u64>();
                }
            }
            assert!(bytes < most, "{name}: {bytes}");
        }
    }

    #[test]
    fn the_rows_that_are_read_by_default_lie_inside_with_a_margin() {
        for shape in SHAPES {
            let files = files(shape).unwrap();
            for placed in files.iter().flat_map(|file| &file.tensors) {
                let Some(position) = roles::position(&placed.tensor.name) else { continue };
                if placed.tensor.shape.len() != 2 || !matches!(position.expert, None | Some(0)) {
                    continue;
                }
                let (rows, columns) = position.matrix(&placed.tensor.shape);
                let mut parts = ends(placed);
                join(&mut parts);
                for block in sample::rows(position, rows, columns) {
                    let inside = |part: &Range<u64>| {
                        part.start <= block.start * columns && block.end * columns <= part.end
                    };
                    assert!(parts.iter().any(inside), "{} {block:?} {parts:?}", placed.tensor.name);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn joined_parts_hold_the_same(parts in proptest::collection::vec((0u64..100, 1u64..20), 0..10)) {
            let parts: Parts = parts.into_iter().map(|(start, len)| start..start + len).collect();
            let mut joined = parts.clone();
            join(&mut joined);
            for i in 0..130 {
                let inside = |parts: &Parts| parts.iter().any(|part| part.contains(&i));
                prop_assert_eq!(inside(&parts), inside(&joined));
            }
            prop_assert!(joined.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
