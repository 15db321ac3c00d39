//! What can go wrong, by meaning, each with the numbers that prove it.

use std::{fmt, ops::Range, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    allowance::{Exceeded, Unit},
    rate::Bucket,
};

/// What the Hub says it has not got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No such repository, or a private one.
    Repo,
    /// The repository has no such branch, tag or commit.
    Revision,
    /// The revision has no such file.
    File,
    /// The endpoint does not list models, as a caching proxy does not.
    List,
}

/// Where a request stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No connection.
    Connect,
    /// Connected, but no response headers.
    Answer,
    /// The body arrives too slowly, or not at all.
    Body,
}

/// Why a redirect was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The host is neither the endpoint nor a known CDN host.
    UnknownHost,
    /// The address is private or loopback, and the endpoint is not.
    PrivateAddress,
    /// From https to http, or to something that is not HTTP.
    Scheme,
    /// The URL carries user info.
    UserInfo,
    /// A redirect of the API or of the CDN may not leave its origin.
    LeavesOrigin,
}

/// The meaning of a [`HubError`](super::HubError), with its evidence. All ranges are byte offsets in the file,
/// end excluded.
#[derive(Debug)]
#[non_exhaustive]
pub enum HubErrorKind {
    /// The Hub has not got it.
    NotFound {
        /// What is missing.
        what: Missing,
    },
    /// 401 without further reason. An anonymous caller gets this for a missing repository, too.
    Unauthorized {
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The owner of the repository has to grant access first.
    Gated {
        /// Whether a token was sent.
        with_token: bool,
    },
    /// 403 for another reason than gating.
    Forbidden {
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The Hub has closed this repository.
    Disabled,
    /// 429, after all the waiting we were ready to do.
    RateLimited {
        /// Which limit.
        bucket: Bucket,
        /// Time until the window ends, as the last answer stated it.
        reset: Option<Duration>,
        /// Time spent waiting for windows in this operation.
        waited: Duration,
    },
    /// The server failed or is overloaded (5xx, 408).
    Server {
        /// The status code.
        status: u16,
    },
    /// The request is refused as such (another 4xx).
    Rejected {
        /// The status code.
        status: u16,
    },
    /// A status that makes no sense as an answer to this request.
    UnexpectedStatus {
        /// The status code.
        status: u16,
    },
    /// A ranged request got the whole file (200). Nothing of it was read.
    RangeIgnored {
        /// Bytes asked for.
        asked: Range<u64>,
        /// Length of the body the server wanted to send, if it said so.
        stated: Option<u64>,
    },
    /// The `Content-Range` is missing, malformed, or not what was asked.
    WrongRange {
        /// Bytes asked for.
        asked: Range<u64>,
        /// Size of the file as the Hub stated it.
        size: u64,
        /// The header as received, cut to a printable length; `None` when it is missing.
        got: Option<String>,
    },
    /// The caller asked for bytes beyond the end of the file. Nothing was sent.
    OutOfFile {
        /// Bytes asked for.
        asked: Range<u64>,
        /// Size of the file in bytes.
        size: u64,
    },
    /// The file or the revision is not the one it was before.
    Changed {
        /// Which mark differs, e.g. `ETag`.
        mark: &'static str,
        /// Its value at first.
        before: String,
        /// Its value now.
        now: String,
    },
    /// The body ended early.
    Truncated {
        /// Bytes received.
        received: u64,
        /// Bytes announced, if any were.
        expected: Option<u64>,
        /// The transport's own words.
        source: Option<Cause>,
    },
    /// More bytes than the caller or the settings allow.
    TooLarge {
        /// The limit in bytes.
        cap: u64,
        /// The size the server stated, if it did.
        stated: Option<u64>,
    },
    /// A redirect to a place we do not go.
    ForeignRedirect {
        /// Host named in `Location` or `Link`.
        to: String,
        /// Why it is refused.
        why: Refusal,
    },
    /// More redirects in a row than allowed.
    TooManyRedirects {
        /// Redirects followed.
        followed: u32,
    },
    /// An answer that cannot be understood.
    Malformed {
        /// Which part, e.g. `Link header`.
        part: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The name does not resolve, nobody listens, TLS fails, the connection breaks.
    Unreachable {
        /// The transport's own words.
        source: Cause,
    },
    /// A timeout.
    Stalled {
        /// Where it stood still.
        phase: Phase,
        /// The time allowed for that.
        limit: Duration,
        /// Body bytes received until then.
        received: u64,
    },
    /// A host has failed all requests for so long that it is not waited for any more; see
    /// [`BreakerSettings::give_up`](super::BreakerSettings::give_up). Nothing was sent. All other
    /// requests to it fail likewise, so a run should stop and give its work back.
    HostDown {
        /// Name of the host, of the Hub or of a CDN.
        host: String,
        /// Since when nothing but probes is sent to it.
        since: DateTime<Utc>,
    },
    /// The client may cost no more; see [`Hub::allow`](super::Hub::allow). Nothing was sent, or what was under way
    /// was given up.
    Spent {
        /// What of it is spent.
        what: Unit,
        /// How much of it there was.
        most: u64,
    },
    /// The signed URL is refused (403), and so was the fresh one.
    Expired,
    /// The settings forbid all requests.
    Offline,
    /// A path or revision that cannot be put into a URL. Nothing was sent.
    Unaddressable {
        /// `path` or `revision`.
        what: &'static str,
        /// The text, cut to a printable length.
        text: String,
    },
}

impl From<Exceeded> for HubErrorKind {
    fn from(Exceeded { what, most }: Exceeded) -> Self {
        Self::Spent { what, most }
    }
}

/// The error of a lower layer, kept whole for `source()`.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repo => "repository",
            Self::Revision => "revision",
            Self::File => "file",
            Self::List => "list of models",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownHost => "the host is not known",
            Self::PrivateAddress => "the address is private",
            Self::Scheme => "the scheme is weaker or unknown",
            Self::UserInfo => "it carries user info",
            Self::LeavesOrigin => "it leaves the origin",
        })
    }
}

