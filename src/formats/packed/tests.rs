//! The layouts against the libraries that define them, and against themselves.

use std::ops::Range;

use proptest::prelude::*;
use serde_json::Value;

use super::layouts::{FP4, NF4};
use super::*;
use crate::formats::safetensors::{Decoded, try_decode};
use crate::formats::{Dtype, Form, Header, Limits, Weight};

/// A golden file: made by a library (tests/fixtures/packed/make.py).
struct Golden {
    file: &'static [u8],
    header: Header,
}

macro_rules! golden {
    ($name:literal) => {
        Golden::new(include_bytes!(concat!("../../../tests/fixtures/packed/", $name, ".safetensors")))
    };
}

impl Golden {
    fn new(file: &'static [u8]) -> Self {
        match try_decode(file, file.len() as u64, &Limits::default()) {
            Ok(Decoded::Done(header)) => Self { file, header },
            other => panic!("{other:?}"),
        }
    }

    fn parts(&self) -> Parts<'_> {
        self.header
            .tensors
            .iter()
            .filter_map(|t| {
                let rest = t.name.strip_prefix("layer")?;
                Some((rest.strip_prefix('.').unwrap_or(rest), t))
            })
            .collect()
    }

    fn about(&self) -> Value {
        serde_json::from_str(&self.header.metadata["golden"]).unwrap()
    }

    fn config(&self) -> QuantConfig {
        QuantConfig::parse(&serde_json::json!({ "quantization_config": self.about()["config"] }))
    }

    fn bytes(&self, tensor: &TensorInfo) -> &'static [u8] {
        &self.file[tensor.bytes.start as usize..tensor.bytes.end as usize]
    }

    fn reference(&self) -> &TensorInfo {
        self.header.tensors.iter().find(|t| t.name == "reference").unwrap()
    }

    /// How the layer is packed; where its tensors do not tell the shape, with that of the reference.
    fn packing(&self) -> Packing {
        let parts = self.parts();
        let mut answer = recognise(&parts, &self.config(), None).unwrap();
        if let Recognised::NeedState(suffix) = &answer {
            let state = self.bytes(parts[suffix.as_str()]);
            answer = recognise(&parts, &self.config(), Some(state)).unwrap();
        }
        match answer {
            Recognised::Packed(packing) => *packing,
            Recognised::Flat(flat) => flat.as_matrix(self.reference().shape[0], self.reference().shape[1]),
            other => panic!("{other:?}"),
        }
    }

    /// Decodes from nothing but the named ranges.
    fn decode(&self, packing: &Packing, rows: Range<u64>) -> Vec<f32> {
        let parts = self.parts();
        let ranges = packing.ranges(&rows).unwrap();
        let pieces: Vec<&[u8]> = ranges
            .iter()
            .map(|r| &self.bytes(parts[r.suffix])[r.bytes.start as usize..r.bytes.end as usize])
            .collect();
        packing.decode(rows, &pieces).unwrap()
    }

    /// Holds the whole against the library, and every smaller block against the whole.
    fn check(&self) {
        let packing = self.packing();
        let columns = packing.columns as usize;
        let all = self.decode(&packing, 0..packing.rows);
        assert_eq!(all.len(), packing.rows as usize * columns);
        let reference = self.reference();
        assert_eq!(reference.shape[1], packing.columns);
        let expected = reference.dtype.unwrap().decode(self.bytes(reference)).unwrap();
        let about = self.about();
        let first = about["first_row"].as_u64().unwrap() as usize;
        let tolerance = about["tolerance"].as_f64().unwrap() as f32;
        assert!(expected.iter().any(|v| *v != 0.0));
        for (i, (found, expected)) in all[first * columns..].iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= tolerance * expected.abs(), "{i}: {found} {expected}");
        }
        for start in 0..packing.rows {
            for end in [start + 1, start + 3].into_iter().filter(|e| *e <= packing.rows) {
                let block = self.decode(&packing, start..end);
                assert_eq!(block, all[start as usize * columns..end as usize * columns]);
            }
        }
    }
}

#[test]
fn bitsandbytes_as_the_library() {
    for golden in [
        golden!("bnb_nf4"),
        golden!("bnb_nf4_double"),
        golden!("bnb_nf4_odd"),
        golden!("bnb_fp4"),
        golden!("bnb_fp4_double"),
        golden!("bnb_int8"),
    ] {
        golden.check();
    }
}

#[test]
fn built_in_tables_are_the_stored_ones() {
    for (golden, table) in [(golden!("bnb_nf4"), NF4), (golden!("bnb_fp4"), FP4)] {
        let parts = golden.parts();
        let stored = Dtype::F32.decode(golden.bytes(parts["weight.quant_map"])).unwrap();
        assert_eq!(stored, table);
    }
}

#[test]
fn gptq_as_the_libraries() {
    for golden in [
        golden!("gptq_v1_2bit"),
        golden!("gptq_v1_3bit"),
        golden!("gptq_v1_4bit"),
        golden!("gptq_v1_4bit_act"),
        golden!("gptq_v1_8bit"),
        golden!("gptq_v2_3bit"),
        golden!("gptq_v2_4bit"),
    ] {
        golden.check();
    }
}

#[test]
fn awq_as_the_library() {
    golden!("awq").check();
}

