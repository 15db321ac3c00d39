//! How an index is measured at the end of its build.

use serde::{Deserialize, Serialize};

/// The samples. Whatever changes here, the index is gone on with, and what was measured begins anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildSettings {
    /// Checkpoints that recall is measured on.
    pub recall_queries: usize,
    /// Made-up models without relatives that the rate of false positives is measured on. Stored as `strangers`, which
    /// older versions read.
    #[serde(rename = "strangers", alias = "negatives")]
    pub negatives: usize,
    /// Seed of both samples.
    pub seed: u64,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self { recall_queries: 200, negatives: 10_000, seed: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_words_are_read_and_the_old_one_is_written() {
        let expected = BuildSettings { negatives: 7, ..BuildSettings::default() };
        for word in ["strangers", "negatives"] {
            let read: BuildSettings = toml::from_str(&format!("{word} = 7")).unwrap();
            assert_eq!(read, expected, "{word}");
        }
        let written = serde_json::to_value(&expected).unwrap();
        assert_eq!(written, serde_json::json!({"recall_queries": 200, "strangers": 7, "seed": 1}));
        assert!(toml::from_str::<BuildSettings>("stranger = 7").is_err());
    }
}
