//! Valid and hostile files, changed at random, read as a reader reads them: none may panic or take more than 256 MB.
//! `cargo test` reads some thousands; a million for each decoder, none of which may take more than a second, are read by
//!
//!     cargo test --release --test it a_million -- --ignored --nocapture
//!
//! What an input was made of follows from its number, and one that fails is kept as a file. Memory is what the reading
//! thread has allocated at once, as the allocator counts it for that thread: nothing that is measured here hands work to
//! another one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use hubprint::checkpoint::container::{ComponentFiles, Container};
use hubprint::checkpoint::containers::{gguf::Gguf, onnx::Onnx, safetensors::Safetensors, torch::Torch};
use hubprint::checkpoint::error::ReadError;
use hubprint::checkpoint::fetch::WeightFiles;
use hubprint::checkpoint::plan::{self, PlanSettings};
use hubprint::checkpoint::sources::memory::MemoryFiles;
use hubprint::formats::adapter_config::AdapterConfig;
use hubprint::formats::packed::{QuantConfig, States};
use hubprint::formats::tokenizer::{Tokenizer, TokenizerFiles};
use hubprint::formats::{FileRange, Form, Limits, ModelConfig, ShardIndex, Weight, json};
use hubprint::signals::tokenizer::TokenizerPrint;
use hubprint::signals::tokens::TokenKeys;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{TINY_CONFIG, demo_hub, files_below, read, tiny, write};

const SEED: u64 = 20;
const MOST_TIME: Duration = Duration::from_secs(1);
const MOST_BYTES: u64 = 256 << 20;
/// Largest file that inputs are made of.
const MOST_FILE: usize = 96 * 1024;
/// Failures after which it is enough.
const ENOUGH: usize = 10;
/// Weights of which rows are read that no plan asks for.
const ROWS_OF: usize = 8;

/// What is driven: its name, the file's name in a checkpoint, the files that inputs are made of, and how one is read.
struct Target {
    name: &'static str,
    place: &'static str,
    corpus: Vec<Vec<u8>>,
    read: fn(&str, Bytes),
}

/// All files of the tests that are small enough, by their path.
fn corpus(is_one: impl Fn(&Path, &[u8]) -> bool) -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut paths: Vec<PathBuf> =
        ["fixtures", "hostile"].iter().flat_map(|folder| files_below(&tests.join(folder))).collect();
    paths.sort();
    let small = paths.iter().filter(|path| path.metadata().unwrap().len() <= MOST_FILE as u64);
    small.map(|path| (path, read(path))).filter(|(path, bytes)| is_one(path, bytes)).map(|(_, b)| b).collect()
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// The hostile files of these places in a checkpoint.
fn hostile(places: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let cases = String::from_utf8(read(&folder.join("cases.tsv"))).unwrap();
    let of = |line: &str| {
        let [file, place, ..] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (places.contains(&place) && !file.ends_with(".recipe")).then(|| read(&folder.join(file)))
    };
    cases.lines().skip(1).filter_map(of).collect()
}

/// The small files of this name of the demo models.
fn demo(name: &str) -> Vec<Vec<u8>> {
    let mut paths = files_below(&demo_hub());
    paths.retain(|path| ends(path, &[name]) && path.metadata().unwrap().len() <= MOST_FILE as u64);
    paths.sort();
    paths.iter().take(8).map(|path| read(path)).collect()
}

