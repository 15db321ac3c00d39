//! A made-up checkpoint for measuring what reading one costs: the tensors, files and small documents of a public
//! model, hundreds of gigabytes long if need be, and almost nothing of it on disk.
//!
//! | file | what it knows |
//! |---|---|
//! | `shapes` | the public models, one row each |
//! | `settings`, `error` | what is asked for, and why it was not written |
//! | `tensors` | their names, shapes and dtypes |
//! | `placed` | tensors at their places in a file |
//! | `layout` | shards, headers, the index |
//! | `gguf` | the same as llama.cpp has it |
//! | `values` | what stands in a tensor, from a seed |
//! | `regions` | which parts of it are written |
//! | `documents` | configuration, tokenizer, card |
//! | `place`, `digest` | where the files go, and under which names |
//!
//! Written is what a planner could ask for, and more around it; the rest are holes, which read as zeros. So the
//! checkpoint is for crawls, comparisons and scans, which read places; whoever reads tensors whole sees mostly zeros.
//!
//! The local Hub hashes the weight files of a folder, which of a sparse file takes as long as of a full one. In the
//! cache of huggingface_hub it believes their names, so a checkpoint that shall be served is written as one.

mod digest;
mod documents;
mod error;
mod gguf;
mod layout;
mod place;
mod placed;
mod regions;
mod settings;
mod shapes;
mod tensors;
mod values;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

pub use self::error::CheckpointError;
pub use self::settings::{CheckpointSettings, FileType, Format};
pub use self::shapes::{SHAPES, Shape, find};

use self::digest::Digests;
use self::documents::Document;
use self::place::Place;
use self::placed::{Placed, WeightFile};
use self::regions::{Model, Parts};
use self::values::Source;
use crate::checkpoint::plan::Detail;
use crate::formats::packed::QuantConfig;
use crate::formats::{Limits, Tokenizer, TokenizerFiles};
use crate::hub::RepoId;
use crate::signals::tokens::TokenKeys;

/// Elements that are made at once, whole blocks of all types.
const CHUNK: u64 = 1 << 18;

/// What was written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Written {
    /// Name of the shape.
    pub shape: &'static str,
    /// Files of the repository.
    pub files: usize,
    /// Their length in all.
    pub bytes: u64,
    /// Bytes that are no holes.
    pub bytes_written: u64,
    /// Tensors of the weight files.
    pub tensors: usize,
    /// Weights of the model: without buffers and scales, packed ones counted singly.
    pub parameters: u64,
}

