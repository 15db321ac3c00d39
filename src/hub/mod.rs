//! Client side of the Hub protocol: everything that speaks HTTP to a Hugging Face Hub.
//!
//! ```text
//!   list ─┐                        ┌─ rate ── meter ── governor    how fast
//!         │                        ├─ slots                        how many at once
//!   info ─┤                        ├─ breaker ── gate              whether at all
//!         │                        ├─ retry                        how often
//!   open ─┼── http (sends) ────────┼─ redirect                     how far
//!  small ─┤                        ├─ status ── error              what it meant
//!  range ─┘                        ├─ usage                        what it cost
//!                                  └─ allowance                    what it may cost
//! ```
//!
//! | operation | request | counted by the Hub |
//! |---|---|---|
//! | [`Hub::list`] | `GET /api/models?...` | one per thousand models |
//! | [`Hub::info`] | `GET /api/models/{id}` | one |
//! | [`Hub::open`] | `HEAD /{id}/resolve/{rev}/{path}` | one |
//! | [`Hub::read_range`] | `GET` on the signed CDN URL | none |
//! | [`Hub::read_small`] | `GET /api/resolve-cache/...` | one |
//!
//! What holds everywhere:
//! * the token goes to the endpoint's own origin and nowhere else, and is never shown;
//! * signed URLs are never shown;
//! * nothing is read without a bound, and no length is believed before the bytes have arrived;
//! * the limits the Hub states are obeyed before they are reached;
//! * an answer is either what was asked for, or an error that says in which way it was not.

mod allowance;
mod answer;
mod breaker;
mod capability;
mod client;
mod entry;
mod environment;
mod error;
mod error_kind;
mod gate;
mod governor;
mod http;
mod id;
mod info;
mod list_query;
mod listing;
mod meter;
mod range;
mod rate;
mod reach;
mod redirect;
mod resolve;
mod retry;
mod routes;
mod safe_url;
mod settings;
mod slots;
mod small;
mod status;
mod token;
mod usage;

pub use self::{
    allowance::{Allowance, Unit},
    breaker::BreakerSettings,
    capability::Capabilities,
    client::Hub,
    entry::{BaseModel, Gated, Parameters, Rejected, RepoEntry},
    error::HubError,
    error_kind::{Cause, HubErrorKind, Missing, Phase, Refusal},
    id::{InvalidId, MAX_PART_LEN, MAX_REVISION_LEN, RepoId, RepoRef, is_commit_sha},
    list_query::{Cursor, Direction, InvalidCursor, ListQuery, PAGE_SIZE, SWEEP_FIELDS, Sort},
    listing::Page,
    rate::{Bucket, RateOf},
    resolve::RemoteFile,
    retry::RetrySettings,
    safe_url::SafeUrl,
    settings::{
        HubSettings, PUBLIC_CDN_HOSTS, PUBLIC_ENDPOINT, Parallel, ResponseLimits, SettingsError, Timeouts,
    },
    token::{InvalidToken, Token},
    usage::{Requests, Retries, Usage},
};
