//! How much of a model was read.

use schemars::JsonSchema;
use serde::Serialize;

use crate::signals::Coverage;

/// How much of a model was read, and what the rest is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CoverageAnswer {
    /// Share of the parameters that was read, 0 to 1; of the bytes, where weights are packed in a way that is not read and
    /// that is less.
    pub share: f64,
    /// In numbers. Codes of packed weights that are not decoded count as one parameter each. Of a tensor that is read some
    /// rows are, in some of the layers.
    #[serde(flatten)]
    pub coverage: Coverage,
}

impl CoverageAnswer {
    /// In a few characters: `98 %`.
    pub fn percent(&self) -> String {
        // Rounded down, so that only what was read as a whole is 100 %.
        format!("{:.0} %", (100.0 * self.share).floor())
    }

    /// What the rest is, in words; `None` where there is none.
    pub fn rest(&self) -> Option<String> {
        self.coverage.rest_in_words(usize::MAX)
    }
}

impl From<&Coverage> for CoverageAnswer {
    fn from(coverage: &Coverage) -> Self {
        Self { share: coverage.share(), coverage: coverage.clone() }
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
}
