//! Parts of files, each verified before a byte of it is kept.
//!
//! An answer counts only if it is a 206 whose `Content-Range` is exactly what was asked, of a
//! file of exactly the size the Hub stated, with the `ETag` of all ranges before; so two contents are
//! never mixed. A body that breaks off is continued from its last byte. A whole file sent instead of
//! a part (200) is not read at all.
//!
//! A wrong answer may be one machine's fault, so it is asked for again: as often as the budget allows
//! where ranges were served before, once where they never were. Another `ETag` has the file resolved
//! again, once, and the range is then read from its start.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method,
    header::{CONTENT_RANGE, ETAG},
};

use super::{
    answer::Answer,
    client::Hub,
    error::HubError,
    error_kind::{HubErrorKind, Missing},
    http::Ask,
    resolve::{Place, RemoteFile},
};
use crate::formats::text::printable;

/// What is reserved at first; a buffer grows only with bytes that have arrived.
const FIRST_RESERVE: u64 = 1 << 20;

/// `Content-Range: bytes first-last/total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    last: u64,
    total: u64,
}

impl Hub {
    /// Reads bytes `range` (end excluded) of a file. An empty range costs nothing.
    ///
    /// # Errors
    /// [`HubErrorKind::OutOfFile`] and [`HubErrorKind::TooLarge`] before anything is sent;
    /// [`HubErrorKind::RangeIgnored`], [`HubErrorKind::WrongRange`], [`HubErrorKind::Changed`]
    /// when the server does not deliver what was asked, several times over; [`HubErrorKind::Expired`] when the signed
    /// URL and a fresh one are refused; and those of the network. Of a failed range nothing is
    /// returned.
    pub async fn read_range(&self, file: &RemoteFile, range: Range<u64>) -> Result<Bytes, HubError> {
        let length = match file.check(&range) {
            Ok(0) => return Ok(Bytes::new()),
            Ok(length) if length > self.settings().limits.range => {
                let kind = HubErrorKind::TooLarge { cap: self.settings().limits.range, stated: Some(length) };
                return Err(self.about(file, kind)?);
            }
            Ok(length) => length,
            Err(kind) => return Err(self.about(file, kind)?),
        };
        let mut budget = self.http.budget();
        let mut body = BytesMut::with_capacity(length.min(FIRST_RESERVE) as usize);
        let (mut renewed, mut changed, mut ignored) = (false, false, false);
        let mut place = self.place(file).await?;
        loop {
            let rest = range.start + body.len() as u64..range.end;
            match self.read_once(file, &place, &rest, &mut body, length).await {
                Ok(()) => return Ok(body.freeze()),
                Err(Failure::Refused(error)) => {
                    // The first refusal is a URL that has expired; a fresh one that is refused is a failure.
                    if renewed {
                        let expired = HubError::new(error.url().clone(), HubErrorKind::Expired);
                        self.http.again(&mut budget, expired).await?;
                    }
                    renewed = true;
                    place = self.renew(file, &place).await?;
                }
                Err(Failure::Other { error, .. })
                    if matches!(error.kind(), HubErrorKind::Changed { .. }) && !changed =>
                {
                    tracing::debug!("resolving again after: {error}");
                    changed = true;
                    body.clear();
                    place = self.renew(file, &place).await?;
                }
                Err(Failure::Other { error, .. })
                    if matches!(
                        error.kind(),
                        HubErrorKind::RangeIgnored { .. } | HubErrorKind::WrongRange { .. }
                    ) && self.capabilities().ranges != Some(true)
                        && ignored =>
                {
                    // Not one range was ever served here, and twice none: a third time would not change that.
                    return Err(budget.sum_up(error));
                }
                Err(Failure::Other { error, resumable }) => {
                    ignored |= matches!(
                        error.kind(),
                        HubErrorKind::RangeIgnored { .. } | HubErrorKind::WrongRange { .. }
                    );
                    if !resumable {
                        body.clear();
                    }
                    self.http.again(&mut budget, error).await?;
                    place = self.place(file).await?; // the pause may have outlived the URL
                }
            }
        }
    }

