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

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n\u{202e}c é 模".as_bytes()), "a[31mbc é 模");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).len(), 200);
    }
}
