//! From the headers of a checkpoint to its weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::architecture::Architecture;
use super::bases;
use super::encoding::Blocks;
use super::header::{Header, Tensor};
use super::values::Values;
use crate::formats::{Form, ModelConfig, Quantization, Weight};

/// The opened files of a checkpoint together.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    headers: Vec<Header>,
    /// Of two values of one key that of the first file counts: of several files it has all of them.
    values: Values,
}

impl Checkpoint {
    /// Of the headers of the opened files, in their order.
    pub fn new(mut headers: Vec<Header>) -> Self {
        let mut values = Values::default();
        for header in &mut headers {
            for (key, value) in std::mem::take(&mut header.values.0) {
                values.0.entry(key).or_insert(value);
            }
        }
        Self { headers, values }
    }

    /// The headers.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.headers.iter().flat_map(|header| &header.tensors)
    }

    /// What the files say of themselves.
    pub fn values(&self) -> &Values {
        &self.values
    }

    fn architecture(&self) -> Architecture<'_> {
        Architecture::new(&self.values, self.tensors().map(|tensor| tensor.name.as_str()))
    }

    /// What config.json would say of the model.
    pub fn config(&self) -> ModelConfig {
        ModelConfig { quantization: self.quantization(), ..self.architecture().config() }
    }

    /// How most of the model is quantised, if it is.
    fn quantization(&self) -> Option<Quantization> {
        let mut kinds: BTreeMap<(bool, &str), u64> = BTreeMap::new();
        for tensor in self.tensors() {
            let kind = tensor.kind.ok().map_or((false, ""), |kind| (kind.is_quantised(), kind.name));
            let elements = kinds.entry(kind).or_default();
            *elements = elements.saturating_add(tensor.elements());
        }
        let ((is_quantised, name), _) = kinds.into_iter().max_by_key(|(_, elements)| *elements)?;
        let quant_type = Some(name.to_owned());
        is_quantised.then(|| Quantization {
            method: Some("gguf".into()),
            quant_type,
            ..Quantization::default()
        })
    }

    /// The repositories that the model is said to be made from, `org/name`.
    pub fn declared_bases(&self) -> Vec<String> {
        bases::declared(&self.values)
    }

    /// The weights.
    pub fn weights(&self) -> Vec<Weight<'_>> {
        let architecture = self.architecture();
        let mut weights = Vec::new();
        for (file, header) in self.headers.iter().enumerate() {
            weights.extend(header.tensors.iter().map(|tensor| Weight {
                name: architecture.plain_name(&tensor.name),
                shape: Cow::Borrowed(&tensor.shape),
                parts: BTreeMap::from([("", tensor.place(file))]),
                elements: tensor.elements(),
                form: form(tensor, header.big_endian, &architecture),
            }));
        }
        weights
    }
}

fn form(tensor: &Tensor, big_endian: bool, architecture: &Architecture<'_>) -> Form {
    let kind = match tensor.kind {
        Ok(kind) => kind,
        Err(code) => return Form::Unreadable(format!("packed as ggml type {code}, which is not known")),
    };
    let blocks = Blocks { kind, big_endian };
    if let Some(why) = blocks.unreadable() {
        return Form::Unreadable(why);
    }
    let rows = tensor.shape.first().copied().unwrap_or(1);
    match architecture.undo(&tensor.name, rows, Arc::new(blocks)) {
        Ok(encoding) => Form::Stored(encoding),
        Err(why) => Form::Unreadable(why),
    }
}
