//! How the values of a weight lie, in the file or in another one that it names.

use std::collections::HashMap;
use std::sync::Arc;

use super::OnnxError;
use super::encoding::{Bytes, Number, PerRow, RowBlocks, Varints, Zeros};
use super::info::{Data, Info, Place};
use super::names::is_made_up;
use super::node::{Op, Use};
use crate::formats::torch::Strided;
use crate::formats::weight::elements;
use crate::formats::{Dtype, Encoding};

impl Info {
    /// Whether it is a number that the graph works with, and no weight: a shape, an axis, a mask; a text; a constant.
    fn is_of_graph(&self) -> bool {
        let is_wide = self.dtype().is_none_or(|dtype| !dtype.is_plain_float() && dtype.bits() > 8);
        is_wide
            || self.kind == 9
            || self.shape.is_empty()
            || (elements(&self.shape) <= 1 && is_made_up(&self.name))
    }

    /// The one number that it is.
    fn scalar(&self) -> Option<f32> {
        if elements(&self.shape) != 1 || self.is_external {
            return None;
        }
        match (self.kind, self.small.as_slice()) {
            (2, [byte]) => Some(f32::from(*byte)),
            _ => self.dtype()?.decode(&self.small)?.first().copied(),
        }
    }

    /// Its numbers, one for each of so many rows, whose values are where this part is.
    fn per_row(&self, rows: u64) -> Option<PerRow> {
        if let Some(one) = self.scalar() {
            return Some(PerRow::One(one));
        }
        (elements(&self.shape) == rows).then(|| self.number().map(PerRow::Each)).flatten()
    }

    fn number(&self) -> Option<Number> {
        match self.kind {
            2 => Some(Number::Unsigned),
            _ => self.dtype().filter(|dtype| dtype.decodable_bytes().is_some()).map(Number::Of),
        }
    }
}

/// A weight, and how it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name in the model.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<u64>,
    /// The tensors that it is stored in, each with its suffix; empty text where there is one.
    pub parts: Vec<(&'static str, Place)>,
    /// How, or why it is not read.
    pub form: Result<Arc<dyn Encoding>, String>,
}

/// How a weight is used.
#[derive(Clone, Copy)]
pub(super) struct Used<'g> {
    /// By the node that it goes into.
    pub(super) own: &'g Use,
    /// By the one that multiplies by it.
    pub(super) last: &'g Use,
    /// Whether it then lies turned.
    pub(super) is_turned: bool,
}

