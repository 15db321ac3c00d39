//! Files that torch has made (tests/fixtures/torch), and files that nobody should have.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use safetensors::tensor::{SafeTensors, TensorView};

use super::write::{Content, Shaped, Written, archive, layout, stored};
use super::*;
use crate::formats::Dtype;

const VIEWS: [&str; 2] = ["views.bin", "legacy-views.bin"];
const UNREADABLE: &str = "unreadable.bin";
const FILES: [&str; 10] = [
    "f32.bin",
    "f16.bin",
    "bf16.bin",
    "types.pt",
    "lightning.ckpt",
    "lightning-protocol-5.ckpt",
    "ema.pth",
    "legacy.bin",
    "script.pt",
    "module.pth",
];

/// A file of tests/fixtures/torch.
fn made(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)).unwrap()
}

/// A reader asks for no more ranges than these.
const MOST_STEPS: usize = 12;

/// What a file holds, and the ranges that this took.
fn open_with(file: &[u8], limits: &Limits) -> Result<(Tensors, Vec<Range<u64>>), TorchError> {
    let mut opening = Opening::new(file.len() as u64);
    let mut read = Vec::new();
    for _ in 0..MOST_STEPS {
        match opening.step(limits)? {
            Step::Done(tensors) => return Ok((tensors, read)),
            Step::Need(range) => {
                assert!(range.start < range.end && range.end <= file.len() as u64, "{range:?}");
                opening.give(&range, &file[range.start as usize..range.end as usize]);
                read.push(range);
            }
        }
    }
    panic!("not done after {MOST_STEPS} steps");
}

fn open(file: &[u8]) -> Result<Tensors, TorchError> {
    open_with(file, &Limits::default()).map(|(tensors, _)| tensors)
}

fn refused(file: &[u8]) -> String {
    open(file).unwrap_err().to_string()
}

fn dtype_of(view: &TensorView<'_>) -> Dtype {
    match view.dtype() {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::Bf16,
        other => Dtype::parse(&format!("{other}")).unwrap(),
    }
}

/// Holds what was found against what torch has, byte for byte where the bytes are the same.
fn is_as_torch_has_it(name: &str, file: &[u8], found: &Tensors, expected: &[u8]) {
    let expected = SafeTensors::deserialize(expected).unwrap();
    let mut left: BTreeMap<String, TensorView<'_>> = expected.tensors().into_iter().collect();
    for tensor in &found.plain {
        let view = left.remove(&tensor.name).unwrap_or_else(|| panic!("{name}: {tensor:?} is not expected"));
        let shape: Vec<u64> = view.shape().iter().map(|n| *n as u64).collect();
        assert_eq!((&tensor.shape, tensor.dtype), (&shape, Some(dtype_of(&view))), "{name}: {}", tensor.name);
        let bytes = &file[tensor.bytes.start as usize..tensor.bytes.end as usize];
        assert_eq!(bytes, view.data(), "{name}: {}", tensor.name);
    }
    for other in &found.others {
        let Ok(encoding) = &other.form else { continue };
        let view = left.remove(&other.name).unwrap_or_else(|| panic!("{name}: {other:?} is not expected"));
        let values = dtype_of(&view).decode(view.data()).unwrap();
        let (rows, columns) = match other.shape[..] {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            ref shape => panic!("{shape:?}"),
        };
        for row in 0..rows {
            let ranges = encoding.ranges(&(row..row + 1), columns).unwrap();
            let at = |byte: u64| (other.bytes.start + byte) as usize;
            assert!(other.bytes.start + ranges[0].bytes.end <= other.bytes.end, "{name}: {other:?}");
            let piece = &file[at(ranges[0].bytes.start)..at(ranges[0].bytes.end)];
            let expected = &values[(row * columns) as usize..((row + 1) * columns) as usize];
            assert_eq!(encoding.decode(row..row + 1, &[piece]).unwrap(), expected, "{name}: {}", other.name);
        }
    }
    assert!(left.is_empty(), "{name}: {:?} were not found", left.keys());
}

#[test]
fn files_hold_what_torch_says() {
    for name in FILES.into_iter().chain(VIEWS) {
        let file = made(name);
        let opened = open_with(&file, &Limits::default());
        let (found, read) = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.len(), 1, "{name}: a small file is read at once");
        let (stem, _) = name.split_once('.').unwrap();
        is_as_torch_has_it(name, &file, &found, &made(&format!("{stem}.safetensors")));
    }
}

