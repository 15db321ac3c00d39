//! File content on its way out: a chunk at a time, whatever the size of the file.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::counters::Tally;

const CHUNK: u64 = 256 * 1024;
/// An error in the body makes the HTTP layer drop what it has not written yet, headers included;
/// before a cut it gets this long to write.
const FLUSH: Duration = Duration::from_millis(20);

/// Part of an answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(Bytes),
    File(Range<u64>),
}

impl Piece {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }
}

struct Sender {
    file: File,
    /// In reverse, so that the next one is the last.
    pieces: Vec<Piece>,
    /// Bytes after which the connection breaks.
    cut: Option<u64>,
    tally: Arc<Tally>,
}

/// Sends `pieces` of `file`; with `cut`, breaks off after so many bytes.
pub(crate) fn stream(file: File, mut pieces: Vec<Piece>, cut: Option<u64>, tally: Arc<Tally>) -> Body {
    pieces.reverse();
    let sender = Sender { file, pieces, cut, tally };
    Body::from_stream(stream::try_unfold(sender, |mut sender| async move {
        Ok::<_, io::Error>(sender.next().await?.map(|chunk| (chunk, sender)))
    }))
}

impl Sender {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.cut == Some(0) {
            tokio::time::sleep(FLUSH).await;
            return Err(io::Error::other("cut on purpose"));
        }
        let room = self.cut.unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = match self.pieces.pop() {
            None => return Ok(None),
            Some(Piece::Text(text)) => text,
            Some(Piece::File(range)) => {
                let end = range.end.min(range.start.saturating_add(room));
                if end < range.end {
                    self.pieces.push(Piece::File(end..range.end));
                }
                self.read(range.start..end).await?
            }
        };
        if let Some(cut) = &mut self.cut {
            chunk.truncate(usize::try_from(*cut).unwrap_or(usize::MAX));
            *cut -= chunk.len() as u64;
        }
        self.tally.add(|counters| counters.bytes_sent += chunk.len() as u64);
        Ok(Some(chunk))
    }

    /// A file that has become shorter is an error, not a short body.
    async fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        self.file.seek(SeekFrom::Start(range.start)).await?;
        let mut chunk = BytesMut::zeroed(length);
        self.file.read_exact(&mut chunk).await?;
        Ok(chunk.freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;

    use super::*;

    async fn sent(pieces: Vec<Piece>, cut: Option<u64>) -> (Vec<u8>, bool, u64) {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let tally = Arc::new(Tally::default());
        let mut chunks = stream(File::from_std(file), pieces, cut, Arc::clone(&tally)).into_data_stream();
        let (mut all, mut whole) = (Vec::new(), true);
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => all.extend_from_slice(&chunk),
                Err(_) => whole = false,
            }
        }
        (all, whole, tally.read().bytes_sent)
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_and_are_counted() {
        let pieces = vec![Piece::Text("a".into()), Piece::File(251..600_000), Piece::File(0..2)];
        let (all, whole, counted) = sent(pieces, None).await;
        assert!(whole && all.len() == 1 + 599_749 + 2 && counted == all.len() as u64);
        assert_eq!((&all[..4], &all[599_750..]), (&[b'a', 0, 1, 2][..], &[0, 1][..]));
    }

    #[tokio::test]
    async fn a_cut_body_ends_in_an_error_after_exactly_so_many_bytes() {
        for cut in [0, 1, CHUNK, CHUNK + 1] {
            let (all, whole, _) = sent(vec![Piece::File(0..600_000)], Some(cut)).await;
            assert_eq!((all.len() as u64, whole), (cut, false));
        }
    }

    #[tokio::test]
    async fn a_file_shorter_than_announced_is_an_error() {
        assert!(!sent(vec![Piece::File(599_999..600_001)], None).await.1);
    }
}
