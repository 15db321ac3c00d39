//! How the files of each format are named.

use super::number_formats::{self, Variant, words};
use crate::formats::endings;

/// How the files of a format are named.
pub(super) struct Dialect {
    /// How their names end.
    pub(super) endings: &'static [&'static str],
    /// Which number format a stem names.
    pub(super) variant: fn(&str) -> Variant,
    /// Whether folders are named after number formats.
    has_folders: bool,
    /// Why a stem is never taken for a model, where it is not.
    pub(super) never: fn(&str) -> Option<&'static str>,
}

/// Why what a training left behind is not read.
pub(super) const LEFT_BEHIND: &str = "left behind by a training";

/// Names that trainers give to what they save beside the weights.
const TRAINERS: [&str; 6] =
    ["training_args", "trainer_state", "optimizer", "scheduler", "rng_state", "scaler"];

/// safetensors.
pub(super) const SAFETENSORS: Dialect = Dialect {
    endings: &endings::SAFETENSORS,
    variant: number_formats::of_word,
    has_folders: false,
    never: left_behind,
};

/// PyTorch.
pub(super) const TORCH: Dialect = Dialect {
    endings: &endings::TORCH,
    never: |stem| if stem.starts_with("openvino_") { Some("weights of OpenVINO") } else { left_behind(stem) },
    ..SAFETENSORS
};

/// What a trainer saves beside the weights, by the name that it gives.
fn left_behind(stem: &str) -> Option<&'static str> {
    // mlx-lm leaves the adapter of every hundredth step: `0000100_adapters`.
    let step = stem.strip_suffix("_adapters");
    let is_step = step.is_some_and(|step| step.len() == 7 && step.bytes().all(|byte| byte.is_ascii_digit()));
    (is_step || TRAINERS.iter().any(|name| stem.starts_with(name))).then_some(LEFT_BEHIND)
}

/// GGUF: one file, or shards, for each of many number formats.
pub(super) const GGUF: Dialect = Dialect {
    endings: &endings::GGUF,
    variant: number_formats::of_quantisation,
    has_folders: true,
    never: |stem| {
        let says = |known: &str| words(stem).any(|word| word == known);
        let is_named = || number_formats::of_quantisation(stem).1.is_some();
        if says("mmproj") {
            Some("a part for images or sound, not the model")
        } else if says("imatrix") && !is_named() {
            Some("statistics for quantising, not a model")
        } else if stem.starts_with("mtp-") {
            Some("layers that draft tokens, not the model")
        } else if stem.starts_with("ggml-vocab") {
            Some("a tokenizer alone")
        } else {
            None
        }
    },
};

/// ONNX: one graph for each of many number formats and machines.
pub(super) const ONNX: Dialect = Dialect {
    endings: &endings::ONNX,
    variant: number_formats::of_graph,
    has_folders: true,
    never: left_behind,
};

impl Dialect {
    /// The folder that counts for files in this one, and the number format that it tells: one that is named after a
    /// number format, or after the model and one, stands for the folder that it is in.
    pub(super) fn above<'a>(&self, folder: &'a str, plain: &str) -> (&'a str, Option<usize>) {
        let (of_folder, format) = (self.variant)(last_part(folder));
        let is_variant = self.has_folders && (of_folder.is_empty() || of_folder == plain);
        match format.filter(|_| is_variant) {
            Some(format) => (split(folder.trim_end_matches('/')).0, Some(format)),
            None => (folder, None),
        }
    }
}

/// The last part of a folder's path.
pub(super) fn last_part(folder: &str) -> &str {
    let folder = folder.trim_end_matches('/');
    folder.rsplit_once('/').map_or(folder, |(_, last)| last)
}

/// The folder of a path, empty or with a `/` at its end, and the name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}
