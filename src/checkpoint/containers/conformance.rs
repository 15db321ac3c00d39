//! What every container must do. Each one's tests call [`check`] with files of its own making.

use std::ops::Range;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::checkpoint::container::{ComponentFiles, Container, Damaged, OpenedFile, Step, Tensors};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{FileRange, Form, Limits, Weight};

/// A tensor that a test writes.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) values: Vec<f32>,
}

impl Sample {
    /// Values that every float format holds exactly.
    pub(super) fn new(name: &str, shape: &[u64]) -> Self {
        let count = shape.iter().product::<u64>();
        let values = (0..count).map(|i| f32::from(i as u8) / 8.0 - 7.0).collect();
        Self { name: name.to_owned(), shape: shape.to_vec(), values }
    }
}

/// A reader asks a decoder at most so often.
const MOST_STEPS: usize = 16;
const SEED: u64 = 7;

/// Holds a container to the contract. `name` is a file that it claims, `write` makes its content, and `metadata` is what
/// that says of itself.
pub(super) fn check(
    container: &dyn Container,
    name: &str,
    write: impl Fn(&[Sample]) -> Vec<u8>,
    metadata: &[(&str, &str)],
) {
    let one = [
        Sample::new("model.embed_tokens.weight", &[11, 8]),
        Sample::new("model.layers.0.input_layernorm.weight", &[8]),
        Sample::new("model.layers.0.mlp.down_proj.weight", &[8, 16]),
    ];
    let two = [
        Sample::new("model.layers.1.mlp.down_proj.weight", &[8, 16]),
        Sample::new("model.norm.weight", &[8]),
    ];
    claims_its_own_files(container, name);
    let (a, b) = (write(&one), write(&two));
    let tried = Tried { container, name };
    reads_what_was_written(tried, &[&a], &[&one], metadata);
    reads_what_was_written(tried, &[&a, &b], &[&one, &two], metadata);
    keeps_to_the_limits(tried, &[&a, &b]);
    survives_damage(tried, &a);
}

/// A container, and what a file of it is called.
#[derive(Clone, Copy)]
struct Tried<'a> {
    container: &'a dyn Container,
    name: &'a str,
}

fn claims_its_own_files(container: &dyn Container, name: &str) {
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let main = [(String::new(), ComponentFiles::Named(names(&[name])))];
    let found = |files: &[String]| -> Vec<(String, ComponentFiles)> {
        container.components(files).into_iter().map(|found| (found.name, found.files)).collect()
    };
    assert_eq!(found(&names(&[name])), main);
    let more = ["config.json", name, "README.md", "tokenizer.json"];
    let turned: Vec<&str> = more.iter().rev().copied().collect();
    assert_eq!(found(&names(&more)), main);
    assert_eq!(found(&names(&turned)), main, "the order of names means nothing");
    assert!(container.components(&names(&["config.json", "README.md"])).is_empty());
    assert!(container.components(&[]).is_empty());
    assert!(!container.name().is_empty());
}

/// What the files hold, and the bytes that this took. Asserts that only bytes of the files are asked for, in few steps.
fn decode(
    Tried { container, name }: Tried<'_>,
    files: &[&[u8]],
    limits: &Limits,
) -> Result<(Box<dyn Tensors>, u64), Damaged> {
    let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
    let paths: Vec<String> = (0..files.len()).map(|i| format!("{i}/{name}")).collect();
    let opened = paths.iter().zip(&sizes).map(|(path, size)| OpenedFile { path, size: *size });
    let mut decoder = container.decoder(&opened.collect::<Vec<_>>(), limits);
    let mut read = 0;
    for _ in 0..MOST_STEPS {
        match decoder.step()? {
            Step::Ready(tensors) => return Ok((tensors, read)),
            Step::Need(ranges) => {
                assert!(!ranges.is_empty(), "nothing is needed, and it is not ready");
                let mut asked: Vec<usize> = ranges.iter().map(|range| range.file).collect();
                asked.dedup();
                assert_eq!(asked.len(), ranges.len(), "one range of a file at a time");
                for range in ranges {
                    assert!(range.bytes.start < range.bytes.end && range.bytes.end <= sizes[range.file]);
                    read += range.len();
                    decoder.give(&range, bytes(files, &range));
                }
            }
        }
    }
    panic!("not ready after {MOST_STEPS} steps");
}

