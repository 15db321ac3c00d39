//! From the tensors of a checkpoint to its weights: which tensors are one weight, and how it is stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Grid, PackedError, Packing, Parts, QuantConfig, Recognised, grids, named, recognise};
use crate::formats::{FileRange, Form, Header, PartRange, TensorInfo, Weight};

/// A tensor and the header that lists it.
#[derive(Clone, Copy, Debug)]
struct Located<'a> {
    file: usize,
    tensor: &'a TensorInfo,
}

impl Located<'_> {
    fn range(&self) -> FileRange {
        FileRange { file: self.file, bytes: self.tensor.bytes.clone() }
    }
}

/// The tensors of a layer by suffix.
type Tensors<'a> = BTreeMap<&'a str, Located<'a>>;

/// The states of bitsandbytes that were read, by header and first byte.
pub type States = BTreeMap<(usize, u64), Bytes>;

/// The weights of a checkpoint, from the headers of its opened files together: the parts of one weight may be
/// in two of them.
pub fn weights<'a>(headers: &'a [Header], config: &QuantConfig, states: &States) -> Vec<Weight<'a>> {
    let mut layers: BTreeMap<&str, Tensors<'a>> = BTreeMap::new();
    for (file, header) in headers.iter().enumerate() {
        for tensor in &header.tensors {
            let (base, suffix) = split(&tensor.name);
            layers.entry(base).or_default().entry(suffix).or_insert(Located { file, tensor });
        }
    }
    let parts: BTreeMap<&str, Parts<'_>> = layers
        .iter()
        .map(|(base, tensors)| (*base, tensors.iter().map(|(suffix, at)| (*suffix, at.tensor)).collect()))
        .collect();
    let mut grids = grids::settle(&parts, config);
    // With what is settled of a layer in the place of what is said of all of them.
    let mut own = QuantConfig { layers: BTreeMap::new(), ..config.clone() };
    let mut found = Vec::new();
    for (base, tensors) in &layers {
        let layer = Layer { tensors, parts: &parts[base] };
        let answer = match grids.remove(base) {
            None => layer.recognise(config, states),
            Some(Err(open)) => Err(open),
            Some(Ok(Grid { bits, group_size })) => {
                (own.bits, own.group_size) = (Some(bits), Some(group_size));
                layer.recognise(&own, states)
            }
        };
        found.extend(layer.weights(answer, config));
    }
    found
}

/// The name that the weight of this tensor's layer has where it is not packed.
pub fn plain_name(name: &str) -> String {
    let (base, suffix) = split(name);
    if PARAMETER_ENDS.contains(&suffix) { base.to_owned() } else { format!("{base}.weight") }
}

/// What MXFP4 adds to the name of a parameter.
const PARAMETER_ENDS: [&str; 2] = ["_blocks", "_scales"];
/// Modules that VPTQ has inside a layer.
const INNER: [&str; 3] = [".centroids.weight", ".res_centroids.weight", ".outlier_centroids.weight"];

/// Name of a layer, and what its tensor adds to it: see [`Parts`].
fn split(name: &str) -> (&str, &str) {
    if let Some(dot) = name.find(".weight.") {
        return (&name[..dot], &name[dot + 1..]);
    }
    if let Some(base) = INNER.iter().find_map(|end| name.strip_suffix(end)) {
        return (base, &name[base.len() + 1..]);
    }
    // EETQ's `weight_scales` belongs to a layer, `gate_up_proj_scales` to a parameter.
    let parameter = PARAMETER_ENDS.iter().find_map(|end| name.strip_suffix(end));
    if let Some(base) = parameter.filter(|base| !base.ends_with(".weight")) {
        return (base, &name[base.len()..]);
    }
    name.rsplit_once('.').unwrap_or(("", name))
}

/// The tensors of one layer.
struct Layer<'t, 'a> {
    tensors: &'t Tensors<'a>,
    parts: &'t Parts<'t>,
}

/// What is known of a layer.
enum Stored {
    /// How, or that it is not packed.
    Known(Recognised),
    /// Nothing before this is read.
    After(FileRange),
}

