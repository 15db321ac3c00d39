//! Outside text that a report or a log may show.

/// Most characters that are kept.
const MOST: usize = 200;

/// At most 200 characters, without those that would steer a terminal or turn the reading direction of what
/// follows.
pub(crate) fn printable(text: &[u8]) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    String::from_utf8_lossy(text).chars().filter(|c| !steers(*c)).take(MOST).collect()
}

/// A text without the queries of the addresses in it: they may be signatures.
pub(crate) fn without_queries(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ')' | ']' | '>' | '}' | ',');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        let (before, query) = rest.split_at(at + 1);
        clean += before;
        let end = query.find(ends).unwrap_or(query.len());
        if end > 0 {
            clean += "...";
        }
        rest = &query[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n\u{202e}c é 模".as_bytes()), "a[31mbc é 模");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).len(), 200);
    }

    #[test]
    fn signatures_are_not_told() {
        let text =
            "GET \"https://x.example/c/a?sig=SECRET&se=2\" (https://y/z?X-Amz=SECRET) failed: 403? yes";
        let clean = "GET \"https://x.example/c/a?...\" (https://y/z?...) failed: 403? yes";
        assert_eq!(super::without_queries(text), clean);
    }
}