fn bytes<'a>(files: &[&'a [u8]], range: &FileRange) -> &'a [u8] {
    &files[range.file][range.bytes.start as usize..range.bytes.end as usize]
}

fn weights(tensors: &dyn Tensors) -> Vec<Weight<'_>> {
    tensors.weights(&QuantConfig::default(), &States::new())
}

/// The values of rows of a weight, read as a reader reads them.
fn rows(weight: &Weight<'_>, rows: Range<u64>, columns: u64, files: &[&[u8]]) -> Vec<f32> {
    let Form::Stored(encoding) = &weight.form else { panic!("{weight:?}") };
    let parts = &weight.parts;
    let pieces: Vec<&[u8]> = encoding
        .ranges(&rows, columns)
        .unwrap()
        .into_iter()
        .map(|range| {
            let part = &parts[range.suffix];
            let bytes_of = part.bytes.start + range.bytes.start..part.bytes.start + range.bytes.end;
            assert!(bytes_of.end <= part.bytes.end, "{weight:?} ends before row {}", rows.end);
            bytes(files, &FileRange { file: part.file, bytes: bytes_of })
        })
        .collect();
    encoding.decode(rows, &pieces).unwrap()
}

fn reads_what_was_written(
    tried: Tried<'_>,
    files: &[&[u8]],
    samples: &[&[Sample]],
    metadata: &[(&str, &str)],
) {
    let (tensors, _) = decode(tried, files, &Limits::default()).unwrap();
    let samples: Vec<&Sample> = samples.iter().copied().flatten().collect();
    assert_eq!(tensors.files(), files.len());
    assert_eq!(tensors.elements(), samples.iter().map(|s| s.values.len() as u64).sum::<u64>());
    let mut names: Vec<&str> = tensors.names().collect();
    names.sort_unstable();
    let mut written: Vec<&str> = samples.iter().map(|s| s.name.as_str()).collect();
    written.sort_unstable();
    assert_eq!(names, written);
    for (key, value) in metadata {
        assert_eq!(tensors.metadata().get(*key).map(String::as_str), Some(*value));
    }
    assert!(!tensors.needs_config(), "plain weights need none");
    let weights = weights(&*tensors);
    assert_eq!(weights.len(), samples.len());
    for sample in samples {
        let weight = weights.iter().find(|w| w.name == sample.name).unwrap();
        assert_eq!(*weight.shape, *sample.shape);
        let columns = sample.shape.last().copied().unwrap();
        let all = sample.values.len() as u64 / columns;
        assert_eq!(rows(weight, 0..all, columns, files), sample.values);
        for start in 0..all {
            for end in start + 1..=all.min(start + 3) {
                let expected = &sample.values[(start * columns) as usize..(end * columns) as usize];
                assert_eq!(rows(weight, start..end, columns, files), expected);
            }
        }
    }
}

fn keeps_to_the_limits(tried: Tried<'_>, files: &[&[u8]]) {
    let (_, needed) = decode(tried, files, &Limits::default()).unwrap();
    assert!(needed <= files.iter().map(|f| f.len() as u64).sum::<u64>(), "no byte twice");
    for limits in
        [Limits { header_bytes: 8, ..Limits::default() }, Limits { tensors: 1, ..Limits::default() }]
    {
        assert!(decode(tried, files, &limits).is_err(), "{limits:?}");
    }
}

/// Whatever the bytes are: an error, or weights that lie inside the file.
fn survives_damage(tried: Tried<'_>, file: &[u8]) {
    let check = |file: &[u8]| {
        let Ok((tensors, _)) = decode(tried, &[file], &Limits::default()) else { return };
        for weight in weights(&*tensors) {
            if let Weight { form: Form::Stored(_), parts, .. } = &weight {
                for part in parts.values() {
                    assert!(part.file == 0 && part.bytes.start <= part.bytes.end, "{weight:?}");
                    assert!(part.bytes.end <= file.len() as u64, "{weight:?}");
                }
            }
        }
    };
    for end in 0..file.len().min(2048) {
        check(&file[..end]);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for _ in 0..2000 {
        let mut damaged = file.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..damaged.len().min(512));
            damaged[at] = (rng.next_u32() & 0xff) as u8;
        }
        check(&damaged);
    }
}
