//! The front matter of a model card: a tolerant reader for the flat part of YAML.
//!
//! Understands `key: value`, `key: [a, b]` and lists of `- item`, which is all that the server
//! needs. Nested maps, block texts and anything else are passed over; no card is an error.

use serde_json::{Map, Value};

/// Front matter beyond this is not read.
const MAX_LINES: usize = 5_000;

/// The keys of the front matter of README.md, or none.
pub(crate) fn front_matter(readme: &str) -> Map<String, Value> {
    let mut card = Map::new();
    let mut lines = readme.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return card;
    }
    // The key whose list items, if any, are on the lines that follow.
    let mut open: Option<String> = None;
    for line in lines.take(MAX_LINES) {
        if line.trim_end() == "---" {
            return card;
        }
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(item) = text.strip_prefix("- ") {
            let nested = item.split_once(": ").is_some() && !item.starts_with(['"', '\'']);
            if let (Some(key), false) = (&open, nested)
                && let Value::Array(items) = card.entry(key.as_str()).or_insert_with(|| Value::Array(vec![]))
            {
                items.push(scalar(item));
            }
            continue;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        open = None;
        let Some((key, rest)) = text.split_once(':') else { continue };
        let (key, rest) = (unquote(key.trim()), rest.trim());
        match rest {
            "" => open = Some(key.to_owned()),
            _ if rest.starts_with(['|', '>', '{', '&', '*']) => {}
            _ => drop(card.insert(key.to_owned(), value(rest))),
        }
    }
    // Without its closing line it is no front matter.
    Map::new()
}

/// The strings of a key that may hold one string or a list of them.
pub(super) fn strings(card: &Map<String, Value>, key: &str) -> Vec<String> {
    match card.get(key) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn value(text: &str) -> Value {
    match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((items, _)) => {
            items.split(',').map(str::trim).filter(|item| !item.is_empty()).map(scalar).collect()
        }
        None => scalar(text),
    }
}

fn scalar(text: &str) -> Value {
    let text = text.trim();
    if text.starts_with(['"', '\'']) {
        return unquote(text).into();
    }
    match text.split(" #").next().unwrap_or(text).trim_end() {
        "true" => true.into(),
        "false" => false.into(),
        "null" | "~" => Value::Null,
        text => text.into(),
    }
}

/// The text up to the closing quote, if it is quoted.
fn unquote(text: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.split(quote).next()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn flat_keys_and_both_kinds_of_lists() {
        let card = front_matter(
            "---\nlicense: apache-2.0 # mostly\nlanguage: [en, 'de']\nbase_model:\n  - a/b\n- \"c/d\"\n\
             tags:\n- x\ninference: false\nempty:\nmodel-index:\n- name: y\n  results:\n  - task: z\n\
             extra: >-\n  folded\n  text\nurl: https://a.b/c#d\n---\n# Title\nlicense: no\n",
        );
        assert_eq!(
            Value::Object(card),
            json!({
                "license": "apache-2.0", "language": ["en", "de"], "base_model": ["a/b", "c/d"],
                "tags": ["x"], "inference": false, "url": "https://a.b/c#d",
            })
        );
    }

    #[test]
    fn one_or_many() {
        let card = front_matter("---\none: a\nmany: [a, b]\nno: true\n---\n");
        assert_eq!(strings(&card, "one"), ["a"]);
        assert_eq!(strings(&card, "many"), ["a", "b"]);
        assert!(strings(&card, "no").is_empty() && strings(&card, "absent").is_empty());
    }

    #[test]
    fn no_front_matter() {
        for text in ["", "# Title\n", "---\nlicense: mit\n", "text\n---\nlicense: mit\n---\n"] {
            assert!(front_matter(text).is_empty(), "{text:?}");
        }
        assert_eq!(front_matter("\u{feff}---\r\nlicense: mit\r\n---\r\n")["license"], "mit");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(---\n)?([-a\\[\\]:'\"#> \n]{0,40}){0,8}(---\n)?") {
            front_matter(&text);
        }
    }
}
