//! What a file says that its model was made from.

use super::values::Values;

/// Most bases that are looked for.
const MOST: usize = 16;

/// The repositories that the file names as its source or its bases, `org/name`, each once.
pub(super) fn declared(values: &Values) -> Vec<String> {
    let text = |key: &str| values.stored_text(key);
    let of_base = (0..MOST).filter_map(|i| repository(text(&format!("general.base_model.{i}.repo_url"))?));
    let source = text("general.source.repo_url").and_then(repository);
    let plain = text("general.source.huggingface.repository").and_then(id);
    let mut found: Vec<String> = Vec::new();
    for base in of_base.chain(source).chain(plain) {
        if !found.contains(&base) {
            found.push(base);
        }
    }
    found
}

/// The repository of an address on the Hub.
fn repository(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let is_hub = ["huggingface.co", "www.huggingface.co", "hf.co"].contains(&host);
    id(path.trim_end_matches('/')).filter(|_| is_hub)
}

/// A text that may be the id of a repository.
fn id(text: &str) -> Option<String> {
    let (owner, name) = text.split_once('/')?;
    let is_plain = |part: &str| {
        (1..=96).contains(&part.len())
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    (is_plain(owner) && is_plain(name)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::values::Value;
    use super::*;

    #[test]
    fn addresses_on_the_hub_are_bases() {
        let values = [
            ("general.base_model.0.repo_url", "https://huggingface.co/org/base-1.0"),
            ("general.base_model.1.repo_url", "https://github.com/org/code"),
            ("general.base_model.2.repo_url", "https://huggingface.co/org/base/tree/main"),
            ("general.source.repo_url", "https://huggingface.co/org/base-1.0/"),
            ("general.source.huggingface.repository", "me/mine"),
        ];
        let values = values.map(|(key, text)| (key.to_owned(), Value::Text(text.to_owned())));
        assert_eq!(declared(&Values(values.into())), ["org/base-1.0", "me/mine"]);
        assert_eq!(repository("https://huggingface.co/org"), None);
        assert_eq!(id("org/../x"), None);
    }
}
