//! One answer: its headers are read, its body is not.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName},
};
use url::Url;

use super::{
    allowance::Reservation,
    error::HubError,
    error_kind::{HubErrorKind, Phase, Refusal},
    gate::Gate,
    settings::Timeouts,
    slots::Slot,
    status::{self, Asked},
    usage::SharedUsage,
};
use crate::formats::text::printable;

/// Bodies of redirects up to this size are read, so that the connection can be used again.
const SMALL_TALK: u64 = 8 * 1024;

/// Response headers, and a body still to be read. Holds its slot until dropped.
#[derive(Debug)]
pub(crate) struct Answer<'h> {
    pub(super) usage: &'h SharedUsage,
    pub(super) timeouts: Timeouts,
    pub(super) response: reqwest::Response,
    pub(super) url: Url,
    pub(super) asked: Asked,
    pub(super) gate: Arc<Gate>,
    pub(super) slot: Slot,
    pub(super) reservation: Reservation,
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header as text, if it is ASCII.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        status::header(self.headers(), name)
    }

    /// The URL that was asked, after redirects.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn is_redirect(&self) -> bool {
        matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// `Content-Length`, which is a claim.
    pub(crate) fn stated_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// An error about this answer.
    pub(crate) fn error(&self, kind: HubErrorKind) -> HubError {
        let (message, request_id) = status::words(self.headers());
        HubError::new(&self.url, kind).heard(message, request_id)
    }

    /// The error this answer is, by its status.
    pub(crate) fn failure(&self) -> HubError {
        let error = self.error(status::meaning(self.status(), self.headers(), self.asked));
        error.while_host_is_down(self.gate.is_shut())
    }

    /// A redirect that must not be followed from here.
    pub(crate) fn leaves_origin(&self, to: &Url) -> HubError {
        let to = to.host_str().unwrap_or_default().to_owned();
        self.error(HubErrorKind::ForeignRedirect { to, why: Refusal::LeavesOrigin })
    }

    /// The whole body, at most `cap` bytes, whatever the headers claim.
    pub(crate) async fn body(mut self, cap: u64) -> Result<Bytes, HubError> {
        let stated = self.stated_length();
        if stated.is_some_and(|stated| stated > cap) {
            return Err(self.error(HubErrorKind::TooLarge { cap, stated }));
        }
        let mut body = BytesMut::new();
        self.fill(&mut body, cap).await?;
        Ok(body.freeze())
    }

    /// Appends the body to `sink` until it ends. What arrived before a failure stays in `sink`,
    /// which never grows over `most` bytes.
    pub(crate) async fn fill(&mut self, sink: &mut BytesMut, most: u64) -> Result<(), HubError> {
        if let Some(coding) = self.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            let detail = format!("{:?} although none was asked for", printable(coding.as_bytes()));
            return Err(self.error(HubErrorKind::Malformed { part: "Content-Encoding header", detail }));
        }
        if let Some(stated) = self.stated_length() {
            self.reservation.announced(stated).map_err(|exceeded| self.error(exceeded.into()))?;
        }
        let Timeouts { progress, progress_bytes, .. } = self.timeouts;
        let (mut received, mut in_period) = (0, 0);
        let mut period_ends = Instant::now() + progress;
        loop {
            let chunk = match tokio::time::timeout_at(period_ends.into(), self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => {
                    if self.status().is_success() {
                        self.slot.succeeded();
                    }
                    return Ok(());
                }
                Ok(Err(error)) => {
                    self.not_borne();
                    let (expected, source) =
                        (self.stated_length(), Some(Box::new(error.without_url()).into()));
                    return Err(self.error(HubErrorKind::Truncated { received, expected, source }));
                }
                Err(_) => {
                    self.not_borne();
                    let kind = HubErrorKind::Stalled { phase: Phase::Body, limit: progress, received };
                    return Err(self.error(kind));
                }
            };
            self.usage.received(chunk.len());
            self.reservation.came(chunk.len() as u64).map_err(|exceeded| self.error(exceeded.into()))?;
            received += chunk.len() as u64;
            in_period += chunk.len() as u64;
            if in_period >= progress_bytes {
                (in_period, period_ends) = (0, Instant::now() + progress);
            }
            if (sink.len() + chunk.len()) as u64 > most {
                return Err(self.error(HubErrorKind::TooLarge { cap: most, stated: self.stated_length() }));
            }
            sink.extend_from_slice(&chunk);
        }
    }

    /// Reads a short body away, so that an HTTP/1 connection can be used again.
    pub(crate) async fn discard(self) {
        if self.stated_length().is_some_and(|length| length <= SMALL_TALK) {
            // Nobody wants this body; if it breaks, the next request opens a new connection.
            drop(self.body(SMALL_TALK).await);
        }
    }

    /// The request was too much for the host.
    pub(crate) fn not_borne(&self) {
        not_borne(self.usage, &self.slot);
    }
}

/// A request was too much for the host.
pub(super) fn not_borne(usage: &SharedUsage, slot: &Slot) {
    if slot.failed() {
        usage.limit_decreased();
    }
}
