//! ONNX, the files of exported models.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::dialect::split;
use super::each::{Each, Fault, Opened, Opening};
use super::{dialect, sets};
use crate::checkpoint::component::NO_MODEL;
use crate::checkpoint::container::{
    Candidate, Component, ComponentFiles, Container, Damaged, Decoder, OpenedFile, Tensors,
};
use crate::formats::endings::{self, strip};
use crate::formats::onnx::{self, Decoded, Model, OnnxError, Place, Stored};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::weight::elements;
use crate::formats::{FileRange, Form, Limits, Weight};

/// The format.
#[derive(Debug)]
pub struct Onnx;

impl Container for Onnx {
    fn name(&self) -> &'static str {
        "ONNX"
    }

    fn components(&self, files: &[String]) -> Vec<Component> {
        let with_data = |named: ComponentFiles| match named {
            ComponentFiles::Named(paths) => {
                let data: Vec<String> = paths.iter().flat_map(|path| data_of(path, files)).cloned().collect();
                ComponentFiles::Named(paths.into_iter().chain(data).collect())
            }
            index @ ComponentFiles::Index(_) => index,
        };
        let found = sets::components(files, &dialect::ONNX).into_iter();
        found
            .map(|component| Component {
                files: with_data(component.files),
                // Whatever may be a model in another format comes before it.
                doubt: component.doubt.max(NO_MODEL - 1),
                rivals: component
                    .rivals
                    .into_iter()
                    .map(|rival| Candidate { files: with_data(rival.files), ..rival })
                    .collect(),
                ..component
            })
            .collect()
    }

    fn is_export(&self) -> bool {
        true
    }

    fn decoder(&self, files: &[OpenedFile<'_>], limits: &Limits) -> Box<dyn Decoder> {
        let file = |file: &OpenedFile<'_>| match strip(file.path, &endings::ONNX) {
            Some(_) => File::Graph(Box::new(onnx::Decoder::new(file.size, limits))),
            None => File::Data,
        };
        let paths: Vec<(String, u64)> = files.iter().map(|file| (file.path.to_owned(), file.size)).collect();
        let ready = move |models: Vec<Model>| {
            let exported = exported(models, &paths)?;
            Ok(Box::new(exported) as Box<dyn Tensors>)
        };
        Box::new(Each::new(files.iter().map(file), limits.header_bytes, 0, ready))
    }
}

/// The files of a folder that hold values of this model, as the exporters name them: `model.onnx_data`,
/// `model.onnx_data_1`, `model.onnx.data`, `model.data`.
fn data_of<'f>(model: &str, files: &'f [String]) -> impl Iterator<Item = &'f String> {
    let (folder, name) = split(model);
    let stem = strip(name, &endings::ONNX).unwrap_or(name).to_owned();
    let (folder, name) = (folder.to_owned(), name.to_owned());
    files.iter().filter(move |path| {
        let (of_file, file) = split(path);
        let behind = file.strip_prefix(name.as_str());
        let is_named = behind.is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
            || file.strip_prefix(stem.as_str()) == Some(".data");
        of_file == folder && is_named
    })
}

/// An opened file.
enum File {
    /// One with a graph.
    Graph(Box<onnx::Decoder>),
    /// One with values alone.
    Data,
}

impl Opening for File {
    type Found = Model;

    fn step(&mut self) -> Result<Opened<Model>, Fault> {
        Ok(match self {
            Self::Data => Opened::Done(Model::default()),
            Self::Graph(decoder) => match decoder.step()? {
                Decoded::Done(model) => Opened::Done(model),
                Decoded::Need(bytes) => Opened::Need(bytes),
            },
        })
    }

    fn give(&mut self, range: &Range<u64>, bytes: &[u8]) {
        if let Self::Graph(decoder) = self {
            decoder.give(range.start, bytes);
        }
    }

    fn together(limit: u64) -> Fault {
        OnnxError::TooLarge { limit }.into()
    }
}

/// The weights of the opened files.
#[derive(Debug)]
struct Exported {
    files: usize,
    weights: Vec<Located>,
    metadata: BTreeMap<String, String>,
}

/// A weight, and where its parts are.
#[derive(Debug)]
struct Located {
    stored: Stored,
    parts: BTreeMap<&'static str, FileRange>,
}

