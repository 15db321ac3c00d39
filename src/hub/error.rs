//! A failed operation, with its circumstances.
//!
//! [`HubError`] is one box: the meaning ([`HubErrorKind`], with the numbers that prove it) and
//! the circumstances every failure shares (which URL, how many attempts, how long, what the
//! server said). Status codes become meanings in one place, [`super::status`]; nothing here looks
//! at a response. URLs appear only as [`SafeUrl`].

use std::{fmt, time::Duration};

use super::{
    error_kind::{HubErrorKind, Missing, Refusal},
    safe_url::SafeUrl,
};

/// A failed operation on the Hub.
#[derive(Debug)]
pub struct HubError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: HubErrorKind,
    url: SafeUrl,
    attempts: u32,
    elapsed: Duration,
    message: Option<String>,
    request_id: Option<String>,
    host_is_down: bool,
}

impl HubError {
    pub(crate) fn new(url: impl Into<SafeUrl>, kind: HubErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            url: url.into(),
            attempts: 1,
            elapsed: Duration::ZERO,
            message: None,
            request_id: None,
            host_is_down: false,
        }))
    }

    /// What a source that is not on the network has not got; `place` says where it was looked for.
    pub(crate) fn not_found(place: String, what: Missing) -> Self {
        Self::new(SafeUrl::of_place(place), HubErrorKind::NotFound { what })
    }

    /// Adds what the server said about it.
    pub(crate) fn heard(mut self, message: Option<String>, request_id: Option<String>) -> Self {
        self.0.message = message;
        self.0.request_id = request_id;
        self
    }

    /// Adds whether requests to the host are held back because it keeps failing.
    pub(crate) fn while_host_is_down(mut self, down: bool) -> Self {
        self.0.host_is_down = down;
        self
    }

    pub(crate) fn host_is_down(&self) -> bool {
        self.0.host_is_down
    }

    /// Adds what the retries cost.
    pub(crate) fn after(mut self, attempts: u32, elapsed: Duration, waited_for_rate: Duration) -> Self {
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        if let HubErrorKind::RateLimited { waited, .. } = &mut self.0.kind {
            *waited = waited_for_rate;
        }
        self
    }

    /// What it means.
    pub fn kind(&self) -> &HubErrorKind {
        &self.0.kind
    }

    /// The last URL asked, with secrets masked.
    pub fn url(&self) -> &SafeUrl {
        &self.0.url
    }

    /// Attempts made, at least one.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Time since the operation began, waits included.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// What the server said (`X-Error-Message`), cut to a printable length.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The server's id of the failed request, for reports to its operators.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Whether the fault lies with the repository or our rights in it, so that asking again
    /// today is pointless, and the next repository may well work.
    pub fn is_permanent(&self) -> bool {
        !matches!(
            self.0.kind,
            HubErrorKind::RateLimited { .. }
                | HubErrorKind::Server { .. }
                | HubErrorKind::Unreachable { .. }
                | HubErrorKind::Stalled { .. }
                | HubErrorKind::Truncated { .. }
                | HubErrorKind::HostDown { .. }
                | HubErrorKind::Spent { .. }
                | HubErrorKind::Expired
                | HubErrorKind::Offline
        )
    }

    /// One line of advice to a person, where there is some.
    pub fn hint(&self) -> Option<&'static str> {
        use HubErrorKind as Kind;
        Some(match &self.0.kind {
            Kind::Unauthorized { with_token: false } => {
                "the repository may be missing or private: check its name, or set HF_TOKEN"
            }
            Kind::Unauthorized { with_token: true } => {
                "the token is not valid here: log in again with `hf auth login`"
            }
            Kind::Gated { with_token: false } => {
                "set HF_TOKEN to a token of an account that was granted access"
            }
            Kind::Gated { with_token: true } => "ask for access on the model's page, then run again",
            Kind::Forbidden { with_token: true } => "the token lacks the right to read this repository",
            Kind::NotFound { what: Missing::Revision } => "leave out the revision to read the default branch",
            Kind::NotFound { what: Missing::List } => "name the models to read, or use another HF_ENDPOINT",
            Kind::RateLimited { .. } => {
                "set HF_TOKEN for a higher limit, or run again when the window is over"
            }
            Kind::RangeIgnored { .. } => "this server cannot serve parts of files: use another HF_ENDPOINT",
            Kind::ForeignRedirect { why: Refusal::UnknownHost, .. } => {
                "if you trust this host, add it to the CDN hosts in the settings"
            }
            Kind::Unreachable { .. } => "check the network, HF_ENDPOINT and the proxy variables",
            Kind::HostDown { .. } => {
                "the Hub does not answer at present: run again later, what is done need not be done again"
            }
            Kind::Offline => "unset HF_HUB_OFFLINE to allow requests",
            Kind::Changed { .. } => "the repository changed while it was read: run again",
            _ => return None,
        })
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, url, attempts, elapsed, message, request_id, .. } = &*self.0;
        write!(f, "{kind}: {url}")?;
        if *attempts > 1 {
            write!(f, " (after {attempts} attempts in {:.1} s)", elapsed.as_secs_f64())?;
        }
        if let Some(message) = message {
            write!(f, ": {message}")?;
        }
        if let Some(request_id) = request_id {
            write!(f, " [request {request_id}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for HubError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            HubErrorKind::Unreachable { source } | HubErrorKind::Truncated { source: Some(source), .. } => {
                Some(source.as_ref())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn shows_evidence_but_no_secret() {
        let url = Url::parse("https://cdn.example/f?Signature=s3cret").unwrap();
        let kind = HubErrorKind::RangeIgnored { asked: 0..8, stated: Some(99) };
        let error = HubError::new(&url, kind).after(3, Duration::from_millis(4200), Duration::ZERO);
        let error = error.heard(Some("sorry".into()), Some("Root=1".into()));
        assert_eq!(
            error.to_string(),
            "asked for 8 bytes, the server would send all 99: https://cdn.example/f?Signature=*** \
             (after 3 attempts in 4.2 s): sorry [request Root=1]"
        );
        assert!(!format!("{error:?}").contains("s3cret"));
        assert!(error.hint().unwrap().contains("HF_ENDPOINT"));
    }

    #[test]
    fn is_one_word() {
        assert_eq!(size_of::<Result<(), HubError>>(), size_of::<usize>());
    }
}