#[test]
fn compressed_tensors_as_the_library() {
    for golden in [
        golden!("ct_4bit_group"),
        golden!("ct_4bit_zero"),
        golden!("ct_8bit_channel"),
        golden!("ct_int8"),
        golden!("ct_fp8_tensor"),
        golden!("ct_fp8_block"),
    ] {
        golden.check();
    }
}

#[test]
fn block_formats_as_transformers() {
    golden!("fp8_block").check();
    golden!("mxfp4").check();
}

#[test]
fn mlx_as_the_library() {
    for golden in [golden!("mlx_3bit"), golden!("mlx_4bit"), golden!("mlx_6bit")] {
        golden.check();
    }
}

#[test]
fn auto_round_as_the_library() {
    for golden in [golden!("auto_round_gptq_4bit"), golden!("auto_round_4bit"), golden!("auto_round_5bit")] {
        golden.check();
    }
}

#[test]
fn words_of_compressed_tensors_as_its_versions() {
    for golden in [
        golden!("ct_3bit_words"),
        golden!("ct_3bit_dense"),
        golden!("ct_6bit_words"),
        golden!("ct_6bit_dense"),
    ] {
        golden.check();
        // Where groups differ in bits, the shape tells them.
        let (parts, mixed) =
            (golden.parts(), QuantConfig { bits: None, group_size: None, ..golden.config() });
        let shape = golden.bytes(parts["weight_shape"]);
        let asked = recognise(&parts, &mixed, None).unwrap();
        assert!(matches!(asked, Recognised::NeedState(suffix) if suffix == "weight_shape"));
        let Recognised::Packed(told) = recognise(&parts, &mixed, Some(shape)).unwrap() else { panic!() };
        assert_eq!(*told, golden.packing());
    }
}

#[test]
fn four_bit_floats_as_the_libraries() {
    for golden in [
        golden!("modelopt_nvfp4"),
        golden!("ct_nvfp4"),
        golden!("ct_mxfp4"),
        golden!("mlx_nvfp4"),
        golden!("mlx_mxfp4"),
        golden!("mlx_mxfp8"),
    ] {
        golden.check();
    }
}

#[test]
fn hqq_as_the_library() {
    for golden in [
        golden!("hqq_8bit_axis1"),
        golden!("hqq_4bit_axis1"),
        golden!("hqq_4bit_axis0"),
        golden!("hqq_3bit_axis1"),
        golden!("hqq_3bit_axis0"),
        golden!("hqq_2bit_axis1"),
        golden!("hqq_1bit_axis1"),
        golden!("hqq_3bit_float"),
        golden!("hqq_4bit_float"),
    ] {
        golden.check();
    }
}

#[test]
fn quanto_torchao_and_bitnet_as_the_libraries() {
    for golden in [
        golden!("quanto_int8"),
        golden!("quanto_float8"),
        golden!("quanto_int4"),
        golden!("quanto_int2"),
        golden!("torchao_float8"),
        golden!("torchao_intx"),
        golden!("torchao_int4"),
        golden!("bitnet_bitlinear"),
        golden!("bitnet_auto"),
    ] {
        golden.check();
    }
}

/// torchao flattened names in another way before 0.15.
#[test]
fn older_names_of_torchao_are_known() {
    let made = layer(&[("weight:qdata", "I8"), ("weight:scale", "F32"), ("bias", "F32")]);
    let mut parts = made.parts();
    let scale = TensorInfo { shape: vec![2, 1], ..parts["weight:scale"].clone() };
    parts.insert("weight:scale", &scale);
    assert!(matches!(recognise(&parts, &config("torchao", 8), None), Ok(Recognised::Packed(_))));
}

#[test]
fn zero_points_of_auto_round_follow_the_packer() {
    let (made, _) = gptq(4, 32, 32, 1, 7);
    let first = |method: &str, version: Option<&str>| {
        let config = QuantConfig { version: version.map(Into::into), ..config(method, 4) };
        made.decode(&config, 0..1).ok()
    };
    let (less_one, direct) = (first("gptq", None), first("gptq", Some("gptq_v2")));
    assert!(less_one.is_some() && less_one != direct);
    for version in
        [None, Some("auto_round:auto_gptq"), Some("auto_round:gptq:exllamav2"), Some("gptq:marlin")]
    {
        for method in ["auto-round", "auto_round", "intel/auto-round"] {
            assert_eq!(first(method, version), less_one, "{version:?}");
        }
    }
    for version in ["auto_round", "auto_round:gptqmodel", "auto_round:exllamav2"] {
        assert_eq!(first("auto-round", Some(version)), direct, "{version}");
    }
    assert_eq!(first("gptqmodel", None), less_one);
    assert_eq!(first("gptq", Some("marlin")), None);
}

/// A layer made by the test.
#[derive(Default)]
struct Made {
    tensors: Vec<(TensorInfo, Vec<u8>)>,
}

impl Made {
    fn add(&mut self, suffix: &str, dtype: &str, shape: &[u64], bytes: Vec<u8>) {
        let tensor = TensorInfo {
            name: suffix.into(),
            dtype: Dtype::parse(dtype),
            shape: shape.to_vec(),
            bytes: 0..bytes.len() as u64,
        };
        assert_eq!(tensor.elements() * tensor.dtype.unwrap().bits(), bytes.len() as u64 * 8);
        self.tensors.push((tensor, bytes));
    }