impl fmt::Display for HubErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { what } => write!(f, "no such {what}"),
            Self::Unauthorized { with_token: true } => f.write_str("the token is refused"),
            Self::Unauthorized { with_token: false } => f.write_str("not readable without a token"),
            Self::Gated { .. } => f.write_str("access must be granted by the owner"),
            Self::Forbidden { .. } => f.write_str("access denied"),
            Self::Disabled => f.write_str("the repository is disabled"),
            Self::RateLimited { bucket, waited, .. } => {
                write!(f, "rate limited ({}) even after waiting {:.0} s", bucket.name(), waited.as_secs_f64())
            }
            Self::Server { status } => write!(f, "the server failed with status {status}"),
            Self::Rejected { status } => write!(f, "the request is rejected with status {status}"),
            Self::UnexpectedStatus { status } => write!(f, "status {status} is no answer to this request"),
            Self::RangeIgnored { asked, stated: Some(stated) } => {
                write!(f, "asked for {} bytes, the server would send all {stated}", asked.end - asked.start)
            }
            Self::RangeIgnored { asked, stated: None } => {
                write!(f, "asked for {} bytes, the server would send the whole file", asked.end - asked.start)
            }
            Self::WrongRange { asked, size, got } => {
                let got = got.as_deref().unwrap_or("no Content-Range");
                write!(
                    f,
                    "asked for bytes {}-{} of {size}, got {got:?}",
                    asked.start,
                    asked.end.saturating_sub(1)
                )
            }
            Self::OutOfFile { asked, size } => {
                write!(f, "bytes {}..{} are not in a file of {size} bytes", asked.start, asked.end)
            }
            Self::Changed { mark, before, now } => write!(f, "{mark} changed from {before:?} to {now:?}"),
            Self::Truncated { received, expected: Some(expected), .. } => {
                write!(f, "the body ended after {received} of {expected} bytes")
            }
            Self::Truncated { received, expected: None, .. } => {
                write!(f, "the body broke off after {received} bytes")
            }
            Self::TooLarge { cap, stated: Some(stated) } => write!(f, "{stated} bytes, the limit is {cap}"),
            Self::TooLarge { cap, stated: None } => write!(f, "more than the limit of {cap} bytes"),
            Self::ForeignRedirect { to, why } => write!(f, "will not follow to {to}: {why}"),
            Self::TooManyRedirects { followed } => write!(f, "gave up after {followed} redirects"),
            Self::Malformed { part, detail } => write!(f, "malformed {part}: {detail}"),
            Self::Unreachable { .. } => f.write_str("unreachable"),
            Self::Stalled { phase: Phase::Connect, limit, .. } => write!(f, "no connection within {limit:?}"),
            Self::Stalled { phase: Phase::Answer, limit, .. } => write!(f, "no answer within {limit:?}"),
            Self::Stalled { phase: Phase::Body, limit, received } => {
                write!(f, "the body stands still: too little in {limit:?} after {received} bytes")
            }
            Self::HostDown { host, since } => {
                let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(f, "{host} is down since {since}")
            }
            Self::Spent { what: Unit::Requests, most } => write!(f, "all {most} requests are spent"),
            Self::Spent { what: Unit::Bytes, most } => {
                write!(f, "of {most} bytes too few are left")
            }
            Self::Expired => f.write_str("the signed URL is refused, and so was a fresh one"),
            Self::Offline => f.write_str("offline by settings"),
            Self::Unaddressable { what, text } => write!(f, "unusable {what} {text:?}"),
        }
    }
}
