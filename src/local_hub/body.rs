//! File content on its way out: a chunk at a time, whatever the size of the file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;

use super::blocking::blocking;
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

/// Opens a file and sends `pieces` of it; with `cut`, breaks off after so many bytes. `None` if the file's length is
/// not `size`.
///
/// What may wait for the disk is done on a thread for such work. One visit there opens the file and reads the first
/// chunk: most answers are a range of some kilobytes, and cost more in visits than in anything else.
pub(crate) async fn open(
    path: &Path,
    size: u64,
    mut pieces: Vec<Piece>,
    cut: Option<u64>,
    tally: Arc<Tally>,
) -> io::Result<Option<Body>> {
    let path = path.to_owned();
    pieces.reverse();
    let opened = blocking(move || -> io::Result<_> {
        let file = File::open(path)?;
        if file.metadata()?.len() != size {
            return Ok(None);
        }
        let mut sender = Sender { file, pieces, cut, tally };
        let first = if sender.is_cut() { None } else { sender.next()? };
        Ok(Some((first, sender)))
    });
    Ok(opened.await?.map(|opened| {
        Body::from_stream(stream::try_unfold(opened, |(ahead, sender)| async move {
            let (chunk, sender) = match ahead {
                Some(chunk) => (Some(chunk), sender),
                None => sender.advance().await?,
            };
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, (None, sender))))
        }))
    }))
}

struct Sender {
    file: File,
    /// In reverse, so that the next one is the last.
    pieces: Vec<Piece>,
    cut: Option<u64>,
    tally: Arc<Tally>,
}

impl Sender {
    fn is_cut(&self) -> bool {
        self.cut == Some(0)
    }

    async fn advance(mut self) -> io::Result<(Option<Bytes>, Self)> {
        if self.is_cut() {
            tokio::time::sleep(FLUSH).await;
            return Err(io::Error::other("cut on purpose"));
        }
        if self.pieces.is_empty() {
            return Ok((None, self));
        }
        blocking(move || Ok((self.next()?, self))).await
    }

    /// The next chunk, `None` at the end.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let room = self.cut.unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = match self.pieces.pop() {
            None => return Ok(None),
            Some(Piece::Text(text)) => text,
            Some(Piece::File(range)) => {
                let end = range.end.min(range.start.saturating_add(room));
                if end < range.end {
                    self.pieces.push(Piece::File(end..range.end));
                }
                self.read(range.start..end)?
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
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut chunk = vec![0; length];
        self.file.read_exact_at(&mut chunk, range.start)?;
        Ok(chunk.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;

    use super::*;

    async fn opened(
        size: u64,
        pieces: Vec<Piece>,
        cut: Option<u64>,
    ) -> (io::Result<Option<Body>>, Arc<Tally>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let tally = Arc::new(Tally::default());
        (open(file.path(), size, pieces, cut, Arc::clone(&tally)).await, tally)
    }

    async fn sent(pieces: Vec<Piece>, cut: Option<u64>) -> (Vec<u8>, bool, u64) {
        let (body, tally) = opened(600_000, pieces, cut).await;
        let mut chunks = body.unwrap().unwrap().into_data_stream();
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
    async fn nothing_to_send_is_an_empty_body() {
        assert_eq!(sent(Vec::new(), None).await, (Vec::new(), true, 0));
    }

    #[tokio::test]
    async fn a_file_of_another_length_is_not_sent() {
        assert!(opened(599_999, vec![Piece::File(0..1)], None).await.0.unwrap().is_none());
        let beyond = vec![Piece::File(0..CHUNK), Piece::File(599_999..600_001)];
        assert!(!sent(beyond, None).await.1, "it has become shorter since");
    }
}
