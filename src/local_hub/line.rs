//! The line between the server and its clients: how long an answer is on its way, and how much of it a second.
//!
//! A loopback answers at once and without end, so nothing that is measured on it says what a crawl costs over a
//! network. All connections of both origins share one line, as those of a machine do: every chunk of a body
//! reserves the time that it takes on the line behind what was reserved before, and is handed on when that time is
//! over. What clients send is not held back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, sleep_until};

use super::settings;

/// Most bytes that are reserved at once: answers under way take turns, so none waits long for another.
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Line {
    latency: Duration,
    /// `None` is no limit.
    bits_per_second: Option<f64>,
    /// When the last reservation ends.
    free: Mutex<Option<Instant>>,
}

impl Line {
    pub(crate) fn new(settings: &settings::LineSettings) -> Self {
        let bits_per_second = settings.mbit_per_second * 1e6;
        Self {
            latency: Duration::from_millis(settings.latency_ms),
            bits_per_second: (bits_per_second > 0.0).then_some(bits_per_second),
            free: Mutex::new(None),
        }
    }

    /// The time before every answer.
    pub(crate) async fn delay(&self) {
        // A timer rounds up to a millisecond, even from nothing.
        if !self.latency.is_zero() {
            sleep(self.latency).await;
        }
    }

    /// The answer with a body that comes no faster than the line allows.
    pub(crate) fn pace(self: &Arc<Self>, answer: Response) -> Response {
        let Some(bits_per_second) = self.bits_per_second else { return answer };
        answer.map(|body| {
            let sender = Sender {
                line: Arc::clone(self),
                bits_per_second,
                body: body.into_data_stream(),
                left: Bytes::new(),
            };
            Body::from_stream(stream::try_unfold(sender, |mut sender| async move {
                Ok::<_, axum::Error>(sender.next().await?.map(|chunk| (chunk, sender)))
            }))
        })
    }

    /// The end of the time in which so many bytes pass, behind all that was reserved before.
    fn reserve(&self, bytes: usize, bits_per_second: f64) -> Instant {
        // A chunk at the slowest speed that can be set takes minutes: far from any overflow.
        let taken = Duration::from_nanos((bytes as f64 * 8e9 / bits_per_second).ceil() as u64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let end = free.map_or(now, |free| free.max(now)) + taken;
        *free = Some(end);
        end
    }
}

/// A body on its way.
struct Sender {
    line: Arc<Line>,
    bits_per_second: f64,
    body: BodyDataStream,
    /// What the body gave and the line has not yet taken.
    left: Bytes,
}

impl Sender {
    async fn next(&mut self) -> Result<Option<Bytes>, axum::Error> {
        while self.left.is_empty() {
            match self.body.next().await.transpose()? {
                Some(chunk) => self.left = chunk,
                None => return Ok(None),
            }
        }
        let chunk = self.left.split_to(self.left.len().min(CHUNK));
        sleep_until(self.line.reserve(chunk.len(), self.bits_per_second)).await;
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    fn line(mbit_per_second: f64) -> Arc<Line> {
        Arc::new(Line::new(&settings::LineSettings { latency_ms: 0, mbit_per_second }))
    }

    /// The sizes of the chunks in which a body of so many bytes arrives, after its content was checked.
    async fn arrive(line: &Arc<Line>, bytes: usize) -> Vec<usize> {
        let content: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let answer = line.pace(Response::new(Body::from(content.clone())));
        let mut chunks = answer.into_body().into_data_stream();
        let (mut sizes, mut all) = (Vec::new(), Vec::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.unwrap();
            sizes.push(chunk.len());
            all.extend_from_slice(&chunk);
        }
        assert!(all == content);
        sizes
    }

    #[tokio::test]
    async fn bodies_at_one_time_share_the_line() {
        let line = line(16.0);
        let before = Instant::now();
        let sizes = join_all((0..4).map(|_| arrive(&line, 100_000))).await;
        // 2,000,000 bytes a second.
        assert!(before.elapsed() >= Duration::from_millis(200), "{:?}", before.elapsed());
        assert!(sizes.iter().flatten().all(|size| *size <= CHUNK));
    }

    #[tokio::test]
    async fn a_line_that_was_idle_has_saved_nothing() {
        let line = line(8.0);
        arrive(&line, 1000).await;
        sleep(Duration::from_millis(60)).await;
        let before = Instant::now();
        arrive(&line, 50_000).await;
        assert!(before.elapsed() >= Duration::from_millis(50), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn without_a_limit_bodies_stay_as_they_are() {
        assert_eq!(arrive(&line(0.0), 300_000).await, [300_000]);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_still_does() {
        let broken = stream::iter([Ok(Bytes::from_static(b"abc")), Err(std::io::Error::other("cut"))]);
        let mut chunks =
            line(1000.0).pace(Response::new(Body::from_stream(broken))).into_body().into_data_stream();
        assert_eq!(chunks.next().await.unwrap().unwrap(), "abc");
        assert!(chunks.next().await.unwrap().is_err());
    }
}