#[test]
fn views_that_are_not_read_and_tied_tensors() {
    for name in VIEWS {
        let found = open(&made(name)).unwrap();
        let aliases: Vec<&str> = found.aliases.iter().map(|(alias, _)| alias.as_str()).collect();
        assert_eq!(aliases, ["tied_again"], "{name}");
        let strided: Vec<&str> = found
            .others
            .iter()
            .filter(|other| other.form.as_ref().is_ok_and(|encoding| encoding.is_strided()))
            .map(|other| other.name.as_str())
            .collect();
        assert_eq!(strided, ["transposed", "both", "steps"], "{name}");
        let unread: Vec<_> = found
            .others
            .iter()
            .filter_map(|o| Some((o.name.as_str(), o.form.as_ref().err()?.as_str())))
            .collect();
        assert_eq!(unread, [("turned_cube", "a view with strides [1, 4, 12]")], "{name}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    let found = open(&made(UNREADABLE)).unwrap();
    let unread: BTreeMap<&str, (&[u64], &str)> = found
        .others
        .iter()
        .map(|o| (o.name.as_str(), (&*o.shape, o.form.as_ref().err().unwrap().as_str())))
        .collect();
    let expected: BTreeMap<&str, (&[u64], &str)> = [
        ("quantised", (&[4, 4][..], "made by torch._utils._rebuild_qtensor, which is not read")),
        ("sparse", (&[4, 4], "made by torch._utils._rebuild_sparse_tensor, which is not read")),
        ("meta", (&[3, 3], "made by torch._utils._rebuild_meta_tensor_no_storage, which is not read")),
    ]
    .into();
    assert_eq!(unread, expected);
    assert!(found.others.iter().find(|o| o.name == "quantised").unwrap().bytes.end > 0);
    let plain: Vec<&str> = found.plain.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(plain, ["weight", "complex"]);
}

/// A large file is read by its ends and its pickle, whatever the tensors take.
#[test]
fn a_large_file_is_read_in_few_ranges() {
    let bytes = vec![0; 4 << 20];
    let names: Vec<String> = (0..600).map(|n| format!("model.layers.{n}.self_attn.q_proj.weight")).collect();
    let small = [0; 64];
    let written = |(n, name)| {
        let (shape, bytes): (&[u64], &[u8]) =
            if n == 300 { (&[1 << 10, 1 << 10], &bytes) } else { (&[4, 4], &small) };
        Written { name, dtype: Dtype::F32, shape, bytes }
    };
    let written: Vec<Written<'_>> = names.iter().map(String::as_str).enumerate().map(written).collect();
    let file = archive(&written).unwrap();
    let (found, read) = open_with(&file, &Limits::default()).unwrap();
    assert_eq!(found.plain.len(), names.len());
    assert_eq!(found.plain[300].bytes.end - found.plain[300].bytes.start, 4 << 20);
    assert!(found.plain.iter().all(|tensor| tensor.bytes.start % 64 == 0));
    assert_eq!(read.len(), 3, "{read:?}");
    assert!(read.iter().map(|range| range.end - range.start).sum::<u64>() < 400_000, "{read:?}");
}

/// Places of tensors beyond 4 GB stand in fields of 64 bits, those of one as large, too.
#[test]
fn a_file_of_many_gigabytes_is_laid_out_as_torch_does() {
    let shaped = |name, shape| Shaped { name, dtype: Dtype::F16, shape };
    let tensors = [shaped("a", &[1 << 16, 1 << 16]), shaped("b", &[3, 5]), shaped("c", &[7])];
    let made = layout(&tensors).unwrap();
    let mut opening = Opening::new(made.bytes);
    let found = loop {
        match opening.step(&Limits::default()).unwrap() {
            Step::Done(tensors) => break tensors,
            Step::Need(range) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                for (begin, piece) in &made.pieces {
                    let from = (*begin).max(range.start);
                    let to = (begin + piece.len() as u64).min(range.end);
                    if from < to {
                        bytes[(from - range.start) as usize..(to - range.start) as usize]
                            .copy_from_slice(&piece[(from - begin) as usize..(to - begin) as usize]);
                    }
                }
                opening.give(&range, &bytes);
            }
        }
    };
    let begins: Vec<u64> = found.plain.iter().map(|tensor| tensor.bytes.start).collect();
    assert_eq!(begins, made.begins);
    assert!(begins[1] > 8 << 30 && begins.iter().all(|begin| begin % 64 == 0));
    assert_eq!(found.plain[1].bytes.end - begins[1], 30);
}

/// An archive with this pickle.
fn pickled(pickle: &[u8]) -> Vec<u8> {
    let members = [("data.pkl", pickle), ("byteorder", b"little"), ("data/0", &[0; 64])];
    stored(&members.map(|(name, content)| (name.to_owned(), Content::Bytes(content.to_vec()))))
}

/// A text, and nothing behind it.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// `{"w": a call of this function with one text}`.
fn calls(module: &str, name: &str) -> Vec<u8> {
    let global = format!("c{module}\n{name}\n(");
    [b"\x80\x02}", &text("w")[..], global.as_bytes(), &text("rm -rf /"), b"tRs."].concat()
}

#[test]
fn nothing_is_called() {
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("torch.hub", "load"), ("", "")] {
        let found = open(&pickled(&calls(module, name))).unwrap();
        assert!(found.plain.is_empty() && found.others.is_empty(), "{module}.{name}");
    }
    let found = open(&pickled(&calls("torch._utils", "_rebuild_whatever"))).unwrap();
    let reason = found.others[0].form.as_ref().unwrap_err();
    assert_eq!(reason, "made by torch._utils._rebuild_whatever, which is not read");
}