    /// One ranged request. `length` is that of the whole range, `rest` what is still missing.
    async fn read_once(
        &self,
        file: &RemoteFile,
        place: &Place,
        rest: &Range<u64>,
        body: &mut BytesMut,
        length: u64,
    ) -> Result<(), Failure> {
        // A failure before the body leaves what an earlier attempt has read; that was resumable.
        let before_body = |error| Failure::Other { error, resumable: true };
        let ask =
            Ask { method: Method::GET, url: &place.url, range: Some(rest.clone()), thing: Missing::File };
        let mut answer = self.http.send(ask).await.map_err(before_body)?;
        match answer.status().as_u16() {
            206 => {}
            200 => {
                self.http.usage().range_ignored();
                let kind = HubErrorKind::RangeIgnored { asked: rest.clone(), stated: answer.stated_length() };
                return Err(before_body(answer.error(kind)));
            }
            401 | 403 if place.signed => return Err(Failure::Refused(answer.failure())),
            416 => return Err(before_body(answer.error(wrong_range(&answer, rest, file.size())))),
            _ => return Err(before_body(answer.failure())),
        }
        verify(&answer, rest, file).map_err(before_body)?;
        self.learn_ranges();
        let resumable = answer.header(&ETAG).is_some_and(is_strong);
        match answer.fill(body, length).await {
            Err(error) => Err(Failure::Other { error, resumable }),
            Ok(()) if (body.len() as u64) < length => {
                let (received, expected) = (body.len() as u64, Some(length));
                let error = answer.error(HubErrorKind::Truncated { received, expected, source: None });
                Err(Failure::Other { error, resumable })
            }
            Ok(()) => Ok(()),
        }
    }

    /// An error about a file for which nothing was sent.
    fn about(&self, file: &RemoteFile, kind: HubErrorKind) -> Result<HubError, HubError> {
        let url = self.http.routes().resolve(file.id(), file.revision(), file.path())?;
        Ok(HubError::new(&url, kind))
    }
}

/// Why one ranged request failed.
enum Failure {
    /// The signed URL is not accepted.
    Refused(HubError),
    /// Anything else. `resumable`: what has arrived is known to belong to the same file.
    Other { error: HubError, resumable: bool },
}

/// Whether a 206 is the answer to what was asked.
fn verify(answer: &Answer<'_>, asked: &Range<u64>, file: &RemoteFile) -> Result<(), HubError> {
    let expected = ContentRange { first: asked.start, last: asked.end - 1, total: file.size() };
    let got = answer.header(&CONTENT_RANGE).and_then(ContentRange::parse);
    if got != Some(expected) {
        return Err(answer.error(wrong_range(answer, asked, file.size())));
    }
    if let Some(etag) = answer.header(&ETAG) {
        let pinned = file.pinned_etag(etag);
        if pinned != etag {
            let (before, now) = (printable(pinned.as_bytes()), printable(etag.as_bytes()));
            return Err(answer.error(HubErrorKind::Changed { mark: "ETag", before, now }));
        }
    }
    Ok(())
}

fn wrong_range(answer: &Answer<'_>, asked: &Range<u64>, size: u64) -> HubErrorKind {
    let got = answer.headers().get(CONTENT_RANGE).map(|value| printable(value.as_bytes()));
    HubErrorKind::WrongRange { asked: asked.clone(), size, got }
}

/// Whether equal tags mean equal bytes.
fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

impl ContentRange {
    fn parse(header: &str) -> Option<Self> {
        let (unit, rest) = header.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        // `parse` alone would take a sign.
        let number =
            |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
        let parsed = Self { first: number(first)?, last: number(last)?, total: number(total)? };
        (unit.eq_ignore_ascii_case("bytes") && parsed.first <= parsed.last && parsed.last < parsed.total)
            .then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_ranges() {
        let expected = ContentRange { first: 0, last: 15, total: 100 };
        assert_eq!(ContentRange::parse("bytes 0-15/100"), Some(expected));
        assert_eq!(ContentRange::parse(" Bytes  0-15/100 "), Some(expected));
        for bad in [
            "",
            "bytes",
            "bytes 0-15",
            "bytes 0-15/*",
            "bytes */100",
            "0-15/100",
            "items 0-15/100",
            "bytes 15-0/100",
            "bytes 0-100/100",
            "bytes +0-15/100",
            "bytes -0-15/100",
            "bytes 0-15/100/1",
            "bytes 0-99999999999999999999/1",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(header in "\\PC{0,40}") {
            let _ = ContentRange::parse(&header);
        }

        #[test]
        fn round_trip(first in any::<u64>(), last in any::<u64>(), total in any::<u64>()) {
            let parsed = ContentRange::parse(&format!("bytes {first}-{last}/{total}"));
            let valid = first <= last && last < total;
            prop_assert_eq!(parsed, valid.then_some(ContentRange { first, last, total }));
        }
    }
}
