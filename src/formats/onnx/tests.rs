//! Hostile files: a clear error, or what can be read of them.

use super::*;
use crate::formats::Limits;
use crate::formats::varint::testing::{field, varint};

fn tensor(name: &str, shape: &[u64], kind: u8, values: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = shape.iter().flat_map(|n| [vec![1 << 3], varint(*n)].concat()).collect();
    tensor.extend([2 << 3, kind]);
    [tensor, field(8, name.as_bytes()), values.to_vec()].concat()
}

fn file(graph: &[u8]) -> Vec<u8> {
    [vec![1 << 3, 8], field(7, graph)].concat()
}

/// What a file holds, of whose bytes those from `real` on are zeros.
fn read_of(real: &[u8], size: u64, limits: &Limits) -> Result<Model, OnnxError> {
    let mut decoder = Decoder::new(size, limits);
    loop {
        match decoder.step()? {
            Decoded::Done(model) => return Ok(model),
            Decoded::Need(range) => {
                assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
                let byte = |at: u64| real.get(at as usize).copied().unwrap_or(0);
                let bytes: Vec<u8> = range.clone().map(byte).collect();
                decoder.give(range.start, &bytes);
            }
        }
    }
}

fn read(file: &[u8]) -> Result<Model, OnnxError> {
    read_of(file, file.len() as u64, &Limits::default())
}

fn names(model: &Model) -> Vec<&str> {
    model.weights.iter().map(|weight| weight.name.as_str()).collect()
}

#[test]
fn long_values_are_passed_over() {
    let rows = 1 << 20;
    let length = rows * 1024 * 4;
    let mut first = tensor("a.weight", &[rows, 1024], 1, &[]);
    first.extend(varint(9 << 3 | 2));
    first.extend(varint(length));
    let mut graph = varint(5 << 3 | 2);
    graph.extend(varint(first.len() as u64 + length));
    graph.extend(&first);
    let graph_length = graph.len() as u64 + length;
    let head = [vec![7 << 3 | 2], varint(graph_length), graph].concat();
    let size = head.len() as u64 + length;
    let model = read_of(&head, size, &Limits::default()).unwrap();
    let [weight] = &model.weights[..] else { panic!("{model:?}") };
    assert_eq!(
        (weight.shape.clone(), weight.parts[0].1.bytes.clone()),
        (vec![rows, 1024], size - length..size)
    );
}

#[test]
fn a_million_nodes() {
    let node = field(1, &[field(1, b"a"), field(1, b"b"), field(4, b"Relu")].concat());
    let mut graph = node.repeat(1_000_000);
    graph.extend(field(5, &tensor("x.weight", &[2], 1, &field(9, &[0; 8]))));
    assert_eq!(names(&read(&file(&graph)).unwrap()), ["x.weight"]);
    // That use a weight each: too many of them.
    let many: Vec<u8> = (0..1_000u32)
        .flat_map(|i| {
            field(1, &[field(1, b"a"), field(1, i.to_string().as_bytes()), field(4, b"MatMul")].concat())
        })
        .collect();
    let limits = Limits { tensors: 100, ..Limits::default() };
    let many = file(&many);
    let error = read_of(&many, many.len() as u64, &limits).unwrap_err();
    assert!(matches!(error, OnnxError::TooMany { what: "nodes that use a weight", .. }), "{error}");
}

