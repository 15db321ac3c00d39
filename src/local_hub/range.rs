//! The Range header, read against a file of known size. Pure: no input can make it panic.

use std::ops::Range;

/// Ranges that are looked at; a header with more is treated like none.
const MAX_RANGES: usize = 64;

/// What a Range header asks of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// No usable range: the whole file. HTTP tells servers to ignore what they cannot read.
    Whole,
    /// None of the ranges touches the file.
    Unsatisfiable,
    /// The ranges that do, within the file and not empty.
    Parts(Vec<Range<u64>>),
}

/// Reads `bytes=a-b`, `bytes=a-`, `bytes=-n` and lists of them.
pub(crate) fn parse(header: &str, size: u64, suffix: bool) -> Asked {
    let Some(list) = header.trim().strip_prefix("bytes=") else { return Asked::Whole };
    let mut parts = Vec::new();
    for (i, spec) in list.split(',').enumerate() {
        let Some((first, last)) = spec.trim().split_once('-') else { return Asked::Whole };
        let range = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(count)) if first.is_empty() && suffix => size.saturating_sub(count)..size,
            _ => return Asked::Whole,
        };
        if i >= MAX_RANGES {
            return Asked::Whole;
        }
        if range.start < range.end {
            parts.push(range);
        }
    }
    if parts.is_empty() { Asked::Unsatisfiable } else { Asked::Parts(parts) }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(range: Range<u64>) -> Asked {
        Asked::Parts(vec![range])
    }

    #[test]
    fn single_ranges() {
        assert_eq!(parse("bytes=0-0", 10, true), one(0..1));
        assert_eq!(parse("bytes=2-4", 10, true), one(2..5));
        assert_eq!(parse("bytes=2-400", 10, true), one(2..10));
        assert_eq!(parse("bytes=2-", 10, true), one(2..10));
        assert_eq!(parse("bytes=-3", 10, true), one(7..10));
        assert_eq!(parse("bytes=-300", 10, true), one(0..10));
        assert_eq!(parse("bytes=0-18446744073709551615", 10, true), one(0..10));
    }

    #[test]
    fn nothing_to_send_is_not_the_same_as_nothing_understood() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(parse(header, 10, true), Asked::Unsatisfiable, "{header}");
        }
        assert_eq!(parse("bytes=0-0", 0, true), Asked::Unsatisfiable);
        for header in
            ["", "bytes=", "bytes=-", "bytes=4-2", "bytes=+1-2", "lines=1-2", "bytes=1-2-3", "bytes=a-b"]
        {
            assert_eq!(parse(header, 10, true), Asked::Whole, "{header}");
        }
        assert_eq!(parse("bytes=-3", 10, false), Asked::Whole);
    }

    #[test]
    fn lists() {
        assert_eq!(parse("bytes=0-1, 4-5,20-", 10, true), Asked::Parts(vec![0..2, 4..6]));
        assert_eq!(parse(&format!("bytes={}0-1", "0-1,".repeat(MAX_RANGES)), 10, true), Asked::Whole);
    }

    proptest! {
        #[test]
        fn ranges_lie_within_the_file(header in "(bytes=)?[-0-9, a]{0,24}", size in any::<u64>()) {
            if let Asked::Parts(parts) = parse(&header, size, true) {
                prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                prop_assert!(parts.iter().all(|r| r.start < r.end && r.end <= size));
            }
        }

        #[test]
        fn what_is_written_is_read(first in 0u64..1000, length in 1u64..1000, beyond in 0u64..1000) {
            let last = first + length - 1;
            prop_assert_eq!(parse(&format!("bytes={first}-{last}"), last + 1 + beyond, true), one(first..last + 1));
        }
    }
}
