//! How the names of weight files end.

/// Of safetensors.
pub const SAFETENSORS: [&str; 1] = [".safetensors"];
/// Of PyTorch.
pub const TORCH: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];
/// Of GGUF.
pub const GGUF: [&str; 1] = [".gguf"];
/// Of ONNX.
pub const ONNX: [&str; 1] = [".onnx"];
/// Of formats that are not read.
const OTHERS: [&str; 2] = [".h5", ".msgpack"];

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

/// Whether a file of this name may hold weights, in whatever format.
pub fn is_weights(name: &str) -> bool {
    is_read(name) && strip(name, &[".index.json"]).is_none() || strip(name, &OTHERS).is_some()
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
        assert!(is_weights("model.msgpack") && is_weights("a.pt") && !is_weights("a.bin.index.json"));
    }
}
