use std::sync::Arc;

use proptest::prelude::*;

use super::encoding::Blocks;
use super::*;
use crate::formats::{Encoding, Form, Limits};

macro_rules! blocks {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../../tests/fixtures/gguf/", $name, ".blocks")) as &[u8])),*]
    };
}

/// Blocks and their values, by the reference (tests/fixtures/gguf/make_blocks.py).
const GOLDEN: [(&str, &[u8]); 26] = blocks![
    "BF16", "F16", "F32", "IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS", "IQ4_NL",
    "IQ4_XS", "MXFP4", "NVFP4", "Q2_K", "Q3_K", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K",
    "Q8_0", "TQ1_0", "TQ2_0"
];

const LITTLE: &[u8] = include_bytes!("../../../tests/fixtures/gguf/little.gguf");
const BIG: &[u8] = include_bytes!("../../../tests/fixtures/gguf/big.gguf");

fn kind(name: &str) -> &'static Kind {
    Kind::of_name(name).unwrap()
}

#[test]
fn values_are_those_of_the_reference_bit_for_bit() {
    let read = (0..64).filter_map(Kind::of_code).filter(|kind| kind.is_quantised() && kind.is_read());
    assert!(
        read.clone().count() > 20
            && read.clone().all(|kind| GOLDEN.iter().any(|(name, _)| *name == kind.name))
    );
    for (name, file) in GOLDEN {
        let kind = kind(name);
        let (count, rest) = file.split_first_chunk::<4>().unwrap();
        let count = u64::from(u32::from_le_bytes(*count));
        let (blocks, values) = rest.split_at((count * kind.bytes) as usize);
        let expected: Vec<u32> = values.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let encoding = Blocks { kind, big_endian: false };
        let found = encoding.decode(0..count, &[blocks]).unwrap();
        let found: Vec<u32> = found.into_iter().map(f32::to_bits).collect();
        assert_eq!(found, expected, "{name}");
    }
}

/// The header of a file that is given in the ranges that the decoder asks for, and the bytes that took.
fn decode_with(file: &[u8], limits: &Limits) -> Result<(Header, u64), GgufError> {
    let mut decoder = Decoder::new(file.len() as u64, limits);
    let mut read = 0;
    loop {
        match decoder.step()? {
            Decoded::Done(header) => return Ok((header, read)),
            Decoded::Need(range) => {
                assert!(range.start < range.end && range.end <= file.len() as u64, "{range:?}");
                read += range.end - range.start;
                assert!(read <= file.len() as u64, "no byte twice");
                decoder.give(range.start, &file[range.start as usize..range.end as usize]);
            }
        }
    }
}

fn decode(file: &[u8]) -> Result<Header, GgufError> {
    decode_with(file, &Limits::default()).map(|(header, _)| header)
}

/// The values of a weight.
fn values(checkpoint: &Checkpoint, name: &str, file: &[u8]) -> Vec<f32> {
    let weights = checkpoint.weights();
    let weight = weights.iter().find(|weight| weight.name == name).unwrap();
    let Form::Stored(encoding) = &weight.form else { panic!("{weight:?}") };
    let (rows, columns) = match weight.shape[..] {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => panic!("{weight:?}"),
    };
    let at = weight.parts[""].bytes.start;
    let ranges = encoding.ranges(&(0..rows), columns).unwrap();
    let pieces: Vec<&[u8]> =
        ranges.iter().map(|r| &file[(at + r.bytes.start) as usize..(at + r.bytes.end) as usize]).collect();
    encoding.decode(0..rows, &pieces).unwrap()
}