    fn parts(&self) -> Parts<'_> {
        self.tensors.iter().map(|(t, _)| (t.name.as_str(), t)).collect()
    }

    fn decode(&self, config: &QuantConfig, rows: Range<u64>) -> Result<Vec<f32>, PackedError> {
        let bytes = |suffix: &str| &self.tensors.iter().find(|(t, _)| t.name == suffix).unwrap().1[..];
        let mut answer = recognise(&self.parts(), config, None)?;
        if let Recognised::NeedState(suffix) = &answer {
            answer = recognise(&self.parts(), config, Some(bytes(suffix)))?;
        }
        let Recognised::Packed(packing) = answer else { panic!("{answer:?}") };
        let ranges = packing.ranges(&rows)?;
        let pieces: Vec<&[u8]> =
            ranges.iter().map(|r| &bytes(r.suffix)[r.bytes.start as usize..r.bytes.end as usize]).collect();
        packing.decode(rows, &pieces)
    }
}

fn config(method: &str, bits: u64) -> QuantConfig {
    QuantConfig { method: Some(method.into()), bits: Some(bits), ..QuantConfig::default() }
}

/// Numbers below `end`, by the congruence of Numerical Recipes.
fn random(seed: u32, n: u64, end: u64) -> Vec<u64> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from(state >> 8) % end
    };
    (0..n).map(next).collect()
}

/// Codes one after the other, lowest bits first, filled up to words of 32 bits.
fn pack(codes: &[u64], bits: u64) -> Vec<u32> {
    let mut words = vec![0u32; (codes.len() as u64 * bits).div_ceil(32) as usize];
    for (i, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let at = i as u64 * bits + bit;
            words[(at / 32) as usize] |= ((code >> bit & 1) as u32) << (at % 32);
        }
    }
    words
}

fn transpose<T: Copy>(matrix: &[Vec<T>]) -> Vec<Vec<T>> {
    (0..matrix[0].len()).map(|y| matrix.iter().map(|row| row[y]).collect()).collect()
}

fn matrix(values: &[u64], columns: u64) -> Vec<Vec<u64>> {
    values.chunks(columns as usize).map(<[u64]>::to_vec).collect()
}

fn raw(words: &[Vec<u32>]) -> Vec<u8> {
    words.iter().flatten().flat_map(|w| w.to_le_bytes()).collect()
}

fn floats(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()
}

/// A number in 1..=8 for each group: exact, and no two neighbours alike.
fn scale(place: u64) -> u64 {
    place % 8 + 1
}

/// GPTQ, version 1, with a random group for each column.
fn gptq(bits: u64, rows: u64, columns: u64, groups: u64, seed: u32) -> (Made, Vec<f32>) {
    let codes = matrix(&random(seed, rows * columns, 1 << bits), columns);
    let zeros = matrix(&random(!seed, groups * rows, (1 << bits) - 1), rows);
    let g_idx = random(seed ^ 0xff, columns, groups);
    let mut made = Made::default();
    let down: Vec<Vec<u32>> = codes.iter().map(|row| pack(row, bits)).collect();
    made.add("qweight", "I32", &[columns * bits / 32, rows], raw(&transpose(&down)));
    let across: Vec<Vec<u32>> = zeros.iter().map(|row| pack(row, bits)).collect();
    made.add("qzeros", "I32", &[groups, rows * bits / 32], raw(&across));
    let scales: Vec<u64> = (0..groups * rows).map(scale).collect();
    made.add("scales", "F32", &[groups, rows], floats(&scales));
    let index: Vec<u8> = g_idx.iter().flat_map(|g| (*g as i32).to_le_bytes()).collect();
    made.add("g_idx", "I32", &[columns], index);
    let value = |row: u64, column: u64| {
        let group = g_idx[column as usize];
        let zero = zeros[group as usize][row as usize] + 1;
        (codes[row as usize][column as usize] as f32 - zero as f32) * scale(group * rows + row) as f32
    };
    let expected = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| value(r, c));
    let expected = expected.collect();
    (made, expected)
}

/// In each word of AWQ, place j holds output ORDER[j] of eight.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

