//! The Hub's rate limits as it states them: which bucket a URL counts in, and what the
//! `RateLimit` and `RateLimit-Policy` headers of an answer say.
//!
//! ```text
//! RateLimit:        "api";r=499;t=295                   r requests left, t seconds to the window's end
//! RateLimit-Policy: "fixed window";"api";q=500;w=300    q requests per window of w seconds
//! ```
//!
//! Pure functions. What follows from the numbers is decided in [`super::meter`].

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Longest header looked at, in bytes, and most items taken from it.
const MAX_HEADER: usize = 1024;
const MAX_ITEMS: usize = 8;

/// Longest window believed. The Hub's are five minutes.
const MAX_WINDOW: u64 = 24 * 3600;

/// What a request is counted as. The Hub limits the first three separately; the CDN states no
/// limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// `/api/...`
    Api,
    /// `/.../resolve/...`, `/api/resolve-cache/...`, `/.../raw/...`
    Resolvers,
    /// Everything else on the Hub.
    Pages,
    /// Signed URLs on other hosts.
    Cdn,
}

impl Bucket {
    /// The bucket of a path on the Hub, without the endpoint's own prefix.
    pub(crate) fn of_path(path: &str) -> Self {
        if path.starts_with("/api/resolve-cache/") {
            Self::Resolvers
        } else if path.starts_with("/api/") {
            Self::Api
        } else if path.contains("/resolve/") || path.contains("/raw/") {
            Self::Resolvers
        } else {
            Self::Pages
        }
    }

    /// The name in the headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Resolvers => "resolvers",
            Self::Pages => "pages",
            Self::Cdn => "cdn",
        }
    }
}

/// How many requests a bucket allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateOf {
    /// Requests in each window.
    pub requests: u64,
    /// Length of a window.
    pub window: Duration,
}

/// One stated limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// Bucket name as sent.
    pub(crate) name: String,
    /// Requests left in the window.
    pub(crate) remaining: u64,
    /// Time to the end of the window, whole seconds.
    pub(crate) resets_in: Duration,
    /// Requests per window.
    pub(crate) quota: Option<u64>,
    /// Length of the window.
    pub(crate) window: Option<Duration>,
}

impl RateLimit {
    /// All limits stated in an answer; empty when there are none or they are malformed.
    pub(crate) fn all(headers: &HeaderMap) -> Vec<Self> {
        fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
            headers.get(name)?.to_str().ok().filter(|text| text.len() <= MAX_HEADER)
        }
        let Some(limits) = text(headers, &RATE_LIMIT) else { return Vec::new() };
        let policies = text(headers, &RATE_LIMIT_POLICY).map(items).unwrap_or_default();
        let limits = items(limits).into_iter().filter_map(|item| {
            let name = (*item.names.first()?).to_owned();
            let policy = policies.iter().find(|policy| policy.names.contains(&name.as_str()));
            Some(Self {
                remaining: item.number("r")?,
                resets_in: seconds(item.number("t")?),
                quota: policy.and_then(|policy| policy.number("q")),
                window: policy.and_then(|policy| policy.number("w")).map(seconds),
                name,
            })
        });
        limits.collect()
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n.min(MAX_WINDOW))
}

/// One item of a structured list: quoted or bare names, and `key=number` parameters.
#[derive(Debug, Default)]
struct Item<'h> {
    names: Vec<&'h str>,
    numbers: Vec<(&'h str, u64)>,
}

impl Item<'_> {
    fn number(&self, key: &str) -> Option<u64> {
        self.numbers.iter().find(|(k, _)| *k == key).map(|(_, n)| *n)
    }
}

fn items(header: &str) -> Vec<Item<'_>> {
    split_unquoted(header, ',')
        .take(MAX_ITEMS)
        .map(|item| {
            let mut parsed = Item::default();
            for part in split_unquoted(item, ';').take(MAX_ITEMS) {
                let part = part.trim();
                match part.split_once('=') {
                    Some((key, value)) if !part.starts_with('"') => {
                        if let Ok(number) = value.trim().parse() {
                            parsed.numbers.push((key.trim(), number));
                        }
                    }
                    _ => parsed.names.push(part.trim_matches('"')),
                }
            }
            parsed
        })
        .collect()
}

/// Splits at separators outside double quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(limit: &str, policy: &str) -> Vec<RateLimit> {
        let mut headers = HeaderMap::new();
        if let Ok(limit) = limit.parse() {
            headers.insert(RATE_LIMIT, limit);
        }
        if let Ok(policy) = policy.parse() {
            headers.insert(RATE_LIMIT_POLICY, policy);
        }
        RateLimit::all(&headers)
    }

    #[test]
    fn as_the_hub_sends_them() {
        let parsed = parse("\"resolvers\";r=2997;t=258", "\"fixed window\";\"resolvers\";q=3000;w=300");
        let expected = RateLimit {
            name: "resolvers".into(),
            remaining: 2997,
            resets_in: Duration::from_secs(258),
            quota: Some(3000),
            window: Some(Duration::from_mins(5)),
        };
        assert_eq!(parsed, [expected]);
    }

    #[test]
    fn policy_may_be_absent_or_of_another_bucket() {
        assert_eq!(parse("\"api\";r=1;t=2", "")[0].quota, None);
        assert_eq!(parse("\"api\";r=1;t=2", "\"pages\";q=9;w=9")[0].quota, None);
        let two = parse("\"api\";r=1;t=2, \"pages\"; r=3 ;t=4", "\"pages\";q=9;w=9");
        assert_eq!((two[0].remaining, two[1].remaining, two[1].quota), (1, 3, Some(9)));
        // A separator inside a quoted name is part of the name.
        assert_eq!(parse("\"a;b,c\";r=1;t=2", "")[0].name, "a;b,c");
    }

    #[test]
    fn malformed_is_no_limit() {
        for bad in ["", "\"api\"", "\"api\";r=x;t=1", "\"api\";r=-1;t=1", "r=1;t=2", "\"api\";r=1"] {
            assert_eq!(parse(bad, ""), [], "{bad}");
        }
        assert_eq!(parse(&format!("\"{}\";r=1;t=1", "x".repeat(MAX_HEADER)), ""), []);
    }

    #[test]
    fn buckets() {
        for (path, bucket) in [
            ("/api/models", Bucket::Api),
            ("/api/models/a/b/revision/main", Bucket::Api),
            ("/api/resolve-cache/models/a/b/sha/config.json", Bucket::Resolvers),
            ("/a/b/resolve/main/config.json", Bucket::Resolvers),
            ("/a/b/raw/main/config.json", Bucket::Resolvers),
            ("/a/b", Bucket::Pages),
        ] {
            assert_eq!(Bucket::of_path(path), bucket, "{path}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(limit in "[\"a-z;,=rtqw0-9 ]{0,80}", policy in "[\"a-z;,=rtqw0-9 ]{0,80}") {
            prop_assert!(parse(&limit, &policy).len() <= MAX_ITEMS);
        }

        #[test]
        fn round_trip(r in any::<u64>(), t in 0..MAX_WINDOW, q in any::<u64>(), w in 0..MAX_WINDOW) {
            let parsed = parse(&format!("\"api\";r={r};t={t}"), &format!("\"fixed window\";\"api\";q={q};w={w}"));
            prop_assert_eq!((parsed[0].remaining, parsed[0].resets_in.as_secs()), (r, t));
            prop_assert_eq!((parsed[0].quota, parsed[0].window.map(|w| w.as_secs())), (Some(q), Some(w)));
        }
    }
}
