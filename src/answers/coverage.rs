//! How much of a model was read.

use schemars::JsonSchema;
use serde::Serialize;

use crate::signals::coverage::{Coverage, Rest, RestKind};

/// How much of a model was read, and what the rest is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CoverageAnswer {
    /// Share of the parameters that was read, 0 to 1; of the bytes, where weights are packed in a way that is not read and
    /// that is less.
    pub share: f64,
    /// Parameters of the whole checkpoint, as far as known. Codes of packed weights that are not decoded count as one
    /// each.
    pub parameters: u64,
    /// Of them, those of tensors with a known role that are read. Of each some rows are, in some of the layers.
    pub parameters_read: u64,
    /// Bytes of all tensors, as far as known.
    pub bytes: u64,
    /// Of them, those of tensors with a known role that are read.
    pub bytes_read: u64,
    /// What the rest is, the largest part first; at most 16.
    pub rest: Vec<RestAnswer>,
}

/// A part of a model that was not read.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RestAnswer {
    /// Why it was not read.
    pub kind: RestKind,
    /// What it is, e.g. `vision_tower` or `EXL3`.
    pub what: String,
    /// Its parameters, as far as known.
    pub parameters: u64,
    /// Its bytes, as far as known.
    pub bytes: u64,
}

impl CoverageAnswer {
    /// In a few characters: `98 %`.
    pub fn percent(&self) -> String {
        // Rounded down, so that only what was read as a whole is 100 %.
        format!("{:.0} %", (100.0 * self.share).floor())
    }

    /// What the rest is, in words; `None` where there is none.
    pub fn rest(&self) -> Option<String> {
        let all = self.parameters.max(1) as f64;
        let part = |rest: &RestAnswer| {
            format!("{} ({}, {:.1} %)", rest.what, rest.kind.words(), 100.0 * rest.parameters as f64 / all)
        };
        let parts: Vec<String> = self.rest.iter().map(part).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl From<&Coverage> for CoverageAnswer {
    fn from(coverage: &Coverage) -> Self {
        let part = |rest: &Rest| {
            let Rest { kind, what, parameters, bytes } = rest.clone();
            RestAnswer { kind, what, parameters, bytes }
        };
        Self {
            share: coverage.share(),
            parameters: coverage.parameters,
            parameters_read: coverage.parameters_read,
            bytes: coverage.bytes,
            bytes_read: coverage.bytes_read,
            rest: coverage.rest.iter().map(part).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_is_a_hundred_percent() {
        let answer =
            |read| CoverageAnswer::from(&Coverage { parameters_read: read, ..Coverage::of_all(1000, 1000) });
        assert_eq!(answer(1000).percent(), "100 %");
        assert_eq!(answer(999).percent(), "99 %");
        assert_eq!(answer(0).percent(), "0 %");
        assert_eq!(answer(1).rest(), None);
    }

    #[test]
    fn the_rest_has_words() {
        let mut coverage = Coverage { parameters_read: 490, ..Coverage::of_all(1000, 2000) };
        let part = |kind, what: &str, parameters| Rest { kind, what: what.into(), parameters, bytes: 0 };
        coverage.set_rest(vec![
            part(RestKind::UnknownName, "vision_tower", 500),
            part(RestKind::Vector, "visual", 10),
        ]);
        assert_eq!(
            CoverageAnswer::from(&coverage).rest().as_deref(),
            Some("vision_tower (unknown names, 50.0 %), visual (vectors, 1.0 %)")
        );
    }
}