/// Writes a checkpoint into `folder`, or with `repo` as a repository of the cache of huggingface_hub that `folder` is
/// then. It appears when it is complete. `progress` gets (tensors done, tensors in all).
pub fn write(
    folder: &Path,
    repo: Option<&RepoId>,
    settings: &CheckpointSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Written, CheckpointError> {
    let CheckpointSettings { shape, format, seed, from } = *settings;
    if let Some((_, r)) = from
        && !(0.0..=1.0).contains(&r)
    {
        return Err(CheckpointError::Correlation(r));
    }
    let place = Place::new(folder, repo, Digests::of(settings))?;
    let source = Source::new(seed, from);
    let mut documents = documents::all(shape, format)?;
    let (mut files, mut regions) = (Vec::new(), Vec::new());
    for (folder, model) in shape.models() {
        let mut weights = layout::files(model, format)?;
        let tokens = model
            .scheme
            .has_roles()
            .then(|| compared_tokens(&documents::tokenizer_files(model)?))
            .transpose()?;
        let quantization = &QuantConfig::parse(&documents::config(model));
        let model = Model { format, quantization, tokens: tokens.as_deref(), source };
        regions.extend(regions::regions(&weights, &model)?);
        let at = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        documents.extend(layout::index(&weights, format)?.map(|(name, json)| (at(name), json)));
        for file in &mut weights {
            file.name = at(&file.name);
        }
        files.extend(weights);
    }
    for (name, content) in &documents {
        place.document(name, content)?;
    }
    let opened: Vec<File> =
        files.iter().map(|file| place.weights(&file.name, file.bytes)).collect::<Result<_, _>>()?;

    let tensors: usize = files.iter().map(|file| file.tensors.len()).sum();
    let done = AtomicU64::new(0);
    let written = AtomicU64::new(0);
    progress(0, tensors as u64);
    files.par_iter().zip(&regions).zip(&opened).try_for_each(|((file, regions), opened)| {
        let at = |source| CheckpointError::Io { path: folder.join(&file.name), source };
        for (begin, piece) in &file.pieces {
            opened.write_all_at(piece, *begin).map_err(at)?;
            written.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        file.tensors.par_iter().zip(regions).try_for_each(|(placed, parts)| {
            let bytes = fill(opened, placed, parts, source).map_err(at)?;
            written.fetch_add(bytes, Ordering::Relaxed);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, tensors as u64);
            Ok::<_, CheckpointError>(())
        })
    })?;
    drop(opened);
    place.finish()?;

    let length = |files: &[WeightFile]| files.iter().map(|file| file.bytes).sum::<u64>();
    let small: u64 = documents.iter().map(|(_, content)| content.len() as u64).sum();
    let parameters = files.iter().flat_map(|file| &file.tensors).map(|placed| placed.tensor.parameters());
    Ok(Written {
        shape: shape.name,
        files: files.len() + documents.len(),
        bytes: length(&files) + small,
        bytes_written: written.into_inner() + small,
        tensors,
        parameters: parameters.sum(),
    })
}

/// The tokens whose embedding rows a comparison reads.
fn compared_tokens(documents: &[Document]) -> Result<Vec<u64>, CheckpointError> {
    let mut files = TokenizerFiles::default();
    for (name, content) in documents {
        files.insert(name, content);
    }
    let tokenizer = Tokenizer::parse(&files, &Limits::default())?;
    let anchors = TokenKeys::of(&tokenizer).anchors(Detail::default().tokens);
    Ok(anchors.into_iter().map(|(_, id)| u64::from(id)).collect())
}

/// Writes the parts of a tensor, and says how many bytes that took.
fn fill(file: &File, placed: &Placed, parts: &Parts, source: Source) -> io::Result<u64> {
    let mut written = 0;
    for part in parts {
        let mut at = part.start;
        while at < part.end {
            let elements: Range<u64> = at..part.end.min(at + CHUNK);
            let bytes = placed.content(elements.clone(), source);
            file.write_all_at(&bytes, placed.place(elements.start))?;
            written += bytes.len() as u64;
            at = elements.end;
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::checkpoint::containers::safetensors::Headers;
    use crate::checkpoint::plan::{self, PlanSettings};
    use crate::formats::packed::States;
    use crate::formats::safetensors::{Decoded, Header, try_decode};
    use crate::signals::Role;

    fn write_at(folder: &Path, shape: &str, seed: u64, from: Option<(u64, f64)>) -> Written {
        let settings =
            CheckpointSettings { shape: find(shape).unwrap(), format: Format::Safetensors, seed, from };
        write(folder, None, &settings, &|_, _| ()).unwrap()
    }

    fn header(path: &Path) -> Header {
        let file = File::open(path).unwrap();
        let mut prefix = vec![0; 1 << 20];
        file.read_exact_at(&mut prefix, 0).unwrap();
        match try_decode(&prefix, file.metadata().unwrap().len(), &Limits::default()).unwrap() {
            Decoded::Done(header) => header,
            Decoded::Need(end) => panic!("asked for {end}"),
        }
    }

    /// The values of every block that a plan asks for, by role, layer and first row.
    fn blocks(folder: &Path, settings: &PlanSettings) -> BTreeMap<(Role, u16, u64, usize), Vec<f32>> {
        let path = folder.join("model.safetensors");
        let config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let documents = ["tokenizer.json", "tokenizer_config.json"]
            .map(|n| (n.into(), fs::read(folder.join(n)).unwrap()));
        let tokens = compared_tokens(&documents).unwrap();
        let headers = Headers(vec![header(&path)]);
        let quantization = QuantConfig::parse(&config);
        let plan = plan::sample(&headers, &quantization, &States::new(), settings, &tokens).unwrap();
        let file = File::open(path).unwrap();
        let read = |bytes: &Range<u64>| {
            let mut content = vec![0; (bytes.end - bytes.start) as usize];
            file.read_exact_at(&mut content, bytes.start).unwrap();
            content
        };
        let block = |ask: &plan::Ask| {
            let pieces: Vec<Vec<u8>> = ask.pieces.iter().map(|piece| read(&piece.bytes)).collect();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let values = ask.decode(&pieces).unwrap();
            ((ask.position.role, ask.position.layer, ask.start, values.len()), values)
        };
        plan.asks.iter().map(block).collect()
    }

    #[test]
    fn whatever_is_planned_has_values() {
        for shape in ["bert-base", "gpt2", "llama-3.1-8b-fp8", "llama-7b-gptq"] {
            // One file, so that all of it is planned at once.
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("model");
            let mut whole = *find(shape).unwrap();
            whole.shard_bytes = u64::MAX;
            let settings = CheckpointSettings {
                shape: Box::leak(Box::new(whole)),
                format: Format::Safetensors,
                seed: 3,
                from: None,
            };
            write(&folder, None, &settings, &|_, _| ()).unwrap();
            for settings in [PlanSettings::default(), PlanSettings::detailed()] {
                let blocks = blocks(&folder, &settings);
                assert!(blocks.len() > 30, "{shape}: {}", blocks.len());
                for (place, values) in &blocks {
                    let holes = values.iter().filter(|v| **v == 0.0).count();
                    // Codes of small values are zero, but not those of a whole block.
                    let most = if place.0.is_norm() { 0 } else { values.len() / 5 };
                    assert!(holes <= most, "{shape} {place:?}: {holes} of {}", values.len());
                    assert!(values.iter().all(|v| v.is_finite() && v.abs() < 10.0), "{shape} {place:?}");
                }
            }
        }
    }

    #[test]
    fn the_library_of_the_format_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        let mut small = *find("qwen2.5-0.5b").unwrap();
        (small.layers, small.tokens) = (1, 1000);
        let shape = Box::leak(Box::new(small));
        let settings = CheckpointSettings { shape, format: Format::Safetensors, seed: 1, from: None };
        let written = write(&folder, None, &settings, &|_, _| ()).unwrap();
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.len(), written.tensors);
        let norm = read.tensor("model.norm.weight").unwrap();
        assert_eq!((norm.dtype(), norm.shape()), (safetensors::Dtype::BF16, &[896][..]));
        assert!(norm.data().chunks(2).all(|value| value != [0, 0]));
    }

    #[test]
    fn files_are_sparse_and_alike_for_one_seed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name);
        let written = write_at(&folder("a"), "qwen2.5-0.5b", 1, None);
        assert_eq!((written.files, written.tensors, written.parameters), (5, 290, 494_032_768));
        assert!(written.bytes > 988_097_824 && written.bytes_written < 60_000_000, "{written:?}");
        let metadata = fs::metadata(folder("a").join("model.safetensors")).unwrap();
        assert_eq!(metadata.len(), 988_097_824);
        assert!(metadata.blocks() * 512 < 80_000_000, "{}", metadata.blocks() * 512);
        write_at(&folder("b"), "qwen2.5-0.5b", 1, None);
        write_at(&folder("c"), "qwen2.5-0.5b", 2, None);
        let settings = PlanSettings::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| blocks(&folder(name), &settings));
        assert!(a == b && a != c);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        fs::create_dir(&folder).unwrap();
        write_at(&folder, "bert-base", 1, None);
        let shape = find("bert-base").unwrap();
        let again = |from| {
            let settings = CheckpointSettings { shape, format: Format::Safetensors, seed: 1, from };
            write(&folder, None, &settings, &|_, _| ()).unwrap_err()
        };
        assert!(matches!(again(None), CheckpointError::Exists { .. }));
        assert!(matches!(again(Some((1, 1.5))), CheckpointError::Correlation(_)));
        assert!(matches!(again(Some((1, f64::NAN))), CheckpointError::Correlation(_)));
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["model"]);
        let mode = fs::metadata(&folder).unwrap().mode();
        assert_eq!(mode & 0o500, 0o500);
    }

    #[test]
    fn a_related_checkpoint_correlates_and_another_seed_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, seed, from| {
            write_at(&dir.path().join(name), "bert-base", seed, from);
            blocks(&dir.path().join(name), &PlanSettings::default())
        };
        let (base, other) = (made("base", 1, None), made("other", 2, None));
        let child = made("child", 2, Some((1, 0.5)));
        let correlation = |a: &[f32], b: &[f32]| {
            let mean = |x: &[f32]| x.iter().sum::<f32>() / x.len() as f32;
            let (ma, mb) = (mean(a), mean(b));
            let dot = |x: &[f32], mx: f32, y: &[f32], my: f32| -> f32 {
                x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
            };
            dot(a, ma, b, mb) / (dot(a, ma, a, ma) * dot(b, mb, b, mb)).sqrt()
        };
        for wanted in [Role::is_norm as fn(Role) -> bool, Role::is_matrix] {
            let mean = |other: &BTreeMap<_, Vec<f32>>| {
                let all: Vec<f32> = base
                    .iter()
                    .filter(|(place, _)| wanted(place.0))
                    .map(|(place, values)| correlation(values, &other[place]))
                    .collect();
                all.iter().sum::<f32>() / all.len() as f32
            };
            let (related, unrelated) = (mean(&child), mean(&other));
            assert!((related - 0.5).abs() < 0.04, "{related}");
            assert!(unrelated.abs() < 0.02, "{unrelated}");
        }
    }
}
