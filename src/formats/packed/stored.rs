//! From the tensors of a checkpoint to its weights: which tensors are one weight, and how it is stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{PackedError, Parts, QuantConfig, Recognised, recognise};
use crate::formats::{Dtype, FileRange, Form, Header, PartRange, TensorInfo, Weight};

/// Suffixes that a reason names; the layouts have at most 7.
const SHOWN: usize = 8;

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
    layers.values().flat_map(|tensors| layer(tensors, config, states)).collect()
}

/// The name that the weight of this tensor's layer has where it is not packed.
pub fn plain_name(name: &str) -> String {
    let (base, suffix) = split(name);
    if suffix.starts_with('_') { base.to_owned() } else { format!("{base}.weight") }
}

/// Name of a layer, and what its tensor adds to it: see [`Parts`].
fn split(name: &str) -> (&str, &str) {
    if let Some(dot) = name.find(".weight.") {
        return (&name[..dot], &name[dot + 1..]);
    }
    // EETQ's `weight_scales` belongs to a layer, `gate_up_proj_scales` to a parameter.
    let parameter = ["_blocks", "_scales"].iter().find_map(|end| name.strip_suffix(end));
    if let Some(base) = parameter.filter(|base| !base.ends_with(".weight")) {
        return (base, &name[base.len()..]);
    }
    name.rsplit_once('.').unwrap_or(("", name))
}

fn layer<'a>(tensors: &Tensors<'a>, config: &QuantConfig, states: &States) -> Vec<Weight<'a>> {
    let parts: Parts<'a> = tensors.iter().map(|(suffix, at)| (*suffix, at.tensor)).collect();
    let plain = |at: &Located<'a>| Weight {
        name: Cow::Borrowed(&at.tensor.name),
        shape: Cow::Borrowed(&at.tensor.shape),
        parts: BTreeMap::from([("", at.range())]),
        elements: at.tensor.elements(),
        form: match at.tensor.dtype.filter(|dtype| dtype.decodable_bytes().is_some()) {
            Some(dtype) => Form::Stored(Arc::new(dtype)),
            None => Form::Unreadable("of a type that is not read".into()),
        },
    };
    let whole = |of: &[(&&'a str, &Located<'a>)], shape: Vec<u64>, form| {
        let name = of.first().map_or_else(String::new, |(_, at)| plain_name(&at.tensor.name));
        let parts = of.iter().map(|(suffix, at)| (**suffix, at.range())).collect();
        let elements = of.iter().map(|(_, at)| at.tensor.elements()).fold(0, u64::saturating_add);
        Weight { name: Cow::Owned(name), shape: Cow::Owned(shape), parts, elements, form }
    };
    let all: Vec<_> = tensors.iter().collect();
    let mut answer = recognise(&parts, config, None);
    if let Ok(Recognised::NeedState(suffix)) = &answer
        && let Some(at) = tensors.get(suffix.as_str())
    {
        match states.get(&(at.file, at.tensor.bytes.start)) {
            Some(state) => answer = recognise(&parts, config, Some(state)),
            None => return vec![whole(&all, Vec::new(), Form::After(at.range()))],
        }
    }
    match answer.and_then(inside(&parts)) {
        Ok(Recognised::Packed(packing)) => {
            // Experts that share a tensor stay apart in the shape.
            let experts = parts.get("_blocks").and_then(|blocks| blocks.shape.split_last_chunk::<2>());
            let mut shape = experts.map_or_else(|| vec![packing.rows], |(leading, _)| leading.to_vec());
            shape.push(packing.columns);
            vec![whole(&all, shape, Form::Stored(Arc::new(*packing)))]
        }
        Ok(_) => tensors.values().map(plain).collect(),
        Err(error) => {
            // A layer of no known layout may be none that is packed: a norm with `gamma` and `beta`. Where a
            // known layout is damaged, floats may be codes too.
            let unknown = matches!(error, PackedError::Unreadable { .. });
            let is_value =
                |(_, at): &(_, &Located<'_>)| unknown && at.tensor.dtype.is_some_and(Dtype::is_plain_float);
            let (values, codes): (Vec<_>, Vec<_>) = tensors.iter().partition(is_value);
            let reason = reason(&error, &parts, config);
            let mut found: Vec<Weight<'a>> = values.into_iter().map(|(_, at)| plain(at)).collect();
            // Buffers are no weights: BERT keeps `embeddings.position_ids` beside its embeddings. No layout packs
            // into 64 bits, and without a method nothing is packed in a layout that is not known.
            let packs = |(_, at): &(_, &Located<'_>)| {
                config.method.is_some() && at.tensor.dtype.is_some_and(|d| d.bits() < 64)
            };
            let unread = || Form::Unreadable(reason.clone());
            if codes.iter().any(packs) && !parts.contains_key("weight") {
                found.push(whole(&codes, Vec::new(), unread()));
            } else {
                found.extend(codes.into_iter().map(|(_, at)| Weight { form: unread(), ..plain(at) }));
            }
            found
        }
    }
}

/// Refuses a packing whose bytes lie beyond the end of a tensor.
fn inside<'p>(parts: &'p Parts<'_>) -> impl FnOnce(Recognised) -> Result<Recognised, PackedError> + 'p {
    move |recognised| {
        if let Recognised::Packed(packing) = &recognised {
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

/// Why a layer is not read, the same for all layers where it is the method.
fn reason(error: &PackedError, parts: &Parts<'_>, config: &QuantConfig) -> String {
    match (error, &config.method) {
        (PackedError::Unreadable { .. }, Some(method)) => {
            let suffixes: Vec<&str> = parts.keys().take(SHOWN).copied().collect();
            format!("packed as {method} ({}), which is not read", suffixes.join(", "))
        }
        _ => error.to_string(),
    }
}