#[test]
fn graphs_in_one_another() {
    let nested = |depth: usize| {
        let mut graph = field(5, &tensor("inner.weight", &[2], 1, &field(9, &[0; 8])));
        for _ in 0..depth {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        file(&graph)
    };
    assert_eq!(names(&read(&nested(2)).unwrap()), ["inner.weight"]);
    for depth in [20, 10_000] {
        assert!(matches!(read(&nested(depth)), Err(OnnxError::Nesting { .. })), "{depth}");
    }
}

#[test]
fn lengths_that_lie() {
    let of = |values: &[u8]| file(&field(5, &tensor("x.weight", &[2, 3], 1, values)));
    assert!(read(&of(&field(9, &[0; 24]))).is_ok());
    assert!(matches!(read(&of(&field(9, &[0; 23]))), Err(OnnxError::Shape { bytes: 23, .. })));
    assert!(matches!(read(&of(&field(4, &[0; 28]))), Err(OnnxError::Shape { bytes: 28, .. })));
    // A shape that no file holds, and one of a negative length.
    for shape in [&[u64::MAX, u64::MAX][..], &[u64::MAX], &[1 << 62, 4]] {
        let file = file(&field(5, &tensor("x.weight", shape, 1, &field(9, &[0; 24]))));
        assert!(matches!(read(&file), Err(OnnxError::Shape { .. })), "{shape:?}");
    }
    for claimed in [u64::MAX, 1 << 60, 100] {
        let cut = [vec![7 << 3 | 2], varint(claimed), vec![0; 8]].concat();
        assert!(matches!(read(&cut), Err(OnnxError::Length { .. })), "{claimed}");
    }
    // Inner messages that go on behind the outer one.
    let inner = [vec![5 << 3 | 2], varint(50), vec![0; 8]].concat();
    assert!(matches!(read(&[file(&inner), vec![0; 100]].concat()), Err(OnnxError::Length { .. })));
    let many = file(&field(5, &tensor("x", &[1; 40], 1, &[])));
    assert!(matches!(read(&many), Err(OnnxError::TooMany { what: "dimensions of a tensor", .. })));
    let long = file(&field(5, &tensor(&"x".repeat(5000), &[1], 1, &[])));
    assert!(matches!(read(&long), Err(OnnxError::TooMany { what: "bytes in a tensor name", .. })));
}

#[test]
fn external_data_lie_beside_the_model() {
    let of = |location: &str, offset: &str| {
        let pair = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let pairs = [pair("location", location), pair("offset", offset), vec![14 << 3, 1]].concat();
        read(&file(&field(5, &tensor("x.weight", &[2, 3], 1, &pairs))))
    };
    for location in ["model.onnx_data", "./model.onnx_data"] {
        let model = of(location, "100").unwrap();
        let expected = Place { location: Some("model.onnx_data".into()), bytes: 100..124 };
        assert_eq!(model.weights[0].parts, [("", expected)]);
    }
    for location in ["../x", "a/../../x", "/etc/passwd", "C:\\x", "..", "", "https://host/x", "a\nb"] {
        assert!(matches!(of(location, "0"), Err(OnnxError::Place { .. })), "{location:?}");
    }
    for offset in ["18446744073709551615", "x", "-1", "99999999999999999999999"] {
        assert!(matches!(of("x.data", offset), Err(OnnxError::Place { .. })), "{offset}");
    }
}

#[test]
fn other_files_are_told() {
    assert!(matches!(
        read(b"version https://git-lfs.github.com/spec/v1\noid sha256:00"),
        Err(OnnxError::Foreign(_))
    ));
    assert!(matches!(read(b"<!DOCTYPE html><title>Sign in</title>"), Err(OnnxError::Foreign(_))));
    assert!(matches!(read(&[0; 1000]), Err(OnnxError::Foreign(_))));
    assert!(matches!(read(b""), Err(OnnxError::NoGraph)));
    assert!(matches!(read(&[1 << 3, 8]), Err(OnnxError::NoGraph)));
}

#[test]
fn two_weights_never_get_one_name() {
    let node = |weight: &[u8]| {
        field(1, &[field(1, b"x"), field(1, weight), field(3, b"/a/MatMul"), field(4, b"MatMul")].concat())
    };
    let weight = |name: &str| field(5, &tensor(name, &[2, 3], 1, &field(9, &[0; 24])));
    let one = [node(b"onnx::MatMul_1"), weight("onnx::MatMul_1")].concat();
    let model = read(&file(&one)).unwrap();
    assert_eq!((names(&model), model.weights[0].shape.clone()), (vec!["a.weight"], vec![3, 2]));
    let two = [one.clone(), node(b"onnx::MatMul_2"), weight("onnx::MatMul_2")].concat();
    assert_eq!(names(&read(&file(&two)).unwrap()), ["onnx::MatMul_1", "onnx::MatMul_2"]);
    let taken = [one, weight("a.weight")].concat();
    assert_eq!(names(&read(&file(&taken)).unwrap()), ["onnx::MatMul_1", "a.weight"]);
    // Without a module the stored name is all there is, and the order that goes with it.
    let bare = [
        field(1, &[field(1, b"x"), field(1, b"12"), field(3, b"MatMul_3"), field(4, b"MatMul")].concat()),
        weight("12"),
    ];
    let model = read(&file(&bare.concat())).unwrap();
    assert_eq!((names(&model), model.weights[0].shape.clone()), (vec!["12"], vec![2, 3]));
}