#[test]
fn hostile_pickles() {
    let two_to_the_63 = (1u64 << 63).to_le_bytes();
    for (pickle, reason) in [
        (&b""[..], "needs at least 1"),
        (b"\x80\x02}", "needs at least 4"),
        (b"\x80\x09}.", "a protocol above 5"),
        (b"\x80\x02.", "the stack is empty"),
        (b"(.", "the stack is empty"),
        (b"}(u", "needs at least"),
        (b"}(Nu.", "a key without a value"),
        (b"Nu.", "there is no mark"),
        (b"NNs.", "the stack is empty"),
        (b"NNNs.", "no dict"),
        (b"h\x07.", "nothing is remembered"),
        (b"\x82\x01.", "extension"),
        (b"Pid\n.", "protocol 0"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\xff.", "no opcode"),
        (b"\x85.", "the stack is empty"),
        (b"(o.", "the stack is empty"),
        (b"\x8b\xff\xff\xff\x7f.", "needs at least"),
        (b"cos\nsystem", "needs at least"),
        (&[&b"\x8d"[..], &two_to_the_63].concat(), "needs at least 9223372036854775817"),
        (&[&b"\x96"[..], &two_to_the_63].concat(), "needs at least"),
        (&[&b"\x8e"[..], &[0xff; 8]].concat(), "needs at least"),
    ] {
        let refused = refused(&pickled(pickle));
        assert!(refused.contains(reason), "{pickle:?}: {refused}");
    }
}

/// Tuples in tuples, each a byte of the pickle.
#[test]
fn deep_and_circular_values() {
    let nested = [&b")"[..], &vec![0x85; 4_000_000], b"."].concat();
    assert!(refused(&pickled(&nested)).contains("too much memory"));
    // Lists in lists: a name would be as long as they are deep.
    let deep = [&b"]"[..], &b"]".repeat(20_000), &b"a".repeat(20_000), b"."].concat();
    assert!(refused(&pickled(&deep)).contains("bytes in a tensor name"));
    // A list and a dict that are in themselves.
    for circle in [&b"]q\0h\0a."[..], b"}q\0K\x01h\0s.", b"]q\0}K\x01h\0sa."] {
        assert!(open(&pickled(circle)).unwrap().plain.is_empty());
    }
    // Each tuple holds the one before it twice: 2^60 paths.
    let laughs = [&b"]q\0"[..], &b"0h\0h\0\x86q\0".repeat(60), b"."].concat();
    assert!(open(&pickled(&laughs)).unwrap().plain.is_empty());
}

/// `{"w": a tensor of a storage}`, with these numbers of the pickle's own.
fn tensor(key: &str, elements: &[u8], offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let storage =
        [&b"(("[..], &text("storage"), b"ctorch\nFloatStorage\n", &text(key), &text("cpu")].concat();
    let view = [offset, b"(", shape, b"t(", strides, b"t\x89)tR"].concat();
    [b"}", &text("w")[..], b"ctorch._utils\n_rebuild_tensor_v2\n", &storage, elements, b"tQ", &view, b"s."]
        .concat()
}

/// A module of torch with this part of its state.
fn module(part: &str, inside: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inside = inside.iter().flat_map(|(name, value)| [&text(name)[..], value, b"s"].concat());
    [&b"cany\nModule\n)\x81}"[..], &text(part), b"}", &inside.collect::<Vec<u8>>(), b"sb"].concat()
}

#[test]
fn the_children_of_a_module_are_no_wrapper() {
    let whole = tensor("0", b"K\x10", b"K\0", b"K\x04", b"K\x01");
    // Without the dict around it, its key, and what ends the pickle.
    let vector = whole[1 + text("w").len()..whole.len() - 2].to_vec();
    for (first, second) in [("model", "lm_head"), ("network", "fc"), ("model", "z")] {
        let child = || module("_parameters", &[("x", vector.clone())]);
        let root = module("_modules", &[(first, child()), (second, child())]);
        let found = open(&pickled(&[&b"\x80\x02"[..], &root, b"."].concat())).unwrap();
        let names: Vec<&str> = found.plain.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, [format!("{first}.x"), format!("{second}.x")]);
    }
    // What all lie in is none of their names.
    let one = [&b"\x80\x02}"[..], &text("state_dict"), b"}", &text("x"), &vector, b"ss."].concat();
    assert_eq!(open(&pickled(&one)).unwrap().plain[0].name, "x");
}

