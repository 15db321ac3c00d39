//! From the tensors of a layer to the [`Packing`].

mod bitsandbytes;
mod compressed;
mod fp4;
mod mlx;
mod parts;
mod runs;
mod scaled;
mod torchao;
mod transposed;

#[cfg(test)]
pub(super) use self::bitsandbytes::{FP4, NF4};
use self::compressed::Rows;
use self::parts::{bits, shape};
use super::named;
use super::packing::{FlatPacking, Packing};
use super::{PackedError, Parts, QuantConfig};
use crate::formats::{Dtype, TensorInfo};

/// Most elements of a tensor, dimensions of 0 counted as 1. No product below can overflow a `u64`: the
/// largest is elements, times 32 codes in an element, times 32 bits.
const MAX_ELEMENTS: u64 = 1 << 48;
/// Longest state that is read, bytes. bitsandbytes writes some 170, a shape has 16.
pub const MAX_STATE: u64 = 4096;
/// Tensors beside a weight that do not change its values.
const NEUTRAL: [&str; 5] = ["weight", "bias", "input_scale", "input_zero_point", "output_scale"];

/// What [`recognise`] answers.
#[derive(Debug)]
pub enum Recognised {
    /// Not packed: `weight` holds the values.
    Plain,
    /// Call again with the whole content of the tensor with this suffix (at most 4 KB).
    NeedState(String),
    /// A layout that is decoded.
    Packed(Box<Packing>),
    /// A layout that is decoded, once rows and columns are known.
    Flat(Box<FlatPacking>),
}

/// Recognises how a layer is stored. `state` is the content of the tensor that a first call asked for.
pub fn recognise(
    parts: &Parts<'_>,
    config: &QuantConfig,
    state: Option<&[u8]>,
) -> Result<Recognised, PackedError> {
    for (suffix, tensor) in parts {
        let elements = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1)));
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(shape(suffix, &tensor.shape, "too large"));
        }
    }
    let has = |suffix: &str| parts.contains_key(suffix);
    let packed = |packing| Recognised::Packed(Box::new(packing));
    if let Some((suffix, tensor)) =
        parts.iter().find(|(s, _)| s.starts_with("weight.quant_state.bitsandbytes__"))
    {
        return match state {
            Some(state) => bitsandbytes::four_bit(parts, state).map(packed),
            None => need(suffix, tensor),
        };
    }
    let weight = parts.get("weight");
    let found = if has("SCB") {
        scaled::scaled(parts, config, &scaled::BITSANDBYTES)?
    } else if has("qweight") && has("scales") && has("qzeros") {
        transposed::transposed(parts, config)?
    } else if let Some(codes) = parts.get("weight_packed") {
        if bits(codes) == 8 {
            fp4::compressed(parts)?
        } else {
            match compressed::packed_rows(parts, config, state)? {
                Rows::Packed(packing) => return Ok(Recognised::Packed(packing)),
                Rows::NeedShape => return need_part(parts, "weight_shape"),
                Rows::Unknown => None,
            }
        }
    } else if has("W_q") && has("scale") && has("zero") && has("shape") {
        match state {
            Some(state) => runs::hqq(parts, state)?,
            None => return need_part(parts, "shape"),
        }
    } else if let Some(names) = torchao::names(parts) {
        torchao::packing(parts, config, names)?
    } else if has("weight._data._data") {
        return Ok(Recognised::Flat(Box::new(runs::quanto(parts)?)));
    } else if has("weight._data") && has("weight._scale") {
        scaled::scaled(parts, config, &scaled::QUANTO)?
    } else if has("weight_scale_inv") {
        // I8 under this name is a pair of FP4 codes.
        let float = weight.is_some_and(|w| w.dtype == Some(Dtype::F8E4M3));
        if float { scaled::scaled(parts, config, &scaled::DEEPSEEK)? } else { None }
    } else if has("weight_scale_2") {
        fp4::modelopt(parts)?
    } else if has("weight_scale") && config.method.as_deref() == Some("bitnet") {
        runs::bitnet(parts, config)?
    } else if has("weight_scale") {
        scaled::scaled(parts, config, &scaled::PLAIN)?
    } else if weight.is_some() && has("scales") && has("biases") {
        mlx::affine(parts, config)?
    } else if weight.is_some_and(|w| bits(w) == 32) && parts.get("scales").is_some_and(|s| bits(s) == 8) {
        mlx::floats(parts)?
    } else if has("_blocks") {
        Some(fp4::blocks(parts)?)
    } else {
        let neutral = parts.keys().all(|suffix| NEUTRAL.contains(suffix));
        return match weight.map(|w| w.dtype) {
            _ if named::method(parts).is_some() => Err(named::unreadable(parts, config)),
            Some(Some(dtype)) if dtype.is_plain_float() => Ok(Recognised::Plain),
            None | Some(Some(Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::I8)) if neutral => Ok(Recognised::Plain),
            _ => Err(named::unreadable(parts, config)),
        };
    };
    found.map(packed).ok_or_else(|| named::unreadable(parts, config))
}

fn need_part(parts: &Parts<'_>, suffix: &'static str) -> Result<Recognised, PackedError> {
    need(suffix, parts::part(parts, suffix)?)
}

fn need(suffix: &str, tensor: &TensorInfo) -> Result<Recognised, PackedError> {
    // Bytes, not elements: a type of unknown size has any number of them.
    if tensor.bytes.end - tensor.bytes.start > MAX_STATE {
        return Err(shape(suffix, &tensor.shape, "too large"));
    }
    Ok(Recognised::NeedState(suffix.to_owned()))
}
