//! The body of a commit: one JSON object a line, read a line at a time.
//!
//! A line may hold a whole file in base64. It is kept once, decoded to disk piece by piece, and
//! bounded with the body.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use axum::body::{Body, BodyDataStream};
use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::local_hub::catalogue::{git_oid, goes_to_lfs};
use crate::local_hub::refusal::Refusal;
use crate::local_hub::text::is_hex;
use crate::local_hub::uploads::{Operation, Store, Stored, check_path};

/// Longest summary and description of a commit together.
const MAX_WORDS: usize = 64 << 10;

/// The lines of a body that is not longer than a limit.
pub(super) struct Lines {
    chunks: BodyDataStream,
    buffer: BytesMut,
    /// How much of the buffer was searched for a line's end.
    searched: usize,
    left: u64,
    ended: bool,
}

impl Lines {
    pub(super) fn of(body: Body, most: u64) -> Self {
        let (chunks, buffer) = (body.into_data_stream(), BytesMut::new());
        Self { chunks, buffer, searched: 0, left: most, ended: false }
    }

    /// The next line that is not empty, without its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            let end = fresh.iter().position(|byte| *byte == b'\n').map(|at| self.searched + at);
            let line = match end {
                Some(end) => {
                    let line = self.buffer.split_to(end + 1);
                    self.searched = 0;
                    line
                }
                None if self.ended => self.buffer.split(),
                None => {
                    self.searched = self.buffer.len();
                    self.more().await?;
                    continue;
                }
            };
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line.freeze()));
            }
            if end.is_none() {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> Result<(), Refusal> {
        match self.chunks.next().await {
            None => self.ended = true,
            Some(Err(_)) => return Err(Refusal::BadRequest("The body broke off".to_owned())),
            Some(Ok(chunk)) => {
                self.left = self.left.checked_sub(chunk.len() as u64).ok_or(Refusal::TooLarge)?;
                self.buffer.extend_from_slice(&chunk);
            }
        }
        Ok(())
    }
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommitLine {
    Header(Header),
    /// With the bytes that came in the line itself, if it brought a file.
    Operation(Operation, Option<u64>),
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub(super) summary: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) parent_commit: Option<String>,
}

#[derive(Deserialize)]
struct Keyed<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct Inline<'a> {
    path: String,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    encoding: Option<String>,
}

