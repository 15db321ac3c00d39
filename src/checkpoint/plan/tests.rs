use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use proptest::prelude::*;

use super::spread::spread;
use super::*;
use crate::checkpoint::container::Containers;
use crate::checkpoint::containers::safetensors::Headers;
use crate::formats::packed::MAX_STATE;
use crate::formats::packed::{QuantConfig, States};
use crate::formats::safetensors::{Decoded, try_decode};
use crate::formats::{Dtype, FileRange, Header, Limits, ShardIndex, TensorInfo};
use crate::signals::roles::{Position, Role};
use crate::signals::sample as places;

/// Headers of a Llama with the names, order and shapes that transformers writes, in `shards` equal parts.
fn llama(layers: u64, d: u64, inner: u64, kv: u64, shards: usize) -> (Headers, ShardIndex) {
    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("lm_head.weight".into(), vec![32000, d]),
        ("model.embed_tokens.weight".into(), vec![32000, d]),
        ("model.norm.weight".into(), vec![d]),
    ];
    for l in 0..layers {
        let p = format!("model.layers.{l:02}").replace(".0", ".");
        let p = if l == 0 { "model.layers.0".to_owned() } else { p };
        for (name, shape) in [
            ("input_layernorm", vec![d]),
            ("mlp.down_proj", vec![d, inner]),
            ("mlp.gate_proj", vec![inner, d]),
            ("mlp.up_proj", vec![inner, d]),
            ("post_attention_layernorm", vec![d]),
            ("self_attn.k_proj", vec![kv, d]),
            ("self_attn.o_proj", vec![d, d]),
            ("self_attn.q_proj", vec![d, d]),
            ("self_attn.v_proj", vec![kv, d]),
        ] {
            tensors.push((format!("{p}.{name}.weight"), shape));
        }
    }
    let per_shard = tensors.len().div_ceil(shards);
    let mut weight_map = BTreeMap::new();
    let headers = tensors
        .chunks(per_shard)
        .enumerate()
        .map(|(i, chunk)| {
            let mut at = 1000;
            let mut chunk = chunk.to_vec();
            chunk.sort();
            let tensors = chunk
                .into_iter()
                .map(|(name, shape)| {
                    weight_map.insert(name.clone(), format!("model-{:05}-of-{shards:05}.safetensors", i + 1));
                    let bytes = at..at + shape.iter().product::<u64>() * 2;
                    at = bytes.end;
                    TensorInfo { name, dtype: Some(Dtype::Bf16), shape, bytes }
                })
                .collect();
            Header { tensors, metadata: BTreeMap::new(), len: 1000 }
        })
        .collect();
    (Headers(headers), ShardIndex { weight_map, total_size: None })
}

fn planned(headers: &Headers, settings: &PlanSettings) -> Result<SamplePlan, PlanError> {
    sample(headers, &QuantConfig::default(), &States::new(), settings, &[])
}

fn bytes(plan: &SamplePlan) -> u64 {
    plan.fetches.iter().map(|f| f.bytes.end - f.bytes.start).sum()
}

#[test]
fn a_buffer_beside_the_embedding_does_not_hide_it() {
    // BERT saves `embeddings.position_ids` (I64): no part of a packed weight, whatever config.json says.
    let names = [
        ("embeddings.position_ids", "I64", vec![1, 512]),
        ("embeddings.LayerNorm.weight", "F32", vec![64]),
        ("embeddings.word_embeddings.weight", "F32", vec![1000, 64]),
        ("encoder.layer.0.attention.self.query.weight", "F32", vec![64, 64]),
        ("encoder.layer.0.attention.output.LayerNorm.weight", "F32", vec![64]),
    ];
    let mut at = 1000;
    let tensors = names.map(|(name, dtype, shape)| {
        let dtype = Dtype::parse(dtype).unwrap();
        let bytes = at..at + shape.iter().product::<u64>() * dtype.bits() / 8;
        at = bytes.end;
        TensorInfo { name: name.into(), dtype: Some(dtype), shape, bytes }
    });
    let headers = Headers(vec![Header { tensors: tensors.to_vec(), metadata: BTreeMap::new(), len: 1000 }]);
    for config in
        [QuantConfig::default(), QuantConfig { method: Some("hqq".into()), ..QuantConfig::default() }]
    {
        let plan = sample(&headers, &config, &States::new(), &PlanSettings::default(), &[]).unwrap();
        let rows = plan.asks.iter().filter(|ask| ask.position.role == Role::Embedding).count();
        assert_eq!((rows, plan.vocabulary), (2, Some(1000)), "{config:?}");
    }
}

