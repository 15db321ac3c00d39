//! Layouts that are known by the names of their tensors, and not read.

use super::{PackedError, Parts, QuantConfig};
use crate::formats::Dtype;

/// Suffixes that a reason names.
const SHOWN: usize = 8;

/// A method, and suffixes that only its layers have.
type Signature = (&'static str, &'static [&'static str]);

/// As the libraries save them. Several may fit; the first one counts.
const SIGNATURES: &[Signature] = &[
    ("EXL2", &["q_weight", "q_scale"]),
    ("EXL3", &["trellis", "svh"]),
    ("EXL3", &["trellis", "sv"]),
    ("AQLM", &["codes", "codebooks"]),
    ("VPTQ", &["indices", "centroids.weight"]),
    ("VPTQ", &["indices", "centroids"]),
    ("QuIP#", &["Qidxs"]),
    ("SpQR", &["dense_weights", "row_offsets"]),
    ("HIGGS", &["weight", "scales", "tables", "tables2"]),
    ("FP-Quant", &["qweight", "forward_hadamard_matrix"]),
    ("FP-Quant", &["dqweight", "forward_hadamard_matrix"]),
    ("EETQ", &["weight", "weight_scales"]),
    ("HQQ", &["W_q"]),
    ("Marlin", &["B", "s"]),
    ("torchao", &["_weight_qdata"]),
    ("torchao", &["weight:qdata"]),
    ("quanto", &["weight._data"]),
    ("SINQ", &["weight_q", "weight_scale", "weight_zero"]),
    ("NVFP4", &["weight", "weight_sf", "weight_global_scale"]),
    ("MLX", &["weight", "scales", "biases"]),
    ("SVDQuant", &["qweight", "wscales"]),
];

/// The method whose layers have tensors of these names, and codes among them.
pub(super) fn method(parts: &Parts<'_>) -> Option<&'static str> {
    let fits = |(_, suffixes): &&Signature| suffixes.iter().all(|suffix| parts.contains_key(suffix));
    let (method, _) = SIGNATURES.iter().find(fits)?;
    has_codes(parts).then_some(method)
}

/// Whether a tensor holds codes: a type that no weight has by itself. No layout packs into 64 bits, and buffers of
/// attention masks are called `bias`.
pub(super) fn has_codes(parts: &Parts<'_>) -> bool {
    let is_codes = |dtype: Dtype| !dtype.is_plain_float() && dtype.bits() < 64;
    parts.iter().any(|(suffix, tensor)| *suffix != "bias" && tensor.dtype.is_none_or(is_codes))
}

/// Why a layer is not read, in words that are the same for all layers of a method.
pub(super) fn unreadable(parts: &Parts<'_>, config: &QuantConfig) -> PackedError {
    if let Some(method) = method(parts) {
        return PackedError::Named { method };
    }
    let suffixes = parts.keys().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let method = match (&config.method, &config.version) {
        (Some(method), Some(version)) if method != version => format!("{method} {version}"),
        (Some(method), _) => method.clone(),
        (None, _) => "a method that config.json does not name".into(),
    };
    PackedError::Unreadable { method, tensors: suffixes }
}
