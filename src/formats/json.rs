//! JSON of the small files, as Python writes it.
//!
//! Python writes `NaN`, `Infinity` and `-Infinity` where a number is none, and reads them. Here they are `null`, as a
//! field that is not said; in everything else the reader is as strict as JSON. What is not JSON at all is named for what
//! it is.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::foreign::Foreign;

/// Why a small file is no JSON of the kind that is asked for.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is another kind of file.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// Not the JSON that is asked for.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Reads a small file.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(&strict(json)).map_err(|error| named(json, error))
}

/// The error of a file that may be something else.
pub fn named(json: &[u8], error: serde_json::Error) -> JsonError {
    Foreign::of_text(json).map_or(JsonError::Json(error), JsonError::Foreign)
}

/// What Python writes for numbers that are none, the longest first.
const NO_NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// The same with `null` for the tokens that JSON does not have. Copied only where there are some.
fn strict(json: &[u8]) -> Cow<'_, [u8]> {
    let mut copy: Option<Vec<u8>> = None;
    // What lies before this is in the copy.
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        if byte == b'"' {
            at = end_of_string(json, at);
            continue;
        }
        let rest = json.get(at..).unwrap_or_default();
        match NO_NUMBERS.iter().find(|token| rest.starts_with(token)) {
            Some(token) => {
                let copy = copy.get_or_insert_with(|| Vec::with_capacity(json.len()));
                copy.extend_from_slice(json.get(copied..at).unwrap_or_default());
                copy.extend_from_slice(b"null");
                at += token.len();
                copied = at;
            }
            None => at += 1,
        }
    }
    match copy {
        Some(mut copy) => {
            copy.extend_from_slice(json.get(copied..).unwrap_or_default());
            Cow::Owned(copy)
        }
        None => Cow::Borrowed(json),
    }
}

/// The place after the string that begins here.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_that_are_none_are_null() {
        let read = |text: &str| parse::<Value>(text.as_bytes()).unwrap();
        assert_eq!(
            read(r#"{"a": [0.0, Infinity], "b":-Infinity,"c" : NaN}"#),
            json!({"a": [0.0, null], "b": null, "c": null})
        );
        assert_eq!(read("NaN"), Value::Null);
        assert_eq!(
            read(r#"{"NaN": "-Infinity \" Infinity \\", "x": NaN}"#),
            json!({"NaN": "-Infinity \" Infinity \\", "x": null})
        );
    }

    #[test]
    fn everything_else_is_as_strict_as_json() {
        for text in [
            "-NaN",
            "NaNs",
            "1NaN",
            "{NaN: 1}",
            "[Infinity Infinity]",
            "nan",
            "infinity",
            "[1,]",
            "NaN\"",
            "",
        ] {
            assert!(matches!(parse::<Value>(text.as_bytes()), Err(JsonError::Json(_))), "{text}");
        }
        assert!(matches!(strict(br#"{"a": "NaN"}"#), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_json_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        let said = parse::<Value>(pointer).unwrap_err().to_string();
        assert!(said.contains("Git LFS pointer"), "{said}");
        assert!(parse::<Value>(b"<html></html>").unwrap_err().to_string().contains("HTML"));
    }

    proptest! {
        #[test]
        fn what_json_reads_is_read_the_same(text in r#"[\[\]{}",:\\ NaInfty0-9-]{0,40}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(parse::<Value>(text.as_bytes()).ok(), Some(value));
            }
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Value>(&bytes);
        }
    }
}
