//! The work under the stages, each by itself: headers of 10 to 100,000 tensors, decoding by dtype, and what makes a
//! fingerprint of decoded rows. Beside it, in the same unit, a copy of the same bytes: how fast memory is here.
//!
//! docs/performance.md says what of this limits which stage.

#![expect(clippy::unwrap_used, reason = "a bench; a panic is its verdict")]

#[path = "shared/settings.rs"]
mod settings;

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use hubprint::formats::safetensors::{Decoded, try_decode};
use hubprint::formats::{Dtype, Header, Limits};
use hubprint::signals::blocks::le_bytes;
use hubprint::signals::buckets::Buckets;
use hubprint::signals::columns::{Columns, standardise};
use hubprint::signals::hash::mix;
use hubprint::signals::sketch::Sketch;
use sha2::{Digest, Sha256};

/// Elements of one decoding: 4 MB as F32, which no cache of a core holds.
const ELEMENTS: usize = 1 << 20;
/// Hidden size and embedding rows of a 7B model.
const HIDDEN: usize = 4096;
const ROWS: u64 = 256;

fn main() {
    let mut criterion = settings::criterion();
    header(&mut criterion);
    decode(&mut criterion);
    signals(&mut criterion);
    criterion.final_summary();
}

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    for tensors in [10, 100, 1000, 10_000, 100_000] {
        let (bytes, size) = header_of(tensors);
        assert_eq!(parsed(&bytes, size).tensors.len(), tensors);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("tensors", tensors), &bytes, |b, bytes| {
            b.iter(|| parsed(black_box(bytes), size));
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4M3, Dtype::F8E5M2, Dtype::I8] {
        let bytes = noise(ELEMENTS * dtype.decodable_bytes().unwrap());
        assert_eq!(dtype.decode(&bytes).unwrap().len(), ELEMENTS);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(dtype.name(), |b| b.iter(|| dtype.decode(black_box(&bytes))));
    }
    let bytes = noise(4 * ELEMENTS);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("baseline: a copy", |b| b.iter(|| black_box(&bytes).clone()));
    group.finish();
}

fn signals(criterion: &mut Criterion) {
    let rows: Vec<Vec<f32>> = (0..ROWS).map(row).collect();
    let mut columns = Columns::new(HIDDEN);
    for row in &rows {
        assert!(columns.push(row).is_some());
    }
    // Of independent rows: one over the degrees of freedom.
    assert!(
        (columns.mean_squared_correlation() * HIDDEN as f32 - 1.0).abs() < 0.2,
        "{}",
        columns.mean_squared_correlation()
    );

    let mut group = criterion.benchmark_group("signals");
    group.throughput(Throughput::Bytes(4 * HIDDEN as u64));
    let mut next = (0..rows.len()).cycle();
    let mut room = rows[0].clone();
    group.bench_function("standardise a row", |b| {
        b.iter(|| {
            room.copy_from_slice(&rows[next.next().unwrap_or(0)]);
            standardise(&mut room)
        });
    });
    let mut cell = Sketch::<32>::default();
    let places = Buckets::new(7, HIDDEN);
    group.bench_function("sketch a row", |b| b.iter(|| cell.add(black_box(&places), &rows[0])));
    group.bench_function("places of a row", |b| b.iter(|| Buckets::new(black_box(7), HIDDEN)));
    group.bench_function("digest a row", |b| {
        b.iter(|| Sha256::digest(le_bytes(black_box(&rows[0]))));
    });
    group.bench_function("baseline: copy a row", |b| b.iter(|| room.copy_from_slice(black_box(&rows[0]))));
    // Multiplications; with 256 rows of 4,096 it is 134 million.
    group.throughput(Throughput::Elements(ROWS * (ROWS - 1) / 2 * HIDDEN as u64));
    group.bench_function("mean squared correlation of 256 rows", |b| {
        b.iter(|| black_box(&columns).mean_squared_correlation());
    });
    group.finish();
}

/// A header of so many small matrices, and the size of its file.
fn header_of(tensors: usize) -> (Vec<u8>, u64) {
    let mut json = "{\"__metadata__\":{\"format\":\"pt\"}".to_owned();
    for i in 0..tensors {
        let (begin, end) = (128 * i, 128 * (i + 1));
        write!(
            json,
            ",\"model.layers.{}.mlp.experts.{}.down_proj.weight\":\
             {{\"dtype\":\"BF16\",\"shape\":[8,8],\"data_offsets\":[{begin},{end}]}}",
            i / 256,
            i % 256
        )
        .unwrap();
    }
    json.push('}');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    let size = bytes.len() as u64 + 128 * tensors as u64;
    (bytes, size)
}

fn parsed(bytes: &[u8], size: u64) -> Header {
    match try_decode(bytes, size, &Limits::default()).unwrap() {
        Decoded::Done(header) => header,
        Decoded::Need(end) => unreachable!("the header is complete, yet {end} bytes are wanted"),
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(8) as u64).flat_map(|i| mix(i).to_le_bytes()).take(bytes).collect()
}

/// Weights of one row, of a distribution with tails.
fn row(seed: u64) -> Vec<f32> {
    let uniform = |i: u64| (mix(seed << 32 | i) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    (0..HIDDEN as u64).map(|i| uniform(i).powi(3)).collect()
}
