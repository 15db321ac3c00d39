//! Small spellings shared by all parts: hexadecimal, time stamps, escaped paths, queries.

use chrono::{DateTime, SecondsFormat};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Escaped inside a query value or a single path segment: all but the unreserved characters.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Milliseconds since 1970 as `2024-05-01T12:00:00.000Z`. Fixed width, so text order is time order.
pub(crate) fn timestamp(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .unwrap_or(DateTime::UNIX_EPOCH)
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let millis = DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis();
    (0..=253_402_300_799_999).contains(&millis).then_some(millis)
}

pub(crate) fn escape(component: &str) -> String {
    utf8_percent_encode(component, COMPONENT).to_string()
}

/// Escapes all of a path but its slashes.
pub(crate) fn escape_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// `None` if the escapes do not spell UTF-8.
pub(crate) fn unescape(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// The raw query without the parameters named in `dropped`; the rest stays letter for letter.
pub(crate) fn query_without(raw: &str, dropped: &[&str]) -> String {
    let name = |pair: &str| pair.split('=').next().and_then(unescape).unwrap_or_default();
    raw.split('&').filter(|pair| !dropped.contains(&name(pair).as_str())).collect::<Vec<_>>().join("&")
}

/// `true`, `True`, `1`: the spellings of several client libraries.
pub(crate) fn is_true(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(hex(&[0, 0xaf]), "00af");
        assert!(is_hex("00af", 4) && !is_hex("00AF", 4) && !is_hex("00a", 4));
        assert_eq!(
            parse_timestamp("2022-03-02T23:29:04.000Z").map(timestamp).unwrap(),
            "2022-03-02T23:29:04.000Z"
        );
        assert_eq!(parse_timestamp("yesterday"), None);
        assert_eq!(escape_path("docs/naïve file+1.txt"), "docs/na%C3%AFve%20file%2B1.txt");
        assert_eq!(unescape("na%C3%AFve%20file%2B1").unwrap(), "naïve file+1");
        assert_eq!(unescape("%ff"), None);
        assert_eq!(query_without("a=1&cursor=x&expand%5B%5D=y&cursor=z", &["cursor"]), "a=1&expand%5B%5D=y");
    }
}
