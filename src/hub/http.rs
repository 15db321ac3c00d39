//! The only place that sends.
//!
//! [`Http::send`] is one attempt: it waits for the host, a slot and the rate limit, sends, and hands
//! back the headers with the body unread. It never follows a redirect by itself and never
//! retries. The token is attached here and only here, and only to the endpoint's own origin.
//! Bodies are asked for unencoded, so that lengths and ranges mean what they say.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, LOCATION, RANGE},
};
use url::Url;

use super::{
    allowance::Quota,
    answer::{Answer, not_borne},
    error::HubError,
    error_kind::{HubErrorKind, Missing, Phase},
    gate::{Down, Gate, Gates, Pass},
    governor::{Governor, Permit},
    meter::Meter,
    rate::{Bucket, RateLimit, RateOf},
    redirect::{self, Hop},
    retry::Budget,
    routes::Routes,
    settings::{HubSettings, Parallel, SettingsError, Timeouts},
    slots::{Slot, Slots},
    status::Asked,
    usage::SharedUsage,
};

/// The connections of one client, with everything that restrains them.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    settings: HubSettings,
    routes: Routes,
    api: Lane,
    resolvers: Lane,
    pages: Lane,
    cdn: Lane,
    gates: Gates,
    usage: SharedUsage,
    quota: Arc<Quota>,
    seeds: Mutex<ChaCha8Rng>,
}

/// What restrains the requests of one bucket.
#[derive(Debug)]
struct Lane {
    slots: Arc<Slots>,
    governor: Arc<Governor>,
}

/// All that one request needs before it is sent.
struct Admission {
    slot: Slot,
    permit: Permit,
    pass: Pass,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    /// Bytes wanted, end excluded, never empty.
    pub(crate) range: Option<Range<u64>>,
    /// What a bare 404 means.
    pub(crate) thing: Missing,
}

/// Where a walk over redirects ended.
#[derive(Debug)]
pub(crate) enum Arrival<'h> {
    /// An answer of the Hub that is no redirect; not necessarily a success.
    Hub(Answer<'h>),
    /// The Hub points at a CDN. Nothing was sent there yet.
    Cdn {
        /// The Hub's last answer, for its headers.
        redirect: Answer<'h>,
        /// The signed URL.
        to: Url,
    },
}

impl Http {
    pub(crate) fn new(settings: HubSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut builder = reqwest::Client::builder()
            .user_agent(&settings.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never()) // every request passes the governor
            .referer(false)
            .connect_timeout(settings.timeouts.connect)
            .pool_max_idle_per_host(settings.parallel.cdn.max(settings.parallel.resolvers));
        if settings.is_loopback() {
            builder = builder.no_proxy(); // a proxy elsewhere would look for the Hub on its own loopback
        }
        let client = builder.build().map_err(|source| SettingsError::Client { source })?;

        let mut seeds = ChaCha8Rng::seed_from_u64(settings.seed.unwrap_or_else(process_seed));
        let mut metered = |bucket: Bucket, slots| Lane {
            slots: Slots::new(slots),
            governor: Governor::new(bucket.name(), Meter::new(seeds.random_range(0.0..1.0))),
        };
        let api = metered(Bucket::Api, settings.parallel.api);
        let resolvers = metered(Bucket::Resolvers, settings.parallel.resolvers);
        let pages = metered(Bucket::Pages, settings.parallel.pages);
        let gates =
            Gates::new(&settings.endpoint, settings.breaker, ChaCha8Rng::seed_from_u64(seeds.random()));
        Ok(Self {
            client,
            routes: Routes::new(&settings.endpoint),
            api,
            resolvers,
            pages,
            cdn: Lane {
                slots: Slots::new(settings.parallel.cdn),
                governor: Governor::new(Bucket::Cdn.name(), Meter::unmetered()),
            },
            gates,
            usage: SharedUsage::default(),
            quota: Arc::default(),
            seeds: Mutex::new(seeds),
            settings,
        })
    }

