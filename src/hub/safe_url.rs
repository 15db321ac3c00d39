//! URLs as errors and logs may show them.
//!
//! A signed CDN URL is a bearer credential for an hour, so its query never leaves this process.
//! Masking works by an allow-list of parameter names: a parameter nobody has vouched for is
//! secret.

use std::fmt::{self, Write as _};

use url::Url;

/// Query parameters of the Hub's own API, harmless in a log.
const SHOWN: [&str; 10] =
    ["author", "cursor", "direction", "expand", "expand[]", "filter", "full", "limit", "search", "sort"];

/// A URL whose `Display` and `Debug` show scheme, host, port, path and the parameters of the
/// listing API. User info, fragment and the values of all other parameters are masked.
#[derive(Clone, PartialEq, Eq)]
pub struct SafeUrl {
    shown: String,
}

impl SafeUrl {
    /// A place that is no URL, such as a folder.
    pub(crate) fn of_place(place: String) -> Self {
        Self { shown: place }
    }

    /// The URL as shown.
    pub fn as_str(&self) -> &str {
        &self.shown
    }
}

impl From<&Url> for SafeUrl {
    fn from(url: &Url) -> Self {
        let mut shown = format!("{}://", url.scheme());
        if !url.username().is_empty() || url.password().is_some() {
            shown.push_str("***@");
        }
        shown.push_str(url.host_str().unwrap_or_default());
        if let Some(port) = url.port() {
            let _ = write!(shown, ":{port}"); // a String takes all writes
        }
        shown.push_str(url.path());
        for (n, pair) in
            url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).enumerate()
        {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            shown.push(if n == 0 { '?' } else { '&' });
            if SHOWN.contains(&name) {
                shown.push_str(pair);
            } else {
                // Without `=` the whole pair may be the secret.
                shown.push_str(if name.len() < pair.len() { name } else { "" });
                shown.push_str("=***");
            }
        }
        Self { shown }
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        SafeUrl::from(&Url::parse(url).unwrap()).to_string()
    }

    #[test]
    fn masks_signatures_and_user_info() {
        assert_eq!(
            shown("https://u:pw@cdn.example:8443/a/b?Expires=1&Policy=abc&Signature=s3cret&bare#frag"),
            "https://***@cdn.example:8443/a/b?Expires=***&Policy=***&Signature=***&=***"
        );
        let url = SafeUrl::from(&Url::parse("https://h/?X-Amz-Signature=deadbeef").unwrap());
        assert!(!format!("{url:?}").contains("deadbeef"));
    }

    #[test]
    fn shows_what_helps() {
        let plain = "https://huggingface.co/api/models?limit=1000&expand=sha&cursor=abc%3D";
        assert_eq!(shown(plain), plain);
    }
}