#[test]
fn what_is_named_often_costs_little() {
    let whole = tensor("0", b"K\x10", b"K\0", b"K\x04", b"K\x01");
    let vector = &whole[1 + text("w").len()..whole.len() - 2];
    let name = text(&"n".repeat(1000));
    let often = b"h\0".repeat(30_000);
    let list = [&b"\x80\x02}"[..], &name, b"(", vector, b"q\0", &often, b"ls."].concat();
    let said = refused(&pickled(&list));
    assert!(said.contains("bytes in tensor names") || said.contains("too much memory"), "{said}");
    // One long text as module and name of globals without end.
    let copied = [&b"\x80\x02V\\u0041"[..], &vec![b'a'; 1 << 20], b"\nq\0"].concat();
    let globals = [copied, b"h\0h\0\x93".repeat(100), b".".to_vec()].concat();
    assert!(refused(&pickled(&globals)).contains("too much memory"));
}

#[test]
fn tensors_outside_their_storages() {
    let (four, large) = (b"K\x04", [&b"\x8a\x08"[..], &i64::MAX.to_le_bytes()].concat());
    let zero = b"K\0";
    let good = open(&pickled(&tensor("0", b"K\x10", zero, b"K\x04K\x04", b"K\x04K\x01"))).unwrap();
    assert_eq!(good.plain[0].shape, [4, 4]);
    for (key, elements, offset, shape, strides) in [
        ("7", &four[..], &zero[..], &four[..], &b"K\x01"[..]),
        ("0", four, b"K\x0d", four, b"K\x01"),
        ("0", four, &large, four, b"K\x01"),
        ("0", four, zero, b"K\x11", b"K\x01"),
        ("0", four, zero, &large, b"K\x01"),
        ("0", four, zero, four, &large),
        ("0", four, zero, b"K\x04K\x04", b"K\x01"),
        ("0", &large, zero, &[&large[..], &large, &large].concat(), b"K\0K\0K\0"),
    ] {
        let reason = refused(&pickled(&tensor(key, elements, offset, shape, strides)));
        assert!(reason.contains("is not inside its storage"), "{reason}");
    }
    // Less than nothing.
    let negative = b"J\xff\xff\xff\xff";
    for pickle in [
        tensor("0", four, negative, four, b"K\x01"),
        tensor("0", four, zero, negative, b"K\x01"),
        tensor("0", four, zero, four, negative),
    ] {
        assert!(refused(&pickled(&pickle)).contains("has no shape, strides or offset"));
    }
}

#[test]
fn limits_are_kept() {
    let names: Vec<String> = (0..10).map(|n| format!("layers.{n}.weight")).collect();
    let written = |name| Written { name, dtype: Dtype::F32, shape: &[1], bytes: &[0; 4] };
    let file = archive(&names.iter().map(|name| written(name)).collect::<Vec<_>>()).unwrap();
    for limits in [
        Limits { tensors: 9, ..Limits::default() },
        Limits { name_bytes: 14, ..Limits::default() },
        Limits { rank: 0, ..Limits::default() },
        Limits { header_bytes: 500, ..Limits::default() },
    ] {
        assert!(open_with(&file, &limits).is_err(), "{limits:?}");
    }
}