#[derive(Deserialize)]
struct Pointed {
    path: String,
    oid: String,
    #[serde(default)]
    algo: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Deleted {
    path: String,
}

/// Reads a line, and stores the file that it may hold. Blocks on the disk.
pub(super) fn read(line: &[u8], store: &Store) -> Result<CommitLine, Refusal> {
    let Keyed { key, value } = serde_json::from_slice(line).map_err(|error| malformed(&error))?;
    let value = value.get();
    let operation = match key.as_ref() {
        "header" => {
            let header: Header = serde_json::from_str(value).map_err(|error| malformed(&error))?;
            let words = header.summary.len() + header.description.as_ref().map_or(0, String::len);
            if header.summary.trim().is_empty() || words > MAX_WORDS {
                return Err(Refusal::BadRequest("A commit needs a summary of at most 64 KiB".to_owned()));
            }
            return Ok(CommitLine::Header(header));
        }
        "file" => {
            let inline: Inline<'_> = serde_json::from_str(value).map_err(|error| malformed(&error))?;
            let path = checked(inline.path.clone())?;
            let stored = keep(&inline, store)?;
            let size = stored.size;
            return Ok(CommitLine::Operation(Operation::Put { path, stored }, Some(size)));
        }
        "lfsFile" => pointed(serde_json::from_str(value).map_err(|error| malformed(&error))?, store)?,
        "deletedFile" | "deletedEntry" => Operation::DeleteFile(deleted(value)?),
        "deletedFolder" => Operation::DeleteFolder(deleted(value)?),
        other => return Err(Refusal::BadRequest(format!("Unknown key in a commit: {other:.40}"))),
    };
    Ok(CommitLine::Operation(operation, None))
}

fn malformed(error: &serde_json::Error) -> Refusal {
    Refusal::BadRequest(format!("Invalid line in a commit: {error}"))
}

fn checked(path: String) -> Result<String, Refusal> {
    check_path(&path).map_err(|reason| Refusal::BadRequest(format!("The path {path:.100?} {reason}")))?;
    Ok(path)
}

fn deleted(value: &str) -> Result<String, Refusal> {
    let Deleted { path } = serde_json::from_str(value).map_err(|error| malformed(&error))?;
    checked(path.trim_end_matches('/').to_owned())
}

/// A file in the line itself. What LFS would keep is kept so, however it came.
fn keep(inline: &Inline<'_>, store: &Store) -> Result<Stored, Refusal> {
    let mut incoming = store.objects.begin()?;
    let content = inline.content.as_bytes();
    match inline.encoding.as_deref() {
        None | Some("base64") => {
            let mut decoder = DecoderReader::new(content, &STANDARD);
            let mut piece = vec![0; 64 << 10];
            loop {
                let read = decoder.read(&mut piece).map_err(|error| undecoded(&inline.path, &error))?;
                if read == 0 {
                    break;
                }
                incoming.write_all(piece.get(..read).unwrap_or_default())?;
            }
        }
        Some("utf-8") => incoming.write_all(content)?,
        Some(other) => return Err(Refusal::BadRequest(format!("Unknown encoding: {other:.40}"))),
    }
    let size = incoming.size();
    let sha256 = store.objects.keep(incoming)?;
    let under_lfs = size > 0 && goes_to_lfs(&inline.path, size);
    let git = if under_lfs { None } else { Some(git_oid(&store.objects.path(&sha256), size)?) };
    Ok(Stored { size, sha256, git })
}

fn undecoded(path: &str, error: &io::Error) -> Refusal {
    Refusal::BadRequest(format!("The content of {path:.100} is no base64: {error}"))
}

/// A file that was sent before the commit.
fn pointed(pointed: Pointed, store: &Store) -> Result<Operation, Refusal> {
    let Pointed { path, oid, algo, size } = pointed;
    let path = checked(path)?;
    if !is_hex(&oid, 64) || algo.is_some_and(|algo| algo != "sha256") {
        return Err(Refusal::BadRequest(format!("{path:.100} has no SHA-256")));
    }
    let here = store.objects.size(&oid).filter(|here| size.is_none_or(|size| size == *here));
    let size =
        here.ok_or_else(|| Refusal::BadRequest(format!("The content of {path:.100} was not uploaded")))?;
    Ok(Operation::Put { path, stored: Stored { size, sha256: oid, git: None } })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tempfile::TempDir;

    use super::*;

    async fn split(chunks: &[&'static str], most: u64) -> Result<Vec<String>, Refusal> {
        let chunks: Vec<io::Result<Bytes>> = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
        let mut lines = Lines::of(Body::from_stream(stream::iter(chunks)), most);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await? {
            found.push(String::from_utf8(line.to_vec()).unwrap().trim().to_owned());
        }
        Ok(found)
    }

    #[tokio::test]
    async fn lines_end_where_they_end_and_bodies_where_they_must() {
        for chunks in
            [&["a\nbc\n"][..], &["a", "\nb", "c"], &["\n", "a\n\n", "  \nbc\n", "\n"], &["a\r\nb", "c\r\n"]]
        {
            assert_eq!(split(chunks, 100).await.unwrap(), ["a", "bc"], "{chunks:?}");
        }
        assert!(split(&[], 0).await.unwrap().is_empty());
        assert_eq!(split(&["abc", "de"], 5).await.unwrap(), ["abcde"]);
        assert!(matches!(split(&["abc", "def"], 5).await, Err(Refusal::TooLarge)));
    }

    fn store() -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    fn refused(line: &str, store: &Store) -> bool {
        matches!(read(line.as_bytes(), store), Err(Refusal::BadRequest(_)))
    }

    #[test]
    fn every_kind_of_line() {
        let (_dir, store) = store();
        let line = |text: &str| read(text.as_bytes(), &store).unwrap();
        let header =
            line(r#"{"key":"header","value":{"summary":"s","description":"d","parentCommit":"abc","x":1}}"#);
        let words = |text: &str| Some(text.to_owned());
        let expected = Header { summary: "s".into(), description: words("d"), parent_commit: words("abc") };
        assert_eq!(header, CommitLine::Header(expected));

        let text =
            line(r#"{"key":"file","value":{"content":"aGVsbG8K","path":"a.txt","encoding":"base64"}}"#);
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = Some("ce013625030ba8dba906f756967f9e9ca394464a".to_owned());
        let stored = Stored { size: 6, sha256: sha256.to_owned(), git };
        let put = Operation::Put { path: "a.txt".into(), stored: stored.clone() };
        assert_eq!(text, CommitLine::Operation(put, Some(6)));

        let under_lfs = Stored { git: None, ..stored };
        let put = |path: &str| Operation::Put { path: path.into(), stored: under_lfs.clone() };
        let inline =
            line(r#"{"key":"file","value":{"content":"hello\n","path":"d/a.parquet","encoding":"utf-8"}}"#);
        assert_eq!(
            inline,
            CommitLine::Operation(put("d/a.parquet"), Some(6)),
            "LFS by its name, however it came"
        );
        let sent = line(&format!(
            r#"{{"key":"lfsFile","value":{{"path":"b.txt","algo":"sha256","oid":"{sha256}","size":6}}}}"#
        ));
        assert_eq!(sent, CommitLine::Operation(put("b.txt"), None));

        let folder = line(r#"{"key":"deletedFolder","value":{"path":"d/"}}"#);
        assert_eq!(folder, CommitLine::Operation(Operation::DeleteFolder("d".into()), None));
        let file = line(r#"{"key":"deletedFile","value":{"path":"d/x"}}"#);
        assert_eq!(file, CommitLine::Operation(Operation::DeleteFile("d/x".into()), None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (_dir, store) = store();
        let absent = "0".repeat(64);
        for line in [
            "{".to_owned(),
            "[]".to_owned(),
            r#"{"key":"header","value":{"summary":" "}}"#.to_owned(),
            format!(r#"{{"key":"header","value":{{"summary":"{}"}}}}"#, "s".repeat(MAX_WORDS + 1)),
            r#"{"key":"symlink","value":{"path":"a"}}"#.to_owned(),
            r#"{"key":"file","value":{"content":"a","path":"a"}}"#.to_owned(),
            r#"{"key":"file","value":{"content":"aGVs bG8K","path":"a"}}"#.to_owned(),
            r#"{"key":"file","value":{"content":"aGVsbG8K","path":"../a"}}"#.to_owned(),
            r#"{"key":"file","value":{"content":"aGVsbG8K","path":"a","encoding":"gzip"}}"#.to_owned(),
            format!(r#"{{"key":"lfsFile","value":{{"path":"a","oid":"{absent}","size":1}}}}"#),
            r#"{"key":"lfsFile","value":{"path":"a","oid":"../../x","size":1}}"#.to_owned(),
            r#"{"key":"deletedFile","value":{"path":""}}"#.to_owned(),
        ] {
            assert!(refused(&line, &store), "{line:.80}");
        }
    }
}