fn targets() -> Vec<Target> {
    const TORCH: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];
    let is_zip = |bytes: &[u8]| bytes.starts_with(b"PK");
    let index = br#"{"metadata":{"total_size":100},"weight_map":{"model.embed_tokens.weight":"a-00001-of-00002.safetensors","model.norm.weight":"a-00002-of-00002.safetensors"}}"#;
    let mut safetensors = corpus(|path, _| ends(path, &[".safetensors"]));
    safetensors.extend([tiny(1)].into_iter().filter(|file| file.len() <= MOST_FILE));
    let target = |name, place, corpus, read| Target { name, place, corpus, read };
    let with = |mut all: Vec<Vec<u8>>, one: &[u8]| {
        all.push(one.to_vec());
        all
    };
    vec![
        target("safetensors", "model.safetensors", safetensors, |place, bytes| {
            weights(&Safetensors, place, bytes);
        }),
        target(
            "PyTorch, zip",
            "pytorch_model.bin",
            corpus(|path, bytes| ends(path, &TORCH) && is_zip(bytes)),
            |place, bytes| {
                weights(&Torch, place, bytes);
            },
        ),
        target(
            "PyTorch, stream",
            "pytorch_model.bin",
            corpus(|path, bytes| ends(path, &TORCH) && !is_zip(bytes)),
            |place, bytes| {
                weights(&Torch, place, bytes);
            },
        ),
        target("GGUF", "model.gguf", corpus(|path, _| ends(path, &[".gguf"])), |place, bytes| {
            weights(&Gguf, place, bytes);
        }),
        target("ONNX", "model.onnx", corpus(|path, _| ends(path, &[".onnx"])), |place, bytes| {
            weights(&Onnx, place, bytes);
        }),
        target("index of shards", "", with(hostile(&["model.safetensors.index.json"]), index), |_, bytes| {
            if let Ok(index) = ShardIndex::parse(&bytes, &Limits::default()) {
                let index = index.in_folder("folder/");
                let _ = plan::shards(&index, &index.shards(), &PlanSettings::default());
            }
        }),
        target(
            "config.json",
            "",
            [with(hostile(&["config.json"]), TINY_CONFIG.as_bytes()), demo("config.json")].concat(),
            |_, bytes| {
                let _ = ModelConfig::parse(&bytes);
                let _ = AdapterConfig::parse(&bytes);
                if let Ok(value) = json::parse::<serde_json::Value>(&bytes) {
                    let _ = (ModelConfig::listed(&value), QuantConfig::parse(&value));
                }
            },
        ),
        target(
            "tokenizer.json",
            "tokenizer.json",
            [hostile(&["tokenizer.json"]), demo("tokenizer.json")].concat(),
            tokenizer,
        ),
        target("SentencePiece", "tokenizer.model", hostile(&["tokenizer.model"]), tokenizer),
        target(
            "tokenizer_config.json",
            "tokenizer_config.json",
            hostile(&["tokenizer_config.json"]),
            tokenizer,
        ),
        target("vocab.json", "vocab.json", hostile(&["vocab.json"]), tokenizer),
        target("vocab.txt", "vocab.txt", [hostile(&["vocab.txt"]), demo("vocab.txt")].concat(), tokenizer),
    ]
}

/// Reads the weights of a file as a crawl and a comparison do, and some rows of whatever is in it.
fn weights(container: &dyn Container, place: &str, bytes: Bytes) {
    let read = async {
        let files = MemoryFiles::new([(place.to_owned(), bytes)]);
        let component = ComponentFiles::Named(vec![place.to_owned()]);
        let limits = Limits::default();
        let mut open = WeightFiles::open(&files, &component, &PlanSettings::default(), &limits).await?;
        let (tensors, _) = open.tensors(container, &limits).await?;
        let config = QuantConfig::default();
        let _ = (tensors.metadata(), tensors.config(), tensors.declared_bases(), tensors.needs_config());
        let _ = (tensors.elements(), tensors.files(), tensors.adapter().is_some());
        for settings in [PlanSettings::default(), PlanSettings::detailed()] {
            let wanted = plan::states(&*tensors, &config, &settings);
            open.read(&wanted).await?;
            let state = |f: FileRange| Some(((f.file, f.bytes.start), open.slice(&f)?));
            let states: States = wanted.into_iter().filter_map(state).collect();
            for weight in tensors.weights(&config, &states).iter().take(ROWS_OF) {
                some_rows(weight, &open).await?;
            }
            let Ok(plan) = plan::sample(&*tensors, &config, &states, &settings, &[0, 1]) else { break };
            open.read(&plan.fetches).await?;
            for ask in plan.asks {
                let pieces: Option<Vec<Bytes>> = ask.pieces.iter().map(|piece| open.slice(piece)).collect();
                let pieces = pieces.unwrap_or_default();
                let _ = ask.decode(&pieces.iter().map(|piece| &piece[..]).collect::<Vec<_>>());
            }
        }
        Ok::<_, ReadError>(())
    };
    // In memory nothing is waited for.
    let _ = read.now_or_never().expect("nothing to wait for");
}