#[test]
fn a_7b_model_stays_within_its_budget() {
    let (headers, _) = llama(32, 4096, 11008, 4096, 1);
    let plan = planned(&headers, &PlanSettings::default()).unwrap();
    assert!(plan.fetches.len() + headers.0.len() <= 80, "{}", plan.fetches.len());
    assert!(bytes(&plan) <= 6_000_000, "{}", bytes(&plan));
    let count = |wanted: fn(Role) -> bool| plan.asks.iter().filter(|a| wanted(a.position.role)).count();
    assert_eq!(count(|r| r == Role::Embedding), 4);
    assert_eq!(count(Role::is_norm), 65);
    assert!(count(Role::is_matrix) >= 64, "{}", count(Role::is_matrix));
}

#[test]
fn a_small_model_costs_about_a_megabyte() {
    let (headers, _) = llama(24, 896, 4864, 128, 1);
    let plan = planned(&headers, &PlanSettings::default()).unwrap();
    assert!(bytes(&plan) < 2_000_000, "{}", bytes(&plan));
    assert!(plan.fetches.len() + headers.0.len() <= 80);
}

#[test]
fn a_70b_model_in_30_shards_touches_at_most_eight() {
    let (headers, index) = llama(80, 8192, 28672, 1024, 30);
    let files = index.shards();
    let settings = PlanSettings::default();
    let chosen = shards(&index, &files, &settings).unwrap();
    assert_eq!(chosen.len(), 8);
    assert!(chosen.contains(&index.weight_map["model.embed_tokens.weight"]));
    let opened = headers.0.into_iter().zip(&files).filter(|(_, f)| chosen.contains(f));
    let opened = Headers(opened.map(|(header, _)| header).collect());
    let plan = planned(&opened, &settings).unwrap();
    assert!(plan.fetches.len() + opened.0.len() <= 80 && bytes(&plan) <= 6_000_000);
    assert!(plan.asks.iter().filter(|a| a.position.role.is_matrix()).count() > 30);
    assert_eq!(layers(index.weight_map.keys().map(String::as_str)), 80);
}

#[test]
fn the_choice_does_not_depend_on_shards() {
    let (whole, _) = llama(8, 512, 1024, 512, 1);
    let (parts, _) = llama(8, 512, 1024, 512, 3);
    let key = |plan: SamplePlan| {
        let mut keys: Vec<_> =
            plan.asks.iter().map(|a| (a.position.role, a.position.layer, a.start, a.columns)).collect();
        keys.sort();
        keys
    };
    let settings = PlanSettings::default();
    assert_eq!(key(planned(&whole, &settings).unwrap()), key(planned(&parts, &settings).unwrap()));
}

#[test]
fn requests_by_file_name() {
    let count = |names: &[&str], small| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let components = Containers::default().components(&names);
        requests(&names, components.iter().map(|(_, c)| c), &PlanSettings::default(), small)
    };
    let one = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!((count(&one, SmallFiles::Needed), count(&one, SmallFiles::All)), (1, 6));
    let shards: Vec<String> = (1..=30).map(|i| format!("model-{i:05}-of-00030.safetensors")).collect();
    let mut many: Vec<&str> = shards.iter().map(String::as_str).collect();
    many.extend(["config.json", "model.safetensors.index.json"]);
    // Eight shards, and the depth.
    assert_eq!(count(&many, SmallFiles::Needed), 9);
    assert_eq!(count(&many[..1], SmallFiles::Needed), 1);
    assert_eq!(count(&["config.json"], SmallFiles::Needed), 0);
}