    pub(crate) fn settings(&self) -> &HubSettings {
        &self.settings
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(crate) fn usage(&self) -> &SharedUsage {
        &self.usage
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Requests that may be in flight at present.
    pub(crate) fn limits(&self) -> Parallel {
        let limit = |lane: &Lane| lane.slots.limit();
        Parallel {
            api: limit(&self.api),
            resolvers: limit(&self.resolvers),
            pages: limit(&self.pages),
            cdn: limit(&self.cdn),
        }
    }

    /// A fresh allowance of retries for one operation.
    pub(crate) fn budget(&self) -> Budget {
        let rng = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).random();
        Budget::new(self.settings.retry, ChaCha8Rng::seed_from_u64(rng))
    }

    /// Waits until the operation may try again after `error`; `Err` when it may not, with the
    /// error as the operation's last word.
    pub(crate) async fn again(&self, budget: &mut Budget, error: HubError) -> Result<(), HubError> {
        let Some(pause) = budget.next(&error) else { return Err(budget.sum_up(error)) };
        self.usage.retry(&error, pause);
        if let HubErrorKind::RateLimited { bucket, reset: None, .. } = error.kind() {
            self.lane(*bucket).governor.quiet(pause); // the others would be refused as well
        }
        tracing::debug!(pause_ms = pause.as_millis() as u64, "trying again after: {error}");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// One attempt. Any status is an `Ok`.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Answer<'_>, HubError> {
        let url = ask.url;
        if self.settings.offline {
            return Err(HubError::new(url, HubErrorKind::Offline));
        }
        let bucket = self.routes.bucket(url);
        let counted = u64::from(bucket != Bucket::Cdn);
        let bytes = ask.range.as_ref().map_or(0, |range| range.end.saturating_sub(range.start));
        let reserved = self.quota.reserve(counted, bytes);
        let mut reservation = reserved.map_err(|exceeded| HubError::new(url, exceeded.into()))?;
        let gate = if bucket == Bucket::Cdn { self.gates.cdn(url) } else { self.gates.hub() };
        let Admission { mut slot, permit, pass } = match self.admit(self.lane(bucket), &gate).await {
            Ok(admission) => admission,
            Err(Down { since }) => {
                let kind = HubErrorKind::HostDown { host: gate.host().to_owned(), since };
                return Err(HubError::new(url, kind));
            }
        };

        let has_body = ask.method != Method::HEAD;
        let mut request = self.client.request(ask.method, url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(range) = &ask.range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let token = self.settings.token.as_ref().filter(|_| self.routes.is_hub(url));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let asked = Asked { thing: ask.thing, with_token: token.is_some(), bucket };

        self.usage.request(bucket);
        reservation.sent();
        slot.sent();
        let Timeouts { connect, answer, .. } = self.settings.timeouts;
        let kind = match tokio::time::timeout(answer, request.send()).await {
            Ok(Ok(response)) => {
                let (status, limit) = (response.status(), self.limit_of(bucket, response.headers()));
                // These may come from a machine in front of the server.
                let decisive = status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error();
                permit.answered(limit.as_ref(), decisive);
                self.heard(pass, !status.is_server_error());
                let answer = Answer {
                    usage: &self.usage,
                    timeouts: self.settings.timeouts,
                    response,
                    url: url.clone(),
                    asked,
                    gate,
                    slot,
                    reservation,
                };
                let overloaded = match status {
                    StatusCode::TOO_MANY_REQUESTS => limit.is_none(), // otherwise it is the meter's business
                    StatusCode::REQUEST_TIMEOUT => true,
                    _ => status.is_server_error(),
                };
                if overloaded {
                    answer.not_borne();
                } else if !(has_body && status.is_success()) {
                    answer.slot.succeeded(); // else at the end of the body
                }
                return Ok(answer);
            }
            Ok(Err(error)) => {
                if error.is_connect() {
                    permit.unsent();
                }
                if error.is_timeout() {
                    HubErrorKind::Stalled { phase: Phase::Connect, limit: connect, received: 0 }
                } else {
                    HubErrorKind::Unreachable { source: Box::new(error.without_url()) }
                }
            }
            Err(_) => HubErrorKind::Stalled { phase: Phase::Answer, limit: answer, received: 0 },
        };
        self.heard(pass, false);
        not_borne(&self.usage, &slot);
        Err(HubError::new(url, kind).while_host_is_down(gate.is_shut()))
    }

    /// Waits until one request may be sent. What waits for the host holds nothing, so a CDN that is
    /// down does not take the slots of another.
    async fn admit(&self, lane: &Lane, gate: &Arc<Gate>) -> Result<Admission, Down> {
        loop {
            let (clear, waited) = gate.clear().await;
            self.usage.waited_for_host(waited);
            clear?;
            let slot = lane.slots.take().await;
            let (permit, waited) = lane.governor.admit().await;
            self.usage.waited(waited);
            match gate.enter() {
                Some(pass) => return Ok(Admission { slot, permit, pass }),
                None => permit.unsent(), // the host went down meanwhile
            }
        }
    }

    /// Whether the host, as a whole, answered.
    fn heard(&self, pass: Pass, answered: bool) {
        if answered {
            pass.succeeded();
        } else if pass.failed() {
            self.usage.breaker_opened();
        }
    }

    /// One attempt that follows redirects within the Hub, and stops before the first to a CDN.
    pub(crate) async fn walk(
        &self,
        method: Method,
        url: Url,
        thing: Missing,
    ) -> Result<Arrival<'_>, HubError> {
        let mut url = url;
        for _ in 0..=self.settings.limits.redirects {
            let answer = self.send(Ask { method: method.clone(), url: &url, range: None, thing }).await?;
            if !answer.is_redirect() {
                return Ok(Arrival::Hub(answer));
            }
            let hop = redirect::judge(&self.settings, &url, answer.headers().get(LOCATION));
            match hop.map_err(|kind| answer.error(kind))? {
                Hop::Cdn(to) => return Ok(Arrival::Cdn { redirect: answer, to }),
                Hop::Hub(to) => {
                    answer.discard().await;
                    url = to;
                }
            }
        }
        Err(HubError::new(&url, HubErrorKind::TooManyRedirects { followed: self.settings.limits.redirects }))
    }

    /// What the Hub has stated as the limit of a bucket.
    pub(crate) fn rate(&self, bucket: Bucket) -> Option<RateOf> {
        self.lane(bucket).governor.stated()
    }

    fn lane(&self, bucket: Bucket) -> &Lane {
        match bucket {
            Bucket::Api => &self.api,
            Bucket::Resolvers => &self.resolvers,
            Bucket::Pages => &self.pages,
            Bucket::Cdn => &self.cdn,
        }
    }

    /// The limit an answer states for its own bucket. Limits of other buckets in the same answer
    /// go to their governors; a name we do not know can only mean our own.
    fn limit_of(&self, own: Bucket, headers: &HeaderMap) -> Option<RateLimit> {
        if own == Bucket::Cdn {
            return None; // the CDN is not the Hub and cannot speak for its limits
        }
        let mut found = None;
        for limit in RateLimit::all(headers) {
            let named =
                [Bucket::Api, Bucket::Resolvers, Bucket::Pages].into_iter().find(|b| b.name() == limit.name);
            match named {
                Some(other) if other != own => self.lane(other).governor.observe(&limit),
                _ => found = Some(limit),
            }
        }
        found
    }
}

/// A seed no other process has at this time.
fn process_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
}
