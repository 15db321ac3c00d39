//! What a [`super::Hub`] needs to know.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use url::Url;

use super::{
    breaker::BreakerSettings,
    capability::Capabilities,
    reach::Reach,
    retry::RetrySettings,
    safe_url::SafeUrl,
    token::{InvalidToken, Token},
};

/// The public Hub.
pub const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// Hosts the public Hub redirects to for large files: the current ones, then two older ones that
/// still occur.
pub const PUBLIC_CDN_HOSTS: [&str; 6] = [
    "us.aws.cdn.hf.co",
    "us.gcp.cdn.hf.co",
    "cdn-lfs-us-1.hf.co",
    "cdn-lfs-eu-1.hf.co",
    "cas-bridge.xethub.hf.co",
    "cdn-lfs.huggingface.co",
];

/// Everything a [`super::Hub`] is built from.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Where the Hub is, with an optional path prefix, without a trailing slash.
    pub endpoint: Url,
    /// Sent to the endpoint's origin and to nobody else.
    pub token: Option<Token>,
    /// The `User-Agent` of every request.
    pub user_agent: String,
    /// Refuse to send anything.
    pub offline: bool,
    /// Host names files may be redirected to. A loopback endpoint may use loopback addresses as
    /// well; private addresses are otherwise refused even when they are named here.
    pub cdn_hosts: Vec<String>,
    /// How patient an operation is.
    pub retry: RetrySettings,
    /// When a host that fails is left alone.
    pub breaker: BreakerSettings,
    /// When a request counts as stuck.
    pub timeouts: Timeouts,
    /// Upper bounds for everything the server sends.
    pub limits: ResponseLimits,
    /// Most requests in flight at once; how many there are adapts to what the host bears.
    pub parallel: Parallel,
    /// What an earlier run learnt about this endpoint.
    pub capabilities: Capabilities,
    /// Seed of the jitter. `None` takes the time and the process id, which is right for
    /// production: equal seeds would make many clients retry in step.
    pub seed: Option<u64>,
}

/// When a request counts as stuck. There is no limit on the total time of a body that keeps
/// arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From sending the request to the response headers, connecting included.
    pub answer: Duration,
    /// A body must bring `progress_bytes` in each period of this length, or end.
    pub progress: Duration,
    /// See `progress`.
    pub progress_bytes: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_mins(1), // a heavy list page takes its time
            progress: Duration::from_secs(20),
            progress_bytes: 16 * 1024,
        }
    }
}

/// Upper bounds for what the server sends, in bytes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimits {
    /// One page of the list. A thousand models with their file names are a few MB.
    pub page: u64,
    /// The description of one model.
    pub info: u64,
    /// One range of a file.
    pub range: u64,
    /// A `Location` or `Link` header.
    pub link: usize,
    /// The `config` of one model, strings and keys counted; a larger one is left out.
    pub config: usize,
    /// Redirects in a row.
    pub redirects: u32,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self {
            page: 64 << 20,
            info: 32 << 20,
            range: 256 << 20,
            link: 16 << 10,
            config: 256 << 10,
            redirects: 5,
        }
    }
}

/// Requests in flight at once, by [`super::Bucket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Parallel {
    /// API requests.
    pub api: usize,
    /// File requests to the Hub itself.
    pub resolvers: usize,
    /// Other requests to the Hub.
    pub pages: usize,
    /// Requests to the CDN, which throttles clients with more than eight.
    pub cdn: usize,
}

impl Default for Parallel {
    fn default() -> Self {
        Self { api: 4, resolvers: 8, pages: 1, cdn: 8 }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The endpoint is not an http or https URL with a host, or has user info, query or fragment.
    #[error("the endpoint {endpoint:?} is not usable: {why}")]
    Endpoint {
        /// As given, user info masked.
        endpoint: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A variable or file holds something that is no token.
    #[error("{origin}: {source}")]
    Token {
        /// The variable or the file.
        origin: String,
        /// What is wrong.
        source: InvalidToken,
    },
    /// The token file exists and cannot be read.
    #[error("cannot read the token file {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A user agent or an origin with characters that cannot be sent.
    #[error("{text:?} cannot be sent as a user agent")]
    UserAgent {
        /// As given.
        text: String,
    },
    /// A limit of zero requests in flight.
    #[error("no request could ever be sent: `parallel` has a zero")]
    NoParallelism,
    /// Settings of the breaker with which it could not work.
    #[error("the breaker could not work: {why}")]
    Breaker {
        /// What is wrong.
        why: &'static str,
    },
    /// The HTTP library refuses the settings, e.g. because there are no root certificates.
    #[error("the HTTP client cannot be set up")]
    Client {
        /// Why.
        source: reqwest::Error,
    },
}

impl HubSettings {
    /// Settings for an endpoint, without a token, all else default.
    ///
    /// ```
    /// use hubprint::hub::{HubSettings, PUBLIC_ENDPOINT};
    /// let settings = HubSettings::new(PUBLIC_ENDPOINT)?;
    /// assert_eq!(settings.endpoint.host_str(), Some("huggingface.co"));
    /// assert!(settings.token.is_none());
    /// # Ok::<(), hubprint::hub::SettingsError>(())
    /// ```
    ///
    /// # Errors
    /// [`SettingsError::Endpoint`].
    pub fn new(endpoint: &str) -> Result<Self, SettingsError> {
        let wrong = |endpoint: &str, why| SettingsError::Endpoint { endpoint: endpoint.to_owned(), why };
        let Ok(url) = Url::parse(endpoint.trim().trim_end_matches('/')) else {
            // A text that does not parse may still hold a password.
            return Err(wrong(endpoint.rsplit('@').next().unwrap_or_default(), "it is not a URL"));
        };
        let settings = Self {
            endpoint: url,
            token: None,
            user_agent: default_user_agent(),
            offline: false,
            cdn_hosts: PUBLIC_CDN_HOSTS.map(str::to_owned).to_vec(),
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            timeouts: Timeouts::default(),
            limits: ResponseLimits::default(),
            parallel: Parallel::default(),
            capabilities: Capabilities::default(),
            seed: None,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Whether everything fits together. The fields are public, so this is called again when a
    /// client is built.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let url = &self.endpoint;
        let why = if !matches!(url.scheme(), "http" | "https") {
            Some("it must begin with http:// or https://")
        } else if url.host().is_none() {
            Some("it has no host")
        } else if !url.username().is_empty() || url.password().is_some() {
            Some("it must not hold a user name or password, use a token")
        } else if url.query().is_some() || url.fragment().is_some() {
            Some("it must not hold a query or fragment")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(SettingsError::Endpoint { endpoint: SafeUrl::from(url).to_string(), why });
        }
        if reqwest::header::HeaderValue::from_str(&self.user_agent).is_err() {
            return Err(SettingsError::UserAgent { text: self.user_agent.clone() });
        }
        let Parallel { api, resolvers, pages, cdn } = self.parallel;
        if [api, resolvers, pages, cdn].contains(&0) {
            return Err(SettingsError::NoParallelism);
        }
        if let Some(why) = self.breaker.fault() {
            return Err(SettingsError::Breaker { why });
        }
        Ok(())
    }

    /// Whether the endpoint is this machine.
    pub fn is_loopback(&self) -> bool {
        self.endpoint.host().is_some_and(|host| Reach::of(&host) == Reach::Loopback)
    }
}

fn default_user_agent() -> String {
    let contact = env!("CARGO_PKG_REPOSITORY");
    let contact = if contact.is_empty() { String::new() } else { format!("; (+{contact})") };
    format!("{}/{}{contact}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}
