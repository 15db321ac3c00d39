//! Packed weights: the tensors decide the layout, and what is not read is named.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// The base model, with what `pack` makes of each matrix of its layers: tensors by suffix.
fn packed(mut pack: impl FnMut(&str, &Tensor) -> Vec<(&'static str, Tensor)>) -> Tensors {
    let mut packed = Tensors::new();
    for (name, tensor) in demo_tensors(BASE) {
        match name.strip_suffix(".weight").filter(|_| name.contains(".layers.") && tensor.shape.len() == 2) {
            Some(layer) => {
                let parts = pack(layer, &tensor);
                packed.extend(parts.into_iter().map(|(suffix, part)| (format!("{layer}.{suffix}"), part)));
            }
            None => {
                packed.insert(name, tensor);
            }
        }
    }
    packed
}

fn tensor(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor { dtype, shape: shape.to_vec(), bytes }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Codes from 0 on, and for each group of columns the scale and the lowest value.
fn grid(matrix: &Tensor, group: usize, bits: u32) -> (Vec<u32>, Vec<f32>, Vec<f32>) {
    let (mut codes, mut scales, mut lowest) = (Vec::new(), Vec::new(), Vec::new());
    for part in matrix.values().chunks(group) {
        let low = part.iter().copied().fold(f32::INFINITY, f32::min);
        let high = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = ((high - low) / (2f32.powi(bits as i32) - 1.0)).max(1e-8);
        codes.extend(part.iter().map(|v| ((v - low) / scale).round() as u32));
        scales.push(scale);
        lowest.push(low);
    }
    (codes, scales, lowest)
}

/// As MLX packs. A word holds whole codes of 2, 4 and 8 bits.
fn mlx(matrix: &Tensor, group: usize, bits: u32) -> Vec<(&'static str, Tensor)> {
    let (codes, scales, lowest) = grid(matrix, group, bits);
    let [rows, columns] = matrix.shape[..] else { panic!() };
    let pack = |codes: &[u32]| codes.iter().rev().fold(0, |word, code| word << bits | code);
    let packed: Vec<u32> = codes.chunks(32 / bits as usize).map(pack).collect();
    let of_groups = [rows, columns / group];
    vec![
        ("weight", tensor(Dtype::U32, &[rows, columns * bits as usize / 32], words(&packed))),
        ("scales", Tensor::f32(&of_groups, &scales)),
        ("biases", Tensor::f32(&of_groups, &lowest)),
    ]
}

/// As GPTQ packs 4 bits around a zero point of 8, in groups of 32.
fn gptq(matrix: &Tensor, stored_zero: u32) -> Vec<(&'static str, Tensor)> {
    let [rows, columns] = matrix.shape[..] else { panic!() };
    let (values, groups) = (matrix.values(), columns / 32);
    let mut scales = vec![0.0; groups * rows];
    let mut packed = vec![0u32; columns / 8 * rows];
    for row in 0..rows {
        for group in 0..groups {
            let part = &values[row * columns + group * 32..][..32];
            let scale = part.iter().fold(1e-8f32, |most, v| most.max(v.abs())) / 7.0;
            scales[group * rows + row] = scale;
            for (i, value) in part.iter().enumerate() {
                let (column, code) = (group * 32 + i, ((value / scale).round() + 8.0) as u32);
                packed[column / 8 * rows + row] |= code << (4 * (column % 8));
            }
        }
    }
    let zeros = vec![stored_zero * 0x1111_1111; groups * rows / 8];
    vec![
        ("qweight", tensor(Dtype::I32, &[columns / 8, rows], words(&packed))),
        ("qzeros", tensor(Dtype::I32, &[groups, rows / 8], words(&zeros))),
        ("scales", Tensor::f32(&[groups, rows], &scales)),
    ]
}

/// As quanto packs groups of 32 with a shift: the grouped matrix in as many runs as a byte holds codes. The shape of the
/// matrix is not stored.
fn quanto(matrix: &Tensor, bits: u32) -> Vec<(&'static str, Tensor)> {
    let (codes, scales, lowest) = grid(matrix, 32, bits);
    let groups = scales.len();
    let run = groups.div_ceil(8 / bits as usize) * 32;
    let mut packed = vec![0u8; run];
    for (i, code) in codes.iter().enumerate() {
        packed[i % run] |= (*code as u8) << (bits as usize * (i / run));
    }
    let shifts: Vec<f32> = lowest.iter().map(|low| -low).collect();
    vec![
        ("weight._data._data", tensor(Dtype::U8, &[run / 32, 32], packed)),
        ("weight._scale", Tensor::f32(&[groups, 1], &scales)),
        ("weight._shift", Tensor::f32(&[groups, 1], &shifts)),
    ]
}

fn quantised(bench: &Bench, name: &str, tensors: &Tensors, config: &Value) -> Value {
    let answer = bench.compare(&bench.model(name, tensors, config), &demo(BASE));
    assert_is(&answer, "derived", "quantised", "a descends from b");
    assert_eq!(answer["not_read"], json!([[], []]), "{answer:#}");
    answer
}

#[test]
fn auto_round_is_read_as_the_packer_that_it_names() {
    let bench = Bench::new();
    for (i, (method, packing, zero)) in [
        ("gptq", "", 7),
        ("auto-round", "auto_round:auto_gptq", 7),
        ("intel/auto-round", "auto_round:gptq:exllamav2", 7),
        ("auto_round", "auto_round", 8),
    ]
    .into_iter()
    .enumerate()
    {
        let tensors = packed(|_, matrix| gptq(matrix, zero));
        let config = json!({"quantization_config": {
            "quant_method": method, "bits": 4, "group_size": 32, "sym": true, "packing_format": packing,
        }});
        let answer = bench.compare(&bench.model(&i.to_string(), &tensors, &config), &demo(BASE));
        assert_is(&answer, "derived", "quantised", "a descends from b");
    }
}

#[test]
fn mlx_layers_have_their_own_bits_and_groups() {
    let bench = Bench::new();
    let attention = |layer: &str| layer.contains("self_attn");
    let mut stated = json!({"group_size": 32, "bits": 8, "lm_head": false});
    let tensors =
        packed(|layer, matrix| if attention(layer) { mlx(matrix, 32, 4) } else { mlx(matrix, 32, 8) });
    for name in tensors.keys().filter_map(|name| name.strip_suffix(".scales")) {
        if attention(name) {
            stated[name] = json!({"group_size": 32, "bits": 4});
        }
    }
    quantised(&bench, "own", &tensors, &json!({ "quantization": stated }));
    // The statement of another checkpoint fits at twice the columns; the norms say which are right.
    let tensors = packed(|_, matrix| mlx(matrix, 32, 8));
    quantised(&bench, "stale", &tensors, &json!({"quantization": {"group_size": 64, "bits": 4}}));
}

/// Every matrix has one side that is as long as a norm; of an unknown family none is known.
#[test]
fn a_shape_that_is_not_stored_follows_from_what_a_matrix_does() {
    let bench = Bench::new();
    for bits in [4, 2] {
        let tensors = packed(|_, matrix| quanto(matrix, bits));
        quantised(&bench, &format!("quanto-{bits}"), &tensors, &json!({}));
    }
    let mut tensors = packed(|_, matrix| quanto(matrix, 4));
    let odd: Vec<String> = tensors.keys().filter(|name| name.contains("q_proj.weight._")).cloned().collect();
    for name in odd {
        let whole = tensors.remove(&name).unwrap();
        // A prime number of groups.
        let rows = if name.ends_with("_data") { 9 } else { 17 };
        let bytes = whole.bytes[..whole.bytes.len() / whole.shape[0] * rows].to_vec();
        tensors.insert(name, Tensor { shape: vec![rows, whole.shape[1]], bytes, ..whole });
    }
    let answer = bench.compare(&bench.model("odd", &tensors, &json!({})), &demo(BASE));
    assert!(answer["not_read"].to_string().contains("the shape is not stored"), "{answer:#}");
}

/// What was trained at length and packed afterwards is more than a rounding.
#[test]
fn a_distant_relative_is_no_quantisation_because_it_is_packed() {
    let bench = Bench::new();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut moved = |matrix: &Tensor| {
        let values = matrix.values();
        let size = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        // Uniform noise of the same variance: a correlation of .7.
        let noise = |v: &f32| v + size * rng.random_range(-1.732..1.732);
        Tensor::f32(&matrix.shape, &values.iter().map(noise).collect::<Vec<_>>())
    };
    let tensors = packed(|_, matrix| quanto(&moved(matrix), 4));
    let answer = bench.compare(&bench.model("distant", &tensors, &json!({})), &demo(BASE));
    assert_is(&answer, "derived", "continued pretraining", "undetermined");
}

#[test]
fn packed_layers_that_are_not_read_are_named() {
    let bench = Bench::new();
    let half = |n: usize| tensor(Dtype::F16, &[n], [0, 60].repeat(n));
    let exl3 = packed(|_, matrix| {
        let trellis =
            tensor(Dtype::I16, &[6, 6, 64], (0..6 * 6 * 64 * 2).map(|i| (i * 7 % 251) as u8).collect());
        vec![("trellis", trellis), ("suh", half(matrix.shape[1])), ("svh", half(matrix.shape[0]))]
    });
    let eetq = packed(|_, matrix| {
        let (rows, columns) = (matrix.shape[0], matrix.shape[1]);
        let codes = tensor(Dtype::I8, &[columns, rows], vec![3; rows * columns]);
        vec![("weight", codes), ("weight_scales", half(rows))]
    });
    for (name, method, tensors) in [("EXL3", "exl3", exl3), ("EETQ", "eetq", eetq)] {
        for config in [json!({}), json!({"quantization_config": {"quant_method": method}})] {
            let answer = bench.compare(&bench.model(name, &tensors, &config), &demo(BASE));
            let reasons = answer["not_read"].to_string();
            assert!(reasons.contains(&format!("packed as {name}, which is not read")), "{answer:#}");
            assert_eq!(answer["verdict"], "derived", "{answer:#}");
        }
    }
}

#[test]
fn a_config_that_stayed_packs_nothing() {
    let bench = Bench::new();
    let config = json!({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}});
    let answer = bench.compare(&bench.model("decoded", &demo_tensors(BASE), &config), &demo(BASE));
    assert_is(&answer, "identical", "identical", "undetermined");
}
