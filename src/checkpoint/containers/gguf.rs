//! GGUF, the files of llama.cpp.

use std::collections::BTreeMap;

use super::{dialect, sets};
use crate::checkpoint::container::{Component, Container, Damaged, Decoder, Step, Tensors};
use crate::formats::gguf::{self, Checkpoint, Decoded, GgufError, Header};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{FileRange, Limits, ModelConfig, Weight};

/// The format.
#[derive(Debug)]
pub struct Gguf;

impl Container for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn components(&self, files: &[String]) -> Vec<Component> {
        sets::components(files, &dialect::GGUF)
    }

    fn describes_itself(&self) -> bool {
        true
    }

    fn decoder(&self, sizes: &[u64], limits: &Limits) -> Box<dyn Decoder> {
        let all = sizes.iter().map(|size| File::Reading(gguf::Decoder::new(*size, limits))).collect();
        Box::new(Files { all, left: limits.header_bytes, limit: limits.header_bytes, ranges: 0 })
    }
}

/// The decoder: each file for itself.
struct Files {
    all: Vec<File>,
    /// Bytes of headers that may still be asked for.
    left: u64,
    limit: u64,
    /// Ranges that were asked for: some ten where the table is sought behind the tokenizer.
    ranges: usize,
}

#[expect(clippy::large_enum_variant, reason = "there are as many as files")]
enum File {
    Reading(gguf::Decoder),
    Read(Header),
}

impl Decoder for Files {
    fn step(&mut self) -> Result<Step, Damaged> {
        let mut needed = Vec::new();
        for (file, state) in self.all.iter_mut().enumerate() {
            let damaged = |error: GgufError| Damaged { file, source: error.into() };
            let File::Reading(decoder) = state else { continue };
            match decoder.step().map_err(damaged)? {
                Decoded::Done(header) => *state = File::Read(header),
                Decoded::Need(bytes) => {
                    let range = FileRange { file, bytes };
                    let too_large = GgufError::TooLarge { limit: self.limit };
                    self.left = self.left.checked_sub(range.len()).ok_or_else(|| damaged(too_large))?;
                    needed.push(range);
                }
            }
        }
        self.ranges += needed.len();
        if !needed.is_empty() {
            return Ok(Step::Need(needed));
        }
        let header = |file| match file {
            File::Read(header) => Some(header),
            File::Reading(_) => None,
        };
        let headers = std::mem::take(&mut self.all).into_iter().filter_map(header).collect();
        Ok(Step::Ready(Box::new(Read { checkpoint: Checkpoint::new(headers), ranges: self.ranges })))
    }

    fn give(&mut self, range: &FileRange, bytes: &[u8]) {
        if let Some(File::Reading(decoder)) = self.all.get_mut(range.file) {
            decoder.give(range.bytes.start, bytes);
        }
    }
}

/// The headers of the opened files.
#[derive(Debug)]
struct Read {
    checkpoint: Checkpoint,
    ranges: usize,
}

impl Tensors for Read {
    fn files(&self) -> usize {
        self.checkpoint.headers().len()
    }

    fn ranges(&self) -> usize {
        self.ranges
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.checkpoint.tensors().map(|tensor| tensor.name.as_str()))
    }

    fn elements(&self) -> u64 {
        self.checkpoint.tensors().fold(0, |n, tensor| tensor.elements().saturating_add(n))
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.checkpoint.values().in_words().collect()
    }

    fn config(&self) -> Option<ModelConfig> {
        Some(self.checkpoint.config())
    }

    fn declared_bases(&self) -> Vec<String> {
        self.checkpoint.declared_bases()
    }

    /// What config.json says of packed weights is said of other files.
    fn weights(&self, _: &QuantConfig, _: &States) -> Vec<Weight<'_>> {
        self.checkpoint.weights()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{self, Sample};
    use super::*;
    use crate::formats::gguf::Kind;
    use crate::formats::gguf::write::{self, Layout, Put, Shaped};
    use crate::signals::roles;

    /// Tensors as one file of F32.
    fn test_file(tensors: &[Sample]) -> Vec<u8> {
        written("test", tensors)
    }

    fn written(architecture: &str, tensors: &[Sample]) -> Vec<u8> {
        let kind = Kind::of_name("F32").unwrap();
        let shaped: Vec<Shaped<'_>> =
            tensors.iter().map(|t| Shaped { name: &t.name, shape: &t.shape, kind }).collect();
        let values = [("general.architecture", Put::Text(architecture))];
        let Layout { header: mut file, begins, bytes } = write::layout(&values, &shaped).unwrap();
        for (tensor, begin) in tensors.iter().zip(begins) {
            file.resize(begin as usize, 0);
            file.extend(kind.encode(&tensor.values).unwrap());
        }
        file.resize(bytes as usize, 0);
        file
    }

    #[test]
    fn is_a_container() {
        conformance::check(&Gguf, "model.gguf", test_file, &[("general.architecture", "test")]);
    }

    /// Tensors of a model as transformers and as GGUF call them, by the maps of the package
    /// (tests/fixtures/gguf/make_names.py).
    const NAMES: &str = include_str!("../../../tests/fixtures/gguf/names.tsv");

    fn tensors(file: &[u8]) -> Box<dyn Tensors> {
        let mut decoder = Gguf.decoder(&[file.len() as u64], &Limits::default());
        loop {
            match decoder.step().unwrap() {
                Step::Ready(tensors) => return tensors,
                Step::Need(ranges) => {
                    for range in ranges {
                        decoder.give(&range, &file[range.bytes.start as usize..range.bytes.end as usize]);
                    }
                }
            }
        }
    }

    #[test]
    fn tensors_have_the_roles_that_they_have_elsewhere() {
        let mut models: BTreeMap<&str, Vec<[&str; 5]>> = BTreeMap::new();
        for line in NAMES.lines() {
            let fields: [&str; 5] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            models.entry(fields[0]).or_default().push(fields);
        }
        let mut wrong = Vec::new();
        for lines in models.values() {
            let shape = |text: &str| text.split('x').map(|n| n.parse().unwrap()).collect::<Vec<u64>>();
            let samples: Vec<Sample> =
                lines.iter().map(|[.., to_shape, name]| Sample::new(name, &shape(to_shape))).collect();
            let elsewhere: Vec<(&str, Vec<u64>)> = lines
                .iter()
                .map(|[_, _, name, of_shape, _]| {
                    let shape = shape(of_shape);
                    let of_one = if name.contains(".experts.0.") { shape[1..].to_vec() } else { shape };
                    (*name, of_one)
                })
                .collect();
            let file = tensors(&written(lines[0][1], &samples));
            let weights = file.weights(&QuantConfig::default(), &States::new());
            let found = roles::positions(weights.iter().map(|w| (&*w.name, &*w.shape)));
            let expected = roles::positions(elsewhere.iter().map(|(name, shape)| (*name, &shape[..])));
            for ((line, is), should) in lines.iter().zip(found).zip(expected) {
                let place = |p: roles::Position| (p.role, p.layer, p.stack, p.expert);
                if is.map(place) != should.map(place) {
                    wrong.push(format!("{line:?}: {:?} instead of {:?}", is.map(place), should.map(place)));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