proptest! {
    #[test]
    fn gptq_round_trip(
        bits in prop::sample::select(vec![2u64, 3, 4, 8]),
        rows in 1u64..3,
        columns in 1u64..4,
        groups in 1u64..5,
        seed: u32,
        row in 0u64..32,
    ) {
        let (rows, columns) = (rows * 32, columns * 32);
        let (made, expected) = gptq(bits, rows, columns, groups, seed);
        prop_assert_eq!(&made.decode(&config("gptq", bits), 0..rows).unwrap(), &expected);
        let at = (row * columns) as usize;
        let one = made.decode(&config("gptq", bits), row..row + 1).unwrap();
        prop_assert_eq!(&one, &expected[at..at + columns as usize]);
    }

    #[test]
    fn awq_round_trip(rows in 1u64..5, groups in 1u64..4, span in 1u64..9, seed: u32) {
        let (rows, columns) = (rows * 8, groups * span);
        let interleave = |row: &Vec<u64>| {
            let places = row.chunks(8).flat_map(|eight| ORDER.map(|o| eight[o]));
            pack(&places.collect::<Vec<_>>(), 4)
        };
        let codes = matrix(&random(seed, columns * rows, 16), rows);
        let zeros = matrix(&random(!seed, groups * rows, 16), rows);
        let mut made = Made::default();
        let words = |m: &[Vec<u64>]| raw(&m.iter().map(interleave).collect::<Vec<_>>());
        made.add("qweight", "I32", &[columns, rows / 8], words(&codes));
        made.add("qzeros", "I32", &[groups, rows / 8], words(&zeros));
        let scales: Vec<u64> = (0..groups * rows).map(scale).collect();
        made.add("scales", "F32", &[groups, rows], floats(&scales));
        let decoded = made.decode(&config("awq", 4), 1..rows).unwrap();
        for (i, found) in decoded.iter().enumerate() {
            let (row, column) = (i as u64 / columns + 1, i as u64 % columns);
            let group = column / span;
            let zero = zeros[group as usize][row as usize] as f32;
            let code = codes[column as usize][row as usize] as f32;
            prop_assert_eq!(*found, (code - zero) * scale(group * rows + row) as f32);
        }
    }

    #[test]
    fn compressed_tensors_round_trip(
        bits in prop::sample::select(vec![2u64, 4, 8]),
        rows in 2u64..20,
        groups in 1u64..4,
        seed: u32,
        asymmetric: bool,
    ) {
        let (columns, half) = (groups * 32, (1i64 << bits) / 2);
        let codes = matrix(&random(seed, rows * columns, 1 << bits), columns);
        let zeros = matrix(&random(!seed, rows * groups, 1 << bits), groups);
        let mut made = Made::default();
        let across: Vec<Vec<u32>> = codes.iter().map(|row| pack(row, bits)).collect();
        made.add("weight_packed", "I32", &[rows, columns * bits / 32], raw(&across));
        let scales: Vec<u64> = (0..rows * groups).map(scale).collect();
        made.add("weight_scale", "F32", &[rows, groups], floats(&scales));
        if asymmetric {
            let down: Vec<Vec<u32>> = transpose(&zeros).iter().map(|group| pack(group, bits)).collect();
            let shape = [(rows * bits).div_ceil(32), groups];
            made.add("weight_zero_point", "I32", &shape, raw(&transpose(&down)));
        }
        let decoded = made.decode(&config("compressed-tensors", bits), 1..rows).unwrap();
        for (i, found) in decoded.iter().enumerate() {
            let (row, column) = (i / columns as usize + 1, i % columns as usize);
            let zero = if asymmetric { zeros[row][column / 32] as i64 } else { half };
            let code = codes[row][column] as i64;
            let s = scale((row * groups as usize + column / 32) as u64) as f32;
            prop_assert_eq!(*found, (code - zero) as f32 * s);
        }
    }

    #[test]
    fn four_bit_round_trip(
        rows in 1u64..12,
        columns in 1u64..40,
        block in 1u64..70,
        nested in prop::option::of(1u64..5),
        seed: u32,
    ) {
        let n = rows * columns;
        let codes = random(seed, n, 16);
        let entries = n.div_ceil(block);
        let mut made = Made::default();
        let pair = |p: &[u64]| (p[0] << 4 | p.get(1).unwrap_or(&0)) as u8;
        made.add("weight", "U8", &[n.div_ceil(2), 1], codes.chunks(2).map(pair).collect());
        let mut state = serde_json::json!({
            "quant_type": "nf4", "blocksize": block, "shape": [rows, columns], "dtype": "float16",
        });
        let absmax: Vec<f32> = if let Some(nested) = nested {
            let stored = random(!seed, entries, 256);
            made.add("weight.absmax", "U8", &[entries], stored.iter().map(|v| *v as u8).collect());
            let coarse: Vec<u64> = (0..entries.div_ceil(nested)).map(scale).collect();
            made.add("weight.nested_absmax", "F32", &[coarse.len() as u64], floats(&coarse));
            made.add("weight.nested_quant_map", "F32", &[256], floats(&(1000..1256).collect::<Vec<_>>()));
            state["nested_blocksize"] = nested.into();
            state["nested_offset"] = 0.5.into();
            let value = |(i, v): (usize, &u64)| (v + 1000) as f32 * coarse[i / nested as usize] as f32 + 0.5;
            stored.iter().enumerate().map(value).collect()
        } else {
            let stored: Vec<u64> = (0..entries).map(scale).collect();
            made.add("weight.absmax", "F32", &[entries], floats(&stored));
            stored.iter().map(|v| *v as f32).collect()
        };
        let state = state.to_string().into_bytes();
        made.add("weight.quant_state.bitsandbytes__nf4", "U8", &[state.len() as u64], state);
        for start in 0..rows {
            let decoded = made.decode(&QuantConfig::default(), start..rows).unwrap();
            let flat = (start * columns) as usize;
            let expected: Vec<f32> =
                (flat..n as usize).map(|i| NF4[codes[i] as usize] * absmax[i / block as usize]).collect();
            prop_assert_eq!(decoded, expected);
        }
    }

    /// Golden files with one tensor's dtype or shape replaced, one left out, or the state spoilt: refused,
    /// or decoded into the rows asked for.
    #[test]
    fn hostile_headers_do_not_panic(
        which in 0usize..20,
        victim: prop::sample::Index,
        dtype in prop::sample::select(vec!["F64", "F32", "F16", "I8", "U8", "I32", "F8_E4M3", "F4", "?"]),
        shape in prop::collection::vec(
            prop::sample::select(vec![0u64, 1, 2, 3, 7, 16, 32, 64, 96, 1 << 33, 1 << 47, u64::MAX]), 0..4),
        change in 0u8..4,
        number in prop::sample::select(vec![0u64, 1, 3, 8, 64, u64::MAX]),
        state in "\\{\"quant_type\":\"(nf4|fp4|x)\",\"blocksize\":[0-9]{1,20},\"shape\":\\[(16|[0-9]{1,20}),(96|[0-9]{1,20})\\](,\"nested_blocksize\":[0-9]{1,3},\"nested_offset\":1e[0-9]{1,3})?\\}",
    ) {
        let golden = [
            golden!("bnb_nf4"), golden!("bnb_nf4_double"), golden!("bnb_int8"), golden!("gptq_v1_3bit"),
            golden!("awq"), golden!("ct_4bit_zero"), golden!("fp8_block"), golden!("mlx_4bit"),
                golden!("ct_3bit_words"), golden!("ct_nvfp4"), golden!("modelopt_nvfp4"), golden!("mlx_mxfp4"),
                golden!("hqq_4bit_axis0"), golden!("hqq_3bit_axis1"), golden!("quanto_int8"),
                golden!("torchao_int4"), golden!("torchao_intx"), golden!("bitnet_auto"),
                golden!("auto_round_5bit"), golden!("ct_6bit_words"),
        ].into_iter().nth(which).unwrap();
        let mut parts = golden.parts();
        let mut config = golden.config();
        let suffix = *victim.get(&parts.keys().copied().collect::<Vec<_>>());
        let mut changed = parts[suffix].clone();
        match change {
            0 => changed.dtype = Dtype::parse(dtype),
            1 => changed.shape = shape,
            2 => {
                config.bits = Some(number);
                config.group_size = Some(number.max(1));
                config.block = Some([number.max(1), 16]);
            }
            _ => {}
        }
        parts.insert(suffix, &changed);
        if change == 3 {
            parts.remove(suffix);
        }
        let shape: Vec<u8> = [number, 96].iter().flat_map(|n| n.to_le_bytes()).collect();
        let state = if which < 3 { state.as_bytes() } else { &shape[..] };
        let answer = recognise(&parts, &config, Some(state));
        if let Ok(Recognised::Packed(packing)) = answer {
            for rows in [0..1, packing.rows.saturating_sub(1)..packing.rows, 0..u64::MAX] {
                let Ok(ranges) = packing.ranges(&rows) else { continue };
                if packing.bytes_needed(&rows).unwrap() > 1 << 20 {
                    continue;
                }
                let pieces: Vec<Vec<u8>> = ranges
                    .iter()
                    .map(|r| vec![number as u8; (r.bytes.end - r.bytes.start) as usize])
                    .collect();
                let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                if let Ok(values) = packing.decode(rows.clone(), &pieces) {
                    prop_assert_eq!(values.len() as u64, (rows.end - rows.start) * packing.columns);
                }
                prop_assert!(packing.decode(rows, &pieces[1..]).is_err());
            }
        }
    }
}

