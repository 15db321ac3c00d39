//! The names of a repository's checkpoints.

use std::collections::BTreeSet;

/// What an adapter is called beside a model.
pub const ADAPTER: &str = "adapter";

/// How much doubt there is where a name tells of an adapter, or of what a training left behind.
pub const NO_MODEL: u8 = 6;

/// Most characters of a name.
const MOST_CHARS: usize = 80;

/// The name of a component, from a text of outside: at most 80 plain characters.
pub fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    text.chars().take(MOST_CHARS).map(plain).collect()
}

/// The name, with a number behind it where it is taken; it is taken then.
pub fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2u32..).map(|n| format!("{name}-{n}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| taken.insert(name.clone())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_each_is_given_once() {
        assert_eq!(plain("model.vlm\u{1b}]0;[x]"), "model.vlm__0__x_");
        assert_eq!(plain(&"x".repeat(1000)).len(), MOST_CHARS);
        let mut taken = BTreeSet::new();
        let names = ["ema", "ema", "", "ema", ""].map(|name| unique(name, &mut taken));
        assert_eq!(names, ["ema", "ema-2", "", "ema-3", "-2"]);
    }
}
