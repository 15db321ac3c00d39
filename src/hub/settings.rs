//! What a [`super::Hub`] needs to know, and how it is read from the environment.
//!
//! The variables are those of the Hugging Face clients, so that one login serves all tools. The
//! environment is a lookup function: nothing here reads the process, and a value that cannot be
//! understood is an error, never a silent default.

use std::{
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use url::{Host, Url};

use super::{
    breaker::BreakerSettings,
    capability::Capabilities,
    retry::RetrySettings,
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

    /// Reads the variables of the Hugging Face clients through `var`, which returns the value of
    /// a variable, or `None`:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `HF_ENDPOINT` | the endpoint, default [`PUBLIC_ENDPOINT`] |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | the token, the first that is not empty |
    /// | `HF_TOKEN_PATH` | the token file, default `$HF_HOME/token` |
    /// | `HF_HOME` | default `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | take no token from anywhere |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | refuse all requests |
    /// | `HF_HUB_USER_AGENT_ORIGIN` | appended to the user agent |
    ///
    /// Switches are on for `1`, `ON`, `YES`, `TRUE` in any case. A missing token file is no error.
    ///
    /// # Errors
    /// [`SettingsError`] for a value that cannot be understood.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let switch = |name: &str| {
            var(name).is_some_and(|value| {
                matches!(&*value.trim().to_ascii_uppercase(), "1" | "ON" | "YES" | "TRUE")
            })
        };
        let mut settings = Self::new(var("HF_ENDPOINT").as_deref().unwrap_or(PUBLIC_ENDPOINT))?;
        settings.offline = switch("HF_HUB_OFFLINE") || switch("TRANSFORMERS_OFFLINE");
        if let Some(origin) = var("HF_HUB_USER_AGENT_ORIGIN") {
            settings.user_agent.push_str("; origin/");
            settings.user_agent.push_str(origin.trim());
        }
        if !switch("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            settings.token = implicit_token(&var)?;
        }
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
            return Err(SettingsError::Endpoint { endpoint: super::SafeUrl::from(url).to_string(), why });
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

/// How far an address reaches, judged by the address itself; names are not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// A public address, or a name.
    Public,
    /// Private, link-local, shared or unspecified.
    Private,
    /// This machine.
    Loopback,
}

impl Reach {
    pub(crate) fn of(host: &Host<&str>) -> Self {
        match host {
            Host::Domain(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let local = name == "localhost" || name.ends_with(".localhost");
                if local { Self::Loopback } else { Self::Public }
            }
            Host::Ipv4(ip) => Self::of_v4(*ip),
            Host::Ipv6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Self::of_v4(ip),
                None if ip.is_loopback() => Self::Loopback,
                None if ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified() => {
                    Self::Private
                }
                None => Self::Public,
            },
        }
    }

    fn of_v4(ip: std::net::Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        let shared = a == 100 && (64..128).contains(&b); // carrier-grade NAT
        if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_private() || ip.is_link_local() || ip.is_broadcast() || a == 0 || shared {
            Self::Private
        } else {
            Self::Public
        }
    }
}