#[test]
fn a_file_of_the_reference_writer_is_read_in_both_byte_orders() {
    let mut version_2 = LITTLE.to_vec();
    version_2[4] = 2;
    for (file, big_endian) in [(LITTLE, false), (BIG, true), (&version_2, false)] {
        let header = decode(file).unwrap();
        assert_eq!(header.big_endian, big_endian);
        let checkpoint = Checkpoint::new(vec![header]);
        let said = checkpoint.values();
        assert_eq!(said.text("general.name").as_deref(), Some("tiny"));
        assert_eq!(said.0.get("test.negative"), Some(&Value::Real(-3.0)));
        assert_eq!((said.real("test.double"), said.number("test.yes")), (Some(0.1), Some(1)));
        assert!(
            !said.0.contains_key("tokenizer.ggml.tokens") && !said.0.contains_key("tokenizer.chat_template")
        );
        let config = checkpoint.config();
        assert_eq!((config.model_type.as_deref(), config.hidden_size), (Some("llama"), Some(32)));
        assert_eq!((config.heads, config.kv_heads, config.norm_eps), (Some(2), Some(1), Some(1e-5)));
        let quantised = config.quantization.map(|quantised| (quantised.method, quantised.quant_type));
        assert_eq!(config.rope_theta, Some(5e5));
        assert_eq!(quantised, Some((Some("gguf".to_owned()), Some("Q8_0".to_owned()))));
        assert_eq!(checkpoint.declared_bases(), ["org/base"]);
        let shapes: Vec<_> = checkpoint.tensors().map(|t| (t.name.as_str(), &t.shape[..])).collect();
        assert_eq!(shapes[0], ("token_embd.weight", &[40, 32][..]));
        assert_eq!(shapes[3], ("blk.0.ffn_down.weight", &[32, 64][..]));
        let expected: Vec<f32> = (0..32).map(|i| 0.5 + i as f32 / 31.0).collect();
        let norm = values(&checkpoint, "output_norm.weight", file);
        assert!(norm.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{norm:?}");
        let other = Checkpoint::new(vec![decode(LITTLE).unwrap()]);
        for (name, _) in shapes {
            let found = values(&checkpoint, name, file);
            assert_eq!(found, values(&other, name, LITTLE), "{name}");
            assert!(found.iter().any(|v| *v != 0.0) && found.iter().all(|v| v.abs() < 2.0), "{name}");
        }
    }
}

#[test]
fn every_head_of_queries_has_its_halves_back() {
    let checkpoint = Checkpoint::new(vec![decode(LITTLE).unwrap()]);
    let stored = checkpoint.tensors().find(|t| t.name == "blk.0.attn_k.weight").unwrap();
    let bytes = &LITTLE[stored.bytes.start as usize..stored.bytes.end as usize];
    let as_stored = Blocks { kind: stored.kind.unwrap(), big_endian: false }.decode(0..16, &[bytes]).unwrap();
    let keys = values(&checkpoint, "blk.0.attn_k.weight", LITTLE);
    // One head of 16 rows.
    for row in 0..16 {
        let place = row % 8 * 2 + row / 8;
        assert_eq!(keys[row * 32..][..32], as_stored[place * 32..][..32], "{row}");
    }
}

/// A header by hand, and as much data.
#[derive(Clone)]
struct Made {
    values: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), value].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let dims: Vec<u8> = [
        &(dims.len() as u32).to_le_bytes()[..],
        &dims.iter().flat_map(|d| d.to_le_bytes()).collect::<Vec<_>>(),
    ]
    .concat();
    [&text(name)[..], &dims, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

impl Made {
    fn new(values: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Self {
        Self { values: values.to_vec(), tensors: tensors.to_vec(), data }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.values.len() as u64).to_le_bytes());
        file.extend(self.values.concat());
        file.extend(self.tensors.concat());
        file.resize(file.len().next_multiple_of(32) + self.data, 0);
        file
    }

    fn error(&self) -> String {
        decode(&self.bytes()).map_or_else(|error| error.to_string(), |header| panic!("{header:?}"))
    }
}

