//! GGUF, the files of llama.cpp.

use std::collections::BTreeMap;
use std::ops::Range;

use super::each::{Each, Fault, Opened, Opening};
use super::{dialect, sets};
use crate::checkpoint::container::{Component, Container, Damaged, Decoder, OpenedFile, Tensors};
use crate::formats::gguf::{self, Checkpoint, Decoded, GgufError, Header};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{Limits, ModelConfig, Weight};

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

    fn decoder(&self, files: &[OpenedFile<'_>], limits: &Limits) -> Box<dyn Decoder> {
        let all = files.iter().map(|file| gguf::Decoder::new(file.size, limits));
        Box::new(Each::new(all, limits.header_bytes, 0, read))
    }
}

impl Opening for gguf::Decoder {
    type Found = Header;

    fn step(&mut self) -> Result<Opened<Header>, Fault> {
        Ok(match self.step()? {
            Decoded::Done(header) => Opened::Done(header),
            Decoded::Need(bytes) => Opened::Need(bytes),
        })
    }

    fn give(&mut self, range: &Range<u64>, bytes: &[u8]) {
        self.give(range.start, bytes);
    }

    fn together(limit: u64) -> Fault {
        GgufError::TooLarge { limit }.into()
    }
}

/// What these headers hold.
#[expect(clippy::unnecessary_wraps, reason = "of other formats this may fail")]
fn read(headers: Vec<Header>) -> Result<Box<dyn Tensors>, Damaged> {
    Ok(Box::new(Read { checkpoint: Checkpoint::new(headers) }))
}

/// The headers of the opened files.
#[derive(Debug)]
struct Read {
    checkpoint: Checkpoint,
}

impl Tensors for Read {
    fn files(&self) -> usize {
        self.checkpoint.headers().len()
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
    use crate::checkpoint::container::Step;
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
        let mut decoder =
            Gguf.decoder(&[OpenedFile { path: "model.gguf", size: file.len() as u64 }], &Limits::default());
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
