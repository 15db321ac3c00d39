//! What surrounds the vocabulary: merges, and the steps before and after cutting.

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::TokenizerError;
use super::files::check_size;
use crate::formats::Limits;

/// The merges of a BPE, hashed in order: they are long and only ever compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merges {
    /// How many there are.
    pub count: usize,
    /// SHA-256 of all of them, the same for both spellings `"a b"` and `["a", "b"]`.
    pub digest: [u8; 32],
    /// First 8 bytes of the digest of the first 256, 512, 1024, ... merges, as far as there are as many: how
    /// far two lists agree.
    pub prefixes: Vec<u64>,
}

impl Merges {
    /// Merges in the shortest prefix.
    pub const FIRST_PREFIX: usize = 256;
}

/// Merges being hashed.
#[derive(Default)]
pub(super) struct MergeHasher {
    count: usize,
    state: Sha256,
    prefixes: Vec<u64>,
}

impl MergeHasher {
    pub(super) fn push(&mut self, left: &str, right: &str) {
        for part in [left, right] {
            self.state.update((part.len() as u64).to_le_bytes());
            self.state.update(part);
        }
        self.count += 1;
        if self.count >= Merges::FIRST_PREFIX && self.count.is_power_of_two() {
            self.prefixes.push(leading_bytes(&self.state.clone().finalize().into()));
        }
    }

    pub(super) fn finish(self) -> Merges {
        Merges { count: self.count, digest: self.state.finalize().into(), prefixes: self.prefixes }
    }
}

/// The first 8 bytes of a digest as a number: enough to compare by.
pub fn leading_bytes(digest: &[u8; 32]) -> u64 {
    digest.iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// One of the four stages around the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Type names of its steps, sequences flattened; empty when the stage is left out.
    pub steps: Vec<String>,
    /// SHA-256 of its JSON with sorted keys and no white space.
    pub digest: [u8; 32],
}

/// The stages around the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Rewrites text.
    pub normaliser: Component,
    /// Cuts text into words.
    pub pre_tokeniser: Component,
    /// Adds special tokens.
    pub post_processor: Component,
    /// Makes text of tokens.
    pub decoder: Component,
}

impl Component {
    /// Hashes a stage. The second value is whether one of its steps makes text lower case.
    pub(super) fn parse(
        part: &'static str,
        raw: Option<&RawValue>,
        limits: &Limits,
    ) -> Result<(Self, bool), TokenizerError> {
        let json = raw.map_or("null", RawValue::get);
        // A stage is small, but for the character map of SentencePiece, some 300 KB.
        check_size(part, json.as_bytes(), limits.config_bytes)?;
        let value: Value =
            serde_json::from_str(json).map_err(|source| TokenizerError::Json { part, source })?;
        let mut steps = Vec::new();
        flatten(&value, &mut steps);
        let lowercase = |(name, step): &(&str, &Value)| {
            *name == "Lowercase" || step.get("lowercase").and_then(Value::as_bool) == Some(true)
        };
        let lowercase = steps.iter().any(lowercase);
        let steps = steps.into_iter().map(|(name, _)| name.to_owned()).collect();
        // serde_json keeps the keys of an object sorted.
        let digest = Sha256::digest(value.to_string()).into();
        Ok((Self { steps, digest }, lowercase))
    }
}

/// Appends the steps of a stage, each with its name, those of sequences one by one.
fn flatten<'v>(value: &'v Value, steps: &mut Vec<(&'v str, &'v Value)>) {
    match value.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            let members = value.as_object().into_iter().flat_map(serde_json::Map::values);
            for step in members.filter_map(Value::as_array).flatten() {
                flatten(step, steps);
            }
        }
        Some(name) => steps.push((name, value)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> (Component, bool) {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        Component::parse("normalizer", Some(raw), &Limits::default()).unwrap()
    }

    #[test]
    fn sequences_are_flat_and_keys_have_no_order() {
        let json = r#"{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Sequence","normalizers":[{"type":"Lowercase"},{"type":"StripAccents"}]}]}"#;
        let (component, lowercase) = parse(json);
        assert_eq!(component.steps, ["NFKC", "Lowercase", "StripAccents"]);
        assert!(lowercase);
        let (other, _) = parse(&json.replacen(r#""type":"Sequence","#, "", 1).replacen(
            "]}]}",
            r#"]}],"type" : "Sequence"}"#,
            1,
        ));
        assert_eq!(component, other);
    }

    #[test]
    fn a_stage_that_is_left_out_has_no_steps() {
        let (none, lowercase) = Component::parse("decoder", None, &Limits::default()).unwrap();
        assert_eq!((none.clone(), lowercase), parse("null"));
        assert!(none.steps.is_empty() && !lowercase);
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        let limits = Limits { config_bytes: 300, ..Limits::default() };
        for (json, too_large) in
            [("[".repeat(140) + &"]".repeat(140), false), ("[0,".repeat(150) + "0" + &"]".repeat(150), true)]
        {
            let raw: &RawValue = serde_json::from_str(&json).unwrap();
            let error = Component::parse("decoder", Some(raw), &limits).unwrap_err();
            assert_eq!(matches!(error, TokenizerError::TooLarge { .. }), too_large, "{error}");
        }
    }

    #[test]
    fn prefixes_of_merges_agree_as_far_as_the_merges_do() {
        let list = |n: usize, tail: &str| {
            let mut hasher = MergeHasher::default();
            (0..n).for_each(|i| hasher.push("a", &if i < 600 { i.to_string() } else { tail.to_owned() }));
            hasher.finish()
        };
        let (a, b) = (list(1100, "x"), list(1100, "y"));
        assert_eq!((a.count, a.prefixes.len()), (1100, 3));
        assert_eq!(a.prefixes[..2], b.prefixes[..2]);
        assert_ne!(a.prefixes[2], b.prefixes[2]);
        assert_ne!(a.digest, b.digest);
        assert_eq!(a, list(1100, "x"));
    }
}