#[test]
fn a_group_out_of_range_is_an_error() {
    let (mut made, _) = gptq(4, 32, 32, 2, 7);
    for group in [-1i32, 2] {
        made.tensors[3].1[4 * 5..4 * 6].copy_from_slice(&group.to_le_bytes());
        let error = made.decode(&config("gptq", 4), 0..1).unwrap_err();
        assert!(
            matches!(error, PackedError::Group { column: 5, group: g, groups: 2 } if g == group),
            "{error}"
        );
    }
}

#[test]
fn a_state_that_lies_is_an_error() {
    let golden = golden!("bnb_nf4");
    let parts = golden.parts();
    for lie in [
        r#"{"quant_type":"nf4","blocksize":0,"shape":[16,96]}"#,
        r#"{"quant_type":"nf4","blocksize":32,"shape":[16,96]}"#,
        r#"{"quant_type":"nf4","blocksize":64,"shape":[16,97]}"#,
        r#"{"quant_type":"nf4","blocksize":64,"shape":[18446744073709551615,96]}"#,
        r#"{"quant_type":"nf4","blocksize":64,"shape":[1536]}"#,
        r#"{"quant_type":"int3","blocksize":64,"shape":[16,96]}"#,
        r#"{"quant_type":"nf4","blocksize":64,"shape":[16,96],"nested_blocksize":256,"nested_offset":0.1}"#,
    ] {
        let error = recognise(&parts, &golden.config(), Some(lie.as_bytes())).unwrap_err();
        assert!(matches!(error, PackedError::Shape { .. }), "{lie}: {error}");
    }
    let error = recognise(&parts, &golden.config(), Some(b"{")).unwrap_err();
    assert!(matches!(error, PackedError::State(_)), "{error}");
}

