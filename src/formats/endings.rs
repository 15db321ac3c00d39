//! How the names of weight files end.

/// Of safetensors.
pub const SAFETENSORS: [&str; 1] = [".safetensors"];
/// Of PyTorch.
pub const TORCH: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];
/// Of GGUF.
pub const GGUF: [&str; 1] = [".gguf"];
/// Of ONNX.
pub const ONNX: [&str; 1] = [".onnx"];
/// Of formats that are not read, and what has them.
const OTHERS: [(&str, &str); 22] = [
    (".h5", "weights of Keras or TensorFlow"),
    (".keras", "a model of Keras"),
    (".msgpack", "weights of Flax"),
    (".pdparams", "weights of PaddlePaddle"),
    (".pb", "a graph of TensorFlow"),
    (".tflite", "a model of TensorFlow Lite"),
    (".mlmodel", "a model of Core ML"),
    ("com.apple.CoreML/weights/weight.bin", "weights of Core ML"),
    ("openvino_model.bin", "weights of OpenVINO"),
    (".nemo", "an archive of NeMo"),
    (".llamafile", "a program of llamafile"),
    (".engine", "a program of TensorRT"),
    (".joblib", "an estimator that joblib pickled"),
    (".skops", "an estimator of skops"),
    (".pkl", "a Python pickle"),
    (".pickle", "a Python pickle"),
    (".npz", "arrays of NumPy"),
    (".npy", "an array of NumPy"),
    (".tar.gz", "an archive"),
    (".tgz", "an archive"),
    (".tar", "an archive"),
    (".zip", "an archive, as stable-baselines3 saves agents"),
];

/// A text without one of these endings, in whatever case that is written.
pub fn strip<'a>(text: &'a str, endings: &[&str]) -> Option<&'a str> {
    endings.iter().find_map(|ending| {
        let at = text.len().checked_sub(ending.len())?;
        let (head, tail) = text.split_at_checked(at)?;
        tail.eq_ignore_ascii_case(ending).then_some(head)
    })
}

/// Whether a file of this name may hold weights that are read, or lists the files that do.
pub fn is_read(name: &str) -> bool {
    let listed = strip(name, &[".index.json"]).unwrap_or(name);
    [&SAFETENSORS[..], &TORCH, &GGUF, &ONNX].iter().any(|endings| strip(listed, endings).is_some())
}

/// What a file is that may hold weights in a format that is not read, by its name.
pub fn unread(name: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(ending, _)| strip(name, &[ending]).is_some()).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weight_files() {
        for name in [
            "model.safetensors",
            "A.BIN",
            "x/y.pth",
            "model.safetensors.index.json",
            "m.ckpt",
            "q.GGUF",
            "o.onnx",
        ] {
            assert!(is_read(name), "{name}");
        }
        for name in ["model.h5", "config.json", "bin", ""] {
            assert!(!is_read(name), "{name}");
        }
        assert_eq!(unread("a/Model.MSGPACK"), Some("weights of Flax"));
        assert_eq!(unread("model.tar.gz"), Some("an archive"));
        assert_eq!(
            unread("m.mlpackage/Data/com.apple.CoreML/weights/weight.bin"),
            Some("weights of Core ML")
        );
        assert_eq!(unread("a.pt"), None);
    }
}