#[test]
fn archives_that_are_not_read() {
    let file = made("f32.bin");
    let change = |of: &[u8], at: usize, to: &[u8]| {
        let mut file = file.clone();
        // Its place in the directory, which follows the members.
        let found: Vec<usize> = (0..file.len()).filter(|from| file[*from..].starts_with(of)).collect();
        for from in found {
            file[from + at..from + at + to.len()].copy_from_slice(to);
        }
        refused(&file)
    };
    let central = b"PK\x01\x02";
    assert_eq!(
        change(central, 8, &[1, 8]),
        r#"an archive whose member "f32/data.pkl" is encrypted, which is not read"#
    );
    assert_eq!(
        change(central, 10, &[8, 0]),
        r#"an archive whose member "f32/data.pkl" is compressed, which is not read"#
    );
    assert!(change(central, 20, &[1, 0]).contains("not as large as it says"));
    assert!(change(b"f32/data/1", 0, b"f32/data/0").contains("twice"));
    assert!(change(b"f32/data.pkl", 0, b"f32/data.txt").contains("without the data.pkl"));
    assert!(change(b"PK\x06\x06", 32, &[1, 0]).contains("fewer members than it says"));
    assert!(change(b"PK\x06\x06", 48, &[1, 0]).contains("is not where its end says"));
    assert!(change(b"PK\x06\x07", 8, &[0; 8]).contains("is not where it should be"));
    assert!(change(b"PK\x05\x06", 0, b"PK\0\0").contains("cut off"));
    assert!(change(b"little", 0, b"bigbig").contains("big-endian"));
    assert!(refused(&file[..file.len() - 1]).contains("cut off"));
    // Members over one another: the bomb that needs no compression.
    let bomb = change(central, 42, &[0; 4]);
    assert!(bomb.contains("another header"), "{bomb}");
}

#[test]
fn streams_that_are_not_read() {
    let file = made("legacy.bin");
    let shorter = &file[..file.len() - 1];
    assert!(refused(shorter).starts_with(&format!("the storages end at byte {} of", file.len())));
    assert!(refused(&[&file[..], &[0]].concat()).starts_with("the storages end at byte"));
    assert!(refused(&file[..100]).contains("needs at least"));
    assert_eq!(
        refused(b"\x80\x04\x95\x0f\0\0\0\0\0\0\0\x8c\x05hello\x94."),
        "a Python pickle that torch.save did not write, which is not read"
    );
    let tar = [&[1; 257][..], b"ustar", &[0; 300]].concat();
    assert!(refused(&tar).contains("a tar archive"));
    assert!(refused(b"<!DOCTYPE html><p>").contains("HTML"));
    assert_eq!(refused(b"GGUF\x03\0\0\0"), "a GGUF file, which is not read");
    assert!(refused(&[7; 100]).contains("no file of torch.save"));
    assert!(refused(b"").contains("no file of torch.save"));
}

/// Damages a file where its structure is: few bytes of it are values.
fn damage(name: &str, changes: &[(u16, u8)]) -> Vec<u8> {
    let mut file = made(name);
    for (at, to) in changes {
        // Half of them at the end, where the directory of an archive is.
        let at = usize::from(*at) % file.len();
        let at = if at.is_multiple_of(2) { at } else { file.len() - 1 - at % 1500.min(file.len()) };
        file[at] = *to;
    }
    file
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select([&FILES[..], &VIEWS, &[UNREADABLE]].concat()),
        changes in prop::collection::vec(any::<(u16, u8)>(), 1..6),
        end in any::<u16>(),
    ) {
        let mut file = damage(name, &changes);
        if end % 8 == 0 {
            file.truncate(usize::from(end) % file.len());
        }
        if let Ok(found) = open(&file) {
            let size = file.len() as u64;
            prop_assert!(found.plain.iter().all(|t| t.bytes.start <= t.bytes.end && t.bytes.end <= size));
            prop_assert!(found.others.iter().all(|t| t.bytes.start <= t.bytes.end && t.bytes.end <= size));
        }
    }

    #[test]
    fn pickles_of_any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = open(&pickled(&bytes));
    }

    #[test]
    fn pickles_of_any_opcodes_never_panic(
        opcodes in prop::collection::vec(prop::sample::select(b"()]}.0122NKaesuttRbQ\x81\x85\x86\x87\x94hq\0\x01".to_vec()), 0..200),
    ) {
        let _ = open(&pickled(&[&b"\x80\x02}"[..], &opcodes, b"."].concat()));
    }
}