#[test]
fn truncated_pieces_and_absent_rows_are_errors() {
    let packing = golden!("bnb_nf4").packing();
    let error = packing.decode(0..1, &[&[0; 47], &[0; 8]]).unwrap_err();
    assert!(matches!(error, PackedError::Truncated { suffix: "weight", expected: 48, found: 47 }), "{error}");
    for rows in [3..3, 16..17, 0..u64::MAX] {
        assert!(matches!(packing.ranges(&rows), Err(PackedError::Rows { rows: 16, .. })));
    }
}

#[test]
fn tiled_int8_is_an_error() {
    let packing = golden!("bnb_int8").packing();
    let error = packing.decode(0..1, &[&[1; 48], &[0; 4], &[2]]).unwrap_err();
    assert!(matches!(error, PackedError::Tiled(2)), "{error}");
}

#[test]
fn a_row_costs_a_row_where_rows_lie_together() {
    let need = |golden: Golden| golden.packing().bytes_needed(&(0..1)).unwrap();
    assert_eq!(need(golden!("bnb_nf4")), 48 + 2 * 4);
    assert_eq!(need(golden!("ct_4bit_group")), 32 + 2 * 4);
    // qweight, qzeros and scales whole.
    assert_eq!(need(golden!("awq")), 64 * 16 + 2 * 16 + 2 * 32 * 2);
}

#[test]
fn facts_of_every_spelling() {
    let parse = |json: Value| QuantConfig::parse(&serde_json::json!({ "quantization_config": json }));
    let gptq = parse(serde_json::json!({
        "quant_method": "gptq", "bits": 4, "group_size": -1, "checkpoint_format": "gptq_v2",
    }));
    assert_eq!(gptq, QuantConfig { version: Some("gptq_v2".into()), ..config("gptq", 4) });
    let group = |bits: u64| serde_json::json!({"weights": {"num_bits": bits, "group_size": 128}});
    let mixed = parse(serde_json::json!({"config_groups": {"a": group(4), "b": group(8)}}));
    assert_eq!(mixed, QuantConfig { group_size: Some(128), ..QuantConfig::default() });
    let odd = parse(serde_json::json!({"bits": "four", "weight_block_size": [0, 128], "quant_method": 3}));
    assert_eq!(odd, QuantConfig::default());
    let mlx = QuantConfig::parse(&serde_json::json!({"quantization": {"group_size": 64, "bits": 4}}));
    assert_eq!((mlx.group_size, mlx.bits), (Some(64), Some(4)));
}

/// A layer of small tensors with these suffixes and types, whose content does not matter.
fn layer(tensors: &[(&str, &str)]) -> Made {
    let mut made = Made::default();
    for (suffix, dtype) in tensors {
        let bytes = Dtype::parse(dtype).unwrap().bits() as usize / 8 * 6;
        made.add(suffix, dtype, &[2, 3], vec![0; bytes]);
    }
    made
}

#[test]
fn other_layouts_are_refused_by_name() {
    let unknown = QuantConfig::default();
    for (name, tensors) in [
        (
            "EXL2",
            &[("q_weight", "I32"), ("q_scale", "I32"), ("q_scale_max", "F16"), ("q_invperm", "I32")][..],
        ),
        ("EXL3", &[("trellis", "I16"), ("suh", "F16"), ("svh", "F16")]),
        ("AQLM", &[("codes", "I8"), ("codebooks", "F16"), ("scales", "F16")]),
        ("VPTQ", &[("indices", "I32"), ("centroids.weight", "F16"), ("perm", "I16")]),
        ("QuIP#", &[("Qidxs", "I16"), ("SU", "F16"), ("SV", "F16"), ("Wscale", "F32")]),
        ("HIGGS", &[("weight", "I16"), ("scales", "F16"), ("tables", "F16"), ("tables2", "F32")]),
        ("EETQ", &[("weight", "I8"), ("weight_scales", "F16")]),
        ("Marlin", &[("B", "I32"), ("s", "F16")]),
        ("HQQ", &[("W_q", "U8"), ("scale", "F16"), ("zero", "F16")]),
        ("torchao", &[("_weight_qdata", "I32"), ("_weight_scale_and_zero", "BF16")]),
    ] {
        let error = recognise(&layer(tensors).parts(), &unknown, None).unwrap_err();
        assert_eq!(error.to_string(), format!("packed as {name}, which is not read"));
    }
    // The version belongs to the method, and tensors to what no other layer may have.
    let gemv = QuantConfig { version: Some("gemv".into()), ..config("awq", 4) };
    let tensors = [("qweight", "I32"), ("scales", "F16"), ("qzeros", "I32")];
    let error = recognise(&layer(&tensors).parts(), &gemv, None).unwrap_err();
    assert_eq!(error.to_string(), "packed as awq gemv (qweight, qzeros, scales), which is not read");
}

#[test]
fn plain_weights_are_plain() {
    for tensors in [vec![("weight", "BF16"), ("bias", "BF16")], vec![("bias", "F32")], vec![("weight", "I8")]]
    {
        let mut made = Made::default();
        for (suffix, dtype) in tensors {
            let size = Dtype::parse(dtype).unwrap().decodable_bytes().unwrap();
            made.add(suffix, dtype, &[2, 3], vec![0; size * 6]);
        }
        assert!(matches!(recognise(&made.parts(), &QuantConfig::default(), None), Ok(Recognised::Plain)));
    }
}