fn default_user_agent() -> String {
    let contact = env!("CARGO_PKG_REPOSITORY");
    let contact = if contact.is_empty() { String::new() } else { format!("; (+{contact})") };
    format!("{}/{}{contact}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

fn implicit_token(var: &impl Fn(&str) -> Option<String>) -> Result<Option<Token>, SettingsError> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = var(name) {
            let token = Token::new(&text);
            return token
                .map(Some)
                .map_err(|source| SettingsError::Token { origin: name.to_owned(), source });
        }
    }
    let home = |path: String| match (path.strip_prefix("~/"), var("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    };
    let path = match (var("HF_TOKEN_PATH"), var("HF_HOME"), var("XDG_CACHE_HOME")) {
        (Some(path), _, _) => home(path),
        (None, Some(hf), _) => home(hf).join("token"),
        (None, None, Some(xdg)) => home(xdg).join("huggingface/token"),
        (None, None, None) if var("HOME").is_some() => home("~/.cache/huggingface/token".to_owned()),
        (None, None, None) => return Ok(None),
    };
    read_token(&path)
}

fn read_token(path: &Path) -> Result<Option<Token>, SettingsError> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64 << 10).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::TokenFile { path: path.to_owned(), source }),
        Ok(_) if text.trim().is_empty() => Ok(None),
        Ok(_) => match Token::new(&text) {
            Ok(token) => Ok(Some(token)),
            Err(source) => Err(SettingsError::Token { origin: path.display().to_string(), source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Result<HubSettings, SettingsError> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        HubSettings::from_env(move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    fn bearer(settings: &HubSettings) -> Option<String> {
        settings.token.as_ref().map(|token| token.header().to_str().unwrap().to_owned())
    }

    #[test]
    fn an_empty_environment_is_the_public_hub() {
        let settings = env(&[("HF_ENDPOINT", ""), ("HF_TOKEN", " ")]).unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://huggingface.co/");
        assert!(settings.token.is_none() && !settings.offline && !settings.is_loopback());
        assert!(settings.user_agent.starts_with("hubprint/"), "{}", settings.user_agent);
    }

    #[test]
    fn endpoints() {
        let settings = env(&[("HF_ENDPOINT", "http://127.0.0.1:8000//")]).unwrap();
        assert_eq!(settings.endpoint.as_str(), "http://127.0.0.1:8000/");
        assert!(settings.is_loopback());
        for bad in
            ["huggingface.co", "ftp://h", "https://u:pw@h", "https://h/?q=1", "https://h/#f", "https://"]
        {
            let error = env(&[("HF_ENDPOINT", bad)]).unwrap_err();
            assert!(matches!(error, SettingsError::Endpoint { .. }), "{bad}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn tokens_in_order() {
        let both = [("HF_TOKEN", "hf_a\n"), ("HUGGING_FACE_HUB_TOKEN", "hf_b")];
        assert_eq!(bearer(&env(&both).unwrap()).as_deref(), Some("Bearer hf_a"));
        assert_eq!(bearer(&env(&both[1..]).unwrap()).as_deref(), Some("Bearer hf_b"));
        let off = [both[0], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")];
        assert_eq!(bearer(&env(&off).unwrap()), None);
        assert!(matches!(env(&[("HF_TOKEN", "a b")]), Err(SettingsError::Token { .. })));
    }

    #[test]
    fn token_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        let place = |path: &str, token: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), token.as_bytes()).unwrap();
        };
        place(".cache/huggingface/token", "hf_home\n");
        place("xdg/huggingface/token", "hf_xdg");
        place("hf/token", "hf_hf");
        place("mine", "hf_mine");
        place("empty", "\n");
        let from = |vars: &[(&str, &str)]| bearer(&env(vars).unwrap());
        let (home, xdg) = (("HOME", root), ("XDG_CACHE_HOME", &*format!("{root}/xdg")));
        assert_eq!(from(&[home]).as_deref(), Some("Bearer hf_home"));
        assert_eq!(from(&[home, xdg]).as_deref(), Some("Bearer hf_xdg"));
        assert_eq!(from(&[home, xdg, ("HF_HOME", "~/hf")]).as_deref(), Some("Bearer hf_hf"));
        assert_eq!(from(&[home, ("HF_TOKEN_PATH", "~/mine")]).as_deref(), Some("Bearer hf_mine"));
        assert_eq!(from(&[home, ("HF_TOKEN_PATH", "~/empty")]), None);
        assert_eq!(from(&[home, ("HF_TOKEN_PATH", "~/missing")]), None);
        assert!(matches!(env(&[("HF_TOKEN_PATH", root)]), Err(SettingsError::TokenFile { .. })));
    }

    #[test]
    fn switches_and_origin() {
        assert!(env(&[("HF_HUB_OFFLINE", "On")]).unwrap().offline);
        assert!(env(&[("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
        assert!(!env(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(env(&[("HF_HUB_USER_AGENT_ORIGIN", "lab")]).unwrap().user_agent.ends_with("; origin/lab"));
        assert!(matches!(env(&[("HF_HUB_USER_AGENT_ORIGIN", "a\nb")]), Err(SettingsError::UserAgent { .. })));
    }

    #[test]
    fn reaches() {
        for (url, reach) in [
            ("http://localhost/", Reach::Loopback),
            ("http://a.localhost./", Reach::Loopback),
            ("http://127.8.8.8/", Reach::Loopback),
            ("http://2130706433/", Reach::Loopback),
            ("http://[::1]/", Reach::Loopback),
            ("http://[::ffff:127.0.0.1]/", Reach::Loopback),
            ("http://10.0.0.1/", Reach::Private),
            ("http://192.168.1.1/", Reach::Private),
            ("http://172.16.0.1/", Reach::Private),
            ("http://169.254.169.254/", Reach::Private),
            ("http://100.64.0.1/", Reach::Private),
            ("http://0.0.0.0/", Reach::Private),
            ("http://[fd00::1]/", Reach::Private),
            ("http://[fe80::1]/", Reach::Private),
            ("http://[::ffff:10.0.0.1]/", Reach::Private),
            ("http://8.8.8.8/", Reach::Public),
            ("http://huggingface.co/", Reach::Public),
        ] {
            assert_eq!(Reach::of(&Url::parse(url).unwrap().host().unwrap()), reach, "{url}");
        }
    }
}