/// What these files hold; of two weights of one name the first counts.
fn exported(models: Vec<Model>, files: &[(String, u64)]) -> Result<Exported, Damaged> {
    let (mut weights, mut metadata) = (Vec::new(), BTreeMap::new());
    let count = models.len();
    for (file, model) in models.into_iter().enumerate() {
        for stored in model.weights {
            let located = Located::new(stored, file, files);
            weights.push(located.map_err(|error| Damaged { file, source: error.into() })?);
        }
        metadata.extend(model.metadata);
    }
    let mut names = HashSet::new();
    let is_first: Vec<bool> =
        weights.iter().map(|weight| names.insert(weight.stored.name.as_str())).collect();
    let mut is_first = is_first.into_iter();
    weights.retain(|_| is_first.next().unwrap_or(false));
    Ok(Exported { files: count, weights, metadata })
}

impl Located {
    /// A weight that this one of the opened files describes.
    fn new(mut stored: Stored, file: usize, files: &[(String, u64)]) -> Result<Self, OnnxError> {
        let mut parts = BTreeMap::new();
        for (suffix, place) in &stored.parts {
            let Some(range) = located(place, file, files) else {
                let name: String = place.location.iter().flat_map(|name| name.chars()).take(80).collect();
                stored.form = Err(format!("in file {name}, which is not among those of the model"));
                continue;
            };
            if files.get(range.file).is_none_or(|(_, size)| range.bytes.end > *size) {
                let location = place.location.clone().unwrap_or_default();
                return Err(OnnxError::Place { name: stored.name, location, why: "it ends there" });
            }
            parts.insert(*suffix, range);
        }
        Ok(Self { stored, parts })
    }
}

/// The bytes of an opened file that this place is, where one is opened that is called so.
fn located(place: &Place, file: usize, files: &[(String, u64)]) -> Option<FileRange> {
    let file = match &place.location {
        None => file,
        Some(location) => {
            let path = format!("{}{location}", split(&files.get(file)?.0).0);
            files.iter().position(|(name, _)| *name == path)?
        }
    };
    Some(FileRange { file, bytes: place.bytes.clone() })
}

