//! The access token: a secret that can be sent, and never shown.

use std::{fmt, sync::Arc};

use reqwest::header::HeaderValue;

/// A Hub access token. `Debug` and `Display` are masked; the only way out is the header of a
/// request to the Hub itself.
#[derive(Clone)]
pub struct Token {
    bearer: Arc<HeaderValue>,
}

/// A text that cannot be sent as a token: empty, or with characters outside visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an access token: it must be visible ASCII without spaces, at most 4096 characters")]
pub struct InvalidToken;

impl Token {
    /// Takes a token as written in an environment variable or a file: line ends and outer
    /// spaces are dropped.
    ///
    /// # Errors
    /// [`InvalidToken`] when nothing is left, or when what is left cannot be sent in a header.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.is_empty() || text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidToken);
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| InvalidToken)?;
        bearer.set_sensitive(true); // keeps it out of the wire logs of the HTTP library, too
        Ok(Self { bearer: Arc::new(bearer) })
    }

    /// The token itself, for another client of the same Hub.
    #[cfg(feature = "hf-hub")]
    pub(crate) fn reveal(&self) -> String {
        let bearer = self.bearer.to_str().unwrap_or_default();
        bearer.strip_prefix("Bearer ").unwrap_or_default().to_owned()
    }

    /// The value of `Authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.bearer)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_masked_and_cleaned() {
        let token = Token::new("  hf_secret\r\n").unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        let shown = format!("{token} {token:?} {:?}", token.header());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        for bad in ["", " \n", "two words", "töken", "a\nb"] {
            assert_eq!(Token::new(bad).unwrap_err(), InvalidToken, "{bad:?}");
        }
    }
}