/// A checkpoint of tensors without content.
fn checkpoint(tensors: &[(&str, &str, &[u64])]) -> Vec<Header> {
    let mut at = 0;
    let tensors = tensors.iter().map(|(name, dtype, shape)| {
        let dtype = Dtype::parse(dtype).unwrap();
        let bytes = at..at + shape.iter().product::<u64>() * dtype.bits() / 8;
        at = bytes.end;
        TensorInfo { name: (*name).to_owned(), dtype: Some(dtype), shape: shape.to_vec(), bytes }
    });
    vec![Header { tensors: tensors.collect(), metadata: BTreeMap::new(), len: 0 }]
}

/// Asserts that each tensor is a part of exactly one weight, whose elements are those of its parts.
fn assert_once(headers: &[Header], config: &QuantConfig) {
    let found = weights(headers, config, &States::new());
    let mut parts: Vec<(usize, u64, u64)> = Vec::new();
    for weight in &found {
        let of_weight = weight.parts.values().map(|at| (at.file, at.bytes.start, at.bytes.end));
        let of_weight: Vec<_> = of_weight.collect();
        let elements = |part: &(usize, u64, u64)| {
            let tensors = &headers[part.0].tensors;
            let tensor = tensors.iter().find(|t| (t.bytes.start, t.bytes.end) == (part.1, part.2));
            tensor.unwrap().elements()
        };
        assert_eq!(weight.elements, of_weight.iter().map(elements).sum::<u64>(), "{weight:?}");
        parts.extend(of_weight);
    }
    parts.sort_unstable();
    let mut tensors: Vec<(usize, u64, u64)> = (0..)
        .zip(headers)
        .flat_map(|(file, header)| header.tensors.iter().map(move |t| (file, t.bytes.start, t.bytes.end)))
        .collect();
    tensors.sort_unstable();
    assert_eq!(parts, tensors);
}