#[test]
fn shards_that_are_there_are_read_without_those_that_are_not() {
    let (_, index) = llama(4, 64, 64, 64, 3);
    let mut files = index.shards();
    let settings = PlanSettings::default();
    files.pop();
    assert_eq!(shards(&index, &files, &settings).unwrap(), files);
    assert_eq!(
        there(&index, "model.safetensors.index.json", &files),
        (files.clone(), index.shards()[2..].to_vec())
    );
    // An index of another format beside files that have both.
    assert_eq!(there(&index, "pytorch_model.bin.index.json", &files), (Vec::new(), index.shards()));
    assert!(matches!(
        shards(&index, &["config.json".into()], &settings),
        Err(PlanError::MissingShards { missing: 3, shards: 3, .. })
    ));
}

#[test]
fn unknown_names_are_refused_with_an_example() {
    let tensor = TensorInfo {
        name: "down_blocks.0.weight".into(),
        dtype: Some(Dtype::F16),
        shape: vec![4, 4],
        bytes: 8..40,
    };
    let header = Header { tensors: vec![tensor], metadata: BTreeMap::new(), len: 8 };
    assert!(matches!(
        planned(&Headers(vec![header]), &PlanSettings::default()),
        Err(PlanError::NoRoles { tensors: 1, .. })
    ));
}

/// A checkpoint with one packed weight, which a library has made (tests/fixtures/packed).
struct Golden {
    file: &'static [u8],
    headers: Headers,
    config: QuantConfig,
    /// Rows from `first_row` on, as the library decodes them.
    reference: Vec<f32>,
    first_row: u64,
    tolerance: f32,
}

macro_rules! golden {
    ($name:literal, $layer:literal) => {
        Golden::new(
            include_bytes!(concat!("../../../tests/fixtures/packed/", $name, ".safetensors")),
            concat!("model.layers.0.", $layer),
        )
    };
}

impl Golden {
    fn new(file: &'static [u8], layer: &str) -> Self {
        let Ok(Decoded::Done(mut header)) = try_decode(file, file.len() as u64, &Limits::default()) else {
            panic!("a damaged fixture");
        };
        let about: serde_json::Value = serde_json::from_str(&header.metadata["golden"]).unwrap();
        let mut reference = None;
        for tensor in &mut header.tensors {
            match tensor.name.strip_prefix("layer") {
                Some(rest) => tensor.name = format!("{layer}{rest}"),
                None => reference = Some(tensor),
            }
        }
        // Any other tensor makes a gain and an embedding, without which the rest is no language model.
        let reference = reference.unwrap();
        let at = reference.bytes.start as usize..reference.bytes.end as usize;
        let values = reference.dtype.unwrap().decode(&file[at]).unwrap();
        let mut gain = reference.clone();
        reference.name = "model.embed_tokens.weight".into();
        gain.name = "model.layers.0.input_layernorm.weight".into();
        gain.shape.remove(0);
        header.tensors.push(gain);
        Self {
            file,
            headers: Headers(vec![header]),
            config: QuantConfig::parse(&serde_json::json!({ "quantization_config": about["config"] })),
            reference: values,
            first_row: about["first_row"].as_u64().unwrap(),
            tolerance: about["tolerance"].as_f64().unwrap() as f32,
        }
    }

    fn bytes(&self, fetch: &FileRange) -> Bytes {
        Bytes::from_static(&self.file[fetch.bytes.start as usize..fetch.bytes.end as usize])
    }

    fn planned(&self, settings: &PlanSettings) -> SamplePlan {
        let states = states(&self.headers, &self.config, settings);
        let states = states.iter().map(|f| ((f.file, f.bytes.start), self.bytes(f))).collect();
        sample(&self.headers, &self.config, &states, settings, &[]).unwrap()
    }