impl Tensors for Exported {
    fn files(&self) -> usize {
        self.files
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.weights.iter().map(|weight| weight.stored.name.as_str()))
    }

    fn elements(&self) -> u64 {
        self.weights.iter().fold(0, |sum, weight| elements(&weight.stored.shape).saturating_add(sum))
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata.clone()
    }

    /// What config.json says of packed weights is said of other files.
    fn weights(&self, _: &QuantConfig, _: &States) -> Vec<Weight<'_>> {
        let weight = |Located { stored, parts }: &'_ Located| Weight {
            name: stored.name.clone().into(),
            shape: stored.shape.clone().into(),
            parts: parts.clone(),
            elements: elements(&stored.shape),
            form: match &stored.form {
                Ok(encoding) => Form::Stored(std::sync::Arc::clone(encoding)),
                Err(reason) => Form::Unreadable(reason.clone()),
            },
        };
        self.weights.iter().map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{self, Sample};
    use super::*;
    use crate::checkpoint::container::Step;
    use crate::formats::varint::testing::{field, varint};

    fn write(tensors: &[Sample]) -> Vec<u8> {
        let mut graph = Vec::new();
        for Sample { name, shape, values } in tensors {
            let mut tensor: Vec<u8> =
                shape.iter().flat_map(|n| [vec![1 << 3], varint(*n)].concat()).collect();
            tensor.extend([2 << 3, 1]);
            tensor.extend(field(8, name.as_bytes()));
            tensor.extend(field(9, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()));
            graph.extend(field(5, &tensor));
        }
        [
            vec![1 << 3, 8],
            field(2, b"test"),
            field(7, &graph),
            field(14, &[field(1, b"a"), field(2, b"b")].concat()),
        ]
        .concat()
    }

    #[test]
    fn is_a_container() {
        for name in ["model.onnx", "onnx/model.onnx", "MODEL_FP16.ONNX"] {
            conformance::check(&Onnx, name, write, &[("a", "b")]);
        }
    }

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/onnx/");

    /// What the files of the folder with these names hold.
    fn opened(files: &[(&str, &[u8])]) -> Result<Box<dyn Tensors>, Damaged> {
        let open: Vec<OpenedFile<'_>> =
            files.iter().map(|(path, bytes)| OpenedFile { path, size: bytes.len() as u64 }).collect();
        let mut decoder = Onnx.decoder(&open, &Limits::default());
        loop {
            match decoder.step()? {
                Step::Ready(tensors) => return Ok(tensors),
                Step::Need(ranges) => {
                    for range in ranges {
                        let bytes = range.bytes.start as usize..range.bytes.end as usize;
                        decoder.give(&range, &files[range.file].1[bytes]);
                    }
                }
            }
        }
    }

    /// These rows of a weight.
    fn rows(weight: &Weight<'_>, rows: Range<u64>, columns: u64, files: &[(&str, &[u8])]) -> Vec<f32> {
        let Form::Stored(encoding) = &weight.form else { panic!("{weight:?}") };
        let piece = |part: crate::formats::PartRange| {
            let whole = &weight.parts[part.suffix];
            let (start, end) = (whole.bytes.start + part.bytes.start, whole.bytes.start + part.bytes.end);
            assert!(end <= whole.bytes.end, "{weight:?}");
            &files[whole.file].1[start as usize..end as usize]
        };
        let pieces: Vec<&[u8]> = encoding.ranges(&rows, columns).unwrap().into_iter().map(piece).collect();
        encoding.decode(rows, &pieces).unwrap()
    }

    #[test]
    fn values_are_those_of_the_reference() {
        let expected = std::fs::read_to_string(format!("{FOLDER}expected.tsv")).unwrap();
        let mut seen = BTreeMap::new();
        for line in expected.lines() {
            let [file, name, shape, values] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            *seen.entry(file).or_insert(0) += 1;
            let read = |path: &str| std::fs::read(format!("{FOLDER}{path}")).unwrap();
            let data_name = format!("{file}_data");
            let (own, data) = (read(file), std::fs::read(format!("{FOLDER}{data_name}")).unwrap_or_default());
            let files = [(file, &own[..]), (data_name.as_str(), &data[..])];
            let tensors = opened(&files).unwrap();
            let weights = tensors.weights(&QuantConfig::default(), &States::new());
            let weight = weights.iter().find(|weight| weight.name == name);
            let weight = weight
                .unwrap_or_else(|| panic!("{file}: no {name} in {:?}", tensors.names().collect::<Vec<_>>()));
            let shape: Vec<u64> = shape.split('x').map(|n| n.parse().unwrap()).collect();
            assert_eq!(*weight.shape, shape, "{file} {name}");
            let value =
                |hex: &[u8]| u32::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap().swap_bytes();
            let values: Vec<f32> =
                values.as_bytes().chunks(8).map(|hex| f32::from_bits(value(hex))).collect();
            let columns = shape.last().copied().unwrap();
            let count = values.len() as u64 / columns;
            assert_eq!(rows(weight, 0..count, columns, &files), values, "{file} {name}");
            for row in 0..count {
                let of_row = &values[(row * columns) as usize..((row + 1) * columns) as usize];
                assert_eq!(rows(weight, row..row + 1, columns, &files), of_row, "{file} {name} {row}");
            }
        }
        assert_eq!(seen.values().copied().collect::<Vec<usize>>(), [16, 2, 8, 21, 9], "{seen:?}");
    }

    #[test]
    fn external_data_are_files_of_the_component() {
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = |names: &[&str]| -> Vec<(ComponentFiles, usize)> {
            Onnx.components(&files(names))
                .into_iter()
                .map(|c| (c.files.clone(), c.unsettled().count()))
                .collect()
        };
        let named = |names: &[&str]| ComponentFiles::Named(files(names));
        for (names, expected) in [
            (
                &["model.onnx", "model.onnx_data", "genai_config.json"][..],
                &["model.onnx", "model.onnx_data"][..],
            ),
            (
                &[
                    "onnx/model.onnx",
                    "onnx/model.onnx_data",
                    "onnx/model.onnx_data_1",
                    "onnx/model_fp16.onnx",
                    "onnx/model_fp16.onnx_data",
                    "onnx/model_q4.onnx",
                    "onnx/model_quantized.onnx",
                ],
                &["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1"],
            ),
            (
                &["cpu/model.onnx", "cpu/model.onnx.data", "model.onnx.data"],
                &["cpu/model.onnx", "cpu/model.onnx.data"],
            ),
            (&["onnx/model_q4.onnx", "onnx/model_int8.onnx"], &["onnx/model_int8.onnx"]),
        ] {
            assert_eq!(found(names), [(named(expected), 0)], "{names:?}");
        }
    }

    #[test]
    fn external_data_of_a_file_that_is_not_there_are_named() {
        let own = std::fs::read(format!("{FOLDER}external.onnx")).unwrap();
        let tensors = opened(&[("a/external.onnx", &own)]).unwrap();
        let weights = tensors.weights(&QuantConfig::default(), &States::new());
        assert!(
            weights
                .iter()
                .all(|w| matches!(&w.form, Form::Unreadable(why) if why.contains("external.onnx_data")))
        );
        // Of one that is too short nothing is read.
        let error = opened(&[("external.onnx", &own), ("external.onnx_data", &[0; 100])]).unwrap_err();
        assert!(error.source.to_string().contains("it ends there"), "{}", error.source);
    }
}
