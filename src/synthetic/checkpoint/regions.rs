//! Which parts of a tensor are written; the rest stays a hole, which takes no disk and reads as zeros.
//!
//! Two things are: at both ends of every matrix, and in the token embedding, several times what is read of one by
//! default, so that another choice of layers or files still finds values; and whatever the planner asks for when a
//! comparison is made, tokens included.

use std::iter;
use std::ops::Range;

use super::error::CheckpointError;
use super::layout::index;
use super::placed::{Placed, WeightFile};
use super::settings::Format;
use super::tensors::Content;
use super::values::Source;
use crate::checkpoint::container::{OpenedFile, Step, Tensors};
use crate::checkpoint::plan::{self, PlanSettings};
use crate::formats::packed::{QuantConfig, States, plain_name};
use crate::formats::{FileRange, Limits, ShardIndex};
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

/// A model whose weights are to be written.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) format: Format,
    /// What config.json says of packed weights.
    pub(super) quantization: &'a QuantConfig,
    /// The tokens that a comparison reads; `None` of a model of which no rows are read.
    pub(super) tokens: Option<&'a [u64]>,
    pub(super) source: Source,
}

/// What is written of every tensor of every file.
pub(super) fn regions(files: &[WeightFile], model: &Model<'_>) -> Result<Vec<Vec<Parts>>, CheckpointError> {
    let mut all: Vec<Vec<Parts>> = files.iter().map(|file| file.tensors.iter().map(ends).collect()).collect();
    for opened in choices(files, model.format)? {
        let chosen: Vec<&WeightFile> = opened.iter().map(|file| &files[*file]).collect();
        let (tensors, looked) = open(&chosen, model)?;
        let mut read = looked;
        for settings in [PlanSettings::default(), PlanSettings::detailed()] {
            let Some(tokens) = model.tokens else { break };
            let plan = plan::sample(&*tensors, model.quantization, &States::new(), &settings, tokens)?;
            let pieces = plan.asks.iter().flat_map(|ask| &ask.pieces);
            read.extend(pieces.map(|piece| FileRange { file: piece.file, bytes: piece.bytes.clone() }));
        }
        for FileRange { file, bytes } in read {
            for (which, _, elements) in chosen[file].within(&bytes) {
                all[opened[file]][which].push(elements);
            }
        }
    }
    for (file, parts) in files.iter().zip(&mut all) {
        for (placed, parts) in file.tensors.iter().zip(parts) {
            for part in parts.iter_mut() {
                *part = placed.whole(part);
            }
            join(parts);
        }
    }
    Ok(all)
}

/// Which files may be opened together: those that are by default, and all.
fn choices(files: &[WeightFile], format: Format) -> Result<Vec<Vec<usize>>, CheckpointError> {
    let whole: Vec<usize> = (0..files.len()).collect();
    let Some((_, json)) = index(files, format)? else { return Ok(vec![whole]) };
    let index = ShardIndex::parse(&json, &Limits::default())?;
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let chosen = plan::shards(&index, &names, &PlanSettings::default())?;
    let some: Vec<usize> = (0..files.len()).filter(|file| chosen.contains(&names[*file])).collect();
    Ok(if some == whole { vec![whole] } else { vec![some, whole] })
}

/// What the reader of the format finds in these files, and where it looked for that: a place that it takes for data has
/// to look like data.
fn open(
    files: &[&WeightFile],
    model: &Model<'_>,
) -> Result<(Box<dyn Tensors>, Vec<FileRange>), CheckpointError> {
    let opened: Vec<OpenedFile<'_>> =
        files.iter().map(|file| OpenedFile { path: &file.name, size: file.bytes }).collect();
    let mut decoder = model.format.container().decoder(&opened, &Limits::default());
    let mut looked = Vec::new();
    loop {
        let step = decoder.step().map_err(|damaged| CheckpointError::Damaged {
            file: files[damaged.file].name.clone(),
            source: damaged.source,
        })?;
        match step {
            Step::Ready(tensors) => return Ok((tensors, looked)),
            Step::Need(ranges) => {
                for range in ranges {
                    decoder.give(&range, &files[range.file].read(&range.bytes, model.source));
                    looked.push(range);
                }
            }
        }
    }
}

/// Both ends of a matrix, the sampled places of an embedding, all of what is small.
fn ends(placed: &Placed) -> Parts {
    let tensor = &placed.tensor;
    let elements = tensor.elements();
    let position = roles::position(&plain_name(&tensor.name));
    let is_other = position.and_then(|p| p.expert).is_some_and(|n| !matches!(n, 0 | Position::SHARED));
    if is_other || tensor.content == Content::NotRead {
        // Up to the end of a block of the file, because a block is kept for one byte as for all.
        let end = (placed.begin + TRACE + LEAST) / TRACE * TRACE;
        return iter::once(placed.elements(&(placed.begin..end))).collect();
    }
    // A row of the weight costs all of such a tensor: its ends are for whoever looks at the file.
    let strewn = matches!(tensor.content, Content::Words(_) | Content::Zeros | Content::GroupScales);
    let (mut least, end) = if strewn { (1, STREWN) } else { (ROWS, END) };
    if tensor.shape.len() < 2 || placed.bytes() <= end {
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
    let wanted = least.max(end.div_ceil(placed.row_bytes()));
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
    use super::super::settings::FileType;
    use super::super::shapes::{SHAPES, Shape, find};
    use super::*;

    #[test]
    fn the_parts_of_large_models_are_small() {
        for (name, format, most) in [
            ("llama-7b-single", Format::Safetensors, 60_000_000),
            ("mistral-7b", Format::Safetensors, 60_000_000),
            ("llama-7b", Format::PyTorch, 60_000_000),
            ("llama-7b", Format::Gguf(FileType::F16), 80_000_000),
            ("llama-7b", Format::Gguf(FileType::Q4KM), 80_000_000),
        ] {
            let files = files(find(name).unwrap(), format).unwrap();
            let tokens: Vec<u64> = (0..512).map(|i| i * 61).collect();
            let (quantization, source) = (&QuantConfig::default(), Source::new(1, None));
            let model = Model { format, quantization, tokens: Some(&tokens), source };
            let regions = regions(&files, &model).unwrap();
            let mut bytes = 0;
            for (file, parts) in files.iter().zip(&regions) {
                for (placed, parts) in file.tensors.iter().zip(parts) {
                    assert!(parts.iter().all(|part| part.start < part.end), "{}", placed.tensor.name);
                    assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
                    assert!(parts.last().is_some_and(|part| part.end <= placed.tensor.elements()));
                    bytes += parts
                        .iter()
                        .map(|part| placed.place(part.end) - placed.place(part.start))
                        .sum::<u64>();
                }
            }
            assert!(bytes < most, "{name}: {bytes}");
        }
    }

    #[test]
    fn the_rows_that_are_read_by_default_lie_inside_with_a_margin() {
        for (_, shape) in SHAPES.iter().flat_map(Shape::models) {
            let files = files(shape, Format::Safetensors).unwrap();
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