/// The first and the last row of a weight, where its parts have them.
async fn some_rows(weight: &Weight<'_>, open: &WeightFiles) -> Result<(), ReadError> {
    let (Form::Stored(encoding), [rows, rest @ ..]) = (&weight.form, &*weight.shape) else { return Ok(()) };
    let columns = rest.iter().fold(1u64, |n, length| n.saturating_mul(*length));
    for row in [0, rows.saturating_sub(1)] {
        let Ok(ranges) = encoding.ranges(&(row..row.saturating_add(1)), columns) else { continue };
        let mut pieces = Vec::new();
        for range in ranges {
            let Some(part) = weight.parts.get(range.suffix) else { return Ok(()) };
            let at = |offset: u64| part.bytes.start.checked_add(offset).filter(|at| *at <= part.bytes.end);
            let (Some(start), Some(end)) = (at(range.bytes.start), at(range.bytes.end)) else {
                return Ok(());
            };
            let piece = FileRange { file: part.file, bytes: Range { start, end } };
            pieces.push(open.range(&piece).await?);
        }
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let _ = encoding.decode(row..row.saturating_add(1), &pieces);
    }
    Ok(())
}

/// Reads a tokenizer of which one file is this.
#[expect(clippy::needless_pass_by_value, reason = "as the other readers take it")]
fn tokenizer(place: &str, bytes: Bytes) {
    let mut files = TokenizerFiles::default();
    // What stands beside it in a checkpoint.
    match place {
        "vocab.json" => files.insert("merges.txt", b"#version: 0.2\na b\n"),
        "tokenizer_config.json" => {
            files.insert(
                "tokenizer.json",
                br#"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#,
            );
        }
        _ => {}
    }
    files.insert(place, &bytes);
    if let Ok(tokenizer) = Tokenizer::parse(&files, &Limits::default()) {
        let keys = TokenKeys::of(&tokenizer);
        let _ = TokenizerPrint::of(&tokenizer, &keys);
    }
}

/// Numbers that lengths, counts and offsets are set to.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    1 << 60,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];
/// What stands in the place of a number or a text of JSON.
const TEXTS: [&[u8]; 14] = [
    b"-1",
    b"1e999",
    b"0.5",
    b"18446744073709551616",
    b"18446744073709551615",
    b"9223372036854775807",
    b"1000000000000",
    b"4294967296",
    b"null",
    b"\"\"",
    b"[]",
    b"{}",
    b"\"\\ud800\"",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// The input with this number: a file of the corpus, changed in one to four places.
fn mutated(corpus: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED.wrapping_add(number));
    let mut file = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        let other = &corpus[rng.random_range(0..corpus.len())];
        change(&mut file, other, &mut rng);
    }
    file
}

/// A place: in the half of all cases near the begin, in some near the end, where headers and directories are.
fn place(length: usize, rng: &mut ChaCha8Rng) -> usize {
    match rng.random_range(0..8) {
        0..4 => rng.random_range(0..length.clamp(1, 512)),
        4 => length.saturating_sub(rng.random_range(1..512)),
        _ => rng.random_range(0..length.max(1)),
    }
}

fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in file.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