    fn decoded(&self, ask: &Ask) -> Vec<f32> {
        let pieces: Vec<Bytes> = ask.pieces.iter().map(|piece| self.bytes(piece)).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        ask.decode(&pieces).unwrap()
    }

    fn tensor(&mut self, end: &str) -> &mut TensorInfo {
        self.headers.0[0].tensors.iter_mut().find(|t| t.name.ends_with(end)).unwrap()
    }
}

fn matrices(plan: &SamplePlan) -> Vec<&Ask> {
    plan.asks.iter().filter(|ask| ask.position.role.is_matrix()).collect()
}

/// The rows from `first` of the matrix on are those of the library, wherever that has them.
fn assert_reference(golden: &Golden, ask: &Ask, first: u64) {
    let values = golden.decoded(ask);
    assert_eq!(values.len() % ask.columns, 0);
    let mut compared = 0;
    for (row, found) in (first + ask.start..).zip(values.chunks(ask.columns)) {
        let Some(at) = row.checked_sub(golden.first_row) else { continue };
        let Some(expected) = golden.reference.chunks(ask.columns).nth(at as usize) else { continue };
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= golden.tolerance * expected.abs(), "{found} {expected}");
        }
        compared += 1;
    }
    assert!(compared > 0, "no row of the reference was read");
}

#[test]
fn packed_rows_are_those_of_the_libraries() {
    for golden in [
        golden!("bnb_nf4", "self_attn.k_proj"),
        golden!("bnb_nf4_double", "self_attn.k_proj"),
        golden!("bnb_nf4_odd", "self_attn.k_proj"),
        golden!("bnb_fp4", "self_attn.k_proj"),
        golden!("bnb_fp4_double", "self_attn.k_proj"),
        golden!("bnb_int8", "self_attn.k_proj"),
        golden!("gptq_v1_3bit", "self_attn.k_proj"),
        golden!("gptq_v1_4bit_act", "self_attn.k_proj"),
        golden!("gptq_v2_4bit", "self_attn.k_proj"),
        golden!("awq", "self_attn.k_proj"),
        golden!("ct_4bit_group", "self_attn.k_proj"),
        golden!("ct_4bit_zero", "self_attn.k_proj"),
        golden!("ct_8bit_channel", "self_attn.k_proj"),
        golden!("ct_int8", "self_attn.k_proj"),
        golden!("ct_fp8_tensor", "self_attn.k_proj"),
        golden!("ct_fp8_block", "self_attn.k_proj"),
        golden!("fp8_block", "self_attn.k_proj"),
        golden!("mlx_4bit", "self_attn.k_proj"),
        golden!("mlx_6bit", "self_attn.k_proj"),
    ] {
        let detailed = golden.planned(&PlanSettings::detailed());
        let whole = matrices(&detailed).into_iter().max_by_key(|ask| golden.decoded(ask).len()).unwrap();
        assert_eq!(golden.decoded(whole).len() as u64, whole.tensor_rows * whole.columns as u64);
        assert_reference(&golden, whole, 0);

        // The rows that a plain copy would be read at.
        let plan = golden.planned(&PlanSettings::default());
        let [ask] = matrices(&plan)[..] else { panic!("{:?}", plan.asks) };
        assert!(ask.canonical && ask.position == Position::main(Role::Key, 0));
        let rows = places::rows(ask.position, ask.tensor_rows, ask.columns as u64).remove(0);
        let at = |row: u64| row as usize * ask.columns;
        assert_eq!(ask.start, rows.start);
        assert_eq!(golden.decoded(ask), golden.decoded(whole)[at(rows.start)..at(rows.end)]);
    }
}

