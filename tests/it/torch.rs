//! Checkpoints of PyTorch: the demo models as `torch.save` would write them, on disk and on a Hub.

use std::collections::BTreeMap;
use std::path::Path;

use hubprint::formats::torch::write::{Written, archive};
use safetensors::tensor::SafeTensors;
use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, demo_hub, nobody, read, temp, write};

const BASE: &str = "lumenworks/stdlib-llama-500k";
const UNRELATED: &str = "basalt-research/basalt-500k";

/// The tensors of a demo model whose place among all is so, as an archive.
fn of_demo(id: &str, is_in: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<String>) {
    let file = read(&demo_hub().join("models").join(id).join("model.safetensors"));
    let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
    let mut owned: Vec<_> = tensors
        .iter()
        .map(|(name, view)| {
            let dtype = match view.dtype() {
                safetensors::Dtype::F32 => hubprint::formats::Dtype::F32,
                safetensors::Dtype::F16 => hubprint::formats::Dtype::F16,
                safetensors::Dtype::BF16 => hubprint::formats::Dtype::Bf16,
                other => panic!("{other:?}"),
            };
            let shape: Vec<u64> = view.shape().iter().map(|n| *n as u64).collect();
            (name.clone(), dtype, shape, view.data())
        })
        .collect();
    owned.sort_by(|a, b| a.0.cmp(&b.0));
    let chosen: Vec<_> = owned.iter().enumerate().filter(|(place, _)| is_in(*place)).collect();
    let written =
        chosen.iter().map(|(_, (name, dtype, shape, bytes))| Written { name, dtype: *dtype, shape, bytes });
    let file = archive(&written.collect::<Vec<_>>()).unwrap();
    (file, chosen.iter().map(|(_, (name, ..))| name.clone()).collect())
}

/// What comes with the weights of the base model.
fn small_files() -> Vec<(&'static str, Vec<u8>)> {
    let folder = demo_hub().join("models").join(BASE);
    ["config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name, read(&folder.join(name))))
        .into()
}

fn compared(a: &Path, b: &Path) -> Value {
    let paths = [a, b].map(|path| path.to_str().unwrap());
    Cli::new(&nobody()).expect(0, &["compare", "--json", paths[0], paths[1]]).json()
}

#[test]
fn a_copy_in_another_format_is_a_copy() {
    let folder = temp();
    let demo = |id: &str| demo_hub().join("models").join(id);
    for (name, content) in small_files() {
        write(&folder.path().join(name), content);
    }
    write(&folder.path().join("training_args.bin"), b"no weights");
    let file = folder.path().join("pytorch_model.bin");
    write(&file, of_demo(BASE, |_| true).0);
    for model in [folder.path(), &file] {
        let answer = compared(model, &demo(BASE));
        let found = (&answer["verdict"], &answer["relation"]);
        assert_eq!(found, (&json!("derived"), &json!("copy or cast")), "{answer:#}");
        assert_eq!(answer["models"][0]["coverage"]["share"], 1.0);
    }
    let answer = compared(folder.path(), &demo(UNRELATED));
    assert_eq!(answer["verdict"], "independent", "{answer:#}");
}

#[test]
fn what_torch_made_is_compared_with_its_safetensors() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch");
    let folder = temp();
    for name in
        ["f32.bin", "f16.bin", "bf16.bin", "legacy.bin", "lightning.ckpt", "lightning-protocol-5.ckpt"]
    {
        let (stem, _) = name.split_once('.').unwrap();
        let same = format!("{stem}.safetensors");
        for (of, name) in [("a", name), ("b", &same)] {
            write(&folder.path().join(stem).join(of).join(name), read(&fixtures.join(name)));
        }
        let [a, b] = ["a", "b"].map(|of| folder.path().join(stem).join(of));
        let answer = compared(&a, &b);
        let shares = [0, 1].map(|of| answer["models"][of]["coverage"].clone());
        assert_eq!(shares[0], shares[1], "{name}");
        assert_eq!(shares[0]["share"], 1.0, "{name}");
        assert_eq!(answer["common_blocks"], answer["equal_blocks"], "{name}: {answer:#}");
        assert!(answer["common_blocks"].as_u64().unwrap() > 0, "{name}");
    }
}

#[test]
fn repositories_of_a_hub() {
    let mut models = Models::new();
    let mut add = |id: &str, files: &[(&str, Vec<u8>)]| {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
        models.add(id, &files);
    };
    let with = |more: Vec<(&'static str, Vec<u8>)>| [small_files(), more].concat();
    add("a/whole", &with(vec![("pytorch_model.bin", of_demo(BASE, |_| true).0)]));
    let (first, of_first) = of_demo(BASE, |place| place % 2 == 0);
    let (second, of_second) = of_demo(BASE, |place| place % 2 == 1);
    let names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    let of = |tensors: &[String], file: &str| -> BTreeMap<String, String> {
        tensors.iter().map(|name| (name.clone(), file.to_owned())).collect()
    };
    let mut map = of(&of_first, names[0]);
    map.extend(of(&of_second, names[1]));
    let index = json!({"metadata": {}, "weight_map": map}).to_string().into_bytes();
    add(
        "a/sharded",
        &with(vec![(names[0], first), (names[1], second), ("pytorch_model.bin.index.json", index)]),
    );
    add("b/unrelated", &[("model.pt", of_demo(UNRELATED, |_| true).0)]);
    let safetensors = read(&demo_hub().join("models").join(BASE).join("model.safetensors"));
    add(
        "b/both",
        &with(vec![("model.safetensors", safetensors), ("pytorch_model.bin", b"no matter".to_vec())]),
    );
    add("c/arguments", &[("adapter_model.bin", b"x".to_vec()), ("training_args.bin", b"x".to_vec())]);
    add("c/other", &[("model.bin", vec![6, 0, 0, 0, 15, 0, 0, 0])]);
    add("c/page", &[("pytorch_model.bin", b"<!DOCTYPE html><title>Sign in</title>".to_vec())]);

    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(1, &[]);
    let rows = cli.rows();
    let outcome = |id: &str| (rows[id].outcome.name(), rows[id].reason.as_deref().unwrap_or_default());
    for id in ["a/whole", "a/sharded", "b/unrelated", "b/both"] {
        assert_eq!(outcome(id), ("indexed", ""), "{id}");
    }
    let digest = |id: &str| rows[id].sample_digest.as_deref().unwrap();
    assert_eq!(digest("a/whole"), digest("b/both"), "the same weights in two formats");
    assert_eq!(digest("a/whole"), digest("a/sharded"));
    assert_ne!(digest("a/whole"), digest("b/unrelated"));
    assert_eq!(rows["b/both"].weight_files[0].path, "model.safetensors");
    assert_eq!(
        outcome("c/arguments"),
        ("unsupported", "adapter_model.bin is no file of torch.save, which is not read")
    );
    assert_eq!(outcome("c/other"), ("unsupported", "model.bin is no file of torch.save, which is not read"));
    assert_eq!(outcome("c/page").0, "malformed");
    assert!(outcome("c/page").1.contains("HTML"), "{}", outcome("c/page").1);

    cli.expect(0, &["index", "--db", "DB"]);
    let found = cli.expect(0, &["scan", "--db", "DB", "--json", "a/whole"]).lines();
    let text = found[0].to_string();
    assert!(text.contains("a/sharded") && !text.contains("b/unrelated"), "{text}");
}