/// Tensors by their suffixes.
type Parts = Vec<(&'static str, Place)>;

/// All tensors by name.
type Infos<'i> = HashMap<&'i str, &'i Info>;

impl Stored {
    /// The weight that this tensor is under this name; `None` where it is none.
    pub(super) fn new(
        info: &Info,
        name: &str,
        used: Option<Used<'_>>,
        infos: &Infos<'_>,
    ) -> Result<Option<Self>, OnnxError> {
        let place = info.place()?;
        if info.is_of_graph() || is_beside(info, infos) {
            return Ok(None);
        }
        let is_turned = used.is_some_and(|used| used.is_turned && used.last.op == Op::Columns);
        let mut shape = info.shape.clone();
        if let [rows, columns] = shape.as_mut_slice()
            && is_turned
        {
            std::mem::swap(rows, columns);
        }
        let of = |parts, shape, form| Ok(Some(Self { name: name.to_owned(), shape, parts, form }));
        let unread = |why: &str| of(Parts::new(), shape.clone(), Err(why.to_owned()));
        let Some(place) = place else {
            return match (&info.data, info.dtype()) {
                (Data::Varints(bytes), Some(dtype @ (Dtype::F16 | Dtype::Bf16 | Dtype::I8)))
                    if !is_turned =>
                {
                    let place = Place { location: None, bytes: bytes.clone() };
                    let length = bytes.end - bytes.start;
                    let Some(form) = Varints::new(dtype, length, &shape) else {
                        return Err(OnnxError::Shape { name: info.name.clone(), shape, bytes: length });
                    };
                    of(vec![("", place)], shape.clone(), Ok(Arc::new(form)))
                }
                _ if elements(&shape) == 0 => unread("without elements"),
                (Data::None, _) => unread("without values"),
                _ => unread("its values lie in a list of numbers that is not read"),
            };
        };
        let plain = vec![("", place)];
        if let Some(used) = used.filter(|used| used.own.op == Op::Blocks) {
            return match blocks(info, used, infos) {
                Ok((form, shape, beside)) => of(with(plain, beside), shape, Ok(Arc::new(form))),
                Err(why) => of(plain, Vec::new(), Err(why)),
            };
        }
        match info.dtype() {
            Some(dtype) if dtype.is_plain_float() || matches!(dtype, Dtype::F8E4M3 | Dtype::F8E5M2) => {
                let form: Arc<dyn Encoding> = match shape[..] {
                    [rows, columns] if is_turned => {
                        Arc::new(Strided { dtype, columns, row: 1, column: rows })
                    }
                    _ => Arc::new(dtype),
                };
                of(plain, shape.clone(), Ok(form))
            }
            Some(Dtype::I8 | Dtype::Other { bits: 8 }) => match bytes(info, &shape, used, infos) {
                Ok((form, beside)) => of(with(plain, beside), shape.clone(), Ok(Arc::new(form))),
                Err(why) => of(plain, shape.clone(), Err(why)),
            },
            _ => of(plain, shape.clone(), Err("of a type that is not read".to_owned())),
        }
    }
}

fn with(mut parts: Parts, beside: Parts) -> Parts {
    parts.extend(beside);
    parts
}

/// How the names of scales and zero points end, behind that of the weight.
const SCALES: [&str; 3] = ["_scales", "_scale", "_zero_point"];

/// Whether it is the scale or the zero point of another tensor.
fn is_beside(info: &Info, infos: &Infos<'_>) -> bool {
    SCALES.iter().filter_map(|end| info.name.strip_suffix(end)).any(|of| {
        infos.contains_key(format!("{of}_quantized").as_str())
            || infos.contains_key(format!("{of}_Q4").as_str())
            || infos.contains_key(format!("{of}_quant").as_str())
    })
}

/// 8-bit numbers, with the scale and the zero point that belong to them.
fn bytes(
    info: &Info,
    shape: &[u64],
    used: Option<Used<'_>>,
    infos: &Infos<'_>,
) -> Result<(Bytes, Parts), String> {
    let none = || "8-bit numbers without a scale".to_owned();
    let [rows, columns] = *shape else { return Err("8-bit numbers that are no matrix".to_owned()) };
    // As onnxruntime names them, else what the node has.
    let named = |end: &str| {
        let plain = info.name.strip_suffix("_quantized")?;
        infos.get(format!("{plain}{end}").as_str()).copied()
    };
    let beside = |place: usize| {
        let used = used.filter(|used| used.own.op == Op::Passed)?;
        infos.get(used.own.beside.get(place)?.as_str()).copied()
    };
    let scale = named("_scale").or_else(|| beside(0)).ok_or_else(none)?;
    let zero = named("_zero_point").or_else(|| beside(1));
    let mut parts = Parts::new();
    let mut per_row = |info: &Info, suffix| {
        let odd = || "a scale that is neither one nor one a row".to_owned();
        let found = info.per_row(rows).ok_or_else(odd)?;
        if let PerRow::Each(_) = found {
            let place = info.place().map_err(|error| error.to_string())?.ok_or_else(odd)?;
            parts.push((suffix, place));
        }
        Ok::<_, String>(found)
    };
    let scale = per_row(scale, "scale")?;
    let zero = match zero {
        Some(zero) => per_row(zero, "zero")?,
        None => PerRow::One(0.0),
    };
    let is_turned = used.is_some_and(|used| used.is_turned && used.last.op == Op::Columns);
    Ok((Bytes { is_signed: info.kind == 3, is_turned, rows, columns, scale, zero }, parts))
}

/// Blocks of codes along a row, as `MatMulNBits` takes them.
fn blocks(info: &Info, used: Used<'_>, infos: &Infos<'_>) -> Result<(RowBlocks, Vec<u64>, Parts), String> {
    let odd = || "blocks of codes whose tensors do not fit one another".to_owned();
    let ints = used.own.ints;
    if !used.is_turned {
        return Err("blocks of codes of a matrix that lies turned in the model".to_owned());
    }
    let mut beside = used.own.beside.iter().map(|name| infos.get(name.as_str()).copied());
    let scales = beside.next().flatten().ok_or_else(odd)?;
    let zeros = beside.next().flatten();
    let number = scales.number().ok_or_else(odd)?;
    let mut form = RowBlocks::new(ints, number).ok_or_else(odd)?;
    let place = |info: &Info| info.place().map_err(|error| error.to_string())?.ok_or_else(odd);
    let fits = |place: &Place, bytes: Option<u64>| Some(place.bytes.end - place.bytes.start) == bytes;
    if !fits(&place(info)?, form.bytes_of_codes()) {
        return Err(odd());
    }
    let of_scales = place(scales)?;
    if !fits(&of_scales, form.bytes_of(form.scales)) {
        return Err(odd());
    }
    let mut parts = vec![("scale", of_scales)];
    if let Some(zeros) = zeros {
        form.zeros =
            if zeros.kind == 2 { Zeros::Codes } else { Zeros::Numbers(zeros.number().ok_or_else(odd)?) };
        let at = place(zeros)?;
        if !fits(&at, form.bytes_of_zeros()) {
            return Err(odd());
        }
        parts.push(("zero", at));
    }
    Ok((form, vec![ints.rows, ints.columns], parts))
}