#[test]
fn every_tensor_is_in_one_weight() {
    for golden in [
        golden!("bnb_nf4_double"),
        golden!("bnb_int8"),
        golden!("gptq_v1_4bit_act"),
        golden!("awq"),
        golden!("ct_4bit_zero"),
        golden!("ct_nvfp4"),
        golden!("mxfp4"),
        golden!("mlx_4bit"),
        golden!("hqq_4bit_axis1"),
        golden!("quanto_int8"),
        golden!("torchao_int4"),
        golden!("bitnet_auto"),
    ] {
        for config in [golden.config(), QuantConfig::default()] {
            assert_once(std::slice::from_ref(&golden.header), &config);
            let mut damaged = golden.header.clone();
            damaged.tensors.pop();
            assert_once(&[damaged], &config);
        }
    }
    let odd = checkpoint(&[
        ("x.q.trellis", "I16", &[6, 6, 64]),
        ("x.q.suh", "F16", &[96]),
        ("x.q.svh", "F16", &[96]),
        ("x.q.bias", "F16", &[96]),
        ("x.v.indices", "I32", &[1, 4, 8]),
        ("x.v.centroids.weight", "F16", &[1, 256]),
        ("x.v.res_centroids.weight", "F16", &[1, 256]),
        ("embeddings.position_ids", "I64", &[1, 512]),
        ("h.0.attn.bias", "BOOL", &[1, 1, 8, 8]),
        ("norm.gamma", "F32", &[8]),
        ("norm.beta", "F32", &[8]),
        ("alone", "F32", &[8]),
        ("x.up.weight", "I8", &[8, 8]),
        ("x.up.weight_scales", "F16", &[8]),
    ]);
    for method in [None, Some("exl3"), Some("vptq"), Some("gptq")] {
        let config = QuantConfig { method: method.map(Into::into), ..QuantConfig::default() };
        assert_once(&odd, &config);
        let found = weights(&odd, &config, &States::new());
        let reason = |name: &str| match found.iter().find(|w| w.name == name).map(|w| &w.form) {
            Some(Form::Unreadable(reason)) => reason.clone(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(reason("x.q.weight"), "packed as EXL3, which is not read");
        assert_eq!(reason("x.v.weight"), "packed as VPTQ, which is not read");
        assert_eq!(reason("x.up.weight"), "packed as EETQ, which is not read");
        let stored =
            |name: &str| found.iter().find(|w| w.name == name).map(|w| matches!(w.form, Form::Stored(_)));
        for name in ["x.q.bias", "norm.gamma", "norm.beta", "alone"] {
            assert_eq!(stored(name), Some(true), "{name}");
        }
        assert!(is_packed(&found));
    }
}

/// Whether some of these weights are packed, readable or not.
fn is_packed(weights: &[Weight<'_>]) -> bool {
    weights.iter().any(|weight| match &weight.form {
        Form::Stored(encoding) => encoding.is_quantised(),
        Form::Flat(_) | Form::After(_) => true,
        // A tensor that is no weight is a part of none.
        Form::Unreadable(_) => !weight.parts.contains_key(""),
    })
}

#[test]
fn what_config_says_alone_packs_nothing() {
    let plain = checkpoint(&[
        ("x.q.weight", "F16", &[8, 8]),
        ("x.q.bias", "F16", &[8]),
        ("embeddings.position_ids", "I64", &[1, 512]),
        ("h.0.attn.bias", "BOOL", &[1, 1, 8, 8]),
    ]);
    for method in ["gptq", "hqq", "exl3"] {
        assert!(!is_packed(&weights(&plain, &config(method, 4), &States::new())));
    }
    let golden = golden!("bnb_nf4");
    // Not read yet.
    assert!(is_packed(&weights(
        std::slice::from_ref(&golden.header),
        &QuantConfig::default(),
        &States::new()
    )));
}

/// One block of MLX: hidden size 128, keys and values of 64, MLPs of 384, each layer with its bits and group size.
fn mlx_block(grids: [(u64, u64); 4]) -> Vec<Header> {
    let names = [("q_proj", 128, 128), ("k_proj", 64, 128), ("gate_proj", 384, 128), ("down_proj", 128, 384)];
    let mut tensors: Vec<(String, &str, Vec<u64>)> = vec![("norm.weight".into(), "F16", vec![128])];
    for ((name, rows, columns), (bits, group)) in names.into_iter().zip(grids) {
        tensors.push((format!("layers.0.{name}.weight"), "U32", vec![rows, columns * bits / 32]));
        for of_groups in ["scales", "biases"] {
            tensors.push((format!("layers.0.{name}.{of_groups}"), "F16", vec![rows, columns / group]));
        }
    }
    let tensors: Vec<(&str, &str, &[u64])> = tensors.iter().map(|(n, d, s)| (&**n, *d, &s[..])).collect();
    checkpoint(&tensors)
}

/// Columns of the four layers, and their bits; a reason where they are not known.
fn settled(headers: &[Header], config: &Value) -> Vec<Result<(u64, String), String>> {
    let config = QuantConfig::parse(&serde_json::json!({ "quantization": config }));
    let found = weights(headers, &config, &States::new());
    let names = ["q_proj", "k_proj", "gate_proj", "down_proj"];
    let of = |name: &str| {
        let weight = found.iter().find(|w| w.name == format!("layers.0.{name}.weight")).unwrap();
        match &weight.form {
            Form::Stored(encoding) => Ok((weight.shape[1], encoding.name().to_owned())),
            Form::Unreadable(reason) => Err(reason.clone()),
            other => panic!("{other:?}"),
        }
    };
    names.iter().map(|name| of(name)).collect()
}

#[test]
fn mlx_grids_are_those_of_the_layer_or_fit_the_checkpoint() {
    let right = |bits: [u64; 4]| -> Vec<Result<(u64, String), String>> {
        let columns = [128, 128, 128, 384];
        columns.into_iter().zip(bits).map(|(c, b)| Ok((c, format!("MLX {b}-bit")))).collect()
    };
    // Attention with other groups, of the same product, in the words of the config: by layer, or further inside.
    let mixed = mlx_block([(4, 64), (4, 64), (8, 32), (8, 32)]);
    let own = serde_json::json!({"group_size": 64, "bits": 4});
    for prefix in ["layers.0", "0"] {
        let mut config = serde_json::json!({"group_size": 32, "bits": 8, "layers.0.norm": false});
        for name in ["q_proj", "k_proj"] {
            config[format!("{prefix}.{name}")] = own.clone();
        }
        assert_eq!(settled(&mixed, &config), right([4, 4, 8, 8]));
    }
    // The statement of another checkpoint, and none: the length of the norm, and the rows of the gate, tell.
    let stale = mlx_block([(8, 32); 4]);
    for config in [serde_json::json!({"group_size": 64, "bits": 4}), serde_json::json!({})] {
        assert_eq!(settled(&stale, &config)[0], right([8; 4])[0]);
        assert_eq!(settled(&stale, &config)[3], right([8; 4])[3]);
    }
    // Bits that one product allows alone.
    let five = mlx_block([(5, 64), (4, 64), (4, 64), (5, 64)]);
    assert_eq!(settled(&five, &serde_json::json!({"group_size": 64, "bits": 4})), right([5, 4, 4, 5]));
    // Keys of half the hidden size: with no statement their columns may be either.
    let mut open = mlx_block([(4, 64); 4]);
    open[0].tensors.retain(|t| t.name != "norm.weight");
    let found = settled(&open, &serde_json::json!({}));
    assert!(found[0].as_ref().is_err_and(|r| r.contains("4 bits in groups of 64")), "{found:?}");
    assert_eq!(settled(&open, &serde_json::json!({"group_size": 64, "bits": 4})), right([4; 4]));
}

#[test]
fn experts_of_mlx_stay_apart() {
    let headers = checkpoint(&[
        ("switch_mlp.up_proj.weight", "U32", &[3, 16, 8]),
        ("switch_mlp.up_proj.scales", "F16", &[3, 16, 1]),
        ("switch_mlp.up_proj.biases", "F16", &[3, 16, 1]),
    ]);
    let config = QuantConfig { group_size: Some(64), bits: Some(4), ..QuantConfig::default() };
    let found = weights(&headers, &config, &States::new());
    assert_eq!(found[0].shape[..], [3, 16, 64]);
    assert_once(&headers, &config);
}