impl<'a> Layer<'_, 'a> {
    fn recognise(&self, config: &QuantConfig, states: &States) -> Result<Stored, PackedError> {
        let mut recognised = recognise(self.parts, config, None)?;
        if let Recognised::NeedState(suffix) = &recognised {
            let at = self.tensors.get(suffix.as_str()).ok_or(PackedError::Missing { suffix: "state" })?;
            match states.get(&(at.file, at.tensor.bytes.start)) {
                Some(state) => recognised = recognise(self.parts, config, Some(state))?,
                None => return Ok(Stored::After(at.range())),
            }
        }
        inside(self.parts)(recognised).map(Stored::Known)
    }

    /// The weights of the layer: each tensor is in one of them.
    fn weights(&self, answer: Result<Stored, PackedError>, config: &QuantConfig) -> Vec<Weight<'a>> {
        let (shape, form) = match answer {
            Ok(Stored::Known(Recognised::Packed(packing))) => {
                (self.shape(&packing), Form::Stored(Arc::new(*packing) as _))
            }
            Ok(Stored::Known(Recognised::Flat(flat))) => (Vec::new(), Form::Flat(Arc::new(*flat))),
            Ok(Stored::After(state)) => (Vec::new(), Form::After(state)),
            Err(error) if self.is_packed(&error, config) => (Vec::new(), Form::Unreadable(error.to_string())),
            _ => return self.tensors.values().map(plain).collect(),
        };
        // A bias is a weight of its own, and never packed.
        let (own, packed): (Vec<_>, Vec<_>) = self.tensors.iter().partition(|(suffix, _)| **suffix == "bias");
        let name = packed.first().map_or_else(String::new, |(_, at)| plain_name(&at.tensor.name));
        let parts = packed.iter().map(|(suffix, at)| (**suffix, at.range())).collect();
        let elements = packed.iter().map(|(_, at)| at.tensor.elements()).fold(0, u64::saturating_add);
        let whole = Weight { name: Cow::Owned(name), shape: Cow::Owned(shape), parts, elements, form };
        std::iter::once(whole).chain(own.into_iter().map(|(_, at)| plain(at))).collect()
    }

    /// Experts that share a tensor stay apart in the shape.
    fn shape(&self, packing: &Packing) -> Vec<u64> {
        // Behind the rows are the groups of a row and their bytes, or the words of a row.
        let leading = match (self.parts.get("_blocks"), self.parts.get("weight")) {
            (Some(blocks), _) => blocks.shape.split_last_chunk::<2>().map(|(leading, _)| leading),
            (None, Some(weight)) => weight.shape.split_last().map(|(_, leading)| leading),
            _ => None,
        };
        let rows = leading.filter(|rows| rows.len() > 1).map_or_else(|| vec![packing.rows], <[u64]>::to_vec);
        rows.into_iter().chain([packing.columns]).collect()
    }

    /// Whether a layer of which this is wrong is packed. One of no known layout may be none: a norm with `gamma` and
    /// `beta`, or a buffer such as BERT's `position_ids`.
    fn is_packed(&self, error: &PackedError, config: &QuantConfig) -> bool {
        !matches!(error, PackedError::Unreadable { .. })
            || named::has_codes(self.parts) && (config.method.is_some() || self.parts.contains_key("weight"))
    }
}

/// A tensor that is a weight.
fn plain<'a>(at: &Located<'a>) -> Weight<'a> {
    Weight {
        name: Cow::Borrowed(&at.tensor.name),
        shape: Cow::Borrowed(&at.tensor.shape),
        parts: BTreeMap::from([("", at.range())]),
        elements: at.tensor.elements(),
        form: match at.tensor.dtype.filter(|dtype| dtype.decodable_bytes().is_some()) {
            Some(dtype) => Form::Stored(Arc::new(dtype)),
            None => Form::Unreadable("of a type that is not read".into()),
        },
    }
}

/// Refuses a packing whose bytes lie beyond the end of a tensor.
fn inside<'p>(parts: &'p Parts<'_>) -> impl FnOnce(Recognised) -> Result<Recognised, PackedError> + 'p {
    move |recognised| {
        let packing = match &recognised {
            Recognised::Packed(packing) => Some(&**packing),
            Recognised::Flat(flat) => Some(flat.column()),
            Recognised::Plain | Recognised::NeedState(_) => None,
        };
        if let Some(packing) = packing {
            for PartRange { suffix, bytes } in packing.ranges(&(0..packing.rows))? {
                let tensor = parts.get(suffix).ok_or(PackedError::Missing { suffix })?;
                let found = tensor.bytes.end - tensor.bytes.start;
                if bytes.end > found {
                    return Err(PackedError::Truncated { suffix, expected: bytes.end, found });
                }
            }
        }
        Ok(recognised)
    }
}