#[test]
fn experts_in_blocks_are_read_as_the_first_one() {
    let golden = golden!("mxfp4", "mlp.experts.gate_up_proj");
    let plan = golden.planned(&PlanSettings::default());
    let [gate, up] = matrices(&plan)[..] else { panic!("{:?}", plan.asks) };
    assert_eq!((gate.position.role, up.position.role), (Role::Gate, Role::Up));
    assert_eq!((gate.position.expert, gate.tensor_rows, gate.columns), (Some(0), 3, 96));
    assert_reference(&golden, gate, 0);
    assert_reference(&golden, up, 3);
}

#[test]
fn bytes_without_scales_are_plain() {
    let mut golden = golden!("fp8_block", "self_attn.k_proj");
    golden.headers.0[0].tensors.retain(|t| !t.name.ends_with("weight_scale_inv"));
    let plan = golden.planned(&PlanSettings::default());
    assert_eq!(matrices(&plan)[0].encoding.name(), "F8_E4M3");
    assert!(plan.unreadable.is_empty());
}

#[test]
fn strided_matrices_are_read_in_few_places() {
    let golden = golden!("awq", "self_attn.q_proj");
    let plan = golden.planned(&PlanSettings::default());
    assert!(matrices(&plan).is_empty());
    assert_eq!(plan.unreadable[&Role::Query], "AWQ 4-bit, of which a row costs the whole matrix");
    let detailed = golden.planned(&PlanSettings::detailed());
    let [ask] = matrices(&detailed)[..] else { panic!("{:?}", detailed.asks) };
    assert!(!ask.canonical);
    assert_reference(&golden, ask, 0);
}

#[test]
fn a_large_strided_matrix_is_not_read() {
    for (rows, read) in [(1024, true), (4096, false)] {
        let mut golden = golden!("gptq_v1_4bit", "self_attn.k_proj");
        let mut at = 1 << 20;
        for (end, shape, size) in [
            ("qweight", vec![512, rows], 4),
            ("qzeros", vec![32, rows / 8], 4),
            ("scales", vec![32, rows], 2),
            ("g_idx", vec![4096], 4),
        ] {
            let tensor = golden.tensor(end);
            tensor.bytes = at..at + shape.iter().product::<u64>() * size;
            at = tensor.bytes.end;
            tensor.shape = shape;
        }
        for settings in [PlanSettings::default(), PlanSettings::detailed()] {
            let plan = golden.planned(&settings);
            assert_eq!(!matrices(&plan).is_empty(), read, "{rows}");
            assert!(bytes(&plan) < if read { 2_300_000 } else { 100_000 });
        }
    }
}

