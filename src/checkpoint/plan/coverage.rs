//! How much of the opened files is read, and what the rest is.

use std::collections::BTreeMap;

use crate::formats::{FileRange, Form, Weight};
use crate::signals::Position;
use crate::signals::coverage::{Coverage, Rest, RestKind};

/// Most characters of what a part of the rest is called.
const NAME_CHARS: usize = 60;
/// Components in front of a name that say nothing.
const EMPTY_NAMES: [&str; 4] = ["model", "module", "transformer", "base_model"];

/// Counts weights.
#[derive(Debug, Default)]
pub(super) struct Count {
    coverage: Coverage,
    rest: BTreeMap<(RestKind, String), (u64, u64)>,
}

impl Count {
    /// A weight that has this position in the model, if any.
    pub(super) fn add(&mut self, weight: &Weight<'_>, position: Option<Position>) {
        let bytes: u64 = weight.parts.values().map(FileRange::len).fold(0, u64::saturating_add);
        let parameters = match &weight.form {
            // Of a packed weight those of the matrix that its codes stand for.
            Form::Stored(_) => weight.shape.iter().fold(1, |n: u64, d| n.saturating_mul(*d)),
            Form::After(_) | Form::Unreadable(_) => weight.elements,
        };
        if bytes == 0 {
            return;
        }
        let Coverage { parameters: all, parameters_read, bytes: all_bytes, bytes_read, .. } =
            &mut self.coverage;
        *all = all.saturating_add(parameters);
        *all_bytes = all_bytes.saturating_add(bytes);
        let part = match (&weight.form, position) {
            (Form::Unreadable(reason), Some(_)) => (RestKind::UnreadablePacking, shortened(reason)),
            (_, Some(_)) => {
                *parameters_read = parameters_read.saturating_add(parameters);
                *bytes_read = bytes_read.saturating_add(bytes);
                return;
            }
            (_, None) => (kind_of(&weight.shape), module(&weight.name)),
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
        coverage.set_rest(rest.collect());
        coverage
    }
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
    use crate::signals::Role;

    fn weight(name: &str, shape: &'static [u64], form: Form) -> Weight<'static> {
        let elements: u64 = shape.iter().product();
        let parts = BTreeMap::from([("", FileRange { file: 0, bytes: 0..2 * elements })]);
        Weight { name: Cow::Owned(name.to_owned()), shape: Cow::Borrowed(shape), parts, elements, form }
    }

    #[test]
    fn everything_is_counted_once() {
        let plain = || Form::Stored(Arc::new(Dtype::F16));
        let known = Some(Position::main(Role::Query, 0));
        let mut count = Count::default();
        count.add(&weight("model.layers.0.self_attn.q_proj.weight", &[8, 8], plain()), known);
        count.add(&weight("model.vision_tower.patch.weight", &[4, 3, 2, 2], plain()), None);
        count.add(&weight("model.vision_tower.layers.0.q.weight", &[4, 4], plain()), None);
        count.add(&weight("model.vision_tower.layers.1.q.weight", &[4, 4], plain()), None);
        count.add(&weight("score.bias", &[3], plain()), None);
        count.add(&weight("x.weight", &[4], Form::Unreadable("packed as x".into())), known);
        let coverage = count.finish();
        assert_eq!((coverage.parameters, coverage.parameters_read), (64 + 48 + 32 + 3 + 4, 64));
        assert_eq!((coverage.bytes, coverage.bytes_read), (2 * 151, 128));
        let rest: u64 = coverage.rest.iter().map(|part| part.parameters).sum();
        assert_eq!(rest + coverage.parameters_read, coverage.parameters);
        let parts: Vec<_> =
            coverage.rest.iter().map(|part| (part.kind, &*part.what, part.parameters)).collect();
        assert_eq!(
            parts,
            [
                (RestKind::Convolution, "vision_tower", 48),
                (RestKind::UnknownName, "vision_tower", 32),
                (RestKind::UnreadablePacking, "packed as x", 4),
                (RestKind::Vector, "score", 3),
            ]
        );
    }
}
