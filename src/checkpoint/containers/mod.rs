//! The file formats of weights, one file each, and the table of them.

use std::sync::Arc;

use super::container::Containers;

mod dialect;
mod each;
pub mod gguf;
mod number_formats;
pub mod onnx;
pub mod safetensors;
pub(crate) mod sets;
pub mod torch;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod toy;

impl Default for Containers {
    /// All formats that this version reads: one row registers one. Where a repository has its weights in several, the
    /// first one is read; GGUF comes behind those that it is most often made from, and ONNX, to which models are exported,
    /// last.
    fn default() -> Self {
        Self::new(vec![
            Arc::new(safetensors::Safetensors),
            Arc::new(torch::Torch),
            Arc::new(gguf::Gguf),
            Arc::new(onnx::Onnx),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The components of a repository with these files: name, format and first file.
    fn found(files: &[&str]) -> Vec<(String, &'static str, String)> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let components = Containers::default().components(&files).into_iter();
        let first = |files: &crate::checkpoint::container::ComponentFiles| format!("{files:?}");
        components.map(|(of, component)| (component.name, of.name(), first(&component.files))).collect()
    }

    #[test]
    fn of_several_formats_the_model_comes_first() {
        for (files, name, format) in [
            (&["adapter_model.safetensors", "pytorch_model.bin"][..], "", "PyTorch"),
            (&["model_index.json", "unet/a.safetensors", "model.ckpt"], "", "PyTorch"),
            (&["modules.json", "0_Transformer/model.safetensors", "corpus_embeddings.pt"], "", "safetensors"),
            (&["value_head.safetensors", "pytorch_model.bin"], "", "PyTorch"),
            (&["model.safetensors", "pytorch_model.bin", "model-Q4_0.gguf"], "", "safetensors"),
            (&["adapter_model.safetensors", "model-Q4_0.gguf"], "", "gguf"),
            (&["adapter_model.bin"], "", "PyTorch"),
            (
                &["adapters.safetensors", "0000100_adapters.safetensors", "adapter_config.json"],
                "",
                "safetensors",
            ),
            (&["model.safetensors", "onnx/model.onnx", "openvino/openvino_model.bin"], "", "safetensors"),
            (&["my-finetune.safetensors", "model.onnx"], "", "safetensors"),
            (&["0_Transformer/model.safetensors", "onnx/model.onnx"], "", "safetensors"),
            (&["model-Q4_0.gguf", "onnx/model.onnx"], "", "gguf"),
            (&["onnx/model.onnx", "config.json", "optimizer.pt"], "", "ONNX"),
            (&["adapter_model.safetensors", "model.onnx"], "", "ONNX"),
        ] {
            let (found, of, _) = found(files).remove(0);
            assert_eq!((found.as_str(), of), (name, format), "{files:?}");
        }
    }

    #[test]
    fn an_export_beside_a_model_costs_nothing() {
        let exports = ["onnx/model.onnx", "onnx/model_fp16.onnx", "vae_decoder/model.onnx"];
        for beside in
            [&["model.safetensors"][..], &["model_index.json", "unet/model.safetensors"], &["a.gguf"]]
        {
            let alone = found(beside);
            assert_eq!(found(&[beside, &exports].concat()), alone, "{beside:?}");
        }
    }

    #[test]
    fn what_lies_in_folders_beside_a_model_is_no_collection() {
        let names = |files: &[&str]| found(files).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert_eq!(names(&["model.safetensors", "data/a.pt", "cache/b.pt"]), [""]);
        assert_eq!(names(&["x/a.safetensors", "y/b.safetensors"]), ["x", "y"]);
        // No two have one name.
        assert_eq!(names(&["my model/a.pth", "my_model/b.pth"]), ["my_model", "my_model-2"]);
    }
}