#[test]
fn what_is_damaged_is_absent_with_a_reason() {
    let check = |golden: &Golden, states: &States, reason: &str| {
        let plan = sample(&golden.headers, &golden.config, states, &PlanSettings::detailed(), &[]).unwrap();
        assert!(matrices(&plan).is_empty() && !plan.asks.is_empty());
        assert!(plan.unreadable[&Role::Key].contains(reason), "{:?}", plan.unreadable);
    };
    let none = States::new();
    let mut scales = golden!("gptq_v1_4bit", "self_attn.k_proj");
    scales.headers.0[0].tensors.retain(|t| !t.name.ends_with("scales"));
    check(&scales, &none, "packed as gptq (g_idx, qweight, qzeros), which is not read");
    let mut absmax = golden!("bnb_nf4", "self_attn.k_proj");
    let state = states(&absmax.headers, &absmax.config, &PlanSettings::default()).remove(0);
    check(&absmax, &none, "state was not read");
    let told =
        |text: &'static str| States::from([((0, state.bytes.start), Bytes::from_static(text.as_bytes()))]);
    check(&absmax, &told(r#"{"quant_type":"nf4","blocksize":64,"shape":[16,9600]}"#), "not the size");
    check(&absmax, &told("{"), "state is not valid");
    absmax.headers.0[0].tensors.retain(|t| !t.name.ends_with("absmax"));
    check(&absmax, &told(r#"{"quant_type":"nf4","blocksize":64,"shape":[16,96]}"#), "missing");
    let mut format = golden!("bnb_int8", "self_attn.k_proj");
    let tensor = format.tensor("weight_format");
    tensor.shape = vec![0];
    tensor.bytes.end = tensor.bytes.start;
    check(&format, &none, "0 bytes instead of 1");
    // A state too long to be one is never asked for.
    let mut long = golden!("bnb_nf4", "self_attn.k_proj");
    let tensor = long.tensor("bitsandbytes__nf4");
    tensor.bytes = 0..MAX_STATE + 1;
    assert!(states(&long.headers, &long.config, &PlanSettings::default()).is_empty());
    check(&long, &none, "too large");
}

#[test]
fn states_are_read_of_a_spread_of_layers_within_the_budget() {
    let one = golden!("bnb_nf4", "self_attn.k_proj");
    let mut headers = one.headers.clone();
    let mut more: Vec<TensorInfo> = Vec::new();
    for layer in 1..64u64 {
        for tensor in &one.headers.0[0].tensors {
            let name = tensor.name.replace("layers.0.", &format!("layers.{layer}."));
            let at = layer << 20;
            let bytes = at + tensor.bytes.start..at + tensor.bytes.end;
            more.push(TensorInfo { name, bytes, ..tensor.clone() });
        }
    }
    headers.0[0].tensors.extend(more);
    let settings = PlanSettings { max_ranges: 18, ..PlanSettings::default() };
    let asked: Vec<u64> =
        states(&headers, &one.config, &settings).iter().map(|f| f.bytes.start >> 20).collect();
    assert_eq!(asked, [0, 32, 16, 48, 8, 40]);
    let all: States = states(&headers, &one.config, &settings)
        .iter()
        .map(|f| {
            (
                (f.file, f.bytes.start),
                one.bytes(&FileRange { file: 0, bytes: f.bytes.start % (1 << 20)..f.bytes.end % (1 << 20) }),
            )
        })
        .collect();
    let plan = sample(&headers, &one.config, &all, &settings, &[]).unwrap();
    assert!(plan.fetches.len() + all.len() + headers.0.len() <= settings.max_ranges);
    assert!(matrices(&plan).iter().all(|ask| asked.contains(&u64::from(ask.position.layer))));
}

proptest! {
    #[test]
    fn coalescing_covers_and_never_costs_more(
        asks in proptest::collection::vec((0u64..10_000, 0u64..500), 0..40),
        gap in 0u64..300,
    ) {
        let asks: Vec<Range<u64>> = asks.into_iter().map(|(start, len)| start..start + len).collect();
        let merged = coalesce(&asks, gap);
        for ask in asks.iter().filter(|a| a.start < a.end) {
            prop_assert!(merged.iter().any(|m| m.start <= ask.start && ask.end <= m.end));
        }
        for pair in merged.windows(2) {
            prop_assert!(pair[0].end + gap < pair[1].start);
        }
        prop_assert!(merged.len() <= asks.len());
        // Nothing is read that no ask or gap explains.
        for m in &merged {
            prop_assert!(asks.iter().any(|a| a.start == m.start) && asks.iter().any(|a| a.end == m.end));
        }
    }

    #[test]
    fn a_spread_is_a_permutation(n in 0usize..300) {
        let mut all: Vec<usize> = spread(n).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
    }

    #[test]
    fn plans_keep_their_budget(layers in 1u64..60, d in 8u64..600, ranges in 1usize..100, bytes_limit in 1u64..4_000_000) {
        let (headers, _) = llama(layers, d, 3 * d, d, 2);
        let settings = PlanSettings { max_ranges: ranges, max_bytes: bytes_limit, ..PlanSettings::default() };
        let plan = planned(&headers, &settings).unwrap();
        prop_assert!(plan.fetches.len() <= ranges.saturating_sub(headers.0.len()));
        prop_assert!(bytes(&plan) <= bytes_limit);
    }
}