#[test]
fn hostile_headers_are_refused_with_what_is_wrong() {
    let f32s = |name: &str, dims: &[u64], offset| tensor(name, dims, 0, offset);
    let one = f32s("a", &[8], 0);
    let list = |element: u32, count: u64| [&element.to_le_bytes()[..], &count.to_le_bytes()].concat();
    for (made, expected) in [
        (Made::new(&[], &[f32s("a", &[1 << 60], 0)], 64), "a file of 4611686018427387968 bytes"),
        (Made::new(&[], &[f32s("a", &[1 << 32, 1 << 32], 0)], 64), "no whole number of blocks"),
        (Made::new(&[], &[tensor("a", &[33, 2], 2, 0)], 64), "no whole number of blocks of Q4_0"),
        (Made::new(&[], &[one.clone(), f32s("b", &[8], 16)], 64), "the one before it ends at 32"),
        (Made::new(&[], &[one.clone(), f32s("b", &[8], 64)], 96), "the one before it ends at 32"),
        (Made::new(&[], &[f32s("a", &[8], u64::MAX)], 32), "begins at byte 18446744073709551615"),
        (Made::new(&[], &[one.clone(), one.clone()], 64), "tensor \"a\" occurs twice"),
        (Made::new(&[], &[f32s("a", &[80], 0)], 64), "the header describes a file of"),
        (Made::new(&[], &[f32s("a", &[1; 99], 0)], 64), "dimensions of a tensor: 99"),
        (Made::new(&[], &[f32s(&"n".repeat(2000), &[8], 0)], 64), "bytes of a tensor's name: 2000"),
        (Made::new(&[pair("k", 4, &[0; 4]), pair("k", 4, &[0; 4])], &[], 0), "key \"k\" occurs twice"),
        (Made::new(&[pair("k", 77, &[0; 8])], &[], 64), "of type 77"),
        (Made::new(&[pair("k", 8, &(1u64 << 60).to_le_bytes())], &[], 64), "but the file ends after"),
        (Made::new(&[pair("k", 9, &list(8, 1 << 60))], &[], 64), "go on to byte"),
        (Made::new(&[pair("k", 9, &list(8, 1 << 62))], &[], 64), "more than 2^64"),
        (Made::new(&[pair("k", 9, &list(12, 1 << 40))], &[], 64), "but the file ends after"),
        (Made::new(&[pair("k", 9, &list(9, 1).repeat(1000))], &[], 64), "lists in one another: 9"),
        (Made::new(&[pair("general.alignment", 4, &[0; 4])], &[], 0), "the alignment is 0"),
    ] {
        assert!(made.error().contains(expected), "{} instead of {expected}", made.error());
    }
    let mut many = Made::new(&[], &[], 64).bytes();
    many[15] = 0x10;
    assert!(decode(&many).unwrap_err().to_string().contains("tensors: 1152921504606846976"));
    many[15] = 0;
    many[23] = 0x10;
    assert!(decode(&many).unwrap_err().to_string().contains("metadata values: 1152921504606846976"));
    for (file, expected) in [
        (&b"GGUF\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], "version 1"),
        (b"GGUF\0\0\0\x03", "ends after 8"),
        (b"GG", "ends after 2"),
        (b"ggml\x01\0\0\0", "not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"", "ends after 0"),
    ] {
        let error = decode(file).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn long_lists_of_one_size_and_long_texts_are_not_read() {
    let numbers =
        |count: u64| [&6u32.to_le_bytes()[..], &count.to_le_bytes(), &vec![1; 4 * count as usize]].concat();
    let values = [
        pair("scores", 9, &numbers(1_000_000)),
        pair("template", 8, &text(&"x".repeat(1_000_000))),
        pair("general.architecture", 8, &text("llama")),
    ];
    let file = Made::new(&values, &[tensor("a", &[8], 0, 0)], 32).bytes();
    let (header, read) = decode_with(&file, &Limits::default()).unwrap();
    assert_eq!(header.values.text("general.architecture").as_deref(), Some("llama"));
    assert!(read < 500_000 && file.len() > 5_000_000, "{read}");
}

#[test]
fn what_is_not_known_is_a_weight_that_is_not_read() {
    let tensors = [tensor("a", &[32], 77, 0), tensor("b", &[32], 31, 32), tensor("c", &[8], 0, 64)];
    let checkpoint = Checkpoint::new(vec![decode(&Made::new(&[], &tensors, 96).bytes()).unwrap()]);
    let weights = checkpoint.weights();
    let why = |i: usize| match &weights[i].form {
        Form::Unreadable(why) => why.as_str(),
        form => panic!("{form:?}"),
    };
    assert_eq!(why(0), "packed as ggml type 77, which is not known");
    assert_eq!(why(1), "packed as Q4_0_4_4, which is not read");
    assert!(matches!(weights[2].form, Form::Stored(_)));
    assert_eq!(weights[0].parts[""].len(), 32);
}

/// A Llama with a tokenizer of so many tokens and merges, and random data.
fn with_tokenizer(tokens: u64, data: impl Fn(usize) -> u8) -> Vec<u8> {
    model_with_tokenizer("llama", tokens, data)
}

fn model_with_tokenizer(architecture: &str, tokens: u64, data: impl Fn(usize) -> u8) -> Vec<u8> {
    let texts = |each: &dyn Fn(u64) -> String| {
        let all: Vec<u8> = (0..tokens).flat_map(|i| text(&each(i))).collect();
        [&8u32.to_le_bytes()[..], &tokens.to_le_bytes(), &all].concat()
    };
    let numbers = [&5u32.to_le_bytes()[..], &tokens.to_le_bytes(), &vec![1; 4 * tokens as usize]].concat();
    let one = 4u32.to_le_bytes();
    let own = |key: &str| pair(&format!("{architecture}.{key}"), 4, &one);
    let mut values = vec![
        pair("general.architecture", 8, &text(architecture)),
        own("block_count"),
        own("embedding_length"),
        own("feed_forward_length"),
        own("attention.head_count"),
        pair("tokenizer.ggml.tokens", 9, &texts(&|i| format!("token{i}"))),
        pair("tokenizer.ggml.token_type", 9, &numbers),
        pair("tokenizer.ggml.merges", 9, &texts(&|i| format!("a{i} b"))),
        pair("tokenizer.chat_template", 8, &text(&"{{ bos }}".repeat(600))),
        pair("behind", 4, &one),
    ];
    // As the converter: of models whose config.json has the number.
    if architecture == "llama" {
        values.insert(5, own("attention.head_count_kv"));
    }
    let tensors = [
        tensor("token_embd.weight", &[64, 1000], 1, 0),
        tensor("blk.0.attn_norm.weight", &[64], 0, 128_000),
        tensor("blk.0.ffn_up.weight", &[64, 16000], 1, 128_256),
    ];
    let mut file = Made::new(&values, &tensors, 0).bytes();
    file.extend((0..2_176_256).map(data));
    file
}

/// Bytes without a pattern.
fn noise(i: usize) -> u8 {
    ((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8
}

#[test]
fn the_table_is_found_without_the_tokenizer() {
    let file = with_tokenizer(60_000, noise);
    let (header, read) = decode_with(&file, &Limits::default()).unwrap();
    let places = |header: &Header| -> Vec<_> {
        header.tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.bytes.clone())).collect()
    };
    assert!(file.len() - 2_176_256 > 2_000_000 && read < 500_000, "{read} of {}", file.len());
    assert_eq!(header.values.number("llama.block_count"), Some(4));
    assert!(!header.values.0.contains_key("behind"));
    // What the whole file does not agree with is not believed: then all is read.
    let mut longer = file.clone();
    longer.extend([1; 100]);
    let (read_on, read) = decode_with(&longer, &Limits::default()).unwrap();
    assert_eq!(places(&read_on), places(&header));
    assert!(read > 1_000_000 && read_on.values.0.contains_key("behind"), "{read}");
    // Data that look like a header.
    let (plain, _) = decode_with(&with_tokenizer(60_000, |_| 0), &Limits::default()).unwrap();
    assert_eq!(places(&plain), places(&header));
    // A model whose rows are in their order needs no number of key heads for that.
    let bert = model_with_tokenizer("bert", 60_000, noise);
    let (header, read) = decode_with(&bert, &Limits::default()).unwrap();
    assert!(read < 500_000 && !header.values.0.contains_key("behind"), "{read}");
    // A small tokenizer is read.
    let (small, _) = decode_with(&with_tokenizer(1000, noise), &Limits::default()).unwrap();
    assert!(small.values.0.contains_key("behind"));
}

#[test]
fn damage_around_a_table_that_is_sought_is_survived() {
    let file = with_tokenizer(60_000, noise);
    let header = file.len() - 2_176_256;
    for seed in 0..60 {
        let mut damaged = file.clone();
        for i in 0..4 {
            let at = usize::from(noise(seed * 7 + i)) << 8 | usize::from(noise(seed * 11 + i));
            // In front of the tokenizer, in the table, and in what lies between.
            let place = [at % 400, header - 1 - at % 300, at * 40][seed % 3];
            damaged[place] = noise(seed + i);
        }
        if let Ok((found, _)) = decode_with(&damaged, &Limits::default()) {
            assert!(found.tensors.iter().all(|tensor| tensor.bytes.end <= file.len() as u64));
        }
    }
}

/// The weight of this name, of eight rows, in a model of this architecture with four heads.
fn weight(architecture: &str, name: &str) -> (String, Result<Arc<dyn Encoding>, String>) {
    let heads = format!("{architecture}.attention.head_count");
    let values = [pair("general.architecture", 8, &text(architecture)), pair(&heads, 4, &4u32.to_le_bytes())];
    let file = Made::new(&values, &[tensor(name, &[8, 8], 0, 0)], 256).bytes();
    let checkpoint = Checkpoint::new(vec![decode(&file).unwrap()]);
    let mut weights = checkpoint.weights();
    let weight = weights.remove(0);
    let form = match weight.form {
        Form::Stored(encoding) => Ok(encoding),
        Form::Unreadable(why) => Err(why),
        form => panic!("{form:?}"),
    };
    (weight.name.into_owned(), form)
}

#[test]
fn what_the_converter_changes_is_undone() {
    let first = |architecture: &str, name: &str| {
        let bytes: Vec<u8> = (0..64u8).flat_map(|i| f32::from(i / 8).to_le_bytes()).collect();
        let encoding = weight(architecture, name).1?;
        let ranges = encoding.ranges(&(1..2), 8)?;
        let pieces: Vec<&[u8]> =
            ranges.iter().map(|r| &bytes[r.bytes.start as usize..r.bytes.end as usize]).collect();
        encoding.decode(1..2, &pieces).map(|values| values[0])
    };
    // Four heads of two rows have their halves where they are; two of four would not.
    assert_eq!(first("llama", "blk.0.attn_q.weight"), Ok(1.0));
    for (architecture, name, expected) in [
        ("gemma2", "blk.0.attn_norm.weight", 0.0),
        ("gemma3", "output_norm.weight", 0.0),
        ("gemma3n", "output_norm.weight", 1.0),
        ("gemma", "blk.0.attn_q.weight", 1.0),
        ("qwen3next", "blk.0.ssm_norm.weight", 1.0),
        ("nemotron", "blk.0.ffn_norm.weight", 0.0),
        ("nemotron", "blk.0.ffn_norm.bias", 1.0),
        ("qwen2", "blk.0.attn_q.weight", 1.0),
    ] {
        assert_eq!(first(architecture, name), Ok(expected), "{architecture} {name}");
    }
    assert!(first("nemotron_h", "blk.0.attn_q.weight").is_err());
    for (architecture, name, plain) in [
        ("gemma2", "blk.0.ffn_norm.weight", "blk.0.pre_ffw_norm.weight"),
        ("llama", "blk.0.ffn_norm.weight", "blk.0.ffn_norm.weight"),
        ("falcon", "blk.0.attn_norm_2.weight", "blk.0.attn_norm.weight"),
        ("falcon", "blk.0.attn_norm.weight", "blk.0.attn_norm.weight"),
    ] {
        assert_eq!(weight(architecture, name).0, plain);
    }
}

#[test]
fn without_heads_queries_are_not_read() {
    let values = [pair("general.architecture", 8, &text("llama"))];
    let file = Made::new(&values, &[tensor("blk.0.attn_q.weight", &[8, 8], 0, 0)], 256).bytes();
    let checkpoint = Checkpoint::new(vec![decode(&file).unwrap()]);
    assert!(
        matches!(&checkpoint.weights()[0].form, Form::Unreadable(why) if why.contains("heads are not known"))
    );
}

#[test]
fn the_first_file_of_several_says_what_the_model_is() {
    let said = |name: &str| Made::new(&[pair("general.architecture", 8, &text(name))], &[], 0).bytes();
    let headers = [said("gemma2"), said("other")].map(|file| decode(&file).unwrap());
    assert_eq!(Checkpoint::new(headers.into()).config().model_type.as_deref(), Some("gemma2"));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), version in 2u8..4) {
        let _ = decode(&bytes);
        let _ = decode(&[&[b'G', b'G', b'U', b'F', version, 0, 0, 0][..], &bytes].concat());
    }

    #[test]
    fn damaged_files_never_panic(changes in prop::collection::vec((0usize..1600, any::<u8>()), 1..6), big in any::<bool>()) {
        let mut file = if big { BIG } else { LITTLE }.to_vec();
        for (at, byte) in changes {
            // Behind the long template comes the table.
            let at = if at < 800 { at } else { at + 5500 };
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok(header) = decode(&file) {
            let checkpoint = Checkpoint::new(vec![header]);
            let _ = (checkpoint.config(), checkpoint.declared_bases());
            for weight in checkpoint.weights() {
                prop_assert!(weight.parts[""].bytes.end <= file.len() as u64);
                let Form::Stored(encoding) = &weight.form else { continue };
                if let Some([rows, columns]) = weight.shape.first_chunk() {
                    let _ = encoding.ranges(&(0..*rows), *columns);
                }
            }
        }
    }
}
