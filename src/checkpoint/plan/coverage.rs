//! How much of the opened files is read, and what the rest is.

use std::collections::BTreeMap;

use crate::formats::weight::elements;
use crate::formats::{FileRange, Form, Weight};
use crate::signals::coverage::{Coverage, Rest, RestKind};

/// Most characters of what a part of the rest is called.
const NAME_CHARS: usize = 60;
/// Components in front of a name that say nothing.
const EMPTY_NAMES: [&str; 4] = ["model", "module", "transformer", "base_model"];

/// How large a weight is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    parameters: u64,
    bytes: u64,
}

impl Size {
    pub(super) fn of(weight: &Weight<'_>) -> Self {
        let parameters = match &weight.form {
            Form::Stored(encoding) if encoding.is_product() => weight.elements,
            // Of a packed weight those of the matrix that its codes stand for.
            Form::Stored(_) => elements(&weight.shape),
            Form::Flat(flat) => flat.elements(),
            Form::After(_) | Form::Unreadable(_) => weight.elements,
        };
        let bytes = weight.parts.values().map(FileRange::len).fold(0, u64::saturating_add);
        Self { parameters, bytes }
    }
}

/// What becomes of a weight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate<'a> {
    /// It has a role, and can be read.
    Read,
    /// It has a role and cannot be read, for this reason.
    Unreadable(&'a str),
    /// It has a role and lies turned, so that a row of it costs more than is read.
    Turned,
    /// It belongs to a further model in the same files, whose names begin like this.
    OfComponent(&'a str),
    /// It has no role.
    Nameless {
        /// Its name.
        name: &'a str,
        /// Its shape.
        shape: &'a [u64],
    },
}

/// Counts weights.
#[derive(Debug, Default)]
pub(super) struct Count {
    coverage: Coverage,
    rest: BTreeMap<(RestKind, String), (u64, u64)>,
}

impl Count {
    /// A weight, and what became of it.
    pub(super) fn add(&mut self, size: Size, fate: Fate<'_>) {
        let Size { parameters, bytes } = size;
        if bytes == 0 {
            return;
        }
        let all = &mut self.coverage;
        all.parameters = all.parameters.saturating_add(parameters);
        all.bytes = all.bytes.saturating_add(bytes);
        let part = match fate {
            Fate::Read => {
                all.parameters_read = all.parameters_read.saturating_add(parameters);
                all.bytes_read = all.bytes_read.saturating_add(bytes);
                return;
            }
            Fate::Unreadable(reason) => (RestKind::UnreadablePacking, packing(reason)),
            Fate::Turned => (RestKind::Turned, "matrices".to_owned()),
            Fate::OfComponent(prefix) => (RestKind::OtherComponent, shortened(prefix.trim_end_matches('.'))),
            Fate::Nameless { name, shape } => (kind_of(shape), module(name)),
        };
        let (of_parameters, of_bytes) = self.rest.entry(part).or_default();
        *of_parameters = of_parameters.saturating_add(parameters);
        *of_bytes = of_bytes.saturating_add(bytes);
    }

    /// The coverage of all that was counted.
    pub(super) fn finish(self) -> Coverage {
        let Self { mut coverage, rest } = self;
        let rest = rest.into_iter().map(|((kind, what), (parameters, bytes))| Rest {
            kind,
            what,
            parameters,
            bytes,
        });
        coverage.add_rest(rest);
        coverage
    }
}

/// How weights are packed, from the reason why they are not read: `packed as EXL3 (trellis, suh), which is not read`.
fn packing(reason: &str) -> String {
    let method = reason.strip_prefix("packed as ").and_then(|rest| rest.split([',', '(']).next());
    shortened(method.map_or(reason, str::trim))
}

/// Why a tensor of this shape has no role.
fn kind_of(shape: &[u64]) -> RestKind {
    match shape.iter().filter(|n| **n > 1).count() {
        0 | 1 => RestKind::Vector,
        2 => RestKind::UnknownName,
        _ => RestKind::Convolution,
    }
}

/// The module that a tensor belongs to: the first component of its name that says something.
fn module(name: &str) -> String {
    let mut parts = name.split('.').filter(|part| !part.is_empty());
    let first = parts.find(|part| !EMPTY_NAMES.contains(part) && !part.bytes().all(|b| b.is_ascii_digit()));
    shortened(first.unwrap_or(name))
}

fn shortened(text: &str) -> String {
    text.chars().take(NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;
    use crate::formats::Dtype;

    fn weight(name: &str, shape: &'static [u64], form: Form) -> Weight<'static> {
        let elements: u64 = shape.iter().product();
        let parts = BTreeMap::from([("", FileRange { file: 0, bytes: 0..2 * elements })]);
        Weight { name: Cow::Owned(name.to_owned()), shape: Cow::Borrowed(shape), parts, elements, form }
    }

    #[test]
    fn everything_is_counted_once() {
        let plain =
            |name: &str, shape: &'static [u64]| weight(name, shape, Form::Stored(Arc::new(Dtype::F16)));
        let mut count = Count::default();
        let mut add = |weight: &Weight<'_>, fate: Fate<'_>| count.add(Size::of(weight), fate);
        add(&plain("model.layers.0.self_attn.q_proj.weight", &[8, 8]), Fate::Read);
        for (name, shape) in [
            ("model.vision_tower.patch.weight", &[4, 3, 2, 2][..]),
            ("model.vision_tower.layers.0.q.weight", &[4, 4]),
            ("model.vision_tower.layers.1.q.weight", &[4, 4]),
            ("score.bias", &[3]),
        ] {
            add(&plain(name, shape), Fate::Nameless { name, shape });
        }
        let reason = "packed as EXL3 (suh), which is not read";
        add(&weight("x.weight", &[4], Form::Unreadable(reason.into())), Fate::Unreadable(reason));
        add(&plain("text_encoder.x", &[2]), Fate::OfComponent("text_encoder."));
        let coverage = count.finish();
        assert_eq!((coverage.parameters, coverage.parameters_read), (64 + 48 + 32 + 3 + 4 + 2, 64));
        assert_eq!((coverage.bytes, coverage.bytes_read), (2 * 153, 128));
        let rest: u64 = coverage.rest.iter().map(|part| part.parameters).sum();
        assert_eq!(rest + coverage.parameters_read, coverage.parameters);
        let parts: Vec<_> =
            coverage.rest.iter().map(|part| (part.kind, &*part.what, part.parameters)).collect();
        assert_eq!(
            parts,
            [
                (RestKind::Convolution, "vision_tower", 48),
                (RestKind::UnknownName, "vision_tower", 32),
                (RestKind::UnreadablePacking, "EXL3", 4),
                (RestKind::Vector, "score", 3),
                (RestKind::OtherComponent, "text_encoder", 2),
            ]
        );
    }
}