fn change(file: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha8Rng) {
    let at = place(file.len(), rng);
    let piece = |file: &[u8], rng: &mut ChaCha8Rng| {
        let start = place(file.len(), rng).min(file.len());
        let length = rng.random_range(1..=256).min(file.len() - start);
        start..start + length
    };
    match rng.random_range(0..10) {
        0 => {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        1 => overwrite(file, at, &[(rng.next_u32() & 0xff) as u8]),
        2 | 3 => {
            let number = match rng.random_range(0..4) {
                0 => file.len() as u64,
                1 => (file.len() as u64).wrapping_add(rng.random_range(0..16)).wrapping_sub(8),
                _ => NUMBERS[rng.random_range(0..NUMBERS.len())],
            };
            let width = [1, 2, 4, 8][rng.random_range(0..4)];
            let bytes = number.to_le_bytes();
            let turned: Vec<u8> = bytes[..width].iter().rev().copied().collect();
            overwrite(file, at, if rng.random_bool(0.8) { &bytes[..width] } else { &turned });
        }
        // A number of protobuf, which takes as many bytes as it needs.
        4 => {
            let mut number = NUMBERS[rng.random_range(0..NUMBERS.len())];
            let mut bytes = Vec::new();
            while number > 0x7f {
                bytes.push((number & 0x7f) as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
            let end = (at + rng.random_range(0..3)).min(file.len());
            file.splice(at.min(end)..end, bytes);
        }
        5 => file.truncate(at),
        6 => {
            let taken = other[piece(other, rng)].to_vec();
            let at = at.min(file.len());
            file.splice(at..at, taken);
        }
        7 => {
            let copied = file[piece(file, rng)].to_vec();
            let times = if rng.random_bool(0.1) { 100 } else { 1 };
            let at = at.min(file.len());
            file.splice(at..at, copied.repeat(times));
        }
        8 => {
            file.drain(piece(file, rng));
        }
        _ => {
            // The next number of a text.
            let Some(start) = file.iter().skip(at).position(u8::is_ascii_digit).map(|start| at + start)
            else {
                return;
            };
            let digits = file[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let text = TEXTS[rng.random_range(0..TEXTS.len())];
            file.splice(start..start + digits, text.iter().copied());
        }
    }
    file.truncate(4 * MOST_FILE);
}

/// What one input took.
struct Taken {
    time: Duration,
    bytes: u64,
}

/// Reads an input; what it took, or that it panicked.
fn take(target: &Target, bytes: &Bytes) -> Result<Taken, ()> {
    let begun = Instant::now();
    let mut ended = Ok(());
    let counted = allocation_counter::measure(|| {
        let read = AssertUnwindSafe(|| (target.read)(target.place, bytes.clone()));
        ended = panic::catch_unwind(read).map_err(drop);
    });
    ended.map(|()| Taken { time: begun.elapsed(), bytes: counted.bytes_max })
}

/// Why an input fails, if it does. One that took long is read again: the machine may have been busy.
fn failure(target: &Target, bytes: &Bytes, most: Duration, worst: &mut Taken) -> Option<String> {
    let Ok(mut taken) = take(target, bytes) else { return Some("it panics".to_owned()) };
    for _ in 0..3 {
        if taken.time > most
            && let Ok(again) = take(target, bytes)
        {
            taken.time = taken.time.min(again.time);
        }
    }
    worst.time = worst.time.max(taken.time);
    worst.bytes = worst.bytes.max(taken.bytes);
    if taken.time > most {
        Some(format!("it takes {:?}", taken.time))
    } else if taken.bytes > MOST_BYTES {
        Some(format!("it takes {} MB", taken.bytes >> 20))
    } else {
        None
    }
}

/// Reads the inputs with these numbers of one decoder, on all cores.
#[expect(clippy::print_stdout, reason = "what the command is run for")]
fn reads(target: &Target, count: u64, most: Duration) -> Vec<String> {
    assert!(!target.corpus.is_empty(), "{}: no files", target.name);
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    let work = || {
        let mut worst = Taken { time: Duration::ZERO, bytes: 0 };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || failures.lock().unwrap().len() >= ENOUGH {
                return worst;
            }
            let bytes = Bytes::from(mutated(&target.corpus, number));
            if let Some(why) = failure(target, &bytes, most, &mut worst) {
                let name = format!("{}-{number}", target.name.replace([' ', ','], "_"));
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
                write(&kept, &bytes);
                let what = format!("{}, input {number}: {why}; it is {}", target.name, kept.display());
                failures.lock().unwrap().push(what);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let worst: Vec<Taken> = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let time = worst.iter().map(|taken| taken.time).max().unwrap_or_default();
    let bytes = worst.iter().map(|taken| taken.bytes).max().unwrap_or_default();
    println!(
        "{:22} {count} inputs of {} files in {:.0} s; at most {:.0} ms and {:.1} MB for one",
        target.name,
        target.corpus.len(),
        begun.elapsed().as_secs_f64(),
        time.as_secs_f64() * 1e3,
        bytes as f64 / f64::from(1 << 20),
    );
    failures.into_inner().unwrap()
}

fn all(count: u64, most: Duration) {
    let failures: Vec<String> = targets().iter().flat_map(|target| reads(target, count, most)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn some_thousand_mutated_inputs() {
    // How long one takes is for a machine that does nothing else.
    all(1000, Duration::MAX);
}

#[test]
#[ignore = "half an hour; CONTRIBUTING.md has the command"]
fn a_million_mutated_inputs() {
    all(1_000_000, MOST_TIME);
}

#[test]
fn inputs_follow_from_their_numbers() {
    let corpus = [b"one file of a few".to_vec(), b"{\"another\": 12345}".to_vec()];
    let made: BTreeMap<Vec<u8>, u64> = (0..200).map(|number| (mutated(&corpus, number), number)).collect();
    assert!(made.len() > 150, "{}", made.len());
    assert!(made.iter().all(|(bytes, number)| mutated(&corpus, *number) == *bytes));
}
