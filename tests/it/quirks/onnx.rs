//! ONNX: files as torch's exporter and onnxruntime's quantiser make them of a trained model. The writer's files were read
//! once with the Python package `onnx`, which found the same names, shapes and values.

use super::*;
use crate::support::files_below;

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], number_of(bytes.len()), bytes.to_vec()].concat()
}

/// A number of protobuf.
fn number_of(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

const F32: u8 = 1;
const U8: u8 = 2;

fn initializer(name: &str, shape: &[usize], kind: u8, values: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = shape.iter().flat_map(|n| [vec![1 << 3], number_of(*n)].concat()).collect();
    tensor.extend([2 << 3, kind]);
    tensor.extend([field(8, name.as_bytes()), field(9, values)].concat());
    field(5, &tensor)
}

fn node(op: &str, name: &str, inputs: &[&str]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    let output = field(2, format!("{name}_output_0").as_bytes());
    field(1, &[inputs, output, field(3, name.as_bytes()), field(4, op.as_bytes())].concat())
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A matrix as what is multiplied by it from the left has it.
fn turned(tensor: &Tensor) -> Vec<f32> {
    let (rows, columns, values) = (tensor.shape[0], tensor.shape[1], tensor.values());
    (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c)).map(|at| values[at]).collect()
}

/// A demo model as the exporter writes it, which keeps the names of what it does not turn.
fn exported(id: &str, is_quantised: bool) -> Vec<u8> {
    let (mut nodes, mut weights) = (Vec::new(), Vec::new());
    for (i, (name, tensor)) in demo_tensors(id).into_iter().enumerate() {
        let module = name.strip_suffix(".weight").unwrap();
        let scope = module
            .replace("model.", "model/")
            .replace(".self_attn.", "/self_attn/")
            .replace(".mlp.", "/mlp/");
        if tensor.shape.len() == 1 {
            weights.extend(initializer(&name, &tensor.shape, F32, &floats(&tensor.values())));
        } else if name.contains("embed_tokens") {
            nodes.extend(node("Gather", &format!("/{scope}/Gather"), &[&name, "input_ids"]));
            weights.extend(initializer(&name, &tensor.shape, F32, &floats(&tensor.values())));
        } else {
            let (made_up, shape) = (format!("onnx::MatMul_{}", 400 + i), [tensor.shape[1], tensor.shape[0]]);
            let values = turned(&tensor);
            if is_quantised {
                let (low, high) = values.iter().fold((0f32, 0f32), |(l, h), v| (l.min(*v), h.max(*v)));
                let scale = (high - low) / 255.0;
                let zero = (-low / scale).round();
                let codes: Vec<u8> =
                    values.iter().map(|v| (v / scale + zero).round().clamp(0.0, 255.0) as u8).collect();
                let of = |end: &str| format!("{made_up}{end}");
                let inputs = ["x", &of("_quantized"), "x_zero", &of("_zero_point")];
                nodes.extend(node("MatMulInteger", &format!("/{scope}/MatMul_quant"), &inputs));
                weights.extend(initializer(&of("_scale"), &[], F32, &floats(&[scale])));
                weights.extend(initializer(&of("_zero_point"), &[], U8, &[zero as u8]));
                weights.extend(initializer(&of("_quantized"), &shape, U8, &codes));
            } else {
                nodes.extend(node("MatMul", &format!("/{scope}/MatMul"), &["x", &made_up]));
                weights.extend(initializer(&made_up, &shape, F32, &floats(&values)));
            }
        }
    }
    [vec![1 << 3, 8], field(2, b"pytorch"), field(7, &[nodes, field(2, b"main_graph"), weights].concat())]
        .concat()
}

#[test]
fn an_exported_model_is_a_copy_of_the_published_one() {
    let bench = Bench::new();
    let folder = bench.folder("exported");
    let path = folder.join("onnx").join("model.onnx");
    std::fs::create_dir(folder.join("onnx")).unwrap();
    write(&path, exported(BASE, false));
    for path in [&folder, &path] {
        let answer = bench.compare(path, &demo(BASE));
        assert_is(&answer, "derived", "copy or cast", "undetermined");
    }
    let answer = bench.compare(&folder, &demo(UNRELATED));
    assert_eq!(answer["verdict"], "independent", "{answer:#}");
}

#[test]
fn eight_bits_are_a_quantisation() {
    let bench = Bench::new();
    let folder = bench.folder("quantised");
    write(&folder.join("model_quantized.onnx"), exported(BASE, true));
    let answer = bench.compare(&folder, &demo(BASE));
    assert_is(&answer, "derived", "quantised", "a descends from b");
    assert_eq!(answer["models"][0]["dtype"], "ONNX uint8", "{answer:#}");
    let answer = bench.compare(&folder, &demo(UNRELATED));
    assert_eq!(answer["verdict"], "independent", "{answer:#}");
}

#[test]
fn repositories_of_exports_are_crawled_and_found() {
    let mut models = Models::new();
    for (id, name) in [("org/base", BASE), ("org/other", UNRELATED)] {
        let files: Vec<_> = files_below(&demo(name))
            .into_iter()
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path)))
            .collect();
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .filter(|(name, _)| !name.starts_with('.') && name != "README.md")
            .map(|(name, content)| (name.as_str(), &content[..]))
            .collect();
        models.add(id, &files);
    }
    let (whole, codes) = (exported(BASE, false), exported(BASE, true));
    models.add("x/base-ONNX", &[("onnx/model.onnx", &whole), ("onnx/model_quantized.onnx", &codes)]);
    models.add("x/other-ONNX", &[("model.onnx", &exported(UNRELATED, false))]);
    models.add("x/cut", &[("model.onnx", &whole[..300_000])]);
    // An export beside a model is read by nobody.
    let weights =
        files_below(&demo(BASE)).into_iter().find(|path| path.ends_with("model.safetensors")).unwrap();
    models.add(
        "x/both",
        &[
            ("model.safetensors", &read(&weights)),
            ("onnx/model.onnx", &whole),
            ("openvino/openvino_model.bin", b"weights"),
        ],
    );
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(1, &[]);
    let rows = cli.rows();
    let row = &rows["x/base-ONNX"];
    assert_eq!(
        (row.outcome.name(), row.dtype.as_deref(), row.weight_files.len()),
        ("indexed", Some("F32"), 1)
    );
    let rest = &row.coverage.as_ref().unwrap().rest;
    assert!(
        rest.iter().any(|rest| rest.what.starts_with("onnx/model_quantized.onnx: the same model")),
        "{rest:?}"
    );
    let paths: Vec<&str> = rows["x/both"].weight_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["model.safetensors"]);
    assert_eq!(rows["x/cut"].outcome.name(), "malformed", "{:?}", rows["x/cut"].reason);
    cli.expect(0, &["index", "--db", "DB"]);
    for (model, found) in [(BASE, "x/base-ONNX"), (UNRELATED, "x/other-ONNX")] {
        let path = demo(model);
        let answer = cli.expect(0, &["scan", "--db", "DB", path.to_str().unwrap(), "--json"]).stdout;
        assert!(answer.contains(found), "{answer}");
    }
}
