//! Quirks of public checkpoints, each made from a small trained one: what a comparison, a crawl and a scan say of them.
//!
//! One module for each kind of fault.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Cli, Hub, Models, demo_hub, nobody, read, temp, write};

mod adapters;
mod files;
mod gguf;
mod names;
mod onnx;
mod packings;
mod relations;

/// A trained model of six layers, hidden size 96.
const BASE: &str = "lumenworks/stdlib-llama-500k";
/// A model of its shape, trained from scratch.
const UNRELATED: &str = "basalt-research/basalt-500k";

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// Its values; of a demo model all are F16, F32 or BF16.
    fn values(&self) -> Vec<f32> {
        let pairs = || self.bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self.dtype {
            Dtype::F16 => pairs().map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F32 => {
                self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The tensors of a checkpoint by name.
type Tensors = BTreeMap<String, Tensor>;

/// A demo model's folder.
fn demo(id: &str) -> PathBuf {
    demo_hub().join("models").join(id)
}

/// The tensors of one weight file.
fn tensors(file: &Path) -> Tensors {
    let bytes = read(file);
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |(name, view): (String, TensorView<'_>)| {
        (name, Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() })
    };
    all.tensors().into_iter().map(owned).collect()
}

/// The tensors of a demo model.
fn demo_tensors(id: &str) -> Tensors {
    tensors(&demo(id).join("model.safetensors"))
}

/// The same tensors under other names.
fn renamed(tensors: &Tensors, rename: impl Fn(&str) -> String) -> Tensors {
    tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

/// These tensors as one safetensors file.
fn file_of(tensors: &Tensors) -> Vec<u8> {
    let views =
        tensors.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).unwrap()
}

/// Folders with checkpoints, and somebody who compares them.
struct Bench {
    dir: TempDir,
    user: Cli,
}

impl Bench {
    fn new() -> Self {
        Self { dir: temp(), user: Cli::new(&nobody()) }
    }

    /// A new folder with the small files of the base model.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            write(&folder.join(file), read(&demo(BASE).join(file)));
        }
        folder
    }

    /// The same with these weights, and these fields of config.json.
    fn model(&self, name: &str, tensors: &Tensors, config: &Value) -> PathBuf {
        let folder = self.folder(name);
        write(&folder.join("model.safetensors"), file_of(tensors));
        set_config(&folder, config);
        folder
    }

    /// The answer of `compare --json`.
    fn compare(&self, a: &Path, b: &Path) -> Value {
        self.user.expect(0, &["compare", "--json", a.to_str().unwrap(), b.to_str().unwrap()]).json()
    }
}

/// Sets fields of a folder's config.json.
fn set_config(folder: &Path, fields: &Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&read(&path)).unwrap();
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    write(&path, config.to_string());
}

/// Asserts the verdict, relation and direction of an answer.
fn assert_is(answer: &Value, verdict: &str, relation: &str, direction: &str) {
    let found = (&answer["verdict"], &answer["relation"], &answer["direction"]);
    assert_eq!(found, (&json!(verdict), &json!(relation), &json!(direction)), "{answer:#}");
}
